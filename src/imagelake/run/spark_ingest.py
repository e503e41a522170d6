"""Ingest on Spark: workers read the parts of a source themselves, and commit what they describe."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession

from imagelake import schema
from imagelake.lake.tables import Tables
from imagelake.run.ingest import IngestReport
from imagelake.run.piece_ingest import ingest_part
from imagelake.run.pieces import source_pieces
from imagelake.run.pipeline_options import SparkOptions
from imagelake.run.progress import Progress, Silent
from imagelake.run.receipts import Counts, RunOf, new_run
from imagelake.run.spark_jobs import Job
from imagelake.run.spark_session import session_for, slots_of
from imagelake.sources.source import Source

_POLL_S = 0.5
_DONE = "part long, added long, known long, rejected long"
_DONE_ARROW = pa.schema([(name, pa.int64()) for name in ("part", "added", "known", "rejected")])


def ingest_spark(
    tables: Tables,
    source: Source,
    options: SparkOptions | None = None,
    progress: Progress | None = None,
    *,
    spark: SparkSession | None = None,
) -> IngestReport:
    """Do on Spark what `run.ingest` does here. A second run finds what is there, and goes on.

    Args:
        tables: the lake, at an address that every worker reaches under the same name.
        source: the pictures. A database is cut by its key, a folder or a bucket by names; any other is one part.
        options: how to reach Spark, where no session is given and none is active.
        progress: told that it began; what is done shows at the end.
        spark: the session to use; it is left running.

    Raises:
        InputError: Spark cannot be reached as asked.
        LakeError: the lake cannot be written.
    """
    options, progress = options or SparkOptions(), progress or Silent()
    subject = str(getattr(source, "position_name", source.name))
    for table, columns in ((tables.images, schema.IMAGES), (tables.receipts, schema.RECEIPTS)):
        table.add_columns(columns)
    with session_for(spark, options.master, options.conf, progress) as session:
        began, run, slots = time.monotonic(), new_run("spark"), slots_of(session)
        progress.start("ingest", source.estimate())
        parts = [piece.source for piece in source_pieces(source, None, "ingest", slots)]
        total = _run(session, tables.root, parts, subject, run, progress) if parts else Counts()
    for table in (tables.images, tables.receipts, tables.rejections):
        table.tidy()
    seconds = time.monotonic() - began
    rate = total.found / seconds if seconds > 0 else 0.0
    return IngestReport(
        source.name, total.found, total.added, total.known, total.rejected, round(seconds, 3), round(rate, 1)
    )


def _run(spark: SparkSession, root: str, parts: list[Source], subject: str, run: RunOf, progress: Progress) -> Counts:
    frame = spark.range(0, len(parts), 1, len(parts)).mapInArrow(
        functools.partial(_ingest_parts, root, parts, subject, run), _DONE
    )
    found: list[pa.Table] = []
    job = Job(spark, lambda: found.append(_collect(frame)))
    try:
        while job.runs(_POLL_S):
            pass
    except BaseException:
        job.cancel()
        raise
    job.raise_what_failed()
    sums = {name: sum(table.column(name).to_pylist()) for table in found for name in ("added", "known", "rejected")}
    total = Counts(**sums)
    progress.advance(total.found)
    progress.reject(total.rejected)
    return total


def _collect(frame: DataFrame) -> pa.Table:
    return frame.toArrow()


def _ingest_parts(
    root: str, parts: Sequence[Source], subject: str, run: RunOf, numbers: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    context = TaskContext.get()
    threads = max(1, context.cpus()) if context is not None else 1
    for batch in numbers:
        for number in batch.column(0).to_pylist():
            counts = ingest_part(root, parts[number], subject, run, threads)
            yield pa.RecordBatch.from_pylist([{"part": number, **vars(counts)}], schema=_DONE_ARROW)
