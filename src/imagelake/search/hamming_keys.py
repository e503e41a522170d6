"""A near pair as one number, so that one sort orders by query, distance and column: 11 bits, 12 bits, 40 bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

DISTANCE_AT, QUERY_AT = 40, 52  # c/hamming.c has the same two
_COLUMN_MASK, _DISTANCE_MASK = 2**DISTANCE_AT - 1, 2 ** (QUERY_AT - DISTANCE_AT) - 1


def queries_of(keys: Ints) -> Ints:
    """The query in each key."""
    queries: Ints = keys >> QUERY_AT
    return queries


def distances_of(keys: Ints) -> npt.NDArray[np.int32]:
    """The distance in each key."""
    distances: npt.NDArray[np.int32] = ((keys >> DISTANCE_AT) & _DISTANCE_MASK).astype(np.int32)
    return distances


def columns_of(keys: Ints) -> Ints:
    """The column of the row in each key."""
    columns: Ints = keys & _COLUMN_MASK
    return columns
