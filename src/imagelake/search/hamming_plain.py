"""Hamming distances in NumPy, for where no compiler was at hand: functions and answers as in `hamming_native`.

Distances are XOR and `numpy.bitwise_count` over tiles of queries and rows. A running limit per query, its k-th distance
so far, turns selection into one comparison a distance: few rows pass it, and only those are sorted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake.search.hamming_codes import Words
from imagelake.search.hamming_keys import DISTANCE_AT, QUERY_AT, Ints, columns_of, distances_of, queries_of

MOST_QUERIES = 64  # to a call

_TILE = 2**18  # distances computed at once: the words fill 2 MiB; smaller tiles spend their time on Python's lock
_SAMPLE = 2048  # rows that give the first limit
_PENDING = 2**20  # candidates kept before they are thinned out


def available() -> bool:
    """It always is."""
    return True


def nearest(queries: Words, words: Words, k: int) -> tuple[npt.NDArray[np.int32], Ints]:
    """Distances and columns of the k nearest of every query, in order; both of shape (queries, k), 1 <= k <= rows."""
    asked, rows = queries.shape[1], words.shape[1]
    found: list[Ints] = []
    pending, thin_at = 0, 0
    limit: npt.NDArray[Any] | None = None  # whoever is not below it is not among the k nearest
    for start, distances in _tiles(queries, words):
        width = distances.shape[1]
        if limit is None:
            sample = max(_SAMPLE, 4 * k)
            limit = np.full((asked, 1), np.iinfo(distances.dtype).max, distances.dtype)
            if width >= k:  # NumPy partitions 32-bit numbers with SIMD, and these the fastest
                part = np.partition(distances[:, :sample].astype(np.int32), k - 1, axis=1)
                limit[:, 0] = part[:, k - 1] + 1
        hits = np.flatnonzero(distances < limit)
        found.append(_keys(hits, distances, start))
        pending += len(hits)
        done = start + width
        if done >= thin_at or pending > _PENDING:
            keys = _first(np.sort(np.concatenate(found)), asked, k)
            found, pending, thin_at = [keys], len(keys), min(2 * done, rows)
            # The columns to come are behind: with the same distance they lose.
            if len(keys) == asked * k:
                limit[:, 0] = distances_of(keys).reshape(asked, k)[:, -1]
    return distances_of(found[0]).reshape(asked, k), columns_of(found[0]).reshape(asked, k)


def within(queries: Words, words: Words, radius: int) -> Ints:
    """Keys of everyone within the radius, in order."""
    found: list[Ints] = [np.empty(0, np.int64)]
    if queries.shape[1] and words.shape[1]:
        found += [_keys(np.flatnonzero(d <= radius), d, start) for start, d in _tiles(queries, words)]
    return np.sort(np.concatenate(found))


def _tiles(queries: Words, words: Words) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Distances of the queries to one stretch of rows after the other, and where the stretch begins.

    The array is uint8 or uint16, shape (queries, stretch); the next tile overwrites it.
    """
    asked, rows = queries.shape[1], words.shape[1]
    width = min(_TILE // asked, rows)
    mixed = np.empty(asked * width, words.dtype)
    few, one = np.empty(asked * width, np.uint8), np.empty(asked * width, np.uint8)
    many = np.empty(asked * width if len(words) > 3 else 0, np.uint16)
    for start in range(0, rows, width):
        shape = asked, min(width, rows - start)
        x, f, o = (buffer[: shape[0] * shape[1]].reshape(shape) for buffer in (mixed, few, one))
        m = many[: f.size].reshape(shape) if many.size else None
        for at, (query, row) in enumerate(zip(queries, words[:, start : start + width], strict=True)):
            np.bitwise_xor(query[:, None], row[None, :], out=x)
            np.bitwise_count(x, out=o if at % 3 else f)
            if at % 3:
                np.add(f, o, out=f)  # three words are at most 192 bits, which a byte can count
            if m is not None and (at % 3 == 2 or at == len(words) - 1):
                if at < 3:
                    np.copyto(m, f)
                else:
                    np.add(m, f, out=m)
        yield start, f if m is None else m


def _keys(hits: Ints, distances: npt.NDArray[Any], start: int) -> Ints:
    query, column = np.divmod(hits, distances.shape[1])
    distance = distances.reshape(-1)[hits].astype(np.int64)
    keys: Ints = (query << QUERY_AT) | (distance << DISTANCE_AT) | (column + start)
    return keys


def _first(keys: Ints, queries: int, k: int) -> Ints:
    """Of sorted keys the first k of every query."""
    query = queries_of(keys)
    begin = np.searchsorted(query, np.arange(queries))
    kept: Ints = keys[np.arange(len(keys)) - begin[query] < k]
    return kept
