"""The unix socket through which an Fn platform calls a function."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from imagelake.errors import InputError

_PREFIX = "unix:"
_LONGEST = 107  # bytes of the path of a socket
_PHONY = "phony"
_BACKLOG = 128
_MODE = 0o666  # the platform calls as another user


@contextlib.contextmanager
def fn_listener(address: str) -> Iterator[tuple[socket.socket, Callable[[], None]]]:
    """A socket that listens, and a function that shows it to the platform, to be called once it is served.

    The platform calls as soon as the path is there. So the socket is bound under another name beside it, opened to all,
    and only then linked to. Both names are gone at the end.

    Args:
        address: of `FN_LISTENER`, such as `unix:/tmp/iofs/lsnr.sock`.

    Raises:
        InputError: it is no such address, its folder is not there, or something else stands at the path.
    """
    path = _path(address)
    phony = path.with_name(_PHONY + path.name)
    for place in (path, phony):
        _clear(place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        try:
            listening.bind(str(phony))
            phony.chmod(_MODE)
            listening.listen(_BACKLOG)
        except OSError as error:
            raise InputError(
                f"Cannot listen at {address}: {error.strerror}. Give a path in a folder of yours."
            ) from error
        try:
            yield listening, lambda: path.symlink_to(phony.name)
        finally:
            for place in (path, phony):
                with contextlib.suppress(OSError):
                    place.unlink()


def _path(address: str) -> Path:
    path = Path(address.removeprefix(_PREFIX))
    if not address.startswith(_PREFIX) or not path.name:
        raise InputError(f"FN_LISTENER is {address!r}; it must be unix:/PATH, a socket that this function makes.")
    size = len(os.fsencode(path.with_name(_PHONY + path.name)))
    if size > _LONGEST:
        raise InputError(
            f"The path of FN_LISTENER has {size - len(_PHONY)} bytes; at most {_LONGEST - len(_PHONY)} can be, since "
            f"{_PHONY!r} goes before its last part."
        )
    return path


def _clear(place: Path) -> None:
    """Remove what a function before left; nothing else."""
    try:
        mode = place.lstat().st_mode
    except OSError:
        return
    if not (stat.S_ISLNK(mode) or stat.S_ISSOCK(mode)):
        raise InputError(f"{place} is there and is no socket. Give FN_LISTENER another path.")
    place.unlink()
