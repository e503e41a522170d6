"""What a grid needs of every image before it shows any: shapes, colors and months, a few bytes each."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imagelake.gallery.catalog import Catalog

NO_MONTH = -32768
_STEPS = 254.0  # of a shape: from 1/8 to 8, each 1.6 % wider than the one before
_WIDEST = 8.0


def layout_of(catalog: Catalog, rows: NDArray[np.int64]) -> bytes:
    """Three columns one after the other, little-endian, of n rows in their order.

    Returns:
        uint16 [n] colors, 5 bits red, 6 green, 5 blue; int16 [n] months since January 1970, `NO_MONTH` where none is
        known; uint8 [n] shapes: the width is `8 ** (value / 127 - 1)` times the height.
    """
    whole = catalog.made.get("layout", lambda: _whole(catalog))
    return b"".join(column[rows].tobytes() for column in whole)


def _whole(catalog: Catalog) -> tuple[NDArray[np.uint16], NDArray[np.int16], NDArray[np.uint8]]:
    red, green, blue = (_filled(catalog, f"mean_{channel}", 128.0).clip(0, 255).astype(np.uint16) for channel in "rgb")
    colors = ((red >> 3) << 11) | ((green >> 2) << 5) | (blue >> 3)
    taken = catalog.columns.column("taken_at").combine_chunks()
    months = pc.add(pc.multiply(pc.subtract(pc.year(taken), 1970), 12), pc.subtract(pc.month(taken), 1))
    shorts = pc.fill_null(months, NO_MONTH).to_numpy(zero_copy_only=False).clip(NO_MONTH, 32767)
    ratios = _filled(catalog, "width", 1.0).clip(1) / _filled(catalog, "height", 1.0).clip(1)
    steps = np.log(ratios.clip(1 / _WIDEST, _WIDEST)) / np.log(_WIDEST)  # -1 to 1
    shapes = np.rint((steps + 1) * (_STEPS / 2)).astype(np.uint8)
    return colors.astype("<u2"), shorts.astype("<i2"), shapes


def _filled(catalog: Catalog, name: str, missing: float) -> NDArray[np.float64]:
    values = pc.fill_null(catalog.columns.column(name).cast(pa.float64()), missing).to_numpy()
    found: NDArray[np.float64] = np.nan_to_num(values, nan=missing)
    return found
