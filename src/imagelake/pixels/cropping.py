"""Transforms that cut a part out of a picture, put one on a larger ground, or cover a part of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from imagelake.pixels.frame import Frame, Numbers
from imagelake.pixels.geometry import LONGEST_SIDE, window
from imagelake.pixels.settings import Settings, allow, box, channels, number, one_of, size, truth

_SSD_MEAN_RGB = (123.0, 117.0, 104.0)


@dataclass(frozen=True)
class CenterCrop(Settings):
    """Keep the middle, of `size_wh`; where the picture is smaller, `color` stands around it."""

    shorthand: ClassVar[str] = "size_wh"
    size_wh: tuple[int, int] = field(metadata=allow(size))
    color: Numbers = field(default=0.0, metadata=allow(channels()))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        spare_w, spare_h = frame.size_wh[0] - self.size_wh[0], frame.size_wh[1] - self.size_wh[1]
        return window(frame, (spare_w // 2, spare_h // 2), self.size_wh, self.color)


@dataclass(frozen=True)
class RandomCrop(Settings):
    """Keep a part of `size_wh` at a random place; where the picture is smaller, `color` stands around it."""

    random: ClassVar[bool] = True
    shorthand: ClassVar[str] = "size_wh"
    size_wh: tuple[int, int] = field(metadata=allow(size))
    color: Numbers = field(default=0.0, metadata=allow(channels()))

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        spares = [have - want for have, want in zip(frame.size_wh, self.size_wh, strict=True)]
        left, top = (int(rng.integers(spare + 1)) if spare > 0 else spare // 2 for spare in spares)
        return window(frame, (left, top), self.size_wh, self.color)


@dataclass(frozen=True)
class Crop(Settings):
    """Keep the part inside a box: `left, top, right, bottom`, in pixels, or in 0..1 where `relative`.

    `margin` is added on each side, as a share of the box. Edges go to the nearest pixel; what lies beyond the picture
    is left out, and at least one pixel stays.
    """

    shorthand: ClassVar[str] = "box_xyxy"
    box_xyxy: tuple[float, float, float, float] = field(metadata=allow(box))
    relative: bool = field(default=False, metadata=allow(truth))
    margin: float = field(default=0.0, metadata=allow(number(0.0)))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        units_wh = frame.size_wh if self.relative else (1, 1)
        left, top, right, bottom = pixel_box(np.array(self.box_xyxy), frame.size_wh, units_wh, self.margin)
        return window(frame, (left, top), (right - left, bottom - top))


@dataclass(frozen=True)
class Expand(Settings):
    """Put the picture on a ground of `color` that is `ratio` times as wide and as high."""

    shorthand: ClassVar[str] = "ratio"
    ratio: float = field(metadata=allow(number(1.0, LONGEST_SIDE)))
    color: Numbers = field(default=_SSD_MEAN_RGB, metadata=allow(channels()))
    place: Literal["center", "top-left"] = field(default="center", metadata=allow(one_of("center", "top-left")))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        return _expanded(frame, self.ratio, (0.5, 0.5) if self.place == "center" else (0.0, 0.0), self.color)


@dataclass(frozen=True)
class RandomExpand(Settings):
    """Put the picture at a random place on a ground of `color`, 1 to `max_ratio` times as wide and as high.

    The zoom out of SSD (Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 3.6), there with a
    probability of one half: see `sometimes`.
    """

    random: ClassVar[bool] = True
    shorthand: ClassVar[str] = "max_ratio"
    max_ratio: float = field(default=4.0, metadata=allow(number(1.0, LONGEST_SIDE)))
    color: Numbers = field(default=_SSD_MEAN_RGB, metadata=allow(channels()))

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        ratio = rng.uniform(1.0, self.max_ratio)
        return _expanded(frame, ratio, (rng.random(), rng.random()), self.color)


@dataclass(frozen=True)
class Fill(Settings):
    """Paint a box with a color: `left, top, right, bottom`, in pixels, or in 0..1 where `relative`."""

    shorthand: ClassVar[str] = "box_xyxy"
    box_xyxy: tuple[float, float, float, float] = field(metadata=allow(box))
    relative: bool = field(default=False, metadata=allow(truth))
    color: Numbers = field(default=255.0, metadata=allow(channels()))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        width, height = frame.size_wh
        units = np.array(frame.size_wh * 2 if self.relative else (1, 1, 1, 1))
        edges = np.clip(np.rint(np.array(self.box_xyxy) * units), 0, [width, height, width, height]).astype(int)
        left, top, right, bottom = edges.tolist()
        values = frame.pixels().copy()
        color = frame.per_channel("color", self.color)
        values[top:bottom, left:right] = np.clip(np.rint(color), 0, 255) if values.dtype == np.uint8 else color
        return frame.with_pixels(values)


def crop_box(image_rgb: NDArray[np.uint8], box_xyxy: NDArray[Any], margin: float = 0.0) -> NDArray[np.uint8]:
    """The part of a picture inside one box, as a view.

    Args:
        image_rgb: uint8 [h, w, 3].
        box_xyxy: four edges in 0..1 of the picture.
        margin: added on each side, as a share of the box.

    Returns:
        uint8 [h', w', 3] with at least one pixel; edges go to the nearest pixel, and stop at the picture's.
    """
    size_wh = (int(image_rgb.shape[1]), int(image_rgb.shape[0]))
    left, top, right, bottom = pixel_box(np.asarray(box_xyxy, np.float64), size_wh, size_wh, margin)
    return image_rgb[top:bottom, left:right]


def pixel_box(
    box_xyxy: NDArray[np.float64], size_wh: tuple[int, int], units_wh: tuple[float, float], margin: float
) -> tuple[int, int, int, int]:
    """A box as whole pixels inside a picture of `size_wh`, at least one; `units_wh` pixels are 1 in its numbers."""
    reach = (box_xyxy[2:] - box_xyxy[:2]) * margin
    low, high = (box_xyxy[:2] - reach) * units_wh, (box_xyxy[2:] + reach) * units_wh
    left, top = (min(max(round(float(edge)), 0), side - 1) for edge, side in zip(low, size_wh, strict=True))
    right, bottom = (min(max(round(float(edge)), 0), side) for edge, side in zip(high, size_wh, strict=True))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _expanded(frame: Frame, ratio: float, place_xy: tuple[float, float], color: Numbers) -> Frame:
    width, height = frame.size_wh
    large_wh = (max(width, math.floor(width * ratio)), max(height, math.floor(height * ratio)))
    left, top = int((large_wh[0] - width) * place_xy[0]), int((large_wh[1] - height) * place_xy[1])
    return window(frame, (-left, -top), large_wh, color)
