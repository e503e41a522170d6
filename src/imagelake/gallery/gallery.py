"""A lake that is looked at by many people at once; it follows what is added to it."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING

from imagelake.errors import ImagelakeError
from imagelake.gallery.catalog import Catalog, read_catalog
from imagelake.gallery.orders import prepare
from imagelake.gallery.text_filter import prepare_text
from imagelake.gallery.thumbnails import Thumbnails

if TYPE_CHECKING:
    from imagelake.lake.tables import Tables
    from imagelake.run.lake_view import LakeViewOfTables

_LOG = logging.getLogger(__name__)
_LOOK_S = 1.0  # how often the tables are looked at
_SHARE = 0.1  # of the time, at most, goes into following what changes all the time
_PATIENCE_S = 0.2  # how long whoever saw a change waits for it; a larger lake's comes later


class Gallery:
    """What the page shows of a lake. Every part of it is a function that takes this, in a file of its own.

    The images are read beside those that are shown, in a thread that ends when they are there; a process that ends
    waits for it, for half a read cannot be cut off safely.

    A class because it keeps what is open.

    Attributes:
        tables: of the lake.
        view: its search; None where no image has a vector yet.
        thumbnails: those that were asked for last.
    """

    def __init__(self, tables: Tables, view: LakeViewOfTables | None) -> None:
        self.tables = tables
        self.view = view
        self.thumbnails = Thumbnails(tables)
        self._lock = threading.Lock()
        self._look_at = 0.0
        self._changed = False  # by ourselves, since the last read began
        self._catalog: Catalog | None = None
        self._reading: Future[Catalog] | None = None
        with self._lock:
            self._read()

    def catalog(self) -> Catalog:
        """The images as they are now, or were a moment ago.

        A request that asks twice may get two: take it once, and hand it to the functions that take one.

        Raises:
            LakeError: they cannot be read, and never could.
        """
        with self._lock:
            known, reading = self._catalog, self._reading
            if reading is None and (known is None or time.monotonic() >= self._look_at):
                reading = self._read()
        if known is None:
            return reading.result() if reading is not None else self.catalog()
        if reading is not None:
            wait([reading], timeout=_PATIENCE_S)
        return self._catalog or known

    def changed(self) -> None:
        """Tell that the lake was changed from here: the next catalog is looked for at once, not a moment later."""
        with self._lock:
            self._look_at, self._changed = 0.0, True

    def seen(self) -> Catalog:
        """The images as they were when somebody looked last, without a look: for what is asked very often.

        Raises:
            LakeError: they cannot be read, and never could.
        """
        return self._catalog or self.catalog()

    def thumbnail(self, row: int, catalog: Catalog | None = None) -> bytes | None:
        """The small JPEG of an image of the catalog; None where it was deleted or has none."""
        return self.thumbnails.of(catalog or self.catalog(), row)

    def _read(self) -> Future[Catalog]:
        """Begin to read; called with the lock."""
        reading: Future[Catalog] = Future()
        self._reading, self._changed = reading, False
        threading.Thread(target=self._follow, args=(reading,), name="imagelake-catalog").start()
        return reading

    def _follow(self, reading: Future[Catalog]) -> None:
        before, began = self._catalog, time.monotonic()
        found = before
        failure: Exception | None = None
        try:
            found = read_catalog(self.tables, before)
        except (ImagelakeError, OSError) as error:
            failure = error
            _LOG.warning("the lake cannot be read: %s", error)
        except Exception as error:  # noqa: BLE001  (what was read before goes on being shown)
            failure = error
            _LOG.exception("the lake could not be followed")
        now = time.monotonic()
        with self._lock:
            self._catalog, self._reading = found, None
            pause = 0.0 if self._changed or found is None else max(_LOOK_S, (now - began) / _SHARE)
            self._look_at = now + pause
        if found is not None:
            reading.set_result(found)
        elif failure is not None:
            reading.set_exception(failure)
        if found is not None and found is not before:
            self._prepare(found, before)

    def _prepare(self, found: Catalog, before: Catalog | None) -> None:
        """Make what lists and words need, so that nobody waits for it."""
        try:
            prepare(found)
            if threading.main_thread().is_alive():  # else the process ends, and nobody asks any more
                prepare_text(self.tables, found, before)
        except (ImagelakeError, OSError) as error:
            _LOG.warning("the words of the lake cannot be read: %s", error)
