"""Rows that are equal to the bit: one of them is searched, all of them are found."""

from __future__ import annotations

import numpy as np

from imagelake.search.segment import Floats, Ints
from imagelake.search.threads import in_threads, slices

_CHUNK = 4096


def twins(vectors: Floats, threads: int) -> tuple[Ints, list[Ints]]:
    """The rows to search, int64 (unique,), and each group of equal rows with its first row in front.

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
        return np.arange(len(vectors)), []
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
    return np.flatnonzero(keep), groups
