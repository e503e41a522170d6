"""Turning a stored picture upright, by the EXIF orientation tag."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def turn_upright(image_rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply an EXIF orientation, 1 to 8, to an array [h, w, 3]; anything else leaves it as it is.

    The meaning of the values is that of EXIF (CIPA DC-008), tag 0x0112: row 0 and column 0 of what is stored are, in
    order of the values, top-left, top-right, bottom-right, bottom-left, left-top, right-top, right-bottom, left-bottom.
    """
    turned: cv2.typing.MatLike = image_rgb
    if orientation == 2:
        turned = cv2.flip(image_rgb, 1)
    elif orientation == 3:
        turned = cv2.rotate(image_rgb, cv2.ROTATE_180)
    elif orientation == 4:
        turned = cv2.flip(image_rgb, 0)
    elif orientation == 5:
        turned = cv2.transpose(image_rgb)
    elif orientation == 6:
        turned = cv2.rotate(image_rgb, cv2.ROTATE_90_CLOCKWISE)
    elif orientation == 7:
        turned = cv2.flip(cv2.transpose(image_rgb), -1)
    elif orientation == 8:
        turned = cv2.rotate(image_rgb, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return turned  # type: ignore[return-value]
