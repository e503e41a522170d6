"""Pictures that were answered for and are not in the tables yet: append-only files, synced before the answer.

A spool is a folder of segments. A segment is a row of records; a record is a head (mark, lengths, checksum), a JSON
text with `uri` and `metadata`, and the picture's bytes. A segment is removed when all of it is in the tables and synced
there; what a killed process left is read again at the next start. Reading twice does no harm: ids are content hashes.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from imagelake import schema
from imagelake.errors import InputError, LakeError
from imagelake.files import is_remote
from imagelake.lake.failures import our_errors
from imagelake.steps.step import Batches

_MARK = b"\x89ilspl1\n"
_HEAD = struct.Struct("<8sIQI")  # mark, bytes of text, bytes of data, CRC-32 of both lengths and both
_LENGTHS = struct.Struct("<IQ")
_SUFFIX = ".spool"
_DAMAGED = ".damaged"
_BATCH_BYTES = 8 << 20


@dataclass(frozen=True)
class Received:
    """A picture that came in: its URI, its bytes, and what is known besides as a JSON object."""

    uri: str
    data: bytes = field(repr=False)
    metadata: str | None


def spool_folder(root: str, given: str | os.PathLike[str] | None = None) -> Path:
    """Where the spool of the lake at `root` is: the folder that was given, else `incoming` in the lake's own.

    Raises:
        InputError: the lake is in a bucket, where nothing can be appended and synced, and no folder was given.
    """
    if given is not None:
        return Path(given).absolute()
    if is_remote(root):
        raise InputError(
            f"{root} is in a bucket, where a picture cannot be kept safe before it is committed. Give --spool a folder "
            "on this machine's disk, the same at each start."
        )
    return Path(root) / "incoming"


class Spool:
    """The folder of segments, held by one process at a time.

    A class because it holds a lock, which ends with the process, however that ends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with our_errors(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise LakeError(
                f"Another process receives pictures into {folder}. One at a time may; stop that one, or post to it."
            ) from error
        self._next = 1 + max((int(path.stem) for path in self.segments()), default=0)

    def segments(self) -> list[Path]:
        """The segments there are, the oldest first."""
        found = (path for path in self.folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal())
        return sorted(found, key=lambda path: int(path.stem))

    def segment(self) -> Segment:
        """A new segment."""
        made = Segment(self.folder / f"{self._next:012}{_SUFFIX}")
        self._next += 1
        return made

    def close(self) -> None:
        """Let others have the spool."""
        os.close(self._lock)


class Segment:
    """One file of records that grows at its end.

    A class because it holds an open file. Not for several threads at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0  # bytes that are synced; what follows is nobody's
        with our_errors(str(path)):
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
            sync_folder(path.parent)

    def append(self, pictures: Sequence[Received]) -> None:
        """Write pictures and sync them; after this they survive a kill and a power cut. All or none are in.

        Raises:
            LakeFullError: no space is left.
            LakeError: the disk failed. The segment must not be used any more; what was in it before is safe.
        """
        with our_errors(str(self.path)):
            try:
                for picture in pictures:
                    self._write(picture)
                sync_file(self._file)
            except OSError:
                os.ftruncate(self._file, self.size)
                raise
            self.size = os.lseek(self._file, 0, os.SEEK_END)

    def _write(self, picture: Received) -> None:
        text = json.dumps({"uri": picture.uri, "metadata": picture.metadata}).encode()
        parts = [_head(text, picture.data), text, picture.data]
        written = os.writev(self._file, parts)
        if written < sum(map(len, parts)):  # a disk that is nearly full takes a part and then says so
            rest = memoryview(b"".join(parts))[written:]
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def close(self) -> None:
        """Close the file and keep it."""
        os.close(self._file)

    def remove(self) -> None:
        """Close the file and remove it."""
        os.close(self._file)
        self.path.unlink()


def _head(text: bytes, data: bytes) -> bytes:
    return _HEAD.pack(_MARK, len(text), len(data), _checksum(text, data))


def _checksum(text: bytes, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(text, zlib.crc32(_LENGTHS.pack(len(text), len(data)))))


@dataclass
class Leftover:
    """The segments that another run left, as a source. `damaged` fills while they are read.

    Attributes:
        segments: the files, the oldest first.
        damaged: those in which something cannot be read although sound records follow it. The end of a file that is
            cut off is no damage: nobody was answered for it.
    """

    segments: Sequence[Path]
    damaged: list[Path] = field(default_factory=list)
    name: str = "receive"

    def estimate(self) -> int | None:
        """Nobody has counted."""
        return None

    def batches(self) -> Batches:
        """The pictures, in the order in which they came."""
        for path in self.segments:
            held: list[Received] = []
            held_bytes = 0
            for picture in self._read(path):
                held.append(picture)
                held_bytes += len(picture.data)
                if held_bytes >= _BATCH_BYTES:
                    yield to_batch(held)
                    held, held_bytes = [], 0
            if held:
                yield to_batch(held)

    def _read(self, path: Path) -> Iterator[Received]:
        if path.stat().st_size == 0:
            return
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            position, skipped = 0, False
            while (position := content.find(_MARK, start := position)) >= 0:
                skipped = skipped or position > start
                found = _record(content, position)
                if found is None:
                    position, skipped = position + 1, True
                    continue
                picture, position = found
                if skipped and path not in self.damaged:
                    self.damaged.append(path)
                yield picture


def _record(content: mmap.mmap, position: int) -> tuple[Received, int] | None:
    """The record at that place and where it ends; None where it is not whole."""
    if position + _HEAD.size > len(content):
        return None
    _, text_size, data_size, checksum = _HEAD.unpack_from(content, position)
    start = position + _HEAD.size
    middle, end = start + text_size, start + text_size + data_size
    if end > len(content):
        return None
    text, data = content[start:middle], content[middle:end]
    if _checksum(text, data) != checksum:
        return None
    known = json.loads(text)
    return Received(known["uri"], data, known["metadata"]), end


def to_batch(pictures: Sequence[Received]) -> pa.RecordBatch:
    """Pictures as rows of `schema.SOURCE`."""
    return pa.record_batch(
        [
            pa.array([picture.uri for picture in pictures], pa.string()),
            pa.array([picture.data for picture in pictures], pa.large_binary()),
            pa.nulls(len(pictures), pa.string()),
            pa.array([picture.metadata for picture in pictures], pa.string()),
        ],
        schema=schema.SOURCE,
    )


def set_aside(path: Path) -> Path:
    """Keep a damaged segment under a name that nobody reads again."""
    return path.rename(path.with_suffix(_DAMAGED))


def sync_file(file: int) -> None:
    """Wait until the disk has what was written to an open file."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: its fsync does not ask the disk to empty its own cache
        fcntl.fcntl(file, fcntl.F_FULLFSYNC)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(file)
    else:
        os.fsync(file)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
