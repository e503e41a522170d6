"""The ids of a Hamming index: int64 or strings, each there once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake.errors import SearchError
from imagelake.search.hamming_keys import Ints

Ids = npt.NDArray[Any]  # int64 or str, shape (n,)


def check_ids(ids: Any, rows: int | None) -> Ids:
    """These ids as an array, `rows` of them where that is given.

    Raises:
        SearchError: they are neither int64 nor strings, of another shape, or of another number.
    """
    array = np.asarray(ids)
    if not array.size and array.dtype.kind == "f":
        array = array.astype(np.int64)  # NumPy's type of an empty list
    if array.ndim != 1 or (array.dtype != np.int64 and array.dtype.kind != "U"):
        raise SearchError(f"The ids are {array.dtype} {array.shape}; they must be int64 or strings, shape (n,).")
    if rows is not None and len(array) != rows:
        raise SearchError(f"There are {len(array)} ids for {rows} codes; give one id a code.")
    return array


def sorted_order(ids: Ids) -> Ints:
    """The rows in ascending order of their ids.

    Raises:
        SearchError: an id is there twice.
    """
    if ids.dtype.kind == "i" and (ids[1:] > ids[:-1]).all():
        return np.arange(len(ids))
    order = np.argsort(ids, kind="stable")
    same = np.flatnonzero(ids[order[1:]] == ids[order[:-1]])
    if len(same):
        raise SearchError(f"The id {ids[order[same[0]]].item()!r} is there twice; ids must be unique.")
    return order


def rows_among(ids: Ids, wanted: Any) -> npt.NDArray[np.bool_]:
    """Which of `ids` are wanted, bool (n,).

    Raises:
        SearchError: what is wanted is no ids, or one of them is not there.
    """
    unique = np.unique(check_ids(wanted, None)) if np.size(wanted) else ids[:0]
    mask = np.isin(ids, unique) if unique.dtype.kind == ids.dtype.kind else np.zeros(len(ids), bool)
    if np.count_nonzero(mask) != len(unique):
        missing = np.setdiff1d(unique, ids[mask])[:3].tolist() if len(ids) else unique[:3].tolist()
        raise SearchError(f"The index has no rows with such ids as {missing}; give ids that `.ids` holds.")
    return mask
