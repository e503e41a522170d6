"""Queries over the segments of an index: encoded, grouped by cluster, spread over threads, and put together again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imagelake.search import plain
from imagelake.search.clusters import Clusters
from imagelake.search.encoding import Encoder, encode_queries
from imagelake.search.kernel import kernel
from imagelake.search.segment import QUERIES, Answer, Float64s, Floats, Ints, Seeds, Segment
from imagelake.search.threads import in_threads


@dataclass(frozen=True)
class Ranked:
    """The nearest rows of each query by (distance, rank); a place that nobody took has rank -1.

    Attributes:
        distance: float64 (m, k).
        rank: int64 (m, k).
        bound: float64 (m,); no row that was not measured is nearer, or None where it was not asked for.
        proven: bool (m,); whether every row that was not measured is bounded away from the answer, or None as well.
        measured: how many pairs were measured.
    """

    distance: Float64s
    rank: Ints
    bound: Float64s | None
    proven: npt.NDArray[np.bool_] | None
    measured: int


@dataclass(frozen=True)
class Found:
    """Everybody within a radius: query, rank and distance, each (found,), in no order."""

    query: Ints
    rank: Ints
    distance: Float64s


@dataclass(frozen=True)
class _Task:
    queries: slice
    split: int


_SPLIT_PANELS = 2048  # scanning fewer for a few queries takes less time than another thread does to begin

Clustered = tuple[Segment, Clusters]


class Scan:
    """Queries made ready to be looked for in some segments.

    Args:
        encoder: what the segments were encoded with.
        segments: rows, with the clusters they are ordered by.
        vectors: the queries, (m, d).
        threads: how many.
    """

    def __init__(self, encoder: Encoder, segments: list[Clustered], vectors: Floats, threads: int) -> None:
        self._encoder = encoder
        self._segments = segments
        self._threads = threads
        queries, heads = encode_queries(encoder, vectors, threads)
        largest = max(range(len(segments)), key=lambda at: segments[at][0].panels)
        self._largest = largest
        label = segments[largest][1].label(heads)
        self._order = np.argsort(label, kind="stable")
        self._label = label[self._order]
        self._queries = queries.take(self._order)

    def nearest(self, k: int, *, prove: bool = False) -> Ranked:
        """The k nearest of each query, k at least 1."""
        tasks, splits = self._tasks()

        def work(task: _Task) -> Answer:
            count = task.queries.stop - task.queries.start
            answer = Answer(
                self._encoder.metric,
                np.full((count, k), np.inf),
                np.full((count, k), -1, np.int64),
                np.zeros(count, np.int64),
                excluded=np.full(count, -np.inf, np.float32) if prove else None,
            )
            self._run(task, splits, answer, k)
            return answer

        answers = in_threads(work, tasks, self._threads)
        distance = np.empty((len(self._order), k))
        rank = np.empty((len(self._order), k), np.int64)
        bound = np.full(len(self._order), np.inf) if prove else None
        proven = np.zeros(len(self._order), np.bool_) if prove else None
        for start in range(0, len(tasks), splits):
            part = tasks[start].queries
            pieces = answers[start : start + splits]
            distance[self._order[part]], rank[self._order[part]] = _merge(pieces, k)
            if bound is not None and proven is not None:
                excluded = np.stack([piece.excluded for piece in pieces if piece.excluded is not None]).max(axis=0)
                bound[self._order[part]] = self._distances(part, excluded.astype(np.float64))
                kth = distance[self._order[part], -1:]
                needed = plain.least(self._queries.threshold[part], self._encoder.metric, kth)[:, 0]
                proven[self._order[part]] = (excluded < needed) | (excluded == -np.inf)
        return Ranked(distance, rank, bound, proven, sum(int(answer.counts[2]) for answer in answers))

    def within(self, radius: float, own_rank: Ints | None = None, first_panel: int = 0) -> Found:
        """Everybody within `radius`. With `own_rank`, only ranks above the query's own, in panels from the first."""
        tasks, splits = self._tasks()

        def work(task: _Task) -> Answer:
            count = task.queries.stop - task.queries.start
            answer = Answer(
                self._encoder.metric,
                np.empty((count, 0)),
                np.empty((count, 0), np.int64),
                np.zeros(count, np.int64),
                radius=np.full(count, radius),
                own_rank=None if own_rank is None else own_rank[self._order[task.queries]],
                only_above=own_rank is not None,
            )
            self._run(task, splits, answer, 0, first_panel)
            return answer

        answers = in_threads(work, tasks, self._threads)
        found = [
            (self._order[task.queries.start + query], rank, distance)
            for task, answer in zip(tasks, answers, strict=True)
            for query, rank, distance in answer.found
        ]
        if not found:
            return Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        return Found(*(np.concatenate(column) for column in zip(*found, strict=True)))

    def _tasks(self) -> tuple[list[_Task], int]:
        """Blocks of queries; where there are fewer of them than threads, each over several ranges of rows."""
        count = len(self._order)
        size = max(8, min(QUERIES, -(-count // self._threads)))
        blocks = [slice(start, min(count, start + size)) for start in range(0, count, size)]
        panels = sum(segment.panels for segment, _ in self._segments)
        splits = max(1, min(-(-self._threads // len(blocks)), panels // _SPLIT_PANELS))
        return [_Task(block, split) for block in blocks for split in range(splits)], splits

    def _run(self, task: _Task, splits: int, answer: Answer, k: int, first_panel: int = 0) -> None:
        queries = self._queries.take(task.queries)
        for at, (segment, clusters) in enumerate(self._segments):
            seeds: Seeds | None = None
            if at == self._largest and k:
                seeds = clusters.seeds(self._label[task.queries], k)
            low, high = first_panel, segment.panels
            step = -(-(high - low) // splits)
            panels = range(low + min(high - low, task.split * step), low + min(high - low, (task.split + 1) * step))
            kernel().scan(segment, queries, answer, panels, seeds)

    def _distances(self, part: slice, excluded: Float64s) -> Float64s:
        """What distance a row with such a bound has at least."""
        origin, factor, slack = self._queries.threshold[part].T
        with np.errstate(invalid="ignore"):
            value = origin - (excluded + slack + 1e-37) / factor
            value -= np.abs(value) * 1e-11
        out: Float64s = {
            "l2": np.sqrt(np.maximum(value, 0)), "cosine": value / 2, "dot": value,
        }[self._encoder.metric]  # fmt: skip
        return np.where(excluded == -np.inf, np.inf, out)


def _merge(pieces: list[Answer], k: int) -> tuple[Float64s, Ints]:
    """The k best of several answers to the same queries, by (distance, rank), none twice."""
    distance = np.concatenate([piece.distance for piece in pieces], axis=1)
    rank = np.concatenate([piece.rank for piece in pieces], axis=1)
    if len(pieces) > 1:  # a seed may have been found in each
        order = np.argsort(rank, axis=1, kind="stable")
        distance, rank = np.take_along_axis(distance, order, axis=1), np.take_along_axis(rank, order, axis=1)
        again = np.zeros(rank.shape, np.bool_)
        again[:, 1:] = rank[:, 1:] == rank[:, :-1]
        distance[again], rank[again] = np.inf, -1
    absent = rank < 0
    order = np.lexsort((np.where(absent, np.iinfo(np.int64).max, rank), distance), axis=1)[:, :k]
    return np.take_along_axis(distance, order, axis=1), np.take_along_axis(rank, order, axis=1)


def measured(
    segment: Segment, encoder: Encoder, vector: Float64s, inverse: float, rows: Ints
) -> npt.NDArray[np.float64]:
    """Exact distances of one query to rows of a segment's vectors."""
    out: Float64s = kernel().measure(segment, encoder.metric, vector, inverse, rows)
    return out
