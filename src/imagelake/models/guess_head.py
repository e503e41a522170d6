"""Which head a model has, as far as the shapes and names of its outputs tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.models.decodings import cell_count

_STRIDES = (8, 16, 32)
_ANCHORS_OF_YOLOV5 = 3


@dataclass(frozen=True)
class HeadGuess:
    """What the outputs tell.

    Attributes:
        task: what the model is for; None where it may be several things.
        head: the kind and the settings that are certain; empty where the kind is not.
        outputs: the outputs that the head reads.
        classes: how many classes there are; None where nothing says it.
        question: what a person has to say, where the outputs leave it open.
        example: the words on the command line that answer it, as far as one can tell.
    """

    task: str | None = None
    head: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    classes: int | None = None
    question: str = ""
    example: str = ""


def guess_head(
    outputs: Mapping[str, NDArray[Any]], size_wh: tuple[int, int], *, task: str | None = None, labels: int = 0
) -> HeadGuess:
    """Tell the head of a model from what it gave for one call.

    Args:
        outputs: name to array.
        size_wh: width and height of the pictures of the call.
        task: what a person says it is for, if anything.
        labels: how many labels a person gave; 0 for none.
    """
    names = tuple(outputs)
    separate = _boxes(outputs)
    if separate is not None and task in {None, "detector"}:
        return separate
    if len(outputs) != 1:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
        question = f"which output the head reads: {shapes}"
        return HeadGuess(task, question=question, example=f"--output {names[-1]}")
    array = outputs[names[0]]
    if task in {None, "detector"}:
        found = _detector(names, array, size_wh, labels)
        if found is not None:
            return found
    if task == "detector":
        question = f"how boxes are written in an output of shape {list(array.shape)}: ssd, yolox, yolov5, yolov8, boxes"
        return HeadGuess("detector", outputs=names, question=question, example="--head yolov8")
    return _vector(names, array, task, labels)


def _detector(names: tuple[str, ...], array: NDArray[Any], size_wh: tuple[int, int], labels: int) -> HeadGuess | None:
    """One output that holds boxes, if its shape is one that detectors give."""
    if array.ndim == 4 and array.shape[:2] == (1, 1) and array.shape[3] == 7:
        return HeadGuess("detector", {"kind": "ssd"}, names)
    if array.ndim != 3:
        return None
    cells = cell_count(size_wh, _STRIDES)
    rows, columns = array.shape[1:]
    if columns == cells and rows > 4:
        return HeadGuess("detector", {"kind": "yolov8"}, names, rows - 4)
    if rows == cells * _ANCHORS_OF_YOLOV5 and columns > 5:
        return HeadGuess("detector", {"kind": "yolov5"}, names, columns - 5)
    if rows != cells or columns < 5:
        return None
    if labels and columns == 4 + labels:
        return HeadGuess("detector", {"kind": "yolov8"}, names, labels)
    question = (
        f"how boxes are written in {list(array.shape)}: yolox (relative to the cells of a grid) or yolov5 (in pixels)"
    )
    # Sizes relative to a cell are logarithms: small. Sizes in pixels are not.
    likely = "yolox" if np.abs(array[..., 2:4]).mean() < 8 else "yolov5"
    return HeadGuess("detector", {}, names, columns - 5, question, f"--head {likely}")


def _boxes(outputs: Mapping[str, NDArray[Any]]) -> HeadGuess | None:
    """Boxes, scores and classes in outputs of their own, told by names and shapes."""
    boxes = [name for name, a in outputs.items() if a.ndim in (2, 3) and a.shape[-1] == 4]
    scores = _named(outputs, boxes, ("score", "conf", "prob"))
    if len(boxes) != 1 or scores is None:
        return None
    used = [*boxes, scores]
    classes = _named(outputs, used, ("class", "label"))
    count = _named(outputs, [*used, classes or ""], ("num", "count", "valid"))
    head: dict[str, Any] = {"kind": "boxes", "boxes": boxes[0], "scores": scores}
    head |= {"classes": classes} if classes else {}
    head |= {"count": count} if count else {}
    names = tuple(name for name in (*used, classes, count) if name)
    of_classes = None if classes or outputs[scores].ndim != outputs[boxes[0]].ndim else outputs[scores].shape[-1]
    if boxes[0].startswith("detection_boxes"):  # what TensorFlow's object detection gives
        head |= {"format": "yxyx", "normalized": True, "first_label": 1, "nms": False}
        return HeadGuess("detector", head, names, of_classes)
    question = f"how the boxes of {boxes[0]} are written: xyxy, yxyx, xywh or cxcywh, in pixels or in 0..1"
    return HeadGuess(
        "detector", head, names, of_classes, question, "--set format=xyxy --set normalized=false --set first_label=0"
    )


def _named(outputs: Mapping[str, NDArray[Any]], used: list[str], words: tuple[str, ...]) -> str | None:
    """The one output not yet used whose name has one of the words in it."""
    found = [name for name in outputs if name not in used and any(word in name.lower() for word in words)]
    return found[0] if len(found) == 1 else None


def _vector(names: tuple[str, ...], array: NDArray[Any], task: str | None, labels: int) -> HeadGuess:
    """One output without boxes: scores of classes, or features."""
    width = int(np.prod(array.shape[1:]))
    flat = width == array.shape[1] if array.ndim > 1 else False
    if task == "classifier" or (task is None and flat and labels == width):
        return HeadGuess("classifier", {"kind": "classifier"}, names, width)
    if task is None and flat:
        question = (
            f"whether the {width} numbers of {names[0]} are scores of classes (classifier) or features (embedder)"
        )
        return HeadGuess(None, {}, names, None, question, "--task embedder")
    if flat:
        return HeadGuess("embedder", {"kind": "embedder"}, names)
    pooling = "cls" if array.ndim == 3 else "avg"
    question = f"how {list(array.shape)} becomes one vector: avg, max, cls (the first token) or none (all of it)"
    return HeadGuess("embedder", {"kind": "embedder"}, names, None, question, f"--set pooling={pooling}")
