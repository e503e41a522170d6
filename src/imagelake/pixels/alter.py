"""Altered copies of a picture, as people make them: cropped, turned, recompressed, relit, written on."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Rgb = NDArray[np.uint8]


def crop(image_rgb: Rgb, share: float, at_xy: tuple[float, float]) -> Rgb:
    """The part with `share` of each side; `at_xy` places it, (0, 0) top left to (1, 1) bottom right."""
    height, width = image_rgb.shape[:2]
    part_h, part_w = max(1, round(height * share)), max(1, round(width * share))
    top, left = round((height - part_h) * at_xy[1]), round((width - part_w) * at_xy[0])
    return np.ascontiguousarray(image_rgb[top : top + part_h, left : left + part_w])


def rotate(image_rgb: Rgb, degrees: float) -> Rgb:
    """Turned counterclockwise about the center, same size, corners filled from the border."""
    height, width = image_rgb.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    turned = cv2.warpAffine(image_rgb, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(turned, np.uint8)


def relight(image_rgb: Rgb, factor: float) -> Rgb:
    """Every value times `factor`, clipped to 0..255."""
    return np.asarray(cv2.convertScaleAbs(image_rgb, alpha=factor), np.uint8)


def shrink(image_rgb: Rgb, factor: int) -> Rgb:
    """Both sides divided by `factor`."""
    height, width = image_rgb.shape[:2]
    size_wh = (max(1, width // factor), max(1, height // factor))
    return np.asarray(cv2.resize(image_rgb, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def write_on(image_rgb: Rgb, text: str) -> Rgb:
    """`text` in white on a black bar across the lower part, as on a forwarded joke."""
    picture = Image.fromarray(image_rgb)
    width, height = picture.size
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(10, width // 14))
    bar = (0, round(height * 0.72), width, round(height * 0.9))
    draw.rectangle(bar, fill="black")
    draw.text((width / 2, (bar[1] + bar[3]) / 2), text, fill="white", font=font, anchor="mm")
    return np.asarray(picture)


ALTERATIONS: dict[str, Callable[[Rgb], Rgb]] = {
    "crop-center-70": lambda image: crop(image, 0.7, (0.5, 0.5)),
    "crop-corner-60": lambda image: crop(image, 0.6, (0.0, 0.0)),
    "turned-15": lambda image: rotate(image, 15),
    "turned-90": lambda image: np.ascontiguousarray(np.rot90(image)),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "brighter": lambda image: relight(image, 1.5),
    "darker": lambda image: relight(image, 0.5),
    "gray": lambda image: np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2),
    "shrunk-3": lambda image: shrink(image, 3),
    "written-on": lambda image: write_on(image, "SEEN AT THE LAKE"),
}
"""Alterations by name, each a function of an RGB array [h, w, 3], uint8."""
