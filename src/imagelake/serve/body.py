"""The body of a request: read into one buffer of a bounded size, within a time and a budget over all requests."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from imagelake.errors import BusyError, InputError, TimeLimitError, TooLargeError
from imagelake.serve.site import Limits

_FIRST_BUFFER = 64 << 10  # bytes, where a request does not say how long it is


class SlowBodyError(TimeLimitError):
    """The body did not arrive in time."""


class NoMemoryError(BusyError):
    """The bodies of other requests take the memory that is kept for them."""


class BodyBudget:
    """Memory for the bodies of all requests together.

    A buffer counts until it is freed: as long as anything, such as an array on its way to a model, looks into it.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._lock = threading.RLock()  # a buffer may be freed by the collector while this thread holds it

    @property
    def held(self) -> int:
        """Bytes in use."""
        return self._held

    def buffer(self, size: int) -> NDArray[np.uint8]:
        """Memory of `size` bytes, not cleared.

        Raises:
            NoMemoryError: there is no room.
        """
        with self._lock:
            if self._held + size > self.limit:
                raise NoMemoryError(
                    f"The bodies of other requests fill the {self.limit:,} bytes kept for them. Send it again later."
                )
            self._held += size
        try:
            made = np.empty(size, np.uint8)
        except MemoryError:
            self._give_back(size)
            raise NoMemoryError(f"There is no memory for a body of {size:,} bytes. Send it again later.") from None
        weakref.finalize(made, self._give_back, size).atexit = False
        return made

    def _give_back(self, size: int) -> None:
        with self._lock:
            self._held -= size


async def read_body(scope: Scope, receive: Receive, limits: Limits, budget: BodyBudget) -> memoryview:
    """The whole body, in one writable buffer of its own: `np.frombuffer` and slices of it copy nothing.

    Args:
        scope: of the request; its Content-Length is how much memory is taken, before a byte is read.
        receive: gives the body.
        limits: `max_body` and `body_timeout_s`.
        budget: where the memory is taken from; it goes back when nothing looks into the buffer any more.

    Raises:
        TooLargeError: it is, or says that it is, longer than `max_body`.
        NoMemoryError: the budget has no room.
        SlowBodyError: it did not arrive in time.
        InputError: Content-Length is no number, or not how long the body is.
        ClientDisconnect: the caller went away; let it pass, nobody reads an answer.
    """
    announced = content_length(scope)
    if announced is not None and announced > limits.max_body:
        raise _too_large(f"{announced:,} bytes", limits)
    if announced == 0:
        return memoryview(bytearray())
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            return await _read(receive, announced, limits, budget)
    except TimeoutError:
        raise SlowBodyError(
            f"The body did not arrive within {limits.body_timeout_s:g} s. Send it again, faster, or less of it."
        ) from None


def content_length(scope: Scope) -> int | None:
    """What a request says of the length of its body; None where it does not say.

    Raises:
        InputError: it is no number.
    """
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18:
                raise InputError(f"Content-Length is {value[:40]!r}, and must be a number of bytes.")
            return int(value)
    return None


def _too_large(given: str, limits: Limits) -> TooLargeError:
    return TooLargeError(
        f"The body is of {given}, and at most {limits.max_body:,} bytes are taken. Send less, or start the server with "
        "a larger --max-mb."
    )


async def _read(receive: Receive, announced: int | None, limits: Limits, budget: BodyBudget) -> memoryview:
    buffer = budget.buffer(min(_FIRST_BUFFER, limits.max_body) if announced is None else announced)
    filled, more = 0, True
    while more:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        end = filled + len(chunk)
        if end > len(buffer):
            if announced is not None:
                raise InputError(f"The body is longer than its Content-Length of {announced:,} says.")
            if end > limits.max_body:
                raise _too_large(f"more than {limits.max_body:,} bytes", limits)
            larger = budget.buffer(min(max(2 * len(buffer), end), limits.max_body))
            larger[:filled] = buffer[:filled]
            buffer = larger
        if chunk:
            buffer.data[filled:end] = chunk
            filled = end
    if announced is not None and filled != announced:
        raise InputError(f"The body has {filled:,} bytes, and its Content-Length says {announced:,}.")
    return buffer.data[:filled]
