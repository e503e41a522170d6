"""The bytes of an object out of a folder that stands for a bucket."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from imagelake.errors import ImagelakeError

_PIECE = 4 << 20
_MAY_PASS = {errno.EIO, errno.ESTALE, errno.ENFILE, errno.EMFILE, errno.ENOMEM, errno.ETIMEDOUT, errno.ENODEV}
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ObjectError(ImagelakeError):
    """An object could not be had.

    Attributes:
        again: whether another try may do better.
        lasting: whether only within seconds: there is no such object, or no right to read it.
    """

    def __init__(self, reason: str, *, again: bool, lasting: bool = False) -> None:
        super().__init__(reason)
        self.again = again
        self.lasting = lasting


def read_file(folder: Path, key: str, max_bytes: int) -> bytes:
    """A file below a folder, never one outside of it, whatever the key and the links in the folder say.

    Raises:
        ObjectError: it cannot be had.
    """
    if not key or "\0" in key or key.startswith("/") or any(part in {"", ".", ".."} for part in key.split("/")):
        raise ObjectError("its name has an empty part, `.` or `..`, which no file has", again=False)
    try:
        root = folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ObjectError("the folder that stands for its bucket is not there", again=True) from error
    try:
        path = (root / key).resolve(strict=True)
        if not path.is_relative_to(root):
            raise ObjectError("its name leads out of the folder", again=False)
        file = _open_below(root, path.relative_to(root).parts)
    except FileNotFoundError as error:
        raise ObjectError("there is no such object", again=True, lasting=True) from error
    except OSError as error:
        raise ObjectError(
            f"it cannot be read: {error.strerror}", again=True, lasting=error.errno not in _MAY_PASS
        ) from error
    except (UnicodeError, RuntimeError) as error:
        raise ObjectError("it cannot be read: no such name", again=True, lasting=True) from error
    try:
        return _read_regular(file, max_bytes)
    except OSError as error:
        raise ObjectError(f"it cannot be read: {error.strerror}", again=True) from error
    finally:
        os.close(file)


def _open_below(root: Path, parts: tuple[str, ...]) -> int:
    """Open a file, folder by folder and through no link: one may have been put there since the name was resolved."""
    file = os.open(root, _OPEN | os.O_DIRECTORY)
    for number, part in enumerate(parts, 1):
        above = file
        try:
            file = os.open(part, _OPEN | (os.O_DIRECTORY if number < len(parts) else 0), dir_fd=above)
        finally:
            os.close(above)
    return file


def _read_regular(file: int, max_bytes: int) -> bytes:
    about = os.fstat(file)
    if not stat.S_ISREG(about.st_mode):
        raise ObjectError("it is no file", again=False)
    pieces: list[bytes] = []
    size = about.st_size
    came = 0
    while size <= max_bytes and (piece := os.read(file, _PIECE)):
        pieces.append(piece)
        came += len(piece)
        size = max(size, came)
    if size > max_bytes:
        raise ObjectError(f"it has {size:,} bytes; the limit is {max_bytes:,}", again=False)
    return b"".join(pieces)
