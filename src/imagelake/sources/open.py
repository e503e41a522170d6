"""From the words of a command line to a source.

Sources are found by entry points of the group `imagelake.sources`; ours come through the same door as those of other
packages. An entry point's name is a prefix, `stl10` for `stl10:FOLDER`, or the end of a file's name, `.zip`. Its value
is called with what comes after the prefix, or with the path, and gives a `Source`.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from imagelake.errors import InputError
from imagelake.sources.annotated import Coco
from imagelake.sources.columns import LakeSource
from imagelake.sources.folder import Folder
from imagelake.sources.glob import Glob
from imagelake.sources.many import Many
from imagelake.sources.source import Source
from imagelake.sources.url_list import read_url_list
from imagelake.sources.web import Web, WebOptions
from imagelake.sources.web_guard import Guard

GROUP = "imagelake.sources"
_PATTERN = frozenset("*?[")


def open_sources(whats: Sequence[str], options: Mapping[str, Any] | None = None) -> Source:
    """One source for all of some words; see `open_source`."""
    if not whats:
        raise InputError("Nothing to read was named. Give a folder, a picture, an archive, a list, or PREFIX:WHAT.")
    opened = tuple(open_source(what, options) for what in whats)
    return opened[0] if len(opened) == 1 else Many(opened)


def open_source(what: str, options: Mapping[str, Any] | None = None) -> Source:
    """The source that some words mean.

    A path that exists is a folder, a lake, a file of a known kind, or a picture. Otherwise a prefix counts, then a
    pattern such as `photos/**/*.jpg`.

    Args:
        what: the words.
        options: what else was given, by the names of the source's own arguments; None counts as not given.

    Raises:
        InputError: it means nothing here, or the source does not take an option.
    """
    given = {name: value for name, value in (options or {}).items() if value not in (None, False)}
    known = _entry_points()
    if os.path.lexists(what):
        if os.path.isdir(what):  # noqa: PTH112
            is_lake = os.path.isdir(os.path.join(what, "images.lance"))  # noqa: PTH112, PTH118
            return _made(LakeSource if is_lake else Folder, what, what, given)
        ends = [name for name in known if name.startswith(".") and what.lower().endswith(name)]
        factory = known[max(ends, key=len)].load() if ends else Folder
        return _made(factory, what, what, given)
    prefix, separator, rest = what.partition(":")
    if separator and prefix in known:
        return _made(known[prefix].load(), what, what if rest.startswith("//") else rest, given)
    if _PATTERN & set(what):
        return _made(Glob, what, what, given)
    prefixes = ", ".join(f"{name}:" for name in sorted(known) if not name.startswith("."))
    raise InputError(
        f"{_shown(what)!r} does not exist, and is no pattern. Give a folder, a picture, an archive, a table, or one of "
        + prefixes
    )


def _shown(what: str) -> str:
    """What was given, without the password of an address."""
    return re.sub(r"://([^/@:]*):.*@", r"://\1:***@", what)


def _entry_points() -> dict[str, metadata.EntryPoint]:
    """Every entry point by its name.

    Raises:
        InputError: two packages want the same name.
    """
    found: dict[str, metadata.EntryPoint] = {}
    for each in metadata.entry_points(group=GROUP):
        other = found.setdefault(each.name, each)
        if other.value != each.value:
            raise InputError(f"Two sources are called {each.name!r}: {other.value} and {each.value}. Uninstall one.")
    return found


def _made(factory: Any, what: str, argument: str, options: Mapping[str, Any]) -> Source:
    taken = inspect.signature(factory).parameters
    for name in options:
        if name not in taken:
            raise InputError(f"{_shown(what)!r} takes no --{name.replace('_', '-')}. Leave it out.")
    source: Source = factory(argument, **options)
    return source


def open_web(address: str, *, allow_private: bool = False) -> Web:
    """The picture at one address."""
    return Web([address], _web_options(allow_private=allow_private))


def open_list(path: str, column: str | None = None, *, allow_private: bool = False) -> Web:
    """The pictures at the addresses in a file.

    Raises:
        InputError: the file cannot be read, or it is not clear which column holds the addresses.
    """
    return Web(read_url_list(path, column), _web_options(allow_private=allow_private))


def _web_options(*, allow_private: bool) -> WebOptions:
    return WebOptions(guard=Guard(allow_private=allow_private))


def open_coco(files: str) -> Coco:
    """COCO's two places with a comma between them: `annotations.json,FOLDER`.

    Raises:
        InputError: there are not two.
    """
    annotations, comma, folder = files.rpartition(",")
    if not comma:
        raise InputError(f"'coco:{files}' names one place; give coco:ANNOTATIONS.json,FOLDER-OF-PICTURES.")
    return Coco(annotations, folder)
