"""Groups of duplicates while people look at them: found once in the background, kept, and followed."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from imagelake.errors import BusyError, ImagelakeError
from imagelake.gallery.copies_choice import FileGroup, file_groups
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.selection import Selection, rows_of
from imagelake.run.duplicates import DuplicateOptions, DuplicateReport, duplicates

_LOG = logging.getLogger(__name__)
_KEPT = 3  # reports, each with all its groups
_MOST_WAITING = 8  # searches with other options each
_FORSAKEN_S = 30.0  # a search that nobody has asked about for so long ends


class _ForsakenError(Exception):
    """Nobody waits for it."""


@dataclass(frozen=True)
class Found:
    """The groups of a lake as it was.

    Attributes:
        options: what counted as a duplicate.
        mark: of the catalog then.
        report: as `run.duplicates` makes it.
        groups: its groups, file by file.
        by_key: the place of each group, by its key.
        made_at: when, UTC.
        seconds: how long it took.
    """

    options: DuplicateOptions
    mark: str
    report: DuplicateReport
    groups: list[FileGroup]
    by_key: dict[str, int]
    made_at: datetime
    seconds: float


@dataclass
class _Search:
    """One that goes on; a class that changes. It is told as `Progress`."""

    options: DuplicateOptions
    total: int = 0
    done: int = 0
    asked_at: float = field(default_factory=time.monotonic)
    failed: str | None = None

    def start(self, task: str, total: int | None) -> None:
        """As `Progress`."""
        del task
        self.total = total or 0

    def advance(self, count: int) -> None:
        """As `Progress`."""
        self.done += count
        if time.monotonic() - self.asked_at > _FORSAKEN_S:
            raise _ForsakenError

    def reject(self, count: int) -> None:
        """As `Progress`."""

    def say(self, message: str) -> None:
        """As `Progress`."""


class Copies:
    """Finds duplicates for many who look, one search at a time. A class because it keeps what was found.

    Args:
        gallery: of the lake.
    """

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._lock = threading.Lock()
        self._found: OrderedDict[DuplicateOptions, Found] = OrderedDict()
        self._searches: OrderedDict[DuplicateOptions, _Search] = OrderedDict()
        self._thread: threading.Thread | None = None

    def find(self, options: DuplicateOptions, *, again: bool = False) -> tuple[Found | None, dict[str, Any]]:
        """What was found with these options, and how it stands; a search begins where there is nothing yet.

        Args:
            options: what counts as a duplicate.
            again: search once more where the lake has changed since.

        Returns:
            The groups, of an older state of the lake where it has changed; and `{"state"}`: `ready`, or `working` with
            `done` and `total` images, or `failed` with the reason in `error`. `changed` says whether the lake has.
        """
        mark, images = self._gallery.catalog().mark, len(self._gallery.catalog())
        with self._lock:
            found = self._found.get(options)
            if found is not None:
                self._found.move_to_end(options)
            changed = found is not None and found.mark != mark
            search = self._searches.get(options)
            if search is not None and search.failed is not None:
                del self._searches[options]
                return found, {"state": "failed", "error": search.failed, "changed": changed}
            if search is None and (found is None or (again and changed)):
                search = self._begin(options)
            if search is None:
                return found, {"state": "ready", "changed": changed, "images_now": images}
            search.asked_at = time.monotonic()
            told = {"state": "working", "done": search.done, "total": search.total or images, "changed": changed}
            return found, told | {"images_now": images}

    def _begin(self, options: DuplicateOptions) -> _Search:
        """Line a search up; the lock is held.

        Raises:
            BusyError: too many wait.
        """
        if len(self._searches) >= _MOST_WAITING:
            failed = [key for key, each in self._searches.items() if each.failed is not None]
            for key in failed:
                del self._searches[key]
        if len(self._searches) >= _MOST_WAITING:
            raise BusyError("Other duplicates are being looked for already. Look again in a moment.")
        search = self._searches[options] = _Search(options)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="imagelake-duplicates", daemon=True)
            self._thread.start()
        return search

    def _work(self) -> None:
        while True:
            with self._lock:
                waiting = (each for each in self._searches.values() if each.failed is None)
                search = next(waiting, None)
                if search is None:
                    self._thread = None
                    return
            found = self._run(search)
            with self._lock:
                if found is not None:
                    self._found[search.options] = found
                    self._found.move_to_end(search.options)
                    while len(self._found) > _KEPT:
                        self._found.popitem(last=False)
                if search.failed is None:
                    del self._searches[search.options]

    def _run(self, search: _Search) -> Found | None:
        began, mark = time.monotonic(), self._gallery.catalog().mark
        try:
            search.advance(0)
            report = duplicates(self._gallery.tables, search.options, search)
        except _ForsakenError:
            return None
        except ImagelakeError as error:
            search.failed = str(error)
            return None
        except Exception as error:  # noqa: BLE001  (a defect of ours: whoever waits is told, and the log has it)
            _LOG.exception("duplicates were not found")
            search.failed = type(error).__name__
            return None
        groups = file_groups(report)
        by_key = {group.key: place for place, group in enumerate(groups)}
        seconds = time.monotonic() - began
        return Found(search.options, mark, report, groups, by_key, datetime.now(UTC), seconds)


def selected(gallery: Gallery, found: Found, selection: Selection) -> list[int]:
    """The places of those groups that have an image which is selected; all of them where nothing is chosen.

    Raises:
        InputError: the selection is wrong.
    """
    if not selection.text and not selection.where and not selection.facets:
        return list(range(len(found.groups)))
    catalog = gallery.catalog()
    passes = np.zeros(len(catalog) + 1, np.bool_)  # the last stands for images that are gone
    passes[rows_of(gallery, selection, catalog)] = True
    ids = [each.image.id for group in found.groups for each in group.files]
    passing = iter(passes[catalog.rows_of(ids)].tolist())
    return [place for place, group in enumerate(found.groups) if sum(next(passing) for _ in group.files)]
