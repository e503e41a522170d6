"""One linear layer, learned by gradient descent with momentum: what the learned hashing methods here train."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagelake.models.codes_pca import Floats, principal_components, random_rotation
from imagelake.models.learned_code import LearnedCode, linear_code

COMPONENTS = 256  # a layer sees so many principal components at most: the rest holds next to nothing
_MOMENTUM = 0.9


@dataclass
class Layer:
    """A layer on its way; a class since it learns. What it sees are vectors as `see` gives them.

    Attributes:
        mean: of the vectors, [d].
        basis: from centered vectors to what the layer sees, [d, c].
        weights: [c, bits].
        bias: [bits].
    """

    mean: NDArray[np.float64]
    basis: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __post_init__(self) -> None:
        self._speed, self._bias_speed = np.zeros_like(self.weights), np.zeros_like(self.bias)

    def see(self, vectors: Floats) -> NDArray[np.float64]:
        """Vectors [n, d] as the layer takes them, [n, c]."""
        return np.asarray((vectors - self.mean) @ self.basis)

    def step(self, by_weights: NDArray[np.float64], by_bias: NDArray[np.float64], rate: float) -> None:
        """One step down a gradient."""
        self._speed = _MOMENTUM * self._speed - rate * by_weights
        self._bias_speed = _MOMENTUM * self._bias_speed - rate * by_bias
        self.weights += self._speed
        self.bias += self._bias_speed

    def code(self) -> LearnedCode:
        """The code whose bit is set where the layer's output is above zero."""
        learned = linear_code(self.mean, self.basis @ self.weights)
        threshold = learned.arrays["threshold"] - self.bias
        return LearnedCode("linear", {**learned.arrays, "threshold": threshold})


def start_layer(
    vectors: Floats, bits: int, random: np.random.Generator, *, scale: float = 1.0, apart: bool = False
) -> tuple[Layer, NDArray[np.float64]]:
    """A layer with random weights whose outputs vary by about `scale`, and the vectors [n, d] as it sees them.

    With `apart`, its outputs are the first principal components, turned at random: no two of them tell the same.
    """
    mean, basis, variances = principal_components(vectors, min(COMPONENTS, vectors.shape[1]))
    length = max(float(np.sqrt(variances.sum())), 1e-12)
    weights = random.standard_normal((len(variances), bits))
    if apart and bits <= len(variances):
        share = max(float(np.sqrt(variances[:bits].mean())), 1e-12) / length
        weights[:bits], weights[bits:] = random_rotation(bits, random) / share, 0.0
    layer = Layer(mean, basis / length, scale * weights, np.zeros(bits))
    return layer, layer.see(vectors)
