"""One request to a model, from its coming to its answer."""

from __future__ import annotations

import time
from concurrent.futures import Future, InvalidStateError
from contextvars import ContextVar
from typing import Any

from numpy.typing import NDArray

from imagelake.errors import BusyError, TimeLimitError
from imagelake.serve.deadlines import fail_late
from imagelake.serve.request_check import Checked
from imagelake.serve.served_model import Answer
from imagelake.serve.statistics import Outcome


class Request(Future[Answer]):
    """A request on its way through a batcher; also the future of its answer. A class, since it is a future."""

    def __init__(self, checked: Checked, deadline: float | None, protocol: str, came: float | None = None) -> None:
        super().__init__()
        self.inputs: dict[str, NDArray[Any]] = checked.inputs
        self.outputs = checked.outputs
        self.rows = checked.rows
        self.group = checked.group
        self.deadline = deadline
        self.protocol = protocol
        self.came = time.monotonic() if came is None else came
        self.taken: float | None = None  # out of the queue; both of `time.monotonic()`
        self.ended: float | None = None

    def answer(self, answer: Answer) -> None:
        """Give the answer, unless the request has ended otherwise."""
        try:
            self.set_result(answer)
        except InvalidStateError:
            return

    def still_wanted(self, now: float) -> bool:
        """Whether anybody waits for the answer; fails a request whose deadline has passed."""
        if self.deadline is not None and now >= self.deadline:
            fail_late(self)
        return not self.done()

    def outcome(self) -> Outcome:
        """How it ended; for a request that is done."""
        if self.cancelled():
            self.set_running_or_notify_cancel()  # so that `concurrent.futures.wait` sees it
            return "cancelled"
        error = self.exception()
        if error is None:
            return "ok"
        if isinstance(error, TimeLimitError):
            return "timeout"
        return "busy" if isinstance(error, BusyError) else "failed"

    def fail(self, error: BaseException) -> None:
        """Give an error, unless the request has ended otherwise."""
        try:
            self.set_exception(error)
        except InvalidStateError:
            return


ASKED: ContextVar[list[Request] | None] = ContextVar("imagelake_asked", default=None)
"""Where requests to models are noted by who asks for a trace of them; None: nowhere."""
