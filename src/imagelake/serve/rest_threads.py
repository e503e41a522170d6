"""Threads for what a request must wait for: the lake, and pictures of the web."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from starlette.types import Receive

from imagelake.errors import BusyError, TimeLimitError
from imagelake.serve.waiting import answer_of

_T = TypeVar("_T")


class Threads:
    """Some threads, a bounded queue before them, and a deadline. A class, since it owns threads.

    Args:
        count: how many threads.
        most: how much may be at work and wait; more is refused at once.
        what: they do, in words.
    """

    def __init__(self, count: int, most: int, what: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=f"imagelake-{what.replace(' ', '-')}")
        self._most = most
        self._what = what
        self._lock = threading.Lock()
        self._taken = 0

    def check_room(self) -> None:
        """Refuse now what would be refused later.

        Raises:
            BusyError: too much waits already.
        """
        if self._taken >= self._most:
            raise BusyError(f"Too many requests wait for {self._what} already. Send it again later.")

    async def run(self, function: Callable[[], _T], receive: Receive, timeout_s: float) -> _T:
        """What a function gives, while the caller waits.

        Args:
            function: called in a thread, unless the caller goes away or the time is over before.
            receive: of the request.
            timeout_s: for all of it.

        Raises:
            BusyError: too much waits already.
            TimeLimitError: it takes too long.
            ClientDisconnect: the caller went away.
        """
        with self._lock:
            self.check_room()
            self._taken += 1
        future = self._pool.submit(function)
        future.add_done_callback(self._give_back)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer_of(future, receive)
        except TimeLimitError:
            raise
        except TimeoutError:
            raise TimeLimitError(f"The answer was not ready within {timeout_s:g} s. Ask for less at once.") from None

    def _give_back(self, _: Future[_T]) -> None:
        with self._lock:
            self._taken -= 1
