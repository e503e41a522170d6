"""Hamming distances in C (c/hamming.c), called through ctypes, which lets other threads run meanwhile."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from imagelake.search.hamming_codes import Words
from imagelake.search.hamming_keys import Ints
from imagelake.search.native import LIBRARY

MOST_QUERIES = 256  # to a call

_TILE_BYTES = 2**17  # of rows that all queries go over: half of a small second-level cache
_ROOM = 2**14  # pairs within a radius before memory for more of them is asked for
_SPARE = 64  # candidates kept beyond 2 k: a small k would thin out at every other one
_HEAD = 7  # numbers that C keeps for a query beside counts and candidates

_int64, _pointer = ctypes.c_int64, ctypes.c_void_p


class _Codes(ctypes.Structure):
    _fields_ = (("words", _pointer), *((name, _int64) for name in ("word_bytes", "words_each", "stride", "count")))


def _load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(str(LIBRARY))
        runs = library.imagelake_hamming_runs
    except (OSError, AttributeError):  # not compiled, or by an older imagelake
        return None
    runs.restype = _int64
    if not runs():
        return None
    codes = ctypes.POINTER(_Codes)
    library.imagelake_hamming_nearest.argtypes = (codes, codes, *[_int64] * 3, *[_pointer] * 3)
    library.imagelake_hamming_nearest.restype = None
    library.imagelake_hamming_within.argtypes = (codes, codes, _int64, _int64, _pointer, _int64)
    library.imagelake_hamming_within.restype = _int64
    return library


_library = _load()


def available() -> bool:
    """Whether the library was compiled when the package was installed, and this processor runs it."""
    return _library is not None


def nearest(queries: Words, words: Words, k: int) -> tuple[npt.NDArray[np.int32], Ints]:
    """Distances and columns of the k nearest of every query, in order; both of shape (queries, k), 1 <= k <= rows."""
    asked, rows = queries.shape[1], words.shape[1]
    room = min(rows, 2 * k + _SPARE)
    distances, columns = np.empty((asked, k), np.int32), np.empty((asked, k), np.int64)
    scratch = np.empty((asked, _HEAD + 8 * words.itemsize * len(words) + 1 + room), np.int64)
    _c().imagelake_hamming_nearest(
        _codes(words), _codes(queries), k, _tile(words), room, scratch.ctypes.data, distances.ctypes.data,
        columns.ctypes.data,
    )  # fmt: skip
    return distances, columns


def within(queries: Words, words: Words, radius: int) -> Ints:
    """Keys of everyone within the radius, in order."""
    room, radius = _ROOM, min(radius, 8 * words.itemsize * len(words))
    while True:
        keys = np.empty(room, np.int64)
        found: int = _c().imagelake_hamming_within(
            _codes(words), _codes(queries), radius, _tile(words), keys.ctypes.data, room
        )
        if found <= room:
            return np.sort(keys[:found])
        room = found


def _tile(words: Words) -> int:
    return max(1, _TILE_BYTES // (words.itemsize * len(words)))


def _codes(words: Words) -> _Codes:
    if words.strides[1] != words.itemsize and words.shape[1] > 1:
        raise ValueError("the first words of all codes must lie side by side, and so on")
    stride = words.strides[0] // words.itemsize
    return _Codes(words.ctypes.data, words.itemsize, len(words), stride, words.shape[1])


def _c() -> ctypes.CDLL:
    if _library is None:
        raise RuntimeError("the compiled search is not there; check available() first")
    return _library
