"""Transforms that mirror or turn a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ImageError
from imagelake.pixels.frame import Frame, Numbers
from imagelake.pixels.geometry import translation
from imagelake.pixels.settings import Settings, allow, channels, interval, number, one_of, truth

Axis = Literal["horizontal", "vertical", "both"]
_axis = one_of("horizontal", "vertical", "both")
_FLAGS = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "nearest": cv2.INTER_NEAREST}
_LONGEST_SIDE = 32_766  # OpenCV counts pixels of a picture that it turns in 16 bits


@dataclass(frozen=True)
class Flip(Settings):
    """Mirror: `horizontal` exchanges left and right."""

    shorthand: ClassVar[str] = "axis"
    axis: Axis = field(default="horizontal", metadata=allow(_axis))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        return flipped(frame, self.axis)


@dataclass(frozen=True)
class RandomFlip(Settings):
    """Mirror with a probability."""

    random: ClassVar[bool] = True
    shorthand: ClassVar[str] = "probability"
    probability: float = field(default=0.5, metadata=allow(number(0.0, 1.0)))
    axis: Axis = field(default="horizontal", metadata=allow(_axis))

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        return flipped(frame, self.axis) if rng.random() < self.probability else frame


@dataclass(frozen=True)
class Rotate(Settings):
    """Turn counterclockwise about the center.

    The size stays, unless `grow` makes it just large enough for all corners. What comes in from outside has `color`, or
    with `border` `edge` repeats the outermost pixels. Quarter turns that fit are exact.
    """

    shorthand: ClassVar[str] = "degrees"
    degrees: float = field(metadata=allow(number()))
    grow: bool = field(default=False, metadata=allow(truth))
    color: Numbers = field(default=0.0, metadata=allow(channels()))
    border: Literal["color", "edge"] = field(default="color", metadata=allow(one_of("color", "edge")))
    interpolation: Literal["linear", "cubic", "nearest"] = field(default="linear", metadata=allow(one_of(*_FLAGS)))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        width, height = frame.size_wh
        quarters, rest = divmod(self.degrees % 360, 90)
        fits = self.grow or width == height or quarters % 2 == 0
        if rest == 0 and fits:
            return _quarter_turned(frame, int(quarters))
        if max(frame.size_wh) > _LONGEST_SIDE:
            raise ImageError(f"a picture of {width} x {height} pixels is too long to be turned; resize it first")
        size_wh = _grown(frame.size_wh, self.degrees) if self.grow else frame.size_wh
        step = rotation(self.degrees, frame.size_wh, size_wh)
        values = cv2.warpAffine(
            np.ascontiguousarray(frame.pixels()),
            at_centers(step)[:2],
            size_wh,
            flags=_FLAGS[self.interpolation],
            borderMode=cv2.BORDER_REPLICATE if self.border == "edge" else cv2.BORDER_CONSTANT,
            borderValue=frame.per_channel("color", self.color).tolist(),
        )
        return frame.moved(cast("NDArray[Any]", values), step)


@dataclass(frozen=True)
class RandomRotate(Settings):
    """Turn by degrees drawn from an interval; the rest as for `rotate`."""

    random: ClassVar[bool] = True
    shorthand: ClassVar[str] = "degrees"
    degrees: tuple[float, float] = field(default=(-10.0, 10.0), metadata=allow(interval()))
    grow: bool = field(default=False, metadata=allow(truth))
    color: Numbers = field(default=0.0, metadata=allow(channels()))
    border: Literal["color", "edge"] = field(default="color", metadata=allow(one_of("color", "edge")))
    interpolation: Literal["linear", "cubic", "nearest"] = field(default="linear", metadata=allow(one_of(*_FLAGS)))

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        degrees = float(rng.uniform(*self.degrees))
        return Rotate(degrees, self.grow, self.color, self.border, self.interpolation).apply(frame)


def flipped(frame: Frame, axis: Axis) -> Frame:
    """A frame mirrored."""
    width, height = frame.size_wh
    across, down = axis != "vertical", axis != "horizontal"
    array = frame.array[:: -1 if down else 1, :: -1 if across else 1]
    step = np.diag([-1.0 if across else 1.0, -1.0 if down else 1.0, 1.0])
    step[:2, 2] = (width if across else 0, height if down else 0)
    return frame.shifted(np.ascontiguousarray(array), step)


def rotation(degrees: float, size_wh: tuple[int, int], new_wh: tuple[int, int]) -> NDArray[np.float64]:
    """The turn counterclockwise that takes center to center, float64 [3, 3], in edge coordinates (y points down)."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    there = translation(new_wh[0] / 2, new_wh[1] / 2)
    return np.asarray(there @ turn @ translation(-size_wh[0] / 2, -size_wh[1] / 2), np.float64)


def at_centers(step: NDArray[np.float64]) -> NDArray[np.float64]:
    """A map of edge coordinates as one of pixel centers, as OpenCV counts: the center of the first pixel is 0, 0."""
    return np.asarray(translation(-0.5, -0.5) @ step @ translation(0.5, 0.5), np.float64)


def _quarter_turned(frame: Frame, quarters: int) -> Frame:
    if quarters == 0:
        return frame
    array = np.ascontiguousarray(np.rot90(frame.array, quarters))
    new_wh = (int(array.shape[1]), int(array.shape[0]))
    return frame.shifted(array, np.round(2 * rotation(90 * quarters, frame.size_wh, new_wh)) / 2)


def _grown(size_wh: tuple[int, int], degrees: float) -> tuple[int, int]:
    """The size that holds the whole turned picture."""
    cosine, sine = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    width, height = size_wh
    return math.ceil(width * cosine + height * sine - 1e-6), math.ceil(width * sine + height * cosine - 1e-6)
