"""The messages of gRPC calls, within bounds: how many arrive at once, for how long, and of how many parts each is.

gRPC says nothing of a message before all of it is in memory, and a part of two bytes becomes an object of a hundred.
So only some messages arrive at once, each of a bounded size, and their parts are counted before anything is made of
them. The tensors' raw bytes are taken out by the way and stay where they arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imagelake.errors import BusyError, InputError, TimeLimitError, TooLargeError
from imagelake.serve.body import BodyBudget
from imagelake.serve.oip_types import MAX_STRINGS
from imagelake.serve.site import Limits

FRAMING = 64 << 10  # what a message has besides its tensors
MAX_PARTS = MAX_STRINGS + (16 << 10)  # fields of one message
MAX_TYPED = 4 << 20  # bytes of numbers in typed contents; more belongs into raw_input_contents

_INPUTS, _OUTPUTS, _RAW = 5, 6, 7  # fields of ModelInferRequest
_SHAPE, _CONTENTS = 3, 5  # of its inputs
_STRINGS = 8  # of contents; those before are numbers
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_NESTED: Mapping[tuple[int, ...], Mapping[int, tuple[int, ...]]] = {
    (): {_INPUTS: (_INPUTS,), _OUTPUTS: (_OUTPUTS,)},
    (_INPUTS,): {_CONTENTS: (_INPUTS, _CONTENTS)},
}
"""Which messages within a message are looked into."""


class Intake:
    """Takes in the messages of all calls; of one event loop.

    Args:
        limits: `max_body` and `body_timeout_s`; half of `body_budget` is for messages that are on their way.
        budget: where memory of messages that have arrived is counted.
    """

    def __init__(self, limits: Limits, budget: BodyBudget) -> None:
        self.at_once = max(1, limits.body_budget // (2 * (limits.max_body + FRAMING)))
        self._limits = limits
        self._budget = budget
        self._places = asyncio.Semaphore(self.at_once)

    async def first(self, context: Any) -> tuple[bytes, object]:
        """The message of a call that has one, and what holds its place in the budget.

        Raises:
            BusyError: others arrive, or fill the budget.
            TimeLimitError: it does not arrive in time.
            InputError: there is none.
        """
        timeout_s = self._limits.body_timeout_s
        try:
            await asyncio.wait_for(self._places.acquire(), timeout_s)
        except TimeoutError:
            raise BusyError(f"{self.at_once} other messages arrive, and not quickly. Send it again later.") from None
        try:
            message = await _within(context.read(), timeout_s)
        finally:
            self._places.release()
        return self.kept(message)

    def kept(self, message: Any) -> tuple[bytes, object]:
        """A message that has arrived, and what holds its place in the budget.

        Raises:
            BusyError: others fill the budget.
            InputError: it is none.
        """
        if not isinstance(message, bytes):
            raise InputError("The call has no message. Send one.")
        return message, self._budget.buffer(len(message))


async def _within(reading: Any, timeout_s: float) -> Any:
    """What is read; where that takes too long, the call ends and the reading with it."""
    task = asyncio.ensure_future(reading)
    try:
        done, _ = await asyncio.wait((task,), timeout=timeout_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if done:
        return task.result()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    raise TimeLimitError(f"The message did not arrive within {timeout_s:g} s. Send it again, faster, or less of it.")


@dataclass
class _Tally:
    parts: int = 0
    typed: int = 0


def split_raw(message: bytes) -> tuple[bytes, list[memoryview]]:
    """A `ModelInferRequest` without its raw tensors, and these: views, in their order.

    Raises:
        InputError: it is no message.
        TooLargeError: it has too many parts, or numbers that are not raw.
    """
    data = memoryview(message)
    head: list[memoryview] = []
    raw: list[memoryview] = []
    tally = _Tally()
    kept_from = 0
    for number, began, start, end in _fields(data, 0, len(data), (), tally):
        if number == _RAW and start >= 0:
            head.append(data[kept_from:began])
            raw.append(data[start:end])
            kept_from = end
    return b"".join([*head, data[kept_from:]]), raw


def _fields(
    data: memoryview, at: int, stop: int, where: tuple[int, ...], tally: _Tally
) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message: number, where it begins, and where its bytes are (-1 where it is a number)."""
    nested = _NESTED.get(where, {})
    while at < stop:
        began = at
        tag, at = _varint(data, at, stop)
        number, kind = tag >> 3, tag & 7
        tally.parts += 1
        if tally.parts > MAX_PARTS:
            raise TooLargeError(f"The message has more than {MAX_PARTS:,} parts. Send tensors in raw_input_contents.")
        start = -1
        if kind == _VARINT:
            _, at = _varint(data, at, stop)
        elif kind in _FIXED:
            at += _FIXED[kind]
        elif kind == _BYTES:
            size, start = _varint(data, at, stop)
            at = start + size
        else:
            raise InputError("The message is no ModelInferRequest: it has a group.")
        if at > stop:
            raise _broken()
        if start >= 0:
            _count_typed(number, where, at - start, tally)
            if number in nested:
                for _ in _fields(data, start, at, nested[number], tally):
                    pass
        yield number, began, start, at


def _count_typed(number: int, where: tuple[int, ...], size: int, tally: _Tally) -> None:
    """Count bytes of packed numbers, of which each becomes an object."""
    packed = (where == (_INPUTS,) and number == _SHAPE) or (where == (_INPUTS, _CONTENTS) and number < _STRINGS)
    tally.typed += size if packed else 0
    if tally.typed > MAX_TYPED:
        raise TooLargeError(
            f"The message has more than {MAX_TYPED:,} bytes of typed contents. Send tensors in raw_input_contents."
        )


def _varint(data: memoryview, at: int, stop: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while at < stop and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise _broken()


def _broken() -> InputError:
    return InputError("The message is no ModelInferRequest: it ends within a field.")
