"""Exact Hamming search over packed binary codes: the k nearest, everyone within a radius, and all near pairs.

The compiled kernel measures where there is one, NumPy where not; both give the same answers.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imagelake.errors import SearchError
from imagelake.search import hamming_files, hamming_native, hamming_plain, hamming_search
from imagelake.search.hamming_codes import Codes, Words, check_codes, codes_of, words_of
from imagelake.search.hamming_ids import Ids, check_ids, rows_among, sorted_order
from imagelake.search.hamming_keys import Ints
from imagelake.search.threads import thread_count

_kernel: hamming_search.Kernel = hamming_native if hamming_native.available() else hamming_plain


@dataclass(frozen=True)
class PairBlock:
    """Some near pairs: rows (int64, `rows_a < rows_b`), their ids and distances (int32), all of shape (pairs,)."""

    rows_a: npt.NDArray[np.int64]
    rows_b: npt.NDArray[np.int64]
    distances: npt.NDArray[np.int32]
    ids_a: Ids
    ids_b: Ids


class HammingIndex:
    """Binary codes that answer exactly; a class because rows come and go.

    Args:
        codes: uint8, shape (n, bytes), 2 to 128 bytes a row; eight bits a byte, in any order that is always the same.
        ids: unique, shape (n,), int64 or strings; the positions 0 to n - 1 where none are given.
        threads: how many to search with; as many as there are cores where none is given. Answers do not depend on it.

    Equal distances are ordered by id. Every call that is refused raises SearchError and changes nothing. Searches may
    run at the same time; `add` and `remove` may not run beside them.
    """

    def __init__(self, codes: Codes, ids: Ids | None = None, *, threads: int | None = None) -> None:
        codes = check_codes(codes, None)
        self._threads = thread_count(threads)
        self._bytes: int = codes.shape[1]
        self._ids: Ids = np.empty(0, np.int64)  # in the order they came
        self._order: Ints = np.empty(0, np.int64)  # the row of each rank; rank counts ids in ascending order
        self._words = words_of(codes[:0])  # by rank: the smaller column is the smaller id
        self._next_id = 0
        self.add(codes, ids)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def code_bytes(self) -> int:
        """How many bytes a code has."""
        return self._bytes

    @property
    def ids(self) -> Ids:
        """The id of every row, in the order they were added; shape (n,), int64 or str."""
        return self._ids.copy()

    @property
    def codes(self) -> Codes:
        """The code of every row, in the order they were added; uint8, shape (n, bytes)."""
        codes = np.empty((len(self), self._bytes), np.uint8)
        codes[self._order] = codes_of(self._words, self._bytes)
        return codes

    def search(
        self, queries: Codes, k: int, *, mask: npt.NDArray[np.bool_] | None = None, allowed: Ids | None = None
    ) -> tuple[npt.NDArray[np.int32], Ids]:
        """The `k` nearest rows of every query, ordered by (distance, id).

        Args:
            queries: uint8, shape (m, bytes).
            k: 0 or more.
            mask: bool, shape (n,): which rows may be found, in the order they were added.
            allowed: the ids that may be found, instead of a mask.

        Returns:
            Distances (int32) and ids, both of shape (m, min(k, rows that may be found)).

        Raises:
            SearchError: k below 0; queries, a mask or ids that do not fit the index.
        """
        queries, k = check_codes(queries, self._bytes), _check_count(k, "k")
        words, ranks = self._subset(mask, allowed)
        distances, columns = hamming_search.nearest(_kernel, words_of(queries), words, k, self._threads)
        return distances, self._ids_at(columns if ranks is None else ranks[columns])

    def range_search(
        self,
        queries: Codes,
        radius: int,
        *,
        mask: npt.NDArray[np.bool_] | None = None,
        allowed: Ids | None = None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Ids]:
        """Every row within `radius` of each query, the radius included. Arguments are those of `search`.

        Returns:
            lims (int64, shape (m + 1,)), distances (int32) and ids: the answer to query i is at lims[i]:lims[i + 1],
            ordered by (distance, id).

        Raises:
            SearchError: a radius below 0; queries, a mask or ids that do not fit the index.
        """
        queries, radius = check_codes(queries, self._bytes), _check_count(radius, "radius")
        words, ranks = self._subset(mask, allowed)
        counts, distances, columns = hamming_search.within(_kernel, words_of(queries), words, radius, self._threads)
        lims = np.cumsum(np.concatenate([np.zeros(1, np.int64), counts]))
        return lims, distances, self._ids_at(columns if ranks is None else ranks[columns])

    def pairs_within(self, radius: int) -> Iterator[PairBlock]:
        """Every unordered pair of rows within `radius`, once; the radius is included.

        Each distance is computed once, and memory is bounded whatever the answer's size. The order of blocks and of
        pairs in them is always the same, but sorted by nothing. The iterator reads the rows of the moment it is made.

        Raises:
            SearchError: a radius below 0.
        """
        found = hamming_search.pairs(_kernel, self._words, _check_count(radius, "radius"), self._threads)
        return _as_blocks(found, self._order, self._ids)

    def neighbors_of_all(self, k: int) -> tuple[npt.NDArray[np.int32], Ids]:
        """The `k` nearest others of every row, in the order the rows were added, ordered by (distance, id).

        Returns:
            Distances (int32) and ids, both of shape (n, min(k, n - 1)).

        Raises:
            SearchError: k below 0.
        """
        k = min(_check_count(k, "k"), max(len(self) - 1, 0))
        distances, ranks = hamming_search.nearest(_kernel, self._words, self._words, k + 1 if k else 0, self._threads)
        # A row is among its own k + 1 nearest unless k + 1 twins come before it; then the last of them is dropped.
        drop = ranks == np.arange(len(self))[:, None]
        if k:
            drop[~drop.any(axis=1), -1] = True
        rows = np.argsort(self._order)
        distances, ranks = distances[~drop].reshape(len(self), k)[rows], ranks[~drop].reshape(len(self), k)[rows]
        return distances, self._ids_at(ranks)

    def add(self, codes: Codes, ids: Ids | None = None) -> None:
        """Append rows; every call copies the index once, so add many at a time.

        Args:
            codes: uint8, shape (n, bytes).
            ids: unique and new, of the kind that the index has; where none are given, integers go on counting.

        Raises:
            SearchError: codes or ids that do not fit, or an id that is already there.
        """
        codes = check_codes(codes, self._bytes)
        given = self._count_on(len(codes)) if ids is None else check_ids(ids, len(codes))
        if not len(given):
            return
        if len(self) and given.dtype.kind != self._ids.dtype.kind:
            raise SearchError(
                f"The new ids are {given.dtype} and those of the index {self._ids.dtype}; an index has one kind of id."
            )
        joined = np.concatenate([self._ids, given]) if len(self) else given.copy()
        order = sorted_order(joined)
        by_row = np.empty((len(self._words), len(joined)), self._words.dtype)
        by_row[:, self._order] = self._words
        by_row[:, len(self) :] = words_of(codes)
        self._words, self._ids, self._order = np.take(by_row, order, axis=1), joined, order
        if joined.dtype.kind == "i":
            self._next_id = max(self._next_id, int(joined[order[-1]]) + 1)

    def remove(self, ids: Ids) -> None:
        """Drop the rows of these ids; the others keep their order.

        Raises:
            SearchError: an id that the index does not have.
        """
        keep = ~rows_among(self._ids, ids)
        self._words = np.ascontiguousarray(self._words[:, keep[self._order]])
        self._ids = self._ids[keep]
        self._order = sorted_order(self._ids)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a folder of plain NumPy files; an index that is there already is replaced.

        Raises:
            SearchError: something else is at `path`.
        """
        hamming_files.write(path, hamming_files.Saved(self._bytes, self._words, self._ids, self._next_id))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = True, threads: int | None = None) -> HammingIndex:
        """Read what `save` wrote.

        Args:
            path: the folder.
            mmap: leave the codes in the file and let the system read what is needed; `add` and `remove` copy them.
            threads: as for a new index.

        Raises:
            SearchError: there is no index, it is damaged, or a newer imagelake wrote it.
        """
        saved = hamming_files.read(path, mmap=mmap)
        index = cls(np.empty((0, saved.code_bytes), np.uint8), threads=threads)
        index._words, index._ids, index._next_id = saved.words, saved.ids, saved.next_id
        index._order = sorted_order(saved.ids)
        return index

    def _subset(self, mask: npt.NDArray[np.bool_] | None, allowed: Ids | None) -> tuple[Words, Ints | None]:
        """The words of the rows that may be found, and their ranks where these are not all."""
        if mask is None and allowed is None:
            return self._words, None
        if mask is None:
            mask = rows_among(self._ids, allowed)
        elif allowed is not None:
            raise SearchError("Both mask and allowed were given; give one of them.")
        elif not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (len(self),):
            what = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise SearchError(f"The mask is {what}; it must be a bool array of shape ({len(self)},), one a row.")
        ranks = np.flatnonzero(mask[self._order])
        return np.ascontiguousarray(self._words[:, ranks]), ranks

    def _ids_at(self, ranks: Ints) -> Ids:
        return self._ids[self._order[ranks]]

    def _count_on(self, rows: int) -> Ints:
        if len(self) and self._ids.dtype.kind != "i":
            raise SearchError("No ids were given for new codes; the ids of this index are strings, so give one a code.")
        if self._next_id + rows > np.iinfo(np.int64).max:
            raise SearchError(f"Ids would go on from {self._next_id}, beyond int64; give ids.")
        return np.arange(self._next_id, self._next_id + rows, dtype=np.int64)


def _as_blocks(found: Iterator[tuple[Ints, Ints, npt.NDArray[np.int32]]], order: Ints, ids: Ids) -> Iterator[PairBlock]:
    for left, right, distances in found:
        a, b = order[left], order[right]
        a, b = np.minimum(a, b), np.maximum(a, b)
        yield PairBlock(a, b, distances, ids[a], ids[b])


def _check_count(value: int, name: str) -> int:
    try:
        count = operator.index(value)
    except TypeError as error:
        raise SearchError(f"{name} is {value!r}; it must be an integer, 0 or more.") from error
    if count < 0:
        raise SearchError(f"{name} is {count}; it must be 0 or more.")
    return count
