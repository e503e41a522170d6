"""A lake that is looked at by many people at once; it follows what is added to it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from imagelake.gallery.catalog import Catalog, read_catalog

if TYPE_CHECKING:
    from imagelake.lake.tables import Tables
    from imagelake.run.lake_view import LakeViewOfTables

_LOOK_S = 1.0  # how often the table is looked at


class Gallery:
    """What the page shows of a lake. Every part of it is a function that takes this, in a file of its own.

    A class because it keeps what is open.

    Attributes:
        tables: of the lake.
        view: its search; None where no image has a vector yet.
    """

    def __init__(self, tables: Tables, view: LakeViewOfTables | None) -> None:
        self.tables = tables
        self.view = view
        self._lock = threading.Lock()
        self._catalog = read_catalog(tables)
        self._look_at = time.monotonic() + _LOOK_S

    def catalog(self) -> Catalog:
        """The images as they are now, or were a second ago."""
        with self._lock:
            if time.monotonic() >= self._look_at:
                if self.tables.images.fingerprint() != self._catalog.mark:
                    self._catalog = read_catalog(self.tables)
                self._look_at = time.monotonic() + _LOOK_S
            return self._catalog

    def thumbnail(self, row: int) -> bytes | None:
        """The small JPEG of an image of the catalog; None where it was deleted or has none."""
        found = self.tables.images.take([int(self.catalog().row_ids[row])], ["thumbnail"]).to_pylist()
        return found[0]["thumbnail"] if found else None
