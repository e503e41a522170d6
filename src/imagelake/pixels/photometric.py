"""Transforms of light and color. Values of uint8 are rounded and clipped to 0..255, those of float32 left as they are.

The random ones are the photometric distortions of SSD (Liu et al., ECCV 2016, section 2.2, after Howard 2013), with the
ranges of its training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from imagelake.pixels.chain import RandomTransform
from imagelake.pixels.frame import Frame
from imagelake.pixels.settings import Settings, allow, interval, number, one_of, truth

_TO_HSV = {"rgb": cv2.COLOR_RGB2HSV, "bgr": cv2.COLOR_BGR2HSV}
_FROM_HSV = {"rgb": cv2.COLOR_HSV2RGB, "bgr": cv2.COLOR_HSV2BGR}


@dataclass(frozen=True)
class Brightness(Settings):
    """Add `delta` to every value."""

    shorthand: ClassVar[str] = "delta"
    delta: float = field(metadata=allow(number()))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        return brighter(frame, self.delta)


@dataclass(frozen=True)
class RandomBrightness(Settings):
    """Add a number drawn from an interval to every value."""

    random: ClassVar[bool] = True
    shorthand: ClassVar[str] = "delta"
    delta: tuple[float, float] = field(default=(-32.0, 32.0), metadata=allow(interval()))

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        return brighter(frame, float(rng.uniform(*self.delta)))


@dataclass(frozen=True)
class Contrast(Settings):
    """Multiply every value's distance from `about` by `factor`: from `black`, as SSD does, or from the `mean` luma."""

    shorthand: ClassVar[str] = "factor"
    factor: float = field(metadata=allow(number(0.0)))
    about: Literal["black", "mean"] = field(default="black", metadata=allow(one_of("black", "mean")))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        return _linear(frame, self.factor, _mean_luma(frame) * (1 - self.factor) if self.about == "mean" else 0.0)


@dataclass(frozen=True)
class RandomContrast(Settings):
    """As `contrast`, from black, with a factor drawn from an interval."""

    random: ClassVar[bool] = True
    shorthand: ClassVar[str] = "factor"
    factor: tuple[float, float] = field(default=(0.5, 1.5), metadata=allow(interval(0.0)))

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        return _linear(frame, float(rng.uniform(*self.factor)), 0.0)


@dataclass(frozen=True)
class Hue(Settings):
    """Turn the hue by `degrees` of the circle of 360, in HSV. Values must not be negative; gray pictures stay."""

    shorthand: ClassVar[str] = "degrees"
    degrees: float = field(metadata=allow(number()))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        return _in_hsv(frame, self.degrees, 1.0)


@dataclass(frozen=True)
class RandomHue(Settings):
    """Turn the hue by degrees drawn from an interval; the 18 of SSD's code are steps of two degrees."""

    random: ClassVar[bool] = True
    shorthand: ClassVar[str] = "degrees"
    degrees: tuple[float, float] = field(default=(-36.0, 36.0), metadata=allow(interval()))

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        return _in_hsv(frame, float(rng.uniform(*self.degrees)), 1.0)


@dataclass(frozen=True)
class Saturation(Settings):
    """Multiply the saturation of HSV by `factor`, up to full. Values must not be negative; gray pictures stay."""

    shorthand: ClassVar[str] = "factor"
    factor: float = field(metadata=allow(number(0.0)))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        return _in_hsv(frame, 0.0, self.factor)


@dataclass(frozen=True)
class RandomSaturation(Settings):
    """As `saturation`, with a factor drawn from an interval."""

    random: ClassVar[bool] = True
    shorthand: ClassVar[str] = "factor"
    factor: tuple[float, float] = field(default=(0.5, 1.5), metadata=allow(interval(0.0)))

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        return _in_hsv(frame, 0.0, float(rng.uniform(*self.factor)))


@dataclass(frozen=True)
class ShuffleChannels(Settings):
    """Exchange the channels at random, with a probability. Their name (`rgb`) stays: it is the picture that changes."""

    random: ClassVar[bool] = True
    shorthand: ClassVar[str] = "probability"
    probability: float = field(default=0.5, metadata=allow(number(0.0, 1.0)))

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        if rng.random() >= self.probability:
            return frame
        return frame.with_pixels(np.ascontiguousarray(frame.pixels()[:, :, rng.permutation(frame.channels)]))


@dataclass(frozen=True)
class ColorJitter(Settings):
    """Brightness, contrast, saturation, hue, each with a probability, as in SSD's training.

    Contrast comes before saturation and hue, or after them, with equal chances; with `shuffle`, all four come in any
    order. At the end the channels may be exchanged, with probability `channels`.
    """

    random: ClassVar[bool] = True
    shorthand: ClassVar[str] = "probability"
    probability: float = field(default=0.5, metadata=allow(number(0.0, 1.0)))
    brightness: tuple[float, float] = field(default=(-32.0, 32.0), metadata=allow(interval()))
    contrast: tuple[float, float] = field(default=(0.5, 1.5), metadata=allow(interval(0.0)))
    saturation: tuple[float, float] = field(default=(0.5, 1.5), metadata=allow(interval(0.0)))
    hue: tuple[float, float] = field(default=(-36.0, 36.0), metadata=allow(interval()))
    channels: float = field(default=0.0, metadata=allow(number(0.0, 1.0)))
    shuffle: bool = field(default=False, metadata=allow(truth))

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        kinds: list[RandomTransform] = [
            RandomBrightness(self.brightness),
            RandomContrast(self.contrast),
            RandomSaturation(self.saturation),
            RandomHue(self.hue),
        ]
        usual = [0, 1, 2, 3] if rng.random() < 0.5 else [0, 2, 3, 1]
        for place in rng.permutation(4).tolist() if self.shuffle else usual:
            if rng.random() < self.probability:
                frame = kinds[place].apply(frame, rng)
        return ShuffleChannels(self.channels).apply(frame, rng) if self.channels else frame


def brighter(frame: Frame, delta: float) -> Frame:
    """A frame with `delta` added to every value."""
    return _linear(frame, 1.0, delta)


def _linear(frame: Frame, factor: float, shift: float) -> Frame:
    """Every value times `factor` plus `shift`."""
    values = frame.pixels()
    if values.dtype == np.uint8:
        table = np.clip(np.rint(np.arange(256) * factor + shift), 0, 255).astype(np.uint8)
        return frame.with_pixels(cast("NDArray[Any]", cv2.LUT(values, table)))
    return frame.with_pixels(values * np.float32(factor) + np.float32(shift))


def _mean_luma(frame: Frame) -> float:
    """The mean of luma by ITU-R BT.601, which is that of the channels' means."""
    means = frame.pixels().mean(axis=(0, 1), dtype=np.float64)
    if len(means) != 3:
        return float(means.mean())
    weights = np.array([0.299, 0.587, 0.114])
    return float(means @ (weights if frame.order == "rgb" else weights[::-1]))


def _in_hsv(frame: Frame, degrees: float, factor: float) -> Frame:
    """Turn the hue and multiply the saturation, in floats: 8 bits would leave 180 hues."""
    if frame.channels != 3 or frame.order == "gray":
        return frame
    values = frame.pixels()
    hsv = cv2.cvtColor(np.ascontiguousarray(values, np.float32), _TO_HSV[frame.order])
    hsv[:, :, 0] = (hsv[:, :, 0] + np.float32(degrees)) % np.float32(360)
    hsv[:, :, 1] = np.minimum(hsv[:, :, 1] * np.float32(factor), 1)
    changed = cv2.cvtColor(hsv, _FROM_HSV[frame.order])
    if values.dtype == np.uint8:
        changed = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
    return frame.with_pixels(cast("NDArray[Any]", changed))
