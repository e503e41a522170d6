"""A lake that many threads search at once, and that follows what is added to it."""

from __future__ import annotations

import json
import logging
import math
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imagelake.errors import ImagelakeError, InputError
from imagelake.lake.tables import Tables, manifest_text
from imagelake.models.choice import read_text
from imagelake.models.manifest import Manifest
from imagelake.run.lake_state import LakeState, marks_of, read_state
from imagelake.run.query_embedding import Box, QueryEmbedder, check_box
from imagelake.run.search import Match, choose_set, no_vectors
from imagelake.schema import ID_LETTERS, IMAGES
from imagelake.steps.identify import content_id

_LOG = logging.getLogger(__name__)
_LOOK_S = 1.0  # how often the tables are looked at
_SHARE = 0.1  # of the time, at most, goes into following what changes all the time
_PATIENCE_S = 1.0  # how long the search that saw a change waits for it; a larger lake's comes later
_JSON = ("exif", "xmp", "iptc", "metadata")
_NOT_TOLD = ("thumbnail",)
_ID = re.compile(f"[0-9a-f]{{{ID_LETTERS}}}")
_SHOWN = 100
MAX_PIXELS = 64_000_000


class LakeViewOfTables:
    """Reads one lake for many threads: what `serve.lake_view.LakeView` asks for.

    Index and model are opened once and shared. Once a second at most, the search that comes looks whether the tables
    have changed; then a new state is read beside the old one, which goes on answering until the new one is there.

    A class because it keeps what is open.
    """

    def __init__(self, tables: Tables, embedding_set: str, max_pixels: int) -> None:
        self._tables = tables
        self._set = embedding_set
        self._state = read_state(tables, embedding_set)
        self._manifest_text = manifest_text(self._state.vectors)
        self._max_pixels = max_pixels
        self._embedder = self._open_embedder(self._state)
        self._lock = threading.Lock()
        self._look_at = time.monotonic() + _LOOK_S
        self._following: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="imagelake-follow")
        self._closed = False

    @property
    def dimensions(self) -> int:
        """The length of a vector of the set."""
        return int(self._state.index.dims)

    @property
    def embedding_set(self) -> str:
        """Its name."""
        return self._set

    @property
    def max_pixels(self) -> int:
        """A query picture with more is refused before it is decoded."""
        return self._max_pixels

    @property
    def model_mark(self) -> str:
        """Differs whenever query pictures get other vectors."""
        return self._manifest_text

    def state(self) -> LakeState:
        """What is searched now. It never changes: a newer one takes its place."""
        return self._current()

    def embed(self, picture: bytes, box_xyxy: Box | None = None) -> NDArray[np.float32]:
        """The vector of a picture, or of what is inside the box of it, float32 [d].

        Raises:
            ImageError: it is no picture.
            TooLargeError: it has too many pixels.
            InputError: that is no box.
            ModelError: the model of the set is not here any more.
        """
        if box_xyxy is None:
            found = self._embedder.of_pictures([picture])
        else:
            found = self._embedder.of_parts([picture], check_box(box_xyxy))
        vector: NDArray[np.float32] = found[0]
        return vector

    def close(self) -> None:
        """End what follows the lake."""
        with self._lock:
            self._closed = True
        self._thread.shutdown(cancel_futures=True)

    def search_pictures(
        self,
        pictures: Sequence[bytes],
        *,
        k: int,
        where: str | None = None,
        box_xyxy: Box | None = None,
        exclude_self: bool = False,
    ) -> list[list[Match]]:
        """The nearest to each picture, or to what is inside the box of it, ordered by (distance, id).

        Raises:
            ImageError: one is no picture.
            TooLargeError: one has too many pixels.
            InputError: `k`, the box or the predicate is wrong.
        """
        _check_k(k)
        state = self._current()
        names = [content_id(data) for data in pictures]
        if not pictures:
            return []
        if box_xyxy is not None:
            vectors = self._embedder.of_parts(pictures, check_box(box_xyxy))
        else:
            vectors = self._vectors_of(state, pictures, names)
        return self._nearest(state, vectors, k, where, [name if exclude_self else None for name in names])

    def search_vectors(self, vectors: NDArray[np.float32], *, k: int, where: str | None = None) -> list[list[Match]]:
        """The nearest to each vector, float32 [n, dimensions].

        Raises:
            InputError: the vectors, `k` or the predicate do not fit.
        """
        _check_k(k)
        given = np.asarray(vectors)
        if given.ndim != 2 or given.shape[1] != self.dimensions:
            raise InputError(
                f"Vectors of shape {list(given.shape)} were given; those of {self._set} have {self.dimensions} "
                f"numbers: give [n, {self.dimensions}]."
            )
        with np.errstate(over="ignore"):
            given = given.astype(np.float32, copy=False)
        if not np.isfinite(given).all():
            raise InputError("A vector has a value that is no finite number of float32. Give numbers.")
        return self._nearest(self._current(), given, k, where, [None] * len(given))

    def search_ids(
        self, ids: Sequence[str], *, k: int, where: str | None = None, exclude_self: bool = False
    ) -> list[list[Match]]:
        """The nearest to each image of the lake; to its best region in a set of regions.

        Raises:
            InputError: the lake has no such image, or it has no vector.
        """
        _check_k(k)
        state = self._current()
        vectors = []
        for image_id in ids:
            vector = state.vector_of(image_id) if _ID.fullmatch(image_id) else None
            if vector is None:
                raise InputError(
                    f"No image {image_id[:_SHOWN]!r} has a vector in this lake. Give the id of one that a search finds."
                )
            vectors.append(vector)
        if not vectors:
            return []
        return self._nearest(state, np.stack(vectors), k, where, [each if exclude_self else None for each in ids])

    def image(self, image_id: str) -> Mapping[str, Any] | None:
        """What the lake knows of an image, as JSON has it; None where there is none."""
        columns = [name for name in self._tables.images.schema.names if name in IMAGES.names and name not in _NOT_TOLD]
        row = self._row(image_id, columns)
        return None if row is None else {name: _as_json(name, value) for name, value in row.items()}

    def picture(self, image_id: str) -> tuple[bytes, str] | None:
        """The bytes of an image and their format, such as `"jpeg"`; None where there is none."""
        row = self._row(image_id, ["format", "_rowid"])
        if row is None:
            return None
        data = self._tables.images.read_bytes([row["_rowid"]])
        return None if not data or data[0] is None else (data[0], str(row["format"]))

    def thumbnail(self, image_id: str) -> bytes | None:
        """A small JPEG of an image; None where there is none."""
        row = self._row(image_id, ["thumbnail"])
        return None if row is None else row["thumbnail"]

    def count(self) -> int:
        """How many images there are."""
        return self._tables.images.count()

    def _row(self, image_id: str, columns: list[str]) -> dict[str, Any] | None:
        if not _ID.fullmatch(image_id):
            return None
        rows = self._current().images.rows_of(pa.array([image_id], pa.string()))
        if rows[0] < 0:
            return None
        found: list[dict[str, Any]] = self._tables.images.take(rows.tolist(), columns).to_pylist()
        return found[0] if found else None

    def _vectors_of(self, state: LakeState, pictures: Sequence[bytes], names: list[str]) -> NDArray[np.float32]:
        """The vectors of whole pictures: those of the lake have theirs already, the others are embedded."""
        known = [state.vector_of(name) for name in names]
        fresh = [number for number, vector in enumerate(known) if vector is None]
        if fresh:
            made = self._embedder.of_pictures([pictures[number] for number in fresh])
            for number, vector in zip(fresh, made, strict=True):
                known[number] = vector
        return np.stack([vector for vector in known if vector is not None])

    def _nearest(
        self,
        state: LakeState,
        vectors: NDArray[np.float32],
        k: int,
        where: str | None,
        without: list[str | None],
    ) -> list[list[Match]]:
        for _ in range(3):
            found = state.nearest(vectors, k, where, without)
            if found is not None:
                return found
            state = self._renewed()  # an image that is near was deleted a moment ago
        return [[]] * len(vectors)

    def _current(self) -> LakeState:
        """The state to search: a new one where the tables have changed, if it is there soon."""
        with self._lock:
            if self._closed or time.monotonic() < self._look_at:
                return self._state
            following = self._follow()
        wait([following], timeout=_PATIENCE_S)
        return self._state

    def _renewed(self) -> LakeState:
        """The state after all changes so far."""
        with self._lock:
            if self._closed:
                return self._state
            following = self._follow()  # after the one that is under way, if there is one
        wait([following])
        return self._state

    def _follow(self) -> Future[None]:
        """Begin to look at the tables; called with the lock."""
        self._look_at = math.inf
        self._following = self._thread.submit(self._look)
        return self._following

    def _look(self) -> None:
        began = time.monotonic()
        try:
            if marks_of(self._tables, self._set) != self._state.marks:
                self._take(read_state(self._tables, self._set))
        except (ImagelakeError, OSError) as error:
            _LOG.warning("the lake cannot be read, what was read before is searched: %s", error)
        except Exception:  # noqa: BLE001  (what was read before goes on answering)
            _LOG.exception("the lake could not be followed, what was read before is searched")
        finally:
            now = time.monotonic()
            with self._lock:
                self._look_at = now + max(_LOOK_S, (now - began) / _SHARE)

    def _take(self, state: LakeState) -> None:
        """Search this state from now on."""
        text = manifest_text(state.vectors)
        if text != self._manifest_text:  # the set was made again by another model
            self._manifest_text = text
            self._embedder = self._open_embedder(state)
        self._state = state

    def _open_embedder(self, state: LakeState) -> QueryEmbedder:
        return QueryEmbedder(state.vectors, read_text(self._manifest_text), max_pixels=self._max_pixels)


def open_lake_view(
    tables: Tables, *, embedding_set: str | None = None, default: Manifest, max_pixels: int = MAX_PIXELS
) -> LakeViewOfTables:
    """Open a lake for many threads.

    Args:
        tables: of the lake.
        embedding_set: which vectors to search; None: those of the default model, or the only set; `"regions"`: the only
            set of regions.
        default: the default model.
        max_pixels: a query picture with more is refused before it is decoded.

    Raises:
        InputError: there is no such set, there are several, or no image has a vector yet.
    """
    chosen = choose_set(tables, embedding_set, default)
    if tables.embeddings(chosen).count() == 0:
        raise no_vectors(tables)
    return LakeViewOfTables(tables, chosen, max_pixels)


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError(f"k is {k}; it must be 1 or more.")


def _as_json(name: str, value: Any) -> Any:
    """A value of a column as JSON has it: times in ISO 8601, what is JSON already as itself, no NaN."""
    if isinstance(value, datetime):
        return value.isoformat()
    if name in _JSON and isinstance(value, str):
        try:
            return _finite(json.loads(value))
        except (ValueError, RecursionError):
            return value
    return _finite(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return value
