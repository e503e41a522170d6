"""What is like one image: its nearest by vectors, and its copies."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.gallery.calibration import LINE
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.items import items_of
from imagelake.gallery.neighbors import MOST, NeighborOptions, NeighborSearch, Query
from imagelake.lake.tables import Tables
from imagelake.run.duplicates import EMBEDDING_DISTANCE, HASH_DISTANCE

_FEWEST_ONES = 12  # a hash with fewer is of a plain picture and tells nothing; see run.duplicates
_FLAT = 2.0
_MOST_COPIES = 60
_COLUMNS = ("perceptual_hash", "std_r", "std_g", "std_b")


def near(search: NeighborSearch, image_id: str, k: int) -> dict[str, Any]:
    """What is like an image of the lake.

    Args:
        search: of the lake.
        image_id: a full id.
        k: how many neighbors, 1 to `neighbors.MOST`.

    Returns:
        `neighbors`, the nearest first: items, each with `distance`, `bar` (0 to 1, where that is known) and, where a
        region is what is near, `box_xyxy` and `label`; `better`, how many of them are nearer than chance (left out
        where that is not known), and `line`, where on a bar chance begins; `set`, whose vectors were compared; `why`,
        in words, where there are none. `copies`: items, each with `by`, `"hash"` or `"embedding"`, and `distance`, in
        bits of 64 or of the vectors.

    Raises:
        InputError: `k` is out of range.
    """
    if not 1 <= k <= MOST:
        raise InputError(f"k is {k}; give 1 to {MOST}.")
    gallery = search.gallery
    found, better, why = _matches(search, image_id, max(k, _MOST_COPIES))
    told = {
        "neighbors": _items(gallery, found[:k]),
        "copies": copies_of(gallery, image_id, found),
        "better": None if better is None else min(better, k),
        "line": LINE,
        "set": gallery.view and gallery.view.embedding_set,
        "why": why,
    }
    return {name: value for name, value in told.items() if value not in (None, "")}


def copies_of(gallery: Gallery, image_id: str, neighbors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The images that `imagelake duplicates` would take for copies of this one: by hash first, then by vectors."""
    found = _by_hash(gallery, image_id)
    there = {each["id"] for each in found}
    near_by = {each["id"]: each["distance"] for each in neighbors}
    found.sort(key=lambda each: (each["distance"], near_by.get(each["id"], math.inf)))
    if _compares_by_cosine(gallery):
        found += [
            {"id": each["id"], "by": "embedding", "distance": each["distance"]}
            for each in neighbors
            if each["distance"] <= EMBEDDING_DISTANCE and each["id"] not in there
        ]
    return _items(gallery, found[:_MOST_COPIES])


def _matches(search: NeighborSearch, image_id: str, k: int) -> tuple[list[dict[str, Any]], int | None, str]:
    """The nearest, each image once; how many of them are nearer than chance; or why there are none."""
    try:
        matches = search.find(Query(image_id=image_id), NeighborOptions(k=k)).matches
    except InputError as error:
        return [], None, str(error)
    found: dict[str, dict[str, Any]] = {}
    chances: list[float | None] = []
    for match in matches:
        if match.id in found or not math.isfinite(match.distance):
            continue
        told = {
            "distance": max(0.0, match.distance),
            "bar": match.bar,
            "box_xyxy": match.box_xyxy,
            "label": match.label,
        }
        found[match.id] = {"id": match.id} | {name: value for name, value in told.items() if value is not None}
        chances.append(match.by_chance)
    known = [each for each in chances if each is not None]
    return list(found.values()), sum(each < 1 for each in known) if known else None, ""


def _items(gallery: Gallery, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same as items; without those that were deleted."""
    items = {item["id"]: item for item in items_of(gallery, [each["id"] for each in found])}
    return [items[each["id"]] | each for each in found if each["id"] in items]


def _compares_by_cosine(gallery: Gallery) -> bool:
    """Whether the distance below which vectors are of copies is known for the set that is searched."""
    if gallery.view is None:
        return False
    told = gallery.tables.embeddings(gallery.view.embedding_set).schema.metadata or {}
    return b"imagelake:pipeline" not in told and b'"metric": "cosine"' in told.get(b"imagelake:manifest", b"")


def _by_hash(gallery: Gallery, image_id: str) -> list[dict[str, Any]]:
    catalog = gallery.catalog()
    row = int(catalog.rows_of([image_id])[0])
    hashes, telling = _hashes(gallery.tables, catalog.mark)
    if row < 0 or row >= len(hashes) or len(hashes) != len(catalog) or not telling[row]:
        return []
    bits = np.bitwise_count(hashes ^ hashes[row])
    rows = np.flatnonzero((bits <= HASH_DISTANCE) & telling)
    rows = rows[rows != row]
    rows = rows[np.argsort(bits[rows], kind="stable")][:_MOST_COPIES]
    ids = catalog.ids_of(rows)
    return [
        {"id": name, "by": "hash", "distance": int(each)} for name, each in zip(ids, bits[rows].tolist(), strict=True)
    ]


@functools.lru_cache(maxsize=2)
def _hashes(tables: Tables, mark: str) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:  # noqa: ARG001  (of the key)
    """The perceptual hash of each row of the catalog, uint64 [n], and whether it tells pictures apart, bool [n]."""
    codes, spread = [np.empty(0, np.uint64)], [np.empty(0, np.float32)]
    for batch in tables.images.scan(list(_COLUMNS)):
        codes.append(batch.column("perceptual_hash").fill_null(0).to_numpy(zero_copy_only=False).astype(np.uint64))
        stds = [batch.column(name).fill_null(_FLAT).to_numpy(zero_copy_only=False) for name in _COLUMNS[1:]]
        spread.append(np.maximum.reduce(stds))
    hashes = np.concatenate(codes)
    return hashes, (np.bitwise_count(hashes) >= _FEWEST_ONES) & (np.concatenate(spread) >= _FLAT)
