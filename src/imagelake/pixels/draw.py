"""Draw boxes with labels onto a picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imagelake.errors import InputError
from imagelake.pixels.lettering import spell

PALETTE_RGB = (
    (230, 25, 75), (0, 130, 200), (200, 85, 0), (60, 180, 75), (145, 30, 180), (0, 128, 128), (170, 110, 40),
    (240, 50, 230), (128, 0, 0), (0, 0, 128), (128, 128, 0), (70, 70, 70),
)  # fmt: skip
"""Colors that differ also for most people with color blindness; white text is readable on all."""


def draw_boxes(
    image_rgb: NDArray[np.uint8],
    boxes_xyxy: NDArray[Any],
    texts: Sequence[str] = (),
    class_ids: Sequence[int] | NDArray[Any] | None = None,
) -> NDArray[np.uint8]:
    """Draw boxes, each with a label on a plate above its left corner, or inside where there is no room above.

    Lines and letters grow with the picture. The first box is drawn last, so that the best one is on top.

    Args:
        image_rgb: uint8 [h, w, 3], RGB; it is not changed.
        boxes_xyxy: [n, 4] in 0..1 of the picture; what lies beyond it is cut off.
        texts: a label for each box, or none at all. An empty one has no plate; letters that
            Pillow's font has no shape for lose their accents.
        class_ids: [n] whole numbers, which choose the colors; None: each label has its own.

    Returns:
        uint8 [h, w, 3], RGB.

    Raises:
        InputError: there are not as many labels or classes as boxes, or the boxes are not [n, 4].
    """
    boxes = np.asarray(boxes_xyxy, np.float64)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    labels = list(texts) if len(texts) else [""] * len(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(labels) != len(boxes):
        raise InputError(f"boxes {boxes.shape} and {len(labels)} texts do not fit; give [n, 4] and n texts")
    if class_ids is None:
        numbers = {label: number for number, label in enumerate(dict.fromkeys(map(_class_of, labels)))}
        classes = [numbers[_class_of(label)] for label in labels]
    else:
        classes = [int(number) for number in class_ids]
    if len(classes) != len(boxes):
        raise InputError(f"{len(classes)} class ids do not fit {len(boxes)} boxes; give one for each")
    picture = Image.fromarray(np.ascontiguousarray(image_rgb))
    pen = ImageDraw.Draw(picture)
    for box, label, number in reversed(list(zip(boxes, labels, classes, strict=True))):
        _draw_box(pen, picture.size, box, label, PALETTE_RGB[number % len(PALETTE_RGB)])
    return np.array(picture)


def _class_of(label: str) -> str:
    """A label without the score that often ends it, so that a class keeps its color."""
    return label.rstrip(" 0123456789.,%")


def _draw_box(
    pen: ImageDraw.ImageDraw,
    size_wh: tuple[int, int],
    box: NDArray[np.float64],
    label: str,
    color: tuple[int, int, int],
) -> None:
    width, height = size_wh
    line = max(1, round(max(size_wh) / 320))
    left, top, right, bottom = np.rint(np.clip(box, 0, 1) * [width, height, width, height]).astype(int).tolist()
    right, bottom = max(left, right - 1), max(top, bottom - 1)  # Pillow counts the last pixel in
    pen.rectangle((left, top, right, bottom), outline=color, width=line)
    label = spell(label)
    if not label:
        return
    font = _font(max(11, round(max(size_wh) / 42)))
    pad = max(2, line + 1)
    x1, y1, x2, y2 = pen.textbbox((0, 0), label, font=font)
    _, ascent, _, descent = pen.textbbox((0, 0), "Agjy", font=font)
    plate_w, plate_h = round(x2 - x1) + 2 * pad, round(max(descent, y2) - min(ascent, y1)) + 2 * pad
    x = max(0, min(left, width - plate_w))
    y = top - plate_h + line if top >= plate_h - line else top
    pen.rectangle((x, y, x + plate_w - 1, y + plate_h - 1), fill=color)
    pen.text((x + pad - x1, y + pad - min(ascent, y1)), label, fill=(255, 255, 255), font=font)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's built-in font with letters of about `size` pixels."""
    return ImageFont.load_default(size=size)
