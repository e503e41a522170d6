"""After pictures were sent, vectors for them, in the background: then they can be searched."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Literal

from imagelake.errors import ImagelakeError
from imagelake.gallery.gallery import Gallery
from imagelake.models.manifest import Manifest
from imagelake.models.zoo import default_manifest
from imagelake.run.extract import count_waiting, extract, set_name
from imagelake.run.outcome import Outcome
from imagelake.steps.pipeline import Pipeline

_LOG = logging.getLogger(__name__)
_QUIET_S = 1.0  # nothing came for so long: then it begins
_MOST = 2_000  # more images without a vector are work for the command line


class CatchingUp:
    """Extracts what was sent, once nothing more comes. A class because it is a thread and what it has to tell.

    It does so with the default model alone, where that made the vectors that are searched: it is at hand then, and
    needs nothing from elsewhere. For another model it says what to run.
    """

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._lock = threading.Lock()
        self._last = 0.0
        self._thread: threading.Thread | None = None
        self._state: dict[str, Any] = {"state": "idle"}

    def told(self) -> dict[str, Any]:
        """`state` is `idle`, `waiting`, `working`, `done` or `told`, and then `run` says what to run."""
        return dict(self._state)

    def more(self) -> None:
        """A picture came in."""
        with self._lock:
            self._last = time.monotonic()
            if self._thread is None:
                self._state = {"state": "waiting"}
                self._thread = threading.Thread(target=self._work, name="imagelake-catching-up", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                left = self._last + _QUIET_S - time.monotonic()
                began = self._last
            if left > 0:
                time.sleep(left)
                continue
            self._state = self._extracted()
            with self._lock:
                if self._last == began:
                    self._thread = None
                    return

    def _extracted(self) -> dict[str, Any]:
        tables, view = self._gallery.tables, self._gallery.view
        advice = {"state": "told", "run": f"imagelake extract --lake {tables.root.rpartition('/')[2]}"}
        try:
            manifest = None if view is None else _default_of(view.embedding_set)
            if view is None or manifest is None:
                return advice
            pipeline = Pipeline(embed=manifest)
            _, waiting = count_waiting(tables.images, Outcome(pipeline).done(tables))
            if waiting > _MOST:
                return advice
            self._state = {"state": "working", "images": waiting}
            report = extract(tables, pipeline)
        except ImagelakeError as error:
            _LOG.warning("what was uploaded has no vectors yet: %s", error)
            return advice
        return {"state": "done", "images": report.added}


def _default_of(embedding_set: str) -> Manifest | None:
    """The default model, in the precision that made a set; None where another model did."""
    precisions: tuple[Literal["int8", "fp32"], ...] = ("int8", "fp32")
    made = (default_manifest(precision) for precision in precisions)
    return next((each for each in made if set_name(each) == embedding_set), None)
