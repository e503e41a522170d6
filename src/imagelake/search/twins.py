"""Rows that are equal to the bit: one of them is searched, all of them are found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imagelake.search.segment import Floats, Ints
from imagelake.search.threads import in_threads, slices

_CHUNK = 4096


@dataclass(frozen=True)
class Twins:
    """Groups of equal rows: those of group g are members[first[g] : first[g + 1]], the one that is searched in front.

    Attributes:
        members: int64 (n,).
        first: int64 (groups + 1,).
    """

    members: Ints
    first: Ints

    def __len__(self) -> int:
        """How many groups there are."""
        return len(self.first) - 1

    @property
    def leaders(self) -> Ints:
        """The row of each group that is searched, int64 (groups,)."""
        return self.members[self.first[:-1]]

    def joined(self, others: Twins, offset: int) -> Twins:
        """These groups, and others whose rows are `offset` further on."""
        first = np.concatenate([self.first, self.first[-1] + others.first[1:]])
        return Twins(np.concatenate([self.members, others.members + offset]), first)


NO_TWINS = Twins(np.empty(0, np.int64), np.zeros(1, np.int64))


def twins(vectors: Floats, threads: int) -> tuple[Ints, Twins]:
    """The rows to search, int64 (unique,), and the groups of equal rows, each with its first row in front.

    Rows with equal hashes are compared before they count as equal.
    """
    words = vectors.view(np.uint32 if vectors.shape[1] % 2 and vectors.dtype == np.float32 else np.uint64)
    odd = np.random.default_rng(0).integers(1, 2**63, words.shape[1], dtype=np.uint64) * 2 + 1

    def hashed(rows: slice) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        part = words[rows].astype(np.uint64)
        part ^= part >> np.uint64(29)
        return np.asarray((part * odd).sum(axis=1, dtype=np.uint64))

    parts = in_threads(hashed, slices(len(vectors), _CHUNK), threads)
    hashes = np.concatenate(parts) if parts else np.empty(0, np.uint64)
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    if not len(same):
        return np.arange(len(vectors)), NO_TWINS
    keep = np.ones(len(vectors), np.bool_)
    groups: list[Ints] = []
    breaks = np.flatnonzero(np.diff(same) > 1) + 1
    for run in np.split(same, breaks):
        left = order[run[0] : run[-1] + 2]
        while len(left) > 1:  # once, but for rows whose hashes collide
            equal = (words[left] == words[left[0]]).all(axis=1)
            if equal.sum() > 1:
                groups.append(left[equal])
                keep[left[equal][1:]] = False
            left = left[~equal]
    first = np.concatenate([[0], np.cumsum([len(group) for group in groups])]).astype(np.int64)
    return np.flatnonzero(keep), Twins(np.concatenate([*groups, NO_TWINS.members]), first)
