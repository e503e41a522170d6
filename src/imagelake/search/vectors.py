"""What users hand over as vectors, checked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from imagelake.errors import SearchError
from imagelake.search.segment import Floats

_LARGEST = 1e150  # beyond, squares overflow float64
_CHUNK = 4096


def as_vectors(given: npt.ArrayLike, what: str, dims: int | None = None) -> Floats:
    """float32 or float64 (n, d) in C order; float16 becomes float32, which holds it exactly.

    Raises:
        SearchError: another shape or type, or a value that is no finite number; the message names the row.
    """
    array = np.asarray(given)
    if array.ndim != 2 or (dims is not None and array.shape[1] != dims) or array.shape[1] == 0:
        wanted = f"(n, {dims})" if dims is not None else "(n, d) with d of 1 or more"
        raise SearchError(f"{what} array has shape {array.shape}; it must be {wanted}: one {what} a row.")
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.dtype not in (np.float32, np.float64):
        raise SearchError(f"{what} array is of type {array.dtype}; give float32, float16 or float64.")
    array = np.ascontiguousarray(array)
    for start in range(0, len(array), _CHUNK):
        part = array[start : start + _CHUNK]
        with np.errstate(invalid="ignore", over="ignore"):
            good = np.isfinite(part.sum()) if part.dtype == np.float32 else np.abs(part).max(initial=0) <= _LARGEST
        if good:
            continue
        fine = np.abs(part) <= (_LARGEST if part.dtype == np.float64 else np.finfo(np.float32).max)
        if not fine.all():
            row, column = (int(at) for at in np.argwhere(~fine)[0])
            raise SearchError(
                f"{what} {start + row} has {part[row, column]} at dimension {column}; values must be finite numbers"
                f"{' of at most 1e150' if part.dtype == np.float64 else ''}. Leave that row out or mend it."
            )
    return array
