"""Make the map of an embedding set, keep it in the lake, and place images among it that came later."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.gallery import umap_layout
from imagelake.gallery.kept_projections import Kept, add, keep, new_told, read_all_told, read_kept
from imagelake.gallery.projection import Basis, Floats, block_rows, fit_basis, read_basis
from imagelake.lake.ids import IdSet
from imagelake.lake.table import in_parts
from imagelake.lake.tables import Tables, id_set, manifest_text
from imagelake.models.choice import metric_of, read_text
from imagelake.run.vector_index import matrix, open_index
from imagelake.search.index import ExactIndex

METHODS = ("pca", "umap")
_SETTINGS: dict[str, dict[str, Any]] = {"pca": {}, "umap": dict(umap_layout.SETTINGS)}
_PLACED_BY_NEIGHBORS = 5_000  # at a time, and no more than a quarter of the map: else it is better made again
_QUARTER = 0.25

Told = Callable[[str, float], None]
"""Hears what is done now, `"vectors"`, `"neighbors"` or `"layout"`, and how much of it, 0 to 1."""


def sets_of(tables: Tables) -> list[str]:
    """The embedding sets that can be drawn: those of whole images."""
    return tables.embedding_sets(of_regions=False)


def check_method(method: str) -> str:
    """The method, where there is one of this name.

    Raises:
        InputError: there is none.
    """
    if method not in METHODS:
        raise InputError(f"No method is called {method[:40]!r}. There are: {', '.join(METHODS)}.")
    return method


def find(tables: Tables, embedding_set: str, method: str) -> Kept | None:
    """The map that the lake keeps, with the images that were placed in it so far; None where it is to be made."""
    kept = read_kept(tables, embedding_set, check_method(method), _SETTINGS[method])
    return None if kept is None else _once(kept)


def is_kept(tables: Tables, embedding_set: str, method: str) -> bool:
    """Whether the lake keeps the map."""
    told = read_all_told(tables, embedding_set).get(method)
    return told is not None and told.settings == _SETTINGS[method]


def make(tables: Tables, embedding_set: str, method: str, told: Told | None = None) -> Kept:
    """Make the map, and keep it in the lake where that can be written.

    Raises:
        InputError: there is no such method or set, or too few images for it.
        MissingExtraError: the extra of the method is not installed.
    """
    check_method(method)
    if embedding_set not in sets_of(tables):
        known = ", ".join(sets_of(tables)) or "none; make one with `imagelake extract`"
        raise InputError(f"No embedding set of whole images is called {embedding_set[:80]!r}. There are: {known}.")
    if method == "umap":
        umap_layout.check_installed()
    began, told = time.monotonic(), told or (lambda _task, _share: None)
    ids, points, basis = _components(tables, embedding_set, told)
    if method == "umap":
        points = _pulled_apart(tables, embedding_set, ids, points, told)
    vectors = tables.embeddings(embedding_set)
    facts = new_told(
        method, _SETTINGS[method], vectors, len(ids), time.monotonic() - began,
        basis.as_json() if method == "pca" else None,
    )  # fmt: skip
    made = Kept(facts, ids, points)
    return replace(made, kept=keep(tables, embedding_set, made))


def place(tables: Tables, embedding_set: str, kept: Kept, ids: Sequence[str]) -> Kept:
    """The map with those of some images placed in it that were not and can be.

    PCA places any; in a map by UMAP a new image goes between its nearest neighbors, weighted by nearness, unless there
    are so many that it is better made again.
    """
    known = set(kept.ids)
    missing = [each for each in ids if each not in known]
    if not missing or not kept.ids:
        return kept
    if kept.told.method == "umap" and len(missing) > _few(kept):
        return kept
    found, vectors = _vectors_of(tables, embedding_set, missing)
    if kept.told.basis is not None:
        points = read_basis(kept.told.basis).place(vectors)
    else:
        points = _among_neighbors(tables, embedding_set, kept, vectors)
    written = kept.kept and add(tables, embedding_set, kept.told.projection, found, points)
    return Kept(kept.told, [*kept.ids, *found], np.concatenate([kept.points, points]), kept.kept and written)


def outgrown(kept: Kept, total: int) -> bool:
    """Whether a plane was found for so few images that one for all of them is worth a few seconds."""
    return kept.told.method == "pca" and total >= 2 * max(kept.told.rows, 1)


def better_made_again(kept: Kept, total: int) -> bool:
    """Whether so many images came since a map was made that it lacks them, or is mostly of those placed later."""
    if kept.told.method == "pca":
        return outgrown(kept, total)
    return total - len(kept.ids) > _few(kept) or total >= 2 * max(kept.told.rows, 1)


def _few(kept: Kept) -> int:
    """How many images can be placed at once in a map by UMAP."""
    return max(min(_PLACED_BY_NEIGHBORS, int(_QUARTER * kept.told.rows)), 1)


def _once(kept: Kept) -> Kept:
    """Each image once: two servers may have placed one at the same time."""
    if len(set(kept.ids)) == len(kept.ids):
        return kept
    names, first = np.unique(np.array(kept.ids, dtype="U64"), return_index=True)
    return Kept(kept.told, names.tolist(), kept.points[first], kept.kept)


def _components(tables: Tables, embedding_set: str, told: Told) -> tuple[list[str], Floats, Basis]:
    """Ids in order, their points, and the plane; two passes over the vectors."""
    table = tables.embeddings(embedding_set)
    dimensions = int(table.schema.field("vector").type.list_size)
    images, total, read = id_set(tables.images), max(2 * table.count(), 1), 0

    def advance(count: int) -> None:
        nonlocal read
        read += count
        told("vectors", min(read / total, 1.0))

    basis = fit_basis((block for _, block in _blocks(tables, embedding_set, dimensions, images)), dimensions, advance)
    ids, points = [], [np.empty((0, 2), np.float32)]
    for names, block in _blocks(tables, embedding_set, dimensions, images):
        ids += names
        points.append(basis.place(block))
        advance(len(names))
    order = np.argsort(np.array(ids, dtype="U64"), kind="stable")
    return [ids[row] for row in order.tolist()], np.concatenate(points)[order], basis


def _blocks(tables: Tables, embedding_set: str, dimensions: int, images: IdSet) -> Iterator[tuple[list[str], Floats]]:
    """Ids and vectors of those images that are there; none whose vector has a value that is no finite number."""
    table = tables.embeddings(embedding_set)
    for batch in table.scan(["id", "vector"], batch_rows=block_rows(dimensions)):
        vectors = matrix(batch.column("vector"))
        good = images.contains(batch.column("id")) & np.isfinite(vectors).all(axis=1)
        if good.any():
            yield batch.column("id").filter(pa.array(good)).to_pylist(), vectors[good]


def _vectors_of(tables: Tables, embedding_set: str, ids: Sequence[str]) -> tuple[list[str], Floats]:
    """The ids that have a vector, and those."""
    table = tables.embeddings(embedding_set)
    names: list[str] = []
    parts = [np.empty((0, int(table.schema.field("vector").type.list_size)), np.float32)]
    for part in in_parts(ids):
        rows = table.rows("id", part, ["id", "vector"])
        vectors = matrix(rows.column("vector"))
        good = np.isfinite(vectors).all(axis=1)
        names += rows.column("id").filter(pa.array(good)).to_pylist()
        parts.append(vectors[good])
    return names, np.concatenate(parts)


def _index(tables: Tables, embedding_set: str) -> ExactIndex:
    return open_index(tables, embedding_set, metric_of(read_text(manifest_text(tables.embeddings(embedding_set)))))


def _pulled_apart(tables: Tables, embedding_set: str, ids: list[str], start: Floats, told: Told) -> Floats:
    """The layout by UMAP of images whose principal components are `start`; of very few, those themselves."""
    if len(ids) < umap_layout.LEAST:
        return start
    index, number = _index(tables, embedding_set), {name: row for row, name in enumerate(ids)}
    if len(index) != len(ids):  # a vector of an image that was deleted, or one that cannot be compared
        index = ExactIndex(index.vectors_of(ids), ids, index.metric)
    k = min(umap_layout.NEIGHBORS, len(ids) - 1)
    neighbors, distances = np.empty((len(ids), k), np.int32), np.empty((len(ids), k), np.float32)
    done = 0
    for names, found in index.neighbors_of_all(k):
        rows = [number[name] for name in names.tolist()]
        neighbors[rows] = np.array([number[name] for name in found.ids.ravel().tolist()]).reshape(-1, k)
        distances[rows] = found.distances
        done += len(rows)
        told("neighbors", done / len(ids))
    return umap_layout.lay_out(neighbors, distances, start, lambda share: told("layout", share))


def _among_neighbors(tables: Tables, embedding_set: str, kept: Kept, vectors: Floats) -> Floats:
    index = _index(tables, embedding_set)
    number = {name: row for row, name in enumerate(kept.ids)}
    placed: NDArray[np.bool_] = np.array([name in number for name in index.ids.tolist()], np.bool_)
    k = min(umap_layout.NEIGHBORS, int(placed.sum()))
    if not k or not len(vectors):
        return np.zeros((len(vectors), 2), np.float32)
    found = index.search(vectors, k, allowed=placed)
    rows = np.array([number[name] for name in found.ids.ravel().tolist()]).reshape(-1, k)
    distances = found.distances - min(0.0, float(found.distances.min()))  # of "dot" they may be below 0
    weights = 1.0 / (distances + 1e-3 * (distances.mean() + 1e-12))
    weights /= weights.sum(axis=1, keepdims=True)
    points: Floats = np.einsum("nk,nkc->nc", weights, kept.points[rows]).astype(np.float32)
    return points
