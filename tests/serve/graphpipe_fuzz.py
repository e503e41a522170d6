"""Mutated GraphPipe messages: a reader gives arrays inside of the bytes, or our error, and takes little memory."""

import gc
import random
import struct
import tracemalloc

import numpy as np
from serve.graphpipe_messages import seeds

from imagelake.errors import ImagelakeError
from imagelake.serve import graphpipe

READERS = (graphpipe.decode_request, graphpipe.decode_infer_response, graphpipe.decode_metadata_response)
NUMBERS = (0, 1, 2, 3, 4, 8, 16, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)
_FLOOR = 256 << 10  # bytes, whatever the message
_FACTOR = 40  # bytes of memory for a byte of the message: an object of Python's for every small string


def fuzz(cases, seed=1):
    """Read that many mutated messages.

    Returns:
        How many could still be read.

    Raises:
        AssertionError: an array lies outside of its message, or memory was taken beyond the bound.
        Exception: anything that is not an error of ours.
    """
    chance = random.Random(seed)
    messages = list(seeds())
    read = 0
    tracemalloc.start()
    try:
        for number in range(cases):
            if number % 1000 == 0:
                gc.collect()
            body = mutate(chance.choice(messages), messages, chance)
            read += sum(check(reader, body) for reader in READERS)
    finally:
        tracemalloc.stop()
    return read


def mutate(body, messages, chance):
    """A message with up to eight things wrong."""
    body = bytearray(body)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(body)) if body else 0
        if not body or chance.random() < 0.04:
            body[at:at] = chance.randbytes(chance.choice((1, 4, 100)))
        elif chance.random() < 0.08:
            del body[chance.choice((at, max(0, len(body) - 3))) :]
        elif chance.random() < 0.08:
            other = chance.choice(messages)
            start = chance.randrange(len(other))
            body[at : at + 64] = other[start : start + 64]
        elif chance.random() < 0.2:
            body[at] = chance.randrange(256)
        elif chance.random() < 0.2:
            body[at] ^= 1 << chance.randrange(8)
        else:
            _put(body, at, chance)
    return bytes(body)


def _put(body, at, chance):
    """Write a number at a place, as an offset or a length would stand there."""
    at -= at % chance.choice((1, 2, 4))
    value = chance.choice((*NUMBERS, len(body), len(body) - at, chance.randrange(len(body) + 8)))
    width = chance.choice((2, 4, 4, 4, 8))
    data = struct.pack("<Q", value | (value << 32 if chance.random() < 0.5 else 0))[:width]
    body[at : at + width] = data[: len(body) - at]


def check(reader, body):
    """Whether a message could be read; all that is read lies inside of it."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        found = reader(body)
    except ImagelakeError as error:
        assert len(str(error)) < 2000  # noqa: PT017
        found = None
    peak = tracemalloc.get_traced_memory()[1] - before
    assert peak < _FLOOR + _FACTOR * len(body), f"{peak:,} bytes for a message of {len(body):,}"
    inside = np.frombuffer(body, np.uint8)
    arrays = getattr(found, "inputs", ()) if reader is graphpipe.decode_request else getattr(found, "outputs", ())
    if reader is not graphpipe.decode_metadata_response:
        for array in arrays:
            assert_inside(array, inside)
        assert sum(array.nbytes for array in arrays if array.dtype != object) <= len(body)
    return found is not None


def assert_inside(array, inside):
    """An array of numbers looks into the message, one of strings holds bytes of it, and all of it can be read."""
    if array.dtype == object:
        assert all(type(element) is bytes for element in array.flat)
        assert sum(map(len, array.flat)) <= inside.size
        return
    if array.size:
        low, high = np.lib.array_utils.byte_bounds(array)
        start, end = np.lib.array_utils.byte_bounds(inside)
        assert start <= low
        assert high <= end
    assert len(array.tobytes()) == array.nbytes
