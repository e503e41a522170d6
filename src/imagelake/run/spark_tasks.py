"""What a Spark task does: its pieces one after the other. Runs in a worker's Python process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import SparkFiles, TaskContext

from imagelake.run.piece_work import Work, apply_step, do_piece
from imagelake.run.pieces import Piece

DONE = "piece string, was_first boolean, seconds double"
_DONE = pa.schema([("piece", pa.string()), ("was_first", pa.bool_()), ("seconds", pa.float64())])


def do_tasks(
    work: Work, tasks: Sequence[Sequence[Piece]], numbers: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Do the pieces of the tasks with these numbers, and stage what comes out. One row a piece."""
    for piece in _pieces(tasks, numbers):
        began = time.monotonic()
        receipt = do_piece(_here(work), piece, _threads())
        row = {"piece": piece.name, "was_first": receipt is not None, "seconds": time.monotonic() - began}
        yield pa.RecordBatch.from_pylist([row], schema=_DONE)


def stream_tasks(
    work: Work, tasks: Sequence[Sequence[Piece]], done: Any, numbers: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """The same, with the rows themselves coming out, for Spark to write; `done` counts them for the driver."""
    work = _here(work)
    for piece in _pieces(tasks, numbers):
        for batch in apply_step(work.step, piece, _threads()):
            if done is not None:
                done.add(pc.count_distinct(batch.column(work.key)).as_py())
            yield pa.record_batch([_unfixed(column) for column in batch.columns], names=batch.schema.names)


def _unfixed(column: pa.Array) -> pa.Array:
    """Spark has no lists of a fixed size."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        return column.cast(pa.list_(kind.value_type))
    return column.cast(pa.binary()) if pa.types.is_fixed_size_binary(kind) else column


def _pieces(tasks: Sequence[Sequence[Piece]], numbers: Iterator[pa.RecordBatch]) -> Iterator[Piece]:
    for batch in numbers:
        for number in batch.column(0).to_pylist():
            yield from tasks[number]


def _threads() -> int:
    """As many as Spark reserved processors for this task."""
    context = TaskContext.get()
    return max(1, context.cpus()) if context is not None else 1


def _here(work: Work) -> Work:
    return work.relocated(Path(SparkFiles.getRootDirectory())) if work.models_travel else work
