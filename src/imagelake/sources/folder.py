"""A folder of pictures, with everything below it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import pyarrow as pa

from imagelake import schema
from imagelake.errors import InputError
from imagelake.files import path_to_uri, uri_to_path
from imagelake.pixels.sniff import IMAGE_SUFFIXES, RAW_SUFFIXES, sniff

BATCH_ROWS = 32
BATCH_BYTES = 4 << 20
MAX_FILE_BYTES = 256 << 20
_HEAD_BYTES = 64


@dataclass(frozen=True)
class Folder:
    """The pictures in a folder and below it, or one single file.

    Hidden files and folders are skipped, and so are lakes. Links are followed, each folder once. A file counts as a
    picture by its suffix or, where the suffix says nothing, by its first bytes.

    Raises:
        InputError: `path` does not exist.
    """

    path: str

    def __post_init__(self) -> None:
        if not os.path.exists(self.path):  # noqa: PTH110  (a str path survives names that are not UTF-8)
            raise InputError(f"{self.path!r} does not exist. Give a folder of pictures or a picture.")

    @property
    def name(self) -> str:
        """The folder's URI."""
        return path_to_uri(self.path)

    def estimate(self) -> int:
        """How many files have a picture's suffix."""
        return sum(_suffix(path) in IMAGE_SUFFIXES | RAW_SUFFIXES for path in self._files())

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`."""
        yield from _read_all(self._files())

    def listing(self) -> Iterator[tuple[str, str]]:
        """Every file's URI, with a mark that changes when the file does."""
        for path in self._files():
            found = file_mark(path)
            if found is not None:
                yield path_to_uri(path), found

    def mark(self, uri: str) -> str | None:
        """The mark of one file as it is now; None where it is gone or is none that this source reads."""
        path = os.fspath(uri_to_path(uri))
        below = PurePath(os.path.relpath(path, self.path)).parts
        folders = (PurePath(self.path, *below[:count]) for count in range(len(below)))
        if any(part.startswith(".") for part in below) or any(os.path.lexists(f / "images.lance") for f in folders):
            return None  # hidden, or inside a lake
        return file_mark(path)

    def only(self, uris: Sequence[str]) -> Files:
        """A source of just these files."""
        return Files(self.name, tuple(uris))

    def _files(self) -> Iterator[str]:
        if os.path.isdir(self.path):  # noqa: PTH112
            yield from _walk(self.path)
        else:
            yield self.path


@dataclass(frozen=True)
class Files:
    """Some files by their URIs, under the name of the folder that they are in. One that is gone is left out."""

    name: str
    uris: tuple[str, ...]

    def estimate(self) -> int:
        """How many there are."""
        return len(self.uris)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`."""
        paths = (os.fspath(uri_to_path(uri)) for uri in self.uris)
        yield from _read_all(path for path in paths if os.path.lexists(path))


def file_mark(path: str) -> str | None:
    """What changes when a file does: its size, time of change and number. None where there is no such file."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return None
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"


def _read_all(paths: Iterable[str]) -> Iterator[pa.RecordBatch]:
    rows: list[_Row] = []
    held_bytes = 0
    for path in paths:
        row = _read(path)
        if row is None:
            continue
        rows.append(row)
        held_bytes += len(row.data or b"")
        if len(rows) == BATCH_ROWS or held_bytes >= BATCH_BYTES:
            yield _batch(rows)
            rows, held_bytes = [], 0
    if rows:
        yield _batch(rows)


@dataclass(frozen=True)
class _Row:
    uri: str
    data: bytes | None
    error: str | None = None


def _walk(root: str) -> Iterator[str]:
    """Every file below `root` in the order of names; a folder that links lead back to is entered once."""
    entered: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as found:
                entries = sorted((e for e in found if not e.name.startswith(".")), key=lambda e: os.fsencode(e.name))
        except OSError as error:
            if folder == root:
                raise InputError(f"The folder {folder!r} cannot be read: {error.strerror}.") from error
            yield folder  # read as a file it fails with the same reason, and so becomes a rejection
            continue
        if any(entry.name == "images.lance" for entry in entries):
            continue
        below = [entry.path for entry in entries if _is_folder(entry)]
        inside = set(below)
        yield from (entry.path for entry in entries if entry.path not in inside)
        waiting.extend(reversed(below))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether to enter it. What cannot be asked (a link to itself, a link into a closed folder) is read as a file."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122


def _read(path: str) -> _Row | None:
    """One file as a row, or None where it is no picture and does not claim to be one."""
    suffix = _suffix(path)
    claims = suffix in IMAGE_SUFFIXES or suffix in RAW_SUFFIXES
    uri = path_to_uri(path)
    try:
        status = os.stat(path)  # noqa: PTH116
        if stat.S_ISDIR(status.st_mode):
            os.listdir(path)  # noqa: PTH208  (raises the reason why the walk did not enter)
            return None
        if not stat.S_ISREG(status.st_mode):
            return _Row(uri, None, "not a regular file (a pipe, a socket or a device)") if claims else None
        if suffix in RAW_SUFFIXES:
            return _Row(uri, None, f"a camera raw file ({suffix}), which is not supported: export it as JPEG or TIFF")
        if status.st_size > MAX_FILE_BYTES:
            too_large = f"the file has {status.st_size:,} bytes; the limit is {MAX_FILE_BYTES:,}"
            return _Row(uri, None, too_large) if claims else None
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  (a Path costs as much as the reading)
            if not claims and sniff(file.read(_HEAD_BYTES)) is None:
                return None
            file.seek(0)
            return _Row(uri, file.readall())
    except OSError as error:
        claims = claims or os.path.isdir(path)  # noqa: PTH112
        return _Row(uri, None, f"cannot be read: {error.strerror or error}") if claims else None


def _batch(rows: list[_Row]) -> pa.RecordBatch:
    return pa.record_batch(
        [
            pa.array([row.uri for row in rows], pa.string()),
            pa.array([row.data for row in rows], pa.large_binary()),
            pa.array([row.error for row in rows], pa.string()),
            pa.nulls(len(rows), pa.string()),
        ],
        schema=schema.SOURCE,
    )
