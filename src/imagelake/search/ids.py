"""Ids of rows: who is who, who is still there, and who comes first among equals."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake.errors import SearchError
from imagelake.search.segment import Ints

_LARGEST = np.iinfo(np.int64).max


class Ids:
    """Ids in the order their rows were added. A row's place in that order is its position, and never changes.

    Attributes:
        values: int64 or str (n,), removed ones too.
        alive: bool (n,).
    """

    def __init__(self, values: npt.NDArray[Any], alive: npt.NDArray[np.bool_], by_rank: Ints | None = None) -> None:
        self.values = values
        self.alive = alive
        if by_rank is not None:  # known from before: sorting a million texts takes seconds
            self.__dict__["by_rank"] = by_rank

    @cached_property
    def rank(self) -> Ints:
        """The place of each position's id among all ids, int64 (n,)."""
        rank = np.empty(len(self.values), np.int64)
        rank[self.by_rank] = np.arange(len(self.values))
        return rank

    @cached_property
    def by_rank(self) -> Ints:
        """The position of each rank, int64 (n,)."""
        if self.values.dtype == np.int64 and (self.values[1:] > self.values[:-1]).all():
            return np.arange(len(self.values))
        return np.argsort(self.values, kind="stable")

    def added(self, given: npt.ArrayLike | None, count: int) -> Ids:
        """These and `count` more; without ids, they go on from the greatest.

        Raises:
            SearchError: another number, type or kind of ids, or one that is there already.
        """
        empty = not len(self.values)
        if given is None:
            if self.values.dtype != np.int64:
                raise SearchError("the rows of this index have text ids; give ids for the new rows too.")
            start = 0 if empty else int(self.values.max()) + 1
            if start + count > _LARGEST:
                raise SearchError(f"no whole numbers are left after id {start - 1}; give ids for the new rows.")
            new = np.arange(start, start + count)
        else:
            new = as_ids(given)
            if new.shape != (count,):
                raise SearchError(f"{count} vectors came with ids of shape {new.shape}; give one id a vector.")
            if count and not empty and new.dtype.kind != self.values.dtype.kind:
                raise SearchError("ids of an index are all whole numbers or all text; these are of the other kind.")
        values = new if empty else np.concatenate([self.values, new])
        alive = np.concatenate([self.alive, np.ones(count, np.bool_)])
        _, counts = (present := np.unique(values[alive], return_counts=True))
        if (counts > 1).any():
            raise SearchError(f"id {present[0][counts > 1][0]} is there twice; ids must be unique.")
        return Ids(values, alive)

    def removed(self, given: npt.ArrayLike) -> Ids:
        """These without some.

        Raises:
            SearchError: one of them is not there.
        """
        alive = self.alive.copy()
        alive[self.positions(given)] = False
        return Ids(self.values, alive, self.by_rank)

    def positions(self, given: npt.ArrayLike) -> Ints:
        """Where the rows of some ids are, int64 (n,).

        Raises:
            SearchError: one of them is not there.
        """
        wanted = as_ids(given)
        if not wanted.size:
            return np.empty(0, np.int64)
        order = self.by_rank[self.alive[self.by_rank]]
        if wanted.dtype.kind == self.values.dtype.kind and len(order):
            whole = len(order) == len(self.values)  # then nothing is copied: a million texts are 256 MB
            at = np.searchsorted(self.values if whole else self.values[order], wanted, sorter=order if whole else None)
            at = np.minimum(at, len(order) - 1)
            positions = order[at]
            missing = self.values[positions] != wanted
        else:
            positions, missing = np.empty(0, np.int64), np.ones(len(wanted), np.bool_)
        if missing.any():
            raise SearchError(
                f"id {wanted[missing][0].item()!r} is not in the index; {int(missing.sum())} of the ids are not."
            )
        return positions


def as_ids(given: npt.ArrayLike) -> npt.NDArray[Any]:
    """Ids as an int64 or str array of one dimension.

    Raises:
        SearchError: they are something else.
    """
    array = np.asarray(given)
    if array.dtype == np.uint64 and array.size and int(array.max()) > _LARGEST:
        raise SearchError(f"id {int(array.max())} is too large; whole numbers of 64 bits with a sign are allowed.")
    if array.ndim == 1 and (array.dtype.kind in "iu" or not array.size):
        return array.astype(np.int64)
    if array.ndim == 1 and array.dtype.kind == "U":
        return array
    raise SearchError(
        f"ids are of type {array.dtype} and shape {array.shape}; give whole numbers or text, one dimension."
    )
