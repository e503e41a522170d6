"""Bodies that come or go compressed, as gzip or deflate."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from imagelake.errors import InputError, TooLargeError
from imagelake.serve.body import BodyBudget
from imagelake.serve.oip_types import shown
from imagelake.serve.site import Limits

_WINDOWS = {"gzip": 31, "deflate": 15}  # zlib's words for the two formats
_SLICE = 64 << 10  # bytes of input at once
_PIECE = 256 << 10  # bytes of output at once
_FIRST_BUFFER = 256 << 10
_LEVEL = 1  # tensors hardly shrink more with more work


def inflate(body: memoryview, coding: str, limits: Limits, budget: BodyBudget) -> memoryview:
    """A body as it was before it was compressed.

    Args:
        body: compressed.
        coding: the Content-Encoding.
        limits: `max_body` holds for what it becomes.
        budget: where the memory is taken from.

    Raises:
        InputError: the coding is unknown, or the body is not in it, whole and with nothing behind it.
        TooLargeError: it becomes too large.
        BusyError: the budget has no room.
    """
    buffer = budget.buffer(min(_FIRST_BUFFER, limits.max_body))
    filled = 0
    for piece in _pieces(body, coding.strip().lower()):
        end = filled + len(piece)
        if end > limits.max_body:
            raise TooLargeError(
                f"The body becomes more than the {limits.max_body:,} bytes that are taken. Send less of it."
            )
        if end > len(buffer):
            larger = budget.buffer(min(max(2 * len(buffer), end), limits.max_body))
            larger[:filled] = buffer[:filled]
            buffer = larger
        buffer.data[filled:end] = piece
        filled = end
    return buffer.data[:filled]


def _pieces(body: memoryview, coding: str) -> Iterator[bytes]:
    """What a body becomes, a bounded piece at a time."""
    window = _WINDOWS.get(coding)
    if window is None:
        raise InputError(f"The Content-Encoding is {shown(coding)}; gzip, deflate and identity are read.")
    unpacking = zlib.decompressobj(window)
    for start in range(0, len(body), _SLICE):
        if unpacking.eof:
            raise InputError(f"The body has bytes behind the end of its {coding}. Send one stream.")
        waiting: bytes | memoryview = body[start : start + _SLICE]
        more = True
        while more:
            try:
                piece = unpacking.decompress(waiting, _PIECE)
            except zlib.error:
                raise InputError(f"The body is no {coding}, which its Content-Encoding says.") from None
            waiting = unpacking.unconsumed_tail
            # A full piece may leave more inside, though all was read; behind the end zlib gives a tail for ever.
            more = not unpacking.eof and (len(waiting) > 0 or len(piece) == _PIECE)
            yield piece
    if unpacking.unused_data:
        raise InputError(f"The body has bytes behind the end of its {coding}. Send one stream.")
    if not unpacking.eof:
        raise InputError(f"The body ends before its {coding} does. Send it whole.")


def wanted_coding(accept: str | None) -> str | None:
    """The coding that a caller asks for: one that stands alone in Accept-Encoding.

    A list, as browsers and libraries send it by themselves, asks for none: tensors hardly shrink.
    """
    alone = (accept or "").strip().lower()
    return alone if alone in _WINDOWS else None


def deflate(parts: Iterable[bytes | memoryview], coding: str) -> bytes:
    """The parts of a body, compressed as one."""
    packing = zlib.compressobj(_LEVEL, wbits=_WINDOWS[coding])
    return b"".join([*(packing.compress(part) for part in parts), packing.flush()])
