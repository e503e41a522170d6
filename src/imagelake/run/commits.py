"""Gather batches until a commit is worth it: few large commits, bounded by bytes, rows and time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pyarrow as pa

from imagelake.steps.step import Batches

COMMIT_BYTES = 64 << 20
COMMIT_ROWS = 4096
COMMIT_SECONDS = 30.0


def gather(
    batches: Batches, *, max_bytes: int = COMMIT_BYTES, max_rows: int = COMMIT_ROWS, max_seconds: float = COMMIT_SECONDS
) -> Iterator[pa.Table]:
    """Concatenate batches into tables of at most about `max_bytes` or `max_rows`, or what came in `max_seconds`.

    What is gathered and not yet committed is what a killed run does again.
    """
    held: list[pa.RecordBatch] = []
    held_bytes = held_rows = 0
    since = time.monotonic()
    for batch in batches:
        held.append(batch)
        held_bytes += batch.nbytes
        held_rows += batch.num_rows
        if held_bytes >= max_bytes or held_rows >= max_rows or time.monotonic() - since >= max_seconds:
            yield pa.Table.from_batches(held)
            held, held_bytes, held_rows, since = [], 0, 0, time.monotonic()
    if held_rows:
        yield pa.Table.from_batches(held)
