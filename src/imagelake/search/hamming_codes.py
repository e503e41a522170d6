"""Binary codes, and the words that they are searched in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake.errors import SearchError

Codes = npt.NDArray[np.uint8]
Words = npt.NDArray[Any]  # uint16, uint32 or uint64, shape (words of a code, n): a code is a column

_LEAST_BYTES, _MOST_BYTES = 2, 128


def check_codes(codes: Any, code_bytes: int | None) -> Codes:
    """These codes, if they are uint8, shape (n, code_bytes); of any width that is allowed where None is given.

    Raises:
        SearchError: they are not.
    """
    allowed = f"{code_bytes}" if code_bytes is not None else f"{_LEAST_BYTES} to {_MOST_BYTES}"
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8 or codes.ndim != 2:
        what = f"{codes.dtype} {codes.shape}" if isinstance(codes, np.ndarray) else type(codes).__name__
        raise SearchError(f"The codes are {what}; they must be a uint8 array of shape (n, {allowed} bytes): pack bits.")
    fits = codes.shape[1] == code_bytes if code_bytes else _LEAST_BYTES <= codes.shape[1] <= _MOST_BYTES
    if not fits:
        raise SearchError(f"The codes have {codes.shape[1]} bytes; {allowed} are allowed.")
    return codes


def words_of(codes: Codes) -> Words:
    """Codes as words of one size, zeros filling up the last: one word of 2 or 4 bytes, or some of 8."""
    rows, size = codes.shape
    word = np.dtype(np.uint16 if size <= 2 else np.uint32 if size <= 4 else np.uint64)
    padded = np.zeros((rows, -(-size // word.itemsize) * word.itemsize), np.uint8)
    padded[:, :size] = codes
    return np.ascontiguousarray(padded.view(word).T)


def codes_of(words: Words, code_bytes: int) -> Codes:
    """The codes, uint8 (n, code_bytes), that words were made of."""
    return np.ascontiguousarray(words.T).view(np.uint8)[:, :code_bytes]
