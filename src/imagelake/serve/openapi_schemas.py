"""The answers of the REST interface, as JSON Schema with examples."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_ID = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_ID_SCHEMA: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 of the image's bytes"}
_BOX: Schema = {
    "type": "array",
    "items": {"type": "number", "minimum": 0, "maximum": 1},
    "minItems": 4,
    "maxItems": 4,
    "description": "left, top, right, bottom in 0..1 of the upright picture",
}
_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_SECONDS: Schema = {"type": "number", "minimum": 0, "description": "how long the server was at work"}
_LINKS_EXAMPLE = {
    "image": f"/api/images/{_ID}",
    "picture": f"/api/images/{_ID}/picture",
    "thumbnail": f"/thumbnail/{_ID}",
}


def _object(text: str, example: object = None, /, **properties: Schema) -> Schema:
    """An object all of whose properties are there, and no others."""
    told: Schema = {"type": "object", "description": text, "required": list(properties)}
    told["properties"] = properties
    told["additionalProperties"] = False
    return told if example is None else told | {"examples": [example]}


def _list(of: str) -> Schema:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{of}"}}


_HEAD = {"model": _TEXT, "version": _TEXT, "seconds": _SECONDS}
_HEAD_EXAMPLE = {"model": "efficientnet-lite0", "version": "1", "seconds": 0.021}
_PREDICTION_EXAMPLE = {"label": "tabby cat", "class_id": 281, "probability": 0.62}

SCHEMAS: dict[str, Schema] = {
    "Error": {
        "type": "object",
        "description": "Why a request was not answered.",
        "required": ["error"],
        "properties": {
            "error": {"type": "string", "description": "what is wrong"},
            "given": {"type": "string", "description": "what was given"},
            "allowed": {"type": "string", "description": "what is allowed"},
            "hint": {"type": "string", "description": "what to do"},
        },
        "additionalProperties": False,
        "examples": [
            {
                "error": "k has no value that makes sense", "given": "0", "allowed": "a whole number from 1 to 1,000",
                "hint": "Give such a value, or leave it out.",
            }
        ],
    },
    "Prediction": _object(
        "A class and how probable it is.", _PREDICTION_EXAMPLE,
        label=_TEXT, class_id=_COUNT, probability=_NUMBER,
    ),
    "Classification": _object(
        "What a picture shows, the most probable first.",
        _HEAD_EXAMPLE | {"predictions": [_PREDICTION_EXAMPLE]},
        **_HEAD, predictions=_list("Prediction"),
    ),
    "Box": _object(
        "Something in a picture.",
        {"box": [0.1, 0.2, 0.6, 0.9], "label": "dog", "class_id": 17, "score": 0.91},
        box=_BOX | {"items": _NUMBER}, label=_TEXT, class_id={"type": "integer"}, score=_NUMBER,
    ),
    "Detection": _object("What is where in a picture, the highest score first.", **_HEAD, boxes=_list("Box")),
    "Embedding": _object(
        "The vector of a picture.",
        _HEAD_EXAMPLE | {"model": "efficientnet-lite0-embedder", "dimensions": 3, "vector": [0.12, -0.5, 0.33]},
        **_HEAD, dimensions=_COUNT, vector={"type": "array", "items": _NUMBER},
    ),
    "Links": _object(
        "Where else an image can be had.", _LINKS_EXAMPLE, image=_TEXT, picture=_TEXT, thumbnail=_TEXT,
    ),
    "Match": _object(
        "An image of the lake, or a region of it, that is near.",
        id=_ID_SCHEMA,
        uri={"type": "string", "description": "where it was first seen"},
        distance={"type": "number", "description": "by the metric of the embedding set: nearer is smaller"},
        box=_BOX | {"type": ["array", "null"], "description": "the region; null: the whole picture"},
        label={"type": ["string", "null"], "description": "what the detector calls the region"},
        links={"$ref": "#/components/schemas/Links"},
    ),
    "Matches": _object(
        "The nearest images, the nearest first.",
        {
            "embedding_set": "efficientnet-lite0-3f1c9a0b77de",
            "matches": [
                {
                    "id": _ID, "uri": "file:///photos/cat.jpg", "distance": 0.13, "box": None, "label": None,
                    "links": _LINKS_EXAMPLE,
                }
            ],
            "seconds": 0.03,
        },
        embedding_set=_TEXT, matches=_list("Match"), seconds=_SECONDS,
    ),
    "Image": _object(
        "What the lake knows of an image: its columns, see the reference of the table `images`. JSON that came with "
        "the picture (EXIF, XMP, IPTC, the metadata of its source) is there as it was.",
        id=_ID_SCHEMA,
        uris={"type": ["array", "null"], "items": _TEXT},
        format={"type": ["string", "null"]},
        width={"type": ["integer", "null"]},
        height={"type": ["integer", "null"]},
        links={"$ref": "#/components/schemas/Links"},
    ) | {"additionalProperties": True},
    "Tensor": _object(
        "An input or output of a model, for GraphPipe and the Open Inference Protocol.",
        name=_TEXT,
        type=_TEXT,
        shape={"type": "array", "items": {"type": "integer"}, "description": "-1 is any size"},
        description=_TEXT,
        pictures={"type": "boolean", "description": "it also takes encoded pictures, as strings"},
        optional={"type": "boolean"},
    ),
    "Model": _object(
        "A model that is served.",
        name=_TEXT,
        version=_TEXT,
        task={"type": "string", "enum": ["tensors", "classifier", "detector", "embedder", "search", "function"]},
        description=_TEXT,
        platform=_TEXT,
        fingerprint={"type": "string", "description": "models of the same fingerprint give the same answers"},
        classes={"type": "integer", "minimum": 0, "description": "how many labels it has"},
        ready={"type": "boolean"},
        default={"type": "boolean", "description": "it answers GraphPipe at /"},
        inputs=_list("Tensor"),
        outputs=_list("Tensor"),
    ),
    "Models": _object("The models that are served.", models=_list("Model")),
}  # fmt: skip
