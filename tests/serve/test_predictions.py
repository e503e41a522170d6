"""Rows of predictions: what is in them, that they come once, and that older lakes take them."""

import shutil
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from serve.event_server import add_colors, photo

from imagelake import schema
from imagelake.errors import ImageError, InputError, NotServedError
from imagelake.lake import table
from imagelake.serve.event_upload import About, UploadEvent
from imagelake.serve.plane import Plane
from imagelake.serve.predictions import (
    PlanePredictor,
    Prediction,
    PredictionWriter,
    Seen,
    look,
    prediction_id,
    prediction_row,
)
from imagelake.serve.served_models import open_served, serve_function
from imagelake.serve.tensor_info import TensorInfo

RED = (250, 20, 20)
ANSWER = Prediction("red", 0.75, "colors", "f" * 64)
NOTHING = Seen("a" * 64, None, None, None, None, None)


def event(number=1, **changes):
    return UploadEvent(id=str(number), source="test", kind="stored", uri="https://a.example/b.jpg?sig=x", **changes)


def test_what_a_picture_says_of_itself():
    """Time, place and camera from EXIF; of a picture that says nothing, nothing; what is none is refused."""
    seen = look(photo(RED))
    assert (seen.taken_at, seen.camera) == (datetime(2024, 6, 1, 12, 30), "Maker Model 7")  # noqa: DTZ001
    assert seen.taken_at_utc == datetime(2024, 6, 1, 2, 30, tzinfo=UTC)
    assert (seen.latitude, seen.longitude) == (pytest.approx(-33.51), pytest.approx(151.21))
    with pytest.raises(ImageError):
        look(b"text")


def test_a_row():
    """Place of the picture before that of the event, device of the event before the camera; no query of an address."""
    about = About(1.0, 2.0, "gate")
    row = prediction_row(event(about=about), NOTHING, ANSWER)
    assert (row["latitude"], row["longitude"], row["device"]) == (1.0, 2.0, "gate")
    assert row["uri"] == "https://a.example/b.jpg"
    row = prediction_row(event(about=about), look(photo(RED)), ANSWER)
    assert row["latitude"] == pytest.approx(-33.51)
    assert prediction_row(event(), look(photo(RED)), ANSWER)["device"] == "Maker Model 7"
    assert set(row) == set(schema.PREDICTIONS.names)


def test_an_id_is_of_event_and_model():
    """Another event or another model has another."""
    ids = {prediction_id(event(number), fingerprint) for number in (1, 2) for fingerprint in ("a", "b")}
    assert len(ids) == 4
    assert prediction_id(event(), "a") in ids


def test_rows_come_once(lake):
    """Written again, or twice at once, a row is there once; none is none."""
    writer = PredictionWriter(lake.tables)
    rows = [prediction_row(event(number), NOTHING, ANSWER) for number in range(3)]
    assert writer.write([]) == 0
    assert writer.write(rows[:2] + rows[:1]) == 2
    assert writer.write(rows) == 1
    assert lake.tables.predictions.count() == 3


def test_a_lake_of_an_older_version(lake):
    """It keeps its rows and gets the columns that it lacks."""
    old = lake.tables.predictions
    shutil.rmtree(old.uri)
    few = [schema.PREDICTIONS.field(name) for name in schema.PREDICTIONS.names[:10]]
    made = table.create(old.uri, pa.schema(few))
    made.insert_new(pa.Table.from_pylist([{"id": "old", "label": "cat"}], schema=made.schema))
    PredictionWriter(lake.tables).write([prediction_row(event(), NOTHING, ANSWER)])
    found = lake.sql("select label, uri from predictions order by label").to_pylist()
    assert found == [{"label": "cat", "uri": None}, {"label": "red", "uri": "https://a.example/b.jpg"}]


def test_a_classifier_of_the_plane_answers(tmp_path):
    """With its best class, name and fingerprint; what is no picture is refused."""
    with Plane() as plane:
        model = open_served(add_colors(tmp_path))
        plane.load(model)
        predictor = PlanePredictor(plane, "colors")
        answer = predictor.predict(photo(RED))
        assert (answer.label, answer.model, answer.fingerprint) == ("red", "colors", model.fingerprint)
        assert 0.3 < answer.score <= 1
        with pytest.raises((ImageError, InputError)):
            predictor.predict(b"no picture")
        with pytest.raises(NotServedError):
            PlanePredictor(plane, "none")


def test_only_classifiers_answer():
    """Another model is refused at the start, in words."""
    with Plane() as plane:
        pixels = TensorInfo("pixels", "uint8", (-1, 8, 8, 3))
        plane.load(serve_function(lambda x: x, "twice", [pixels], [pixels]))
        with pytest.raises(InputError, match="not a classifier"):
            PlanePredictor(plane, "twice")
