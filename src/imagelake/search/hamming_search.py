"""One Hamming search on many threads: split by queries, or by rows where queries are few, and put together again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from imagelake.search.hamming_codes import Words
from imagelake.search.hamming_keys import DISTANCE_AT, Ints, columns_of, distances_of, queries_of

_ROWS_EACH = 2**15  # rows that are worth a thread for a handful of queries
_UNEVEN = 8  # with fewer queries a thread than this, some threads would wait long for others
_WORTH_THREADS = 2**21  # words compared; fewer take 1.5 ms, and starting two threads takes half of one
_PENDING = 2**20  # neighbors that one job holds
_PAIR_QUERIES, _PAIR_ROWS = 64, 2**14  # what one job of `pairs` looks at

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


class Kernel(Protocol):
    """What searches on one thread: `hamming_native` or `hamming_plain`."""

    MOST_QUERIES: int

    def nearest(self, queries: Words, words: Words, k: int) -> tuple[npt.NDArray[np.int32], Ints]:
        """Distances and columns of the k nearest, in order; both of shape (queries, k), 1 <= k <= rows."""
        ...

    def within(self, queries: Words, words: Words, radius: int) -> Ints:
        """Keys of everyone within the radius, in order."""
        ...


def nearest(kernel: Kernel, queries: Words, words: Words, k: int, threads: int) -> tuple[npt.NDArray[np.int32], Ints]:
    """Distances and columns of the nearest, by (distance, column); both of shape (queries, min(k, rows))."""
    asked, rows = queries.shape[1], words.shape[1]
    k = min(k, rows)
    if not asked or not k:
        return np.empty((asked, k), np.int32), np.empty((asked, k), np.int64)
    threads = _threads(queries, words, threads)
    parts = _row_parts(asked, rows, threads, 4 * k)
    jobs = [
        (block, part)
        for block in _pieces(asked, min(kernel.MOST_QUERIES, max(1, _PENDING // k)), threads // len(parts))
        for part in parts
    ]

    def search(job: tuple[slice, slice]) -> tuple[npt.NDArray[np.int32], Ints]:
        block, part = job
        distances, columns = kernel.nearest(queries[:, block], words[:, part], k)
        return distances, columns + part.start if part.start else columns

    found = list(in_order(search, jobs, threads))
    if len(parts) > 1:
        found = [_joined(found[at : at + len(parts)], k) for at in range(0, len(found), len(parts))]
    if len(found) == 1:
        return found[0]
    return np.concatenate([distances for distances, _ in found]), np.concatenate([columns for _, columns in found])


def within(
    kernel: Kernel, queries: Words, words: Words, radius: int, threads: int
) -> tuple[Ints, npt.NDArray[np.int32], Ints]:
    """How many rows are within the radius of each query, int64 (queries,); their distances and columns, in order."""
    asked, rows = queries.shape[1], words.shape[1]
    threads = _threads(queries, words, threads)
    parts = _row_parts(asked, rows, threads, 1)
    blocks = _pieces(asked, kernel.MOST_QUERIES, threads // len(parts))
    jobs = [(block, part) for block in blocks for part in parts]

    def search(job: tuple[slice, slice]) -> Ints:
        block, part = job
        keys: Ints = kernel.within(queries[:, block], words[:, part], radius) + part.start
        return keys

    found = list(in_order(search, jobs, threads))
    if len(parts) > 1:
        found = [np.sort(np.concatenate(found[at : at + len(parts)])) for at in range(0, len(found), len(parts))]
    counts = [
        np.bincount(queries_of(keys), minlength=block.stop - block.start)
        for block, keys in zip(blocks, found, strict=True)
    ]
    none = np.empty(0, np.int64)
    keys = np.concatenate([none, *found])
    return np.concatenate([none, *counts]), distances_of(keys), columns_of(keys)


def pairs(
    kernel: Kernel, words: Words, radius: int, threads: int
) -> Iterator[tuple[Ints, Ints, npt.NDArray[np.int32]]]:
    """Every pair of columns within the radius, once, the smaller in front; their distances. None is empty."""
    rows = words.shape[1]
    jobs = (
        (first, start) for first in range(0, rows, _PAIR_QUERIES) for start in range(first, rows, _PAIR_ROWS)
    )  # right of the diagonal only

    def near(job: tuple[int, int]) -> tuple[Ints, Ints, npt.NDArray[np.int32]]:
        first, start = job
        keys = kernel.within(words[:, first : first + _PAIR_QUERIES], words[:, start : start + _PAIR_ROWS], radius)
        left, right = queries_of(keys) + first, columns_of(keys) + start
        once = left < right
        return left[once], right[once], distances_of(keys[once])

    threads = _threads(words, words, threads)
    return (found for found in in_order(near, jobs, threads) if len(found[0]))


def in_order(work: Callable[[_Job], _Result], jobs: Iterable[_Job], threads: int) -> Iterator[_Result]:
    """The results in the order of the jobs; few are begun before they are asked for."""
    if threads == 1:
        yield from map(work, jobs)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[_Result]] = deque()
        for job in jobs:
            waiting.append(pool.submit(work, job))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _threads(queries: Words, words: Words, threads: int) -> int:
    return threads if words.size * queries.shape[1] >= _WORTH_THREADS else 1


def _row_parts(asked: int, rows: int, threads: int, least: int) -> list[slice]:
    """Rows for each thread, `least` of them or more; all in one where splitting the queries is as good."""
    few = threads > 1 and asked < _UNEVEN * threads
    return _pieces(rows, rows, threads) if few and rows >= threads * max(_ROWS_EACH, least) else [slice(0, rows)]


def _pieces(count: int, most: int, multiple: int) -> list[slice]:
    """`range(count)` in even pieces of at most `most`, as many as a multiple of `multiple` where there are enough."""
    if not count:
        return []
    multiple = max(1, multiple)
    number = min(count, multiple * -(-count // (multiple * most)))
    return [slice(count * at // number, count * (at + 1) // number) for at in range(number)]


def _joined(parts: list[tuple[npt.NDArray[np.int32], Ints]], k: int) -> tuple[npt.NDArray[np.int32], Ints]:
    """The k nearest of those that stretches of rows have for the same queries."""
    keys = np.concatenate([distances.astype(np.int64) << DISTANCE_AT | columns for distances, columns in parts], axis=1)
    keys = np.sort(keys, axis=1)[:, :k]
    return distances_of(keys), columns_of(keys)
