"""Whatever matches a shell pattern: pictures, folders, archives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pyarrow as pa

from imagelake.errors import InputError
from imagelake.files import path_to_uri
from imagelake.sources.archive import Archive, is_archive
from imagelake.sources.folder import Folder
from imagelake.sources.many import Many
from imagelake.sources.rows import Row, claims, to_batches
from imagelake.sources.source import Source


@dataclass(frozen=True)
class Glob:
    """Every picture, folder and archive that a pattern such as `photos/**/*.jpg` matches, in the order of names.

    `*`, `?` and `[a-z]` match within a name, `**` any number of folders; as in a shell, hidden names match only a
    pattern with the dot, and `**` does not follow links. What lies in a folder that matches too comes once.

    Raises:
        InputError: nothing matches.
    """

    pattern: str

    def __post_init__(self) -> None:
        if next(self._matches(), None) is None:
            allowed = "`*`, `?` and `[a-z]` match within a name, `**` any number of folders"
            raise InputError(f"Nothing matches {self.pattern!r}. {allowed}; check it with `ls`.")

    @property
    def name(self) -> str:
        """The pattern as a URI."""
        return path_to_uri(self.pattern)

    def estimate(self) -> int | None:
        """How many pictures the matches have by their suffixes; None where one of them does not know."""
        return self._sources().estimate()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`."""
        yield from self._sources().batches()

    def _matches(self) -> Iterator[str]:
        """The matches in no order, perhaps some twice; the pattern itself where it is a name, as in a shell."""
        nothing = True
        for path in _find(self.pattern):
            nothing = False
            yield path
        if nothing and os.path.lexists(self.pattern):
            yield self.pattern

    def _sources(self) -> Many:
        sources: list[Source] = []
        folder: str | None = None  # what lies below it comes with it, but for archives
        for path in sorted(set(self._matches()), key=lambda path: os.fsencode(path).split(b"/")):
            is_folder = os.path.isdir(path)  # noqa: PTH112  (a str path survives names that are not UTF-8)
            if is_archive(path) and not is_folder:
                sources.append(_open(path))
            elif folder is None or not path.startswith(os.path.join(folder, "")):  # noqa: PTH118
                folder = path if is_folder else folder
                sources.append(_open(path))
        return Many(tuple(sources))


@dataclass(frozen=True)
class _Missing:
    """A match that leads nowhere: a link to nothing, a file that has gone since."""

    path: str
    reason: str

    @property
    def name(self) -> str:
        return path_to_uri(self.path)

    def estimate(self) -> int:
        return 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        if claims(self.path) or is_archive(self.path):
            yield from to_batches([Row(self.name, None, self.reason)])


def _open(path: str) -> Source:
    try:
        return Archive(path) if is_archive(path) and not os.path.isdir(path) else Folder(path)  # noqa: PTH112
    except InputError as error:
        return _Missing(path, str(error))


def _find(pattern: str) -> Iterator[str]:
    """Walk the parts of a pattern; a folder that may not be listed is a match, so that it becomes a rejection."""
    named = [part for part in pattern.split("/") if part]
    once = tuple(part for part, before in zip(named, ["", *named], strict=False) if (part, before) != ("**", "**"))
    waiting = [("/" if pattern.startswith("/") else "", once)]
    while waiting:
        folder, parts = waiting.pop()
        if not parts:
            if folder:
                yield folder
            continue
        first, rest = parts[0], parts[1:]
        if not set(first) & set("*?["):
            path = os.path.join(folder, first)  # noqa: PTH118
            if os.path.isdir(path) or (not rest and os.path.lexists(path)):  # noqa: PTH112
                waiting.append((path, rest))
            continue
        try:
            waiting.extend(_step(folder, first, rest))
        except PermissionError:
            yield folder or "."
        except OSError:
            continue


def _step(folder: str, first: str, rest: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Where the first part of a pattern leads from a folder, with the parts that are left."""
    if first == "**":
        yield folder, rest
    with os.scandir(folder or ".") as entries:
        for entry in entries:
            path = os.path.join(folder, entry.name)  # noqa: PTH118
            if entry.name.startswith(".") and not first.startswith("."):
                continue
            if first == "**":
                if _is_folder(entry, links=False):
                    yield path, ("**", *rest)
                elif not rest:
                    yield path, ()
            elif fnmatchcase(entry.name, first) and (not rest or _is_folder(entry, links=True)):
                yield path, rest


def _is_folder(entry: os.DirEntry[str], *, links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=links)
    except OSError:
        return False
