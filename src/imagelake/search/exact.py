"""Distances in float64 by plain NumPy: the yardstick that indexes are measured against."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Metric = Literal["cosine", "l2"]
Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def exact_distances(query: Floats, vectors: Floats, metric: Metric) -> npt.NDArray[np.float64]:
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
