"""The routes of the part `picture` of the page: one image, large, with all that is known of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from imagelake.errors import InputError
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.large import LargePictures, step_of
from imagelake.gallery.neighbors import NeighborSearch
from imagelake.gallery.picture import picture_of, row_of
from imagelake.gallery.picture_near import near
from imagelake.serve.errors_http import plain
from imagelake.serve.json_answer import json_answer
from imagelake.web.answers import route

_SIDE, _NEIGHBORS = 1600, 12
_LARGEST = 1_000_000
_KEPT = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
_AS_A_FILE = _KEPT | {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def routes(gallery: Gallery) -> list[BaseRoute]:
    """`picture/ID`, `picture/ID/near`, `picture/ID/large`, `picture/ID/original`; an ID may be its first 16 letters."""
    large, search = LargePictures(gallery), NeighborSearch(gallery)

    def picture(request: Request) -> dict[str, Any] | Response:
        return picture_of(gallery, request.path_params["id"]) or _unknown()

    def like(request: Request) -> dict[str, Any] | Response:
        image_id = _full_id(gallery, request)
        if image_id is None:
            return _unknown()
        found = near(search, image_id, _number(request, "k", _NEIGHBORS))
        return found | ({"why": plain(found["why"])} if "why" in found else {})

    def shown(request: Request) -> Response:
        image_id = _full_id(gallery, request)
        if image_id is None:
            return _unknown()
        side = step_of(_number(request, "side", _SIDE))
        mark = {"ETag": f'"{image_id[:32]}-{side}"', **_KEPT}  # an id names the content: it cannot change
        if mark["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=mark)
        data = large.jpeg(image_id, side)
        return _unknown() if data is None else Response(data, headers=mark, media_type="image/jpeg")

    def original(request: Request) -> Response:
        image_id = _full_id(gallery, request)
        found = large.original(image_id) if image_id else None
        if found is None:
            return _unknown()
        headers = _AS_A_FILE | {"Content-Disposition": disposition(found.name)}
        return Response(found.data, headers=headers, media_type=found.media_type)

    return [
        route("/picture/{id}", picture),
        route("/picture/{id}/near", like),
        route("/picture/{id}/large", shown, slow=True),
        route("/picture/{id}/original", original),
    ]


def disposition(name: str) -> str:
    """The header that makes an answer a download of this name (RFC 6266, its letters as RFC 8187 writes them)."""
    plain = "".join(letter if " " <= letter <= "~" and letter not in '"\\%' else "_" for letter in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _full_id(gallery: Gallery, request: Request) -> str | None:
    row = row_of(gallery, request.path_params["id"])
    return None if row is None else str(gallery.catalog().columns.column("id")[row].as_py())


def _number(request: Request, name: str, otherwise: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:8]) <= _LARGEST and len(text) <= 8):
        raise InputError(f"{name} is {text[:20]!r}; give a whole number of 1 or more.")
    return int(text)


def _unknown() -> Response:
    return json_answer({"error": "The lake has no such image. It may have been deleted since the list was made."}, 404)
