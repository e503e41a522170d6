"""A set of ids that stays small: 16 bytes an id, however large the lake."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_Numbers = npt.NDArray[np.uint64]
_LETTERS = 32  # of the 64 hexadecimal letters: 128 bits of a SHA-256, still no two alike


def _halves(ids: pa.Array) -> npt.NDArray[np.uint64]:
    """The first 128 bits of each id. Shape (n, 2), uint64."""
    if len(ids) == 0:
        return np.empty((0, 2), np.uint64)
    letters = np.array(ids.to_pylist(), dtype="S64").view(np.uint8).reshape(len(ids), 64)[:, :_LETTERS]
    digits = np.where(letters >= ord("a"), letters - (ord("a") - 10), letters - ord("0")).astype(np.uint8)
    octets = (digits[:, 0::2] << 4) | digits[:, 1::2]
    return np.ascontiguousarray(octets).view(">u8").astype(np.uint64)


def _sorted(id_arrays: Iterable[pa.Array]) -> tuple[_Numbers, _Numbers, npt.NDArray[np.int64]]:
    """The two halves of all ids, sorted, and where each was before."""
    parts = [_halves(ids) for ids in id_arrays]
    halves = np.concatenate(parts) if parts else np.empty((0, 2), np.uint64)
    order = np.lexsort((halves[:, 1], halves[:, 0])).astype(np.int64)
    return np.ascontiguousarray(halves[order, 0]), np.ascontiguousarray(halves[order, 1]), order


def _places(high: _Numbers, low: _Numbers, ids: pa.Array) -> npt.NDArray[np.int64]:
    """Where each of `ids` stands among sorted halves, shape (n,); -1 where it does not."""
    asked = _halves(ids)
    place = np.full(len(asked), -1, np.int64)
    if len(high) == 0 or len(asked) == 0:
        return place
    position = np.searchsorted(high, asked[:, 0], side="left")
    open_rows = np.arange(len(asked))
    while len(open_rows):  # one turn, unless two ids share their first 64 bits
        at = position[open_rows]
        inside = at < len(high)
        open_rows, at = open_rows[inside], at[inside]
        same = high[at] == asked[open_rows, 0]
        open_rows, at = open_rows[same], at[same]
        hit = low[at] == asked[open_rows, 1]
        place[open_rows[hit]] = at[hit]
        open_rows = open_rows[~hit]
        position[open_rows] += 1
    return place


class IdSet:
    """Ids, sorted once, asked for in batches. Frozen and picklable, so that a step may carry it to a worker."""

    def __init__(self, id_arrays: Iterable[pa.Array]) -> None:
        self._high, self._low, _ = _sorted(id_arrays)

    def __len__(self) -> int:
        return len(self._high)

    def contains(self, ids: pa.Array) -> npt.NDArray[np.bool_]:
        """Which of `ids` (strings, none null) are in the set. Shape (n,), bool."""
        return _places(self._high, self._low, ids) >= 0


class IdRows:
    """Where rows are by their id: 24 bytes a row. The table's row ids stay as they are when it is tidied."""

    def __init__(self, ids: Iterable[pa.Array], row_ids: npt.NDArray[np.int64]) -> None:
        self._high, self._low, order = _sorted(ids)
        self._rows = row_ids[order]

    def __len__(self) -> int:
        return len(self._rows)

    def rows_of(self, ids: pa.Array) -> npt.NDArray[np.int64]:
        """The row id of each of `ids` (64 hexadecimal letters each), shape (n,); -1 where there is none."""
        place = _places(self._high, self._low, ids)
        if not len(self._rows):
            return place
        return np.where(place < 0, -1, self._rows[place])
