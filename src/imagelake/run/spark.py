"""The engine `spark`: the same step on the workers of a Spark cluster, and one driver that commits.

The driver looks at ids and sizes alone and cuts the work into pieces. Workers read the pictures of a piece from the
lake, apply the step, write rows beside the tables and leave a receipt. The driver commits what has a receipt, in waves,
while the job runs. A piece that is done twice (retried, speculative, on a worker that was cut off) has one receipt.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from imagelake import schema
from imagelake._optional import need
from imagelake.errors import LakeError
from imagelake.lake.tables import Tables
from imagelake.run.extract import ExtractReport, count_waiting, report_of
from imagelake.run.outcome import Tally
from imagelake.run.piece_work import Work
from imagelake.run.pieces import Piece, PieceSize, lake_pieces
from imagelake.run.pipeline_options import SparkOptions
from imagelake.run.progress import Progress, Silent
from imagelake.run.receipts import Counts, RunOf, new_run
from imagelake.run.waves import Committer, left_behind, marks_of, suspects_of
from imagelake.steps.pipeline import Pipeline

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

need("spark", "pyspark")
need("spark", "pandas")  # mapInArrow asks whether it is installed; no data of ours goes through it

from imagelake.run import spark_tasks  # noqa: E402
from imagelake.run.spark_jobs import Job, in_jobs, make_work, tasks_of  # noqa: E402
from imagelake.run.spark_session import session_for, slots_of  # noqa: E402
from imagelake.run.spark_to import extract_spark_to  # noqa: E402

__all__ = ["extract_spark", "extract_spark_to", "run_on_spark"]

PIECES_A_JOB = 4096  # bounds what the driver holds
_ATTEMPTS = 3
_POLL_S = 0.5


def extract_spark(
    tables: Tables,
    pipeline: Pipeline,
    options: SparkOptions | None = None,
    progress: Progress | None = None,
    *,
    spark: SparkSession | None = None,
) -> ExtractReport:
    """Do on Spark what `run.extract` does here: the same rows, the same receipts, and each engine goes on where the
    other was stopped.

    Args:
        tables: the lake, at an address that every worker reaches under the same name.
        pipeline: what is done with each picture.
        options: how to reach Spark, where no session is given and none is active.
        progress: told how far it is.
        spark: the session to use; it is left running.

    Raises:
        InputError: Spark cannot be reached as asked.
        LakeError: the lake cannot be written.
    """
    options, progress = options or SparkOptions(), progress or Silent()
    with session_for(spark, options.master, options.conf, progress) as session:
        run, began = new_run("spark"), time.monotonic()
        work = make_work(session, pipeline, tables.root, run)
        total = run_on_spark(session, tables, work, pipeline.subject, run, progress)
    return report_of(pipeline, run, total, time.monotonic() - began)


def run_on_spark(
    spark: SparkSession, tables: Tables, work: Work, subject: str, run: RunOf, progress: Progress
) -> Tally:
    """Do some work with all images that wait for it, and commit it.

    Returns:
        What it came to, with the pictures that were done before as known.
    """
    outcome = work.outcome
    targets = outcome.prepare(tables)
    work = replace(work, targets=tuple((name, table.uri) for name, table in targets.items()))
    tables.receipts.add_columns(schema.RECEIPTS)  # an older version made the lake
    left = left_behind(tables.root, work.fingerprint)
    committer = Committer(tables, targets, subject, work.fingerprint, run)
    try:
        adopted = Tally()
        for staging, receipts in left:
            adopted += committer.adopt(receipts)
            staging.remove()
        committer.marks = marks_of(targets)
        done = outcome.done(tables)
        committer.suspects = suspects_of(targets, done, outcome)
        known, waiting = count_waiting(tables.images, done)
        if waiting:
            progress.start("extract", waiting)
            slots = slots_of(spark)
            size = PieceSize().for_slots(waiting, slots)
            for part in in_jobs(lake_pieces(tables, done, work.fingerprint, size), PIECES_A_JOB):
                _do(spark, work, part, committer, slots, progress)
            committer.tidy()
        return _before(adopted, known) + committer.total
    finally:
        committer.close()


def _before(adopted: Tally, known: int) -> Tally:
    """What was done before this run planned: by others, or by a run that died and left it to this one."""
    added = min(adopted.counts.added, known)
    return Tally(Counts(added=added, known=known - added), adopted.regions, adopted.fallbacks, adopted.seconds)


def _do(
    spark: SparkSession, work: Work, pieces: Sequence[Piece], committer: Committer, slots: int, progress: Progress
) -> None:
    """Do some pieces, again where what a worker staged was cleaned away before it was committed."""
    left = list(pieces)
    for _ in range(_ATTEMPTS):
        _run_job(spark, work, tasks_of(left, slots), committer, progress)
        left = [piece for piece in left if piece.name not in committer.done]
        if not left:
            return
    raise LakeError(f"{len(left)} pieces of work leave no rows behind: what workers write to {work.root} disappears.")


def _run_job(
    spark: SparkSession, work: Work, tasks: list[list[Piece]], committer: Committer, progress: Progress
) -> None:
    job = Job(spark, _frame(spark, work, tasks).collect)
    try:
        while job.runs(_POLL_S):
            _look(committer, progress)
            if committer.due:
                committer.commit()
    except BaseException:
        job.cancel()
        raise
    finally:
        _look(committer, progress)
        committer.commit()
    job.raise_what_failed()


def _look(committer: Committer, progress: Progress) -> None:
    for receipt in committer.look():
        progress.advance(receipt.tally.counts.found)
        progress.reject(receipt.tally.counts.rejected)


def _frame(spark: SparkSession, work: Work, tasks: list[list[Piece]]) -> DataFrame:
    """One partition a task; all that travels is its number, and the pieces with the function."""

    def run(numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return spark_tasks.do_tasks(work, tasks, numbers)

    return spark.range(0, len(tasks), 1, len(tasks)).mapInArrow(run, spark_tasks.DONE)
