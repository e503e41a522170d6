"""Groups of duplicates in the words of JSON: what a page of them shows of each file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagelake.gallery.copies_choice import CopyFile, Decision, FileGroup, Rule, decide, readable
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.items import items_of

_FILES = 100  # of one group; the rest are counted
_MORE = ("format", "byte_size", "camera_make", "camera_model", "latitude", "sharpness", "added_at")


def page_of(
    gallery: Gallery, groups: Sequence[FileGroup], rule: Rule, by_hand: Mapping[str, Decision]
) -> list[dict[str, Any]]:
    """Some groups: `{"key", "files", "more", "keeper", "chosen", "why"}` of each; `more` files are not told of.

    Of each file: what a tile shows, `key`, `uri`, `folder`, `kind`, `distance`, `bytes`, `format`, `camera`, `gps`, and
    whether it is the one `suggested` to be kept. Images that are gone from the lake are left out.
    """
    shown = {each.image.id: each.image for group in groups for each in group.files[:_FILES]}
    facts = _facts(gallery, list(shown))
    return [_group(group, facts, rule, by_hand) for group in groups]


def _facts(gallery: Gallery, ids: list[str]) -> dict[str, dict[str, Any]]:
    catalog = gallery.catalog()
    rows = catalog.rows_of(ids)
    rows = rows[rows >= 0]
    more = catalog.columns.select(list(_MORE)).take(rows).to_pylist()
    return {item["id"]: item | each for item, each in zip(items_of(gallery, rows, catalog), more, strict=True)}


def _group(
    group: FileGroup, facts: Mapping[str, dict[str, Any]], rule: Rule, by_hand: Mapping[str, Decision]
) -> dict[str, Any]:
    decision = decide(group, rule, by_hand.get(group.key))
    # The one to keep is told of in any case.
    told = [each for place, each in enumerate(group.files) if place < _FILES or each.key == decision.keeper]
    there = [each for each in told if each.image.id in facts]
    return {
        "key": group.key,
        "files": [_file(each, facts[each.image.id]) for each in there],
        "more": len(group.files) - len(told),
        "keeper": decision.keeper,
        "chosen": [each for each in decision.chosen if each in {file.key for file in there}],
        "bytes": sum(each.image.byte_size for each in group.files if not each.suggested),
        "why": _why([facts[each.image.id] | {"pixels": _pixels(each)} for each in there]),
    }


def _file(file: CopyFile, fact: Mapping[str, Any]) -> dict[str, Any]:
    path = readable(file.uri)
    folder, _, name = path.rpartition("/")
    camera = " ".join(filter(None, (fact["camera_make"], fact["camera_model"])))
    item = {each: fact[each] for each in ("id", "width", "height", "color", "taken_at", "tags", "labels", "flags")}
    return item | {
        "key": file.key,
        "name": name or path,
        "folder": folder.removeprefix("file://"),
        "uri": file.uri,
        "kind": None if file.suggested else file.image.kind or "exact",
        "distance": round(file.image.distance, 4),
        "suggested": file.suggested,
        "bytes": fact["byte_size"],
        "format": fact["format"],
        "camera": camera,
        "gps": fact["latitude"] is not None,
        "sharpness": None if fact["sharpness"] is None else round(fact["sharpness"], 1),
    }


def _pixels(file: CopyFile) -> int:
    return file.image.width * file.image.height


def _why(facts: Sequence[Mapping[str, Any]]) -> str:
    """Why the first is suggested: the first thing in which it differs from some other, in the order that counts."""
    others = [each for each in facts[1:] if each["id"] != facts[0]["id"]]
    if not others:
        return "exact"
    for name in ("pixels", "taken_at", "added_at", "byte_size"):
        if any(each[name] != facts[0][name] for each in others):
            # As long as it is not equal to the runner-up, what is compared next does not count.
            others = [each for each in others if each[name] == facts[0][name]]
            if not others:
                return name
    return "id"
