"""What a source knows of regions in a picture, as rows of the regions table."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from imagelake import schema
from imagelake.lake.table import in_parts
from imagelake.lake.tables import Tables

ANNOTATION = "annotation"  # stands where a model's name would


def add_regions(tables: Tables, found: Sequence[tuple[str, str]]) -> int:
    """Add the regions that metadata tells of, once each.

    Args:
        tables: the lake; the images are in it.
        found: image ids and the metadata that a source has for them.

    Returns:
        How many were not there yet.
    """
    told = [(image_id, regions_of(metadata)) for image_id, metadata in found if '"regions"' in metadata]
    wanted = sorted({image_id for image_id, regions in told if regions})
    turned: dict[str, int] = {}
    for part in in_parts(wanted):
        rows = tables.images.rows("id", part, ["id", "orientation"])
        turned |= dict(zip(rows.column("id").to_pylist(), rows.column("orientation").to_pylist(), strict=True))
    regions = {}
    for image_id, each in ((image_id, region) for image_id, some in told for region in some):
        if image_id not in turned:
            continue
        box = upright(each["box_xyxy"], turned[image_id] or 1)
        name = hashlib.sha256(json.dumps([image_id, ANNOTATION, box, each["label"]]).encode()).hexdigest()
        regions[name] = {
            "id": name, "image_id": image_id, "box_xyxy": box, "label": each["label"], "score": each["score"],
            "model": ANNOTATION,
        }  # fmt: skip
    return tables.all()["regions"].insert_new(pa.Table.from_pylist(list(regions.values()), schema=schema.REGIONS))


def regions_of(metadata: str) -> list[dict[str, Any]]:
    """The regions of a metadata object that have a box: `box_xyxy`, `label`, `score`. What is none is left out there.

    It is not lost: `metadata` itself is kept with the image.
    """
    try:
        given = json.loads(metadata).get("regions")
    except (ValueError, AttributeError, RecursionError):
        return []
    out = []
    for each in given if isinstance(given, list) else []:
        box = each.get("box_xyxy") if isinstance(each, dict) else None
        if not (isinstance(box, list) and len(box) == 4 and all(_is_number(side) for side in box)):
            continue
        label, score = each.get("label"), each.get("score")
        out.append({
            "box_xyxy": [min(1.0, max(0.0, float(side))) for side in box],
            "label": None if label is None else str(label).encode("utf-8", "replace").decode(),
            "score": float(score) if _is_number(score) else None,
        })  # fmt: skip
    return out


def upright(box_xyxy: Sequence[float], orientation: int) -> list[float]:
    """A box of the picture as stored, in [0, 1], as it lies in the upright picture. `orientation` is EXIF's, 1 to 8."""
    x0, y0, x1, y1 = box_xyxy
    if orientation >= 5:  # the sides change places
        x0, y0, x1, y1 = y0, x0, y1, x1
    if orientation in {2, 3, 6, 7}:
        x0, x1 = 1 - x1, 1 - x0
    if orientation in {3, 4, 7, 8}:
        y0, y1 = 1 - y1, 1 - y0
    return [x0, y0, x1, y1]


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
