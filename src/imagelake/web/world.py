"""The routes of the map: positions in bytes, and the tiles of some images."""

from __future__ import annotations

import gzip
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from imagelake.errors import InputError
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.items import items_of
from imagelake.gallery.world import points_of
from imagelake.web.answers import route, selection_of

_MOST_ITEMS = 120
_LEAST_GZIP = 4_096  # bytes; below that it saves nothing
_WORTHWHILE = 0.9


def routes(gallery: Gallery) -> list[BaseRoute]:
    """`points?SELECTION` and `points/items?ids=ID,ID`."""

    def points(request: Request) -> Response:
        found = points_of(gallery, selection_of(request.query_params))
        told = {
            "X-Imagelake-Without": str(found.without),
            "X-Imagelake-Unnamed": str(found.unnamed),
            "Cache-Control": "no-store",
            "Vary": "Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
        }
        body, coding = packed(found.to_bytes(), request.headers.get("accept-encoding", ""))
        return Response(body, headers=told | coding, media_type="application/octet-stream")

    def items(request: Request) -> dict[str, Any]:
        ids = [each for each in request.query_params.get("ids", "").split(",") if each]
        if len(ids) > _MOST_ITEMS:
            raise InputError(f"ids names {len(ids)} images; give at most {_MOST_ITEMS}, separated by commas.")
        return {"items": items_of(gallery, ids)}

    return [route("/points", points), route("/points/items", items, quick=True)]


def packed(body: bytes, accepted: str) -> tuple[bytes, dict[str, str]]:
    """A body as it goes out, with a header that says so where it is packed: for who takes it, and where it saves."""
    if takes_gzip(accepted) and len(body) >= _LEAST_GZIP:
        small = gzip.compress(body, 1, mtime=0)
        if len(small) < _WORTHWHILE * len(body):
            return small, {"Content-Encoding": "gzip"}
    return body, {}


def takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding has gzip, and not with `q=0`."""
    for each in accepted.lower().split(","):
        name, _, weight = each.partition(";")
        if name.strip() in {"gzip", "x-gzip"}:
            return weight.strip().removeprefix("q=").strip("0. ") != "" or not weight.strip()
    return False
