"""Codes of neighborhoods: vectors that share neighbors get the same bits, even where they lie far apart.

The vectors to learn from become the nodes of a graph in which each is tied to its nearest. The smoothest functions on
that graph (its leading eigenvectors) change little within a crowd and much between crowds. They are turned to the
corners of a cube as in ITQ, and each node keeps its place. A new vector gets the mean place of its nearest nodes, and
the signs of that are its code.

Sources: Laplacian eigenmaps (Belkin and Niyogi, 2003), spectral hashing (Weiss, Torralba and Fergus, 2008), hashing
with graphs (Liu, Wang, Kumar and Chang, 2011), the extension to new points (Bengio et al., 2004), ITQ (Gong and
Lazebnik, 2011).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagelake.models.codes_itq import quantizing_rotation
from imagelake.models.codes_pca import Floats, principal_components
from imagelake.models.learned_code import LearnedCode

LANDMARKS = 50_000
"""The most vectors that become nodes; of more, a random choice does."""

NEIGHBORS = 10
COMPONENTS = 128
LENGTH = 4000
"""A vector is compared as integers of this length: then sums of products stay below 2^24, where float32 is exact."""

_ONE_WAY = 1 / 6  # of a tie that only one of both names; 1 where both do
_SPARE = 16  # directions beside the wanted ones: they let the search for these converge
_ROUNDS, _PRODUCTS = 12, 4
_DAMPING = 4  # how often the graph smooths the places: what changes fast counts less
_TURNED_BY = 10_000  # as many points choose the rotation
_BLOCK = 1024
_PLACE_STEPS = 8000  # places are kept as integers up to this


def learn_neighbors(vectors: Floats, bits: int, random: np.random.Generator) -> LearnedCode:
    """Learn a code of float32 vectors [n, d]; n must exceed `bits` + 1 and the number of neighbors."""
    if len(vectors) > LANDMARKS:
        vectors = vectors[np.sort(random.permutation(len(vectors))[:LANDMARKS])]
    mean, basis, _ = principal_components(vectors, min(COMPONENTS, vectors.shape[1]))
    basis = basis.astype(np.float32).astype(np.float64)
    landmarks = directions(vectors, mean, basis)
    graph = tie(_neighbors_of_all(landmarks, NEIGHBORS))
    places = smoothest(graph, bits, random)
    some = np.sort(random.permutation(len(landmarks))[:_TURNED_BY])
    seen = _unit(places[nearest(landmarks[some], landmarks, NEIGHBORS)].mean(axis=1))
    turned = _unit(places) @ quantizing_rotation(seen, random)
    kept = np.rint(turned * _PLACE_STEPS).astype(np.int16)
    return LearnedCode(
        "neighbors",
        {"mean": mean, "basis": basis.astype(np.float32), "landmarks": landmarks.astype(np.int16), "places": kept},
    )


def directions(vectors: Floats, mean: NDArray[np.float64], basis: NDArray[np.float64]) -> Floats:
    """Vectors [n, d] seen from the mean, in the basis [d, c], as integers of length `LENGTH` in float32."""
    return np.rint(_unit((vectors - mean) @ basis) * LENGTH).astype(np.float32)


def nearest(asked: Floats, landmarks: Floats, count: int) -> NDArray[np.int64]:
    """The `count` landmarks of the smallest angle to each of `asked`, what `directions` gave; ties by row.

    Returns:
        Rows of `landmarks`, [n, count], in ascending order.
    """
    found = np.empty((len(asked), count), np.int64)
    for start in range(0, len(asked), _BLOCK):
        found[start : start + _BLOCK] = _largest(asked[start : start + _BLOCK] @ landmarks.T, count)
    return found


def _neighbors_of_all(points: Floats, count: int) -> NDArray[np.int64]:
    """As `nearest`, of each point among the others."""
    found = np.empty((len(points), count), np.int64)
    for start in range(0, len(points), _BLOCK):
        scores = points[start : start + _BLOCK] @ points.T
        scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = -np.inf
        found[start : start + _BLOCK] = _largest(scores, count)
    return found


def _largest(scores: Floats, count: int) -> NDArray[np.int64]:
    """The columns of the `count` largest of each row, in ascending order; of equal ones the first columns."""
    if scores.shape[1] <= count:
        return np.broadcast_to(np.arange(count), (len(scores), count)).astype(np.int64)
    chosen = np.argpartition(scores, -count, axis=1)[:, -count:]
    last = np.take_along_axis(scores, chosen, axis=1).min(axis=1)
    unsure = np.flatnonzero((scores >= last[:, None]).sum(axis=1) > count)
    for row in unsure:  # others are as large as the last one chosen: the first columns count
        above = np.flatnonzero(scores[row] > last[row])
        equal = np.flatnonzero(scores[row] == last[row])[: count - len(above)]
        chosen[row] = np.concatenate([above, equal])
    return np.sort(chosen, axis=1)


@dataclass(frozen=True)
class Graph:
    """Ties between nodes, each in both directions, in order of the first node.

    Attributes:
        starts: int64 [n]: where the ties of each node begin; each node has one at least.
        others: int64 [ties]: the node at the other end.
        weights: float32 [ties], divided by the square roots of both nodes' sums of weights.
        sums: float64 [n]: the sum of the weights of each node, before that division.
    """

    starts: NDArray[np.int64]
    others: NDArray[np.int64]
    weights: Floats
    sums: NDArray[np.float64]

    def smooth(self, values: Floats) -> Floats:
        """The weighted sums [n, m] of the neighbors' values [n, m]."""
        out = np.empty_like(values)
        for start in range(0, len(self.starts), _BLOCK):
            stop = min(start + _BLOCK, len(self.starts))
            first = self.starts[start]
            last = self.starts[stop] if stop < len(self.starts) else len(self.others)
            seen = values[self.others[first:last]] * self.weights[first:last, None]
            out[start:stop] = np.add.reduceat(seen, self.starts[start:stop] - first, axis=0)
        return out


def tie(neighbors: NDArray[np.int64]) -> Graph:
    """The graph of each node's neighbors, int64 [n, k]: a tie that both name weighs more."""
    rows, count = neighbors.shape
    named = np.repeat(np.arange(rows), count) * rows + neighbors.ravel()
    reverse = neighbors.ravel() * rows + np.repeat(np.arange(rows), count)
    ties, times = np.unique(np.concatenate([named, reverse]), return_counts=True)
    first, second = ties // rows, ties % rows
    weights = np.where(times == 2, 1.0, _ONE_WAY)
    sums = np.asarray(np.bincount(first, weights, minlength=rows), np.float64)
    normal = weights / np.sqrt(sums[first] * sums[second])
    return Graph(np.searchsorted(first, np.arange(rows)), second, normal.astype(np.float32), sums)


def smoothest(graph: Graph, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """The `count` smoothest functions on a graph but the constant one, float64 [n, count], the smoothest first.

    By subspace iteration. A function that changes faster is scaled down by the power `_DAMPING` of its eigenvalue.
    """
    rows = len(graph.sums)
    constant = np.sqrt(graph.sums / graph.sums.sum())
    wanted = min(count + _SPARE, rows - 1)
    values = _orthogonal(random.standard_normal((rows, wanted)), constant)
    for _ in range(_ROUNDS):
        for _ in range(_PRODUCTS):
            values = graph.smooth(values)
        values = _orthogonal(values, constant)
    eigenvalues, mix = np.linalg.eigh((values.T @ graph.smooth(values)).astype(np.float64))
    order = np.argsort(-eigenvalues, kind="stable")[:count]
    scale = np.maximum(eigenvalues[order], 0.0) ** _DAMPING
    return np.asarray(values @ mix[:, order] * scale / np.sqrt(graph.sums)[:, None])


def _orthogonal(values: NDArray[np.floating], constant: NDArray[np.float64]) -> Floats:
    """Orthonormal columns that span the same but for what is in `constant` [n]."""
    free = values - constant[:, None] * (constant @ values)
    return np.asarray(np.linalg.qr(free)[0], np.float32)


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows of length 1; a row of zeros stays."""
    rows = np.asarray(rows, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0))
