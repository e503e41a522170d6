"""Transforms of values and form: normalize, scale, channel order, layout, type."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.pixels.frame import Frame, Layout, Numbers, Order
from imagelake.pixels.settings import Settings, allow, channels, number, one_of, optional, text, truth

_TO_GRAY = {"rgb": cv2.COLOR_RGB2GRAY, "bgr": cv2.COLOR_BGR2GRAY}


@dataclass(frozen=True)
class Normalize(Settings):
    """Subtract `mean` and divide by `std`: one number, or one for each channel in the order that they then have.

    Values are 0 to 255 until something changes that. The result is float32.
    """

    mean: Numbers = field(metadata=allow(channels()))
    std: Numbers = field(default=1.0, metadata=allow(channels(above=0.0)))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        return frame.due(frame.per_channel("mean", self.mean), frame.per_channel("std", self.std))


@dataclass(frozen=True)
class Scale(Settings):
    """Multiply every value by `factor`; `1/255` is 0.00392156862745098. The result is float32."""

    shorthand: ClassVar[str] = "factor"
    factor: float = field(metadata=allow(number(above=0.0)))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        return frame.due(np.zeros(frame.channels), frame.per_channel("factor", 1 / self.factor))


@dataclass(frozen=True)
class NormalizePixels(Settings):
    """Subtract a mean picture and divide by one of standard deviations, each a `.npy` file beside the manifest.

    They hold numbers [h, w, c], or what broadcasts to it, for a picture of just that size. The result is float32.
    """

    shorthand: ClassVar[str] = "mean"
    mean: str = field(metadata=allow(text))
    std: str | None = field(default=None, metadata=allow(optional(text)))
    folder: str = ""  # filled in by `parse`; no part of what a manifest says

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (self.mean, self.std):
            if name is not None and (Path(name).name != name or "\\" in name):
                raise InputError(f"{name!r} is not allowed; give the name of a file that lies beside the manifest")

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        values = frame.pixels() - self._read(self.mean, frame)
        if self.std is not None:
            values /= self._read(self.std, frame)
        return frame.with_pixels(values.astype(np.float32, copy=False))

    def _read(self, name: str, frame: Frame) -> NDArray[np.float32]:
        numbers = _numbers(str(Path(self.folder) / name))
        try:
            return np.broadcast_to(numbers, frame.array.shape)
        except ValueError:
            raise InputError(
                f"{name} has the shape {numbers.shape} and the picture {frame.array.shape}; resize before it"
            ) from None


@lru_cache(maxsize=8)
def _numbers(path: str) -> NDArray[np.float32]:
    try:
        array = np.load(path, allow_pickle=False)
        numbers = np.asarray(array, np.float32)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise InputError(f"{path} cannot be read as a .npy file of numbers: {error}") from error
    numbers.flags.writeable = False
    return numbers


@dataclass(frozen=True)
class NormalizeImage(Settings):
    """Normalize a picture by its own values.

    `mean_std` gives mean 0 and standard deviation 1 (an even picture becomes 0); `min_max` stretches the least value to
    `low` and the greatest to `high` (an even picture becomes `low`). With `per_channel`, each channel on its own. The
    result is float32.
    """

    shorthand: ClassVar[str] = "how"
    how: Literal["mean_std", "min_max"] = field(default="mean_std", metadata=allow(one_of("mean_std", "min_max")))
    low: float = field(default=0.0, metadata=allow(number()))
    high: float = field(default=1.0, metadata=allow(number()))
    per_channel: bool = field(default=False, metadata=allow(truth))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        values = frame.pixels()
        axes = (0, 1) if self.per_channel else (0, 1, 2)
        if self.how == "mean_std":
            mean, std = values.mean(axes, np.float64), values.std(axes, np.float64)
        else:
            if self.low >= self.high:
                raise InputError(f"low {self.low:g} is not below high {self.high:g}")
            least = values.min(axes).astype(np.float64)
            std = (values.max(axes) - least) / (self.high - self.low)
            mean = least - self.low * std
        std, mean = np.broadcast_to(std, frame.channels), np.broadcast_to(mean, frame.channels)
        if self.how == "min_max":
            mean = np.where(std == 0, least - self.low, mean)
        return frame.settled().due(mean, np.where(std == 0, 1.0, std))


@dataclass(frozen=True)
class ToOrder(Settings):
    """Bring the channels into the order `rgb` or `bgr`, or make them one (`gray`: ITU-R BT.601).

    From gray to color, the channel is repeated.
    """

    shorthand: ClassVar[str] = "order"
    order: Order = field(metadata=allow(one_of("rgb", "bgr", "gray")))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        if frame.order == self.order:
            return frame
        if frame.order == "gray":
            values = frame.pixels()
            return frame.with_pixels(np.repeat(values, 3, axis=2), self.order)
        if self.order == "gray":
            values = cv2.cvtColor(np.ascontiguousarray(frame.pixels()), _TO_GRAY[frame.order])
            return frame.with_pixels(cast("NDArray[Any]", values), "gray")
        turned = cast("NDArray[Any]", cv2.cvtColor(np.ascontiguousarray(frame.array), cv2.COLOR_RGB2BGR))
        if frame.mean is None or frame.std is None:
            return replace(frame, array=turned, order=self.order)
        return replace(frame, array=turned, order=self.order, mean=frame.mean[::-1], std=frame.std[::-1])


@dataclass(frozen=True)
class ToLayout(Settings):
    """Give the axes in the order `hwc` or `chw`, wherever in the chain this stands: it is done at the end."""

    shorthand: ClassVar[str] = "layout"
    layout: Layout = field(metadata=allow(one_of("hwc", "chw")))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        return replace(frame, layout=self.layout)


@dataclass(frozen=True)
class ToDtype(Settings):
    """Go on with another type. To `uint8`, values are rounded and clipped to 0..255; `float16` is made at the end."""

    shorthand: ClassVar[str] = "dtype"
    dtype: Literal["uint8", "float32", "float16"] = field(metadata=allow(one_of("uint8", "float32", "float16")))

    def apply(self, frame: Frame) -> Frame:
        """See the class."""
        half = self.dtype == "float16"
        if self.dtype == "uint8":
            values = frame.pixels()
            if values.dtype != np.uint8:
                values = np.clip(np.rint(values), 0, 255).astype(np.uint8)
            return replace(frame.with_pixels(values), half=False)
        if frame.array.dtype == np.float32 or frame.mean is not None:
            return replace(frame, half=half)
        return replace(frame.due(np.zeros(frame.channels), np.ones(frame.channels)), half=half)
