"""Groups of near rows that never chain: every member of a group is near its center."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imagelake.search.hamming import HammingIndex
from imagelake.search.index import ExactIndex
from imagelake.search.segment import Float64s, Floats, Ints, Metric

_NEIGHBORS = 1 << 23  # that one block of rows can find at most, up to a million rows: it bounds the memory
_LEAST_ROWS, _MOST_ROWS = 8, 1024
_PAIRS = 1 << 22  # near pairs of codes that are held; where there are more, they are looked for block by block


@dataclass(frozen=True)
class Near:
    """Who is near some rows, in any order, each array (found,).

    Attributes:
        asked: int64; which of the rows that were asked for, as its place among them.
        row: int64; a row that is near it. The row itself may be among them.
        distance: float64.
    """

    asked: Ints
    row: Ints
    distance: Float64s


Reach = Callable[[Ints], Near]
"""Finds everybody near some rows. It is symmetric: a row reaches those that reach it."""


@dataclass(frozen=True)
class Stars:
    """Rows in groups.

    Attributes:
        center: int64 (n,); the center of each row's group. A center is its own, and so is a row that nobody is near.
        reach: int8 (n,); which of the reaches linked it to its center, -1 for centers.
        distance: float64 (n,); how far that reach says it is from its center, 0 for centers.
    """

    center: Ints
    reach: npt.NDArray[np.int8]
    distance: Float64s


def stars(count: int, reaches: Sequence[Reach], on_advance: Callable[[int], None] | None = None) -> Stars:
    """Group rows around centers, the rows 0 to `count` - 1 being ordered from the best center to the worst.

    Greedy: the first row that has no group yet is the center of a new one, and every row that has none and is near it
    by one of the reaches joins, by the first of them that reaches it. So the answer depends on nothing but the order,
    every member is near its center, no two centers are near each other, and near pairs are never all held at once.

    Args:
        count: how many rows.
        reaches: what near means, the one that counts first in front.
        on_advance: told how many more rows are done.
    """
    out = Stars(np.full(count, -1, np.int64), np.full(count, -1, np.int8), np.zeros(count))
    size = max(_LEAST_ROWS, min(_MOST_ROWS, _NEIGHBORS // max(count, 1)))
    for start in range(0, count, size):
        rows = start + np.flatnonzero(out.center[start : start + size] < 0)
        if len(rows):
            _add_stars(out, rows, [_later(reach(rows), rows) for reach in reaches])
        if on_advance is not None:
            on_advance(min(size, count - start))
    return out


def _later(near: Near, rows: Ints) -> Near:
    """Those that come after the row asked for, ordered by what was asked and then by row."""
    after = np.flatnonzero(near.row > rows[near.asked])
    order = after[np.lexsort((near.row[after], near.asked[after]))]
    return Near(near.asked[order], near.row[order], near.distance[order])


def _add_stars(out: Stars, rows: Ints, found: Sequence[Near]) -> None:
    limits = [np.searchsorted(near.asked, np.arange(len(rows) + 1)).tolist() for near in found]
    for place in sorted({place for near in found for place in np.unique(near.asked).tolist()}):
        row = rows[place]
        if out.center[row] >= 0:
            continue
        out.center[row] = row
        for number, near in enumerate(found):
            part = slice(limits[number][place], limits[number][place + 1])
            free = out.center[near.row[part]] < 0
            joining = near.row[part][free]
            out.center[joining], out.reach[joining] = row, number
            out.distance[joining] = near.distance[part][free]
    alone = rows[out.center[rows] < 0]
    out.center[alone] = alone


def code_reach(codes: npt.NDArray[np.uint64], telling: npt.NDArray[np.bool_], radius: int) -> Reach:
    """Near by Hamming distance, the radius included.

    Equal codes are looked for once. The near pairs of the others are found in one go and held while they are few.

    Args:
        codes: uint64 (n,), 64 bits each.
        telling: bool (n,); a row whose code says nothing is near nobody.
        radius: bits.
    """
    rows = np.flatnonzero(telling)
    different, code_of_telling = np.unique(codes[rows], return_inverse=True)
    code_of = np.full(len(codes), -1, np.int64)
    code_of[rows] = code_of_telling
    rows = rows[np.argsort(code_of_telling, kind="stable")]  # by code
    first = np.concatenate([[0], np.cumsum(np.bincount(code_of_telling, minlength=len(different)))])
    index = HammingIndex(np.ascontiguousarray(different).view(np.uint8).reshape(-1, 8))
    pairs = _few_pairs(index, radius)

    def near_codes(asked: Ints) -> Near:
        if pairs is not None:
            limits, others, apart = pairs
            which, at = _gather(limits, asked)
            return Near(which, others[at], apart[at].astype(np.float64))
        limits, apart, others = index.range_search(index.codes[asked], radius)
        return Near(np.repeat(np.arange(len(asked)), np.diff(limits)), others, apart.astype(np.float64))

    def reach(asked: Ints) -> Near:
        own = code_of[asked]
        able = np.flatnonzero(own >= 0)
        wanted, place = np.unique(own[able], return_inverse=True)
        near = near_codes(wanted)
        order = np.argsort(near.asked, kind="stable")
        limits = np.searchsorted(near.asked[order], np.arange(len(wanted) + 1))
        which, at = _gather(limits, place)
        link, member = _gather(first, near.row[order][at])
        return Near(able[which[link]], rows[member], near.distance[order][at][link])

    return reach


def _few_pairs(index: HammingIndex, radius: int) -> tuple[Ints, Ints, npt.NDArray[np.int32]] | None:
    """Of each code the near ones, itself in front: limits, codes and distances. None where they are too many."""
    own = np.arange(len(index))
    left, right, apart = [own], [own], [np.zeros(len(index), np.int32)]
    held = 0
    for block in index.pairs_within(radius):
        held += len(block.distances)
        if held > _PAIRS:
            return None
        left += [block.rows_a, block.rows_b]
        right += [block.rows_b, block.rows_a]
        apart += [block.distances, block.distances]
    asked = np.concatenate(left)
    order = np.argsort(asked, kind="stable")
    limits = np.concatenate([[0], np.cumsum(np.bincount(asked, minlength=len(index)))])
    return limits, np.concatenate(right)[order], np.concatenate(apart)[order]


def _gather(limits: Ints, wanted: Ints) -> tuple[Ints, Ints]:
    """The positions of some runs, one after the other: which of the wanted each belongs to, and where it is."""
    sizes = limits[wanted + 1] - limits[wanted]
    which = np.repeat(np.arange(len(wanted)), sizes)
    return which, np.arange(len(which)) + (limits[wanted] - (np.cumsum(sizes) - sizes))[which]


def vector_reach(vectors: Floats, rows: Ints, count: int, radius: float, metric: Metric) -> Reach:
    """Near by the exact distance of vectors, the radius included.

    Args:
        vectors: float32 or float64 (m, d), not copied.
        rows: int64 (m,); which row each vector is of. A row that has none is near nobody.
        count: how many rows there are.
        radius: the greatest distance that is still near.
        metric: how vectors are compared.
    """
    index = ExactIndex(vectors, metric=metric)
    vector_of = np.full(count, -1, np.int64)
    vector_of[rows] = np.arange(len(rows))

    def reach(asked: Ints) -> Near:
        able = np.flatnonzero(vector_of[asked] >= 0)
        limits, distances, found = index.range_search(vectors[vector_of[asked[able]]], radius)
        return Near(np.repeat(able, np.diff(limits)), rows[found], distances)

    return reach
