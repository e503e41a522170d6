"""A box around the main subject of a picture, for whoever has no detector: found in the default model's activations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models import zoo
from imagelake.models.class_activation import activation_map, agree_with_colors, enlarge, heaviest_part
from imagelake.models.detector import Detections
from imagelake.models.graph_cache import OnProgress, load_graph
from imagelake.models.manifest import Manifest, Precision
from imagelake.models.runtime import Runtime
from imagelake.pixels.chain import Prepared
from imagelake.pixels.fit import fit

LABELS = ("subject",)
SUBJECT_VERSION = 1
"""Rises when the same picture gets another box or score: a part of every fingerprint of this detector's results."""

_SIDE = 384
_MAP_SIDE = 64
_THRESHOLD = 0.45
_LOGISTIC = (-11.8, 11.3, 7.8)
_FLAT = 2.0  # a picture whose light differs by less (standard deviation, of 255) shows nothing


@dataclass(frozen=True)
class SubjectDetector:
    """See `imagelake.models.detector.Detector`: one box a picture, or none where nothing stands out.

    Attributes:
        manifest: the model, with the whole picture squashed to a square.
        runtime: what runs it.
    """

    manifest: Manifest
    runtime: Runtime
    labels: tuple[str, ...] = LABELS
    batch: int = 4
    min_side: int = _SIDE

    def prepare(self, image_rgb: NDArray[np.uint8]) -> Prepared:
        """Squash an upright picture, uint8 [h, w, 3], to the square that the model takes.

        Raises:
            InputError: it is not such a picture.
        """
        squashed = fit(image_rgb, self.manifest.input_size_wh, "squash")
        height, width = image_rgb.shape[:2]
        matrix = np.diag([_SIDE / width, _SIDE / height, 1.0])
        return Prepared(squashed, matrix, (width, height))

    def detect(self, prepared: Sequence[Prepared]) -> list[Detections]:
        """The subject of each prepared picture; no pictures give no answers.

        Raises:
            ModelError: a picture was not made by `prepare`.
        """
        width, height = self.manifest.input_size_wh
        for each in prepared:
            if each.array.shape != (height, width, 3):
                raise ModelError(
                    f"a picture of shape {each.array.shape} was not prepared for this detector; give what `prepare` "
                    f"returns, uint8 [{height}, {width}, 3]"
                )
        found: list[Detections] = []
        for start in range(0, len(prepared), self.batch):
            images = np.stack([each.array for each in prepared[start : start + self.batch]])
            maps = self.runtime.run(["feature_map"], images)["feature_map"]
            found += [find_subject(each, image) for each, image in zip(maps, images, strict=True)]
        return found


def find_subject(feature_map: NDArray[np.float32], image_rgb: NDArray[np.uint8]) -> Detections:
    """Box what stands out in one picture.

    Args:
        feature_map: float32 [channels, h, w].
        image_rgb: uint8 [side, side, 3], the picture that it was computed from.
    """
    colors = fit(image_rgb, (_MAP_SIDE, _MAP_SIDE), "squash").astype(np.float64)
    if colors.std(axis=(0, 1)).max() < _FLAT:
        return _NOTHING
    coarse = enlarge(activation_map(feature_map), _MAP_SIDE)
    heat = agree_with_colors(coarse, colors)
    part = heaviest_part(heat, _THRESHOLD)
    if part is None:
        return _NOTHING
    box = np.array([part], np.float32) / np.float32(_MAP_SIDE)
    return Detections(box, np.array([_score(heat, part)], np.float32), np.zeros(1, np.int32))


def _score(heat: NDArray[np.float64], part: tuple[int, int, int, int]) -> float:
    """How likely the box is right (IoU of 0.5 or more): a logistic regression on the scenes that the rest was tuned on.

    It sees how much hotter the box is than what is around it, and which share of the hot cells lies in it.
    """
    left, top, right, bottom = part
    inside = heat[top:bottom, left:right]
    hot = np.count_nonzero(heat > _THRESHOLD)
    around = (heat.sum() - inside.sum()) / max(heat.size - inside.size, 1)
    signs = (1.0, inside.mean() - around, np.count_nonzero(inside > _THRESHOLD) / hot)
    return float(1 / (1 + np.exp(-np.dot(_LOGISTIC, signs))))


_NOTHING = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))


def open_subject(
    *,
    precision: Precision | None = None,
    threads: int = 1,
    cache_dir: Path | None = None,
    on_progress: OnProgress | None = None,
) -> SubjectDetector:
    """Open the default model as a detector of the main subject.

    Args:
        precision: `"fp32"` or `"int8"`; None for what is right on this processor.
        threads: how many threads one call of `detect` uses.
        cache_dir: where built graphs are kept; None for the user's cache folder.
        on_progress: told in one line when something takes seconds.

    Raises:
        ModelError: the weights are not installed or not the right ones.
    """
    if threads < 1:
        raise ModelError(f"{threads} threads cannot run a model; give 1 or more")
    manifest = dataclasses.replace(
        zoo.default_manifest(), input_size_wh=(_SIDE, _SIDE), resize="squash", pooling="none"
    )
    if precision is not None:
        manifest = dataclasses.replace(manifest, precision=precision)
    try:
        graph = load_graph(manifest, ("feature_map",), cache_dir, on_progress)
    except ModelError as error:
        if manifest.precision == "fp32" or precision is not None:
            raise
        if on_progress is not None:
            on_progress(f"going on in fp32: {error}")
        manifest = dataclasses.replace(manifest, precision="fp32")
        graph = load_graph(manifest, ("feature_map",), cache_dir, on_progress)
    # Late: whoever only reads manifests need not load the runtime.
    from imagelake.models.onnx_runtime import SessionSettings, open_session

    return SubjectDetector(manifest, open_session(graph, SessionSettings(threads=threads)))
