from __future__ import annotations

import dataclasses
import json

import pytest

from imagelake.errors import ModelError
from imagelake.models import zoo
from imagelake.models.manifest import fingerprint, from_json, to_json

MODEL = zoo.manifest("efficientnet-lite0", precision="fp32", pooling="avg")

SHAPES_RESULT = {
    "weights_sha256": "0" * 64,
    "architecture": "other",
    "graph_version": 99,
    "precision": "int8",
    "input_size_wh": (192, 160),
    "resize": "letterbox",
    "mean_rgb": (0.0, 0.0, 0.0),
    "std_rgb": (1.0, 1.0, 1.0),
    "pooling": "max",
    "metric": "l2",
    "feature_channels": 7,
    "feature_stride": 16,
}
DESCRIBES = {
    "name": "other",
    "task": "other",
    "source_package": "other",
    "source_file": "other",
    "licence": "MIT",
    "size_bytes": 1,
    "labels": ("cat",),
}


def test_every_field_is_in_one_of_the_two_tables():
    """A new field must say whether it shapes the result."""
    assert {f.name for f in dataclasses.fields(MODEL)} == SHAPES_RESULT.keys() | DESCRIBES.keys()


@pytest.mark.parametrize("field", SHAPES_RESULT)
def test_what_shapes_a_vector_changes_the_fingerprint(field):
    """Two manifests that can give different vectors have different fingerprints."""
    assert fingerprint(dataclasses.replace(MODEL, **{field: SHAPES_RESULT[field]})) != fingerprint(MODEL)


@pytest.mark.parametrize("field", DESCRIBES)
def test_what_only_describes_does_not(field):
    """Renaming a model makes no embedding stale."""
    assert fingerprint(dataclasses.replace(MODEL, **{field: DESCRIBES[field]})) == fingerprint(MODEL)


@pytest.mark.parametrize("changes", [{}, {"labels": ("cat", "dog")}, SHAPES_RESULT, DESCRIBES])
def test_json_round_trip(changes):
    """`from_json(to_json(m)) == m`, with its fingerprint."""
    manifest = dataclasses.replace(MODEL, **changes)
    again = from_json(to_json(manifest))
    assert again == manifest
    assert fingerprint(again) == fingerprint(manifest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps(json.loads(to_json(MODEL)) | {"surprise": 1}),
        json.dumps({k: v for k, v in json.loads(to_json(MODEL)).items() if k != "pooling"}),
        json.dumps(json.loads(to_json(MODEL)) | {"input_size_wh": 224}),
        json.dumps(json.loads(to_json(MODEL)) | {"input_size_wh": ["a", "b"]}),
        json.dumps(json.loads(to_json(MODEL)) | {"size_bytes": "1"}),
        json.dumps(json.loads(to_json(MODEL)) | {"mean_rgb": None}),
        json.dumps(json.loads(to_json(MODEL)) | {"std_rgb": ["a", "b", "c"]}),
        json.dumps(json.loads(to_json(MODEL)) | {"pooling": ["avg"]}),
        "[" * 200_000,
        '{"input_size_wh": ' + "[" * 900 + "]" * 900 + "}",
        json.dumps(json.loads(to_json(MODEL)) | {"input_size_wh": json.loads("[" * 900 + "]" * 900)}),
    ],
)
def test_bad_json_is_a_model_error(text):
    """What `to_json` cannot have written is refused, whole."""
    with pytest.raises(ModelError):
        from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "fp16"},
        {"resize": "stretch"},
        {"pooling": "gem"},
        {"metric": "dot"},
        {"input_size_wh": (0, 224)},
        {"input_size_wh": (224,)},
        {"input_size_wh": (224.0, 224)},
        {"input_size_wh": (4096, 224)},
        {"std_rgb": (0.0, 1.0, 1.0)},
    ],
)
def test_a_value_that_is_not_allowed_is_named(change):
    """A manifest with a bad value does not come to be, and the message shows the value."""
    with pytest.raises(ModelError) as caught:
        dataclasses.replace(MODEL, **change)
    assert str(next(iter(change.values()))) in str(caught.value)


@pytest.mark.parametrize(
    ("size", "pooling", "dimensions"),
    [((224, 224), "avg", 1280), ((224, 224), "max", 1280), ((224, 224), "none", 62720), ((65, 33), "none", 7680)],
)
def test_dimensions_follow_from_pooling_and_size(size, pooling, dimensions):
    """The length of a vector is known before any picture is seen."""
    assert dataclasses.replace(MODEL, input_size_wh=size, pooling=pooling).dimensions == dimensions
