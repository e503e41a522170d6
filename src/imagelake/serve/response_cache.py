"""Answers that are kept by the content of what was asked, a row at a time."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.serve.served_model import Answer, ServedModel
from imagelake.serve.tensor_info import Tensors

_ENTRY_BYTES = 400
"""What an entry takes besides its arrays: its key, its place in the order, the headers of its arrays."""


class ResponseCache:
    """Rows of answers by key, the least recently used of which go first. May be used from several threads.

    Args:
        limit: how many bytes all entries may take together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, tuple[Answer, int]] = OrderedDict()
        self._used = 0

    @property
    def used(self) -> int:
        """The bytes that the entries take now."""
        return self._used

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Answer | None:
        """The answer to a row, arrays without the axis of rows, to be read only; None where there is none."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: bytes, answer: Answer) -> None:
        """Keep an answer, which nobody else may hold; one that is larger than the limit is not kept."""
        size = _ENTRY_BYTES + sum(_size(array) for array in answer.values())
        with self._lock:
            before = self._entries.pop(key, None)
            if before is not None:
                self._used -= before[1]
            if size > self._limit:
                return
            self._entries[key] = (answer, size)
            self._used += size
            while self._used > self._limit:
                _, (_, gone) = self._entries.popitem(last=False)
                self._used -= gone


class CachedRows:
    """The `run` of a model with a cache before it: only rows that it lacks are computed.

    Args:
        model: whose answers are kept; its `max_batch` is above 0.
        limit: the bytes of the cache.
        tell: told of hits, misses and the seconds of the cache.
    """

    def __init__(self, model: ServedModel, limit: int, tell: Callable[[int, int, float], None]) -> None:
        self._model, self._tell = model, tell
        self.cache = ResponseCache(limit)

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> tuple[Answer, int]:
        """The answers, which are the caller's own, and how many rows were computed for them."""
        start = time.perf_counter()
        keys = row_keys(self._model.fingerprint, inputs, outputs)
        found = [self.cache.get(key) for key in keys]
        first = {key: place for place, key in reversed(list(enumerate(keys))) if found[place] is None}
        missing = sorted(first.values())
        looked_s = time.perf_counter() - start
        if not missing:
            answer = {name: _stack([row[name] for row in found if row is not None]) for name in outputs}
            self._tell(len(keys), 0, time.perf_counter() - start)
            return answer, 0
        whole = len(missing) == len(keys)
        some = inputs if whole else {name: array[missing] for name, array in inputs.items()}
        computed = self._model.run(some, outputs)
        start = time.perf_counter()
        if all(name in computed and computed[name].shape[:1] == (len(missing),) for name in outputs):
            place_of = {keys[place]: number for number, place in enumerate(missing)}
            for key, number in place_of.items():
                self.cache.put(key, {name: _own(computed[name][number]) for name in outputs})
            if not whole:
                computed = {
                    name: _stack(
                        [
                            computed[name][place_of[key]] if row is None else row[name]
                            for key, row in zip(keys, found, strict=True)
                        ]
                    )
                    for name in outputs
                }
        misses = sum(row is None for row in found)
        self._tell(len(keys) - misses, misses, looked_s + time.perf_counter() - start)
        return computed, len(missing)


def row_keys(fingerprint: str, inputs: Tensors, outputs: Sequence[str]) -> list[bytes]:
    """A SHA-256 for each row: equal exactly where the same model is asked the same of the same content."""
    head = [fingerprint, list(outputs), [(name, array.dtype.str, array.shape[1:]) for name, array in inputs.items()]]
    shared = hashlib.sha256(repr(head).encode())
    rows = len(next(iter(inputs.values())))
    keys = []
    for row in range(rows):
        digest = shared.copy()
        for array in inputs.values():
            if array.dtype == object:
                for each in np.ravel(array[row : row + 1]):
                    digest.update(len(each).to_bytes(8, "little"))
                    digest.update(each)
            else:
                digest.update(np.ascontiguousarray(array[row : row + 1]).view(np.uint8).data)
        keys.append(digest.digest())
    return keys


def _own(row: Any) -> NDArray[Any]:
    """A copy that shares no memory; also of a number out of a row, which NumPy gives without its array."""
    return np.array(row, dtype=object if isinstance(row, bytes) else None)


def _stack(rows: Sequence[Any]) -> NDArray[Any]:
    if not isinstance(rows[0], bytes) and rows[0].dtype.kind != "O":
        return np.stack(rows)
    stacked = np.empty((len(rows), *np.shape(rows[0])), object)
    for place, row in enumerate(rows):
        stacked[place] = row[()] if isinstance(row, np.ndarray) else row
    return stacked


def _size(array: NDArray[Any]) -> int:
    strings = sum(len(each) + 40 for each in array.flat) if array.dtype == object else 0
    return int(array.nbytes) + strings + 120
