"""From the images table to regions and vectors: every image that has none of this pipeline's fingerprint gets some."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from imagelake import schema
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables, uris_of
from imagelake.models.choice import name_of
from imagelake.models.manifest import Manifest, fingerprint
from imagelake.run import report_html
from imagelake.run.commits import CommitSize, gather
from imagelake.run.ingest import IngestReport
from imagelake.run.local import run_local, worker_count
from imagelake.run.outcome import Done, Outcome, Refused, Tally
from imagelake.run.progress import Progress, Silent
from imagelake.run.receipts import Counts, Rejection, RunOf, new_run, write_receipt, write_rejections
from imagelake.steps.extract import ExtractPictures
from imagelake.steps.pipeline import Pipeline
from imagelake.steps.step import Batches

BATCH_ROWS = 16  # a few calls of the model
BATCH_BYTES = 16 << 20
_COMMIT = CommitSize()


@dataclass(frozen=True)
class ExtractReport:
    """What an extract did: of the images found in the lake, how many were done now, were before, or could not be.

    Attributes:
        run: the name of the run, as `imagelake runs` lists it.
        engine: `"local"` or `"spark"`.
        embedding_set: which set the vectors went to; None where none were made, or they went to `to`.
        ingested: what ingesting the source came to, where one was given with a lake.
        to: the place of the Parquet files, where the results went there.
        model: what made the vectors; None where none were made.
        detector: what found the regions; None without one.
        fingerprint: of everything that shapes the result.
        found: images in the lake; each is one of the next three.
        added: they were done now.
        known: they were done before.
        rejected: they could not be done; the lake's rejections say why.
        regions: how many regions were kept now.
        fallbacks: how many of those are whole pictures, because nothing was found in them.
        seconds: how long it took.
        images_per_s: images done a second.
        stages: seconds spent reading, decoding, detecting, embedding and writing, those of all threads added up.
    """

    run: str
    engine: str
    embedding_set: str | None
    model: str | None
    detector: str | None
    fingerprint: str
    found: int
    added: int
    known: int
    rejected: int
    regions: int
    fallbacks: int
    seconds: float
    images_per_s: float
    stages: dict[str, float]
    to: str | None = None
    ingested: IngestReport | None = None

    def _repr_html_(self) -> str:
        return report_html.report(self)


def set_name(manifest: Manifest) -> str:
    """The name of a manifest's embedding set: the model's name and the start of the fingerprint."""
    return f"{manifest.name}-{fingerprint(manifest)[:12]}"


def extract(
    tables: Tables, pipeline: Pipeline, progress: Progress | None = None, commit: CommitSize = _COMMIT
) -> ExtractReport:
    """Do with every image that is not done what the pipeline says, on this machine, and commit as it goes."""
    progress = progress or Silent()
    began, run = time.monotonic(), new_run("local")
    outcome = Outcome(pipeline)
    targets = outcome.prepare(tables)
    tables.receipts.add_columns(schema.RECEIPTS)  # an older version made the lake
    done = outcome.done(tables)
    known, waiting = count_waiting(tables.images, done)
    total = Tally(Counts(known=known))
    if waiting:
        progress.start("extract", waiting)
        step = ExtractPictures(pipeline, on_progress=progress.say)
        extracted = run_local(pending(tables.images, done), [step], workers=worker_count())
        for piece in gather(count_pictures(extracted, progress), commit):
            since = time.monotonic()
            tally = commit_piece(tables, targets, outcome, piece, since)
            write_piece_receipt(tables, pipeline, tally, time.monotonic() - since, run)
            total += tally
        for table in (*targets.values(), tables.receipts):
            table.tidy()
    return report_of(pipeline, run, total, time.monotonic() - began)


def write_piece_receipt(tables: Tables, pipeline: Pipeline, tally: Tally, seconds: float, run: RunOf) -> None:
    """Record that a piece of an extraction is done."""
    mark = pipeline.result_fingerprint
    write_receipt(tables, "extract", pipeline.subject, mark, tally.counts, seconds, run, stages=tally.seconds)


def report_of(pipeline: Pipeline, run: RunOf, total: Tally, seconds: float, to: str | None = None) -> ExtractReport:
    """The report of a run that took so many seconds."""
    counts = total.counts
    rate = counts.added / seconds if seconds > 0 else 0.0
    return ExtractReport(
        run=run.id,
        engine=run.engine,
        embedding_set=pipeline.set_name if to is None else None,
        model=None if pipeline.embed is None else name_of(pipeline.embed),
        detector=pipeline.detector_name,
        fingerprint=pipeline.fingerprint,
        found=counts.found,
        added=counts.added,
        known=counts.known,
        rejected=counts.rejected,
        regions=total.regions,
        fallbacks=total.fallbacks,
        seconds=round(seconds, 3),
        images_per_s=round(rate, 1),
        stages={stage: round(spent, 3) for stage, spent in total.seconds.items()},
        to=to,
    )


def count_waiting(images: Table, done: Done) -> tuple[int, int]:
    """How many images are done, and how many wait. What was made of an image that is gone counts for neither."""
    known = waiting = 0
    for page in images.scan(["id"], batch_rows=65536):
        have = int(done.contains(page.column("id")).sum())
        known, waiting = known + have, waiting + page.num_rows - have
    return known, waiting


def pending(images: Table, done: Done) -> Iterator[pa.RecordBatch]:
    """Id and bytes of the images that are not done, in batches as the models take them."""
    for page in images.scan(["id", "byte_size"], row_ids=True):
        waiting = page.filter(pa.array(~done.contains(page.column("id"))))
        ids, row_ids = waiting.column("id").to_pylist(), waiting.column("_rowid").to_pylist()
        start = 0
        for stop in stops(waiting.column("byte_size").to_pylist()):
            yield read_batch(images, ids[start:stop], row_ids[start:stop])
            start = stop


def read_batch(images: Table, ids: list[str], row_ids: list[int]) -> pa.RecordBatch:
    """What `ExtractPictures` takes: id, bytes, and the seconds that reading each took."""
    began = time.perf_counter()
    data = images.read_bytes(row_ids)
    each_s = (time.perf_counter() - began) / max(1, len(ids))
    return pa.record_batch({
        "id": pa.array(ids, pa.string()),
        "bytes": pa.array(data, pa.large_binary()),
        "read_s": pa.array([each_s] * len(ids), pa.float32()),
    })  # fmt: skip


def stops(sizes: list[int]) -> Iterator[int]:
    """Where batches end: after `BATCH_ROWS` pictures or `BATCH_BYTES`."""
    rows = held = 0
    for position, size in enumerate(sizes, start=1):
        rows, held = rows + 1, held + size
        if rows == BATCH_ROWS or held >= BATCH_BYTES or position == len(sizes):
            yield position
            rows = held = 0


def commit_piece(tables: Tables, targets: dict[str, Table], outcome: Outcome, piece: pa.Table, since: float) -> Tally:
    """Insert the rows of a piece where they are new, the table that marks an image as done last."""
    split = outcome.split(piece)
    for name, table in targets.items():
        table.insert_new(split[name])
    refuse(tables, outcome.refused(piece))
    return outcome.tally(piece, time.monotonic() - since)


def refuse(tables: Tables, refused: list[Refused]) -> None:
    """Record which images could not be done and why, under the URI that each was seen under."""
    uris = uris_of(tables.images, sorted({each.image_id for each in refused}))
    write_rejections(
        tables,
        [
            Rejection(uris.get(each.image_id, [each.image_id])[0], each.image_id, each.stage, each.reason, None)
            for each in refused
        ],
    )


def count_pictures(batches: Batches, progress: Progress, key: str = "image_id") -> Batches:
    """The same batches; the pictures of each are reported when the next is asked for."""
    for batch in batches:
        yield batch
        progress.advance(pc.count_distinct(batch.column(key)).as_py())
        progress.reject(pc.count_distinct(batch.column(key).filter(pc.is_valid(batch.column("error")))).as_py())
