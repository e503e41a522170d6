"""Codes without training: principal components, turned at random, cut at the mean.

The turn spreads the variance evenly over the bits, so that each tells about as much. Method: PCA with a random
rotation, as in Gong and Lazebnik, "Iterative Quantization", CVPR 2011, and in "Hashing-Baseline", arXiv 2509.14427.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagelake.models.learned_code import LearnedCode, linear_code

Floats = NDArray[np.float32]
_BLOCK = 8192


def learn_pca(vectors: Floats, bits: int, random: np.random.Generator) -> LearnedCode:
    """Learn a code of float32 vectors [n, d]; `bits` may be at most d."""
    mean, basis, _ = principal_components(vectors, bits)
    return linear_code(mean, basis @ random_rotation(bits, random))


def principal_components(
    vectors: Floats, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The mean [d], the `count` directions of most variance [d, count] and their variances.

    The sign of a direction is fixed by its largest entry, so that the same vectors give the same directions.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), _BLOCK):
        centered = (vectors[start : start + _BLOCK] - mean).astype(np.float32)  # twice as fast, summed up in float64
        scatter += centered.T @ centered
    values, directions = np.linalg.eigh(scatter / max(len(vectors), 1))
    basis = directions[:, ::-1][:, :count]
    largest = np.abs(basis).argmax(axis=0)
    basis = basis * np.where(basis[largest, np.arange(basis.shape[1])] < 0, -1.0, 1.0)
    return mean, basis, np.maximum(values[::-1][:count], 0.0)


def random_rotation(size: int, random: np.random.Generator) -> NDArray[np.float64]:
    """A random orthogonal matrix [size, size]."""
    q, r = np.linalg.qr(random.standard_normal((size, size)))
    return np.asarray(q * np.where(np.diag(r) < 0, -1.0, 1.0))
