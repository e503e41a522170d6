"""Where in a picture a classifier sees something: its activations as a map, sharpened by colors, and the box in it.

The map is Eigen-CAM (M. B. Muhammad, M. Yeasin, "Eigen-CAM: Class Activation Map using Principal Components", IJCNN
2020): each cell's place along the direction in which the cells' features differ most. It needs no class, so it works
for subjects that the classifier has no name for; the map of the likeliest class (B. Zhou et al., "Learning Deep
Features for Discriminative Localization", CVPR 2016) boxed fewer of ours: see docs/subject.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEVELS = 16  # of each of three color axes
_SAME = 1e-9
_SQUARINGS = 8  # a component that is 2 % weaker then has a hundredth of the weight


def activation_map(feature_map: NDArray[np.float32]) -> Floats:
    """Say how far each cell belongs to what stands out.

    The square root evens out channels that burn in few cells. The component is found by powers of the cells' products,
    from where most features are: so they are the subject's, and the sign, which a component leaves free, is settled.

    Args:
        feature_map: float32 [channels, h, w], not negative but for rounding.

    Returns:
        float64 [h, w] from 0 to 1; all 0 where no cell differs from another.
    """
    channels = feature_map.shape[0]
    cells = np.sqrt(np.maximum(feature_map.reshape(channels, -1).T, 0))
    centered = cells - cells.mean(axis=0)
    products = (centered @ centered.T).astype(np.float64)
    energy = cells.sum(axis=1, dtype=np.float64)
    for _ in range(_SQUARINGS):
        products /= max(float(np.trace(products)), _SAME)
        products = products @ products
    component = products @ (energy - energy.mean())
    return stretch(component / max(float(np.abs(component).max()), _SAME**4)).reshape(feature_map.shape[1:])


def stretch(values: Floats) -> Floats:
    """The same values from 0 to 1; all 0 where they are equal."""
    low, high = values.min(), values.max()
    return np.zeros_like(values) if high - low < _SAME else np.asarray((values - low) / (high - low))


def enlarge(heat: Floats, side: int) -> Floats:
    """Interpolate a map [h, w] to [side, side], linearly between the centers of its cells."""
    return np.asarray(_weights(heat.shape[0], side) @ heat @ _weights(heat.shape[1], side).T)


def agree_with_colors(heat: Floats, colors_rgb: Floats) -> Floats:
    """Sharpen a map by the colors of the picture: what has a color that is hot elsewhere is hot too.

    Each color's heat is the mean over the pixels that have it; the result is the geometric mean of that and the map.

    Args:
        heat: [side, side] from 0 to 1.
        colors_rgb: [side, side, 3] in 0..255.

    Returns:
        float64 [side, side] from 0 to 1.
    """
    red, green, blue = (colors_rgb[..., channel] for channel in range(3))
    axes = ((red + green + blue) / 3, (red - green) / 2 + 128, (red + green - 2 * blue) / 4 + 128)
    bins = np.zeros(heat.shape, np.int64)
    for axis in axes:
        bins = bins * _LEVELS + np.clip(axis * (_LEVELS / 256), 0, _LEVELS - 1).astype(np.int64)
    flat = bins.ravel()
    counts = np.bincount(flat, minlength=_LEVELS**3)
    sums = np.bincount(flat, heat.ravel(), minlength=_LEVELS**3)
    return stretch(np.sqrt(sums[bins] / counts[bins] * heat))


def heaviest_part(heat: Floats, threshold: float) -> tuple[int, int, int, int] | None:
    """Box the connected part (by edges) of the cells above a threshold whose heat sums to the most.

    Returns:
        Left, top, right and bottom in cells, the last two exclusive; None where no cell is above it.
    """
    parent: list[int] = []
    runs: list[tuple[int, int, int, float]] = []  # row, first column, column after the last, heat
    above: range = range(0)
    for row, mask in enumerate(heat > threshold):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.view(np.int8), [0]])))
        begin = len(runs)
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            parent.append(len(runs))
            for other in above:
                if runs[other][1] < stop and start < runs[other][2]:
                    parent[_root(parent, other)] = _root(parent, len(runs))
            runs.append((row, start, stop, float(heat[row, start:stop].sum())))
        above = range(begin, len(runs))
    if not runs:
        return None
    roots = [_root(parent, index) for index in range(len(runs))]
    mass = np.bincount(roots, [run[3] for run in runs])
    part = [run for run, root in zip(runs, roots, strict=True) if root == int(mass.argmax())]
    return min(run[1] for run in part), part[0][0], max(run[2] for run in part), part[-1][0] + 1


def _root(parent: list[int], index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = parent[index]
    return index


def _weights(cells: int, side: int) -> Floats:
    """[side, cells]: how much of each cell each place gets."""
    places = np.clip((np.arange(side) + 0.5) * cells / side - 0.5, 0, cells - 1)
    return np.asarray(np.maximum(0.0, 1 - np.abs(places[:, None] - np.arange(cells))))
