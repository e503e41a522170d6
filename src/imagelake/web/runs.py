"""The routes of the part `runs`: what was done to the lake, what was rejected, its models, and the server's health."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute

from imagelake.errors import InputError
from imagelake.gallery.accounting import models_of, rejections_csv, rejections_of, runs_of, storage_of
from imagelake.gallery.gallery import Gallery
from imagelake.serve.site import Site
from imagelake.web.answers import route
from imagelake.web.health import health_of

_MOST_RUNS = 500
_MOST_ROWS = 500
_CSV = {
    "Content-Disposition": 'attachment; filename="rejections.csv"',
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def routes(gallery: Gallery, site: Site | None) -> list[BaseRoute]:
    """`runs`, `runs/models`, `runs/storage`, `rejections`, `rejections/export` and `health`."""
    started = time.monotonic()

    def runs(request: Request) -> dict[str, Any]:
        total, found = runs_of(gallery, _whole(request, "limit", 50, _MOST_RUNS))
        return {"total": total, "runs": [_plain(asdict(each)) for each in found]}

    def rejections(request: Request) -> dict[str, Any]:
        found = rejections_of(
            gallery,
            text=request.query_params.get("text", ""),
            kind=request.query_params.get("kind", ""),
            offset=_whole(request, "offset", 0, 1 << 40),
            limit=_whole(request, "limit", 50, _MOST_ROWS),
        )
        return {"total": found.total, "kinds": found.kinds, "rows": [_plain(row) for row in found.rows]}

    def export(request: Request) -> Response:
        query = request.query_params
        pieces = rejections_csv(gallery, text=query.get("text", ""), kind=query.get("kind", ""))
        return StreamingResponse(pieces, headers=_CSV, media_type="text/csv; charset=utf-8")

    def models(request: Request) -> dict[str, Any]:
        del request
        return models_of(gallery)

    def storage(request: Request) -> dict[str, Any]:
        del request
        return {"tables": storage_of(gallery)}

    def health(request: Request) -> dict[str, Any]:
        del request
        return health_of(site, round(time.monotonic() - started, 1))

    return [
        route("/runs", runs),
        route("/runs/models", models),
        route("/runs/storage", storage),
        route("/rejections", rejections),
        route("/rejections/export", export),
        route("/health", health, quick=True),
    ]


def _whole(request: Request, name: str, otherwise: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise InputError(f"{name} is {text[:40]!r}; give a whole number from 0 to {most}.")
    return int(text)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Times as ISO 8601."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
