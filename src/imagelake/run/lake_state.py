"""One state of an embedding set that many threads search: it never changes, a newer one takes its place."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from imagelake.errors import InputError, SearchError
from imagelake.lake.ids import IdRows
from imagelake.lake.sql import matching_ids
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables, manifest_text
from imagelake.models.choice import metric_of, read_text
from imagelake.run.search import Match, place_of
from imagelake.run.vector_index import open_index
from imagelake.search.index import ExactIndex

_PREDICATES = 32  # whose rows are remembered
_PREDICATE_S = 5.0
_PREDICATE_KEPT_S = 10.0
_PREDICATES_AT_ONCE = threading.BoundedSemaphore(2)  # each takes all processors
_SCAN_ROWS = 65_536

Mask = npt.NDArray[np.bool_]


@dataclass
class _Masks:
    """Which rows of the index a predicate holds for; those of the last ones, for a while: one may name the time."""

    known: OrderedDict[str, tuple[float, Mask]] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, where: str) -> Mask | None:
        with self.lock:
            made_at, mask = self.known.get(where, (-math.inf, None))
            if mask is None or time.monotonic() - made_at > _PREDICATE_KEPT_S:
                return None
            self.known.move_to_end(where)
            return mask

    def put(self, where: str, mask: Mask) -> None:
        with self.lock:
            self.known[where] = time.monotonic(), mask
            while len(self.known) > _PREDICATES:
                self.known.popitem(last=False)


@dataclass(frozen=True)
class LakeState:
    """An embedding set and the images as they were at one moment.

    Attributes:
        tables: of the lake.
        marks: fingerprints of the tables that this was made from.
        vectors: the embedding set.
        index: its index, without the vectors of deleted images.
        images: where each image is in its table.
        regions: where each region is in its table; None where whole pictures are compared.
        image_ids: the image of each row of the index, strings [n].
    """

    tables: Tables
    marks: tuple[str, str]
    vectors: Table
    index: ExactIndex
    images: IdRows
    regions: IdRows | None
    image_ids: pa.Array
    masks: _Masks = field(default_factory=_Masks)

    def of_image(self, image_id: str) -> npt.NDArray[np.int64]:
        """The rows of the index that are of an image."""
        return np.flatnonzero(pc.equal(self.image_ids, image_id).to_numpy(zero_copy_only=False))

    def vector_of(self, image_id: str) -> npt.NDArray[np.float32] | None:
        """The vector of an image, float32 [d]: of its region with the highest score in a set of regions."""
        if self.regions is None:
            try:
                return np.asarray(self.index.vectors_of([image_id])[0], np.float32)
            except SearchError:
                return None
        ids = self.index.ids[self.of_image(image_id)].tolist()
        if not ids:
            return None
        told = self.region_rows(ids)
        best = min(ids, key=lambda name: (-(told.get(name, {}).get("score") or 0.0), name))
        return np.asarray(self.index.vectors_of([best])[0], np.float32)

    def region_rows(self, ids: list[str]) -> dict[str, dict[str, Any]]:
        """What the table of regions says of these."""
        if self.regions is None:
            return {}
        rows = self.regions.rows_of(pa.array(ids, pa.string()))
        columns = ["id", "image_id", "box_xyxy", "label", "score"]
        return {row["id"]: row for row in self.tables.regions.take(rows[rows >= 0].tolist(), columns).to_pylist()}

    def allowed(self, where: str | None) -> Mask | None:
        """Which rows of the index may be found.

        Raises:
            InputError: the predicate is wrong.
        """
        if where is None:
            return None
        mask = self.masks.get(where)
        if mask is None:
            with _PREDICATES_AT_ONCE:
                ids = matching_ids(self.tables, where, time_limit_s=_PREDICATE_S)
            mask = np.asarray(pc.is_in(self.image_ids, value_set=ids).to_numpy(zero_copy_only=False), np.bool_)
            self.masks.put(where, mask)
        return mask

    def nearest(
        self, vectors: npt.NDArray[np.float32], k: int, where: str | None, without: list[str | None]
    ) -> list[list[Match]] | None:
        """The nearest to each vector, float32 [n, d]: one search for all.

        Args:
            vectors: the queries.
            k: how many.
            where: only images for which this holds.
            without: an image not to be found by each query.

        Returns:
            The matches of each query, by (distance, id); None where an image was deleted since.

        Raises:
            InputError: the vectors or the predicate do not fit.
        """
        own = [
            len(self.of_image(name)) if name is not None and self.regions is not None else int(name is not None)
            for name in without
        ]
        most = min(k + max(own, default=0), len(self.index))
        try:
            found = self.index.search(vectors, most, allowed=self.allowed(where))
        except SearchError as error:
            raise InputError(f"The query cannot be searched: {error}") from error
        names = list(dict.fromkeys(found.ids.ravel().tolist()))
        regions = self.region_rows(names)
        lies_in = {name: str(regions[name]["image_id"]) if name in regions else name for name in names}
        uris = self.uris_of(list(dict.fromkeys(lies_in.values())))
        if any(image_id not in uris for image_id in lies_in.values()):
            return None
        answers = []
        for distances, ids, left_out in zip(found.distances.tolist(), found.ids.tolist(), without, strict=True):
            matches = [
                Match(lies_in[name], uris[lies_in[name]], distance, *place_of(regions.get(name)))
                for name, distance in zip(ids, distances, strict=True)
                if lies_in[name] != left_out
            ]
            answers.append(matches[:k])
        return answers

    def uris_of(self, image_ids: list[str]) -> dict[str, str]:
        """The URI that each image was first seen under; one that was deleted is missing."""
        rows = self.images.rows_of(pa.array(image_ids, pa.string()))
        found = self.tables.images.take(rows[rows >= 0].tolist(), ["id", "uris"]).to_pylist()
        return {row["id"]: row["uris"][0] if row["uris"] else "" for row in found}


def marks_of(tables: Tables, embedding_set: str) -> tuple[str, str]:
    """Differ whenever the state does."""
    return tables.embeddings(embedding_set).fingerprint(), tables.images.fingerprint()


def read_state(tables: Tables, embedding_set: str) -> LakeState:
    """The embedding set and the images as they are now.

    Raises:
        LakeError: they cannot be read.
    """
    marks = marks_of(tables, embedding_set)
    vectors = tables.embeddings(embedding_set)
    images = _rows_of(tables.images)
    regions = _rows_of(tables.regions) if "image_id" in vectors.schema.names else None
    index = open_index(tables, embedding_set, metric_of(read_text(manifest_text(vectors))))
    ids = pa.array(index.ids.tolist(), pa.string())
    image_ids = ids if regions is None else _image_ids(vectors, ids)
    alive = images.rows_of(image_ids) >= 0
    if not alive.all():
        index.remove(index.ids[~alive])
        image_ids = image_ids.filter(pa.array(alive))
    if len(index):
        index.search(index.vectors_of(index.ids[:1]), 1)  # what the first search makes is made before it
    return LakeState(tables, marks, vectors, index, images, regions, image_ids)


def _rows_of(table: Table) -> IdRows:
    ids, rows = [], [np.empty(0, np.int64)]
    for batch in table.scan(["id"], batch_rows=_SCAN_ROWS, row_ids=True):
        ids.append(batch.column("id"))
        rows.append(batch.column("_rowid").to_numpy(zero_copy_only=False).astype(np.int64))
    return IdRows(ids, np.concatenate(rows))


def _image_ids(vectors: Table, ids: pa.Array) -> pa.Array:
    """The image that each of these regions lies in; zeros for one that is no more."""
    told = vectors.read(["id", "image_id"])
    place = pc.index_in(ids, value_set=told.column("id").combine_chunks())
    return pc.fill_null(told.column("image_id").combine_chunks().take(place), "0" * 64)
