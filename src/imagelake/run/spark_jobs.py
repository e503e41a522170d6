"""What jobs on Spark have in common: what travels, how pieces become tasks, a job beside the driver's own work."""

from __future__ import annotations

import itertools
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence

from pyspark.sql import SparkSession

from imagelake import errors
from imagelake.errors import ImagelakeError
from imagelake.run.outcome import Outcome
from imagelake.run.piece_work import Work
from imagelake.run.pieces import Piece
from imagelake.run.receipts import RunOf
from imagelake.run.spark_session import is_on_this_machine, send_folders
from imagelake.steps.extract import ExtractPictures
from imagelake.steps.pipeline import Pipeline

_PIECES_A_TASK = 4
_OURS = re.compile(r"imagelake\.errors\.(\w+): (.*)")


def make_work(spark: SparkSession, pipeline: Pipeline, root: str, run: RunOf, key: str = "image_id") -> Work:
    """What travels to the workers; models that lie as files here are sent."""
    travel = bool(pipeline.model_folders()) and not is_on_this_machine(spark)
    if travel:
        send_folders(spark, pipeline.model_folders())
    return Work(root, run.id, pipeline.result_fingerprint, ExtractPictures(pipeline), Outcome(pipeline), travel, key)


def in_jobs(pieces: Iterable[Piece], most: int) -> Iterator[list[Piece]]:
    """So many pieces at a time."""
    more = iter(pieces)
    while part := list(itertools.islice(more, most)):
        yield part


def tasks_of(pieces: Sequence[Piece], slots: int) -> list[list[Piece]]:
    """Several pieces a task where there are many: a task costs something to start, and a piece is redone alone."""
    each = max(1, min(_PIECES_A_TASK, len(pieces) // (8 * slots)))
    return [list(pieces[start : start + each]) for start in range(0, len(pieces), each)]


class Job:
    """A Spark job in a thread of its own, so that the driver can commit meanwhile. A class because it is a thread."""

    def __init__(self, spark: SparkSession, action: Callable[[], object]) -> None:
        self._spark, self._action, self._tag = spark, action, f"imagelake-{uuid.uuid4().hex}"
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="imagelake-spark", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._spark.addTag(self._tag)
            self._action()
        except BaseException as error:  # noqa: BLE001  (it is raised again in the caller's thread)
            self._failed = error

    def runs(self, wait_s: float) -> bool:
        """Whether it still runs, after waiting a little for its end."""
        self._thread.join(wait_s)
        return self._thread.is_alive()

    def cancel(self) -> None:
        """Stop it."""
        self._spark.interruptTag(self._tag)
        self._thread.join(10.0)

    def raise_what_failed(self) -> None:
        """Raise what ended it; an error of ours on a worker as that error."""
        if self._failed is None:
            return
        found = _OURS.findall(str(self._failed))
        if found:
            name, reason = found[-1]
            kind = getattr(errors, name, ImagelakeError)
            raise kind(reason) from self._failed
        raise self._failed
