"""The engine `spark` with its results in Parquet files at any address that Spark writes to, HDFS included.

Spark's own committer writes the files: what a task left that died or ran twice is never seen. One job writes some
pieces; a run that was stopped goes on after the last job that ended.
"""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructField, StructType

from imagelake import schema
from imagelake.errors import InputError
from imagelake.lake.ids import IdSet
from imagelake.lake.tables import Tables
from imagelake.run import spark_tasks
from imagelake.run.extract import ExtractReport, count_waiting, report_of
from imagelake.run.extract_to import list_run
from imagelake.run.outcome import Done, Tally
from imagelake.run.piece_work import Work
from imagelake.run.pieces import Piece, PieceSize, lake_pieces, source_pieces
from imagelake.run.pipeline_options import SparkOptions
from imagelake.run.progress import Progress, Silent
from imagelake.run.receipts import Counts, new_run
from imagelake.run.spark_jobs import Job, in_jobs, make_work, tasks_of
from imagelake.run.spark_session import session_for, slots_of
from imagelake.sources.source import Source
from imagelake.steps.pipeline import Pipeline

_MADE_BY, _KEY = "imagelake:fingerprint", "imagelake:key"  # in the metadata of the first column
_PIECES_A_SLOT = 32  # that many in one job: what a killed run does again
_POLL_S = 0.5


def extract_spark_to(
    given: Tables | Source,
    pipeline: Pipeline,
    to: str,
    options: SparkOptions | None = None,
    progress: Progress | None = None,
    *,
    spark: SparkSession | None = None,
) -> ExtractReport:
    """Do on Spark with every picture what the pipeline says, and write the rows of `schema.extracted` as Parquet.

    Args:
        given: a lake, whose runs then list this one, or any source of pictures; workers read them.
        pipeline: the steps.
        to: an address that Spark writes to, `hdfs://...`, `s3a://...`, `file:///...` or a path, where nothing is, or
            what the same pipeline wrote on Spark before: pictures that are there are left out. Those of them that were
            rejected are not tried again, and count as rejected again.
        options: how to reach Spark, where no session is given and none is active.
        progress: told how far it is.
        spark: the session to use; it is left running.

    Raises:
        InputError: Spark cannot be reached as asked, or something else is at `to`.
    """
    options, progress = options or SparkOptions(), progress or Silent()
    key = "image_id" if isinstance(given, Tables) else "uri"
    with session_for(spark, options.master, options.conf, progress) as session:
        run, began = new_run("spark"), time.monotonic()
        root = given.root if isinstance(given, Tables) else ""
        work = make_work(session, pipeline, root, run, key)
        there = _there(session, to, work)
        before = Tally() if there is None else _tally(there, key)
        done = IdSet([]) if there is None else _keys(there, key)
        slots = slots_of(session)
        if isinstance(given, Tables):
            known, left = count_waiting(given.images, Done((done,)))
            good = done if there is None else _keys(there.where(f.col("error").isNull()), key)
            rejected = known - count_waiting(given.images, Done((good,)))[0] if len(good) < len(done) else 0
            earlier = Counts(known=known - rejected, rejected=rejected)
            size = PieceSize().for_slots(left, slots)
            progress.start("extract", left)
            pieces: Any = lake_pieces(given, Done((done,)), work.fingerprint, size)
        else:
            earlier = Counts(known=before.counts.added, rejected=before.counts.rejected)
            progress.start("extract", given.estimate())
            pieces = source_pieces(given, done if len(done) else None, work.fingerprint, slots)
        for part in in_jobs(pieces, slots * _PIECES_A_SLOT):
            _write(session, work, tasks_of(part, slots), to, progress)
        there = _there(session, to, work)
        now = Tally() if there is None else _between(before, _tally(there, key))
        list_run(given, pipeline, to, now, time.monotonic() - began, run, progress)
    return report_of(pipeline, run, Tally(earlier) + now, time.monotonic() - began, to=to)


def _write(spark: SparkSession, work: Work, tasks: list[list[Piece]], to: str, progress: Progress) -> None:
    counted = _counter(spark)

    def run(numbers: Any) -> Any:
        return spark_tasks.stream_tasks(work, tasks, counted, numbers)

    frame = spark.range(0, len(tasks), 1, len(tasks)).mapInArrow(run, _columns(work))
    job = Job(spark, lambda: frame.write.mode("append").option("compression", "zstd").parquet(to))
    shown = 0
    try:
        while job.runs(_POLL_S):
            shown = _tell(progress, counted, shown)
    except BaseException:
        job.cancel()
        raise
    job.raise_what_failed()
    _tell(progress, counted, shown)


def _counter(spark: SparkSession) -> Any:
    """Counts pictures of tasks that ended; None on Spark Connect, which has no such thing."""
    try:
        return spark.sparkContext.accumulator(0)
    except Exception:  # noqa: BLE001  (whatever it calls that)
        return None


def _tell(progress: Progress, counted: Any, shown: int) -> int:
    now = shown if counted is None else int(counted.value)
    if now > shown:
        progress.advance(now - shown)
    return now


def _columns(work: Work) -> StructType:
    """What comes out, in Spark's words, marked with what made it."""
    given = work.step.output_schema(pa.schema([]))
    plain = pa.schema([pa.field(each.name, _plain(each.type)) for each in given])
    first, *others = from_arrow_schema(plain).fields
    marks = {_MADE_BY: work.fingerprint, _KEY: work.key}
    return StructType([StructField(first.name, first.dataType, metadata=marks), *others])


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_type)
    return pa.binary() if pa.types.is_fixed_size_binary(kind) else kind


def _there(spark: SparkSession, to: str, work: Work) -> DataFrame | None:
    """What was written before; None where nothing is.

    Raises:
        InputError: it is of something else.
    """
    try:
        found = spark.read.parquet(to)
    except Exception as error:
        if "PATH_NOT_FOUND" in str(error) or "UNABLE_TO_INFER_SCHEMA" in str(error):
            return None
        reason = (str(error).splitlines() or ["?"])[0]
        raise InputError(f"--to {to} cannot be used: {reason}. Give a new or empty folder.") from error
    told = found.schema.fields[0].metadata if found.schema.fields else {}
    if told.get(_MADE_BY) != work.fingerprint:
        raise InputError(
            f"{to} was written by other steps or models, or by another engine. Give a new or empty folder."
        )
    if told.get(_KEY, work.key) != work.key:
        raise InputError(
            f"{to} holds pictures by their {told[_KEY]}, and this run has them by their {work.key}: fill a folder "
            "either from a lake or from sources. Give a new or empty folder."
        )
    return found


def _keys(there: DataFrame, key: str) -> IdSet:
    """The pictures that are there: their ids, or hashes of their URIs."""
    column = f.col(key) if key == "image_id" else f.sha2(f.col(key), 256)
    found = there.where(f.col(key).isNotNull()).select(column.alias(key)).distinct().toArrow()
    return IdSet(found.column(0).cast(pa.string()).chunks)


def _tally(there: DataFrame, key: str) -> Tally:
    """All that is in the files."""
    good = f.when(f.col("error").isNull(), f.col(key))
    row = there.agg(
        f.count_distinct(f.col(key)).alias("found"),
        f.count_distinct(good).alias("added"),
        f.count("region_id").alias("regions"),
        f.count(f.when(f.col("fallback") & f.col("region_id").isNotNull(), 1)).alias("fallbacks"),
        *(f.sum(f"{stage}_s").alias(stage) for stage in schema.STAGES),
    ).collect()[0]
    seconds = {stage: float(row[stage] or 0.0) for stage in schema.STAGES}
    counts = Counts(added=row["added"], rejected=row["found"] - row["added"])
    return Tally(counts, row["regions"], row["fallbacks"], seconds)


def _between(before: Tally, after: Tally) -> Tally:
    """What came since."""
    counts = Counts(
        added=after.counts.added - before.counts.added, rejected=after.counts.rejected - before.counts.rejected
    )
    seconds = {stage: spent - before.seconds.get(stage, 0.0) for stage, spent in after.seconds.items()}
    return Tally(counts, after.regions - before.regions, after.fallbacks - before.fallbacks, seconds)
