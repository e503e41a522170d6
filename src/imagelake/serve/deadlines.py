"""One thread that ends requests whose time is over, asleep until the next may be."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import weakref
from concurrent.futures import Future, InvalidStateError
from typing import Any

from imagelake.errors import TimeLimitError

_SLACK = 1024
_LONGEST_S = 3600.0


class Deadlines:
    """Futures with the moment at which they fail unless they are done by then.

    Holds nothing alive: a future that is done and dropped is gone, whatever its deadline was.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: list[tuple[float, int, weakref.ref[Future[Any]]]] = []
        self._numbers = itertools.count()
        self._room = _SLACK
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, future: Future[Any], deadline: float) -> None:
        """Let a future fail with `TimeLimitError` once `time.monotonic()` has reached the deadline."""
        entry = (deadline, next(self._numbers), weakref.ref(future))
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="imagelake-deadlines", daemon=True)
                self._thread.start()
            if len(self._entries) >= self._room:
                self._entries = [each for each in self._entries if _alive(each[2])]
                heapq.heapify(self._entries)
                self._room = 2 * len(self._entries) + _SLACK
            heapq.heappush(self._entries, entry)
            if self._entries[0] is entry:
                self._changed.notify()

    def close(self) -> None:
        """Stop the thread; the futures stay as they are."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while True:
            late = self._wait()
            if late is None:
                return
            while late:
                fail_late(late.pop(0))  # hold none of them while asleep

    def _wait(self) -> list[Future[Any]] | None:
        """The futures whose time is over, once there are any; None when closed."""
        with self._changed:
            while not self._closed:
                late = []
                now = time.monotonic()
                while self._entries and (self._entries[0][0] <= now or not _alive(self._entries[0][2])):
                    future = heapq.heappop(self._entries)[2]()
                    if future is not None and not future.done():
                        late.append(future)
                if late:
                    return late
                future = None
                # A time limit of a caller may be more than a wait can take.
                self._changed.wait(min(self._entries[0][0] - now, _LONGEST_S) if self._entries else None)
            return None


def fail_late(future: Future[Any]) -> None:
    """Fail a future because its time is over; one that is done stays as it is."""
    try:
        future.set_exception(
            TimeLimitError("the answer is not ready within the time limit; allow more time, or send less at once")
        )
    except InvalidStateError:
        return


def _alive(reference: weakref.ref[Future[Any]]) -> bool:
    future = reference()
    return future is not None and not future.done()
