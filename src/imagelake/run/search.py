"""A picture and the images of the lake that are nearest to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from imagelake.errors import ImageError, InputError
from imagelake.lake.ids import IdSet
from imagelake.lake.sql import matching_ids
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables, id_set, manifest_text, uris_of
from imagelake.models.embedder import Embedder, open_embedder
from imagelake.models.manifest import Manifest, from_json
from imagelake.run.extract import set_name
from imagelake.run.vector_index import open_index
from imagelake.steps.embed import embed_pictures
from imagelake.steps.identify import content_id


@dataclass(frozen=True)
class Match:
    """One image of the lake and its distance from the query."""

    id: str
    uri: str
    distance: float


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    Attributes:
        k: how many matches.
        where: an SQL predicate over the images table; only images for which it holds are searched.
        exclude_self: leave out the query itself where it is in the lake.
        embedding_set: which vectors; by default those of the default model, or the only set.
    """

    k: int = 3
    where: str | None = None
    exclude_self: bool = False
    embedding_set: str | None = None


class Searcher:
    """Searches one embedding set of a lake. Keeps the model once it was needed, so that many queries share it."""

    def __init__(self, tables: Tables, options: SearchOptions, default: Manifest) -> None:
        if options.k < 1:
            raise InputError(f"k is {options.k}; it must be 1 or more.")
        self._tables = tables
        self._options = options
        chosen = _choose_set(tables, options.embedding_set, default)
        self.vectors = tables.embeddings(chosen)
        if self.vectors.count() == 0:
            raise _no_vectors(tables)
        self.manifest = from_json(manifest_text(self.vectors))
        self.index = open_index(tables, chosen, self.manifest.metric)
        self._allowed = None if options.where is None else self._find_allowed()
        self._embedder: Embedder | None = None

    def by_bytes(self, data: bytes) -> list[Match]:
        """The nearest to a picture, ordered by (distance, id).

        Raises:
            ImageError: `data` is no picture.
        """
        name = content_id(data)
        vector = self._stored(name)
        return self._nearest(self._embed(data) if vector is None else vector, name)

    def by_id(self, image_id: str) -> list[Match]:
        """The nearest to an image of the lake, ordered by (distance, id)."""
        vector = self._stored(image_id)
        if vector is None:
            raise InputError(f"The image {image_id} has no vector in this set. Run: imagelake extract")
        return self._nearest(vector, image_id)

    def _find_allowed(self) -> npt.NDArray[np.bool_]:
        """Which vectors are of images that are in the lake now and for which the predicate, if there is one, holds."""
        where = self._options.where
        images = id_set(self._tables.images) if where is None else IdSet([matching_ids(self._tables, where)])
        return images.contains(pa.array(self.index.ids.tolist(), pa.string()))

    def _stored(self, image_id: str) -> npt.NDArray[np.float32] | None:
        found = self.vectors.rows("id", [image_id], ["vector"])
        if found.num_rows == 0:
            return None
        return np.asarray(found.column("vector")[0].values.to_numpy(zero_copy_only=False), np.float32)

    def _embed(self, data: bytes) -> npt.NDArray[np.float32]:
        if self._embedder is None:
            self._embedder = open_embedder(self.manifest)
        vector = embed_pictures(self._embedder, [data])[0]
        if isinstance(vector, str):
            raise ImageError(vector)
        return vector

    def _nearest(self, vector: npt.NDArray[np.float32], own_id: str) -> list[Match]:
        k = self._options.k + (1 if self._options.exclude_self else 0)
        distances, names = (row[0].tolist() for row in self.index.search(vector[None], k, allowed=self._allowed))
        uris = uris_of(self._tables.images, names)
        if len(uris) < len(names):  # vectors whose images were deleted: search among the others
            self._allowed = self._find_allowed()
            return self._nearest(vector, own_id)
        matches = [
            Match(image_id, uris[image_id][0], distance)
            for image_id, distance in zip(names, distances, strict=True)
            if not (self._options.exclude_self and image_id == own_id)
        ]
        return matches[: self._options.k]


def _choose_set(tables: Tables, asked: str | None, default: Manifest) -> str:
    sets = tables.embedding_sets()
    if asked is not None:
        return asked
    if set_name(default) in sets:
        return set_name(default)
    if len(sets) == 1:
        return sets[0]
    if not sets:
        raise _no_vectors(tables)
    raise InputError(f"This lake has several embedding sets; choose one with --set: {', '.join(sets)}.")


def _no_vectors(tables: Tables) -> InputError:
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
    with_vector = vectors.read(["id"]).column("id").combine_chunks()
    present = id_set(tables.images).contains(with_vector)  # an image may have been deleted since
    ids = sorted(with_vector.filter(pa.array(present)).to_pylist())
    if not ids:
        raise _no_vectors(tables)
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
