"""What every view of the page needs: what the lake is, and thumbnails."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from imagelake import __version__
from imagelake.gallery.catalog import Catalog
from imagelake.gallery.gallery import Gallery
from imagelake.serve.guard import facts_of
from imagelake.web.answers import route

_KEPT = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


def routes(gallery: Gallery) -> list[BaseRoute]:
    """`about` and `thumbnail/ID`."""

    def about(request: Request) -> dict[str, Any]:
        facts = facts_of(request.scope)
        return {
            "version": __version__,
            "name": gallery.tables.root.rstrip("/").rpartition("/")[2],
            "images": len(gallery.catalog()),
            "search": gallery.view is not None,
            "write": facts is not None and facts.may_write,
            "key": None if facts is None else facts.key_name,
        }

    def thumbnail(request: Request) -> Response:
        data = _thumbnail_of(gallery, gallery.seen(), request.path_params["id"])
        if data is None:  # maybe it was added a moment ago
            data = _thumbnail_of(gallery, gallery.catalog(), request.path_params["id"])
        if data is None:
            raise HTTPException(404, "The lake has no such image, or no thumbnail of it.")
        return Response(data, headers=_KEPT, media_type="image/jpeg")

    return [route("/about", about, quick=True), route("/thumbnail/{id}", thumbnail, quick=True)]


def _thumbnail_of(gallery: Gallery, catalog: Catalog, image_id: str) -> bytes | None:
    row = int(catalog.rows_of([image_id])[0])
    return gallery.thumbnail(row, catalog) if row >= 0 else None
