"""A part of an encoded picture, as an encoded picture of its own."""

from __future__ import annotations

import numpy as np

from imagelake.pixels.cropping import crop_box
from imagelake.pixels.picture import MAX_SIDE
from imagelake.pixels.png import encode_png
from imagelake.serve.picture_input import PictureReader

Box = tuple[float, float, float, float]


def cut_out(data: bytes, box_xyxy: Box, max_pixels: int) -> bytes:
    """What is inside a box of a picture, with the very same pixels.

    Args:
        data: the encoded picture.
        box_xyxy: in [0, 1] of the upright picture.
        max_pixels: a picture with more is refused before it is decoded.

    Returns:
        A PNG.

    Raises:
        ImageError: it is no picture, or broken.
        TooLargeError: it has too many pixels.
    """
    box = np.array(box_xyxy)
    reader = PictureReader(lambda image_rgb: encode_png(crop_box(image_rgb, box)), MAX_SIDE, max_pixels)
    return reader.read([data])[0]


def in_whole(box_xyxy: list[float], part_xyxy: Box | None) -> list[float]:
    """A box in a part of a picture, as a box in the picture."""
    if part_xyxy is None:
        return box_xyxy
    left, top, right, bottom = part_xyxy
    width, height = right - left, bottom - top
    x1, y1, x2, y2 = box_xyxy
    return [left + x1 * width, top + y1 * height, left + x2 * width, top + y2 * height]
