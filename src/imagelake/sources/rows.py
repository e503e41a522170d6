"""Rows of `schema.SOURCE`: reading one, those that share their metadata, and batches that stay small."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from imagelake import schema
from imagelake.pixels.sniff import IMAGE_SUFFIXES, RAW_SUFFIXES, sniff
from imagelake.sources.folder import BATCH_BYTES, BATCH_ROWS, MAX_FILE_BYTES
from imagelake.sources.source import complete

SIDECARS = frozenset({"json", "cls", "txt"})
"""Extensions of the files that say something about a picture beside them, as WebDataset has them."""

_HEAD_BYTES = 64
_CHUNK_BYTES = 1 << 20
_SIDECAR_BYTES = 1 << 20
_SAMPLE_BYTES = 64 << 20
_SAMPLE_ROWS = 1024


@dataclass(frozen=True)
class Row:
    """One picture, or the reason why it could not be read. `metadata` is the text of a JSON object."""

    uri: str
    data: bytes | None
    error: str | None = None
    metadata: str | None = None


def claims(name: str) -> bool:
    """Whether a name has the suffix of a picture, camera raw included."""
    return _suffix(name) in IMAGE_SUFFIXES | RAW_SUFFIXES


def refusal(name: str, byte_size: int) -> str | None:
    """Why a file of this name and size is not even read, or None."""
    if _suffix(name) in RAW_SUFFIXES:
        return f"a camera raw file ({_suffix(name)}), which is not supported: export it as JPEG or TIFF"
    if byte_size > MAX_FILE_BYTES:
        return f"the file has {byte_size:,} bytes; the limit is {MAX_FILE_BYTES:,}"
    return None


def reason(error: BaseException) -> str:
    """What a person reads of an error."""
    return str(error) or type(error).__name__


def read_picture(
    read: Callable[[int], bytes], byte_size: int, *, claimed: bool, chunk_bytes: int = _CHUNK_BYTES
) -> bytes | None:
    """Read `byte_size` bytes in chunks; None, after the first bytes, where they are no picture and no name claims it.

    Raises:
        EOFError: fewer bytes came.
    """
    pieces: list[bytes] = []
    missing = byte_size
    while missing:
        piece = read(min(missing, chunk_bytes if claimed or pieces else _HEAD_BYTES))
        if not piece:
            raise EOFError(f"only {byte_size - missing:,} of {byte_size:,} bytes are there")
        if not claimed and not pieces and sniff(piece) is None:
            return None
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces) if claimed or pieces else None


@dataclass
class Sample:
    """Neighbors in a tar that share a key; it grows while the tar is read."""

    key: str
    rows: list[Row] = field(default_factory=list)
    held_bytes: int = 0
    sidecar_bytes: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)

    def add(self, row: Row) -> Iterator[Row]:
        """Keep a row; hand out those before it where they would become too many."""
        byte_size = len(row.data or b"")
        full = len(self.rows) == _SAMPLE_ROWS or self.held_bytes + byte_size > _SAMPLE_BYTES
        ready = self.take() if full else iter(())
        self.rows.append(row)
        self.held_bytes += byte_size
        return ready

    def take(self) -> Iterator[Row]:
        """Hand out the rows, with what is known of them so far."""
        metadata = json.dumps(self.metadata, ensure_ascii=False) if self.metadata else None
        rows, self.rows, self.held_bytes = self.rows, [], 0
        return (Row(row.uri, row.data, row.error, metadata) for row in rows)

    def learn(self, extension: str, byte_size: int, read: Callable[[int], bytes]) -> bytes | None:
        """Read a sidecar. Where its first bytes are a picture's, it is none: the bytes are handed back."""
        self.sidecar_bytes += byte_size
        if self.sidecar_bytes > _SIDECAR_BYTES:
            self._complain(extension, f"the sidecars have more than {_SIDECAR_BYTES:,} bytes")
            return None
        try:
            data = read_picture(read, byte_size, claimed=True) or b""
            if sniff(data[:64]) is not None:
                return data
            found = _parse(extension, data.decode("utf-8-sig"))
            labels = [*self.metadata.get("labels", []), *found.get("labels", [])]
            self.metadata = found | self.metadata if extension == "json" else self.metadata | found
            if labels:
                self.metadata["labels"] = list(dict.fromkeys(labels))
        except (ValueError, RecursionError) as error:
            self._complain(extension, reason(error))
        return None

    def _complain(self, extension: str, why: str) -> None:
        self.metadata.setdefault("metadata_error", f"the .{extension} cannot be used: {why}")


def _parse(extension: str, text: str) -> dict[str, Any]:
    """What a sidecar says.

    Raises:
        ValueError: it is broken, or not what its extension promises.
    """
    text = text.strip()
    if extension == "cls":
        return {"labels": [text]} if text else {}
    if extension == "txt":
        return {"caption": text} if text else {}
    found = json.loads(text, parse_constant=lambda _: None)
    if not isinstance(found, dict):
        raise ValueError("it is JSON, but not an object")  # noqa: TRY004  (the file is wrong, not a type of ours)
    labels = found.pop("labels", None)
    if labels is not None:
        labels = labels if isinstance(labels, list) else [labels]
        if not all(isinstance(label, str | int | float) for label in labels):
            raise ValueError("its `labels` are no list of texts")
        found["labels"] = [str(label) for label in labels]
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # raises on half characters and on 1e999
    return found


def to_batches(rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
    """Batches of at most 32 rows that end when they hold 4 MB."""
    held: list[Row] = []
    held_bytes = 0
    for row in rows:
        held.append(row)
        held_bytes += len(row.data or b"")
        if len(held) == BATCH_ROWS or held_bytes >= BATCH_BYTES:
            yield to_batch(held)
            held, held_bytes = [], 0
    if held:
        yield to_batch(held)


def regroup(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows with small batches joined, so that thousands of files make no thousands of batches."""
    held: list[pa.RecordBatch] = []
    rows = held_bytes = 0
    for batch in map(complete, batches):
        if held and (rows + batch.num_rows > BATCH_ROWS or held_bytes + batch.nbytes > BATCH_BYTES):
            yield pa.concat_batches(held)
            held, rows, held_bytes = [], 0, 0
        held.append(batch)
        rows += batch.num_rows
        held_bytes += batch.nbytes
    if held:
        yield pa.concat_batches(held)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  (names in archives may hold anything)


def to_batch(rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows as one batch of `schema.SOURCE`."""
    return pa.record_batch(
        [
            pa.array([row.uri for row in rows], pa.string()),
            pa.array([row.data for row in rows], pa.large_binary()),
            pa.array([row.error for row in rows], pa.string()),
            pa.array([row.metadata for row in rows], pa.string()),
        ],
        schema=schema.SOURCE,
    )
