"""The routes of the part `search` of the page: what is nearest to a picture, a part of it, or an image of the lake."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from imagelake.errors import BusyError, ImagelakeError, InputError
from imagelake.gallery import calibration
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.items import items_of
from imagelake.gallery.large import make_large, step_of
from imagelake.gallery.neighbors import MOST, Neighbor, NeighborOptions, Neighbors, NeighborSearch, Query
from imagelake.run.lake_view import MAX_PIXELS
from imagelake.run.query_embedding import Box, check_box
from imagelake.serve.downloads import DownloadOptions, download
from imagelake.web.answers import check_own, route, selection_of
from imagelake.web.query_pictures import LARGEST, QueryPicture, QueryPictures

_K = 30
_SIDE = 1024
_FETCHES = 2  # at once: the other threads of the page go on answering
_FETCH_S = 15.0
_LONGEST_ADDRESS = 4096
_REGIONS = 50
_KEPT = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}


def routes(gallery: Gallery, downloads: DownloadOptions | None = None) -> list[BaseRoute]:
    """`search`, `search/sets`, `search/query`, `search/query/ID` and `search/preview/ID`.

    Args:
        gallery: of the lake.
        downloads: what may be fetched for a search; None: pictures of the open internet.
    """
    part = _Part(gallery, downloads)
    threading.Thread(target=part.warm, name="imagelake-search", daemon=True).start()
    return [
        route("/search", part.search),
        route("/search/sets", part.sets),
        route("/search/query", part.keep, body_bytes=LARGEST),
        route("/search/query/{id}", part.query),
        route("/search/preview/{id}", part.preview, slow=True),
    ]


class _Part:
    """What the routes share. A class because it keeps what is open, and pictures."""

    def __init__(self, gallery: Gallery, downloads: DownloadOptions | None) -> None:
        self._gallery = gallery
        self._neighbors = NeighborSearch(gallery)
        self._pictures = QueryPictures()
        self._downloads = downloads or DownloadOptions(
            max_bytes=LARGEST, max_total_bytes=LARGEST, in_flight=1, timeout_s=_FETCH_S, retries=0
        )
        self._fetches = threading.BoundedSemaphore(_FETCHES)

    def warm(self) -> None:
        """Make beside the first page what its first search needs."""
        with contextlib.suppress(ImagelakeError, OSError):  # the search itself will say so
            self._neighbors.warm()

    def search(self, request: Request) -> dict[str, Any]:
        """The nearest to `like`, an image of the lake, or to `query`, a picture that was sent; or to a `box` of it."""
        given = request.query_params
        began = time.perf_counter()
        options = NeighborOptions(
            k=_whole(given.get("k"), "k", _K, MOST),
            embedding_set=given.get("set") or None,
            codes=given.get("codes") == "1",
            selection=selection_of(given),
        )
        found = self._neighbors.find(self._asked(given), options)
        return self._told(found) | {"coded": options.codes, "seconds": round(time.perf_counter() - began, 6)}

    def sets(self, request: Request) -> dict[str, Any]:
        """What there is to search."""
        del request
        view = self._gallery.view
        sets = [] if view is None else self._neighbors.sets.found()
        return {
            "sets": [
                {"name": each.name, "regions": each.of_regions, "codes": each.codes, "vectors": each.vectors}
                for each in sets
            ],
            "usual": None if view is None else view.embedding_set,
            "lake": self._gallery.tables.root.rstrip("/").rpartition("/")[2],
            "line": calibration.LINE,
            "least": calibration.LEAST,
            "most": MOST,
        }

    def keep(self, request: Request) -> dict[str, Any]:
        """Take a picture to search with: its bytes, or JSON that has the `url` of one."""
        check_own(request)
        data: bytes = request.state.body
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            data = self._fetch(_address(data))
        if not data:
            raise InputError("The picture is empty. Choose another file.")
        return _facts(self._pictures.keep(data, self._max_pixels()))

    def query(self, request: Request) -> dict[str, Any]:
        """What is looked for: an image of the lake with its regions, or a picture that was sent."""
        asked = request.path_params["id"]
        kept = self._pictures.get(asked)
        if kept is not None:
            return _facts(kept)
        items = items_of(self._gallery, [asked])
        if not items:
            raise HTTPException(404, "This picture is not kept any more. Drop it here again, or choose it again.")
        return items[0] | {"kind": "image", "regions": self._regions(items[0]["id"])}

    def preview(self, request: Request) -> Response:
        """A JPEG of a picture that was sent: browsers do not show every format that is searched with."""
        kept = self._pictures.get(request.path_params["id"])
        if kept is None:
            raise HTTPException(404, "This picture is not kept any more. Drop it here again, or choose it again.")
        side = step_of(_whole(request.query_params.get("side"), "side", _SIDE, 4096))
        return Response(make_large(kept.data, side, self._max_pixels()), headers=_KEPT, media_type="image/jpeg")

    def _asked(self, given: Mapping[str, str]) -> Query:
        box = _box(given["box"]) if given.get("box") else None
        if bool(given.get("like")) == bool(given.get("query")):
            raise InputError("Give one of: like, the id of an image; query, the id of a picture that was sent.")
        if given.get("like"):
            return Query(image_id=self._full_id(given["like"]), box_xyxy=box)
        kept = self._pictures.get(given["query"])
        if kept is None:
            raise HTTPException(404, "This picture is not kept any more. Drop it here again, or choose it again.")
        return Query(picture=kept.data, box_xyxy=box)

    def _full_id(self, image_id: str) -> str:
        catalog = self._gallery.catalog()
        rows = catalog.rows_of([image_id])
        if rows[0] < 0:
            raise HTTPException(404, "The lake has no such image. It may have been deleted meanwhile.")
        return catalog.ids_of(rows)[0]

    def _told(self, found: Neighbors) -> dict[str, Any]:
        items = {each["id"]: each for each in items_of(self._gallery, [match.id for match in found.matches])}
        return {
            "matches": [_match(each, items[each.id]) for each in found.matches if each.id in items],
            "better": found.better,
            "set": found.embedding_set,
            "metric": found.metric,
            "searched": found.searched,
            "images": found.images,
            "sampled": found.sampled,
            "certified": found.certified,
            "measured": found.measured,
            "in_lake": found.in_lake,
        }

    def _regions(self, image_id: str) -> list[dict[str, Any]]:
        """The boxes that a detector drew on an image, the surest first."""
        rows = self._gallery.tables.regions.rows("image_id", [image_id], ["box_xyxy", "label", "score"]).to_pylist()
        boxes = [row for row in rows if row["box_xyxy"] is not None and _is_box(row["box_xyxy"])]
        boxes.sort(key=lambda row: -(row["score"] or 0.0))
        return [
            {"box": [round(side, 5) for side in row["box_xyxy"]], "label": row["label"], "score": row["score"]}
            for row in boxes[:_REGIONS]
        ]

    def _fetch(self, address: str) -> bytes:
        if not self._fetches.acquire(blocking=False):
            raise BusyError("Other addresses are being fetched already. Try again in a moment.")
        try:
            return download([address], self._downloads)[0]
        except InputError as error:
            raise InputError(str(error).removeprefix("Address 0, ")) from None
        finally:
            self._fetches.release()

    def _max_pixels(self) -> int:
        return MAX_PIXELS if self._gallery.view is None else self._gallery.view.max_pixels


def _match(match: Neighbor, item: dict[str, Any]) -> dict[str, Any]:
    return {
        "item": item,
        "distance": match.distance,
        "by_chance": match.by_chance,
        "bar": match.bar,
        "box": match.box_xyxy,
        "label": match.label,
    }


def _facts(picture: QueryPicture) -> dict[str, Any]:
    return {
        "id": picture.id, "kind": "picture", "width": picture.width, "height": picture.height,
        "format": picture.format, "regions": [],
    }  # fmt: skip


def _address(body: bytes) -> str:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    address = given.get("url") if isinstance(given, dict) else None
    if not isinstance(address, str) or not address.lower().startswith(("http://", "https://")):
        raise InputError("Give the address of a picture that begins with http:// or https://.")
    if len(address) > _LONGEST_ADDRESS:
        raise InputError(f"The address has {len(address):,} letters; give at most {_LONGEST_ADDRESS:,}.")
    return address


def _box(text: str) -> Box:
    try:
        sides = [float(each) for each in text[:200].split(",")]
    except ValueError:
        sides = []
    return check_box(sides)


def _is_box(sides: list[float]) -> bool:
    left, top, right, bottom = sides
    return all(math.isfinite(side) for side in sides) and 0 <= left < right <= 1 and 0 <= top < bottom <= 1


def _whole(text: str | None, name: str, otherwise: int, most: int) -> int:
    if text is None or text == "":
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) <= 8 and 1 <= int(text) <= most):
        raise InputError(f"{name} is {text[:20]!r}; give a whole number from 1 to {most}.")
    return int(text)
