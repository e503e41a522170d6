"""All images of a lake as they were at one moment, as columns in memory: what lists and counts are made from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imagelake.lake.tables import Tables
from imagelake.schema import IMAGES

SHORT = 16
"""So many letters of an id name an image in long lists: 64 bits, which no two images of a lake share by chance."""

_COLUMNS = ("id", "uris", "labels", "tags", "width", "height", "latitude", "longitude")
_SHORT = re.compile(f"[0-9a-f]{{{SHORT},64}}")


@dataclass(frozen=True)
class Catalog:
    """The images, as rows 0 to n - 1; it never changes, a newer one takes its place.

    Attributes:
        mark: differs whenever the images do.
        columns: one row an image.
        keys: the first 64 bits of each id, uint64 [n].
        order: the rows by ascending key, int64 [n].
        row_ids: where each image is in its table, int64 [n].
    """

    mark: str
    columns: pa.Table
    keys: NDArray[np.uint64]
    order: NDArray[np.int64]
    row_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.columns.num_rows)

    def ids_of(self, rows: NDArray[np.int64]) -> list[str]:
        """The ids of some rows."""
        found: list[str] = self.columns.column("id").take(pa.array(rows)).to_pylist()
        return found

    def rows_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each image, int64 [n], by its id or the first letters of it; -1 where there is none."""
        wanted = np.array([int(i[:SHORT], 16) if _SHORT.fullmatch(i) else 0 for i in ids], np.uint64)
        if not len(self):
            return np.full(len(wanted), -1, np.int64)
        place = np.minimum(np.searchsorted(self.keys[self.order], wanted), len(self) - 1)
        rows = self.order[place]
        found: NDArray[np.int64] = np.where(self.keys[rows] == wanted, rows, -1)
        return found


def read_catalog(tables: Tables) -> Catalog:
    """The images as they are now.

    Raises:
        LakeError: they cannot be read.
    """
    mark = tables.images.fingerprint()
    batches = list(tables.images.scan(list(_COLUMNS), row_ids=True))
    columns = pa.Table.from_batches(batches).combine_chunks() if batches else _empty()
    keys = np.array([int(i[:SHORT], 16) for i in columns.column("id").to_pylist()], np.uint64)
    row_ids = columns.column("_rowid").to_numpy().astype(np.int64)
    return Catalog(mark, columns, keys, np.argsort(keys, kind="stable"), row_ids)


def _empty() -> pa.Table:
    fields = [IMAGES.field(name) for name in _COLUMNS]
    return pa.schema([*fields, pa.field("_rowid", pa.uint64())]).empty_table()
