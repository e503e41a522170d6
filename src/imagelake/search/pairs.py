"""All rows of an index against each other, a block at a time, so that memory is bounded."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake.errors import SearchError
from imagelake.search.result import SearchResult
from imagelake.search.rows import Rows, View, members_of
from imagelake.search.scan import Scan
from imagelake.search.segment import PANEL, Float64s, Ints
from imagelake.search.twins import Twins

_BLOCK_ROWS = 4096
_EXPANDED = 1 << 20  # pairs of twins that are made at a time

Pairs = tuple[npt.NDArray[Any], npt.NDArray[Any], Float64s]


def neighbors_of_all(rows: Rows, k: int) -> Iterator[tuple[npt.NDArray[Any], SearchResult]]:
    """Each row's k nearest others, a block of rows at a time: their ids, and what was found."""
    view, changes = rows.view(), rows.changes
    k = min(k, view.count - 1)
    for added in rows.added if k > 0 else []:
        for start in range(0, len(added.vectors), _BLOCK_ROWS):
            block = np.arange(start, min(len(added.vectors), start + _BLOCK_ROWS))
            block = block[rows.ids.alive[added.offset + block]]
            if not len(block):
                continue
            _refuse_changes(rows, changes)
            found = rows.nearest(added.vectors[block], k + 1, view)
            own = found.rank == rows.ids.rank[added.offset + block][:, None]
            keep = np.sort(np.argsort(own, axis=1, kind="stable")[:, :k], axis=1)
            ids = rows.ids_of(np.take_along_axis(found.rank, keep, axis=1))
            result = SearchResult(np.take_along_axis(found.distance, keep, axis=1), ids)
            yield rows.ids.values[added.offset + block], result


def pairs_within(rows: Rows, radius: float) -> Iterator[Pairs]:
    """All pairs of rows at most `radius` apart, each once: two arrays of ids, and distances."""
    view, changes = rows.view(), rows.changes
    blocks = _few_pairs(rows, view.direct, radius) if view.direct is not None else _many_pairs(rows, view, radius)
    for a, b, distance in blocks:
        _refuse_changes(rows, changes)
        low, high = np.minimum(a, b), np.maximum(a, b)
        order = np.lexsort((high, low))
        yield rows.ids.values[low[order]], rows.ids.values[high[order]], distance[order]


def _refuse_changes(rows: Rows, changes: int) -> None:
    if rows.changes != changes:
        raise SearchError("rows were added or removed meanwhile; begin again.")


def _few_pairs(rows: Rows, positions: Ints, radius: float) -> Iterator[tuple[Ints, Ints, Float64s]]:
    vectors = rows.vectors(positions)
    for row in range(len(positions) - 1):
        later = positions[row + 1 :]
        distance = rows.measure(vectors[row : row + 1], later)[0]
        inside = distance <= radius
        if inside.any():
            yield np.full(int(inside.sum()), positions[row]), later[inside], distance[inside]


def _many_pairs(rows: Rows, view: View, radius: float) -> Iterator[tuple[Ints, Ints, Float64s]]:
    """Each panel's rows against the panels from there on, so that a pair is bounded once; then twins among each other.

    Works on the CPU whatever the device: only there a search can begin at a panel.
    """
    for at, part in enumerate(rows.parts):
        for first in range(0, part.segment.panels, _BLOCK_ROWS // PANEL):
            a, b, distance = _pairs_of(rows, view, at, first, radius)
            if not len(rows.twins):
                if len(a):
                    yield a, b, distance
                continue
            mine, others = rows.group_of(a), rows.group_of(b)
            sizes = _sizes(view.twins, mine) * _sizes(view.twins, others)
            piece = (np.cumsum(sizes) - 1) // _EXPANDED
            for start, stop in _runs(piece):
                part_of = slice(start, stop)
                yield from _expanded(rows, view, a[part_of], b[part_of], distance[part_of])
    yield from _pairs_of_twins(rows, view, radius)


def _pairs_of(rows: Rows, view: View, at: int, first: int, radius: float) -> tuple[Ints, Ints, Float64s]:
    """Pairs of some panels' rows with the rows after them: positions and distances."""
    if rows.encoder is None:
        raise AssertionError("what is scanned was encoded")
    segment, clusters = view.segments[at]
    places = np.arange(first * PANEL, min(segment.panels, first + _BLOCK_ROWS // PANEL) * PANEL)
    places = places[segment.rank[places] >= 0]
    everywhere = np.where(segment.rank >= 0, np.arange(len(segment.rank)), -1)
    vectors = segment.vectors[segment.source[places]]
    here = dataclasses.replace(segment, rank=everywhere)
    threads = rows.where.threads
    if not len(places):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    found = Scan(rows.encoder, [(here, clusters)], vectors, threads).within(radius, places, first)
    position = rows.parts[at].offset + segment.source
    a, b, distance = [position[places[found.query]]], [position[found.rank]], [found.distance]
    later = view.segments[at + 1 :]
    if later:
        other = Scan(rows.encoder, later, vectors, threads).within(radius)
        a.append(position[places[other.query]])
        b.append(rows.ids.by_rank[other.rank])
        distance.append(other.distance)
    return np.concatenate(a), np.concatenate(b), np.concatenate(distance)


def _expanded(rows: Rows, view: View, a: Ints, b: Ints, distance: Float64s) -> Iterator[tuple[Ints, Ints, Float64s]]:
    """Pairs of rows, and of all that equal them."""
    for left in (True, False):
        ends = a if left else b
        group = rows.group_of(ends)
        alone = np.flatnonzero(group < 0)
        at, positions = members_of(view.twins, group[group >= 0])
        at = np.concatenate([alone, np.flatnonzero(group >= 0)[at]])
        ends = np.concatenate([ends[alone], positions])
        a, b, distance = (ends, b[at], distance[at]) if left else (a[at], ends, distance[at])
    if len(a):
        yield a, b, distance


def _pairs_of_twins(rows: Rows, view: View, radius: float) -> Iterator[tuple[Ints, Ints, Float64s]]:
    """Rows that are equal, with each other. For dot they may be too far apart all the same."""
    for start, stop in itertools.pairwise(view.twins.first.tolist()):
        group = view.twins.members[start:stop]
        if len(group) < 2:
            continue
        distance = rows.measure(rows.vectors(group[:1]), group[:1])[0, 0]
        if not distance <= radius:
            continue
        for place in range(len(group) - 1):
            later = group[place + 1 :]
            yield np.full(len(later), group[place]), later, np.full(len(later), distance)


def _sizes(groups: Twins, of: Ints) -> Ints:
    """How many members some groups have; 1 for -1."""
    if not len(groups):
        return np.ones(len(of), np.int64)
    return np.where(of < 0, 1, np.diff(groups.first)[np.maximum(of, 0)])


def _runs(values: Ints) -> list[tuple[int, int]]:
    """Where equal neighbors start and stop."""
    edges = np.flatnonzero(np.diff(values)) + 1
    bounds = [0, *edges.tolist(), len(values)]
    return [(start, stop) for start, stop in itertools.pairwise(bounds) if start < stop]
