"""Thumbnails in memory: those of a part of a list are read together, before a browser asks for one after the other."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ImagelakeError
from imagelake.gallery.catalog import Catalog

if TYPE_CHECKING:
    from imagelake.lake.tables import Tables

_LOG = logging.getLogger(__name__)
_KEPT_BYTES = 64 << 20
_AT_ONCE = 128  # are read ahead of one list


class Thumbnails:
    """The thumbnails that were asked for last. A class because it keeps them."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._known: OrderedDict[int, bytes] = OrderedDict()  # by the first 64 bits of the id, which is of the content
        self._size = 0

    def of(self, catalog: Catalog, row: int) -> bytes | None:
        """That of a row; None where it was deleted or has none.

        Raises:
            LakeError: it cannot be read.
        """
        key = int(catalog.keys[row])
        found = self._get(key)
        if found is None:
            with self._reading:  # maybe it is under way with others
                found = self._get(key)
        if found is None:
            self._read(catalog, np.array([row], np.int64))
            found = self._get(key)
        return found

    def ahead(self, catalog: Catalog, rows: NDArray[np.int64]) -> None:
        """Read those of some rows, beside what is going on; one list at a time.

        Whoever has asked for one of them meanwhile waits for all: that is sooner than by itself.
        """
        with self._lock:
            missing = [row for row in rows[:_AT_ONCE].tolist() if int(catalog.keys[row]) not in self._known]
        if len(missing) < 2 or not self._reading.acquire(blocking=False):
            return
        threading.Thread(target=self._follow, args=(catalog, np.array(missing)), name="imagelake-thumbnails").start()

    def _follow(self, catalog: Catalog, rows: NDArray[np.int64]) -> None:
        try:
            self._read(catalog, rows)
        except (ImagelakeError, OSError) as error:  # whoever asks for one of them reads it again, and is told
            _LOG.info("thumbnails could not be read ahead: %s", error)
        finally:
            self._reading.release()

    def _read(self, catalog: Catalog, rows: NDArray[np.int64]) -> None:
        wanted = catalog.row_ids[rows].tolist()
        found = self._tables.images.take(wanted, ["_rowid", "thumbnail"])
        keys = dict(zip(wanted, catalog.keys[rows].tolist(), strict=True))
        for row_id, data in zip(found["_rowid"].to_pylist(), found["thumbnail"].to_pylist(), strict=True):
            if data is not None:
                self._put(keys[row_id], data)

    def _get(self, key: int) -> bytes | None:
        with self._lock:
            found = self._known.get(key)
            if found is not None:
                self._known.move_to_end(key)
            return found

    def _put(self, key: int, data: bytes) -> None:
        with self._lock:
            self._size += len(data) - len(self._known.pop(key, b""))
            self._known[key] = data
            while self._size > _KEPT_BYTES and len(self._known) > 1:
                self._size -= len(self._known.popitem(last=False)[1])
