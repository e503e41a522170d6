"""What a served model takes and gives: the words that every protocol translates into its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]
"""Arrays by name, C-contiguous. Strings are arrays of dtype object whose elements are `bytes`."""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a served model.

    Attributes:
        name: as requests call it.
        dtype: NumPy's name of the type, such as `"float32"`; `"object"` for strings, which are bytes; `""`
            where any type and shape will do, as a function of Python may take them.
        shape: its sides; -1 for a side of any length. The first is the batch, where the model has one.
        description: for people.
        pictures: of an input, that it also takes encoded pictures instead: an object array [n] of their bytes.
        optional: of an input, that a request may leave it out.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    description: str = ""
    pictures: bool = False
    optional: bool = False
