"""Random parts of a picture: with a probability (`sometimes`), and as SSD's training chooses them (`sample_crop`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.pixels.boxes import center_inside, iou
from imagelake.pixels.chain import Chain, run_links
from imagelake.pixels.frame import Frame
from imagelake.pixels.geometry import window
from imagelake.pixels.settings import Settings, allow, interval_above_zero, many, number, whole


def _chain(name: str, value: Any) -> Chain:
    if not isinstance(value, Chain):
        raise InputError(
            f'{name} {value!r} is not allowed; give a list of transforms, such as [{{"flip": "horizontal"}}]'
        )
    return value


@dataclass(frozen=True)
class Sometimes(Settings):
    """Do some transforms, all or none, with a probability."""

    random: ClassVar[bool] = True
    transforms: Chain = field(metadata=allow(_chain))
    probability: float = field(default=0.5, metadata=allow(number(0.0, 1.0)))

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        return run_links(self.transforms.links, frame, rng) if rng.random() < self.probability else frame


@dataclass(frozen=True)
class SampleCrop(Settings):
    """Cut a part that holds enough of one of the boxes that travel with the picture, as SSD's training does.

    For each of `min_ious`, up to `trials` parts are drawn, with sides of `sides` times the picture's and an aspect
    (width over height) in `aspect`, until one has at least that intersection over union with some box. Of the parts
    found and the whole picture, one is drawn. A box stays where its center lies in the part, cut off at the part's
    edges. Without boxes the picture stays whole.

    After Liu et al., "SSD: Single Shot MultiBox Detector" (ECCV 2016), section 2.2, with the trials and sides of its
    code; 0 stands for any part.
    """

    random: ClassVar[bool] = True
    shorthand: ClassVar[str] = "min_ious"
    min_ious: tuple[float, ...] = field(default=(0.0, 0.1, 0.3, 0.5, 0.7, 0.9), metadata=allow(many(number(0.0, 1.0))))
    trials: int = field(default=50, metadata=allow(whole(1)))
    sides: tuple[float, float] = field(default=(0.3, 1.0), metadata=allow(interval_above_zero))
    aspect: tuple[float, float] = field(default=(0.5, 2.0), metadata=allow(interval_above_zero))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sides[1] > 1:
            raise InputError(f"sides {list(self.sides)} reach above 1; a part is at most as large as the picture")

    def apply(self, frame: Frame, rng: np.random.Generator) -> Frame:
        """See the class."""
        if frame.boxes_xyxy is None or frame.kept is None or len(frame.boxes_xyxy) == 0:
            return frame
        found = [part for least in self.min_ious if (part := self._draw(frame, least, rng)) is not None]
        choice = int(rng.integers(len(found) + 1))
        if choice == len(found):
            return frame
        left, top, right, bottom = found[choice].tolist()
        inside = center_inside(frame.boxes_xyxy, found[choice])
        frame = replace(frame, boxes_xyxy=frame.boxes_xyxy[inside], kept=frame.kept[inside])
        return window(frame, (left, top), (right - left, bottom - top))

    def _draw(self, frame: Frame, least: float, rng: np.random.Generator) -> NDArray[np.int64] | None:
        """The first of some parts drawn that fits, int64 [4] in pixels, or None."""
        parts = self._parts(frame.size_wh, rng)
        assert frame.boxes_xyxy is not None  # noqa: S101
        enough = np.flatnonzero(iou(parts, frame.boxes_xyxy).max(axis=1) >= least)
        return parts[enough[0]] if len(enough) else None

    def _parts(self, size_wh: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
        """Parts drawn, int64 [trials, 4] in pixels, each with at least one."""
        side = rng.uniform(*self.sides, self.trials)
        # The aspect of a side s cannot leave s^2 .. 1 / s^2 without leaving the picture.
        aspect = rng.uniform(np.maximum(self.aspect[0], side**2), np.minimum(self.aspect[1], side**-2.0))
        shares = np.stack([side * np.sqrt(aspect), side / np.sqrt(aspect)], axis=1)
        sizes = np.clip(np.rint(shares * size_wh), 1, size_wh).astype(np.int64)
        corners = rng.integers(np.array(size_wh) - sizes + 1)
        return np.concatenate([corners, corners + sizes], axis=1)
