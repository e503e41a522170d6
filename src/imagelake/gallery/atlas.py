"""The embedding map of a lake that people look at: its points as they are now, and the making of maps."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imagelake.errors import BusyError, ImagelakeError, InputError, MissingExtraError
from imagelake.gallery import umap_layout
from imagelake.gallery.catalog import Catalog, keys_of
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.kept_projections import Kept, Told
from imagelake.gallery.projecting import (
    METHODS,
    better_made_again,
    check_method,
    find,
    is_kept,
    make,
    outgrown,
    place,
    sets_of,
)

_LOG = logging.getLogger(__name__)
_STARTS_S, _EACH_S = {"pca": 1.0, "umap": 15.0}, {"pca": 1e-4, "umap": 4e-3}  # about, on two slow cores


@dataclass(frozen=True)
class Points:
    """A map as it is shown.

    Attributes:
        mark: differs whenever the points do.
        keys: the first 64 bits of the id of each image, uint64 [n], ascending.
        xy: float32 [n, 2].
        total: how many images have a vector.
        told: of the map.
        kept: whether the lake keeps it.
        outgrown: whether it is better made again, for the many images that came since.
    """

    mark: str
    keys: NDArray[np.uint64]
    xy: NDArray[np.float32]
    total: int
    told: Told
    kept: bool
    outgrown: bool = False

    def numbers_of(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Which point each image is, int64; -1: none."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found: NDArray[np.int64] = np.where(self.keys[at] == keys, at, -1)
        return found


@dataclass
class Job:
    """The making of one map. A class because it goes on.

    Attributes:
        state: `"running"`, `"done"` or `"failed"`.
        task: what is done now, and `share` how much of it.
        error: why it failed.
    """

    embedding_set: str
    method: str
    state: str = "running"
    task: str = "vectors"
    share: float = 0.0
    error: str | None = None
    began: float = field(default_factory=time.monotonic)
    ended: threading.Event = field(default_factory=threading.Event)

    def as_json(self) -> dict[str, Any]:
        """What the page shows."""
        return {
            "set": self.embedding_set, "method": self.method, "state": self.state, "task": self.task,
            "share": round(self.share, 3), "error": self.error, "seconds": round(time.monotonic() - self.began, 1),
        }  # fmt: skip


class Atlas:
    """The maps of one lake, one of which is made at a time. A class because it keeps what was read."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._lock = threading.Lock()  # for the two below
        self._job: Job | None = None
        self._kept: dict[tuple[str, str], Kept] = {}
        self._reading = threading.Lock()  # one thread reads or places at a time
        self._shown: dict[tuple[str, str], tuple[str, Points]] = {}

    def about(self) -> dict[str, Any]:
        """The sets, the methods, and what is being made."""
        catalog = self._gallery.catalog()
        sets = [{"name": name, "images": len(catalog.sets.get(name, ()))} for name in sets_of(self._gallery.tables)]
        names = [str(each["name"]) for each in sets]
        return {
            "sets": sets, "set": self._default_set(names), "methods": [_method(name) for name in METHODS],
            "region_sets": [name for name in self._gallery.tables.embedding_sets() if name not in names],
            "job": self.job(),
        }  # fmt: skip

    def job(self) -> dict[str, Any] | None:
        """The map that is being made, or was last."""
        with self._lock:
            return None if self._job is None else self._job.as_json()

    def choose_set(self, asked: str | None) -> str:
        """The set that is asked for, or the one that is searched, or the first.

        Raises:
            InputError: there is none.
        """
        known = sets_of(self._gallery.tables)
        chosen = asked or self._default_set(known)
        if chosen is None or chosen not in known:
            raise InputError(
                f"This lake has no embedding set {(asked or '')[:80]!r} of whole images. It has: "
                f"{', '.join(known) or 'none yet; run `imagelake extract --lake ' + self._gallery.tables.root + '`'}."
            )
        return chosen

    def points(self, embedding_set: str, method: str, *, patience_s: float = 3.0) -> Points | Job:
        """A map as it is now. The first one by PCA is made for it; where that takes longer, what is under way.

        Raises:
            InputError: there is no such method, or the map is to be made first.
        """
        catalog, key = self._gallery.catalog(), (embedding_set, check_method(method))
        shown = self._shown.get(key)
        if shown and shown[0] == catalog.mark:
            return shown[1]
        with self._reading:
            kept = self._newest(key, len(catalog.sets.get(embedding_set, ())))
            if kept is not None:
                return self._show(key, kept, catalog)
        if method != "pca":
            raise InputError(f"The map by {method} is not made yet. Make it: imagelake map --method {method}")
        job = self.make(embedding_set, method)
        if not job.ended.wait(patience_s):
            return job
        if job.error:
            raise InputError(job.error)
        with self._reading:
            return self._show(key, self._kept[key], self._gallery.catalog())

    def make(self, embedding_set: str, method: str) -> Job:
        """Begin to make a map, in a thread that ends with it; the same one that is being made is not begun again.

        Raises:
            BusyError: another one is being made.
            MissingExtraError: the extra of the method is not installed.
            InputError: there is no such method.
        """
        if check_method(method) == "umap":
            umap_layout.check_installed()
        with self._lock:
            running = self._job if self._job and self._job.state == "running" else None
            if running and (running.embedding_set, running.method) != (embedding_set, method):
                raise BusyError(
                    f"The map of {running.embedding_set} by {running.method} is being made; ask again when it is."
                )
            if running:
                return running
            self._job = Job(embedding_set, method)
            threading.Thread(target=self._work, args=(self._job,), name="imagelake-map", daemon=True).start()
            return self._job

    def is_made(self, embedding_set: str, method: str) -> bool:
        """Whether a map is there to be shown."""
        key = (embedding_set, method)
        return key in self._kept or is_kept(self._gallery.tables, *key)

    def _work(self, job: Job) -> None:
        def told(task: str, share: float) -> None:
            job.task, job.share = task, share

        try:
            made = make(self._gallery.tables, job.embedding_set, job.method, told)
            with self._reading:
                self._kept[job.embedding_set, job.method] = made
                self._shown.pop((job.embedding_set, job.method), None)
            job.state = "done"
        except (ImagelakeError, OSError) as error:
            job.error, job.state = str(error), "failed"
        except Exception:  # noqa: BLE001  (a defect of ours is for the log; the page says that it failed)
            _LOG.exception("the map could not be made")
            job.error, job.state = "The map could not be made; the server's log says why.", "failed"
        finally:
            job.ended.set()

    def _newest(self, key: tuple[str, str], total: int) -> Kept | None:
        """What the lake keeps, where it is not another map than the one in memory; that otherwise."""
        kept, held = find(self._gallery.tables, *key), self._kept.get(key)
        if held is not None and (kept is None or kept.told.projection == held.told.projection):
            kept = held if len(held.ids) >= (0 if kept is None else len(kept.ids)) else kept
        return None if kept is None or outgrown(kept, total) else kept

    def _show(self, key: tuple[str, str], kept: Kept, catalog: Catalog) -> Points:
        rows = catalog.sets.get(key[0], np.empty(0, np.int64))
        kept = place(self._gallery.tables, key[0], kept, catalog.ids_of(rows))
        self._kept[key] = kept
        points = points_of(kept, catalog, rows)
        self._shown[key] = (catalog.mark, points)
        return points

    def _default_set(self, known: list[str]) -> str | None:
        view = self._gallery.view
        if view is not None and view.embedding_set in known:
            return view.embedding_set
        return known[0] if known else None


def points_of(kept: Kept, catalog: Catalog, rows: NDArray[np.int64]) -> Points:
    """Those points whose image is there and has a vector, by ascending key."""
    keys = keys_of(pa.array(kept.ids, pa.string())) if kept.ids else np.empty(0, np.uint64)
    good = np.isin(keys, catalog.keys[rows])
    order = np.argsort(keys[good], kind="stable")
    keys, xy = keys[good][order], np.ascontiguousarray(kept.points[good][order])
    mark = hashlib.sha256(kept.told.projection.encode() + keys.tobytes()).hexdigest()[:16]
    return Points(mark, keys, xy, len(rows), kept.told, kept.kept, better_made_again(kept, len(rows)))


def _method(name: str) -> dict[str, Any]:
    there = name != "umap" or umap_layout.is_installed()
    found: dict[str, Any] = {"name": name, "available": there, "starts_s": _STARTS_S[name], "each_s": _EACH_S[name]}
    if not there:
        try:
            umap_layout.check_installed()
        except MissingExtraError as error:
            found["install"] = str(error)
    return found
