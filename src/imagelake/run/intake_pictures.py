"""A picture on its way through the intake: as it was handed over, and described."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from urllib.parse import quote

import pyarrow as pa

from imagelake import schema
from imagelake.lake.ids import IdSet
from imagelake.run.intake_spool import Received, to_batch
from imagelake.steps.identify import content_id
from imagelake.steps.step import Function

_PICTURE_BYTES = 24 << 10  # what a picture takes besides its bytes: thumbnail, EXIF, names


def memory_of(size: int) -> int:
    """What a picture of `size` bytes takes in memory, in bytes."""
    return size + _PICTURE_BYTES


def receive_uri(about: Mapping[str, str | float], image_id: str) -> str:
    """The URI that a received picture is seen under: `receive://DEVICE/CAPTURED_AT/ID`; `unknown` stands for nothing.

    The same picture, sent again by the same device with the same time, has the same URI.
    """
    device, captured_at = (quote(str(about.get(name) or "unknown"), safe=":+") for name in ("device", "captured_at"))
    return f"receive://{device}/{captured_at}/{image_id}"


def _metadata(about: Mapping[str, str | float]) -> str | None:
    return json.dumps(dict(about), ensure_ascii=False) if about else None


@dataclass(frozen=True)
class Asked:
    """A picture as it was handed over."""

    data: bytes = field(repr=False)
    about: Mapping[str, str | float]
    answer: Future[tuple[str, bool]]


@dataclass(frozen=True)
class Job:
    """A picture on its way. `error` says why it is none."""

    picture: Received
    id: str
    row: pa.RecordBatch  # schema.DESCRIBED
    error: str | None
    answer: Future[tuple[str, bool]]
    cost: int


@dataclass
class Known:
    """The ids that the lake has, or will have when what is answered for is committed."""

    base: IdSet
    fresh: set[str] = field(default_factory=set)  # committed since `base` was read
    pending: set[str] = field(default_factory=set)

    def has(self, image_id: str) -> bool:
        """Whether a picture of this id is there already."""
        if image_id in self.pending or image_id in self.fresh:
            return True
        return bool(self.base.contains(pa.array([image_id]))[0])


def described(some: Sequence[Asked], known: Known, describe: Function) -> list[Job]:
    """Name and describe some pictures in one batch; those that the lake knows are not decoded again."""
    ids = [content_id(each.data) for each in some]
    pictures = [
        Received(receive_uri(each.about, image_id), each.data, _metadata(each.about))
        for each, image_id in zip(some, ids, strict=True)
    ]
    rows = to_batch(pictures)
    rows = rows.append_column(schema.DESCRIBED.field("id"), pa.array(ids))
    rows = rows.append_column(schema.DESCRIBED.field("known"), pa.array([known.has(image_id) for image_id in ids]))
    rows = describe(rows)
    errors = rows.column("error").to_pylist()
    return [
        Job(picture, ids[row], rows.slice(row, 1), errors[row], each.answer, memory_of(len(each.data)))
        for row, (each, picture) in enumerate(zip(some, pictures, strict=True))
    ]
