"""What a model answers to an event, as rows of the lake's table `predictions`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from imagelake import schema
from imagelake.errors import InputError
from imagelake.lake.sync import Since, sync_table
from imagelake.lake.tables import Tables
from imagelake.pixels.captions import read_captions
from imagelake.pixels.exif import read_exif
from imagelake.pixels.picture import open_picture
from imagelake.serve.event_objects import shown
from imagelake.serve.event_upload import UploadEvent
from imagelake.serve.plane import Plane
from imagelake.steps.identify import content_id

_TIDY_COMMITS = 64


@dataclass(frozen=True)
class Prediction:
    """The answer of a model.

    Attributes:
        label: the likeliest class.
        score: its probability.
        model: the name of the model.
        fingerprint: of the model with its preprocessing.
    """

    label: str
    score: float
    model: str
    fingerprint: str


@dataclass(frozen=True)
class Seen:
    """What the bytes of a picture say by themselves.

    Attributes:
        image_id: the SHA-256 of the bytes.
        taken_at: when, by the clock on the wall there.
        taken_at_utc: the same in UTC, where the offset is known.
        latitude: degrees, WGS 84; both or neither.
        longitude: as `latitude`.
        camera: its maker and model.
    """

    image_id: str
    taken_at: datetime | None
    taken_at_utc: datetime | None
    latitude: float | None
    longitude: float | None
    camera: str | None


class Predictor(Protocol):
    """What answers to the bytes of a picture."""

    def predict(self, data: bytes) -> Prediction:
        """The answer.

        Raises:
            InputError: they are no picture; ImageError too.
            ImagelakeError: it cannot answer now.
        """


class PlanePredictor:
    """A classifier of a plane.

    A class because it keeps what it found out about the model's tensors.

    Raises:
        NotServedError: there is no such model.
        InputError: it is no classifier of pictures.
    """

    def __init__(self, plane: Plane, name: str, timeout_s: float = 60.0) -> None:
        self._plane, self._name, self._timeout_s = plane, name, timeout_s
        self._input()

    def _input(self) -> str:
        model = self._plane.model(self._name)
        names = [info.name for info in model.inputs if info.pictures]
        if model.task != "classifier" or len(names) != 1:
            raise InputError(
                f"{self._name} is not a classifier of pictures but for {model.task}; give the --model of a classifier. "
                "`imagelake models` lists those that were added."
            )
        return names[0]

    def predict(self, data: bytes) -> Prediction:
        """See `Predictor`."""
        model = self._plane.model(self._name)
        picture = np.empty(1, object)
        picture[0] = data
        wanted = ("label", "probabilities")
        found = self._plane.infer(
            self._name, {self._input(): picture}, wanted, version=model.version, timeout_s=self._timeout_s,
            protocol="events",
        )  # fmt: skip
        label = found["label"][0]
        return Prediction(
            label=label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label),
            score=float(np.max(found["probabilities"][0])),
            model=model.name,
            fingerprint=model.fingerprint,
        )


def look(data: bytes) -> Seen:
    """What a picture says of its time, place and camera, without its pixels.

    Raises:
        ImageError: the bytes are no picture.
    """
    picture = open_picture(data)
    exif = read_exif(picture)
    taken_at = read_captions(picture, exif).taken_at
    camera = " ".join(part for part in (exif.camera_make, exif.camera_model) if part)
    return Seen(
        content_id(data), taken_at.local, taken_at.utc, exif.latitude, exif.longitude, camera or None
    )  # fmt: skip


def prediction_id(event: UploadEvent, fingerprint: str) -> str:
    """The id of the answer of one model to one event, 64 hexadecimal letters."""
    return hashlib.sha256(f"{event.key} {fingerprint}".encode()).hexdigest()


def prediction_row(event: UploadEvent, seen: Seen, prediction: Prediction) -> dict[str, Any]:
    """A row of `schema.PREDICTIONS`. The place is that of the picture, or else of the event.

    Raises:
        ValueError: the table cannot hold it.
    """
    about = event.about
    placed = seen.latitude is not None and seen.longitude is not None
    row = {
        "id": prediction_id(event, prediction.fingerprint),
        "image_id": seen.image_id,
        "label": prediction.label,
        "score": prediction.score,
        "model": prediction.model,
        "fingerprint": prediction.fingerprint,
        "predicted_at": datetime.now(UTC),
        "latitude": seen.latitude if placed else about.latitude,
        "longitude": seen.longitude if placed else about.longitude,
        "device": about.device or seen.camera,
        "uri": shown(event.uri),
        "taken_at": seen.taken_at,
        "taken_at_utc": seen.taken_at_utc,
        "happened_at": event.happened_at,
        "event_id": event.id,
        "event_source": event.source,
    }
    pa.Table.from_pylist([row], schema=schema.PREDICTIONS)  # what the table cannot hold fails here, not with its commit
    return row


class PredictionWriter:
    """Writes rows into the table `predictions`. For one thread.

    A class because it counts commits. A lake of an older version gets the columns that it lacks.

    Raises:
        LakeError: the lake cannot be written.
    """

    def __init__(self, tables: Tables) -> None:
        self._table = tables.predictions
        self._commits = 0
        self._table.add_columns(schema.PREDICTIONS)

    def write(self, rows: Sequence[dict[str, Any]]) -> int:
        """Insert those whose id is new, in one commit, and wait until the disk has it.

        Returns:
            How many were new.

        Raises:
            LakeError: none is in, or all are, and the disk may not have them: write them again.
        """
        since = Since()
        distinct = {row["id"]: row for row in rows}
        added = self._table.insert_new(pa.Table.from_pylist(list(distinct.values()), schema=schema.PREDICTIONS))
        sync_table(self._table, since)
        self._commits += 1
        if self._commits % _TIDY_COMMITS == 0:
            self._table.tidy()
        return added
