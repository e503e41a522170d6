"""The routes of the part `browse` of the page: pictures of a selection, page by page, and how many have what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from imagelake.errors import InputError
from imagelake.gallery.catalog import Catalog
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.items import items_of
from imagelake.gallery.layout import layout_of
from imagelake.gallery.orders import order_name
from imagelake.gallery.selection import Selection, counts_of, rows_of
from imagelake.gallery.text_filter import knows_exif
from imagelake.serve.json_answer import HEADERS
from imagelake.web.answers import route, selection_of

_MOST = 500  # items of one answer
_DIGITS = 9
_FIRST = 60  # of a list, whose thumbnails a browser asks for at once


def routes(gallery: Gallery) -> list[BaseRoute]:
    """`browse`, `browse/layout`, `browse/ids`, `browse/neighbors` and `facets`."""

    def page(request: Request) -> dict[str, Any]:
        catalog = gallery.catalog()
        selection = _selection(request)
        mark, partial = _mark(catalog, selection)
        rows = rows_of(gallery, selection, catalog)
        start, count = _number(request, "offset", 0), min(_number(request, "limit", 100), _MOST)
        shown = rows[start : start + count]
        gallery.thumbnails.ahead(catalog, shown)
        return {
            "total": len(rows),
            "offset": start,
            "mark": mark,
            "partial": partial,
            "sort": order_name(catalog, selection.sort),
            "items": items_of(gallery, shown, catalog),
        }

    def layout(request: Request) -> Response:
        catalog = gallery.catalog()
        selection = _selection(request)
        mark, partial = _mark(catalog, selection)
        rows = rows_of(gallery, selection, catalog)
        gallery.thumbnails.ahead(catalog, rows[:_FIRST])
        headers = {
            "X-Total": str(len(rows)),
            "X-Mark": mark,
            "X-Partial": str(int(partial)),
            "X-Sort": order_name(catalog, selection.sort),
        }
        return Response(layout_of(catalog, rows), headers=HEADERS | headers, media_type="application/octet-stream")

    def ids(request: Request) -> dict[str, Any]:
        catalog = gallery.catalog()
        rows = rows_of(gallery, _selection(request), catalog)
        start = _number(request, "offset", 0)
        stop = start + _number(request, "limit", len(rows))
        return {"total": len(rows), "ids": catalog.ids_of(rows[start:stop])}

    def neighbors(request: Request) -> dict[str, Any]:
        catalog = gallery.catalog()
        rows = rows_of(gallery, selection_of(request.query_params), catalog)
        row = int(catalog.rows_of([request.query_params.get("id", "")])[0])
        places = np.flatnonzero(rows == row)  # none where there is no such image: its row is -1
        if not len(places):
            return {"previous": None, "next": None, "position": None, "total": len(rows)}
        at = int(places[0])
        beside = [catalog.ids_of(rows[each : each + 1]) if each >= 0 else [] for each in (at - 1, at + 1)]
        previous, following = (found[0] if found else None for found in beside)
        return {"previous": previous, "next": following, "position": at, "total": len(rows)}

    def counts(request: Request) -> dict[str, Any]:
        catalog = gallery.catalog()
        found = counts_of(gallery, _selection(request), catalog)
        return {"images": len(catalog), "facets": found}

    return [
        route("/browse", page),
        route("/browse/layout", layout),
        route("/browse/ids", ids),
        route("/browse/neighbors", neighbors),
        route("/facets", counts),
    ]


def _selection(request: Request) -> Selection:
    """What the address selects; while the EXIF is being read, its words are looked for in all else."""
    return replace(selection_of(request.query_params), hurry=True)


def _mark(catalog: Catalog, selection: Selection) -> tuple[str, bool]:
    """What differs whenever the list may, and whether it comes without EXIF; asked before the list is made."""
    partial = bool(selection.text.strip()) and not knows_exif(catalog)
    return catalog.short_mark + "-partial" * partial, partial


def _number(request: Request, name: str, otherwise: int) -> int:
    """A parameter that counts.

    Raises:
        InputError: it is no such number.
    """
    text = request.query_params.get(name)
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise InputError(f"{name} is {text[:60]!r}; give a whole number from 0 on.")
    return int(text)
