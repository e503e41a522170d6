"""Ingest of one part of a source on a worker: read, identify, describe, commit. Knows no engine.

Unlike an extraction, where the driver commits, each worker commits its own pictures: a content that two workers find at
the same time must become one image with two URIs, and the table decides who was first. A part that is done twice finds
its pictures known the second time.
"""

from __future__ import annotations

import functools
import os
import time

from imagelake.lake.ids import IdSet
from imagelake.lake.tables import Tables, id_set
from imagelake.run.commits import CommitSize, gather
from imagelake.run.ingest import commit_piece
from imagelake.run.local import run_local
from imagelake.run.receipts import Counts, RunOf, write_receipt
from imagelake.sources.source import Source, complete
from imagelake.steps.describe import FINGERPRINT, Describe
from imagelake.steps.identify import Identify

_HELD_BYTES = 24 << 20
_COMMIT = CommitSize(max_seconds=120.0)  # many workers commit to one table: few and large


def ingest_part(root: str, source: Source, subject: str, run: RunOf, threads: int) -> Counts:
    """Bring the pictures of a source into the lake at `root`, with a receipt for each commit."""
    tables = Tables(root)
    steps = (Identify(_known(os.getpid(), root)), Describe())
    total = Counts()
    described = run_local(map(complete, source.batches()), steps, workers=threads, max_bytes=_HELD_BYTES)
    for piece in gather(described, _COMMIT):
        since = time.monotonic()
        counts = commit_piece(tables, piece)
        write_s = time.monotonic() - since
        write_receipt(tables, "ingest", subject, FINGERPRINT, counts, write_s, run, stages={"write": write_s})
        total += counts
    return total


@functools.lru_cache(maxsize=1)
def _known(process: int, root: str) -> IdSet:
    """The images that the lake had when this process began, 16 bytes each: they are not decoded again."""
    del process  # one that was forked looks anew
    return id_set(Tables(root).images)
