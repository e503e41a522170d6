"""The routes of the page that change the lake: tags, and pictures that people send. Only with `--write` and a key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from imagelake.errors import InputError
from imagelake.gallery.catching_up import CatchingUp
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.selection import rows_of
from imagelake.gallery.writing import MOST_IMAGES, Uploads, list_of, tag_some
from imagelake.run.tags import count_tags
from imagelake.web.answers import query_of, route, selection_of

_TAGGING_BYTES = 8 << 20
_PICTURE_BYTES = 100 << 20
_MOST_TOLD = 10_000


def routes(gallery: Gallery) -> list[BaseRoute]:
    """`POST listing`, `GET tags`, `POST tags`, `POST upload` and `GET upload` below `/page/api/`."""
    uploads, behind = Uploads(gallery.tables), CatchingUp(gallery)

    def tags(request: Request) -> dict[str, Any]:
        del request
        counted = count_tags(gallery.tables)
        return {"tags": [{"name": name, "count": count} for name, count in list(counted.items())[:_MOST_TOLD]]}

    def change_tags(request: Request) -> dict[str, Any]:
        asked = _object(request.state.body)
        changes = tag_some(gallery, _images(gallery, asked), _texts(asked, "add"), _texts(asked, "remove"))
        gallery.changed()
        undo = [
            {"ids": [each[:16] for each in ids], "add": list(lost), "remove": list(gained)}
            for (gained, lost), ids in changes.gained.items()
        ]
        return {"images": changes.images, "changed": changes.changed, "undo": undo}

    def upload(request: Request) -> dict[str, Any]:
        taken = uploads.take(request.query_params.get("name", ""), request.state.body)
        if taken.error is None and not taken.known:
            behind.more()
            gallery.changed()
        return {"id": taken.id, "known": taken.known, "error": taken.error}

    def uploaded(request: Request) -> dict[str, Any]:
        del request
        return behind.told()

    def listing(request: Request) -> dict[str, Any]:
        asked = _object(request.state.body)
        return {"images": list_of(gallery, _images(gallery, asked))}

    return [
        route("/listing", listing, body_bytes=_TAGGING_BYTES),
        route("/tags", tags),
        route("/tags", change_tags, body_bytes=_TAGGING_BYTES, writes=True),
        route("/upload", upload, body_bytes=_PICTURE_BYTES, writes=True),
        route("/upload", uploaded),
    ]


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise InputError("The body is no JSON. Send an object with ids or selection, add and remove.") from None
    if not isinstance(found, dict):
        raise InputError("The body is no JSON object. Send one with ids or selection, add and remove.")
    return found


def _texts(asked: Mapping[str, Any], name: str) -> list[str]:
    found = asked.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise InputError(f"{name} is no list of texts.")
    return found


def _images(gallery: Gallery, asked: Mapping[str, Any]) -> list[str]:
    """The ids that a request names, or those that its selection selects: the query of a view's address."""
    if ("ids" in asked) == ("selection" in asked):
        raise InputError("Give ids, a list, or selection, the query of an address.")
    if "ids" in asked:
        return _texts(asked, "ids")
    if not isinstance(asked["selection"], str):
        raise InputError("selection is no text. Give the query of an address, such as q=boat&f.tag=red.")
    rows = rows_of(gallery, selection_of(query_of(asked["selection"])))
    if len(rows) > MOST_IMAGES:
        raise InputError(f"{len(rows):,} images are selected; tag at most {MOST_IMAGES:,} at once.")
    return gallery.catalog().ids_of(rows)
