"""Whether an int8 graph says what the fp32 graph says, on pictures that every machine can make."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagelake.models.runtime import Runtime

# A graph below this mean cosine is not used. Sound graphs reach far more on these pictures, and saturating kernels
# far less (docs/default-model.md has the figures).
LOWEST_MEAN_COSINE = 0.97


def probe_pictures(size_wh: tuple[int, int], count: int = 6) -> NDArray[np.uint8]:
    """Pictures made of smooth color fields, discs and grain, the same on every machine.

    Returns:
        uint8 [count, height, width, 3].
    """
    width, height = size_wh
    generator = np.random.default_rng(20)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(max(width, height))
    pictures = np.empty((count, height, width, 3), np.uint8)
    for index in range(count):
        wave_x, wave_y, phase = generator.uniform(2.0, 30.0, (3, 3))
        field = 128 + 70 * np.sin(x[..., None] * wave_x + y[..., None] * wave_y + phase)
        for center_x, center_y, radius, *color in generator.uniform(0.05, 1.0, (5, 6)):
            inside = (x - center_x) ** 2 + (y - center_y) ** 2 < (0.35 * radius) ** 2
            field[inside] = 0.3 * field[inside] + 180 * np.array(color)
        grain = generator.normal(0.0, 12.0, (height, width, 1))
        pictures[index] = np.clip(field + grain, 0, 255).astype(np.uint8)
    return pictures


def mean_cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The mean cosine of the rows of two float arrays [n, ...]; a row of zeros counts 0."""
    return float(np.mean(cosines(one, other)))


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """The cosine of each row of two float arrays [n, ...], float64 [n]; a row of zeros has 0."""
    a, b = (v.reshape(len(v), -1).astype(np.float64) for v in (one, other))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.sum(a * b, axis=1) / np.maximum(lengths, 1e-30), np.float64)


def measure(exact: Runtime, rounded: Runtime, output: str, size_wh: tuple[int, int]) -> float:
    """The mean cosine of one output of two runtimes on the probe pictures."""
    pictures = probe_pictures(size_wh)
    return mean_cosine(exact.run([output], pictures)[output], rounded.run([output], pictures)[output])
