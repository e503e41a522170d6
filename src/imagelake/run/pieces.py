"""What is to be done, cut into pieces that travel to workers and are read there: rows of a lake, parts of a source."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from imagelake.errors import LakeError
from imagelake.lake.ids import IdSet
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables
from imagelake.run.extract import read_batch, stops
from imagelake.run.outcome import Done
from imagelake.sources.source import Source, Watchable, complete
from imagelake.steps.identify import Identify
from imagelake.steps.step import Batches

_PARTS_A_SLOT = 8  # so that slots that are done early find more to do


@dataclass(frozen=True)
class PieceSize:
    """When a piece is full: it is done again as a whole where a worker dies.

    Its pictures are read a few at a time; what it holds until it is done are results.
    """

    max_rows: int = 4096
    max_bytes: int = 256 << 20

    def for_slots(self, rows: int, slots: int) -> PieceSize:
        """Smaller ones where there are not enough pictures to keep so many workers busy to the end."""
        fair = -(-rows // max(1, slots * _PARTS_A_SLOT))
        return replace(self, max_rows=max(1, min(self.max_rows, max(fair, 16))))


class Piece(Protocol):
    """Small, frozen, picklable.

    Attributes:
        name: the same whenever the same pictures are cut into the same piece.
        rows: about how many pictures; 0 where nobody knows.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def rows(self) -> int: ...  # noqa: D102

    def batches(self) -> Batches:
        """Read it: what `steps.extract` takes."""


@dataclass(frozen=True)
class LakePiece:
    """Some rows of the images table of the lake at `root`, by their row ids: pairs of first and after-last, int64."""

    root: str
    name: str
    rows: int
    row_ids: bytes

    def batches(self) -> Batches:
        """Those of them that are in the lake still."""
        bounds = np.frombuffer(self.row_ids, np.int64).reshape(-1, 2)
        wanted = np.concatenate([np.arange(low, high) for low, high in bounds])
        images = Tables(self.root).images
        found = images.take(wanted.tolist(), ["id", "byte_size", "_rowid"])
        ids, row_ids = found.column("id").to_pylist(), found.column("_rowid").to_pylist()
        for start, stop in itertools.pairwise([0, *stops(found.column("byte_size").fill_null(0).to_pylist())]):
            yield _read(images, ids[start:stop], row_ids[start:stop])


def _read(images: Table, ids: list[str], row_ids: list[int]) -> pa.RecordBatch:
    try:
        return read_batch(images, ids, row_ids)
    except LakeError:
        there = images.take(row_ids, ["id", "_rowid"])
        if there.num_rows == len(row_ids):  # nothing was deleted meanwhile: it is something else
            raise
        return read_batch(images, there.column("id").to_pylist(), there.column("_rowid").to_pylist())


@dataclass(frozen=True)
class SourcePiece:
    """A part of a source, without those pictures whose URI is done: `done` holds the SHA-256 of each."""

    source: Source
    name: str
    rows: int = 0
    done: IdSet | None = None

    def batches(self) -> Batches:
        """Its pictures. The bytes of those that are done were read in vain, where a source cannot be asked for less."""
        identify = Identify(IdSet([])).open()
        began = time.perf_counter()
        for batch in map(complete, self.source.batches()):
            fresh = (
                batch
                if self.done is None
                else batch.filter(pa.array(~self.done.contains(_hashed(batch.column("uri")))))
            )
            each_s = (time.perf_counter() - began) / max(1, batch.num_rows)
            yield identify(fresh).append_column("read_s", pa.array([each_s] * fresh.num_rows, pa.float32()))
            began = time.perf_counter()


def _hashed(uris: pa.Array) -> pa.Array:
    return pa.array([hashlib.sha256(uri.encode()).hexdigest() for uri in uris.to_pylist()], pa.string())


def lake_pieces(tables: Tables, done: Done, fingerprint: str, size: PieceSize) -> Iterator[LakePiece]:
    """The images that are not done. Only their ids, row ids and sizes are read."""
    held: list[tuple[str, int]] = []
    held_bytes = 0
    for page in tables.images.scan(["id", "byte_size"], row_ids=True):
        waiting = page.filter(pa.array(~np.asarray(done.contains(page.column("id")))))
        rows = (waiting.column(name).to_pylist() for name in ("id", "_rowid", "byte_size"))
        for image_id, row_id, byte_size in zip(*rows, strict=True):
            held.append((image_id, row_id))
            held_bytes += byte_size or 0
            if len(held) >= size.max_rows or held_bytes >= size.max_bytes:
                yield _lake_piece(tables.root, held, fingerprint)
                held, held_bytes = [], 0
    if held:
        yield _lake_piece(tables.root, held, fingerprint)


def _lake_piece(root: str, rows: Sequence[tuple[str, int]], fingerprint: str) -> LakePiece:
    bounds = _bounds(np.array([row_id for _, row_id in rows], np.int64)).tobytes()
    name = _name(fingerprint, rows[0][0], rows[-1][0], len(rows), bounds.hex())
    return LakePiece(root, name, len(rows), bounds)


def _bounds(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Runs of numbers that follow one another, as pairs of first and after-last. Shape (n, 2)."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    firsts = numbers[np.concatenate([[0], breaks])]
    lasts = numbers[np.concatenate([breaks - 1, [len(numbers) - 1]])]
    return np.stack([firsts, lasts + 1], axis=1).astype(np.int64)


def source_pieces(
    source: Source, done: IdSet | None, fingerprint: str, slots: int, size: PieceSize | None = None
) -> list[SourcePiece]:
    """A source in parts. Here only names are listed or keys looked up; workers read.

    A source with `parts` (a database) is asked for them, one that can list itself (a folder, a bucket) is cut by names,
    any other is one part.
    """
    parts = _parts(source, done, slots, size or PieceSize())
    return [
        SourcePiece(part, _name(fingerprint, source.name, number, rows), rows, done)
        for number, (part, rows) in enumerate(parts)
    ]


def _parts(source: Source, done: IdSet | None, slots: int, size: PieceSize) -> Iterator[tuple[Source, int]]:
    cut: Any = getattr(source, "parts", None)
    if cut is not None:
        expected = source.estimate() or 0
        count = max(slots * _PARTS_A_SLOT, -(-expected // size.max_rows))
        parts = cut(max(1, min(count, expected)))
        yield from ((part, expected // len(parts)) for part in parts)
    elif isinstance(source, Watchable):
        uris = pa.array([uri for uri, _ in source.listing()], pa.string())
        left = (uris if done is None else uris.filter(pa.array(~done.contains(_hashed(uris))))).to_pylist()
        rows = size.for_slots(len(left), slots).max_rows
        for start in range(0, len(left), rows):
            few = left[start : start + rows]
            yield source.only(few), len(few)
    else:
        yield source, source.estimate() or 0


def _name(*shape: object) -> str:
    return hashlib.sha256("\0".join(map(str, shape)).encode()).hexdigest()[:32]
