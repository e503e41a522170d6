"""Images as lists show them: what a tile needs, in words that JSON has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imagelake.gallery.catalog import Catalog
from imagelake.gallery.gallery import Gallery

_TOLD = ("id", "name", "width", "height", "taken_at", "labels", "tags", "flags", "mean_r", "mean_g", "mean_b")
_GRAY = 128


def items_of(
    gallery: Gallery, rows: NDArray[np.int64] | Sequence[int] | Sequence[str], catalog: Catalog | None = None
) -> list[dict[str, Any]]:
    """Some images as tiles, in their order.

    Args:
        gallery: of the lake.
        rows: of the catalog, int64 [n], or ids; one that there is not is left out.
        catalog: the one that the rows are of; None: the newest.

    Returns:
        `{"id", "name", "width", "height", "color": "#rrggbb", "taken_at": ISO 8601 or None, "labels", "tags",
        "flags"}` of each.
    """
    shown = gallery.catalog() if catalog is None else catalog
    texts = [each for each in rows if isinstance(each, str)]
    wanted = shown.rows_of(texts) if texts else np.asarray(rows, np.int64)
    there = wanted[(wanted >= 0) & (wanted < len(shown))]
    return [_item(row) for row in shown.columns.select(list(_TOLD)).take(pa.array(there, pa.int64())).to_pylist()]


def _item(row: dict[str, Any]) -> dict[str, Any]:
    color = [_byte(row.pop(f"mean_{channel}")) for channel in "rgb"]
    return row | {
        "color": "#{:02x}{:02x}{:02x}".format(*color),
        "taken_at": None if row["taken_at"] is None else row["taken_at"].isoformat(),
        **{name: row[name] or [] for name in ("labels", "tags", "flags")},
    }


def _byte(value: float | None) -> int:
    return int(min(max(value, 0.0), 255.0)) if value is not None and math.isfinite(value) else _GRAY
