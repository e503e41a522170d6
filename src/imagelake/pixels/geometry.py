"""Transforms that change the size of the whole picture: resize, letterbox, aspect scale."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ImageError, InputError
from imagelake.pixels.frame import Frame, Numbers
from imagelake.pixels.picture import MAX_PIXELS, MAX_SIDE
from imagelake.pixels.resampling import INTERPOLATIONS, Interpolation, resample
from imagelake.pixels.settings import (
    Settings,
    allow,
    channels,
    interval_above_zero,
    many,
    one_of,
    optional,
    size,
    whole,
)

LONGEST_SIDE = 32_766
"""The longest side that a setting may ask for, in pixels, as for `size_wh`."""

RANDOM_INTERPOLATIONS: tuple[Interpolation, ...] = ("linear", "cubic", "area", "nearest", "lanczos-antialiased")
"""What `"random"` draws from, as in SSD's training."""

interpolation = one_of(*INTERPOLATIONS)


def side(name: str, value: Any) -> int:
    """A whole number of pixels, 1 to 32,766."""
    checked: int = whole(1)(name, value)
    if checked > LONGEST_SIDE:
        raise InputError(f"{name} {value!r} is not allowed; give a whole number from 1 to {LONGEST_SIDE:,}")
    return checked


@dataclass(frozen=True)
class Resize(Settings):
    """Scale to `size_wh`.

    `how` is `exact` (each side on its own), `fit` (the whole picture inside, one side may stay shorter) or `fill` (the
    largest centered part with that aspect).
    """

    shorthand: ClassVar[str] = "size_wh"
    size_wh: tuple[int, int] = field(metadata=allow(size))
    how: Literal["exact", "fit", "fill"] = field(default="exact", metadata=allow(one_of("exact", "fit", "fill")))
    interpolation: Interpolation = field(default="linear", metadata=allow(interpolation))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        if self.how == "fit":
            return resized(frame, _inside(frame.size_wh, self.size_wh), self.interpolation)
        if self.how == "fill":
            frame = _center_part(frame, self.size_wh)
        return resized(frame, self.size_wh, self.interpolation)

    def shortest_side(self) -> int:
        """The shorter side, in pixels, of the smallest picture that needs no enlarging."""
        return max(self.size_wh)


@dataclass(frozen=True)
class RandomInterpolation(Settings):
    """Scale each side on its own to `size_wh` with an interpolation drawn from five, as in SSD's training."""

    random: ClassVar[bool] = True
    shorthand: ClassVar[str] = "size_wh"
    size_wh: tuple[int, int] = field(metadata=allow(size))

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        drawn = RANDOM_INTERPOLATIONS[int(rng.integers(len(RANDOM_INTERPOLATIONS)))]
        return resized(frame, self.size_wh, drawn)


@dataclass(frozen=True)
class Letterbox(Settings):
    """Scale the whole picture to fit inside `size_wh`, and fill the rest with a color.

    YOLOX places pictures `top-left`; YOLOv5 and YOLOv8 place them in the `center`.
    """

    shorthand: ClassVar[str] = "size_wh"
    size_wh: tuple[int, int] = field(metadata=allow(size))
    color: Numbers = field(default=114.0, metadata=allow(channels()))
    place: Literal["center", "top-left"] = field(default="center", metadata=allow(one_of("center", "top-left")))
    interpolation: Interpolation = field(default="linear", metadata=allow(interpolation))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        inner = resized(frame, _inside(frame.size_wh, self.size_wh), self.interpolation)
        spare_w, spare_h = self.size_wh[0] - inner.size_wh[0], self.size_wh[1] - inner.size_wh[1]
        left, top = (0, 0) if self.place == "top-left" else (spare_w // 2, spare_h // 2)
        return window(inner, (-left, -top), self.size_wh, self.color)

    def shortest_side(self) -> int:
        """The shorter side, in pixels, of the smallest picture that needs no enlarging."""
        return max(self.size_wh)


@dataclass(frozen=True)
class AspectScale(Settings):
    """Scale so that the shorter side is `short_side`, but the longer one at most `long_side`; the aspect stays.

    With `multiple_of`, both sides are then rounded down to a multiple, so that the aspect changes a little.
    (Faster R-CNN: 600 and 1000.)
    """

    shorthand: ClassVar[str] = "short_side"
    short_side: int = field(metadata=allow(side))
    long_side: int | None = field(default=None, metadata=allow(optional(side)))
    multiple_of: int = field(default=1, metadata=allow(side))
    interpolation: Interpolation = field(default="linear", metadata=allow(interpolation))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        return _aspect_scaled(frame, self.short_side, self.long_side, self.multiple_of, self.interpolation)

    def shortest_side(self) -> int:
        """The shorter side, in pixels, of the smallest picture that needs no enlarging."""
        return self.short_side


@dataclass(frozen=True)
class RandomAspectScale(Settings):
    """As `aspect_scale`, with a shorter side drawn from a list."""

    random: ClassVar[bool] = True
    shorthand: ClassVar[str] = "short_sides"
    short_sides: tuple[int, ...] = field(metadata=allow(many(side)))
    long_side: int | None = field(default=None, metadata=allow(optional(side)))
    multiple_of: int = field(default=1, metadata=allow(side))
    interpolation: Interpolation = field(default="linear", metadata=allow(interpolation))

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        side = self.short_sides[int(rng.integers(len(self.short_sides)))]
        return _aspect_scaled(frame, side, self.long_side, self.multiple_of, self.interpolation)


@dataclass(frozen=True)
class RandomResizedCrop(Settings):
    """Cut a part of random area and aspect, and scale it to `size_wh` (Szegedy et al., CVPR 2015).

    `area` is a share of the picture, `aspect` width over height, drawn evenly in its logarithm. Where ten parts drawn
    do not fit into the picture, the largest centered one with an allowed aspect is taken.
    """

    random: ClassVar[bool] = True
    shorthand: ClassVar[str] = "size_wh"
    size_wh: tuple[int, int] = field(metadata=allow(size))
    area: tuple[float, float] = field(default=(0.08, 1.0), metadata=allow(interval_above_zero))
    aspect: tuple[float, float] = field(default=(3 / 4, 4 / 3), metadata=allow(interval_above_zero))
    interpolation: Interpolation = field(default="linear", metadata=allow(interpolation))

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        return resized(self._part(frame, rng), self.size_wh, self.interpolation)

    def _part(self, frame: Frame, rng: np.random.Generator) -> Frame:
        width, height = frame.size_wh
        for _ in range(10):
            pixels = width * height * rng.uniform(*self.area)
            aspect = math.exp(rng.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])))
            part_w, part_h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
            if 0 < part_w <= width and 0 < part_h <= height:
                left, top = int(rng.integers(width - part_w + 1)), int(rng.integers(height - part_h + 1))
                return window(frame, (left, top), (part_w, part_h))
        aspect = min(max(width / height, self.aspect[0]), self.aspect[1])
        part_w, part_h = min(width, round(height * aspect)), min(height, round(width / aspect))
        return window(frame, ((width - part_w) // 2, (height - part_h) // 2), (max(1, part_w), max(1, part_h)))


def resized(frame: Frame, size_wh: tuple[int, int], interpolation: Interpolation) -> Frame:
    """A frame scaled to `size_wh`.

    Raises:
        ImageError: this has more pixels, or longer sides, than a picture may have.
    """
    _refuse_too_large(frame, size_wh)
    pixels = frame.pixels()
    out, factors_xy = resample(pixels, size_wh, interpolation)
    if out is pixels:
        return frame
    return frame.moved(out, np.diag([*factors_xy, 1.0]))


def window(frame: Frame, corner_xy: tuple[int, int], size_wh: tuple[int, int], color: Numbers = 0.0) -> Frame:
    """The part of a frame from `corner_xy` on with `size_wh`; what lies beyond the picture gets a color.

    Raises:
        ImageError: this has more pixels, or longer sides, than a picture may have.
    """
    (left, top), (part_w, part_h), (width, height) = corner_xy, size_wh, frame.size_wh
    step = translation(-left, -top)
    if 0 <= left <= width - part_w and 0 <= top <= height - part_h:
        if (part_w, part_h) == (width, height):
            return frame
        return frame.shifted(frame.array[top : top + part_h, left : left + part_w], step)
    _refuse_too_large(frame, size_wh)
    pixels = frame.pixels()
    canvas = plain(size_wh, frame.per_channel("color", color), pixels.dtype)
    inner = pixels[max(0, top) : max(0, top + part_h), max(0, left) : max(0, left + part_w)]
    if inner.size:
        y, x = max(0, -top), max(0, -left)
        canvas[y : y + inner.shape[0], x : x + inner.shape[1]] = inner
    return frame.moved(canvas, step)


def plain(size_wh: tuple[int, int], color: NDArray[np.float64], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """An array [h, w, c] of one color; for uint8 it is rounded and clipped."""
    values = np.clip(np.rint(color), 0, 255) if dtype == np.uint8 else color
    if (values == values[0]).all():
        return np.full((size_wh[1], size_wh[0], len(values)), values[0], dtype)
    canvas = np.empty((size_wh[1], size_wh[0], len(values)), dtype)
    canvas[:] = values
    return canvas


def translation(x: float, y: float) -> NDArray[np.float64]:
    """The map that adds `x` and `y`, float64 [3, 3]."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def _refuse_too_large(frame: Frame, size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"a picture of {frame.size_wh[0]} x {frame.size_wh[1]} would become {width:,} x {height:,}, and at most "
            f"{MAX_PIXELS:,} pixels with sides up to {MAX_SIDE:,} are made; ask for less, such as with long_side"
        )


def _inside(size_wh: tuple[int, int], limit_wh: tuple[int, int]) -> tuple[int, int]:
    """The largest size with the aspect of `size_wh` that fits into `limit_wh`, to the nearest pixel."""
    factor = min(limit_wh[0] / size_wh[0], limit_wh[1] / size_wh[1])
    width, height = (max(1, min(limit, round(side * factor))) for side, limit in zip(size_wh, limit_wh, strict=True))
    return width, height


def _center_part(frame: Frame, size_wh: tuple[int, int]) -> Frame:
    """The largest centered part whose aspect is that of `size_wh`, to the nearest pixel."""
    width, height = frame.size_wh
    factor = min(width / size_wh[0], height / size_wh[1])
    part_w = max(1, min(width, round(size_wh[0] * factor)))
    part_h = max(1, min(height, round(size_wh[1] * factor)))
    return window(frame, ((width - part_w) // 2, (height - part_h) // 2), (part_w, part_h))


def _aspect_scaled(
    frame: Frame, short_side: int, long_side: int | None, multiple_of: int, interpolation: Interpolation
) -> Frame:
    shorter, longer = min(frame.size_wh), max(frame.size_wh)
    factor = short_side / shorter
    if long_side is not None and longer * factor > long_side:
        factor = long_side / longer
    width, height = (_multiple(side * factor, multiple_of) for side in frame.size_wh)
    return resized(frame, (width, height), interpolation)


def _multiple(side: float, multiple_of: int) -> int:
    if multiple_of == 1:
        return max(1, round(side))
    return max(multiple_of, math.floor(side / multiple_of + 1e-9) * multiple_of)
