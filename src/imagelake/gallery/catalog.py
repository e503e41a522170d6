"""All images of a lake as they were at one moment, as columns in memory: what lists and counts are made from."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imagelake.files import display_name
from imagelake.lake.tables import Tables
from imagelake.schema import IMAGES

SHORT = 16
"""So many letters of an id name an image in long lists: 64 bits, which no two images of a lake share by chance."""

_COLUMNS = (
    *("id", "uris", "labels", "tags", "format", "width", "height", "byte_size", "taken_at", "camera_make"),
    *("camera_model", "lens", "latitude", "longitude", "title", "caption", "keywords", "creator", "rating"),
    *("mean_r", "mean_g", "mean_b", "brightness", "sharpness", "flags", "country_code", "country", "place"),
    "added_at",
)
_SHORT = re.compile(f"[0-9a-f]{{{SHORT},64}}")
_BATCH_ROWS = 65_536
_T = TypeVar("_T")


@dataclass(frozen=True)
class Made:
    """What was made from a catalog, by name, each thing once however many threads ask for it."""

    things: dict[str, Any] = field(default_factory=dict)
    locks: dict[str, threading.Lock] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, name: str, make: Callable[[], _T]) -> _T:
        """The thing of this name; made where it is not there yet."""
        with self.lock:
            own = self.locks.setdefault(name, threading.Lock())
        with own:
            if name not in self.things:
                self.things[name] = make()
            return cast("_T", self.things[name])


@dataclass(frozen=True)
class Catalog:
    """The images, as rows 0 to n - 1; it never changes, a newer one takes its place.

    Attributes:
        mark: differs whenever the images or the embedding sets do.
        columns: one row an image: the columns of the images table but the wide ones, and `name`, what the file is
            called. What an older lake lacks is null.
        keys: the first 64 bits of each id, uint64 [n].
        order: the rows by ascending key, int64 [n].
        row_ids: where each image is in its table, int64 [n].
        sets: which rows each embedding set has a vector of, int64 [m] by name.
        made: what was made from the columns.
    """

    mark: str
    columns: pa.Table
    keys: NDArray[np.uint64]
    order: NDArray[np.int64]
    row_ids: NDArray[np.int64]
    sets: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    made: Made = field(default_factory=Made)

    def __len__(self) -> int:
        return int(self.columns.num_rows)

    @property
    def short_mark(self) -> str:
        """The mark in a few letters."""
        return hashlib.sha256(self.mark.encode()).hexdigest()[:12]

    def ids_of(self, rows: NDArray[np.int64]) -> list[str]:
        """The ids of some rows."""
        found: list[str] = self.columns.column("id").take(pa.array(rows, pa.int64())).to_pylist()
        return found

    def rows_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each image, int64 [n], by its id or the first letters of it; -1 where there is none."""
        known = np.array([_SHORT.fullmatch(each) is not None for each in ids], np.bool_)
        wanted = np.array([int(i[:SHORT], 16) if ok else 0 for i, ok in zip(ids, known, strict=True)], np.uint64)
        return np.where(known, self.rows_of_keys(wanted), -1)

    def rows_of_keys(self, wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The row of each image, int64 [n], by the first 64 bits of its id; -1 where there is none."""
        if not len(self):
            return np.full(len(wanted), -1, np.int64)
        ordered = self.made.get("ordered keys", lambda: self.keys[self.order])
        rows = self.order[np.minimum(np.searchsorted(ordered, wanted), len(self) - 1)]
        found: NDArray[np.int64] = np.where(self.keys[rows] == wanted, rows, -1)
        return found


def read_catalog(tables: Tables, before: Catalog | None = None) -> Catalog:
    """The images as they are now.

    Args:
        tables: of the lake.
        before: the catalog that was read last; what has not changed is taken from there.

    Raises:
        LakeError: they cannot be read.
    """
    sets = {name: tables.embeddings(name) for name in tables.embedding_sets()}
    images = tables.images.fingerprint()
    mark = " ".join([images, *(f"{name} {table.fingerprint()}" for name, table in sets.items())])
    if before is not None and before.mark == mark:
        return before
    if before is not None and before.mark.startswith(f"{images} "):
        catalog = replace(before, mark=mark, sets={}, made=Made())
    else:
        catalog = _read_images(tables, mark)
    found = {}
    for name, table in sets.items():
        column = "image_id" if "image_id" in table.schema.names else "id"
        keys = [keys_of(batch.column(column)) for batch in table.scan([column], batch_rows=_BATCH_ROWS)]
        rows = catalog.rows_of_keys(np.concatenate(keys)) if keys else np.empty(0, np.int64)
        found[name] = np.unique(rows[rows >= 0])
    return replace(catalog, sets=found)


def _read_images(tables: Tables, mark: str) -> Catalog:
    there = set(tables.images.schema.names)
    names = [name for name in _COLUMNS if name in there]
    batches = list(tables.images.scan(names, batch_rows=_BATCH_ROWS, row_ids=True))
    found = pa.Table.from_batches(batches) if batches else None
    columns = {}
    for name in _COLUMNS:
        kind = IMAGES.field(name).type
        if found is None:
            columns[name] = pa.array([], kind)
        elif name in there:
            columns[name] = found.column(name).combine_chunks().cast(kind)
        else:
            columns[name] = pa.nulls(found.num_rows, kind)
    uris = columns["uris"]
    columns["name"] = pa.array([display_name(each) if each else "" for each in first_of(uris)], pa.string())
    keys = keys_of(columns["id"])
    row_ids = np.empty(0, np.int64) if found is None else found.column("_rowid").to_numpy().astype(np.int64)
    return Catalog(mark, pa.table(columns), keys, np.argsort(keys, kind="stable"), row_ids)


def first_of(lists: pa.Array) -> list[str | None]:
    """The first text of each list; None where there is none."""
    values: list[str | None] = lists.values.to_pylist()
    starts = np.asarray(lists.offsets)[:-1].tolist()
    ends = np.asarray(lists.offsets)[1:].tolist()
    valid = lists.is_valid().to_numpy(zero_copy_only=False).tolist()
    return [values[s] if ok and e > s else None for s, e, ok in zip(starts, ends, valid, strict=True)]


def keys_of(ids: pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """The first 64 bits of each id of 64 hexadecimal letters, uint64 [n]."""
    texts = ids.to_pylist()
    return np.frombuffer(bytes.fromhex("".join(text[:SHORT] for text in texts)), ">u8").astype(np.uint64)
