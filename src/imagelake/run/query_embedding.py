"""Vectors of query pictures, made as those of an embedding set were."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from imagelake.errors import ImageError, InputError, ModelError, TooLargeError
from imagelake.lake.table import Table
from imagelake.models.choice import AnyEmbedder, find_embedder, open_any_embedder
from imagelake.models.file_manifest import FileManifest
from imagelake.models.manifest import Manifest
from imagelake.pixels.cropping import crop_box
from imagelake.pixels.decode import MAX_PIXELS, Picture, decode, open_picture
from imagelake.steps.extract import ExtractPictures
from imagelake.steps.pipeline import Pipeline, from_json
from imagelake.steps.step import Function

Box = tuple[float, float, float, float]
_PIPELINE = b"imagelake:pipeline"
T = TypeVar("T")


class QueryEmbedder:
    """The model of an embedding set, opened when a picture first needs it, and then shared by all threads.

    A class because it keeps what is opened.
    """

    def __init__(self, vectors: Table, manifest: Manifest | FileManifest, *, max_pixels: int = MAX_PIXELS) -> None:
        self._set = vectors
        self._manifest = manifest
        self._max_pixels = max_pixels
        self._lock = threading.Lock()
        self._extract: Function | None = None
        self._embedder: AnyEmbedder | None = None
        self._margin = 0.0

    def of_pictures(self, pictures: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """Vectors of whole pictures, float32 [n, d].

        In a set of regions, each goes through the steps that made the set: it is the best of its regions that counts.

        Raises:
            ImageError: one is no picture.
            TooLargeError: one has too many pixels.
            ModelError: the model is not here any more.
        """
        for data in pictures:
            self._open(data)
        with self._lock:
            if self._extract is None:
                self._extract = ExtractPictures(self._pipeline()).open()
            extract = self._extract
        names = [str(number) for number in range(len(pictures))]
        rows = extract(pa.record_batch({"id": names, "bytes": pa.array(pictures, pa.large_binary())})).to_pylist()
        for row in rows:
            if row["error"] is not None:
                raise ImageError(row["error"])
        return np.array([row["vector"] for row in rows], np.float32)

    def of_parts(self, pictures: Sequence[bytes], box_xyxy: Box) -> npt.NDArray[np.float32]:
        """Vectors of what is inside a box of each picture, float32 [n, d].

        Args:
            pictures: their bytes.
            box_xyxy: in [0, 1] of the upright picture. In a set of regions it is widened by the margin of the set.

        Raises:
            ImageError: one is no picture.
            TooLargeError: one has too many pixels.
            InputError: that is no box.
            ModelError: the model is not here any more, or it fails.
        """
        box = np.array(check_box(box_xyxy))
        with self._lock:
            if self._embedder is None:
                pipeline = self._pipeline()
                self._margin = 0.0 if pipeline.crop is None else pipeline.crop.margin
                if pipeline.embed is None:
                    raise AssertionError("a set of vectors was made by an embedder")
                self._embedder = open_any_embedder(pipeline.embed)
            embedder = self._embedder
        smallest = float(min(box[2:] - box[:2]))
        parts = []
        for data in pictures:
            picture = self._open(data)
            # As much of the part must be left as the model would see of a picture of that size.
            enough = min(int(embedder.min_side / smallest) + 1, max(picture.width, picture.height))
            parts.append(embedder.prepare(crop_box(decode(picture, min_side=enough), box, self._margin)))
        size = max(1, embedder.batch)
        batches = [np.stack(parts[start : start + size]) for start in range(0, len(parts), size)]
        vectors = np.concatenate([embedder.embed(batch) for batch in batches])
        if not np.isfinite(vectors).all():
            raise ModelError("the model gave a vector with values that are no finite numbers")
        return vectors

    def _open(self, data: bytes) -> Picture:
        picture = open_picture(data)
        if picture.width * picture.height > self._max_pixels:
            raise TooLargeError(
                f"The picture has {picture.width} x {picture.height} pixels, and at most {self._max_pixels:,} are "
                "looked at. Send a smaller one."
            )
        return picture

    def _pipeline(self) -> Pipeline:
        """The steps that made the set; in a set of regions, with only the best of each picture."""
        embedder = self._find(find_embedder, self._manifest)
        told = (self._set.schema.metadata or {}).get(_PIPELINE)
        if told is None:
            return Pipeline(embed=embedder)
        pipeline = self._find(from_json, told.decode(), embedder)
        return replace(pipeline, detect=pipeline.detect and replace(pipeline.detect, keep="best"))

    def _find(self, find: Callable[..., T], *what: Any) -> T:
        try:
            return find(*what)
        except ModelError as error:
            name = self._set.uri.rpartition("/")[2].removesuffix(".lance")
            raise ModelError(f"{name} was made with a model that a new picture needs, too: {error}") from error


def check_box(box_xyxy: Sequence[float]) -> Box:
    """The box, if it is one.

    Raises:
        InputError: it is not four numbers in 0..1, left before right and top above bottom.
    """
    if len(box_xyxy) == 4 and all(0 <= side <= 1 for side in box_xyxy):
        left, top, right, bottom = (float(side) for side in box_xyxy)
        if left < right and top < bottom:
            return left, top, right, bottom
    raise InputError(
        f"The box is {list(box_xyxy)}; give left, top, right, bottom in 0..1 of the upright picture, left < right and "
        "top < bottom."
    )
