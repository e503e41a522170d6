"""Where the selected images were taken: positions for a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imagelake.gallery.catalog import Catalog
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.selection import Selection, rows_of


@dataclass(frozen=True)
class Points:
    """Images with a position, in the order of their selection.

    Attributes:
        keys: the first 64 bits of each id, uint64 [n].
        latitudes: degrees, float32 [n]; in [-90, 90].
        longitudes: degrees, float32 [n]; in [-180, 180].
        without: selected images that have no position, or none that is on Earth.
        unnamed: how many of the n have no name of a place yet.
    """

    keys: NDArray[np.uint64]
    latitudes: NDArray[np.float32]
    longitudes: NDArray[np.float32]
    without: int
    unnamed: int

    def to_bytes(self) -> bytes:
        """All keys, then all latitudes, then all longitudes, little-endian: 16 bytes an image."""
        parts = (self.keys.astype("<u8"), self.latitudes.astype("<f4"), self.longitudes.astype("<f4"))
        return b"".join(part.tobytes() for part in parts)


def points_of(gallery: Gallery, selection: Selection) -> Points:
    """Where the selected images were taken.

    Raises:
        InputError: the selection is wrong.
    """
    catalog = gallery.catalog()
    rows = rows_of(gallery, selection, catalog)
    latitudes, longitudes, placed, named = catalog.made.get("world", lambda: _positions(catalog))
    there = rows[placed[rows]]
    return Points(
        catalog.keys[there], latitudes[there], longitudes[there], len(rows) - len(there), int((~named[there]).sum())
    )


def _positions(
    catalog: Catalog,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Latitudes and longitudes, which rows have one, and which have the name of a place."""
    columns = catalog.columns
    degrees = [
        pc.fill_null(columns.column(name).cast(pa.float64()), float("nan")).to_numpy()
        for name in ("latitude", "longitude")
    ]
    with np.errstate(invalid="ignore"):
        placed = (np.abs(degrees[0]) <= 90) & (np.abs(degrees[1]) <= 180)  # not where one is NaN
    safe = [np.where(placed, each, 0).astype(np.float32) for each in degrees]
    named = columns.column("place").is_valid().to_numpy()
    return safe[0], safe[1], placed, named
