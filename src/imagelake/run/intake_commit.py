"""From received pictures to the tables, in larger commits that the disk has before the spool lets go of them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from imagelake.errors import LakeFullError
from imagelake.files import is_remote
from imagelake.lake.sync import Since, sync_table
from imagelake.lake.tables import Tables
from imagelake.run.ingest import IngestReport, commit_piece, ingest
from imagelake.run.intake_spool import Leftover, Segment, Spool, set_aside, spool_folder
from imagelake.run.progress import Progress
from imagelake.run.receipts import Counts, new_run, write_receipt
from imagelake.steps.describe import FINGERPRINT

_TIDY_COMMITS = 16
_RECEIPT_S = 60.0
_SPARE_BYTES = 1 << 20


@dataclass(frozen=True)
class DrainReport:
    """What a drain brought into the tables, and the segments in which something could not be read, set aside."""

    ingested: IngestReport
    damaged: list[str]


def drain(
    tables: Tables, folder: str | os.PathLike[str] | None = None, progress: Progress | None = None
) -> DrainReport | None:
    """Bring what an `imagelake receive` that was killed left in its spool into the tables.

    Nothing that was answered for is lost, and nothing comes twice. None where nothing was left.

    Args:
        tables: the lake.
        folder: the spool; by default `incoming` in the lake's own folder.
        progress: told how far it is.

    Raises:
        LakeError: another process receives pictures into this spool right now.
    """
    spool = Spool(spool_folder(tables.root, folder))
    try:
        return drain_spool(tables, spool, progress)
    finally:
        spool.close()


def drain_spool(tables: Tables, spool: Spool, progress: Progress | None = None) -> DrainReport | None:
    """As `drain`, for whoever holds the spool."""
    leftover = Leftover(spool.segments())
    if not leftover.segments:
        return None
    since = Since()
    report = ingest(tables, leftover, progress)
    sync_tables(tables, since)
    damaged = [str(set_aside(path)) for path in leftover.damaged]
    for path in leftover.segments:
        path.unlink(missing_ok=True)  # a damaged one has another name by now
    return DrainReport(report, damaged)


@dataclass(frozen=True)
class Piece:
    """Described pictures that are committed together, and the segment that keeps them until then."""

    rows: Sequence[pa.RecordBatch]
    segment: Segment | None
    cost: int  # bytes of memory that were reserved for them
    ids: frozenset[str]


class Committer:
    """Commits pieces, tidies the tables every few commits, writes one receipt a minute.

    A class because it counts between commits. For one thread.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._run = new_run("local")
        self._commits = 0
        self._counts = Counts()
        self._seconds = 0.0
        self._receipt_at = time.monotonic()

    def commit(self, piece: Piece) -> None:
        """Commit a piece, wait until the disk has it, and only then remove its segment.

        Raises:
            LakeError: nothing is lost; the piece is still in its segment and may be committed again.
        """
        began, since = time.monotonic(), Since()
        _require_space(self._tables.root, sum(batch.nbytes for batch in piece.rows))
        counts = commit_piece(self._tables, pa.Table.from_batches(piece.rows).combine_chunks())  # one row each
        if piece.segment is not None:
            sync_tables(self._tables, since)
            piece.segment.remove()
        self._counts += counts
        self._commits += 1
        self._seconds += time.monotonic() - began

    def care(self) -> None:
        """Between commits: every few commits fold small files, every minute write a receipt."""
        if self._commits % _TIDY_COMMITS == 0:
            self._tidy()
        if time.monotonic() - self._receipt_at > _RECEIPT_S:
            self._write_receipt()

    def close(self) -> None:
        """Write the last receipt and tidy."""
        self._write_receipt()
        self._tidy()

    def _tidy(self) -> None:
        for table in (self._tables.images, self._tables.rejections, self._tables.receipts):
            table.tidy()

    def _write_receipt(self) -> None:
        self._receipt_at = time.monotonic()
        if self._counts.found:
            write_receipt(self._tables, "receive", "receive", FINGERPRINT, self._counts, self._seconds, self._run)
            self._counts, self._seconds = Counts(), 0.0


def _require_space(root: str, size: int) -> None:
    """Refuse a commit that will not fit before it fills the disk with half a file."""
    if not is_remote(root) and shutil.disk_usage(root).free < size + _SPARE_BYTES:
        raise LakeFullError(f"No space is left for {root}. What was committed before is whole; free some space.")


def sync_tables(tables: Tables, since: Since) -> None:
    """Wait until the disk has what commits of pictures since then wrote; see `sync_table`."""
    for table in (tables.images, tables.regions, tables.rejections):
        sync_table(table, since)
