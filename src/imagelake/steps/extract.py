"""Detect, choose, crop, embed, code: one step, so that each picture is decoded once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from imagelake import schema as schemas
from imagelake.errors import ImageError
from imagelake.models.choice import AnyEmbedder, open_any_detector, open_any_embedder
from imagelake.models.detector import Detections, Detector
from imagelake.models.registry import RegisteredModel
from imagelake.pixels.chain import Prepared
from imagelake.pixels.cropping import crop_box
from imagelake.pixels.decode import Picture, decode, open_picture, reduction
from imagelake.steps.pipeline import Detect, Pipeline
from imagelake.steps.step import Function

if TYPE_CHECKING:
    from imagelake.models.coder import Coder

HELD_BYTES = 48 << 20
"""How many bytes of pixels wait in one thread for their turn in a model. A larger picture is handled alone."""

DETAIL_SIDE = 1024
"""With a detector, a picture is decoded with a shorter side of at least so many pixels, if it has them: enough to crop
from, and the same whatever the embedder, so that the same detector finds the same boxes."""

_WHOLE = (0.0, 0.0, 1.0, 1.0)
_In = TypeVar("_In")
_Out = TypeVar("_Out")
Image = npt.NDArray[np.uint8]


@dataclass
class _Row:
    """One row that comes out: a picture, or a region of it."""

    box_xyxy: tuple[float, ...] | None = None
    label: str | None = None
    score: float | None = None
    fallback: bool = False
    vector: npt.NDArray[np.float32] | None = None
    code: bytes | None = None
    error: str | None = None
    stage: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class _Held:
    """A decoded picture that waits for the detector, and its rows. `whole_rgb` is what is embedded without a crop."""

    image_rgb: Image
    whole_rgb: Image
    rows: list[_Row]
    prepared: Prepared | None = None


@dataclass(frozen=True)
class ExtractPictures:
    """From `id`, `bytes` and, if there are, `uri` and `error`, to `schema.extracted`.

    Each picture gives one row, or with a detector one row for each region that is kept. A picture that cannot be
    decoded, or that a model throws on, gives one row with `error` and `stage`. A picture without detection gives one
    row with the box of the whole picture and `fallback`.
    """

    pipeline: Pipeline
    on_progress: Callable[[str], None] | None = None  # told when a model is being built

    def output_schema(self, schema: pa.Schema) -> pa.Schema:  # noqa: ARG002  (what a step promises)
        """Whatever comes in, `schema.extracted`."""
        bits = None if self.pipeline.code is None else int(self.pipeline.code.manifest.head["bits"])
        return schemas.extracted(self.pipeline.dimensions, bits)

    def open(self) -> Function:
        """Load the models."""
        pipeline = self.pipeline
        opened = _Opened(
            pipeline,
            None if pipeline.detect is None else _open_detector(pipeline.detect, self.on_progress),
            None if pipeline.embed is None else open_any_embedder(pipeline.embed, on_progress=self.on_progress),
            None if pipeline.code is None else _open_coder(pipeline.code),
        )

        def extract(batch: pa.RecordBatch) -> pa.RecordBatch:
            return _record_batch(batch, opened.rows_of(batch), self.output_schema(batch.schema), pipeline)

        return extract


def _open_coder(model: RegisteredModel) -> Coder:
    from imagelake.models.coder import open_coder  # late: few pipelines have one

    return open_coder(model)


def _open_detector(wanted: Detect, on_progress: Callable[[str], None] | None) -> Detector:
    return open_any_detector(
        wanted.model, min_score=wanted.min_score, wanted=wanted.labels, most=wanted.most, on_progress=on_progress
    )


@dataclass(frozen=True)
class _Opened:
    pipeline: Pipeline
    detector: Detector | None
    embedder: AnyEmbedder | None
    coder: Coder | None

    @property
    def min_side(self) -> int:
        """The shorter side that a decoded picture needs at least."""
        if self.detector is not None:
            return max(DETAIL_SIDE, self.detector.min_side)
        return 0 if self.embedder is None else self.embedder.min_side

    def rows_of(self, batch: pa.RecordBatch) -> list[list[_Row]]:
        """The rows of each picture, in the order of the batch."""
        found: list[list[_Row]] = []
        held: list[_Held] = []
        waiting: list[tuple[_Row, npt.NDArray[Any]]] = []  # prepared for the embedder
        held_bytes = 0
        told, read_s = (_given(batch, name) for name in ("error", "read_s"))
        for data, error, seconds in zip(batch.column("bytes"), told, read_s, strict=True):
            row, images = self._decode(data.as_py() if data.is_valid else None, error)
            row.seconds["read"] = seconds or 0.0
            found.append([row])
            if images is None:
                continue
            held.append(_Held(*images, found[-1]))
            held_bytes += images[0].nbytes
            if held_bytes >= HELD_BYTES:
                waiting += self._find_regions(held)
                held, held_bytes = [], 0
        waiting += self._find_regions(held)
        self._embed(waiting)
        return found

    def _decode(self, data: bytes | None, error: str | None) -> tuple[_Row, tuple[Image, Image] | None]:
        row, began = _Row(), time.perf_counter()
        if error is not None or data is None:
            row.error, row.stage = error or "there are no bytes", "read"
            return row, None
        try:
            images = self._images(open_picture(data))
        except ImageError as reason:
            row.error, row.stage = str(reason), "decode"
            return row, None
        row.seconds["decode"] = time.perf_counter() - began
        return row, images

    def _images(self, picture: Picture) -> tuple[Image, Image]:
        """The picture for detector and crops, and as a whole for the embedder.

        They are one, decoded once. Only a large JPEG that a detector looks at and that is embedded without a crop is
        decoded at a smaller scale as well: its vector is then that of a run without a detector, in the same set.
        """
        image_rgb = decode(picture, min_side=self.min_side)
        if self.detector is None or self.embedder is None or self.pipeline.crop is not None:
            return image_rgb, image_rgb
        own = self.embedder.min_side
        same = reduction(picture, own) == reduction(picture, self.min_side)
        return image_rgb, image_rgb if same else decode(picture, min_side=own)

    def _find_regions(self, held: Sequence[_Held]) -> Iterator[tuple[_Row, npt.NDArray[Any]]]:
        """Put the regions of pictures into their rows, and yield what the embedder is to see."""
        if self.detector is not None and self.pipeline.detect is not None:
            self._detect(held, self.detector, self.pipeline.detect)
        if self.embedder is None:
            return
        for each in held:
            for row in each.rows:
                if row.error is None:
                    began = time.perf_counter()
                    try:
                        prepared = self.embedder.prepare(self._cut(each, row))
                    except Exception as error:  # noqa: BLE001  (one picture costs itself alone)
                        row.error, row.stage = _told(error), "embed"
                        continue
                    row.seconds["embed"] = time.perf_counter() - began
                    yield row, prepared

    def _cut(self, held: _Held, row: _Row) -> Image:
        if self.pipeline.crop is None or row.box_xyxy is None or row.fallback:
            return held.whole_rgb
        return crop_box(held.image_rgb, np.array(row.box_xyxy), self.pipeline.crop.margin)

    def _detect(self, held: Sequence[_Held], detector: Detector, wanted: Detect) -> None:
        ready: list[_Held] = []
        for each in held:
            began = time.perf_counter()
            try:
                each.prepared = detector.prepare(each.image_rgb)
            except Exception as error:  # noqa: BLE001  (one picture costs itself alone)
                each.rows[0].error, each.rows[0].stage = _told(error), "detect"
                continue
            each.rows[0].seconds["detect"] = time.perf_counter() - began
            ready.append(each)
        prepared = [each.prepared for each in ready if each.prepared is not None]
        found, seconds = _each_or_alone(detector.detect, prepared, detector.batch)
        for each, detections, spent in zip(ready, found, seconds, strict=True):
            each.prepared = None
            first = each.rows[0]
            first.seconds["detect"] += spent
            if isinstance(detections, str):
                first.error, first.stage = detections, "detect"
                continue
            kept = _choose(detections, detector.labels, wanted)
            if not kept:
                first.box_xyxy, first.fallback = _WHOLE, True
                continue
            each.rows[:] = kept
            kept[0].seconds = first.seconds

    def _embed(self, waiting: Sequence[tuple[_Row, npt.NDArray[Any]]]) -> None:
        if self.embedder is None or not waiting:
            return
        embedder = self.embedder

        def embed(prepared: Sequence[npt.NDArray[Any]]) -> Sequence[npt.NDArray[np.float32]]:
            return list(embedder.embed(np.stack(prepared)))

        vectors, seconds = _each_or_alone(embed, [prepared for _, prepared in waiting], embedder.batch)
        for (row, _), vector, spent in zip(waiting, vectors, seconds, strict=True):
            row.seconds["embed"] += spent
            if isinstance(vector, str):
                row.error, row.stage = vector, "embed"
            elif not np.isfinite(vector).all():
                row.error, row.stage = "the model gave a vector with values that are no finite numbers", "embed"
            else:
                row.vector = vector
        good = [row for row, _ in waiting if row.vector is not None]
        if self.coder is not None and good:
            codes = self.coder.encode(np.stack([row.vector for row in good if row.vector is not None]))
            for row, code in zip(good, codes, strict=True):
                row.code = code.tobytes()


def _each_or_alone(
    function: Callable[[Sequence[_In]], Sequence[_Out]], given: Sequence[_In], batch: int
) -> tuple[list[_Out | str], list[float]]:
    """Call a model in batches; where it throws on a batch, on each member alone, so that one costs itself alone.

    Returns:
        What came out or why not, and the seconds that each took.
    """
    out: list[_Out | str] = []
    seconds: list[float] = []
    for start in range(0, len(given), max(1, batch)):
        part = given[start : start + max(1, batch)]
        began = time.perf_counter()
        try:
            out += function(part)
        except Exception as error:  # noqa: BLE001  (whatever a stranger's model throws)
            out += [_alone(function, each) for each in part] if len(part) > 1 else [_told(error)]
        seconds += [(time.perf_counter() - began) / len(part)] * len(part)
    return out, seconds


def _alone(function: Callable[[Sequence[_In]], Sequence[_Out]], one: _In) -> _Out | str:
    try:
        return function([one])[0]
    except Exception as error:  # noqa: BLE001  (as above)
        return _told(error)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if not isinstance(error, ImageError) else str(error)


def _choose(found: Detections, labels: Sequence[str], wanted: Detect) -> list[_Row]:
    """The boxes to keep, the best first; equal scores in the order in which the detector gives them."""
    rows = []
    for position in np.argsort(-found.scores, kind="stable"):
        class_id, score = int(found.class_ids[position]), float(found.scores[position])
        label = labels[class_id] if 0 <= class_id < len(labels) else str(class_id)
        if score < wanted.min_score or (wanted.labels and label not in wanted.labels):
            continue
        box = tuple(round(float(side), 5) for side in found.boxes_xyxy[position])
        if box[2] > box[0] and box[3] > box[1]:
            rows.append(_Row(box_xyxy=box, label=label, score=score))
    each_once = list({(row.box_xyxy, row.label): row for row in reversed(rows)}.values())[::-1]
    return each_once[: 1 if wanted.keep == "best" else wanted.most]


def region_id(image_id: str, model: str, box_xyxy: Sequence[float], label: str | None) -> str:
    """The id of a region: equal for the same box of the same image by the same model."""
    told = json.dumps([image_id, model, [round(float(side), 5) for side in box_xyxy], label])
    return hashlib.sha256(told.encode()).hexdigest()


def _given(batch: pa.RecordBatch, name: str) -> list[Any]:
    """A column that may be missing."""
    return list(batch.column(name).to_pylist()) if name in batch.schema.names else [None] * batch.num_rows


def _record_batch(
    batch: pa.RecordBatch, found: Sequence[Sequence[_Row]], schema: pa.Schema, pipeline: Pipeline
) -> pa.RecordBatch:
    ids = batch.column("id").to_pylist()
    uris = _given(batch, "uri")
    rows = [row for rows in found for row in rows]
    repeated = np.repeat(np.arange(len(ids)), [len(rows) for rows in found]) if ids else np.empty(0, int)
    model = pipeline.detection_fingerprint
    names = [
        None if row.box_xyxy is None or model is None else region_id(ids[at], model, row.box_xyxy, row.label)
        for at, row in zip(repeated, rows, strict=True)
    ]
    columns: dict[str, Any] = {
        "image_id": [ids[at] for at in repeated],
        "uri": [uris[at] for at in repeated],
        "region_id": names,
        "box_xyxy": [row.box_xyxy for row in rows],
        "label": [row.label for row in rows],
        "score": [row.score for row in rows],
        "fallback": [row.fallback for row in rows],
        "code": [row.code for row in rows],
        "error": [row.error for row in rows],
        "stage": [row.stage for row in rows],
        **{f"{stage}_s": [row.seconds.get(stage, 0.0) for row in rows] for stage in schemas.STAGES},
    }
    arrays = [
        _vectors([row.vector for row in rows], each.type)
        if each.name == "vector"
        else pa.array(columns[each.name], each.type)
        for each in schema
    ]
    return pa.record_batch(arrays, schema=schema)


def _vectors(vectors: Sequence[npt.NDArray[np.float32] | None], kind: pa.DataType) -> pa.Array:
    """Vectors of one length as an Arrow array, null where there is none."""
    zeros = np.zeros(kind.list_size, np.float32)
    flat = [zeros if vector is None else vector for vector in vectors]
    values = np.concatenate(flat) if flat else np.empty(0, np.float32)
    missing = pa.array([vector is None for vector in vectors], pa.bool_()) if flat else None
    return pa.FixedSizeListArray.from_arrays(pa.array(values), type=kind, mask=missing)
