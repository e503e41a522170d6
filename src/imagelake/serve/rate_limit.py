"""How often each caller may ask: a bucket of tokens a caller, filled at an even pace."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_CALLERS = 10_000  # remembered; who is forgotten starts with a full bucket


class RateLimit:
    """Requests a second, by caller. Used from one thread, the event loop's.

    Args:
        per_second: how many come in at an even pace.
        burst: how many at once, after a pause.
        clock: seconds.
    """

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self.burst = max(1.0, burst)
        self._clock = clock
        self._callers: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when they were counted

    def wait_s(self, caller: str) -> float:
        """Take a token for one request: 0 where there was one, else after how many seconds there is."""
        now = self._clock()
        tokens, before = self._callers.pop(caller, (self.burst, now))
        tokens = min(self.burst, tokens + (now - before) * self.per_second)
        allowed = tokens >= 1.0
        self._callers[caller] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._callers) > _MOST_CALLERS:
            self._callers.popitem(last=False)
        return 0.0 if allowed else (1.0 - tokens) / self.per_second
