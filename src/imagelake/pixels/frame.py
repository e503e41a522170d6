"""A picture on its way through a chain: its pixels, where they came from, and what has still to be done to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.pixels.boxes import clip, project

Order = Literal["rgb", "bgr", "gray"]
Layout = Literal["hwc", "chw"]
Numbers = float | tuple[float, ...]
"""One number for all channels, or one for each."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture between two transforms. A transform returns another frame and never writes into this one.

    Normalizing is put off: `mean` and `std` say what is due, so that pixels stay uint8 as long as they can and the
    arithmetic, the layout and the type come in one pass at the end. `pixels` gives the values with nothing due.

    Attributes:
        array: [h, w, c], uint8 or float32; `(array - mean) / std` are the values, where those are not None.
        matrix: float64 [3, 3], from the source picture to this one, in edge coordinates (see `boxes`).
        order: what the channels are.
        layout: in which order the axes come at the end.
        half: whether the values become float16 at the end.
        mean: float64 [c], or None where nothing is due.
        std: float64 [c], or None where nothing is due.
        boxes_xyxy: float32 [n, 4], boxes that travel with the picture, in its pixels; None where none were given.
        kept: int64 [n], which of the boxes given these are.
    """

    array: NDArray[Any]
    matrix: NDArray[np.float64]
    order: Order = "rgb"
    layout: Layout = "hwc"
    half: bool = False
    mean: NDArray[np.float64] | None = None
    std: NDArray[np.float64] | None = None
    boxes_xyxy: NDArray[np.float32] | None = None
    kept: NDArray[np.int64] | None = None

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return int(self.array.shape[1]), int(self.array.shape[0])

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return int(self.array.shape[2])

    def pixels(self) -> NDArray[Any]:
        """The values, [h, w, c], uint8 or float32, with nothing due. Not to be written into."""
        if self.mean is None or self.std is None:
            return self.array
        values = self.array.astype(np.float32, order="C")
        rows = values.reshape(len(values), -1)  # whole rows, since channels of three values are slow to go through
        if self.mean.any():
            rows -= np.tile(self.mean.astype(np.float32), self.size_wh[0])
        if (self.std != 1).any():
            rows /= np.tile(self.std.astype(np.float32), self.size_wh[0])
        return values

    def settled(self) -> Frame:
        """The same picture with nothing due."""
        return self if self.mean is None else replace(self, array=self.pixels(), mean=None, std=None)

    def with_pixels(self, pixels: NDArray[Any], order: Order | None = None) -> Frame:
        """The same place with other values: [h, w, c], or [h, w] for one channel; uint8 or float32."""
        return replace(self, array=_three_axes(pixels), mean=None, std=None, order=order or self.order)

    def moved(self, pixels: NDArray[Any], step: NDArray[np.float64]) -> Frame:
        """Other values in another place.

        Boxes go along: they are projected and clipped, and those of which nothing is left are dropped.

        Args:
            pixels: [h, w, c] or [h, w], uint8 or float32, with nothing due.
            step: float64 [3, 3], from the edge coordinates of this picture to those of the new one.
        """
        frame = self if self.mean is None else replace(self, mean=None, std=None)
        return frame.shifted(pixels, step)

    def shifted(self, array: NDArray[Any], step: NDArray[np.float64]) -> Frame:
        """As `moved`, for an array whose pixels only changed their places: what is due stays due."""
        array = _three_axes(array)
        frame = replace(self, array=array, matrix=step @ self.matrix)
        if self.boxes_xyxy is None or self.kept is None:
            return frame
        boxes_xyxy = clip(project(self.boxes_xyxy, step), frame.size_wh)
        left = (boxes_xyxy[:, 2] > boxes_xyxy[:, 0]) & (boxes_xyxy[:, 3] > boxes_xyxy[:, 1])
        return replace(frame, boxes_xyxy=boxes_xyxy[left], kept=self.kept[left])

    def due(self, mean: NDArray[np.float64], std: NDArray[np.float64]) -> Frame:
        """The same picture with `(values - mean) / std`, float64 [c] each, due."""
        if self.mean is None or self.std is None:
            return replace(self, mean=mean, std=std)
        return replace(self, mean=self.mean + mean * self.std, std=self.std * std)

    def per_channel(self, name: str, numbers: Numbers) -> NDArray[np.float64]:
        """One number for each channel.

        Raises:
            InputError: there are not as many numbers as channels.
        """
        if not isinstance(numbers, tuple):
            return np.full(self.channels, numbers, np.float64)
        if len(numbers) != self.channels:
            raise InputError(
                f"{name} has {len(numbers)} numbers and the picture {self.channels} channels ({self.order}); "
                "give one number, or one for each channel"
            )
        return np.array(numbers, np.float64)

    def finished(self) -> NDArray[Any]:
        """The values with layout and type as asked for, C-contiguous."""
        values = self.pixels() if self.layout == "hwc" else self._planes()
        return np.ascontiguousarray(values, np.float16 if self.half else None)

    def _planes(self) -> NDArray[Any]:
        """The values as [c, h, w], a plane at a time, which is faster than all at once."""
        width, height = self.size_wh
        planes = np.empty((self.channels, height, width), self.array.dtype)
        if self.array.size:
            cv2.split(self.array, list(planes))
        if self.mean is None or self.std is None:
            return planes
        values = np.empty(planes.shape, np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            out = values[channel]
            if mean:
                np.subtract(planes[channel], np.float32(mean), out=out)
            else:
                out[...] = planes[channel]
            if std != 1:
                np.divide(out, np.float32(std), out=out)
        return values


def frame_of(image_rgb: NDArray[np.uint8], boxes_xyxy: NDArray[Any] | None = None) -> Frame:
    """The start of a chain: a picture, uint8 [h, w, 3], RGB, and boxes [n, 4] in its pixels."""
    if boxes_xyxy is None:
        return Frame(image_rgb, np.eye(3))
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    return Frame(image_rgb, np.eye(3), boxes_xyxy=boxes, kept=np.arange(len(boxes), dtype=np.int64))


def _three_axes(array: NDArray[Any]) -> NDArray[Any]:
    """OpenCV takes the axis off a picture with one channel: put it back."""
    return array[:, :, None] if array.ndim == 2 else array
