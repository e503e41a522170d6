"""Threads for what a request must wait for: the lake, and pictures of the web."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.types import Receive

from imagelake.errors import BusyError, TimeLimitError
from imagelake.serve.waiting import answer_of

_T = TypeVar("_T")


@dataclass(eq=False)
class _Job:
    caller: str
    function: Callable[[], Any]
    future: Future[Any]


class Threads:
    """Some threads, a bounded queue before them, and a deadline. A class, since it owns threads.

    Callers take turns: whoever asks for much waits for its own, and not everybody with it.

    Args:
        count: how many threads.
        most: how much may be at work and wait; more is refused at once.
        what: they do, in words.
        each: how many threads one caller has at once at most, and a share of what waits that leaves room for others;
            None: all.
    """

    def __init__(self, count: int, most: int, what: str, each: int | None = None) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=f"imagelake-{what.replace(' ', '-')}")
        self._most = most
        self._what = what
        self._each = count if each is None else each
        self._most_each = most if each is None else most - most // 4
        self._lock = threading.RLock()  # a job that is cancelled is given back by whoever holds it
        self._taken = 0
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()  # the caller whose turn it is comes first
        self._at_work: dict[str, int] = {}

    def check_room(self) -> None:
        """Refuse now what would be refused later.

        Raises:
            BusyError: too much waits already.
        """
        if self._taken >= self._most:
            raise BusyError(f"Too many requests wait for {self._what} already. Send it again later.")

    async def run(self, function: Callable[[], _T], receive: Receive, timeout_s: float, caller: str = "") -> _T:
        """What a function gives, while the caller waits.

        Args:
            function: called in a thread, unless the caller goes away or the time is over before.
            receive: of the request.
            timeout_s: for all of it.
            caller: who asks.

        Raises:
            BusyError: too much waits already.
            TimeLimitError: it takes too long.
            ClientDisconnect: the caller went away.
        """
        future: Future[_T] = Future()
        job = _Job(caller, function, future)
        with self._lock:
            self.check_room()
            if len(self._waiting.get(caller, ())) + self._at_work.get(caller, 0) >= self._most_each:
                raise BusyError(f"Too many requests of yours wait for {self._what} already. Send it again later.")
            self._taken += 1
            self._waiting.setdefault(caller, deque()).append(job)
        future.add_done_callback(lambda _: self._give_back(job))
        self._pool.submit(self._work)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer_of(future, receive)
        except TimeLimitError:
            raise
        except TimeoutError:
            raise TimeLimitError(f"The answer was not ready within {timeout_s:g} s. Ask for less at once.") from None

    def _work(self) -> None:
        """Do what waits, as long as there is something whose caller may have one more thread."""
        while (job := self._next()) is not None:
            try:
                if job.future.set_running_or_notify_cancel():
                    self._do(job)
            finally:
                with self._lock:
                    self._at_work[job.caller] -= 1
                    if not self._at_work[job.caller]:
                        del self._at_work[job.caller]

    def _do(self, job: _Job) -> None:
        try:
            job.future.set_result(job.function())
        except BaseException as error:  # noqa: BLE001  (it is raised where somebody waits for it)
            job.future.set_exception(error)

    def _next(self) -> _Job | None:
        with self._lock:
            free = (each for each in self._waiting if self._at_work.get(each, 0) < self._each)
            caller = next(free, None)
            if caller is None:
                return None
            jobs = self._waiting[caller]
            job = jobs.popleft()
            self._waiting.move_to_end(caller)
            if not jobs:
                del self._waiting[caller]
            self._at_work[caller] = self._at_work.get(caller, 0) + 1
            return job

    def _give_back(self, job: _Job) -> None:
        with self._lock:
            self._taken -= 1
            jobs = self._waiting.get(job.caller)
            if jobs is not None and job in jobs:  # it was cancelled before it began
                jobs.remove(job)
                if not jobs:
                    del self._waiting[job.caller]
