"""The REST interface as an OpenAPI 3.1 document, `/openapi.json`, and as a page, `/docs`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from imagelake.serve import docs_page
from imagelake.serve.json_answer import json_answer
from imagelake.serve.openapi_schemas import SCHEMAS
from imagelake.serve.picture_answer import MEDIA_TYPES
from imagelake.serve.rest import DEFAULT_K, TAKEN
from imagelake.serve.rest_fields import FIELDS
from imagelake.serve.site import Site

_ERRORS = {
    "400": "The request makes no sense: the answer says why, and what is allowed.",
    "401": "The API key is missing or wrong.",
    "403": "A page of another site may not use this server.",
    "404": "There is no such model or image here.",
    "408": "The body did not arrive in time.",
    "413": "The body, or the picture in it, is larger than the server takes.",
    "415": "The body is of a kind that is not read here.",
    "416": "The picture has no such bytes.",
    "429": "Too many requests of this caller: wait as long as Retry-After says.",
    "503": "Too much waits already, or the lake cannot be read at present: ask again later.",
    "504": "The answer was not ready in time.",
}
_OF_EVERY = ("401", "403", "429")
_OF_POST = ("400", "404", "408", "413", "415", "503", "504")
_OF_GET = ("400", "404", "503", "504")
_BINARY = {"type": "string", "contentMediaType": "application/octet-stream"}
_POSTS: dict[str, tuple[str, str, str]] = {
    "classify": ("What does a picture show?", "Classification", "Classes with their probabilities, the best first."),
    "detect": ("What is where in a picture?", "Detection", "Boxes with labels and scores, the best first."),
    "embed": ("The vector of a picture", "Embedding", "A vector; near ones are of pictures that look alike."),
    "search": (
        "Which images of the lake are like this one?", "Matches",
        "The nearest images, the nearest first, exact. A query is a picture, a part of it (box), an image of the lake "
        "(id) or a vector.",
    ),
}  # fmt: skip

Part = dict[str, Any]


def routes(site: Site) -> list[BaseRoute]:
    """`/openapi.json`, `/docs` and what that page needs; nothing of it comes from another host."""

    async def openapi(request: Request) -> Response:
        return json_answer(document(site.version, request.scope.get("root_path", "")))

    async def for_the_page(request: Request) -> Response:
        return json_answer(docs_page.as_3_0(document(site.version, request.scope.get("root_path", ""))))

    return [
        Route("/openapi.json", openapi),
        Route("/docs/openapi.json", for_the_page),
        *docs_page.routes(),
    ]


def document(version: str, root: str = "") -> Part:
    """The document.

    Args:
        version: of the server.
        root: what stands before every path.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "imagelake",
            "version": version,
            "summary": "Classify, detect, embed and search pictures.",
            "description": "A picture is the body of a request, the file `image` of a form, or named by its address "
            '(`{"url": ...}`). GraphPipe is at `/` and `/graphpipe/NAME`, the Open Inference Protocol at `/v2`.',
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": root or "/"}],
        "security": [{}, {"bearer": []}, {"key": []}],
        "tags": [{"name": "pictures"}, {"name": "lake"}, {"name": "models"}],
        "paths": {**{f"/api/{name}": {"post": _post(name)} for name in _POSTS}, **_gets()},
        "components": {
            "schemas": SCHEMAS,
            "responses": {status: _error(status, text) for status, text in _ERRORS.items()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "an API key of the server"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same"},
            },
        },
    }


def _post(name: str) -> Part:
    title, schema, answer = _POSTS[name]
    names = TAKEN[name]
    return {
        "operationId": name,
        "tags": ["lake" if name == "search" else "pictures"],
        "summary": title,
        "description": "Fields may stand in the address, in the form or in the JSON object.",
        "parameters": [_parameter(name, each) for each in names if FIELDS[each].in_query],
        "requestBody": {"required": False, "content": _bodies(name, names)},
        "responses": {"200": _json(answer, schema), **_refusals(*_OF_POST)},
    }


def _parameter(endpoint: str, name: str) -> Part:
    known = FIELDS[name]
    told: Part = {"name": name, "in": "query", "description": known.description, "schema": _schema(endpoint, name)}
    if known.schema["type"] == "array":
        told |= {"style": "form", "explode": False}
    return told


def _bodies(endpoint: str, names: Sequence[str]) -> Part:
    fields = {each: _schema(endpoint, each) | {"description": FIELDS[each].description} for each in names}
    objects = {each: schema | {"examples": [FIELDS[each].example]} for each, schema in fields.items()}
    # In a form, a list is written as in an address: with commas.
    texts = {
        name: {"type": "string", "description": FIELDS[name].description} if schema["type"] == "array" else schema
        for name, schema in fields.items()
    }
    queries = [name for name in ("url", "id", "vector") if name in names]
    example = {"url": FIELDS["url"].example} | ({"k": FIELDS["k"].example} if "k" in names else {})
    form = {"image": _BINARY | {"description": "the picture"}} | texts
    return {
        "multipart/form-data": {"schema": {"type": "object", "properties": form, "additionalProperties": False}},
        "image/jpeg": {"schema": _BINARY},
        "image/*": {"schema": _BINARY},
        "application/octet-stream": {"schema": _BINARY},
        "application/json": {
            "schema": {
                "type": "object",
                "properties": objects,
                "additionalProperties": False,
                "anyOf": [{"required": [name]} for name in queries],
            },
            "examples": {"address": {"value": example}},
        },
    }


def _schema(endpoint: str, name: str) -> Part:
    """Without an example: the page would fill it in, and a request with two queries is refused."""
    schema = dict(FIELDS[name].schema)
    return schema | {"default": DEFAULT_K[endpoint]} if name == "k" else schema


def _gets() -> Part:
    image_id = {
        "name": "id", "in": "path", "required": True, "schema": dict(FIELDS["id"].schema),
        "description": "SHA-256 of the image's bytes, as a search tells it",
    }  # fmt: skip
    whole = {
        "description": "The bytes, as they came into the lake.",
        "headers": {"ETag": {"schema": {"type": "string"}}, "Accept-Ranges": {"schema": {"type": "string"}}},
        "content": {kind: {"schema": _BINARY} for kind in sorted(MEDIA_TYPES.values())},
    }
    small = whole | {"description": "The bytes.", "content": {"image/jpeg": {"schema": _BINARY}}}
    again: Part = {"304": {"description": "The caller has it already (If-None-Match)."}}
    part = {"206": whole | {"description": "The part of them that Range asks for."}}
    refused = _refusals(*_OF_GET)
    picture = {"200": whole, **part, **again, **refused, **_refusals("416")}
    thumbnail = {"200": small, "206": small, **again, **refused, **_refusals("416")}
    return {
        "/api/images/{id}": {
            "get": {
                "operationId": "image", "tags": ["lake"], "summary": "What is known of an image",
                "parameters": [image_id], "responses": {"200": _json("Its columns.", "Image"), **refused},
            }
        },
        "/api/images/{id}/picture": {
            "get": {
                "operationId": "picture", "tags": ["lake"], "summary": "The image itself",
                "parameters": [image_id], "responses": picture,
            }
        },
        "/thumbnail/{id}": {
            "get": {
                "operationId": "thumbnail", "tags": ["lake"], "summary": "A small JPEG of an image",
                "parameters": [image_id], "responses": thumbnail,
            }
        },
        "/api/models": {
            "get": {
                "operationId": "models", "tags": ["models"], "summary": "The models that are served",
                "responses": {"200": _json("All of them.", "Models"), **_refusals("503")},
            }
        },
    }  # fmt: skip


def _json(description: str, schema: str) -> Part:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


def _error(status: str, description: str) -> Part:
    if status == "416":  # of a picture: there is no text
        return {"description": description}
    told = _json(description, "Error")
    if status in ("429", "503"):
        told["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return told


def _refusals(*statuses: str) -> Part:
    return {status: {"$ref": f"#/components/responses/{status}"} for status in (*statuses, *_OF_EVERY)}
