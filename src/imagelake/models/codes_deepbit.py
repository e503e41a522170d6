"""DeepBit codes: bits that are clear, set as often as not, and the same when a picture is turned a little.

Method: Lin, Lu, Chen and Zhou, "Learning Compact Binary Descriptors with Unsupervised Deep Neural Networks", CVPR 2016,
its last layer on fixed features. With outputs F of the layer and b = 1 where F > 0, else 0, three losses are added:

- quantization: the mean of |(b - 0.5) - F|^2;
- even distribution: the sum over bits of (mean of F)^2, which stands for (mean of b - 0.5)^2, whose gradient is zero;
- rotation invariance: the mean of C(angle) |F(turned) - F|^2 over the angles, C being Gaussian.

First the layer learns from all vectors by the first two, then from turned pictures by all three, as in the paper. What
its released code does otherwise: it hands the two operands of the first two losses the same data, so that their
gradients cancel, and weights all angles alike; so little but the rotation term trains it. Here all three train. Nothing
in them keeps two bits apart, so that they grow alike the longer they learn: here they start as turned principal
components, and learn shortly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagelake.models.codes_pca import Floats
from imagelake.models.learned_code import LearnedCode
from imagelake.models.linear_layer import Layer, start_layer

ANGLES = (-10.0, -5.0, 0.0, 5.0, 10.0)
"""By how many degrees pictures are turned."""

_SPREAD = 5.0  # degrees: one standard deviation of the Gaussian weights
_EVEN, _INVARIANT = 1.0, 1.0
_BATCH = 128
_STEPS, _TURNED_STEPS = 3000, 1000
_RATE, _TURNED_RATE = 0.05, 0.01


@dataclass(frozen=True)
class Turned:
    """Vectors of pictures that were turned.

    Attributes:
        vectors: float32 [angles, pictures, d], in the order of `ANGLES`.
    """

    vectors: Floats


@dataclass(frozen=True)
class Losses:
    """The three losses of one batch, before they are weighed."""

    quantization: float
    even: float
    rotation: float


def angle_weights() -> NDArray[np.float64]:
    """C(angle) for each of `ANGLES`; 1 at zero."""
    return np.exp(-((np.array(ANGLES) / _SPREAD) ** 2) / 2)


def learn_deepbit(vectors: Floats, bits: int, random: np.random.Generator, turned: Turned) -> LearnedCode:
    """Learn a code of float32 vectors [n, d] and of turned pictures."""
    layer, points = start_layer(vectors, bits, random, scale=0.5, apart=True)
    for step in range(_STEPS):
        batch = points[random.integers(0, len(points), min(_BATCH, len(points)))]
        outputs = batch @ layer.weights + layer.bias
        _, gradient = plain_losses(outputs)
        _descend(layer, batch, gradient, _RATE * (1 - step / _STEPS))
    seen = np.stack([layer.see(part) for part in turned.vectors])
    for step in range(_TURNED_STEPS):
        rows = random.integers(0, seen.shape[1], min(_BATCH // 2, seen.shape[1]))
        batch = seen[:, rows]
        outputs = batch @ layer.weights + layer.bias
        _, gradient = all_losses(outputs)
        _descend(
            layer,
            batch.reshape(-1, batch.shape[-1]),
            gradient.reshape(-1, bits),
            _TURNED_RATE * (1 - step / _TURNED_STEPS),
        )
    return layer.code()


def plain_losses(outputs: NDArray[np.float64]) -> tuple[Losses, NDArray[np.float64]]:
    """Quantization and even distribution of outputs [n, bits], and the gradient of their weighed sum by the outputs."""
    off = outputs - np.where(outputs > 0, 0.5, -0.5)
    mean = outputs.mean(axis=0)
    rows = len(outputs)
    gradient = 2.0 * off / rows + _EVEN * 2.0 * mean / rows
    return Losses(float((off**2).sum() / rows), float((mean**2).sum()), 0.0), gradient


def all_losses(outputs: NDArray[np.float64]) -> tuple[Losses, NDArray[np.float64]]:
    """All three, of outputs [angles, n, bits] in the order of `ANGLES`, and the gradient of their weighed sum."""
    upright, rows = ANGLES.index(0.0), outputs.shape[1]
    plain, gradient_upright = plain_losses(outputs[upright])
    weights = angle_weights()[:, None, None]
    moved = outputs - outputs[upright]
    gradient = _INVARIANT * 2.0 * weights * moved / rows
    gradient[upright] = gradient_upright - gradient.sum(axis=0)
    rotation = float((weights * moved**2).sum() / rows)
    return Losses(plain.quantization, plain.even, rotation), gradient


def _descend(layer: Layer, batch: NDArray[np.float64], gradient: NDArray[np.float64], rate: float) -> None:
    layer.step(batch.T @ gradient, gradient.sum(axis=0), rate)
