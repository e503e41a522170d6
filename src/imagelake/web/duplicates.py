"""The routes of the part `duplicates` of the page: groups of copies, how two differ, and lists of what was chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from imagelake.errors import InputError
from imagelake.gallery.copies import Copies, Found, selected
from imagelake.gallery.copies_choice import Decision, Rule, all_chosen, total
from imagelake.gallery.copies_page import page_of
from imagelake.gallery.copies_script import FORMATS, export_of
from imagelake.gallery.difference import LAID, Differences
from imagelake.gallery.gallery import Gallery
from imagelake.run.duplicates import HASH_DISTANCE, KINDS, DuplicateOptions
from imagelake.serve.errors_http import plain
from imagelake.web.answers import query_of, route, selection_of

_MOST_GROUPS = 120
_EXPORT_BYTES = 8 << 20
_MOST_BITS = 12  # more finds half of a lake in every picture
_GAIN = 8.0
_KEPT = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}
_AS_A_FILE = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def routes(gallery: Gallery) -> list[BaseRoute]:
    """`duplicates`, `duplicates/export`, `difference/A/B` and its pictures, below `/page/api/`."""
    copies, differences = Copies(gallery), Differences(gallery)

    def groups(request: Request) -> dict[str, Any]:
        query = request.query_params
        found, told = copies.find(_options(query), again=query.get("again") == "1")
        told |= {"error": plain(told["error"])} if "error" in told else {}
        if found is None:
            return told
        rule = _rule(query)
        places = selected(gallery, found, selection_of(query))
        offset, limit = _number(query, "offset", 0, 0, 10**9), _number(query, "limit", 40, 1, _MOST_GROUPS)
        if "key" in query:  # where a group is, and the page around it
            place = found.by_key.get(query["key"][:64], -1)
            at = places.index(place) if place in places else -1
            told["at"], offset = at, max(0, at) // limit * limit
        shown = [found.groups[place] for place in places[offset : offset + limit]]
        return (
            told
            | _summary(found)
            | {
                "total": len(places),
                "offset": offset,
                "groups": page_of(gallery, shown, rule, {}),
                "chosen": asdict(total([found.groups[place] for place in places], rule, {})),
            }
        )

    def export(request: Request) -> Response | dict[str, Any]:
        asked = _object(request.state.body)
        query = query_of(_text(asked, "query"))
        found, _ = copies.find(_options(query))
        if found is None:
            raise HTTPException(409, "The duplicates of this lake are not known yet. Look at them first.")
        rule, by_hand = _rule(query), _by_hand(asked)
        shown = [found.groups[place] for place in selected(gallery, found, selection_of(query))]
        form = _text(asked, "format")
        if form == "totals":
            return asdict(total(shown, rule, by_hand))
        chosen = all_chosen(shown, rule, by_hand)
        if form == "ids":
            others = (each.file.image.id for each in chosen if each.file.image.id != each.keeper.image.id)
            return {"ids": list(dict.fromkeys(others))}
        name = gallery.tables.root.rstrip("/").rpartition("/")[2]
        data = export_of(chosen, form, found.made_at, name)
        return Response(data, headers=_AS_A_FILE, media_type=FORMATS[form])

    def difference(request: Request) -> dict[str, Any]:
        return differences.told(request.path_params["one"], request.path_params["other"])

    def drawn(request: Request) -> Response:
        one, other, which = (request.path_params[name] for name in ("one", "other", "which"))
        if which in LAID:
            return Response(differences.laid(one, other, which), headers=_KEPT, media_type="image/jpeg")
        if which != "picture":
            raise HTTPException(404, f"There is picture, {' and '.join(LAID)} of a difference.")
        gain = _float(request.query_params, "gain", _GAIN)
        return Response(differences.drawn(one, other, gain), headers=_KEPT, media_type="image/png")

    return [
        route("/duplicates", groups),
        route("/duplicates/export", export, body_bytes=_EXPORT_BYTES),
        route("/difference/{one}/{other}", difference, slow=True),
        route("/difference/{one}/{other}/{which}", drawn, slow=True),
    ]


def _summary(found: Found) -> dict[str, Any]:
    report = found.report
    return {
        "made_at": found.made_at.isoformat(timespec="seconds"),
        "seconds": round(found.seconds, 2),
        "images": report.images,
        "groups_count": report.groups_count,
        "duplicates": report.duplicates,
        "bytes": report.bytes_reclaimable,
        "by": report.by,
        "set": report.embedding_set,
        "notes": [each.replace(each[each.find("--lake") :], "--lake ...") if "--lake" in each else each
                  for each in report.notes],
    }  # fmt: skip


def _options(query: QueryParams) -> DuplicateOptions:
    """What counts as a duplicate: `by`, `bits`, `near` and `set` of an address. Without `by`, what is found fast."""
    asked = [each for each in query.get("by", "exact,hash").split(",") if each]
    unknown = [each for each in asked if each not in KINDS]
    if unknown or not asked:
        raise InputError(f"by is {query.get('by', '')[:60]!r}; give one or more of {', '.join(KINDS)}, with commas.")
    near = _float(query, "near", math.nan) if query.get("near") and "embedding" in asked else None
    if near is not None and not 0 <= near <= 2:
        raise InputError(f"near is {query['near'][:60]!r}; give a distance from 0 to 2.")
    return DuplicateOptions(
        by=tuple(each for each in KINDS if each in asked),
        hash_distance=_number(query, "bits", HASH_DISTANCE, 0, _MOST_BITS) if "hash" in asked else HASH_DISTANCE,
        embedding_distance=near,
        embedding_set=(query.get("set") or None) if "embedding" in asked else None,
    )


def _rule(query: QueryParams) -> Rule:
    return Rule(query.get("pick", "none"), query.get("under", ""))


def _by_hand(asked: Mapping[str, Any]) -> dict[str, Decision]:
    """What was decided by hand: `{"decisions": {GROUP: {"keeper": FILE, "chosen": [FILE, ...]}}}`."""
    given = asked.get("decisions", {})
    if not isinstance(given, dict):
        raise InputError("decisions is no object. Give the keeper and the chosen files of each group by its key.")
    found = {}
    for key, each in given.items():
        keeper, chosen = (each.get("keeper"), each.get("chosen")) if isinstance(each, dict) else (None, None)
        if not isinstance(keeper, str) or not isinstance(chosen, list) or not all(isinstance(c, str) for c in chosen):
            raise InputError(
                f"The decision of the group {key[:60]!r} is none; give its keeper and a list of chosen files."
            )
        found[key] = Decision(keeper, tuple(chosen))
    return found


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError("The body is no JSON object. Send query, format and decisions.")
    return found


def _text(asked: Mapping[str, Any], name: str) -> str:
    found = asked.get(name, "")
    if not isinstance(found, str):
        raise InputError(f"{name} is no text.")
    return found


def _number(query: QueryParams, name: str, otherwise: int, least: int, most: int) -> int:
    text = query.get(name, "")
    if not text:
        return otherwise
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not least <= int(text) <= most:
        raise InputError(f"{name} is {text[:60]!r}; give a whole number from {least} to {most}.")
    return int(text)


def _float(query: QueryParams, name: str, otherwise: float) -> float:
    text = query.get(name, "")
    try:
        return float(text) if text else otherwise
    except ValueError:
        raise InputError(f"{name} is {text[:60]!r}; give a number.") from None
