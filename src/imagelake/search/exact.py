"""Exact nearest neighbors by brute force over a stream of blocks, with memory bounded by one block.

A float32 matrix product finds who can be near; its rounding error is bounded, and whoever the bound cannot exclude is
measured again in float64. So the answer is that of float64 arithmetic, at the cost of float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from imagelake.errors import SearchError

Metric = Literal["cosine", "l2"]
Block = tuple[npt.NDArray[np.str_], npt.NDArray[np.float32]]

# |computed - true| <= n u / (1 - n u) * |x| * |q| for a dot product of length n in any order of summation
# (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1), u being half an ulp of float32.
_UNIT_ROUNDOFF = 2.0**-24


@dataclass(frozen=True)
class Neighbors:
    """Distances ascending (float64, shape (found,)) and the ids they belong to; equal distances by id."""

    distances: npt.NDArray[np.float64]
    ids: npt.NDArray[np.str_]


def nearest(query: npt.NDArray[np.float32], blocks: Iterable[Block], k: int, metric: Metric) -> Neighbors:
    """The `k` nearest of all vectors in `blocks` to `query`.

    Args:
        query: float32, shape (d,).
        blocks: pairs of ids (shape (n,), strings) and vectors (float32, shape (n, d)).
        k: how many; fewer come back where there are fewer vectors.
        metric: "l2", the Euclidean distance; or "cosine", one minus the cosine of the angle, 0 to 2, computed as half
            the squared distance of the normalized vectors so that a vector is at exactly 0 from itself. A zero
            vector has no angle: it is at distance 1 from everything but another zero vector, and at 0 from that.

    Raises:
        SearchError: k below 1, lengths that differ, or a value that is no finite number.
    """
    if k < 1:
        raise SearchError(f"k is {k}; it must be 1 or more.")
    if not np.isfinite(query).all():
        raise SearchError("The query vector has a value that is no finite number.")
    best = Neighbors(np.empty(0), np.empty(0, "U1"))
    for ids, vectors in blocks:
        if vectors.shape[1:] != query.shape:
            raise SearchError(
                f"The query has {query.shape[0]} dimensions and the vectors {vectors.shape[1]}; "
                "they must come from the same model and pooling."
            )
        near = _candidates(query, vectors, best, k, metric)
        best = _merge(best, exact_distances(query, vectors[near], metric), ids[near], k)
    return best


def exact_distances(
    query: npt.NDArray[np.float32], vectors: npt.NDArray[np.float32], metric: Metric
) -> npt.NDArray[np.float64]:
    """Distances in float64. Query shape (d,), vectors (n, d), result (n,)."""
    x, q = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "cosine":
        x_norm, q_norm = np.linalg.norm(x, axis=1, keepdims=True), np.linalg.norm(q)
        x = np.divide(x, x_norm, out=np.zeros_like(x), where=x_norm > 0)
        q = q / q_norm if q_norm > 0 else q
        half = 0.5 * np.square(x - q).sum(axis=1)
        lonely = (x_norm[:, 0] > 0) != (q_norm > 0)  # one of the two is zero
        half[(vectors == query).all(axis=1)] = 0.0  # two ways to sum a norm may differ in the last bit
        return np.where(lonely, 1.0, half)
    distances: npt.NDArray[np.float64] = np.sqrt(np.square(x - q).sum(axis=1))
    return distances


def _candidates(
    query: npt.NDArray[np.float32], vectors: npt.NDArray[np.float32], best: Neighbors, k: int, metric: Metric
) -> npt.NDArray[np.intp]:
    """Rows that rounding error allows to be among the k nearest; everyone else is proven farther.

    Compared is a score that falls as the distance grows: cos for cosine, x.q - |x|^2 / 2 for l2.
    """
    rows, dimensions = vectors.shape
    if rows <= 2 * k:
        return np.arange(rows)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        query_norm = float(np.linalg.norm(query.astype(np.float64)))
        products = (vectors @ query).astype(np.float64)
    if not np.isfinite(norms).all():
        row = int(np.flatnonzero(~np.isfinite(norms))[0])
        raise SearchError(f"Vector {row} of its block has a value that is no finite number.")
    unsafe = ~np.isfinite(products)  # float32 overflowed: measure it exactly
    gamma = dimensions * _UNIT_ROUNDOFF / (1 - dimensions * _UNIT_ROUNDOFF)
    if metric == "cosine":
        scale = norms * query_norm
        scores = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
        slack = np.full(rows, gamma + 1e-12)
        # A product of tiny values can underflow: the relative bound does not hold there.
        unsafe |= scale < dimensions * 1e-37
    else:
        scores = products - 0.5 * norms**2
        slack = gamma * norms * query_norm + 1e-12 * (norms**2 + query_norm**2) + dimensions * 1e-37
    low, high = scores - slack, scores + slack
    low[unsafe], high[unsafe] = -np.inf, np.inf
    threshold = np.partition(low, rows - k)[rows - k]  # k rows score at least this
    if len(best.distances) == k:
        worst = best.distances[-1]
        known = 1.0 - worst if metric == "cosine" else 0.5 * (query_norm**2 - worst**2)
        threshold = max(threshold, known - 1e-12 * (1.0 + query_norm**2 + worst**2))
    return np.flatnonzero(high >= threshold)


def _merge(best: Neighbors, distances: npt.NDArray[np.float64], ids: npt.NDArray[np.str_], k: int) -> Neighbors:
    distances, ids = np.concatenate([best.distances, distances]), np.concatenate([best.ids, ids])
    order = np.lexsort((ids, distances))[:k]
    return Neighbors(distances[order], ids[order])
