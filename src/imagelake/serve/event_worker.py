"""From waiting events to predictions in the lake: fetch, look, infer, commit many at once, then mark them done.

An event is marked done only when the disk has its row. Killed in between, it is done again, and the row, whose id
follows from the event and the model, is there already.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from imagelake.errors import ImageError, ImagelakeError, InputError, LakeError, TooLargeError
from imagelake.serve.event_objects import shown, shown_reason
from imagelake.serve.event_states import Claimed
from imagelake.serve.event_store import Journal
from imagelake.serve.event_upload import UploadEvent
from imagelake.serve.object_file import ObjectError
from imagelake.serve.predictions import Predictor, Seen, look, prediction_row

_LOG = logging.getLogger("imagelake.serve.events")
_POLL_S = 1.0  # another process may have replayed
_RETRY_S = (0.5, 10.0)
_FORGET_S = 3600.0
_AHEAD = 4  # events that are claimed for each thread
_UNCOMMITTED = 4  # commits' worth of rows that may wait while the lake cannot be written

Keep = Callable[[bytes, UploadEvent, Seen], None]
"""Puts a picture into the lake too; when it returns, the picture is on the disk."""


class Reader(Protocol):
    """Gives the bytes of an event's object."""

    def fetch(self, event: UploadEvent) -> bytes:
        """The bytes.

        Raises:
            ObjectError: they cannot be had.
        """


class Writer(Protocol):
    """Takes rows of predictions."""

    def write(self, rows: Sequence[dict[str, Any]]) -> int:
        """Durable when it returns; a row whose id is there already is left out.

        Raises:
            LakeError: write them again.
        """


@dataclass(frozen=True)
class WorkOptions:
    """How much at a time.

    Attributes:
        workers: threads that fetch and infer.
        commit_s: after how many seconds a row is committed, with those that came meanwhile.
        commit_rows: how many rows are worth a commit.
        remember_s: for how long an event that is done is known, when it is delivered again.
    """

    workers: int = 4
    commit_s: float = 2.0
    commit_rows: int = 1000
    remember_s: float = 30 * 86_400.0

    def __post_init__(self) -> None:
        if self.workers < 1 or self.commit_rows < 1 or self.commit_s <= 0 or self.remember_s <= 0:
            raise InputError(f"{self} makes no sense: each number must be above 0.")


class EventWorker:
    """Threads that work on the events of a journal.

    A class because it is threads and what is on its way. `start` and `close` it; the journal is closed by its owner.
    """

    def __init__(
        self,
        journal: Journal,
        reader: Reader,
        predictor: Predictor,
        writer: Writer,
        options: WorkOptions | None = None,
        keep: Keep | None = None,
    ) -> None:
        self._journal, self._reader, self._predictor, self._writer = journal, reader, predictor, writer
        self._options = options or WorkOptions()
        self._keep = keep
        self._troubles: dict[str, ImagelakeError] = {}  # by what cannot be written
        self._closing = threading.Event()
        self._news = threading.Condition()
        self._hinted = False
        self._at_work = 0  # claimed, and neither failed nor a row yet
        self._jobs: queue.SimpleQueue[Claimed | None] = queue.SimpleQueue()
        self._rows: queue.SimpleQueue[tuple[UploadEvent, dict[str, Any]] | None] = queue.SimpleQueue()
        self._forget_at = 0.0
        name = "imagelake-events"
        self._dispatching = threading.Thread(target=self._dispatch, name=f"{name}-dispatch")
        self._working = [
            threading.Thread(target=self._work, name=f"{name}-work-{number}") for number in range(self._options.workers)
        ]
        self._committing = threading.Thread(target=self._commit, name=f"{name}-commit")

    @property
    def trouble(self) -> ImagelakeError | None:
        """Why the lake or the journal cannot be written at present; None where they can. Nothing is lost meanwhile."""
        return next(iter(list(self._troubles.values())), None)

    def start(self) -> None:
        """Begin, with what waits since before."""
        for thread in (self._dispatching, *self._working, self._committing):
            thread.start()

    def wake(self) -> None:
        """There are new events."""
        with self._news:
            self._hinted = True
            self._news.notify_all()

    def close(self) -> None:
        """Finish what is being worked on, commit it, and end the threads. What waits, waits for the next start."""
        self._closing.set()
        self.wake()
        self._dispatching.join()
        self._give_back()
        for _ in self._working:
            self._jobs.put(None)
        for thread in self._working:
            thread.join()
        self._rows.put(None)
        self._committing.join()

    def _give_back(self) -> None:
        left = []
        while True:
            try:
                claimed = self._jobs.get_nowait()
            except queue.Empty:
                break
            if claimed is not None:
                left.append(claimed.event)
        self._try("journal", lambda: self._journal.release(left))

    # What follows runs in the thread that hands out events.

    def _dispatch(self) -> None:
        while not self._closing.is_set():
            pause_s: float | None = None
            if not self._try("journal", self._hand_out):
                pause_s = _POLL_S
            with self._news:
                if self._hinted and pause_s is None:
                    self._hinted = False
                    continue
                self._news.wait(pause_s or self._pause_s())
                self._hinted = False

    def _pause_s(self) -> float:
        if not self._room():
            return _POLL_S
        try:
            due_s = self._journal.next_due_s()
        except ImagelakeError:
            return _POLL_S
        return _POLL_S if due_s is None else min(_POLL_S, max(due_s, 0.001))

    def _room(self) -> int:
        if self._rows.qsize() >= _UNCOMMITTED * self._options.commit_rows:
            return 0
        return max(0, _AHEAD * self._options.workers - self._at_work)

    def _hand_out(self) -> None:
        if time.monotonic() >= self._forget_at:
            self._journal.forget(self._options.remember_s)
            self._forget_at = time.monotonic() + _FORGET_S
        room = self._room()
        if not room or self._journal.next_due_s() != 0:
            return
        for claimed in self._journal.claim(room):
            with self._news:
                self._at_work += 1
            self._jobs.put(claimed)

    # What follows runs in the threads that work.

    def _work(self) -> None:
        while (claimed := self._jobs.get()) is not None:
            try:
                self._process(claimed)
            finally:
                with self._news:
                    self._at_work -= 1
                    self._hinted = True
                    self._news.notify_all()

    def _process(self, claimed: Claimed) -> None:
        event = claimed.event
        try:
            if self._journal.is_overtaken(event):
                self._settle(lambda: self._journal.ignore(event, "a newer event of the same object is done already"))
                return
            data = self._reader.fetch(event)
            seen = look(data)
            prediction = self._predictor.predict(data)
            if self._keep is not None:
                self._keep(data, event, seen)
            self._rows.put((event, prediction_row(event, seen, prediction)))
        except (ImageError, InputError, TooLargeError) as error:
            self._fail(claimed, str(error), lasting=True)  # perhaps it is still being written
        except ObjectError as error:
            self._fail(claimed, str(error), again=error.again, lasting=error.lasting)
        except ImagelakeError as error:
            self._fail(claimed, str(error))
        except Exception as error:  # noqa: BLE001  (a fault of ours in one event must not stop the others)
            _LOG.exception("event %s failed", event.key)
            self._fail(claimed, f"{type(error).__name__}, a fault of imagelake; its log says more")

    def _fail(self, claimed: Claimed, reason: str, *, again: bool = True, lasting: bool = False) -> None:
        if again and self._closing.is_set():  # it may have failed because of that
            self._settle(lambda: self._journal.release([claimed.event]))
            return
        self._settle(lambda: self._count_failure(claimed, shown_reason(reason), again=again, lasting=lasting))

    def _count_failure(self, claimed: Claimed, reason: str, *, again: bool, lasting: bool) -> None:
        if self._journal.fail(claimed, reason, again=again, lasting=lasting):
            _LOG.warning("%s: given up after %d attempts: %s", shown(claimed.event.uri), claimed.attempt, reason)

    def _settle(self, work: Callable[[], None], what: str = "journal") -> bool:
        """Write, again and again while that fails, until the end; whether it is written."""
        pause_s, most_s = _RETRY_S
        while not (is_written := self._try(what, work)) and not self._closing.wait(pause_s):
            pause_s = min(most_s, pause_s * 2)
        return is_written

    def _try(self, what: str, work: Callable[[], None]) -> bool:
        """Do some work, and say why it failed where it does."""
        try:
            work()
        except ImagelakeError as error:
            self._troubles[what] = error
        except Exception as error:  # noqa: BLE001  (the events stay in the journal, and a person is told)
            _LOG.exception("events cannot be worked on")
            self._troubles[what] = LakeError(f"{type(error).__name__}: {error}")
        else:
            self._troubles.pop(what, None)
            return True
        return False

    # What follows runs in the thread that commits.

    def _commit(self) -> None:
        going = True
        while going:
            group, going = self._next_group()
            if group:
                self._commit_patiently(group)

    def _next_group(self) -> tuple[list[tuple[UploadEvent, dict[str, Any]]], bool]:
        """Rows for one commit, after waiting for the first and its neighbors; and whether more will come."""
        group: list[tuple[UploadEvent, dict[str, Any]]] = []
        until = None
        while len(group) < self._options.commit_rows:
            left_s = None if until is None else until - time.monotonic()
            if self._closing.is_set() and group:
                left_s = 0.0
            try:
                each = self._rows.get(timeout=None if left_s is None else max(left_s, 0.001))
            except queue.Empty:
                break
            if each is None:
                return group, False
            group.append(each)
            until = until or time.monotonic() + self._options.commit_s
        return group, True

    def _commit_patiently(self, group: list[tuple[UploadEvent, dict[str, Any]]]) -> None:
        def work() -> None:
            self._writer.write([row for _, row in group])
            self._journal.finish([event for event, _ in group])

        if not self._settle(work, "lake"):  # they were not tried in vain for a reason of theirs
            self._try("journal", lambda: self._journal.release([event for event, _ in group]))
