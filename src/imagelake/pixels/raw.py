"""Raw pixels, as a camera or another program hands them over, to RGB arrays."""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ImageError, InputError

RawOrder = Literal["rgb", "bgr", "gray", "rgba", "bgra"]
_CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1, "rgba": 4, "bgra": 4}
_TO_RGB = {"bgr": cv2.COLOR_BGR2RGB, "gray": cv2.COLOR_GRAY2RGB, "bgra": cv2.COLOR_BGRA2RGB, "rgba": cv2.COLOR_RGBA2RGB}


def from_raw(data: bytes, size_wh: tuple[int, int], order: RawOrder = "rgb") -> NDArray[np.uint8]:
    """Make an RGB picture of raw pixels.

    Args:
        data: 8 bits a value, row by row from the top, the values of a pixel together, without any padding.
        size_wh: width and height in pixels.
        order: what the values of a pixel are; alpha is dropped.

    Returns:
        uint8 [h, w, 3], RGB.

    Raises:
        InputError: the size or the order is not allowed.
        ImageError: there are more or fewer bytes than such a picture has.
    """
    if order not in get_args(RawOrder):
        raise InputError(f"order {order!r} is not known; use one of {', '.join(get_args(RawOrder))}")
    width, height = size_wh
    if min(size_wh) < 1:
        raise InputError(f"size {size_wh} is not allowed; give a width and a height of 1 pixel or more")
    wanted = width * height * _CHANNELS[order]
    if len(data) != wanted:
        raise ImageError(f"{len(data)} bytes are no {order} picture of {width} x {height}, which has {wanted} bytes")
    pixels = np.frombuffer(data, np.uint8).reshape(height, width, _CHANNELS[order])
    return pixels.copy() if order == "rgb" else np.asarray(cv2.cvtColor(pixels, _TO_RGB[order]), np.uint8)
