"""Whether the answers of a k-NN search are right, by float64 arithmetic that shares nothing with any of the searches.

A product in float64 bounds the distance of every pair, rounding included, so all rows that may be among the k nearest
of a query are known; `exact_distances` measures these, and whatever the searches named. The bound: with vectors p and
q of d numbers and u = 2^-53, the computed |p|^2 + |q|^2 - 2 p.q is off by at most 2 (d + 3) u (|p|^2 + |q|^2) (Higham,
Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1); centering and normalizing add less than
4 (d + 3) u of that. 8 (d + 8) u is above the sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imagelake.run.progress import Progress, Silent
from imagelake.search.exact import Metric, exact_distances
from imagelake.search.segment import Float64s, Floats, Ints

DEMO_TOLERANCE = 1.0
"""The published demo accepts distances that differ by less."""
FINE_TOLERANCE = 1e-3

_ROUNDING = 1e-9  # relative: float64 distances of what is equally near differ by less
_SMALLEST_COSINE = 1e-20  # below, the rounding of the norms is all that a cosine distance says
_QUERIES, _ROWS = 256, 4096  # of a block


@dataclass(frozen=True, eq=False)
class Answer:
    """What a search found.

    Attributes:
        distances: float64 (m, k), Euclidean or one minus the cosine, ascending.
        rows: int64 (m, k), positions in the base; what is no position is a missing neighbor.
    """

    distances: Float64s
    rows: Ints


@dataclass(frozen=True)
class Verdict:
    """How right an answer is.

    Attributes:
        max_distance_difference: the largest difference of a reported distance and the true one of that place.
        above_tolerance: how many distances differ by 1 or more, which is what the published demo refuses.
        above_thousandth: how many differ by more than 0.001.
        wrong_neighbors: how many of the m x k are farther than the true k-th, named twice, or missing. Of rows at the
            same distance, each is right.
    """

    max_distance_difference: float
    above_tolerance: int
    above_thousandth: int
    wrong_neighbors: int


def check_answers(
    base: Floats,
    queries: Floats,
    answers: Mapping[str, Answer],
    k: int,
    metric: Metric,
    progress: Progress | None = None,
) -> dict[str, Verdict]:
    """Compare answers with the truth.

    Args:
        base: float32 or float64, shape (n, d).
        queries: shape (m, d).
        answers: by name; each of m rows. Fewer than k columns are missing neighbors.
        k: how many were asked for, n at most.
        metric: what the distances are.
        progress: told of every checked query.

    Returns:
        A verdict for each name.
    """
    progress = progress or Silent()
    full = {name: _padded(answer, k) for name, answer in answers.items()}
    differences = {name: np.empty((len(queries), k)) for name in full}
    wrong = dict.fromkeys(full, 0)
    for query, candidates in enumerate(_candidates(base, queries, k, metric)):
        named = [answer.rows[query] for answer in full.values()]
        rows = np.unique(np.concatenate([candidates, *named]))
        rows = rows[(rows >= 0) & (rows < len(base))]
        distances = _measure(queries[query], base, rows, metric)
        truth = np.sort(distances)[:k]
        limit = truth[-1] * (1 + _ROUNDING) + (_SMALLEST_COSINE if metric == "cosine" else 0.0)
        near = rows[distances <= limit]
        for name, answer in full.items():
            found = np.unique(answer.rows[query])
            wrong[name] += k - int(np.isin(found, near, assume_unique=True).sum())
            differences[name][query] = answer.distances[query] - truth
        progress.advance(1)
    return {name: _verdict(differences[name], wrong[name]) for name in full}


def _verdict(differences: Float64s, wrong: int) -> Verdict:
    sizes = np.abs(differences)
    sizes[np.isnan(sizes)] = np.inf
    return Verdict(
        float(sizes.max(initial=0.0)),
        int((sizes >= DEMO_TOLERANCE).sum()),
        int((sizes > FINE_TOLERANCE).sum()),
        wrong,
    )


def _padded(answer: Answer, k: int) -> Answer:
    """With k columns; what is missing is row -1 at an infinite distance."""
    missing = max(0, k - answer.rows.shape[1])
    return Answer(
        np.pad(answer.distances[:, :k], ((0, 0), (0, missing)), constant_values=np.inf),
        np.pad(answer.rows[:, :k], ((0, 0), (0, missing)), constant_values=-1),
    )


def _measure(
    query: npt.NDArray[np.float32] | npt.NDArray[np.float64], base: Floats, rows: Ints, metric: Metric
) -> Float64s:
    """Float64 distances to some rows, a block at a time."""
    parts = [exact_distances(query, base[rows[start : start + _ROWS]], metric) for start in range(0, len(rows), _ROWS)]
    return np.concatenate(parts)


def _candidates(base: Floats, queries: Floats, k: int, metric: Metric) -> Iterator[Ints]:
    """For each query, rows among which are the k nearest and all that are as near as the k-th."""
    center = base.mean(axis=0, dtype=np.float64)  # near it, differences of squares lose the least
    for start in range(0, len(queries), _QUERIES):
        asked = _placed(queries[start : start + _QUERIES], metric, center)
        yield from _candidates_of(base, asked, k, metric, center)


def _candidates_of(base: Floats, asked: Float64s, k: int, metric: Metric, center: Float64s) -> Iterator[Ints]:
    slack = 8 * (asked.shape[1] + 8) * 2.0**-53
    asked_squares = np.square(asked).sum(axis=1)[:, None]
    best = np.full((len(asked), k), np.inf)  # the k least upper bounds so far
    found: list[tuple[Ints, Ints, Float64s]] = []
    for start in range(0, len(base), _ROWS):
        rows = _placed(base[start : start + _ROWS], metric, center)
        sizes = asked_squares + np.square(rows).sum(axis=1)
        distance = sizes - 2 * (asked @ rows.T)
        sizes *= slack
        best = np.partition(np.hstack([best, distance + sizes]), k - 1, axis=1)[:, :k]
        lower = distance - sizes
        query, row = np.nonzero(lower <= best[:, k - 1 : k])
        found.append((query, start + row, lower[query, row]))
    queries, candidates, least = (np.concatenate(column) for column in zip(*found, strict=True))
    kept = least <= best[queries, k - 1]
    queries, candidates = queries[kept], candidates[kept]
    candidates = candidates[np.argsort(queries, kind="stable")]
    ends = np.cumsum(np.bincount(queries, minlength=len(asked)))
    yield from np.split(candidates, ends[:-1])


def _placed(vectors: Floats, metric: Metric, center: Float64s) -> Float64s:
    """Points, float64, whose squared distances order as the metric does.

    For cosine these are the normalized vectors, with one more dimension for those that have no direction, so that they
    are as far from all others as a right angle.
    """
    points = vectors.astype(np.float64)
    if metric == "l2":
        return points - center
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    points = np.divide(points, norms, out=np.zeros_like(points), where=norms > 0)
    return np.hstack([points, norms == 0])
