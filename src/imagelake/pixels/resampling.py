"""Bring pixels to another size, and say exactly where they went."""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Interpolation = Literal[
    "linear", "cubic", "area", "nearest", "smooth", "linear-antialiased", "cubic-antialiased", "lanczos-antialiased"
]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)
"""How a new pixel is made from those around it.

`linear` (of 2 x 2) and `cubic` (of 4 x 4) skip pixels where a picture gets much smaller, as OpenCV's and most
detectors' training did. `area` averages all pixels that a new one covers; where a side grows, it is linear. `nearest`
copies. `smooth` averages 2 x 2 pixels until a side is less than twice as long, then is linear: nearly as good as `area`
and much faster. The antialiased ones widen their filter as a picture gets smaller, as Pillow does and torchvision with
`antialias=True`.
"""

_LONGEST_STEP = 3.0
_PILLOW = {
    "linear-antialiased": Image.Resampling.BILINEAR,
    "cubic-antialiased": Image.Resampling.BICUBIC,
    "lanczos-antialiased": Image.Resampling.LANCZOS,
}
_OPENCV = {
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "nearest": cv2.INTER_NEAREST_EXACT,  # INTER_NEAREST is half a pixel off
}


def resample(
    array: NDArray[Any], size_wh: tuple[int, int], interpolation: Interpolation
) -> tuple[NDArray[Any], tuple[float, float]]:
    """Bring an array [h, w, c], uint8 or float32, to [size_wh[1], size_wh[0], c].

    Returns:
        The array (the very one given where it has the size), and the factors for x and y by which edge coordinates
        have to be multiplied. `smooth` leaves out an odd last row or column, so its factors differ a little from the
        ratio of the sides.
    """
    width, height = array.shape[1], array.shape[0]
    factors_xy = (size_wh[0] / width, size_wh[1] / height)
    if (width, height) == size_wh:
        return array, factors_xy
    if interpolation == "smooth":
        out, covered_wh = scale_smoothly(array, size_wh)
        factors_xy = (size_wh[0] / covered_wh[0], size_wh[1] / covered_wh[1])
    elif interpolation == "area":
        # OpenCV averages only where both sides shrink: first those that do, then the others.
        smaller_wh = (min(width, size_wh[0]), min(height, size_wh[1]))
        out = _resize(_resize(array, smaller_wh, cv2.INTER_AREA), size_wh, cv2.INTER_LINEAR)
    elif interpolation in _PILLOW:
        out = _with_pillow(array, size_wh, _PILLOW[interpolation])
    else:
        out = _resize(array, size_wh, _OPENCV[interpolation])
    return out.reshape(size_wh[1], size_wh[0], array.shape[2]), factors_xy


def scale_smoothly(array: NDArray[Any], size_wh: tuple[int, int]) -> tuple[NDArray[Any], tuple[int, int]]:
    """Average 2x2 pixels while both sides have at least twice the size, then interpolate.

    One `INTER_AREA` pass costs as much as decoding the JPEG; averaging exactly 2x2 pixels runs on vector instructions
    and is six times as fast. Interpolation alone would skip pixels where one side is still far too long (a panorama
    squashed to a square): from a factor of 3 on, that last step is the slow average. An odd last row or column is
    left out of a 2x2 step.

    Returns:
        The array of that size, C-contiguous, and the width and height of the part of the picture that it shows.
    """
    steps = 0
    while array.shape[1] >= 2 * size_wh[0] and array.shape[0] >= 2 * size_wh[1]:
        half_w, half_h = array.shape[1] // 2, array.shape[0] // 2
        array = _resize(array[: 2 * half_h, : 2 * half_w], (half_w, half_h), cv2.INTER_AREA)
        steps += 1
    height, width = array.shape[:2]
    if (width, height) != size_wh:
        far = max(width / size_wh[0], height / size_wh[1]) >= _LONGEST_STEP
        array = _resize(array, size_wh, cv2.INTER_AREA if far else cv2.INTER_LINEAR)
    return np.ascontiguousarray(array), (width << steps, height << steps)


def _resize(array: NDArray[Any], size_wh: tuple[int, int], interpolation: int) -> NDArray[Any]:
    if (array.shape[1], array.shape[0]) == size_wh:
        return array
    return cast("NDArray[Any]", cv2.resize(array, size_wh, interpolation=interpolation))


def _with_pillow(array: NDArray[Any], size_wh: tuple[int, int], resampling: Image.Resampling) -> NDArray[Any]:
    """With Pillow's filters; values of uint8 are rounded and clipped after each direction, those of float32 are not."""
    if array.dtype == np.uint8 and array.shape[2] == 3:
        return np.asarray(Image.fromarray(np.ascontiguousarray(array)).resize(size_wh, resampling))
    planes = [np.ascontiguousarray(array[:, :, channel]) for channel in range(array.shape[2])]
    return np.stack([np.asarray(Image.fromarray(plane).resize(size_wh, resampling)) for plane in planes], axis=2)
