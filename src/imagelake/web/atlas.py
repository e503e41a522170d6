"""The routes of the part `atlas` of the page: points, colors, what is selected, making a map, files of it.

Long lists are binary: four bytes with the length of a JSON text, little-endian, that text with spaces up to a multiple
of 8 bytes, then arrays one after the other, as the text says.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from imagelake.errors import InputError
from imagelake.gallery.atlas import Atlas, Job, Points
from imagelake.gallery.atlas_colors import colors_of, columns_of
from imagelake.gallery.atlas_export import FORMATS, file_of, table_of
from imagelake.gallery.catalog import SHORT, Catalog
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.items import items_of
from imagelake.gallery.selection import rows_of
from imagelake.serve.json_answer import json_answer
from imagelake.web.answers import check_own, route, selection_of

_IDS_BYTES = 32 << 20  # more than a million short ids
_FEW_BYTES = 64 << 10
_MOST_ITEMS = 500
_KEY = re.compile(f"[0-9a-f]{{{SHORT},64}}")


def routes(gallery: Gallery) -> list[BaseRoute]:
    """Those under `/page/api/atlas`."""
    atlas = Atlas(gallery)
    return [*_maps(gallery, atlas), *_lists(gallery, atlas)]


def _maps(gallery: Gallery, atlas: Atlas) -> list[BaseRoute]:
    """What there is, points, the making of a map."""

    def about(request: Request) -> dict[str, Any]:
        asked = request.query_params.get("set")
        found = atlas.about() | {"columns": columns_of(gallery)}
        names = [each["name"] for each in found["sets"]]
        chosen = asked if asked in names else found["set"]
        for method in found["methods"]:
            method["made"] = chosen is not None and atlas.is_made(chosen, method["name"])
        return found

    def points(request: Request) -> Response:
        found = _points(atlas, request)
        if isinstance(found, Job):
            return json_answer({"job": found.as_json()}, 202)
        told = {
            "count": len(found.keys), "total": found.total, "mark": found.mark, "kept": found.kept,
            "method": found.told.method, "made_at": found.told.made_at, "made_of": found.told.rows,
            "outgrown": found.outgrown,
        }  # fmt: skip
        return _framed(told, found.xy.astype("<f4"), found.keys.astype("<u8"))

    def mark(request: Request) -> dict[str, Any]:
        lake, found = gallery.catalog().mark, _points(atlas, request)
        return {"lake": lake} | ({"job": found.as_json()} if isinstance(found, Job) else {"mark": found.mark})

    def make(request: Request) -> dict[str, Any]:
        check_own(request)
        asked = _body(request)
        return {"job": atlas.make(atlas.choose_set(_text(asked, "set")), _text(asked, "method") or "").as_json()}

    def job(request: Request) -> dict[str, Any]:
        del request
        return {"job": atlas.job()}

    return [
        route("/atlas", points),
        route("/atlas/about", about),
        route("/atlas/mark", mark),
        route("/atlas/make", make, body_bytes=_FEW_BYTES),
        route("/atlas/job", job),
    ]


def _lists(gallery: Gallery, atlas: Atlas) -> list[BaseRoute]:
    """Of the points of a map: colors, which ones are selected, their images, files of them."""

    def colors(request: Request) -> Response:
        catalog, found = gallery.catalog(), _shown(atlas, request)
        made = colors_of(gallery, catalog, request.query_params.get("column", ""), found.keys)
        values: Any = made.codes if made.values is None else made.values.astype("<f4")
        return _framed({"kind": made.kind, "mark": found.mark, "legend": made.legend}, values)

    def selected(request: Request) -> Response:
        catalog, found = gallery.catalog(), _shown(atlas, request)
        rows = rows_of(gallery, selection_of(request.query_params), catalog)
        numbers = found.numbers_of(catalog.keys[rows])
        mask = np.zeros(len(found.keys), np.uint8)
        mask[numbers[numbers >= 0]] = 1
        return _framed({"mark": found.mark, "count": int(mask.sum()), "images": len(rows)}, mask)

    def items(request: Request) -> dict[str, Any]:
        catalog = gallery.catalog()
        rows = catalog.rows_of(_ids(request, _MOST_ITEMS))
        return {"items": items_of(gallery, rows[rows >= 0], catalog)}

    def ids(request: Request) -> dict[str, Any]:
        catalog = gallery.catalog()
        return {"ids": catalog.ids_of(_present(catalog, _ids(request, len(catalog) + 1)))}

    def export(request: Request) -> Response:
        found, catalog = _shown(atlas, request), gallery.catalog()
        numbers = None
        if request.method == "POST":
            numbers = found.numbers_of(catalog.keys[_present(catalog, _ids(request, len(found.keys) + 1))])
            numbers = numbers[numbers >= 0]
        kind = request.query_params.get("format", "parquet")
        data = file_of(table_of(found, catalog, numbers), kind)
        headers = {"Content-Disposition": f'attachment; filename="embedding-map.{kind}"'}
        return Response(data, headers=headers | {"Cache-Control": "no-store"}, media_type=FORMATS[kind])

    return [
        route("/atlas/colors", colors),
        route("/atlas/selected", selected),
        route("/atlas/items", items, body_bytes=_FEW_BYTES),
        route("/atlas/ids", ids, body_bytes=_IDS_BYTES),
        route("/atlas/export", export),
        route("/atlas/export", export, body_bytes=_IDS_BYTES),
    ]


def _points(atlas: Atlas, request: Request) -> Points | Job:
    query = request.query_params
    return atlas.points(atlas.choose_set(query.get("set")), query.get("method") or "pca")


def _shown(atlas: Atlas, request: Request) -> Points:
    found = _points(atlas, request)
    if isinstance(found, Job):
        raise InputError("The map is being made. Ask again when atlas/job says that it is done.")
    return found


def _present(catalog: Catalog, ids: list[str]) -> NDArray[np.int64]:
    rows = catalog.rows_of(ids)
    return rows[rows >= 0]


def _framed(told: dict[str, Any], *arrays: NDArray[Any]) -> Response:
    text = json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
    text += b" " * (-(len(text) + 4) % 8)
    body = len(text).to_bytes(4, "little") + text + b"".join(each.tobytes() for each in arrays)
    return Response(
        body, headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
        media_type="application/octet-stream",
    )  # fmt: skip


def _body(request: Request) -> dict[str, Any]:
    try:
        read = json.loads(request.state.body)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise InputError("The body is no JSON object.")
    return read


def _text(asked: dict[str, Any], name: str) -> str | None:
    found = asked.get(name)
    if found is not None and not isinstance(found, str):
        raise InputError(f"{name} is no text.")
    return found


def _ids(request: Request, most: int) -> list[str]:
    ids = _body(request).get("ids")
    if not isinstance(ids, list) or len(ids) > most:
        raise InputError(f'Give {{"ids": [...]}} with at most {most} ids of images.')
    if any(not isinstance(each, str) or not _KEY.fullmatch(each) for each in ids):
        raise InputError(f"An id is {SHORT} to 64 letters, 0 to 9 and a to f.")
    return ids
