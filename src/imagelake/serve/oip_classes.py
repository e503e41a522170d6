"""An output as its best classes: the classification extension of the Open Inference Protocol v2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError, TooLargeError
from imagelake.serve.oip_types import MAX_STRINGS, named


def top_classes(
    array: NDArray[Any], most: int, labels: Sequence[str] = (), *, batched: bool = True, name: str = ""
) -> NDArray[Any]:
    """The highest values of each row as strings, `value:index` or `value:index:label`, the highest first.

    Args:
        array: numbers [n, ...] or, where not `batched`, of any shape: one row. Of equal values the first comes first.
        most: how many of each row; all where it has fewer.
        labels: of the classes; used where there are as many as values in a row.
        batched: whether the first side is rows.
        name: of the output, for the message.

    Returns:
        Strings (`bytes`), object [n, k], or [k] where not `batched`.

    Raises:
        InputError: these are no numbers.
        TooLargeError: that would be too many strings.
    """
    if array.dtype.kind not in "iuf":
        raise InputError(f"The output {named(name)} is {array.dtype}; classes can be had of numbers only.")
    apart = batched and array.ndim > 0
    classes = math.prod(array.shape[1:] if apart else array.shape)
    rows = array.reshape(len(array) if apart else 1, classes)
    if len(rows) * min(most, classes) > MAX_STRINGS:
        raise TooLargeError(
            f"{min(most, classes):,} classes of each of {len(rows):,} rows of the output {named(name)} are asked for; "
            f"at most {MAX_STRINGS:,} are given at once. Ask for fewer, or for the tensor."
        )
    order = _descending(rows)[:, : min(most, classes)]
    known = labels if len(labels) == classes else ()
    strings = np.empty(order.shape, dtype=object)
    for row, indices in enumerate(order.tolist()):
        for column, index in enumerate(indices):
            label = f":{known[index]}" if known else ""
            strings[row, column] = f"{rows[row, index]!s}:{index}{label}".encode()
    return strings if apart else strings.reshape(-1)


def _descending(rows: NDArray[Any]) -> NDArray[np.intp]:
    """The order of each row, highest first, of equal ones the first first, what is no number last."""
    if rows.dtype.kind == "f":
        rows = np.where(np.isnan(rows), -np.inf, rows)
    reverse: NDArray[np.intp] = rows.shape[1] - 1 - np.argsort(rows[:, ::-1], axis=1, kind="stable")
    return reverse[:, ::-1]
