"""Iterative quantization: principal components, turned so that they lie near the corners of a cube.

Method: Gong and Lazebnik, "Iterative Quantization: A Procrustean Approach to Learning Binary Codes", CVPR 2011.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagelake.models.codes_pca import Floats, principal_components, random_rotation
from imagelake.models.learned_code import LearnedCode, linear_code

ROUNDS = 50
_MOST_ROWS = 50_000  # more hardly change a rotation


def learn_itq(vectors: Floats, bits: int, random: np.random.Generator) -> LearnedCode:
    """Learn a code of float32 vectors [n, d]; `bits` may be at most d."""
    mean, basis, _ = principal_components(vectors, bits)
    rows = _some(len(vectors), random)
    return linear_code(mean, basis @ quantizing_rotation((vectors[rows] - mean) @ basis, random))


def quantizing_rotation(
    points: NDArray[np.float64], random: np.random.Generator, rounds: int = ROUNDS
) -> NDArray[np.float64]:
    """The rotation [b, b] after which points [n, b] lie nearest to the corners of a cube.

    In turn, each point goes to its corner, and the rotation becomes the one that brings points nearest to theirs.
    """
    rotation = random_rotation(points.shape[1], random)
    for _ in range(rounds):
        corners = np.where(points @ rotation > 0, 1.0, -1.0)
        left, _, right = np.linalg.svd(points.T @ corners)
        rotation = left @ right
    return rotation


def _some(rows: int, random: np.random.Generator) -> NDArray[np.int64] | slice:
    return slice(None) if rows <= _MOST_ROWS else np.sort(random.permutation(rows)[:_MOST_ROWS])
