"""From a source to the images table: identify, describe, commit, account for every picture."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from imagelake import schema
from imagelake.lake.table import one_of
from imagelake.lake.tables import Tables, id_set, uris_of
from imagelake.run.annotations import add_regions
from imagelake.run.commits import CommitSize, gather
from imagelake.run.local import run_local, worker_count
from imagelake.run.progress import Progress, Silent, counted
from imagelake.run.receipts import Counts, Rejection, write_receipt, write_rejections
from imagelake.sources.source import Source, complete
from imagelake.steps.describe import FINGERPRINT, Describe
from imagelake.steps.identify import Identify

_LOOKUP_ROWS = 1024
_COMMIT = CommitSize()


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did. Every picture is accounted for: found = added + known + rejected."""

    source: str
    found: int
    added: int
    known: int
    rejected: int
    seconds: float
    images_per_s: float


def ingest(
    tables: Tables, source: Source, progress: Progress | None = None, commit: CommitSize = _COMMIT
) -> IngestReport:
    """Bring the pictures of `source` into the lake: one row per distinct content, with every URI it was seen under.

    Each commit is whole: after a kill, the next run finds what is there and goes on.
    """
    progress = progress or Silent()
    began = time.monotonic()
    progress.start("ingest", source.estimate())
    tables.images.add_columns(schema.IMAGES)
    steps = (Identify(id_set(tables.images)), Describe())
    total = Counts()
    described = run_local(map(complete, source.batches()), steps, workers=worker_count())
    for piece in gather(counted(described, progress), commit):
        since = time.monotonic()
        counts = _commit(tables, piece)
        write_receipt(tables, "ingest", source.name, FINGERPRINT, counts, time.monotonic() - since)
        total += counts
    for table in (tables.images, tables.receipts, tables.rejections):
        table.tidy()
    seconds = time.monotonic() - began
    rate = total.found / seconds if seconds > 0 else 0.0
    return IngestReport(
        source.name, total.found, total.added, total.known, total.rejected, round(seconds, 3), round(rate, 1)
    )


@dataclass(frozen=True)
class _Seen:
    """A row of a piece without its bytes, which stay where they are until they are written."""

    row: int
    uri: str
    id: str | None
    known: bool
    error: str | None
    metadata: str | None
    byte_size: int | None


def _commit(tables: Tables, piece: pa.Table) -> Counts:
    """Commit one piece: new images, new URIs of known images, rejections."""
    piece = _describe_vanished(tables, piece)
    seen = _look(piece)
    good = [entry for entry in seen if entry.error is None]
    uris: dict[str, list[str]] = {}  # by id, in the order seen
    for entry in good:
        uris.setdefault(str(entry.id), []).append(entry.uri)
    added = tables.images.insert_new(_new_images(piece, good, uris))
    _add_uris(tables, uris)
    add_regions(tables, [(str(entry.id), entry.metadata) for entry in good if entry.metadata is not None])
    rejections = [
        Rejection(e.uri, e.id, "read" if e.id is None else "describe", e.error, e.byte_size)
        for e in seen
        if e.error is not None
    ]
    write_rejections(tables, rejections)
    _forget_rejections(tables, [entry.uri for entry in good])
    return Counts(added=added, known=len(good) - added, rejected=len(rejections))


def _look(piece: pa.Table) -> list[_Seen]:
    columns = [piece.column(name).to_pylist() for name in ("uri", "id", "known", "error", "metadata")]
    sizes = pc.binary_length(piece.column("bytes")).to_pylist()
    return [_Seen(row, *values) for row, values in enumerate(zip(*columns, sizes, strict=True))]


def _describe_vanished(tables: Tables, piece: pa.Table) -> pa.Table:
    """Describe what was known when the run began and has been deleted since."""
    known = [entry for entry in _look(piece) if entry.known]
    present: set[str] = set()
    for part in _parts([str(entry.id) for entry in known]):
        present |= uris_of(tables.images, part).keys()
    vanished = {entry.row for entry in known if entry.id not in present}
    if not vanished:
        return piece
    again = piece.take(sorted(vanished)).select([*schema.SOURCE.names, "id"])
    again = again.append_column("known", pa.array([False] * len(vanished)))
    describe = Describe().open()
    described = pa.Table.from_batches([describe(batch) for batch in again.to_batches()])
    rest = piece.take([row for row in range(piece.num_rows) if row not in vanished])
    return pa.concat_tables([rest, described])


def _new_images(piece: pa.Table, good: Sequence[_Seen], uris: dict[str, list[str]]) -> pa.Table:
    """One row per content that was described in this piece, with all its URIs."""
    first_rows: dict[str, int] = {}
    for entry in good:
        if not entry.known:
            first_rows.setdefault(str(entry.id), entry.row)
    rows = piece.drop_columns(["uri", "error", "known"])
    if len(first_rows) < piece.num_rows:  # else all are new: spare the copy of the pictures
        rows = rows.take(pa.array(list(first_rows.values()), pa.int64()))
    now = pa.array([datetime.now(UTC)] * len(first_rows), schema.IMAGES.field("added_at").type)
    seen_under = pa.array([list(dict.fromkeys(uris[name])) for name in first_rows], pa.list_(pa.string()))
    return rows.append_column("uris", seen_under).append_column("added_at", now)


def _add_uris(tables: Tables, uris: dict[str, list[str]]) -> None:
    """Make sure that each image lists these URIs, whoever inserted it."""
    for part in _parts(list(uris)):
        if _with_missing(uris_of(tables.images, part), uris):
            tables.images.patch(functools.partial(_uri_rows, tables, part, uris))


def _with_missing(stored: dict[str, list[str]], seen: dict[str, list[str]]) -> dict[str, list[str]]:
    """The complete lists of those images that lack a URI."""
    complete = {name: list(dict.fromkeys([*there, *seen[name]])) for name, there in stored.items()}
    return {name: whole for name, whole in complete.items() if len(whole) > len(stored[name])}


def _uri_rows(tables: Tables, ids: list[str], seen: dict[str, list[str]]) -> pa.Table:
    """What to patch: the images that lack a URI, as the table is now."""
    complete = _with_missing(uris_of(tables.images, ids), seen)
    lists = pa.array(list(complete.values()), pa.list_(pa.string()))
    return pa.table({"id": pa.array(list(complete), pa.string()), "uris": lists})


def _forget_rejections(tables: Tables, uris: list[str]) -> None:
    """A URI that became an image after all is no rejection any more."""
    if tables.rejections.count() == 0:
        return
    for part in _parts(uris):
        stale = f"({one_of('uri', part)}) AND stage != 'embed'"
        if tables.rejections.count(stale):
            tables.rejections.delete(stale)


def _parts(values: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(values), _LOOKUP_ROWS):
        yield values[start : start + _LOOKUP_ROWS]
