"""From a source to the images table: identify, describe, commit, account for every picture."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from imagelake import schema
from imagelake.errors import InputError
from imagelake.lake.table import in_parts, one_of
from imagelake.lake.tables import Tables, id_set, present_ids
from imagelake.run import report_html
from imagelake.run.annotations import add_regions
from imagelake.run.commits import CommitSize, gather
from imagelake.run.local import run_local, worker_count
from imagelake.run.progress import Progress, Silent, counted
from imagelake.run.receipts import Counts, Position, Rejection, last_position, new_run, write_receipt, write_rejections
from imagelake.run.told import labels_of, union, with_time_and_place
from imagelake.sources.source import Resumable, Source, complete
from imagelake.steps.describe import FINGERPRINT, Describe
from imagelake.steps.identify import Identify

_COMMIT = CommitSize()


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did. Every picture is accounted for: found = added + known + rejected.

    `went_on_after` is the URI after which it went on with what an earlier run had begun, else None.
    """

    source: str
    found: int
    added: int
    known: int
    rejected: int
    seconds: float
    images_per_s: float
    went_on_after: str | None = None

    def _repr_html_(self) -> str:
        return report_html.report(self)


def ingest(
    tables: Tables,
    source: Source,
    progress: Progress | None = None,
    commit: CommitSize = _COMMIT,
    *,
    new_only: bool = False,
) -> IngestReport:
    """Bring the pictures of `source` into the lake: one row per distinct content, with every URI it was seen under.

    Each commit is whole: after a kill, the next run finds what is there and goes on. A source that can start after a
    URI (it has `resume_after`) is not even read again up to the last commit.

    Args:
        tables: the lake.
        source: the pictures.
        progress: told how far it is.
        commit: how much goes into one commit.
        new_only: start after the last picture of the run before also where that run came to its end.

    Raises:
        InputError: `new_only` is given, and the source cannot start after a URI.
    """
    progress = progress or Silent()
    began, run = time.monotonic(), new_run("local")
    for table, columns in ((tables.images, schema.IMAGES), (tables.receipts, schema.RECEIPTS)):
        table.add_columns(columns)
    name = source.name
    subject = str(getattr(source, "position_name", name))
    source, went_on_after = _from_where_it_was(tables, source, subject, new_only=new_only)
    goes_on = isinstance(source, Resumable)
    last_uri = went_on_after
    progress.start("ingest", source.estimate())
    steps = (Identify(id_set(tables.images)), Describe())
    total = Counts()
    described = run_local(map(complete, source.batches()), steps, workers=worker_count())
    for piece in gather(counted(described, progress), commit):
        since = time.monotonic()
        counts = commit_piece(tables, piece)
        last_uri = piece.column("uri")[-1].as_py()
        position = Position(last_uri, at_end=False) if goes_on else None
        write_s = time.monotonic() - since
        stages = {"write": write_s}
        write_receipt(tables, "ingest", subject, FINGERPRINT, counts, write_s, run, position=position, stages=stages)
        total += counts
    if goes_on and last_uri is not None:
        end = Position(last_uri, at_end=True)
        write_receipt(tables, "ingest", subject, FINGERPRINT, Counts(), 0.0, run, position=end)
    for table in (tables.images, tables.receipts, tables.rejections):
        table.tidy()
    seconds = time.monotonic() - began
    rate = total.found / seconds if seconds > 0 else 0.0
    return IngestReport(
        name, total.found, total.added, total.known, total.rejected, round(seconds, 3), round(rate, 1), went_on_after
    )


def _from_where_it_was(tables: Tables, source: Source, subject: str, *, new_only: bool) -> tuple[Source, str | None]:
    """The source from where the last run stopped, and the URI after which that is."""
    if not isinstance(source, Resumable):
        if new_only:
            raise InputError(f"{source.name} cannot start after a row, so --new-only means nothing here. Leave it out.")
        return source, None
    position = last_position(tables, "ingest", subject)
    if position is None or (position.at_end and not new_only):
        return source, None
    return source.resume_after(position.uri), position.uri


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


def commit_piece(tables: Tables, piece: pa.Table) -> Counts:
    """Commit one piece of `schema.DESCRIBED`: new images, new URIs and labels of known images, rejections."""
    piece = _describe_vanished(tables, piece)
    seen = _look(piece)
    good = [entry for entry in seen if entry.error is None]
    sightings: dict[str, list[_Seen]] = {}  # by id, in the order seen
    for entry in good:
        sightings.setdefault(str(entry.id), []).append(entry)
    new = _new_images(piece, good, sightings)
    added = tables.images.insert_new(new)
    if added == new.num_rows:  # else another writer had one of them, and which is not known
        for name in new.column("id").to_pylist():
            del sightings[name]
    _add_sightings(tables, sightings)
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
    for part in in_parts([str(entry.id) for entry in known]):
        present |= present_ids(tables.images, part)
    vanished = {entry.row for entry in known if entry.id not in present}
    if not vanished:
        return piece
    again = piece.take(sorted(vanished)).select([*schema.SOURCE.names, "id"])
    again = again.append_column("known", pa.array([False] * len(vanished)))
    describe = Describe().open()
    described = pa.Table.from_batches([describe(batch) for batch in again.to_batches()])
    rest = piece.take(pa.array([row for row in range(piece.num_rows) if row not in vanished], pa.int64()))
    return pa.concat_tables([rest, described])


def _new_images(piece: pa.Table, good: Sequence[_Seen], sightings: dict[str, list[_Seen]]) -> pa.Table:
    """One row per content that was described in this piece, with all its URIs."""
    first_rows: dict[str, int] = {}
    for entry in good:
        if not entry.known:
            first_rows.setdefault(str(entry.id), entry.row)
    rows = piece.drop_columns(["uri", "error", "known"])
    if len(first_rows) < piece.num_rows:  # else all are new: spare the copy of the pictures
        rows = rows.take(pa.array(list(first_rows.values()), pa.int64()))
    now = pa.array([datetime.now(UTC)] * len(first_rows), schema.IMAGES.field("added_at").type)
    texts = pa.list_(pa.string())
    columns = {
        "uris": pa.array([_uris(sightings[name]) for name in first_rows], texts),
        "labels": pa.array([_labels(sightings[name]) or None for name in first_rows], texts),
        "added_at": now,
    }
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    return _with_all_columns(with_time_and_place(rows))


def _with_all_columns(rows: pa.Table) -> pa.Table:
    """With those columns that nobody fills yet, as nulls."""
    for field in schema.IMAGES:
        if field.name not in rows.schema.names:
            rows = rows.append_column(field.name, pa.nulls(rows.num_rows, field.type))
    return rows


def _uris(sightings: Sequence[_Seen]) -> list[str]:
    return union([], (entry.uri for entry in sightings))


def _labels(sightings: Sequence[_Seen]) -> list[str]:
    return union([], (label for entry in sightings for label in labels_of(entry.metadata)))


def _add_sightings(tables: Tables, sightings: dict[str, list[_Seen]]) -> None:
    """Make sure that each image lists these URIs and labels, whoever inserted it."""
    for part in in_parts(list(sightings)):
        if _with_missing(tables, part, sightings):
            tables.images.patch(functools.partial(_patch_rows, tables, part, sightings))


def _with_missing(
    tables: Tables, ids: list[str], sightings: dict[str, list[_Seen]]
) -> dict[str, tuple[list[str], list[str]]]:
    """The complete URIs and labels of those images that lack one of them, as the table is now."""
    whole = {}
    for row in tables.images.rows("id", ids, ["id", "uris", "labels"]).to_pylist():
        seen = sightings[row["id"]]
        before = row["uris"] or [], row["labels"] or []
        after = union(before[0], _uris(seen)), union(before[1], _labels(seen))
        if after != before:
            whole[row["id"]] = after
    return whole


def _patch_rows(tables: Tables, ids: list[str], sightings: dict[str, list[_Seen]]) -> pa.Table:
    whole = _with_missing(tables, ids, sightings)
    texts = pa.list_(pa.string())
    return pa.table({
        "id": pa.array(list(whole), pa.string()),
        "uris": pa.array([uris for uris, _ in whole.values()], texts),
        "labels": pa.array([labels or None for _, labels in whole.values()], texts),
    })  # fmt: skip


def _forget_rejections(tables: Tables, uris: list[str]) -> None:
    """A URI that became an image after all is no rejection any more."""
    if tables.rejections.count() == 0:
        return
    for part in in_parts(uris):
        stale = f"({one_of('uri', part)}) AND stage NOT IN ('decode', 'detect', 'embed')"
        if tables.rejections.count(stale):
            tables.rejections.delete(stale)
