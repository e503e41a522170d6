"""A set of ids that stays small: 16 bytes an id, however large the lake."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_LETTERS = 32  # of the 64 hexadecimal letters: 128 bits of a SHA-256, still no two alike


def _halves(ids: pa.Array) -> npt.NDArray[np.uint64]:
    """The first 128 bits of each id. Shape (n, 2), uint64."""
    if len(ids) == 0:
        return np.empty((0, 2), np.uint64)
    letters = np.array(ids.to_pylist(), dtype="S64").view(np.uint8).reshape(len(ids), 64)[:, :_LETTERS]
    digits = np.where(letters >= ord("a"), letters - (ord("a") - 10), letters - ord("0")).astype(np.uint8)
    octets = (digits[:, 0::2] << 4) | digits[:, 1::2]
    return np.ascontiguousarray(octets).view(">u8").astype(np.uint64)


class IdSet:
    """Ids, sorted once, asked for in batches. Frozen and picklable, so that a step may carry it to a worker."""

    def __init__(self, id_arrays: Iterable[pa.Array]) -> None:
        parts = [_halves(ids) for ids in id_arrays]
        halves = np.concatenate(parts) if parts else np.empty((0, 2), np.uint64)
        order = np.lexsort((halves[:, 1], halves[:, 0]))
        self._high = np.ascontiguousarray(halves[order, 0])
        self._low = np.ascontiguousarray(halves[order, 1])

    def __len__(self) -> int:
        return len(self._high)

    def contains(self, ids: pa.Array) -> npt.NDArray[np.bool_]:
        """Which of `ids` (strings, none null) are in the set. Shape (n,), bool."""
        asked = _halves(ids)
        found = np.zeros(len(asked), bool)
        if len(self._high) == 0 or len(asked) == 0:
            return found
        position = np.searchsorted(self._high, asked[:, 0], side="left")
        open_rows = np.arange(len(asked))
        while len(open_rows):  # one turn, unless two ids share their first 64 bits
            at = position[open_rows]
            inside = at < len(self._high)
            open_rows, at = open_rows[inside], at[inside]
            same = self._high[at] == asked[open_rows, 0]
            open_rows, at = open_rows[same], at[same]
            hit = self._low[at] == asked[open_rows, 1]
            found[open_rows[hit]] = True
            open_rows = open_rows[~hit]
            position[open_rows] += 1
        return found
