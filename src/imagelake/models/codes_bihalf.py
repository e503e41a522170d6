"""Bi-half codes: each bit is set for one half of a batch, so that it carries as much information as a bit can.

Method: Li and van Gemert, "Deep Unsupervised Image Hashing by Maximizing Bit Entropy", AAAI 2021, its one linear layer
on fixed features. Forward, the larger half of a batch becomes 1 and the rest -1, bit by bit; backward, the gradient of
the codes passes to the layer's outputs, with a pull of these towards their codes. The loss wants the cosine of two
codes to be that of their vectors. What differs: vectors are centered first and seen in their principal components, the
steps are larger and fewer, and a code outside of a batch is cut at the medians of what was learned from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagelake.models.codes_pca import Floats
from imagelake.models.learned_code import LearnedCode
from imagelake.models.linear_layer import start_layer

PULL = 6.0  # the paper's gamma
BATCH = 64
EPOCHS = 20
_LEAST_STEPS, _MOST_STEPS = 3000, 20_000
_LEARNING_RATE = 5.0
_DECAY = 5e-5  # of the weights: without it a few vectors are learned by heart


def learn_bihalf(vectors: Floats, bits: int, random: np.random.Generator) -> LearnedCode:
    """Learn a code of float32 vectors [n, d]; n must be at least 2."""
    layer, points = start_layer(vectors, bits, random)
    size = min(BATCH, len(points) // 2 * 2)
    steps = min(max(EPOCHS * len(points) // size, _LEAST_STEPS), _MOST_STEPS)
    for step in range(steps):
        rows = random.integers(0, len(points), size)
        batch = points[rows]
        outputs = batch @ layer.weights
        gradient = bihalf_gradient(batch, outputs)
        by_weights = batch.T @ gradient + _DECAY * layer.weights
        layer.step(by_weights, gradient.sum(axis=0), _LEARNING_RATE * (1 - step / steps))
    layer.bias = -np.median(points @ layer.weights, axis=0)
    return layer.code()


def halves(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for the larger half of each column of [n, bits], -1 for the rest; ties by row."""
    ranks = np.argsort(np.argsort(outputs, axis=0, kind="stable"), axis=0, kind="stable")
    return np.where(ranks >= len(outputs) / 2, 1.0, -1.0)


def bihalf_gradient(vectors: NDArray[np.float64], outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The gradient by the layer's outputs [n, bits]; the first half of the batch is compared with the second."""
    codes = halves(outputs)
    middle = len(codes) // 2
    first, second = codes[:middle], codes[middle:]
    bits = codes.shape[1]
    of_codes = (first * second).sum(axis=1) / bits
    error = 2.0 * (of_codes - _cosines(vectors[:middle], vectors[middle:])) / max(middle, 1)
    by_first = error[:, None] * (second - of_codes[:, None] * first) / bits
    by_second = error[:, None] * (first - of_codes[:, None] * second) / bits
    return np.concatenate([by_first, by_second]) + PULL * (outputs - codes) / outputs.size


def _cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) / np.maximum(lengths, 1e-12))
