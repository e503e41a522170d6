"""What detectors put out, decoded into boxes: one function for each family that people meet.

Each takes the outputs of one call and gives, for each picture, its candidates: boxes in pixels of the prepared
picture, before suppression. A row whose box, score or class is not finite is left out: a model gone mad sees nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError

Floats = NDArray[np.float32]
Outputs = Mapping[str, NDArray[Any]]

# Beyond any label, and an int32 also once the first label is subtracted.
_FARTHEST_CLASS = 1 << 30


@dataclass(frozen=True)
class Candidates:
    """What may be seen in one picture, in any order.

    Attributes:
        boxes_xyxy: float32 [n, 4], in pixels of the prepared picture.
        scores: float32 [n].
        class_ids: int32 [n], as the model numbers them.
    """

    boxes_xyxy: Floats
    scores: Floats
    class_ids: NDArray[np.int32]


@dataclass(frozen=True)
class Decoding:
    """How the outputs of one model become candidates.

    Attributes:
        head: the completed head of its manifest.
        outputs: the names of the outputs, in the order of the manifest.
        classes: how many labels there are.
        size_wh: width and height of the prepared pictures.
    """

    head: Mapping[str, Any]
    outputs: tuple[str, ...]
    classes: int
    size_wh: tuple[int, int]

    def decode(self, outputs: Outputs, count: int) -> list[Candidates]:
        """The candidates of the first `count` pictures of a call.

        Raises:
            ModelError: the outputs do not have the shape or the type of this head.
        """
        with np.errstate(all="ignore"):  # what overflows is not finite, and `_above` leaves it out
            return _DECODERS[self.head["kind"]](self, outputs, count)


def _ssd(decoding: Decoding, outputs: Outputs, count: int) -> list[Candidates]:
    """Rows of DetectionOutput: [image, label, score, x1, y1, x2, y2] in [0, 1], the images of a batch one after the
    other; or, with an axis of images, rows without the image.
    """
    rows = _floats(decoding, outputs, decoding.outputs[0])
    if rows.ndim and rows.shape[-1] == 7 and (rows.ndim == 2 or (rows.ndim == 4 and rows.shape[:2] == (1, 1))):
        rows = rows.reshape(-1, 7)
        images, rows = rows[:, 0], rows[:, 1:]
        pictures = [rows[images == image] for image in range(count)]
    elif rows.ndim == 3 and rows.shape[-1] == 6 and len(rows) >= count:
        pictures = list(rows[:count])
    else:
        raise _wrong_shape(decoding, rows, "[1, 1, rows, 7] or [pictures, rows, 6]")
    scale = np.array([*decoding.size_wh, *decoding.size_wh], np.float32)
    return [_above(decoding, p[:, 2:6] * scale, p[:, 1], p[:, 0]) for p in pictures]


def _yolox(decoding: Decoding, outputs: Outputs, count: int) -> list[Candidates]:
    """[pictures, cells, 5 + classes]: center and size relative to the cell, objectness, a score a class."""
    rows = _rows(decoding, outputs, count, 5)
    cells, strides = _grid(decoding.size_wh, decoding.head["strides"])
    if rows.shape[1] != len(cells):
        width, height = decoding.size_wh
        raise _wrong_shape(
            decoding, rows, f"[pictures, {len(cells)}, {5 + decoding.classes}] for {width} x {height} pixels"
        )
    return [_yolox_picture(decoding, picture, cells, strides) for picture in rows]


def _yolox_picture(decoding: Decoding, rows: Floats, cells: Floats, strides: Floats) -> Candidates:
    scores, class_ids, kept = _best(decoding, rows[:, 5:], rows[:, 4])
    rows, stride = rows[kept, :4], strides[kept]
    center_size = np.concatenate([(rows[:, :2] + cells[kept]) * stride, np.exp(rows[:, 2:]) * stride], axis=1)
    return _above(decoding, _from_center(center_size), scores, class_ids)


def _yolov5(decoding: Decoding, outputs: Outputs, count: int) -> list[Candidates]:
    """[pictures, rows, 5 + classes]: center and size in pixels, objectness, a score a class."""
    found = []
    for picture in _rows(decoding, outputs, count, 5):
        scores, class_ids, kept = _best(decoding, picture[:, 5:], picture[:, 4])
        found.append(_above(decoding, _from_center(picture[kept, :4]), scores, class_ids))
    return found


def _yolov8(decoding: Decoding, outputs: Outputs, count: int) -> list[Candidates]:
    """[pictures, 4 + classes, rows]: center and size in pixels, a score a class."""
    found = []
    for picture in _rows(decoding, outputs, count, 4):
        scores, class_ids, kept = _best(decoding, picture[:, 4:], None)
        found.append(_above(decoding, _from_center(picture[kept, :4]), scores, class_ids))
    return found


def _boxes(decoding: Decoding, outputs: Outputs, count: int) -> list[Candidates]:
    """Boxes, scores and classes as outputs of their own; without classes, the scores are [pictures, rows, classes]."""
    head = decoding.head
    boxes, scores = _boxes_and_scores(decoding, outputs, count)
    classes = _classes(decoding, outputs, scores) if head["classes"] else None
    counts = _counts(decoding, outputs, count, boxes.shape[1])
    found = []
    for picture in range(count):
        part = slice(0, counts[picture])
        if classes is None:
            of_classes = scores[picture, part] if scores.ndim == 3 else scores[picture, part, None]
            best, class_ids, kept = _best(decoding, of_classes, None)
            found.append(_above(decoding, _as_xyxy(decoding, boxes[picture, part][kept]), best, class_ids))
        else:
            corners = _as_xyxy(decoding, boxes[picture, part])
            activated = _activated(decoding, scores[picture, part])
            found.append(_above(decoding, corners, activated, classes[picture, part]))
    return found


def _boxes_and_scores(decoding: Decoding, outputs: Outputs, count: int) -> tuple[Floats, Floats]:
    """Boxes [pictures, rows, 4] and scores [pictures, rows], or [pictures, rows, classes] of at least one class."""
    boxes = _floats(decoding, outputs, decoding.head["boxes"])
    scores = _floats(decoding, outputs, decoding.head["scores"])
    if boxes.ndim == 2:  # a model for one picture may leave out the axis of pictures
        boxes, scores = boxes[None], scores[None]
    if boxes.ndim == 4:
        boxes = boxes.reshape(boxes.shape[0], boxes.shape[1] * boxes.shape[2], boxes.shape[3])
    fits = boxes.ndim == 3 and boxes.shape[2] == 4 and len(boxes) >= count and scores.shape[:2] == boxes.shape[:2]
    if not fits or scores.ndim > 3:
        raise _wrong_shape(decoding, boxes, f"[pictures, rows, 4], with scores [pictures, rows] and not {scores.shape}")
    if scores.ndim == 3 and (decoding.head["classes"] or not scores.shape[2]):
        wanted = "[pictures, rows], beside an output of classes" if decoding.head["classes"] else "of 1 class or more"
        raise _wrong_shape(decoding, scores, wanted)
    return boxes, scores


def _classes(decoding: Decoding, outputs: Outputs, scores: Floats) -> Floats:
    """The class of each row, [pictures, rows] as the scores."""
    classes = _floats(decoding, outputs, decoding.head["classes"])
    if classes.size != scores.size:
        raise _wrong_shape(decoding, classes, f"one class for each score, {scores.shape}")
    return classes.reshape(scores.shape)


def _counts(decoding: Decoding, outputs: Outputs, count: int, rows: int) -> list[int]:
    """How many rows of each picture count: all of them where no output says."""
    if not decoding.head["count"]:
        return [rows] * count
    counts = _floats(decoding, outputs, decoding.head["count"]).reshape(-1)
    if len(counts) < count:
        raise _wrong_shape(decoding, counts, "one count a picture")
    if not ((counts >= 0) & (counts <= rows)).all():  # nor for NaN
        raise ModelError(
            f"the output {decoding.head['count']} counts {counts.tolist()[:8]} boxes; the head boxes reads counts from "
            f"0 to the {rows} rows of an output; name another output, or leave the setting count out"
        )
    return [int(each) for each in counts[:count]]


_DECODERS: Mapping[str, Callable[[Decoding, Outputs, int], list[Candidates]]] = MappingProxyType(
    {"ssd": _ssd, "yolox": _yolox, "yolov5": _yolov5, "yolov8": _yolov8, "boxes": _boxes}
)


def cell_count(size_wh: tuple[int, int], strides: tuple[int, ...]) -> int:
    """How many cells the grids of a picture have, all strides together."""
    return sum((size_wh[0] // stride) * (size_wh[1] // stride) for stride in strides)


def _floats(decoding: Decoding, outputs: Outputs, name: str) -> Floats:
    """An output as float32; what is too large for it becomes infinite."""
    try:
        return np.asarray(outputs[name], np.float32)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"the output {name} holds no numbers ({error}), and the head {decoding.head['kind']} reads numbers; name "
            "another output"
        ) from error


def _rows(decoding: Decoding, outputs: Outputs, count: int, before: int) -> Floats:
    """The one output of a grid detector as [count, rows, before + classes], whichever of its axes are the rows."""
    values = _floats(decoding, outputs, decoding.outputs[0])
    wanted = before + decoding.classes
    if values.ndim != 3 or len(values) < count or wanted not in values.shape[1:]:
        raise _wrong_shape(
            decoding, values, f"[pictures, rows, {before} + {decoding.classes} labels], in either order of the last two"
        )
    # Where both sides fit, the one that this family uses.
    by_columns = values.shape[2] == wanted and (before == 5 or values.shape[1] != wanted)
    return values[:count] if by_columns else values[:count].transpose(0, 2, 1)


@lru_cache(maxsize=16)  # of one size of pictures, or a few
def _grid(size_wh: tuple[int, int], strides: tuple[int, ...]) -> tuple[Floats, Floats]:
    """For each cell its column and row, float32 [cells, 2], and its stride, float32 [cells, 1]."""
    cells, widths = [], []
    for stride in strides:
        columns, rows = np.meshgrid(np.arange(size_wh[0] // stride), np.arange(size_wh[1] // stride))
        cells.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        widths.append(np.full((columns.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(widths).astype(np.float32)


def _best(
    decoding: Decoding, class_scores: Floats, objectness: Floats | None
) -> tuple[Floats, NDArray[np.int32], NDArray[np.int64]]:
    """The best class of each row: scores, classes and the rows whose score reaches the threshold."""
    threshold = decoding.head["score_threshold"]
    rows = np.arange(len(class_scores))
    if objectness is not None:
        # No class lifts a score above the objectness: most rows are out before their classes are looked at.
        objectness = _activated(decoding, objectness)
        rows = np.flatnonzero(objectness >= threshold)
    best = class_scores[rows].argmax(axis=1) if class_scores.shape[1] else np.zeros(len(rows), np.int64)
    scores = _activated(decoding, class_scores[rows, best])
    if objectness is not None:
        scores = scores * objectness[rows]
    kept = scores >= threshold
    return scores[kept], best[kept].astype(np.int32), rows[kept]


def _activated(decoding: Decoding, values: Floats) -> Floats:
    """Logits as scores, where the head says that they are logits."""
    if decoding.head.get("activation", "none") == "none":
        return values
    return (1 / (1 + np.exp(-values))).astype(np.float32)


def _above(decoding: Decoding, boxes_xyxy: Floats, scores: Floats, classes: NDArray[Any]) -> Candidates:
    """Candidates whose score reaches the threshold and whose box, score and class are finite."""
    kept = (scores >= decoding.head["score_threshold"]) & np.isfinite(scores) & np.isfinite(classes)
    kept &= np.isfinite(boxes_xyxy).all(axis=1)
    class_ids = np.clip(np.rint(classes[kept]), -_FARTHEST_CLASS, _FARTHEST_CLASS).astype(np.int32)
    return Candidates(boxes_xyxy[kept].astype(np.float32), scores[kept].astype(np.float32), class_ids)


def _as_xyxy(decoding: Decoding, boxes: Floats) -> Floats:
    """Boxes of the head's format as corners in pixels."""
    how = decoding.head["format"]
    if how == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    elif how == "xywh":
        boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    elif how == "cxcywh":
        boxes = _from_center(boxes)
    if decoding.head["normalized"]:
        boxes = boxes * np.array([*decoding.size_wh, *decoding.size_wh], np.float32)
    return boxes


def _from_center(boxes_cxcywh: Floats) -> Floats:
    """Center and size to corners."""
    center, half = boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:] / 2
    return np.concatenate([center - half, center + half], axis=1)


def _wrong_shape(decoding: Decoding, given: NDArray[Any], wanted: str) -> ModelError:
    return ModelError(
        f"an output of shape {given.shape} is not what the head {decoding.head['kind']} reads, which is {wanted}; "
        "choose another --head, or give the right labels"
    )
