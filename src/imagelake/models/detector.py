"""Pictures in, boxes out: a detector with its preprocessing, its decoding and its suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models.decodings import Candidates, Decoding
from imagelake.models.picture_model import PictureModel, open_picture_model
from imagelake.models.registry import RegisteredModel
from imagelake.pixels.chain import Prepared, boxes_in_source
from imagelake.pixels.nms import nms


@dataclass(frozen=True)
class Detections:
    """What is seen in one picture, the best score first.

    Attributes:
        boxes_xyxy: float32 [n, 4], in [0, 1] of the picture that was given.
        scores: float32 [n].
        class_ids: int32 [n], places in the detector's labels.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.scores)


class Detector(Protocol):
    """What finds things in pictures. It may be used from several threads at once."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""

    @property
    def batch(self) -> int:
        """How many pictures a call of `detect` takes well."""

    @property
    def min_side(self) -> int:
        """The side that a picture should keep when it is decoded at a smaller scale, in pixels."""

    def prepare(self, image_rgb: NDArray[np.uint8]) -> Prepared:
        """Bring an upright picture, uint8 [h, w, 3], to what `detect` takes."""

    def detect(self, prepared: Sequence[Prepared]) -> list[Detections]:
        """What is seen in each prepared picture; no pictures give no answers."""


@dataclass(frozen=True)
class FileDetector:
    """A `Detector` out of a registry.

    Attributes:
        model: the opened model.
        wanted: the classes that are looked for.
    """

    model: PictureModel
    wanted: frozenset[int]

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.model.manifest.labels

    @property
    def batch(self) -> int:
        """How many pictures a call takes well."""
        return self.model.batch

    @property
    def min_side(self) -> int:
        """The side that a picture should keep when it is decoded, in pixels."""
        return self.model.min_side

    def prepare(self, image_rgb: NDArray[np.uint8]) -> Prepared:
        """Bring an upright picture, uint8 [h, w, 3], to what `detect` takes.

        Raises:
            InputError: it is not such a picture.
        """
        return self.model.prepare(image_rgb)

    def detect(self, prepared: Sequence[Prepared]) -> list[Detections]:
        """What is seen in each prepared picture, the same whatever stands beside it.

        Raises:
            ModelError: the outputs do not fit the head or the labels.
        """
        found: dict[int, Detections] = {}
        head, labels = self.model.manifest.head, len(self.labels)
        for positions, outputs in self.model.run([p.array for p in prepared]):
            size_wh = self.model.size_wh(prepared[positions[0]].array)
            decoding = Decoding(head, self.model.outputs, labels, size_wh)
            for position, candidates in zip(positions, decoding.decode(outputs, len(positions)), strict=True):
                found[position] = self._finish(candidates, prepared[position])
        return [found[position] for position in range(len(prepared))]

    def _finish(self, candidates: Candidates, prepared: Prepared) -> Detections:
        """Keep what is wanted, suppress what overlaps, and find the places in the source picture."""
        manifest = self.model.manifest
        class_ids = candidates.class_ids - manifest.head["first_label"]
        if class_ids.size and int(class_ids.max()) >= len(self.labels):
            raise ModelError(
                f"{manifest.name} saw class {int(candidates.class_ids.max())}, beyond its {len(self.labels)} labels "
                f"(the first is {manifest.head['first_label']}); give all labels, or mend first_label of the head"
            )
        seen = np.flatnonzero(np.isin(class_ids, list(self.wanted)))  # what stands before the first label is background
        boxes, scores, class_ids = candidates.boxes_xyxy[seen], candidates.scores[seen], class_ids[seen]
        if manifest.head["nms"]:
            limit = manifest.head["limit"]
            order = nms(boxes, scores, class_ids, iou_threshold=manifest.head["iou_threshold"], limit=limit)
        else:
            order = np.argsort(-scores, kind="stable")[: manifest.head["limit"]]
        placed = boxes_in_source(boxes[order], prepared)
        there = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])  # a box on the bars is in no picture
        order = order[there]
        return Detections(placed[there], scores[order], class_ids[order].astype(np.int32))


def open_detector(model: RegisteredModel, *, threads: int = 1, device: str = "cpu") -> Detector:
    """Open a detector.

    Args:
        model: out of a registry, with the task `"detector"`.
        threads: how many threads one call uses. A runner that calls from N threads gives 1.
        device: `"cpu"`, `"cuda"` or `"auto"`.

    Raises:
        ModelError: it is no detector, its manifest does not fit its file, or a file was changed.
    """
    opened = open_picture_model(model, "detector", threads=threads, device=device)
    words = model.manifest.head["wanted"]
    wanted = (place for place, label in enumerate(model.manifest.labels) if not words or label in words)
    return FileDetector(opened, frozenset(wanted))
