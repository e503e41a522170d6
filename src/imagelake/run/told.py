"""What a source told of a picture, as columns: labels, and time and place where the file itself has none."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_MAY_FILL = r'"captured_at"|"latitude"'


def told(metadata: str | None) -> dict[str, Any]:
    """The object that a text of metadata is; empty where it is none."""
    try:
        found = json.loads(metadata) if metadata else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def labels_of(metadata: str | None) -> list[str]:
    """The labels that a source gave, as texts, each once."""
    if metadata is None or '"labels"' not in metadata:
        return []
    labels = told(metadata).get("labels")
    return union([], (_clean(label) for label in labels if label is not None) if isinstance(labels, list) else ())


def _clean(label: Any) -> str:
    """A label as text that can be stored; half a letter becomes a question mark."""
    return str(label).encode("utf-8", "replace").decode()


def union(one: Iterable[str], other: Iterable[str]) -> list[str]:
    """The members of one list and then of another, each once."""
    return list(dict.fromkeys([*one, *other]))


def with_time_and_place(rows: pa.Table) -> pa.Table:
    """Fill `taken_at` and the position from the source's `captured_at`, `latitude` and `longitude` where EXIF had none.

    `taken_at_source` then is `source+offset`, or `source` for a time without an offset. What is no time or no position
    stays in `metadata` only.
    """
    texts = rows.column("metadata")
    if not pc.any(pc.match_substring_regex(texts, _MAY_FILL)).as_py():
        return rows
    names = ("taken_at", "utc_offset_minutes", "taken_at_utc", "taken_at_source", "latitude", "longitude")
    columns = {name: rows.column(name).to_pylist() for name in names}
    for row, text in enumerate(texts.to_pylist()):
        found = told(text)
        if columns["taken_at"][row] is None:
            for name, value in _time(found.get("captured_at")).items():
                columns[name][row] = value
        place = _place(found.get("latitude"), found.get("longitude"))
        if columns["latitude"][row] is None and place is not None:
            columns["latitude"][row], columns["longitude"][row] = place
    for name, values in columns.items():
        position = rows.schema.get_field_index(name)
        rows = rows.set_column(position, name, pa.array(values, rows.schema.field(name).type))
    return rows


def _time(text: Any) -> dict[str, Any]:
    try:
        when = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return {}
    offset = when.utcoffset()
    wall = when.replace(tzinfo=None)
    try:
        utc = None if offset is None else when.astimezone(UTC)
    except OverflowError:  # at either end of the calendar
        return {}
    if offset is None or utc is None:
        return {"taken_at": wall, "taken_at_source": "source"}
    return {
        "taken_at": wall,
        "utc_offset_minutes": round(offset.total_seconds() / 60),
        "taken_at_utc": utc,
        "taken_at_source": "source+offset",
    }


def _place(latitude: Any, longitude: Any) -> tuple[float, float] | None:
    try:
        where = float(latitude), float(longitude)
    except (TypeError, ValueError, OverflowError):
        return None
    return where if abs(where[0]) <= 90 and abs(where[1]) <= 180 else None
