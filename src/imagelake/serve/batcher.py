"""The queue before one model, and the threads that run it over what waits."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from imagelake.errors import BusyError, ModelError, TimeLimitError
from imagelake.serve.batch_options import BatchOptions
from imagelake.serve.observer import Observer
from imagelake.serve.request import Request
from imagelake.serve.response_cache import CachedRows
from imagelake.serve.served_model import Answer, ServedModel
from imagelake.serve.statistics import Outcome, StatisticsKeeper
from imagelake.serve.tensor_info import Tensors

_log = logging.getLogger(__name__)


class Retired(Exception):  # noqa: N818  (no error: whoever meets it asks for the next one)
    """This batcher takes no more; another stands in its place."""


class Batcher:
    """Threads that take requests from a queue and run the model over as many as fit in one call.

    A class, since it owns threads. `retire` lets it finish what waits; the last thread to end closes the model.
    """

    def __init__(self, model: ServedModel, options: BatchOptions, observer: Observer, keeper: StatisticsKeeper) -> None:
        """Start the threads.

        Args:
            model: what runs; closed at the end.
            options: settled for the model.
            observer: told of requests and runs.
            keeper: counts them.
        """
        self.model, self.options, self.keeper = model, options, keeper
        self._observer = observer
        self._changed = threading.Condition()
        self._queue: deque[Request] = deque()
        self._idle = self._running = 0
        self._retired = False
        self._on_end: Callable[[], None] = model.close
        self._cached = CachedRows(model, options.cache_bytes, keeper.cached) if _caches(options) else None
        self._threads = [
            threading.Thread(target=self._work, name=f"imagelake-{model.name}-{number}", daemon=True)
            for number in range(options.instances or 1)
        ]
        self._alive = len(self._threads)
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    @property
    def has_room(self) -> bool:
        """Whether one more may wait."""
        return len(self._queue) < self.options.max_queue

    def put(self, request: Request) -> None:
        """Let a request wait for its turn.

        Raises:
            BusyError: too many wait.
            Retired: it takes no more.
        """
        with self._changed:
            if self._retired:
                raise Retired
            if not self.has_room:
                raise BusyError(
                    f"{len(self._queue)} requests wait for {self.model.name} already, as many as may; try again later"
                )
            self._queue.append(request)
            self._changed.notify()
            self._tell_depth()
        request.add_done_callback(self._finished)

    def count(self, request: Request) -> None:
        """Count a request that was answered without waiting."""
        request.add_done_callback(self._finished)

    def refused(self, error: Exception, protocol: str, seconds: float) -> None:
        """Count a request that was refused before it waited."""
        outcome: Outcome = "bad_input"
        if isinstance(error, (BusyError, TimeLimitError)):
            outcome = "busy" if isinstance(error, BusyError) else "timeout"
        self.keeper.finished(outcome, seconds)
        self._observer.finished(self.model.name, self.model.version, protocol, outcome, seconds)

    def retire(self, *, close_model: bool = True) -> None:
        """Take no more, finish what waits, then close the model."""
        with self._changed:
            if not close_model:
                self._on_end = _do_nothing
            self._retired = True
            self._changed.notify_all()

    def fail_waiting(self, reason: str) -> None:
        """End what waits without running it."""
        with self._changed:
            waiting = list(self._queue)
        for request in waiting:
            request.fail(BusyError(reason))

    def wait_until_idle(self, deadline: float) -> bool:
        """Wait until nothing waits and nothing runs; False if it is not so at the deadline, of `time.monotonic()`."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._queue and not self._running, max(deadline - time.monotonic(), 0)
            )

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the threads have ended."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(None if until is None else max(until - time.monotonic(), 0))

    def _finished(self, future: Future[Answer]) -> None:
        """What follows the end of a request, whichever way it ended; runs once for each."""
        assert isinstance(future, Request)  # noqa: S101  (for the type checker)
        outcome = future.outcome()
        future.ended = time.monotonic()
        with self._changed:
            if future in self._queue:
                self._queue.remove(future)
                future.inputs = {}  # of those that were taken the thread that runs them drops them
                self._tell_depth()
                if not self._queue:
                    self._changed.notify_all()  # of those that wait until it is empty
        seconds = future.ended - future.came
        self.keeper.finished(outcome, seconds)
        self._observer.finished(self.model.name, self.model.version, future.protocol, outcome, seconds)

    def _work(self) -> None:
        """One thread: take what can be run together, run it, until retired and empty."""
        try:
            while True:
                batch = self._take()
                if batch is None:
                    break
                try:
                    self._run(batch)
                except BaseException as error:  # noqa: BLE001  (a thread that ended would leave callers waiting)
                    _log.exception("a batch of %s failed beside its model", self.model.name)
                    for request in batch:
                        request.fail(error)
                finally:
                    for request in batch:
                        request.inputs = {}
                    del batch, request  # nothing is held while the thread waits
                    with self._changed:
                        self._running -= 1
                        if not self._running and not self._queue:
                            self._changed.notify_all()
        finally:
            self._end()

    def _end(self) -> None:
        with self._changed:
            self._alive -= 1
            last = self._alive == 0
        if last:
            try:
                self._on_end()
            except Exception:  # noqa: BLE001  (whatever it raises, its callers have their answers)
                _log.exception("closing %s failed", self.model.name)

    def _take(self) -> list[Request] | None:
        """Wait for requests of one group and take them out; None when there will be none any more."""
        with self._changed:
            while True:
                if not self._queue:
                    if self._retired:
                        return None
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                    continue
                batch, wait_s = self._gather()
                if wait_s > 0:
                    self._changed.wait(wait_s)
                    continue
                for request in batch:
                    self._queue.remove(request)
                self._running += 1
                self._tell_depth()
                if self._queue:
                    self._changed.notify()
                return batch

    def _tell_depth(self) -> None:
        """Under the lock, so that the last word is the right one."""
        self._observer.depth(self.model.name, len(self._queue))

    def _gather(self) -> tuple[list[Request], float]:
        """The requests that go with the oldest, and how many seconds to wait for more, 0 for none."""
        first, most = self._queue[0], self.options.max_batch or 0
        if first.rows is None or not most or first.rows >= most:
            return [first], 0.0
        mates = [each for each in self._queue if each.rows is not None and each.group == first.group]
        rows = sum(each.rows or 0 for each in mates)
        target = next((size for size in reversed(self.options.preferred) if size <= rows), None)
        if self.options.max_delay_s and not self._retired and rows < most and target is None:
            wait_s = first.came + self.options.max_delay_s - time.monotonic()
            if wait_s > 0:
                return [first], wait_s
        limit = target or most
        if target is None and not self.options.max_delay_s:
            limit = min(most, -(-rows // (self._idle + 1)))  # threads that have nothing to do take their share
        limit = max(limit, first.rows)
        batch, taken = [], 0
        for each in mates:
            if taken + (each.rows or 0) <= limit:
                batch.append(each)
                taken += each.rows or 0
        return batch, 0.0

    def _run(self, batch: list[Request]) -> None:
        """Answer each request of a batch; where they fail together, each gets what it alone deserves."""
        now = time.monotonic()
        batch = [request for request in batch if request.still_wanted(now)]
        if not batch:
            return
        queue_s = [now - request.came for request in batch]
        for request in batch:
            request.taken = now
        self.keeper.waited(queue_s)
        if len(batch) > 1:
            try:
                self._run_together(batch, queue_s)
            except Exception:  # noqa: BLE001  (each is run alone below and gets its own error)
                _log.debug("a batch of %s failed and is run one by one", self.model.name, exc_info=True)
            else:
                return
        for request, waited_s in zip(batch, queue_s, strict=True):
            if request.still_wanted(time.monotonic()):
                self._run_alone(request, waited_s)

    def _run_alone(self, request: Request, waited_s: float) -> None:
        try:
            self._run_together([request], [waited_s])
        except BaseException as error:  # noqa: BLE001  (whatever a model raises belongs to its caller)
            traceback.clear_frames(error.__traceback__)  # which hold the arrays
            request.fail(error)
        finally:
            del request  # an error that holds this frame must not hold what holds the error

    def _run_together(self, batch: list[Request], queue_s: list[float]) -> None:
        start = time.perf_counter()
        inputs = _join([request.inputs for request in batch])
        joined_s = time.perf_counter() - start
        runs: list[tuple[int, float]] = []
        try:
            pieces: list[Answer] = []
            for piece, rows in self._pieces(inputs, batch):
                if pieces and not batch[0].still_wanted(time.monotonic()):  # only one request alone has many pieces
                    return
                pieces.append(self._call(piece, batch[0].outputs, rows, runs))
        finally:
            for number, (rows, seconds) in enumerate(runs):
                self._observer.batch(self.model.name, rows, [] if number else queue_s, seconds)
        start = time.perf_counter()
        answers = _split(_join(pieces), batch)
        self.keeper.ran(runs, len(batch), (joined_s, time.perf_counter() - start))
        for request, answer in zip(batch, answers, strict=True):
            request.answer(answer)

    def _pieces(self, inputs: Tensors, batch: list[Request]) -> list[tuple[Tensors, int | None]]:
        """What one call of the model takes, with its rows: all, unless one request has more than fit."""
        if batch[0].rows is None:
            return [(inputs, None)]
        rows, most = sum(request.rows or 0 for request in batch), self.options.max_batch
        if not most or rows <= most:
            return [(inputs, rows)]
        return [
            ({name: array[start : start + most] for name, array in inputs.items()}, min(most, rows - start))
            for start in range(0, rows, most)
        ]

    def _call(
        self, inputs: Tensors, outputs: tuple[str, ...], rows: int | None, runs: list[tuple[int, float]]
    ) -> Answer:
        """Ask the cache, or the model, and note the run."""
        start = time.perf_counter()
        if self._cached is None:
            given, computed = self.model.run(inputs, outputs), 1 if rows is None else rows
        else:
            given, computed = self._cached.run(inputs, outputs)
        answer = _check_answer(self.model, given, outputs, rows)
        runs.append((1 if rows is None else rows, time.perf_counter() - start))
        self.keeper.computed(computed)
        return answer


def _join(parts: Sequence[Tensors]) -> Answer:
    """Arrays of the same names, one below the other; those of one part as they are."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _split(outputs: Answer, batch: list[Request]) -> list[Answer]:
    """Each request's rows, as views."""
    if len(batch) == 1:
        return [outputs]
    answers, start = [], 0
    for request in batch:
        stop = start + (request.rows or 0)
        answers.append({name: array[start:stop] for name, array in outputs.items()})
        start = stop
    return answers


def _check_answer(model: ServedModel, given: Answer, outputs: tuple[str, ...], rows: int | None) -> Answer:
    """Refuse an answer that would be taken apart wrong."""
    for name in outputs:
        array = given.get(name)
        if array is None or (rows is not None and (array.ndim == 0 or len(array) != rows)):
            told = "nothing" if array is None else f"the shape {list(array.shape)}"
            raise ModelError(f"{model.name} gave {told} as {name} for {rows or 1} rows; it is served wrong")
    return {name: given[name] for name in outputs}


def _caches(options: BatchOptions) -> bool:
    return bool(options.cache_bytes and options.max_batch)


def _do_nothing() -> None:
    """Leave the model open."""
