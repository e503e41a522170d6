"""The pictures in a ZIP or tar archive, read where they are; a tar may be a WebDataset shard."""

from __future__ import annotations

import bz2
import copy
import gzip
import io
import itertools
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

import pyarrow as pa

from imagelake.errors import InputError
from imagelake.files import path_to_uri
from imagelake.sources.rows import SIDECARS, Row, Sample, claims, read_picture, reason, refusal, to_batches

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_SKIPPED_FOLDERS = frozenset({"__MACOSX", "images.lance"})  # a Mac's own notes; a lake
_HEADER_BYTES = 1 << 20  # what the headers of one member may take, long names and attributes included
_GLOBAL_NAMES = 100
_TAIL_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_LOCAL_HEADER_BYTES = 30  # of a ZIP's member, without its name
_LZMA_CHUNK_BYTES = 4096  # zipfile expands what it reads at once, up to 10,000 times
_XZ_MEMORY_BYTES = 256 << 20  # `xz -9` needs 65 MiB
_DIRECTORY_BYTES = 128 << 20  # of a ZIP, which is held whole: two million names take a gigabyte
_EXPANSION = 1000  # an archive becomes at most so many times larger, for deflate cannot do more
_FREE_BYTES = 1 << 30  # below this nobody counts
_UNREAD = "cannot be read: "
_BOMB = f"it expands to more than {_EXPANSION:,} times its size"

# What the readers of the standard library raise on damaged archives.
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError,
    ArithmeticError, LookupError, RuntimeError,
)  # fmt: skip


def is_archive(path: str) -> bool:
    """Whether a name has the suffix of an archive that `Archive` reads."""
    return path.lower().endswith(_SUFFIXES)


@dataclass(frozen=True)
class Archive:
    """The pictures in a `.zip`, `.tar`, `.tar.gz`, `.tar.bz2`, `.tar.xz` or `.tar.zst`, never unpacked to disk.

    What it is, its first bytes say. A member's URI is the archive's, `!/` and the member's name. Hidden members, links
    and archives inside are skipped; a member counts as a picture by its suffix or its first bytes. A stream that breaks
    off, or expands to a thousand times its size, ends with one row that has the archive's URI and the reason.

    In a tar, neighbors that share a name up to its first dot are one sample, as in WebDataset: the object in `.json`
    becomes metadata, the text in `.cls` a label and that in `.txt` the `caption`. A sample is held up to 64 MB
    of pictures: of a larger one, the first pictures miss the sidecars that come late.

    Raises:
        InputError: `path` does not exist or, when read, is no such archive.
    """

    path: str

    def __post_init__(self) -> None:
        if not os.path.exists(self.path):  # noqa: PTH110  (a str path survives names that are not UTF-8)
            raise InputError(f"{self.path!r} does not exist. Give an archive: {', '.join(_SUFFIXES)}.")

    @property
    def name(self) -> str:
        """The archive's URI."""
        return path_to_uri(self.path)

    def estimate(self) -> int | None:
        """How many members of a ZIP have a picture's suffix; None for a tar, which has no directory."""
        try:
            with self._open() as file:
                if not self._is_zip(file):
                    return None
                with _open_zip(file) as archive:
                    names = [info.filename for info in archive.infolist()]
                    return sum(claims(name) and not _is_skipped(name) for name in names)
        except (InputError, *_DAMAGE):
            return None  # reading it says why

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`."""
        with self._open() as file:
            members = _zip_rows if self._is_zip(file) else _tar_rows
            try:
                yield from to_batches(members(file, self.name))
            except _UnopenedError as error:
                raise InputError(
                    f"{self.path!r} cannot be opened as an archive: {error}. Allowed are {', '.join(_SUFFIXES)}; "
                    "make or download it again."
                ) from error

    def _open(self) -> IO[bytes]:
        try:
            if not stat.S_ISREG(os.stat(self.path).st_mode):  # noqa: PTH116
                raise InputError(f"{self.path!r} is no file. Give an archive: {', '.join(_SUFFIXES)}.")
            return open(self.path, "rb")  # noqa: PTH123
        except OSError as error:
            raise InputError(f"The archive {self.path!r} cannot be read: {error.strerror}.") from error

    def _is_zip(self, file: IO[bytes]) -> bool:
        head = file.read(2)
        file.seek(0)
        return head == b"PK" or self.path.lower().endswith(".zip")  # text before a ZIP may unpack it


class _UnopenedError(Exception):
    """Nothing in the archive can be read."""


def _member_uri(archive_uri: str, name: str) -> str:
    """The URI of a member; `..` and a leading slash stay as they are, for nothing is ever written."""
    parts = [part for part in name.split("/") if part != "."]
    quoted = [part if part in {"", ".."} else path_to_uri(f"/{part}").removeprefix("file:///") for part in parts]
    return f"{archive_uri}!/{'/'.join(quoted)}"


def _is_skipped(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith(".") and part not in {".", ".."} for part in parts)
    return hidden or name.endswith("/") or not _SKIPPED_FOLDERS.isdisjoint(parts)


def _zip_rows(file: IO[bytes], archive_uri: str) -> Iterator[Row]:
    try:
        archive = _open_zip(file)
    except _DAMAGE as error:
        raise _UnopenedError(reason(error)) from error
    with archive:
        overlapping = _overlapping(archive.infolist())
        allowed = max(_FREE_BYTES, _EXPANSION * file.seek(0, os.SEEK_END))
        for number, info in enumerate(archive.infolist()):
            name = _zip_name(info)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if _is_skipped(name) or kind not in {0, stat.S_IFREG}:
                continue
            if number in overlapping:
                overlap = f"{_UNREAD}it overlaps another member"
                row = Row(_member_uri(archive_uri, name), None, overlap) if claims(name) else None
            else:
                row = _zip_row(archive, info, name, archive_uri)
                if row is not None and (row.error or _UNREAD).startswith(_UNREAD):  # it was expanded
                    allowed -= info.file_size
            if row is not None:
                yield row
            if allowed < 0:
                yield Row(archive_uri, None, _BOMB)
                return


def _open_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """Read the directory of a ZIP.

    Raises:
        zipfile.BadZipFile: It is too large to be held; and whatever else `_DAMAGE` lists.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - 65_600))  # a comment follows its end, and a locator comes before where it is large
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    size = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\6\7":
        size = max(size if size < 0xFFFFFFFF else 0, int.from_bytes(tail[at - 36 : at - 28], "little"))
    if size > _DIRECTORY_BYTES:
        raise zipfile.BadZipFile(f"its directory has {size:,} bytes; the limit is {_DIRECTORY_BYTES:,}")
    return zipfile.ZipFile(file)


def _overlapping(members: list[zipfile.ZipInfo]) -> set[int]:
    """The numbers of those members whose bytes reach into the next one, so that one piece would expand many times."""
    order = sorted(range(len(members)), key=lambda number: members[number].header_offset)
    found = set()
    for number, following in itertools.pairwise(order):
        end = members[number].header_offset + _LOCAL_HEADER_BYTES + members[number].compress_size
        if end > members[following].header_offset:
            found.add(number)
    return found


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name, which without a word about UTF-8 is UTF-8 if it can be and else, as ZIP has it, code page 437."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _zip_row(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, archive_uri: str) -> Row | None:
    claimed = claims(name)
    refused = "it is locked with a password" if info.flag_bits & 1 else refusal(name, info.file_size)
    if refused is not None:
        return Row(_member_uri(archive_uri, name), None, refused) if claimed else None
    try:
        data = _read_zipped(archive, info, claimed=claimed)
    except _DAMAGE as error:
        return Row(_member_uri(archive_uri, name), None, f"{_UNREAD}{reason(error)}") if claimed else None
    return None if data is None else Row(_member_uri(archive_uri, name), data)


def _read_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, *, claimed: bool) -> bytes | None:
    """The bytes of a member, never expanded further than its directory entry says."""
    if info.compress_type != zipfile.ZIP_BZIP2:
        chunk_bytes = _LZMA_CHUNK_BYTES if info.compress_type == zipfile.ZIP_LZMA else _CHUNK_BYTES
        with archive.open(info) as member:
            return read_picture(member.read, info.file_size, claimed=claimed, chunk_bytes=chunk_bytes)
    # zipfile expands bzip2 without bounds, 4 KB to gigabytes: take the packed bytes from it and expand them in steps.
    packed = copy.copy(info)
    packed.compress_type = zipfile.ZIP_STORED
    packed.file_size = info.compress_size
    del packed.CRC
    with archive.open(packed) as stored, bz2.BZ2File(stored) as member:
        data = read_picture(member.read, info.file_size, claimed=claimed)
    if data is not None and zlib.crc32(data) != info.CRC:
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {info.filename!r}")
    return data


def _tar_rows(file: IO[bytes], archive_uri: str) -> Iterator[Row]:
    """The rows of a tar, sample by sample; what breaks it off is the last."""
    try:
        tape = _Tape(file)
        tar = tarfile.TarFile(fileobj=cast("Any", tape), encoding="utf-8", errors="surrogateescape")
    except _DAMAGE as error:
        raise _UnopenedError(reason(error)) from error
    sample = Sample("")
    broken: str | None = None
    try:
        for info in _tar_members(tar, tape):
            key, extension = _split(info.name)
            if key != sample.key:
                yield from sample.take()
                sample = Sample(key)
            uri = _member_uri(archive_uri, info.name)
            if extension in SIDECARS and not info.sparse:
                data = sample.learn(extension, info.size, tape.read)
                row = None if data is None else Row(uri, data)
            else:
                row = _tar_row(info, tape, uri)
            if row is not None:
                yield from sample.add(row)
    except _DAMAGE as error:
        broken = f"damaged or cut short at byte {tape.tell():,} of the tar: {reason(error)}"
    yield from sample.take()
    if broken is not None:
        yield Row(archive_uri, None, broken)


def _tar_members(tar: tarfile.TarFile, tape: _Tape) -> Iterator[tarfile.TarInfo]:
    """Every file that is not skipped, the tape at its first byte.

    Raises:
        tarfile.TarError, EOFError, ...: the tar is damaged or has no end mark.
    """
    while True:
        tape.allowance = _HEADER_BYTES
        info = tar.next()
        cast("Any", tar).members = []  # or it would keep them all
        if len(tar.pax_headers) > _GLOBAL_NAMES:
            raise tarfile.ReadError(f"it has more than {_GLOBAL_NAMES} global attributes")
        if info is None:
            break
        if info.size < 0:
            raise tarfile.ReadError(f"{info.name!r} has a negative size")
        if info.isreg() and not _is_skipped(info.name):
            tape.allowance = info.size
            yield info
    tape.check_end()


def _tar_row(info: tarfile.TarInfo, tape: _Tape, uri: str) -> Row | None:
    claimed = claims(info.name)
    # A map of holes that is damaged keeps tarfile's reader busy for ever.
    refused = "it is stored as a sparse file: pack it without" if info.sparse else refusal(info.name, info.size)
    if refused is not None:
        return Row(uri, None, refused) if claimed else None
    data = read_picture(tape.read, info.size, claimed=claimed)
    return None if data is None else Row(uri, data)


def _split(name: str) -> tuple[str, str]:
    """The key and the extension of a WebDataset member: a name without its folder is cut at its first dot."""
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return folder + slash + stem, extension.lower()


class _Tape:
    """A tar that only goes forwards, and whose headers may not ask for more memory than they are allowed.

    It is what `tarfile` takes for a file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._expand, self._seek = _expand(file)
        self._position = 0
        self._expanded = 0
        self._last = b""
        self.allowance = _HEADER_BYTES

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.allowance:
            raise tarfile.ReadError("a header asks for more bytes than a header may have")
        self.allowance -= size
        self._last = self._read(size)
        self._position += len(self._last)
        return self._last

    def _read(self, size: int) -> bytes:
        piece = self._expand(size)
        self._expanded += len(piece)
        if self._expanded > _FREE_BYTES and self._seek is None and self._expanded > _EXPANSION * self._file.tell():
            raise tarfile.ReadError(_BOMB)
        return piece

    def seek(self, position: int) -> None:
        if position < self._position:
            raise tarfile.ReadError("a header leads backwards")
        if self._seek is not None:
            self._position = self._seek(position)
        while self._position < position:
            skipped = len(self._read(min(position - self._position, _CHUNK_BYTES)))
            self._position += skipped
            if not skipped:
                return  # the next read finds the end

    def check_end(self) -> None:
        """Raise where what was read last is no end mark, or where something follows it."""
        if not self._last:
            raise EOFError("it has no end mark, so perhaps more should come")
        if self._last.strip(b"\0"):
            raise tarfile.ReadError("there is no header where one should be")
        left = _TAIL_BYTES
        while left > 0 and (tail := self._read(_CHUNK_BYTES)):  # to its end, where a checksum may be
            left -= len(tail)
            if tail.strip(b"\0"):
                raise tarfile.ReadError("more follows its end mark, perhaps a second tar: give that on its own")


def _expand(file: IO[bytes]) -> tuple[Callable[[int], bytes], Callable[[int], int] | None]:
    """How to read a tar, compressed as its first bytes say, and how to skip in it where that is possible."""
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file).read, None
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file).read, None
    if head == b"\xfd7zXZ\0":
        return _XzReader(file).read, None
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd").read, None
    return file.read, file.seek


class _XzReader:
    """Expands xz in steps. `lzma.LZMAFile` has no bound for the memory that a file may ask for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)

    def read(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size > 0 and (piece := self._piece(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        piece = b""
        while not piece:
            packed = b""
            if self._stream.eof:  # another stream may follow, after zeros
                packed = self._stream.unused_data.lstrip(b"\0") or self._file.read(io.DEFAULT_BUFFER_SIZE).lstrip(b"\0")
                if not packed:
                    return b""
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
            elif self._stream.needs_input:
                packed = self._file.read(io.DEFAULT_BUFFER_SIZE)
                if not packed:
                    raise EOFError("the xz stream ends before its end")
            piece = self._stream.decompress(packed, size)
        return piece
