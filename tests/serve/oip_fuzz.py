"""Bodies of inference requests, and what strangers make of them. In tests/, `python -m serve.oip_fuzz` runs 50,000."""

import copy
import json
import random
import struct
import sys
import tracemalloc

from imagelake.errors import ImagelakeError
from imagelake.serve.oip_codec import read_raw_request, read_request
from imagelake.serve.tensor_info import TensorInfo

NASTY = [
    *(None, True, False, 0, 1, -1, 2, 4, 7, 2**31, 2**31 + 1, 2**32, 2**63, -(2**63), 2**64, 10**30, 1.5, -0.0, 1e308),
    *("", "x", "y", "a\0b", "\ud800", "é" * 40, "FP16", "BF16", "BYTES", "INT8", "BOOL", "FP32", "NaN", "data"),
    *([], {}, [[]], [[[]]], [1], [None], ["x"], [1, [2]], [2**4, 2**60 + 2], [0, 2**62], [-1, 4], [1] * 40),
    *({"name": "x"}, {"binary_data_size": 2**62}, {"binary_data_size": -1}, {"shared_memory_region": "r"}),
]
TOKENS = [
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"[" * 3000,
    b'{"a":' * 2000,
    b"\xff",
    b"\0",
    b'"',
    b"]",
    b"}",
    b",",
]
INPUTS = (TensorInfo("x", "float32", (-1, 2, 3)),)
PICTURES = (TensorInfo("image", "uint8", (-1, 4, 4, 3), pictures=True),)


def seeds():
    """Requests that are right: the JSON as Python has it, and the bytes behind it."""
    flat = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2.5, 3, 4, 5, 6]}
    nested = {"name": "y", "shape": [2, 2], "datatype": "INT64", "data": [[1, 2], [3, 4]]}
    strings = {"name": "s", "shape": [2], "datatype": "BYTES", "data": ["a", "é"]}
    binary = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    words = {"name": "s", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 11}}
    truths = {"name": "t", "shape": [2, 1], "datatype": "BOOL", "parameters": {"binary_data_size": 2}}
    outputs = [{"name": "p", "parameters": {"classification": 2, "binary_data": True}}, {"name": "q"}]
    tail = struct.pack("<2fI3sI", 1, 2, 3, b"abc", 0)
    return [
        ({"inputs": [flat]}, b""),
        ({"id": "7", "inputs": [flat, nested, strings], "outputs": outputs, "parameters": {"timeout": 9}}, b""),
        ({"inputs": [binary, words], "parameters": {"binary_data_output": True}}, tail),
        ({"inputs": [truths, nested, binary], "outputs": outputs}, b"\0\1" + tail[:8]),
    ]


def _places(value, path=()):
    """The paths of everything inside a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield from _places(value[key], (*path, key))


def _replaced(asked, rng):
    """A request with something else at some place, or without it, or with it twice."""
    asked = copy.deepcopy(asked)
    path = rng.choice([path for path in _places(asked) if path] or [("inputs",)])
    asked.setdefault("inputs", None)
    owner = asked
    for key in path[:-1]:
        owner = owner[key]
    how = rng.random()
    if how < 0.15:
        del owner[path[-1]]
    elif how < 0.3 and isinstance(owner, list):
        owner.append(copy.deepcopy(owner[path[-1]]))
    elif how < 0.4 and isinstance(owner, dict):
        owner[rng.choice(["data", "parameters", "shape", "name", "id", "outputs"])] = copy.deepcopy(rng.choice(NASTY))
    else:
        owner[path[-1]] = copy.deepcopy(rng.choice(NASTY))
    return asked


def _bent(body, rng):
    """Bytes with some of them changed, left out, doubled or put in."""
    data = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(data))
        end = min(len(data), at + rng.choice([1, 1, 2, 4, 16]))
        how = rng.randint(0, 4)
        if how == 0:
            data[at:end] = rng.randbytes(end - at)
        elif how == 1:
            del data[at:end]
        elif how == 2:
            data[at:at] = data[at:end]
        elif how == 3:
            data[at:at] = rng.choice(TOKENS)
        else:
            del data[at:]
    return bytes(data)


def cases(count, seed):
    """Bodies, each with the length of its JSON as its header would say it: right, lying, 0 or missing."""
    rng = random.Random(seed)
    right = seeds()
    for _ in range(count):
        asked, tail = rng.choice(right)
        for _ in range(rng.randint(0, 3)):
            asked = _replaced(asked, rng)
        head = json.dumps(asked).encode()
        if rng.random() < 0.3:
            head = _bent(head, rng)
        if rng.random() < 0.3:
            tail = _bent(tail, rng)
        length = len(head) if tail or rng.random() < 0.3 else None
        if rng.random() < 0.15:
            length = rng.choice([None, 0, 1, len(head) - 1, len(head) + 1, len(head) + len(tail), 10**17])
        yield head + tail, None if length is None else max(length, 0)


def read(body, length):
    """Read a body as the server does: the error of ours that it gives, or None."""
    try:
        if length == 0:
            for inputs in INPUTS, PICTURES:
                read_raw_request(body, inputs, batched=True)
        else:
            read_request(body, length)
    except ImagelakeError as error:
        return error
    return None


def run(count, seed=0):
    """Read so many cases; returns how many were right. Raises what is not ours, or where one took too much memory."""
    fine = 0
    tracemalloc.start()
    try:
        for number, (body, length) in enumerate(cases(count, seed)):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            error = read(body, length)
            took = tracemalloc.get_traced_memory()[1] - before
            assert took < 200_000 + 100 * len(body), f"case {number} of seed {seed}: {took:,} bytes for {len(body):,}"
            assert error is None or 0 < len(str(error)) < 2000, f"case {number} of seed {seed}: {error}"
            fine += error is None
            del error
    finally:
        tracemalloc.stop()
    return fine


if __name__ == "__main__":
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    print(f"{run(total):,} of {total:,} were right; all others were refused with an error of ours")  # noqa: T201
