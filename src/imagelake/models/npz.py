"""Read arrays of numbers from a stranger's `.npz`: no more than the file holds, and nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

MOST_BYTES = 1 << 30
"""The largest array that is read."""

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read some arrays of an `.npz`. Their headers are checked before memory is taken for them.

    Args:
        path: the file.
        names: the arrays that it must hold.

    Returns:
        Name to array; the arrays may be read-only.

    Raises:
        ValueError: it cannot be read or is no such file, an array is missing, holds no numbers, claims another size
            than it has, or more than `MOST_BYTES`.
    """
    try:
        with zipfile.ZipFile(path) as file:
            return {name: _read(file, name) for name in names}
    except Exception as error:  # the readers of zip files and of headers have no common base but this
        raise ValueError(str(error) or type(error).__name__) from error


def _read(file: zipfile.ZipFile, name: str) -> NDArray[Any]:
    info = file.getinfo(f"{name}.npy")
    with file.open(info) as member:
        version = npy.read_magic(member)
        if version not in _HEADERS:
            raise ValueError(f"{name} is an .npy of version {version}, not 1.0 or 2.0")
        shape, by_columns, dtype = _HEADERS[version](member)
        if dtype.kind not in "fiub":
            raise ValueError(f"{name} holds {dtype}, not numbers")
        size = math.prod(shape) * dtype.itemsize
        there = info.file_size - member.tell()
        if min(shape, default=1) < 0 or size != there or size > MOST_BYTES:
            raise ValueError(
                f"{name} claims the shape {shape} of {dtype} and has {there:,} bytes, at most {MOST_BYTES:,} are read"
            )
        content = member.read()
    if len(content) != size:
        raise ValueError(f"{name} ends after {len(content):,} of {size:,} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")
