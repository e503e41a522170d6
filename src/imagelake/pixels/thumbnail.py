"""Small copies of pictures, and JPEG bytes of them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.pixels.reduction import reduce_to

THUMBNAIL_SIDE = 256
"""The side of the thumbnails that `describe` makes; larger ones cost as `figures.WORKING_SIDE` tells."""


def thumbnail(image_rgb: NDArray[np.uint8], side: int = 256) -> NDArray[np.uint8]:
    """Return the picture [h, w, 3], uint8, RGB with its longer side at most `side` pixels.

    It is never enlarged and keeps its aspect; a side that would vanish keeps one pixel. A picture that is already small
    is returned as it is, not copied.

    Raises:
        InputError: `side` is below 1.
    """
    if side < 1:
        raise InputError(f"a thumbnail has a side of {side} pixels; give 1 or more")
    return reduce_to(image_rgb, side)


def encode_jpeg(image_rgb: NDArray[np.uint8], quality: int = 85) -> bytes:
    """Encode an array [h, w, 3], uint8, RGB as baseline JPEG with 4:2:0 color.

    Raises:
        InputError: `quality` is not 1 to 100, or the picture is larger than JPEG allows (65,535 a side).
    """
    if not 1 <= quality <= 100:
        raise InputError(f"the JPEG quality is {quality}; give 1 to 100")
    if max(image_rgb.shape[:2]) > 65_500:
        raise InputError(f"a picture of {image_rgb.shape[1]} x {image_rgb.shape[0]} is too large for JPEG: reduce it")
    image_bgr = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", image_bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return encoded.tobytes()
