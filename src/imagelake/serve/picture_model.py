"""Opened classifiers, embedders and detectors as the plane serves them: prepared tensors or encoded pictures in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imagelake.models.choice import AnyEmbedder
from imagelake.models.classifier import FileClassifier
from imagelake.models.default_classifier import DefaultClassifier
from imagelake.models.detector import Detections, Detector
from imagelake.models.file_manifest import TensorSpec
from imagelake.pixels.chain import Prepared
from imagelake.serve.picture_input import PictureReader, gray_picture
from imagelake.serve.served import Served
from imagelake.serve.served_model import Answer
from imagelake.serve.tensor_info import TensorInfo, Tensors

T = TypeVar("T")

_NO_CLASS = -1


def serve_classifier(
    classifier: FileClassifier | DefaultClassifier, spec: TensorSpec, name: str, fingerprint: str, max_pixels: int
) -> Served:
    """A classifier: `probabilities` and the best `label` of each picture.

    Args:
        classifier: opened.
        spec: of its input.
        name: as requests call it.
        fingerprint: of its answers.
        max_pixels: of one picture.
    """
    labels = np.empty(len(classifier.labels), object)
    labels[:] = [label.encode() for label in classifier.labels]

    def answer(prepared: Any) -> Answer:
        scores = classifier.scores(prepared)
        return {"probabilities": scores, "label": labels[scores.argmax(axis=1)]}

    outputs = (
        TensorInfo("probabilities", "float32", (-1, len(labels)), "the score of each class"),
        TensorInfo("label", "object", (-1,), "the name of the best class"),
    )
    return Served(
        name,
        (_input(spec),),
        outputs,
        _compute(spec.name, PictureReader(classifier.prepare, classifier.min_side, max_pixels), _as_they_are, answer),
        fingerprint,
        labels=classifier.labels,
        task="classifier",
        max_batch=classifier.batch,
        tried=_examples(spec),
    )


def serve_embedder(embedder: AnyEmbedder, spec: TensorSpec, name: str, fingerprint: str, max_pixels: int) -> Served:
    """An embedder: the `embedding` of each picture. Arguments as of `serve_classifier`."""

    def answer(prepared: Any) -> Answer:
        stacked = prepared if isinstance(prepared, np.ndarray) else np.stack(prepared)
        return {"embedding": embedder.embed(stacked)}

    told = f"compared by {embedder.metric}"
    return Served(
        name,
        (_input(spec),),
        (TensorInfo("embedding", "float32", (-1, embedder.dimensions), told),),
        _compute(spec.name, PictureReader(embedder.prepare, embedder.min_side, max_pixels), _as_they_are, answer),
        fingerprint,
        task="embedder",
        max_batch=embedder.batch,
        tried=_examples(spec),
    )


def serve_detector(
    detector: Detector,
    spec: TensorSpec,
    name: str,
    fingerprint: str,
    max_pixels: int,
    *,
    most: int,
    size_wh: Callable[[NDArray[Any]], tuple[int, int]],
) -> Served:
    """A detector: `boxes`, `scores` and `class_ids` of each picture, the best first, and the `count` of them.

    Args:
        detector: opened.
        spec: of its input.
        name: as requests call it.
        fingerprint: of its answers.
        max_pixels: of one picture.
        most: how many boxes it gives of a picture at most.
        size_wh: width and height of a prepared picture, to which the boxes of a tensor belong.
    """

    def prepared_of(rows: NDArray[Any]) -> list[Prepared]:
        return [Prepared(row, np.eye(3), size_wh(row)) for row in rows]

    def answer(prepared: Sequence[Prepared]) -> Answer:
        return _padded(detector.detect(prepared), most)

    outputs = (
        TensorInfo("boxes", "float32", (-1, most, 4), "xyxy in [0, 1] of the upright picture"),
        TensorInfo("scores", "float32", (-1, most), "of each box"),
        TensorInfo("class_ids", "int32", (-1, most), "places in the labels; -1 where there is no box"),
        TensorInfo("count", "int32", (-1,), "how many boxes there are"),
    )
    return Served(
        name,
        (_input(spec),),
        outputs,
        _compute(spec.name, PictureReader(detector.prepare, detector.min_side, max_pixels), prepared_of, answer),
        fingerprint,
        labels=detector.labels,
        task="detector",
        max_batch=detector.batch,
        tried=_examples(spec),
    )


def _compute(
    name: str,
    reader: PictureReader[T],
    from_rows: Callable[[NDArray[Any]], Sequence[T]],
    answer: Callable[[Sequence[T]], Answer],
) -> Callable[[Tensors, Sequence[str]], Answer]:
    """What a model does with the rows of its input, be they tensors or encoded pictures."""

    def compute(inputs: Tensors, outputs: Sequence[str]) -> Answer:
        rows = inputs[name]
        found = answer(reader.read(rows) if rows.dtype.kind == "O" else from_rows(rows))
        return {output: found[output] for output in outputs}

    return compute


def _as_they_are(rows: NDArray[Any]) -> Any:
    return rows


def _padded(found: Sequence[Detections], most: int) -> Answer:
    """Detections as arrays of one length; what is beyond `most` is left out, as the worst."""
    boxes = np.zeros((len(found), most, 4), np.float32)
    scores = np.zeros((len(found), most), np.float32)
    class_ids = np.full((len(found), most), _NO_CLASS, np.int32)
    count = np.zeros(len(found), np.int32)
    for place, each in enumerate(found):
        there = count[place] = min(len(each), most)
        boxes[place, :there] = each.boxes_xyxy[:there]
        scores[place, :there] = each.scores[:there]
        class_ids[place, :there] = each.class_ids[:there]
    return {"boxes": boxes, "scores": scores, "class_ids": class_ids, "count": count}


def _input(spec: TensorSpec) -> TensorInfo:
    told = "prepared pictures, or encoded ones as strings"
    return TensorInfo(spec.name, spec.dtype, (-1, *spec.shape[1:]), told, pictures=True)


def _examples(spec: TensorSpec) -> tuple[Tensors, ...]:
    """An encoded picture, and zeros where the sides are known."""
    encoded = np.empty(1, object)
    encoded[0] = gray_picture()
    sides = spec.shape[1:]
    tensors = ({spec.name: np.zeros((1, *sides), spec.dtype)},) if min(sides) > 0 else ()
    return ({spec.name: encoded}, *tensors)
