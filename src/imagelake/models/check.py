"""Run a registered model on pictures and show what it says of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ImageError, InputError, ModelError
from imagelake.models.classifier import open_classifier
from imagelake.models.detector import open_detector
from imagelake.models.file_embedder import open_file_embedder
from imagelake.models.registry import RegisteredModel
from imagelake.pixels.decode import decode_rgb
from imagelake.pixels.draw import draw_boxes
from imagelake.pixels.grid import Cell, draw_grid
from imagelake.pixels.resampling import resample

_ROW_HEIGHT, _GAP, _WIDEST = 480, 16, 2000


@dataclass(frozen=True)
class Seen:
    """One thing in a picture: what, how sure, and where in [0, 1] of the picture (all of it for a classifier)."""

    label: str
    score: float
    box_xyxy: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Checked:
    """What a model says of one picture.

    Attributes:
        picture: the file.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        prepare_ms: how long preparing took, without decoding.
        run_ms: how long the model and its head took.
        seen: what a detector or a classifier sees, the best first.
        vector: facts of an embedder's vector: `dimensions`, `length`, `least`, `mean`, `greatest`, and
            `cosine_to_first`, the likeness to the first picture.
    """

    picture: Path
    width: int
    height: int
    prepare_ms: float
    run_ms: float
    seen: tuple[Seen, ...] = ()
    vector: dict[str, float] = field(default_factory=dict)


def check_model(model: RegisteredModel, pictures: Sequence[Path], *, threads: int = 1) -> list[Checked]:
    """Run a model on some pictures, one by one.

    Args:
        model: a detector, classifier or embedder out of a registry.
        pictures: image files, at least one.
        threads: how many threads a call uses.

    Raises:
        InputError: a file is no picture, or there is none.
        ModelError: the model cannot be opened, or is for another task.
    """
    if not pictures:
        raise InputError("no picture is given; give one or more image files")
    images = [read_picture(path) for path in pictures]
    model.verify()
    task = model.manifest.task
    if task == "detector":
        return _check_detector(model, pictures, images, threads)
    if task == "classifier":
        return _check_classifier(model, pictures, images, threads)
    if task == "embedder":
        return _check_embedder(model, pictures, images, threads)
    raise ModelError(f"{model.manifest.name} has the task {task}, which takes no pictures; its files are whole")


def draw_checked(model: RegisteredModel, checked: Sequence[Checked]) -> NDArray[np.uint8]:
    """Draw what was found: boxes and classes on the pictures, or an embedder's pictures by likeness to the first.

    Returns:
        uint8 [h, w, 3]: one picture at its own size, several as a sheet.

    Raises:
        InputError: a file is no longer a picture.
    """
    if model.manifest.task == "embedder":
        first, *others = checked
        others.sort(key=lambda one: -one.vector["cosine_to_first"])
        cells = [Cell(read_picture(first.picture), "the first", first.picture.name)]
        for one in others:
            likeness = f"{one.vector['cosine_to_first']:.3f}"
            cells.append(Cell(read_picture(one.picture), likeness, one.picture.name))
        return draw_grid([cells])
    drawn = []
    for one in checked:
        image = read_picture(one.picture)
        if len(checked) > 1:  # scaled first, so that letters and lines are alike on the sheet
            image = _at_row_height(image)
        seen = one.seen if model.manifest.task == "detector" else one.seen[:1]
        boxes = np.array([s.box_xyxy for s in seen], np.float32).reshape(-1, 4)
        classes = [model.manifest.labels.index(s.label) for s in seen]  # a class has one color on all pictures
        drawn.append(draw_boxes(image, boxes, [f"{s.label} {s.score:.2f}" for s in seen], classes))
    return drawn[0] if len(drawn) == 1 else _sheet(drawn)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """The pixels of an image file, upright, uint8 [h, w, 3].

    Raises:
        InputError: it cannot be read, or is no picture.
    """
    try:
        return decode_rgb(path.read_bytes())
    except (OSError, ImageError) as error:
        raise InputError(f"{path} cannot be checked: {error}") from error


def _check_detector(
    model: RegisteredModel, pictures: Sequence[Path], images: Sequence[NDArray[np.uint8]], threads: int
) -> list[Checked]:
    detector = open_detector(model, threads=threads)
    detector.detect([detector.prepare(images[0])])  # the first run of a model takes longer: it is not timed
    found = []
    for path, image in zip(pictures, images, strict=True):
        start = time.perf_counter()
        prepared = detector.prepare(image)
        ready = time.perf_counter()
        (detections,) = detector.detect([prepared])
        seen = tuple(
            Seen(detector.labels[c], float(score), (float(x1), float(y1), float(x2), float(y2)))
            for (x1, y1, x2, y2), score, c in zip(
                detections.boxes_xyxy, detections.scores, detections.class_ids, strict=True
            )
        )
        found.append(_checked(path, image, start, ready, seen=seen))
    return found


def _check_classifier(
    model: RegisteredModel, pictures: Sequence[Path], images: Sequence[NDArray[np.uint8]], threads: int
) -> list[Checked]:
    classifier = open_classifier(model, threads=threads)
    classifier.scores([classifier.prepare(images[0])])  # not timed, as above
    found = []
    for path, image in zip(pictures, images, strict=True):
        start = time.perf_counter()
        prepared = classifier.prepare(image)
        ready = time.perf_counter()
        (guesses,) = classifier.top_k([prepared])
        found.append(_checked(path, image, start, ready, seen=tuple(Seen(g.label, g.score) for g in guesses)))
    return found


def _check_embedder(
    model: RegisteredModel, pictures: Sequence[Path], images: Sequence[NDArray[np.uint8]], threads: int
) -> list[Checked]:
    embedder = open_file_embedder(model, threads=threads)
    embedder.embed([embedder.prepare(images[0])])  # not timed, as above
    found: list[Checked] = []
    first: NDArray[np.float32] | None = None
    for path, image in zip(pictures, images, strict=True):
        start = time.perf_counter()
        prepared = embedder.prepare(image)
        ready = time.perf_counter()
        (vector,) = embedder.embed([prepared])
        first = vector if first is None else first
        lengths = float(np.linalg.norm(first) * np.linalg.norm(vector))
        facts = {
            "dimensions": len(vector),
            "length": float(np.linalg.norm(vector)),
            "least": float(vector.min()),
            "mean": float(vector.mean()),
            "greatest": float(vector.max()),
            "cosine_to_first": float(first @ vector) / lengths if lengths else 0.0,
        }
        found.append(_checked(path, image, start, ready, vector=facts))
    return found


def _checked(path: Path, image: NDArray[np.uint8], start: float, ready: float, **found: Any) -> Checked:
    """One answer with the times that it took until now."""
    prepare_ms, run_ms = (ready - start) * 1000, (time.perf_counter() - ready) * 1000
    return Checked(path, image.shape[1], image.shape[0], prepare_ms, run_ms, **found)


def _at_row_height(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture as high as a row of the sheet; a panorama is squeezed to the width of the sheet."""
    width = min(_WIDEST - 2 * _GAP, max(1, round(image.shape[1] * _ROW_HEIGHT / image.shape[0])))
    return np.asarray(resample(image, (width, _ROW_HEIGHT), "linear")[0], np.uint8)


def _sheet(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures of one height, in rows on white."""
    rows: list[list[NDArray[np.uint8]]] = [[]]
    used = _GAP
    for image in images:
        width = image.shape[1]
        if used + width + _GAP > _WIDEST and rows[-1]:
            rows.append([])
            used = _GAP
        rows[-1].append(image)
        used += width + _GAP
    widths = [sum(image.shape[1] + _GAP for image in row) + _GAP for row in rows]
    sheet = np.full((len(rows) * (_ROW_HEIGHT + _GAP) + _GAP, max(widths), 3), 255, np.uint8)
    for number, row in enumerate(rows):
        x, y = _GAP, _GAP + number * (_ROW_HEIGHT + _GAP)
        for image in row:
            sheet[y : y + _ROW_HEIGHT, x : x + image.shape[1]] = image
            x += image.shape[1] + _GAP
    return sheet
