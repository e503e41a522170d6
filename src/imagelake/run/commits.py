"""Gather batches until a commit is worth it: few large commits, bounded by bytes, rows and time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from imagelake.steps.step import Batches


@dataclass(frozen=True)
class CommitSize:
    """When a commit is worth it: after so many bytes, rows or seconds, whichever comes first.

    What is gathered and not yet committed is what a killed run does again.
    """

    max_bytes: int = 64 << 20
    max_rows: int = 16384
    max_seconds: float = 30.0


def gather(batches: Batches, size: CommitSize) -> Iterator[pa.Table]:
    """Concatenate batches into one table per commit.

    Where the user interrupts, what is gathered comes first, so that it is committed, and then the interrupt.
    """
    held: list[pa.RecordBatch] = []
    held_bytes = held_rows = 0
    since = time.monotonic()
    try:
        for batch in batches:
            held.append(batch)
            held_bytes += batch.nbytes
            held_rows += batch.num_rows
            if not held_rows:  # a source that waits says so by empty batches
                held, since = [], time.monotonic()
            elif _is_full(size, held_bytes, held_rows, since):
                yield _take(held)
                held_bytes, held_rows, since = 0, 0, time.monotonic()
    except KeyboardInterrupt:
        if held:
            yield _take(held)
        raise
    if held_rows:
        yield _take(held)


def _is_full(size: CommitSize, held_bytes: int, held_rows: int, since: float) -> bool:
    return held_bytes >= size.max_bytes or held_rows >= size.max_rows or time.monotonic() - since >= size.max_seconds


def _take(held: list[pa.RecordBatch]) -> pa.Table:
    """All of them, and none is left: nothing is taken twice."""
    piece = pa.Table.from_batches(held)
    held.clear()
    return piece
