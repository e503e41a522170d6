"""All that a lake knows of one image, for people: in groups, without what is not known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from imagelake.files import display_name
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.lineage import ingested_by, lineage_of
from imagelake.gallery.metadata_tree import flatten
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables
from imagelake.pixels.quality import DEFAULTS, FLAGS, figures_of
from imagelake.schema import IMAGES, PREDICTIONS, REGIONS, REJECTIONS

_MOST_REGIONS, _MOST_PREDICTIONS, _MOST_REJECTIONS = 500, 200, 50
_MOST_URIS = 200
_GROUPS: dict[str, tuple[str, ...]] = {
    "file": ("format", "byte_size", "mode", "frames", "has_alpha", "orientation", "added_at"),
    "camera": ("camera_make", "camera_model", "lens", "exposure_s", "f_number", "iso", "focal_length_mm"),
    "time": ("taken_at", "utc_offset_minutes", "taken_at_utc", "taken_at_source"),
    "place": ("latitude", "longitude", "altitude_m", "country_code", "country", "place"),
    "words": ("title", "caption", "keywords", "rating", "creator", "copyright"),
    "figures": (
        "brightness", "contrast", "sharpness", "entropy", "fineness", "luma_p95", "luma_range", "bright_share",
        "flat_share", "crisp_share", "mean_r", "mean_g", "mean_b", "std_r", "std_g", "std_b",
    ),
}  # fmt: skip
_TREES = ("exif", "xmp", "iptc", "metadata")
_FOR_FLAGS = ("width", "height", "std_r", "std_g", "std_b", "fineness", "luma_p95", "luma_range", "bright_share")


def row_of(gallery: Gallery, image_id: str) -> int | None:
    """The row of the catalog of an image, by its id or the first 16 letters of it; None where there is none."""
    row = int(gallery.catalog().rows_of([image_id])[0])
    return None if row < 0 else row


def picture_of(gallery: Gallery, image_id: str) -> dict[str, Any] | None:
    """What is known of an image; None where the lake has it no more.

    Args:
        gallery: of the lake.
        image_id: its id, or the first 16 letters of it.

    Returns:
        `id`, `name`, `uris`, `width`, `height`, `color`, `labels`, `tags`; the groups `file`, `camera`, `time`,
        `place`, `words` and `figures` by the names of their columns; `flags` with why each is there; `trees` of EXIF,
        XMP, IPTC and the source, as pairs of name and text; `regions`, `predictions`, `rejections`; `ingested` and
        `lineage`. What is not known is left out, and so is an empty group. Every number is finite.
    """
    found = _row(gallery, image_id)
    if found is None:
        return None
    tables, full = gallery.tables, str(found["id"])
    uris = [str(uri) for uri in found.get("uris") or []]
    regions = _rows(tables.regions, REGIONS.names, "image_id", full, _MOST_REGIONS)
    told: dict[str, Any] = {
        "id": full,
        "name": display_name(uris[0]) if uris else full[:12],
        "uris": uris[:_MOST_URIS],
        "uris_count": len(uris),
        "width": found["width"],
        "height": found["height"],
        "color": _color(found),
        "labels": found.get("labels") or [],
        "tags": found.get("tags") or [],
    }
    told |= {name: known({each: found.get(each) for each in columns}) for name, columns in _GROUPS.items()}
    if found.get("perceptual_hash") is not None:
        told["file"]["perceptual_hash"] = f"{found['perceptual_hash']:016x}"
    told["flags"] = _flags(found)
    told["trees"] = {name: flatten(found[name]) for name in _TREES if found.get(name)}
    told["regions"] = _regions(regions)
    told["predictions"] = _predictions(tables, full)
    told["rejections"] = _rejections(tables, full)
    told["ingested"] = ingested_by(tables, found.get("added_at"), uris)
    told["lineage"] = lineage_of(tables, full, regions)
    return {name: value for name, value in told.items() if value not in ({}, [], None) or name in {"labels", "tags"}}


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those values that are known, as JSON has them: times in ISO 8601, no NaN, no infinity."""
    shown = {name: _as_json(value) for name, value in values.items()}
    return {name: value for name, value in shown.items() if value is not None and value != []}


def _as_json(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    return value


def _row(gallery: Gallery, image_id: str) -> dict[str, Any] | None:
    row = row_of(gallery, image_id)
    if row is None:
        return None
    images = gallery.tables.images
    columns = [name for name in images.schema.names if name in IMAGES.names and name != "thumbnail"]
    found: list[dict[str, Any]] = images.take([int(gallery.catalog().row_ids[row])], columns).to_pylist()
    return found[0] if found and str(found[0]["id"]).startswith(image_id[:16]) else None


def _rows(table: Table, wanted: Sequence[str], key: str, value: str, most: int) -> list[dict[str, Any]]:
    """The rows of a table that are of an image; older lakes lack some columns."""
    there = table.schema.names
    found: list[dict[str, Any]] = table.rows(key, [value], [name for name in wanted if name in there]).to_pylist()
    return found[:most]


def _color(found: Mapping[str, Any]) -> str | None:
    """The mean color, as CSS has it."""
    means = [found.get(f"mean_{each}") for each in "rgb"]
    if any(mean is None or not math.isfinite(mean) for mean in means):
        return None
    return "#" + "".join(f"{min(255, max(0, round(mean))):02x}" for mean in means if mean is not None)


def _flags(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each flag with the figure that it was given for, and the rule."""
    had = found.get("flags") or []
    columns = {name: math.nan if found.get(name) is None else found[name] for name in (*_FOR_FLAGS, "crisp_share")}
    values = figures_of(columns) if had else {}
    rules = {flag.name: flag for flag in FLAGS}
    told = []
    for name in had:
        flag = rules.get(name)  # a later imagelake may have more of them
        more = {} if flag is None else {"rule": flag.rule(DEFAULTS), "value": values[name]}
        told.append(known({"name": name, **more}))
    return told


def _regions(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those with a box, the best first."""
    names = ("id", "box_xyxy", "label", "score", "model", "fingerprint", "fallback")
    rows = [known({name: row.get(name) for name in names}) for row in found]
    boxed = [row for row in rows if None not in (row.get("box_xyxy") or [None])]
    return sorted(boxed, key=lambda row: (-row.get("score", 0.0), row["id"]))


def _predictions(tables: Tables, image_id: str) -> list[dict[str, Any]]:
    """The newest first."""
    wanted = [name for name in PREDICTIONS.names if name not in {"image_id", "taken_at", "taken_at_utc"}]
    rows = [known(row) for row in _rows(tables.predictions, wanted, "image_id", image_id, _MOST_PREDICTIONS)]
    return sorted(rows, key=lambda row: (row.get("predicted_at", ""), row.get("score", 0.0)), reverse=True)


def _rejections(tables: Tables, image_id: str) -> list[dict[str, Any]]:
    """What could not be done with this content, the newest first."""
    wanted = [name for name in REJECTIONS.names if name not in {"id", "content_id"}]
    rows = [known(row) for row in _rows(tables.rejections, wanted, "content_id", image_id, _MOST_REJECTIONS)]
    return sorted(rows, key=lambda row: row.get("rejected_at", ""), reverse=True)
