"""Take in pictures one by one from many threads: describe, make durable, answer, commit many at once.

A picture is decoded first, so that one that is none is refused at once and with its reason. It is answered for when it
is synced in the spool, together with all that came in the meantime; the tables get it within seconds, in one commit
with its neighbors. Who waits for what: `workers` threads describe, one writes the spool, one commits.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from imagelake import schema
from imagelake.errors import ImageError, ImagelakeError, LakeError
from imagelake.lake.tables import Tables, id_set
from imagelake.run.commits import CommitSize
from imagelake.run.intake_commit import Committer, DrainReport, Piece, drain_spool
from imagelake.run.intake_pictures import Asked, Job, Known, described, memory_of
from imagelake.run.intake_spool import Segment, Spool, spool_folder
from imagelake.run.local import worker_count
from imagelake.run.progress import Progress
from imagelake.steps.describe import Describe

_GROUP_BYTES = 8 << 20
_MAX_WAIT_S = 30.0
_SHARE = 4  # a commit may take one in five seconds: the larger the lake, the fewer the commits
_FRESH_IDS = 1 << 16
_TOGETHER = 7  # besides the first
_RETRY_S = (0.5, 5.0)


@dataclass(frozen=True)
class IntakeOptions:
    """How much is held, and when it is committed.

    Attributes:
        max_bytes: of memory for pictures on their way, from the first byte read until they are in the tables.
        max_unanswered: pictures that wait for their answer; more would only wait longer.
        commit: when a commit is worth it. It is put off while the one before is still going on.
        workers: threads that describe.
    """

    max_bytes: int = 256 << 20
    max_unanswered: int = 256
    commit: CommitSize = field(default_factory=lambda: CommitSize(max_bytes=32 << 20, max_rows=2048, max_seconds=2.0))
    workers: int = field(default_factory=worker_count)


def _started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name=f"imagelake{work.__name__}".replace("_", "-"))
    thread.start()
    return thread


class Intake:
    """What stands between those who send pictures and the tables.

    A class because it is threads, a lock on the spool and what is on its way. Made by `open_intake`.
    """

    def __init__(self, tables: Tables, spool: Spool, options: IntakeOptions) -> None:
        self._tables, self._spool, self._options = tables, spool, options
        self._known = Known(id_set(tables.images))
        self._lock = threading.Lock()  # guards the numbers
        self._reserved = self._unanswered = self._answered = self._known_count = self._rejected = self._uncommitted = 0
        self._trouble: ImagelakeError | None = None
        self._closing = threading.Event()
        self._committer_idle = threading.Event()
        self._committer_idle.set()
        self._last_commit_s = 0.0
        self._asked: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._segment: Segment | None = None
        self._held: list[Job] = []
        self._held_cost = 0
        self._held_since = 0.0
        self._describing = [_started(self._describe) for _ in range(options.workers)]
        self._keeping = [_started(self._write), _started(self._commit)]

    @property
    def retry_after_s(self) -> int:
        """After how many seconds asking again is worth it."""
        return max(1, round(self._options.commit.max_seconds))

    @property
    def trouble(self) -> ImagelakeError | None:
        """Why the tables cannot be written at present; None where they can. Nothing is lost meanwhile."""
        return self._trouble

    def counts(self) -> dict[str, int]:
        """What came in since the start: `received` = new and `known`, `rejected`; and what is on its way.

        `waiting` are pictures that wait for their answer or for the tables; `waiting_bytes` the memory reserved.
        """
        with self._lock:
            return {
                "received": self._answered,
                "known": self._known_count,
                "rejected": self._rejected,
                "waiting": self._unanswered + self._uncommitted,
                "waiting_bytes": self._reserved,
            }

    def cost(self, size: int) -> int:
        """The memory to reserve for a picture of `size` bytes."""
        return memory_of(size)

    def reserve(self, cost: int) -> bool:
        """Ask for memory before reading. False where there is not enough, or too many wait: then try again later."""
        with self._lock:
            if self._unanswered >= self._options.max_unanswered or self._reserved + cost > self._options.max_bytes:
                return False
            self._reserved += cost
            return True

    def release(self, cost: int) -> None:
        """Give memory back that was reserved and is not needed."""
        with self._lock:
            self._reserved -= cost

    def submit(self, data: bytes, about: Mapping[str, str | float]) -> Future[tuple[str, bool]]:
        """Take in a picture, for which `cost(len(data))` is reserved; the intake gives that back.

        Args:
            data: the bytes of an image file.
            about: what else is known, such as `captured_at`, `latitude`, `longitude` and `device`.

        Returns:
            In the future, when the picture is on the disk: its id, and whether the lake knew it. Or `ImageError` where
            it is no picture, `LakeFullError` or another `LakeError` where it could not be kept.
        """
        answer: Future[tuple[str, bool]] = Future()
        answer.set_running_or_notify_cancel()  # whoever waits may leave; the picture is taken in all the same
        with self._lock:
            self._unanswered += 1
        self._asked.put(Asked(data, about, answer))
        return answer

    # What follows runs in the threads that describe.

    def _describe(self) -> None:
        describe = Describe().open()
        while (first := self._asked.get()) is not None:
            some = [first]
            # Under pressure several at once, which spares the overhead of each; no thread is left without.
            for _ in range(min(_TOGETHER, self._asked.qsize() // self._options.workers)):
                with contextlib.suppress(queue.Empty):
                    if (more := self._asked.get_nowait()) is None:
                        self._asked.put(None)
                        break
                    some.append(more)
            try:
                jobs = described(some, self._known, describe)
            except BaseException as error:  # noqa: BLE001  (whoever waits is told)
                for each in some:
                    self._end(each.answer, self.cost(len(each.data)), error)
                continue
            for job in jobs:
                self._jobs.put(job)

    def _end(self, answer: Future[tuple[str, bool]], cost: int, error: BaseException) -> None:
        """Give up a picture that could not be kept."""
        with self._lock:
            self._unanswered -= 1
            self._reserved -= cost
        answer.set_exception(error)

    # What follows up to `_hand_over` runs in the thread that writes the spool.

    def _write(self) -> None:
        going = True
        while going:
            group, going = self._next_group()
            if group:
                self._keep(group)
            if self._held and (not going or self._is_due()):
                self._hand_over()
        self._pieces.put(None)

    def _next_group(self) -> tuple[list[Job], bool]:
        """All that came in, after waiting for the first or until a commit is due; and whether more will come."""
        group: list[Job] = []
        size = 0
        try:
            job = self._jobs.get(timeout=self._patience_s())
            while job is not None:
                group.append(job)
                size += len(job.picture.data)
                if size >= _GROUP_BYTES:
                    return group, True
                job = self._jobs.get_nowait()
        except queue.Empty:
            return group, True
        return group, False

    def _patience_s(self) -> float | None:
        if not self._held:
            return None
        if not self._committer_idle.is_set():
            return 0.05
        return max(0.0, self._held_since + self._commit_after_s() - time.monotonic())

    def _commit_after_s(self) -> float:
        return min(_MAX_WAIT_S, max(self._options.commit.max_seconds, _SHARE * self._last_commit_s))

    def _is_due(self) -> bool:
        if not self._committer_idle.is_set():
            return False
        size = self._options.commit
        return (
            time.monotonic() >= self._held_since + self._commit_after_s()
            or len(self._held) >= size.max_rows
            or self._held_cost >= size.max_bytes
        )

    def _keep(self, group: list[Job]) -> None:
        """Sync the pictures of a group and answer for them."""
        good = [job for job in group if job.error is None]
        try:
            if good:
                self._segment = self._segment or self._spool.segment()
                self._segment.append([job.picture for job in good])
        except Exception as error:  # noqa: BLE001  (whoever waits is told)
            for job in good:
                self._end(job.answer, job.cost, error)
            good = []
            self._leave_segment()
        kept = [job for job in group if job.error is not None] + good
        if kept and not self._held:
            self._held_since = time.monotonic()
        self._held += kept
        self._held_cost += sum(job.cost for job in kept)
        for job in kept:
            self._answer(job)

    def _leave_segment(self) -> None:
        """A file that failed once is not written again."""
        if self._held:
            self._hand_over()
        elif self._segment is not None:
            with contextlib.suppress(OSError):
                self._segment.remove()
            self._segment = None

    def _answer(self, job: Job) -> None:
        known = job.error is None and self._known.has(job.id)
        with self._lock:
            self._unanswered -= 1
            self._uncommitted += 1
            self._answered += job.error is None
            self._known_count += known
            self._rejected += job.error is not None
        if job.error is not None:
            job.answer.set_exception(ImageError(job.error))
            return
        self._known.pending.add(job.id)
        job.answer.set_result((job.id, known))

    def _hand_over(self) -> None:
        """Give what is held to the thread that commits, and begin a new segment."""
        self._committer_idle.clear()
        ids = frozenset(job.id for job in self._held if job.error is None)
        self._pieces.put(Piece([job.row for job in self._held], self._segment, self._held_cost, ids))
        self._held, self._held_cost, self._segment = [], 0, None

    # What follows runs in the thread that commits.

    def _commit(self) -> None:
        committer = Committer(self._tables)
        while (piece := self._pieces.get()) is not None:
            began = time.monotonic()
            if self._commit_patiently(committer, piece):
                self._forget(piece)
                self._care(committer)
                self._last_commit_s = time.monotonic() - began
            if self._pieces.empty():
                self._committer_idle.set()
        if self._trouble is None:
            self._tell(committer.close)

    def _care(self, committer: Committer) -> None:
        """What may fail without harm: it is done again after a later commit, and a fault that lasts stops those too."""
        with contextlib.suppress(Exception):
            committer.care()
            if len(self._known.fresh) > _FRESH_IDS:
                self._known.base = id_set(self._tables.images)
                self._known.fresh = set()

    def _commit_patiently(self, committer: Committer, piece: Piece) -> bool:
        """Commit, again and again while that fails. False where the intake closes: the piece stays in the spool."""
        pause_s, most_s = _RETRY_S
        while not self._tell(lambda: committer.commit(piece)):
            if self._closing.wait(pause_s):
                if piece.segment is not None:
                    piece.segment.close()
                return False
            pause_s = min(most_s, pause_s * 2)
        return True

    def _tell(self, work: Callable[[], None]) -> bool:
        """Do some work, and say why it failed where it does."""
        try:
            work()
        except ImagelakeError as error:
            self._trouble = error
        except Exception as error:  # noqa: BLE001  (the pictures stay in the spool, and a person is told)
            self._trouble = LakeError(f"{self._tables.root}: {type(error).__name__}: {error}")
        else:
            self._trouble = None
            return True
        return False

    def _forget(self, piece: Piece) -> None:
        self._known.fresh |= piece.ids
        self._known.pending.difference_update(piece.ids)
        with self._lock:
            self._uncommitted -= len(piece.rows)
            self._reserved -= piece.cost

    def close(self) -> int:
        """Finish what was accepted: answer, commit, let the spool go. Nothing may be submitted any more.

        Returns:
            How many pictures wait in the spool for the next start, because the tables could not be written.
        """
        for _ in self._describing:
            self._asked.put(None)
        for thread in self._describing:
            thread.join()
        self._closing.set()
        self._jobs.put(None)
        for thread in self._keeping:
            thread.join()
        self._spool.close()
        return self._uncommitted


def open_intake(
    tables: Tables,
    options: IntakeOptions | None = None,
    spool: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[Intake, DrainReport | None]:
    """Drain what an earlier intake left, and open a new one; close it.

    Args:
        tables: the lake.
        options: how much is held, and when it is committed.
        spool: the folder of the spool; by default `incoming` in the lake's own folder.
        progress: told how far the drain is.

    Raises:
        InputError: the lake is in a bucket, and no folder for the spool was given.
        LakeError: another process receives pictures into this lake, or it cannot be written.
    """
    held = Spool(spool_folder(tables.root, spool))
    try:
        tables.images.add_columns(schema.IMAGES)
        tables.receipts.add_columns(schema.RECEIPTS)
        drained = drain_spool(tables, held, progress)
        return Intake(tables, held, options or IntakeOptions()), drained
    except BaseException:
        held.close()
        raise
