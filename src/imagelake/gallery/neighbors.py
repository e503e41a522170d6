"""The images that are nearest to a picture or to a part of one; how near that is, and what is proven."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.gallery import calibration
from imagelake.gallery.catalog import Catalog, keys_of
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.neighbor_sets import Codes, NeighborSets
from imagelake.gallery.selection import Selection, rows_of
from imagelake.run.lake_state import LakeState
from imagelake.run.lake_view import LakeViewOfTables
from imagelake.run.query_embedding import Box
from imagelake.run.search import no_vectors, place_of
from imagelake.steps.identify import content_id

MOST = 200
"""The most matches of one search."""

_DEPTH = 10  # times k: so many of the nearest codes are compared again by their vectors
_LEAST_DEPTH = 500
_VECTORS = 256  # of pictures that are no images of the lake, remembered
_SEED = 20

Mask = NDArray[np.bool_]
Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Query:
    """What is looked for: an image of the lake, or a picture; or a part of either.

    Attributes:
        image_id: of the image; None: `picture` is looked for.
        picture: the bytes of a picture.
        box_xyxy: the part, in [0, 1] of the upright picture; None: all of it.
    """

    image_id: str | None = None
    picture: bytes | None = None
    box_xyxy: Box | None = None


@dataclass(frozen=True)
class NeighborOptions:
    """How to look.

    Attributes:
        k: how many matches, 1 to `MOST`.
        embedding_set: which vectors; None: those that the lake is served with.
        codes: whether binary codes choose who is compared.
        selection: the images that may be found.
    """

    k: int = 30
    embedding_set: str | None = None
    codes: bool = False
    selection: Selection = field(default_factory=Selection)


@dataclass(frozen=True)
class Neighbor:
    """One image, or a region of it.

    Attributes:
        id: of the image.
        distance: of the vectors, by the metric of the set.
        by_chance: how many of the images searched one would expect this near by chance; None: not known.
        bar: how long its bar is, 0 to 1, the cut-off at `calibration.LINE`; None: not known.
        box_xyxy: the region, in [0, 1] of the upright picture; None where the whole picture was compared.
        label: what the detector calls the region.
    """

    id: str
    distance: float
    by_chance: float | None
    bar: float | None
    box_xyxy: Box | None = None
    label: str | None = None


@dataclass(frozen=True)
class Neighbors:
    """What was found.

    Attributes:
        matches: by (distance, id).
        better: how many of them, from the first, are nearer than chance; None: not known.
        embedding_set: whose vectors were compared.
        metric: how.
        searched: how many vectors might have been found.
        images: of how many images these are.
        sampled: how many vectors chance was estimated from; 0: too few, or all equally far.
        certified: whether it is proven that no other of those is nearer.
        measured: how many of them were measured in float64; the others were ruled out by a bound, or by their codes.
        in_lake: the image of the lake that the query is; None: it is none, or a part of one.
    """

    matches: list[Neighbor]
    better: int | None
    embedding_set: str
    metric: str
    searched: int
    images: int
    sampled: int
    certified: bool
    measured: int
    in_lake: str | None


@dataclass(frozen=True)
class _Rows:
    """The rows of an index beside those of a catalog, and the sample that stands for the lake.

    Attributes:
        row_of: the row of the catalog of each row of the index, int64 [n]; -1 where it is not there.
        sample: some rows of the index, int64 [m].
        vectors: of the sample, as `calibration.distances_to` takes them, float32 [m, d].
    """

    catalog: Catalog
    row_of: NDArray[np.int64]
    sample: NDArray[np.int64]
    vectors: NDArray[Any]


class NeighborSearch:
    """Searches a lake for many threads. A class because it keeps what is open.

    Attributes:
        gallery: of the lake.
        sets: its embedding sets.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self.sets = NeighborSets(gallery)
        self._lock = threading.Lock()
        self._rows: OrderedDict[tuple[str, ...], _Rows] = OrderedDict()
        self._vectors: OrderedDict[tuple[Any, ...], Vector] = OrderedDict()

    def find(self, query: Query, options: NeighborOptions) -> Neighbors:
        """The nearest to a query, ordered by (distance, id); without the query itself where it is an image of the lake.

        Raises:
            InputError: there are no vectors, the image has none, or `k`, box, set or selection are wrong.
            ImageError: it is no picture.
            TooLargeError: it has too many pixels.
            ModelError: the model of the set is not here any more.
        """
        if not 1 <= options.k <= MOST:
            raise InputError(f"k is {options.k}; give 1 to {MOST}.")
        if self.gallery.view is None:
            raise no_vectors(self.gallery.tables)
        view = self.sets.view(options.embedding_set)
        state = view.state()
        vector, known = self._vector(view, state, query)
        rows = self._rows_beside(view.embedding_set, state)
        own = None if query.image_id is None else _of_image(rows, query.image_id)
        allowed = self._allowed(rows, options.selection)
        if own is not None and allowed is not None:
            allowed &= ~own
        extra = int(own.sum()) if own is not None and allowed is None else 0  # quicker than a mask of all but one
        codes = self.sets.codes(view.embedding_set, state) if options.codes else None
        distances, names, certified, measured = _nearest(state, codes, vector, options.k + extra, allowed)
        searched = len(state.index) - extra if allowed is None else int(allowed.sum())
        told = state.region_rows(names)
        images = [str(told[name]["image_id"]) if name in told else name for name in names]
        near = [each for each in zip(distances, names, images, strict=True) if not extra or each[2] != query.image_id]
        background, sampled = _background(rows, state, vector, query.image_id or known)
        matches = _matches(near[: options.k], told, background, searched)
        return Neighbors(
            matches=matches,
            better=None
            if background is None
            else sum(each.by_chance < 1 for each in matches if each.by_chance is not None),
            embedding_set=view.embedding_set,
            metric=state.index.metric,
            searched=searched,
            images=_images(rows, state, allowed, query.image_id if extra else None),
            sampled=sampled,
            certified=certified,
            measured=measured,
            in_lake=known,
        )

    def warm(self) -> None:
        """Make now what the first search would have to make."""
        view = self.gallery.view
        if view is not None:
            self._rows_beside(view.embedding_set, view.state())

    def close(self) -> None:
        """End what follows the lake."""
        self.sets.close()

    def _vector(self, view: LakeViewOfTables, state: LakeState, query: Query) -> tuple[Vector, str | None]:
        """The vector of a query, and the image of the lake that it is."""
        picture, known = query.picture, query.image_id
        if query.image_id is not None and query.box_xyxy is None:
            vector = state.vector_of(query.image_id)
            if vector is None:
                raise InputError(
                    f"The image {query.image_id[:12]} has no vector in {view.embedding_set}. Run: imagelake extract"
                )
            return vector, known
        if query.image_id is not None:
            found = view.picture(query.image_id)
            picture = None if found is None else found[0]
        if picture is None:
            raise InputError("Nothing is looked for: give a picture, or an image of the lake.")
        name = known or content_id(picture)
        if query.box_xyxy is None:
            vector = state.vector_of(name)
            if vector is not None:
                return vector, name
        return self._embedded(view, picture, name, query.box_xyxy), None

    def _embedded(self, view: LakeViewOfTables, picture: bytes, name: str, box: Box | None) -> Vector:
        """The vector that the model gives, remembered: the next search may differ in its selection only."""
        key = (view.embedding_set, view.model_mark, name, box)
        with self._lock:
            vector = self._vectors.get(key)
        if vector is None:
            vector = view.embed(picture, box)
            with self._lock:
                self._vectors[key] = vector
                while len(self._vectors) > _VECTORS:
                    self._vectors.popitem(last=False)
        return vector

    def _rows_beside(self, name: str, state: LakeState) -> _Rows:
        catalog = self.gallery.catalog()
        key = (name, catalog.mark, *state.marks)
        with self._lock:
            rows = self._rows.get(key)
        if rows is None:
            rows = _read_rows(catalog, state)
            with self._lock:
                for other in [each for each in self._rows if each[0] == name]:
                    del self._rows[other]
                self._rows[key] = rows
        return rows

    def _allowed(self, rows: _Rows, selection: Selection) -> Mask | None:
        """Which rows of the index may be found; None: all."""
        allowed: Mask = rows.row_of >= 0
        if selection.text or selection.where or selection.facets:
            chosen = np.zeros(len(rows.catalog), np.bool_)
            chosen[rows_of(self.gallery, selection, rows.catalog)] = True
            allowed &= chosen[rows.row_of] if len(chosen) else False
        return None if allowed.all() else allowed


def _read_rows(catalog: Catalog, state: LakeState) -> _Rows:
    row_of = catalog.rows_of_keys(keys_of(state.image_ids)) if len(state.image_ids) else np.empty(0, np.int64)
    random = np.random.default_rng(_SEED)
    sample = np.sort(random.permutation(len(row_of))[: calibration.SAMPLE]).astype(np.int64)
    vectors = calibration.prepared(state.index.vectors_of(state.index.ids[sample]), state.index.metric)
    return _Rows(catalog, row_of, sample, vectors)


def _of_image(rows: _Rows, image_id: str) -> Mask:
    """The rows of the index that are of an image."""
    row = int(rows.catalog.rows_of([image_id])[0])
    found: Mask = (rows.row_of == row) & (row >= 0)
    return found


def _images(rows: _Rows, state: LakeState, allowed: Mask | None, left_out: str | None) -> int:
    """How many images the vectors searched are of."""
    if state.regions is None:
        count = len(state.index) if allowed is None else int(allowed.sum())
    else:
        count = len(np.unique(rows.row_of if allowed is None else rows.row_of[allowed]))
    return count - int(left_out is not None)


def _matches(
    near: list[tuple[float, str, str]],
    told: dict[str, dict[str, Any]],
    background: calibration.Background | None,
    searched: int,
) -> list[Neighbor]:
    """What was found, of distances, names and images, with how near that is."""
    matches = []
    for distance, name, image_id in near:
        chance = length = None
        if background is not None:
            chance = searched * background.share(distance)
            length = calibration.bar(chance, searched)
        matches.append(Neighbor(image_id, distance, chance, length, *place_of(told.get(name))))
    return matches


def _nearest(
    state: LakeState, codes: Codes | None, vector: Vector, k: int, allowed: Mask | None
) -> tuple[list[float], list[str], bool, int]:
    """Distances and names of the nearest, whether that is proven, and how many were measured."""
    query = vector[None]
    if codes is None:
        found = state.index.search(query, min(k, len(state.index)), allowed=allowed, certificate=True)
        proof = found.certificate
        holds = proof is not None and bool(proof.holds.all())
        return found.distances[0].tolist(), found.ids[0].tolist(), holds, 0 if proof is None else proof.measured
    candidates = codes.nearest(query, max(_DEPTH * k, _LEAST_DEPTH), allowed)
    if not candidates:
        return [], [], False, 0
    again = state.index.search(query, min(k, len(candidates)), allowed=candidates)
    return again.distances[0].tolist(), again.ids[0].tolist(), False, len(candidates)


def _background(
    rows: _Rows, state: LakeState, vector: Vector, known: str | None
) -> tuple[calibration.Background | None, int]:
    """What chance gives for this query, and from how many vectors that is known; 0 where it is not."""
    metric = state.index.metric
    distances = calibration.distances_to(vector, rows.vectors, metric)
    if known is not None:
        distances = distances[~_of_image(rows, known)[rows.sample]]
    background = calibration.fit(distances, bounded=metric != "dot")
    return background, 0 if background is None else len(distances)
