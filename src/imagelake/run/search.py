"""A picture and the images of the lake that are nearest to it."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from imagelake.errors import InputError
from imagelake.lake.ids import IdSet
from imagelake.lake.sql import matching_ids
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables, id_set, manifest_text, uris_of
from imagelake.models.choice import metric_of, read_text
from imagelake.models.manifest import Manifest
from imagelake.run.code_search import CodeIndex, open_code_index
from imagelake.run.extract import set_name
from imagelake.run.query_embedding import QueryEmbedder
from imagelake.run.vector_index import open_index
from imagelake.schema import ID_LETTERS
from imagelake.search.index import ExactIndex
from imagelake.steps.identify import content_id

REGIONS = "regions"  # as the name of an embedding set: the only one of regions


@dataclass(frozen=True)
class Match:
    """One image of the lake, or a region of it, and its distance from the query.

    Attributes:
        id: of the image.
        uri: under which the image was first seen.
        distance: of the vectors, by the metric of the set.
        box_xyxy: the region, in [0, 1] of the upright picture; None where the whole picture was compared.
        label: what the detector calls the region.
    """

    id: str
    uri: str
    distance: float
    box_xyxy: tuple[float, float, float, float] | None = None
    label: str | None = None


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    Attributes:
        k: how many matches.
        where: an SQL predicate over the images table; only images for which it holds are searched.
        exclude_self: leave out the query itself where it is in the lake.
        embedding_set: which vectors; by default those of the default model, or the only set; `"regions"` for the only
            set of regions.
        codes: search by binary codes (Hamming distance) instead of by the vectors themselves.
        coder: whose codes; by default the only ones there are.
        rerank: with codes, so many of the nearest are compared again by their vectors.
    """

    k: int = 3
    where: str | None = None
    exclude_self: bool = False
    embedding_set: str | None = None
    codes: bool = False
    coder: str | None = None
    rerank: int = 0


class Searcher:
    """Searches one embedding set of a lake. Keeps the model once it was needed, so that many queries share it."""

    def __init__(self, tables: Tables, options: SearchOptions, default: Manifest) -> None:
        if options.k < 1:
            raise InputError(f"k is {options.k}; it must be 1 or more.")
        if not options.codes and (options.coder is not None or options.rerank):
            raise InputError("A coder and rerank are for a search by codes; ask for it with --codes.")
        self._tables = tables
        self._options = options
        chosen = choose_set(tables, options.embedding_set, default)
        self.name = chosen
        self.vectors = tables.embeddings(chosen)
        if self.vectors.count() == 0:
            raise no_vectors(tables)
        self.manifest = read_text(manifest_text(self.vectors))
        self.of_regions = "image_id" in self.vectors.schema.names
        self._set = chosen
        self._allowed = None if options.where is None else self._find_allowed()
        self._embedder = QueryEmbedder(self.vectors, self.manifest)

    @functools.cached_property
    def index(self) -> ExactIndex:
        """The exact index of the set."""
        return open_index(self._tables, self._set, metric_of(self.manifest))

    @functools.cached_property
    def _finder(self) -> ExactIndex | CodeIndex:
        """What is searched."""
        options = self._options
        if not options.codes:
            return self.index
        metric = metric_of(self.manifest)
        return open_code_index(self._tables, self.vectors, metric, coder=options.coder, rerank=options.rerank)

    def by_bytes(self, data: bytes) -> list[Match]:
        """The nearest to a picture, ordered by (distance, id).

        In a set of regions, the picture goes through the steps that made the set: the best of its regions is compared.

        Raises:
            ImageError: `data` is no picture.
        """
        name = content_id(data)
        vector = self._stored(name)
        return self._nearest(self._embedder.of_pictures([data])[0] if vector is None else vector, name)

    def by_id(self, image_id: str) -> list[Match]:
        """The nearest to an image of the lake, ordered by (distance, id); to its best region in a set of regions."""
        vector = self._stored(image_id)
        if vector is None:
            raise InputError(f"The image {image_id} has no vector in this set. Run: imagelake extract")
        return self._nearest(vector, image_id)

    def image_count(self) -> int:
        """How many images have a vector in this set."""
        if not self.of_regions:
            return self.vectors.count()
        return int(pc.count_distinct(self.vectors.read(["image_id"]).column("image_id")).as_py())

    def _find_allowed(self) -> npt.NDArray[np.bool_]:
        """Which vectors are of images that are in the lake now and for which the predicate, if there is one, holds."""
        where = self._options.where
        images = id_set(self._tables.images) if where is None else IdSet([matching_ids(self._tables, where)])
        ids: list[str] = self._finder.ids.tolist()
        if self.of_regions:
            lie_in = self.vectors.read(["id", "image_id"]).to_pydict()
            image_of = dict(zip(lie_in["id"], lie_in["image_id"], strict=True))
            ids = [image_of.get(each, "0" * ID_LETTERS) for each in ids]
        return images.contains(pa.array(ids, pa.string()))

    def _stored(self, image_id: str) -> npt.NDArray[np.float32] | None:
        key = "image_id" if self.of_regions else "id"
        found = self.vectors.rows(key, [image_id], ["id", "vector"])
        if found.num_rows == 0:
            return None
        best = 0
        if found.num_rows > 1:  # several regions: the one with the highest score, then the first id
            ids = found.column("id").to_pylist()
            scores = self._regions(ids)
            best = min(range(len(ids)), key=lambda row: (-(scores[ids[row]]["score"] or 0.0), ids[row]))
        return np.asarray(found.column("vector")[best].values.to_numpy(zero_copy_only=False), np.float32)

    def _regions(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        columns = ["id", "image_id", "box_xyxy", "label", "score"]
        found = self._tables.regions.rows("id", list(ids), columns).to_pylist()
        nothing = dict.fromkeys(columns)
        return dict.fromkeys(ids, nothing) | {row["id"]: row for row in found}

    def _nearest(self, vector: npt.NDArray[np.float32], own_id: str) -> list[Match]:
        own = 0
        if self._options.exclude_self:
            own = self.vectors.rows("image_id", [own_id], ["id"]).num_rows if self.of_regions else 1
        found = self._finder.search(vector[None], self._options.k + own, allowed=self._allowed)
        distances, names = (row[0].tolist() for row in found)
        regions = self._regions(names) if self.of_regions else {}
        images = [regions[name]["image_id"] or name for name in names] if self.of_regions else names
        uris = uris_of(self._tables.images, list(dict.fromkeys(images)))
        if any(image not in uris for image in images):  # their images were deleted: search among the others
            self._allowed = self._find_allowed()
            return self._nearest(vector, own_id)
        matches = []
        for name, image_id, distance in zip(names, images, distances, strict=True):
            if self._options.exclude_self and image_id == own_id:
                continue
            region = regions.get(name)
            matches.append(Match(image_id, uris[image_id][0], distance, *place_of(region)))
        return matches[: self._options.k]


def place_of(region: dict[str, Any] | None) -> tuple[tuple[float, float, float, float] | None, str | None]:
    """Box and label of a region."""
    if region is None or region["box_xyxy"] is None:
        return None, None
    left, top, right, bottom = (round(side, 5) for side in region["box_xyxy"])
    return (left, top, right, bottom), region["label"]


def choose_set(tables: Tables, asked: str | None, default: Manifest) -> str:
    """The name of the embedding set to search: the one that is asked for, that of the default model, or the only one.

    Raises:
        InputError: there is none, or there are several.
    """
    if asked == REGIONS:
        return _only_set_of_regions(tables)
    sets = tables.embedding_sets()
    if asked is not None:
        return asked
    if set_name(default) in sets:
        return set_name(default)
    if len(sets) == 1:
        return sets[0]
    if not sets:
        raise no_vectors(tables)
    raise InputError(f"This lake has several embedding sets; choose one with --set: {', '.join(sets)}.")


def _only_set_of_regions(tables: Tables) -> str:
    whole = tables.embedding_sets(of_regions=False)
    sets = [name for name in tables.embedding_sets() if name not in whole]
    if not sets:
        raise InputError(f"No region has a vector yet. Run: imagelake extract --detector subject --lake {tables.root}")
    if len(sets) > 1:
        raise InputError(f"This lake has several sets of regions; choose one with --set: {', '.join(sets)}.")
    return sets[0]


def no_vectors(tables: Tables) -> InputError:
    """What a search in a lake without vectors is told."""
    return InputError(f"No image of {tables.root} has a vector yet. Run: imagelake extract --lake {tables.root}")


def random_ids(tables: Tables, vectors: Table, count: int, seed: int | None) -> Sequence[str]:
    """`count` different ids of images that have a vector; the same ones for the same `seed`.

    Raises:
        InputError: `count` is below 1, or there are no vectors.
    """
    if count < 1:
        raise InputError(f"--random is {count}; it must be 1 or more.")
    if seed is not None and seed < 0:
        raise InputError(f"--seed is {seed}; it must be 0 or more.")
    key = "image_id" if "image_id" in vectors.schema.names else "id"
    with_vector = pc.unique(vectors.read([key]).column(key).combine_chunks())
    present = id_set(tables.images).contains(with_vector)  # an image may have been deleted since
    ids = sorted(with_vector.filter(pa.array(present)).to_pylist())
    if not ids:
        raise no_vectors(tables)
    chosen = np.random.default_rng(seed).permutation(len(ids))[:count]
    return [ids[position] for position in chosen]


def read_query(picture: str | os.PathLike[str]) -> bytes:
    """The bytes of a query picture.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return Path(picture).read_bytes()
    except OSError as error:
        raise InputError(f"{os.fspath(picture)!r} cannot be read: {error.strerror}. Give a picture's path.") from error
