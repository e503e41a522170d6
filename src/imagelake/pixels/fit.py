"""Bring a picture to the size that a model takes."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.pixels.resampling import scale_smoothly

BAR_GRAY = 127


def fit(
    image_rgb: NDArray[np.uint8], size_wh: tuple[int, int], how: Literal["squash", "crop", "letterbox"]
) -> NDArray[np.uint8]:
    """Resize a picture to exactly `size_wh`.

    Args:
        image_rgb: uint8 [height, width, 3], at least one pixel.
        size_wh: width and height wanted, in pixels.
        how: `"squash"` scales each side on its own; `"crop"` takes the largest centered part with the wanted aspect;
            `"letterbox"` scales the whole picture to fit inside and centers it between bars of gray (127).

    Returns:
        uint8 [size_wh[1], size_wh[0], 3], C-contiguous. A picture that already has the size comes back unchanged.

    Raises:
        InputError: the array is not such a picture, or the size or the word is not allowed.
    """
    if image_rgb.dtype != np.uint8 or image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.size == 0:
        raise InputError(
            f"a picture of type {image_rgb.dtype} and shape {image_rgb.shape} cannot be resized; "
            "give uint8 [height, width, 3] with at least one pixel"
        )
    if min(size_wh) < 1:
        raise InputError(f"size {size_wh} is not allowed; give a width and a height of 1 pixel or more")
    if how == "squash":
        return _scale(image_rgb, size_wh)
    if how == "crop":
        return _scale(_center_part(image_rgb, size_wh), size_wh)
    if how == "letterbox":
        return _letterbox(image_rgb, size_wh)
    raise InputError(f"resize {how!r} is not known; use one of squash, crop, letterbox")


def _center_part(image_rgb: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """The largest centered part whose aspect is that of `size_wh`, to the nearest pixel."""
    height, width = image_rgb.shape[:2]
    scale = min(width / size_wh[0], height / size_wh[1])
    part_w = max(1, min(width, round(size_wh[0] * scale)))
    part_h = max(1, min(height, round(size_wh[1] * scale)))
    left, top = (width - part_w) // 2, (height - part_h) // 2
    return image_rgb[top : top + part_h, left : left + part_w]


def _letterbox(image_rgb: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = image_rgb.shape[:2]
    scale = min(size_wh[0] / width, size_wh[1] / height)
    inner_w = max(1, min(size_wh[0], round(width * scale)))
    inner_h = max(1, min(size_wh[1], round(height * scale)))
    left, top = (size_wh[0] - inner_w) // 2, (size_wh[1] - inner_h) // 2
    boxed = np.full((size_wh[1], size_wh[0], 3), BAR_GRAY, np.uint8)
    boxed[top : top + inner_h, left : left + inner_w] = _scale(image_rgb, (inner_w, inner_h))
    return boxed


def _scale(image_rgb: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    return scale_smoothly(image_rgb, size_wh)[0]
