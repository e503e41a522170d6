"""What the points of the embedding map are colored by: any column of the images, facets, predictions, look-alikes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.gallery.catalog import Catalog, keys_of
from imagelake.gallery.facets import camera_of, folder_of
from imagelake.gallery.gallery import Gallery

MOST = 12
"""So many values have a color of their own, the most frequent; the rest share one."""

OTHERS, NOTHING = 254, 255

_LEFT_OUT = {"id", "exif", "xmp", "iptc", "metadata", "thumbnail", "perceptual_hash", "bytes"}
_SKEWED = 8.0  # so many times nearer is the middle to the lowest than to the highest: then by the logarithm
_SHOWN = 80


@dataclass(frozen=True)
class Colors:
    """What color each point has, in the order of the keys that were given.

    Attributes:
        kind: `"categories"`, `"numbers"` or `"times"`.
        codes: uint8 [n]: which category, `OTHERS` or `NOTHING`; None for numbers.
        values: float32 [n], NaN where there is none; None for categories.
        legend: what `codes` mean, with counts; or the ends of the scale.
    """

    kind: str
    codes: NDArray[np.uint8] | None
    values: NDArray[np.float32] | None
    legend: Mapping[str, Any] = field(default_factory=dict)


def columns_of(gallery: Gallery) -> list[dict[str, str]]:
    """What can be colored by, in the order in which people want it, and its kind."""
    special = [{"name": name, "kind": "categories"} for name in _SPECIAL]
    found = []
    for each in gallery.tables.images.schema:
        kind = _kind(each.type)
        if each.name not in _LEFT_OUT and kind and each.name not in _SPECIAL:
            found.append({"name": each.name, "kind": kind})
    return special + found


def colors_of(gallery: Gallery, catalog: Catalog, column: str, keys: NDArray[np.uint64]) -> Colors:
    """The colors of some images, by the first 64 bits of their ids.

    Raises:
        InputError: there is no such column.
    """
    rows = catalog.rows_of_keys(keys)
    if column in _SPECIAL:
        return _categories(
            catalog.made.get(f"atlas {column}", lambda: _coded(_SPECIAL[column](gallery, catalog))), rows
        )
    known = {each["name"]: each["kind"] for each in columns_of(gallery)}
    if column not in known:
        raise InputError(f"The map cannot be colored by {column[:_SHOWN]!r}. There are: {', '.join(known)}.")
    kind = known[column]
    if kind == "categories":
        coded = catalog.made.get(f"atlas {column}", lambda: _coded(_column(gallery, catalog, column, kind)))
        return _categories(coded, rows)
    return _scale(catalog.made.get(f"atlas {column}", lambda: _column(gallery, catalog, column, kind)), rows, kind)


def _kind(of: pa.DataType) -> str | None:
    if pa.types.is_timestamp(of):
        return "times"
    if pa.types.is_integer(of) or pa.types.is_floating(of):
        return "numbers"
    text = pa.types.is_string(of) or pa.types.is_boolean(of)
    return "categories" if text or (pa.types.is_list(of) and pa.types.is_string(of.value_type)) else None


def _column(gallery: Gallery, catalog: Catalog, name: str, kind: str) -> Any:
    """The values by row of the catalog: texts, of a list the first, or float64."""
    if name in catalog.columns.column_names:
        column, order = catalog.columns.column(name), np.arange(len(catalog))
    else:
        found = gallery.tables.images.read(["id", name])
        place = catalog.rows_of_keys(keys_of(found.column("id")))
        order = np.full(len(catalog), -1, np.int64)  # an image that came a moment ago has no row yet
        order[place[place >= 0]] = np.flatnonzero(place >= 0)
        column = found.column(name)
    if pa.types.is_list(column.type):
        column = _first(column)
    if kind == "times":
        numbers = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).cast(pa.float64(), safe=False)
        return _picked(pc.divide(numbers, 1e6), order)
    if kind == "numbers":
        return _picked(column.cast(pa.float64(), safe=False), order)
    texts = np.array([None if each is None else str(each) for each in column.to_pylist()] + [None], dtype=object)
    return texts[order].tolist()


def _picked(column: Any, order: NDArray[np.int64]) -> NDArray[np.float64]:
    values = np.append(np.asarray(pc.fill_null(column, math.nan).to_numpy(), np.float64), math.nan)
    found: NDArray[np.float64] = values[order]
    return found


def _first(column: Any) -> Any:
    """The first of each list, null where it has none."""
    filled = pc.if_else(pc.equal(pc.list_value_length(column), 0), pa.scalar(None, column.type), column)
    return pc.list_element(pc.if_else(pc.is_null(filled), pa.scalar([None], column.type), filled), 0)


def _coded(values: list[str | None]) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct values in the order of the alphabet, and which one each is; -1: none."""
    encoded = pa.array(values, pa.string()).dictionary_encode()
    names: list[str] = encoded.dictionary.to_pylist()
    order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    place = np.append(np.argsort(order), -1)
    codes: NDArray[np.int64] = place[np.asarray(pc.fill_null(encoded.indices, -1), np.int64)]
    return [names[number] for number in order.tolist()], codes


def _categories(coded: tuple[list[str], NDArray[np.int64]], rows: NDArray[np.int64]) -> Colors:
    """The most frequent values get the first codes; of equally frequent ones, the first in the alphabet."""
    names, codes = coded
    mine = np.append(codes, -1)[rows]
    counts = np.bincount(mine[mine >= 0], minlength=len(names))
    ordered = np.argsort(-counts, kind="stable")
    ordered = ordered[counts[ordered] > 0]
    own = np.full(len(names) + 1, OTHERS, np.uint8)
    own[ordered[:MOST]] = np.arange(min(MOST, len(ordered)))
    own[-1] = NOTHING
    return Colors(
        "categories",
        own[mine],
        None,
        {
            "values": [[names[number][:_SHOWN], int(counts[number])] for number in ordered[:MOST].tolist()],
            "others": int(counts[ordered[MOST:]].sum()),
            "other_values": max(len(ordered) - MOST, 0),
            "nothing": int((mine < 0).sum()),
        },
    )


def _scale(values: NDArray[np.float64], rows: NDArray[np.int64], kind: str) -> Colors:
    """The ends are the lowest and highest of 98 % of the values; the colors go by the logarithm where they are skewed.

    What is sent is how far each is from one end to the other, 0 to 1, so that float32 is enough for times too.
    """
    mine = np.where(rows >= 0, values[rows], np.nan) if len(values) else np.full(len(rows), np.nan)
    mine = np.where(np.isfinite(mine), mine, np.nan)
    there = mine[~np.isnan(mine)]
    nothing = len(mine) - len(there)
    if not len(there):
        return Colors(
            kind, None, mine.astype(np.float32), {"nothing": nothing, "low": None, "high": None, "log": False}
        )
    low, middle, high = (float(each) for each in np.quantile(there, (0.01, 0.5, 0.99)))
    log = kind == "numbers" and low > 0 and (high - low) > _SKEWED * (middle - low)
    ends = np.log([low, high]) if log else np.array([low, high])
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.log(np.maximum(mine, low)) if log else mine
        share = np.clip((scaled - ends[0]) / max(ends[1] - ends[0], 1e-300), 0.0, 1.0)
    told = {"nothing": nothing, "low": _told(low, kind), "high": _told(high, kind), "log": bool(log)}
    whole = [float(each) for each in (there.min(), there.max())]
    return Colors(kind, None, share.astype(np.float32), told | {"ends": [_told(each, kind) for each in whole]})


def _told(value: float, kind: str) -> float | str:
    return value if kind == "numbers" else datetime.fromtimestamp(value, UTC).replace(tzinfo=None).isoformat()


def _camera(gallery: Gallery, catalog: Catalog) -> list[str | None]:
    del gallery
    pair = [catalog.columns.column(name).to_pylist() for name in ("camera_make", "camera_model")]
    return [camera_of(make, model) for make, model in zip(*pair, strict=True)]


def _folder(gallery: Gallery, catalog: Catalog) -> list[str | None]:
    del gallery
    return [None if not uris else folder_of(uris[0]) for uris in catalog.columns.column("uris").to_pylist()]


def _prediction(gallery: Gallery, catalog: Catalog) -> list[str | None]:
    """The label with the highest score of all answers of models."""
    found = gallery.tables.predictions.read(["image_id", "label", "score"], "image_id IS NOT NULL").to_pylist()
    best: dict[str, tuple[float, str]] = {}
    for row in found:
        score = -1.0 if row["score"] is None else float(row["score"])
        if row["label"] is not None and score > best.get(row["image_id"], (-2.0, ""))[0]:
            best[row["image_id"]] = (score, row["label"])
    values: list[str | None] = [None] * len(catalog)
    for row_number, image_id in zip(catalog.rows_of(list(best)).tolist(), best, strict=True):
        if row_number >= 0:
            values[row_number] = best[image_id][1]
    return values


def _alike(gallery: Gallery, catalog: Catalog) -> list[str | None]:
    """Whether another image has the same perceptual hash."""
    found = gallery.tables.images.read(["id", "perceptual_hash"])
    hashes = found.column("perceptual_hash").to_pylist()
    counts: dict[int, int] = {}
    for each in hashes:
        if each is not None:
            counts[each] = counts.get(each, 0) + 1
    values: list[str | None] = [None] * len(catalog)
    for row, each in zip(catalog.rows_of_keys(keys_of(found.column("id"))).tolist(), hashes, strict=True):
        if row >= 0 and each is not None:
            values[row] = "yes" if counts[each] > 1 else "no"
    return values


def _list(column: str) -> Callable[[Gallery, Catalog], list[str | None]]:
    def values(gallery: Gallery, catalog: Catalog) -> list[str | None]:
        found: list[str | None] = _column(gallery, catalog, column, "categories")
        return found

    return values


_SPECIAL: dict[str, Callable[[Gallery, Catalog], list[str | None]]] = {
    "labels": _list("labels"),
    "tags": _list("tags"),
    "camera": _camera,
    "folder": _folder,
    "prediction": _prediction,
    "look_alikes": _alike,
}
"""What is no column, and lists that come first; of a list the first value counts."""
