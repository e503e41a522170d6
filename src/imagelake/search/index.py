"""An index that finds the exact nearest neighbors faster than brute force, and can prove it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake.errors import SearchError
from imagelake.search import pairs, plain
from imagelake.search.encoding import Encoder, encode_queries
from imagelake.search.gpu import choose_device
from imagelake.search.result import Certificate, RangeResult, SearchResult
from imagelake.search.rows import Rows, View, Where
from imagelake.search.saved import Part, read, write
from imagelake.search.segment import Float64s, Floats, Metric
from imagelake.search.threads import thread_count
from imagelake.search.vectors import as_vectors

Allowed = npt.NDArray[Any] | Sequence[Any]


class ExactIndex:
    """The exact nearest neighbors of vectors.

    The answers are those of float64 arithmetic on the vectors as given: each distance is summed in float64 in one fixed
    order, and equal distances are ordered by id. So they are the same on every machine, with any number of threads,
    however queries are grouped, with or without the compiled kernel, and on a GPU.

    Distances ascend, nearer is smaller, under every metric:

    - `"l2"`: the Euclidean distance.
    - `"cosine"`: one minus the cosine of the angle, 0 to 2, computed as half the squared distance of the normalized
      vectors, so that a vector is at exactly 0 from itself. A zero vector has no angle: it is at 1 from everything but
      another zero vector, and at 0 from that.
    - `"dot"`: the negative inner product.

    Args:
        vectors: float32, float16 or float64, shape (n, d). A float32 or float64 array in C order is not copied: leave
            it as it is while the index lives.
        ids: int64 or str, shape (n,), unique; by default 0 to n - 1. Rows added later without ids go on from there.
        metric: `"l2"`, `"cosine"` or `"dot"`.
        device: `"cpu"`; `"cuda"`, `"cuda:1"`, which need the extra `gpu`; or `"auto"`, which is CUDA where there is it.
        threads: how many on the CPU; None for as many as the process may use.
        max_memory_fraction: how much of the device's free memory the index may use; what does not fit is sent to the
            device with each search.

    Raises:
        SearchError: shapes or types that do not fit, a value that is no finite number, ids that repeat, a device that
            is not there.
        MissingExtraError: a CUDA device was asked for, and torch is not installed.
    """

    def __init__(
        self,
        vectors: npt.ArrayLike,
        ids: npt.ArrayLike | None = None,
        metric: Metric = "l2",
        device: str = "cpu",
        *,
        threads: int | None = None,
        max_memory_fraction: float = 0.8,
    ) -> None:
        if metric not in ("l2", "cosine", "dot"):
            raise SearchError(f"metric {metric!r} is not known; use 'l2', 'cosine' or 'dot'.")
        if not 0 < max_memory_fraction <= 1:
            raise SearchError(f"max_memory_fraction is {max_memory_fraction}; it must be above 0 and at most 1.")
        given = as_vectors(vectors, "vector")
        self.metric: Metric = metric
        self.device = choose_device(device)
        self.dims = given.shape[1]
        self.note = ""
        self._rows = Rows(metric, self.dims, Where(thread_count(threads), self.device, max_memory_fraction))
        self._rows.dtype = given.dtype
        self.add(given, ids)

    def __len__(self) -> int:
        """How many rows can be found."""
        return int(self._rows.ids.alive.sum())

    @property
    def rows_held(self) -> int:
        """How many rows the index holds, those that were removed among them."""
        return len(self._rows.ids.values)

    @property
    def ids(self) -> npt.NDArray[Any]:
        """Ids of the rows that can be found, in the order they were added."""
        return self._rows.ids.values[self._rows.ids.alive]

    @property
    def encoder(self) -> Encoder | None:
        """How rows are encoded; None before any are."""
        return self._rows.encoder

    @property
    def parts(self) -> tuple[Part, ...]:
        """What was added, in order, encoded."""
        self._rows.encode()
        return tuple(self._rows.parts)

    @property
    def memory_bytes(self) -> int:
        """What the index holds besides the vectors themselves; with `mmap`, most of it is on disk."""
        held = 0 if self.encoder is None else 2 * self.encoder.rotation.nbytes
        for part in self._rows.parts:
            segment = part.segment
            held += sum(codes.nbytes for codes in segment.codes) + segment.bounds.nbytes + segment.source.nbytes
            held += segment.source.nbytes + part.clusters.centroids.nbytes  # the rank, and the clusters
            held += 0 if segment.inverse is None else segment.inverse.nbytes
        return held + self._rows.ids.alive.nbytes + 3 * self._rows.ids.values.nbytes

    def vectors_of(self, ids: npt.ArrayLike) -> Floats:
        """The vectors of some rows as they were added, shape (n, d).

        Raises:
            SearchError: an id is not there.
        """
        return self._rows.vectors(self._rows.ids.positions(ids))

    def add(self, vectors: npt.ArrayLike, ids: npt.ArrayLike | None = None) -> None:
        """Add rows; what is there stays as it is.

        Raises:
            SearchError: as when an index is made; nothing was added then.
        """
        given = as_vectors(vectors, "vector", self.dims)
        if not self._rows.added:
            self._rows.dtype = given.dtype
        if given.dtype == np.float64 and self._rows.dtype == np.float32:
            raise SearchError("float64 rows do not fit an index of float32 rows; convert them, or make a new index.")
        self._rows.add(as_vectors(given.astype(self._rows.dtype, copy=False), "vector", self.dims), ids)

    def remove(self, ids: npt.ArrayLike) -> None:
        """Take rows out; what is there else stays as it is.

        Raises:
            SearchError: an id is not there; nothing was removed then.
        """
        self._rows.remove(ids)

    def search(
        self, queries: npt.ArrayLike, k: int, *, allowed: Allowed | None = None, certificate: bool = False
    ) -> SearchResult:
        """The k nearest of each query.

        Args:
            queries: float32, float16 or float64, shape (m, d).
            k: how many; fewer come back where there are fewer rows.
            allowed: only these rows may be found: a boolean mask over the rows as `ids` has them, or ids. The answer is
                complete over them.
            certificate: carry the proof with the result; that costs a little time.

        Returns:
            What unpacks into `distances`, float64 (m, k), ascending, and `ids`, (m, k), equal distances by id.

        Raises:
            SearchError: shapes or types that do not fit, a value that is no finite number, an id that is not there.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 0:
            raise SearchError(f"k is {k!r}; it must be a whole number, 0 or more.")
        view = self._view(allowed)
        asked = as_vectors(queries, "query", self.dims)
        found = self._rows.nearest(asked, min(int(k), view.count), view, prove=certificate)
        proof = None
        if certificate:
            bound = np.full(len(found.rank), np.inf) if found.bound is None else found.bound
            kth = found.distance[:, -1] if found.rank.shape[1] else np.full(len(found.rank), -np.inf)
            holds = np.ones(len(kth), np.bool_) if found.proven is None else found.proven
            proof = Certificate(kth, bound, holds, found.measured, len(found.rank) * view.count)
        return SearchResult(found.distance, self._rows.ids_of(found.rank), proof)

    def range_search(self, queries: npt.ArrayLike, radius: float, *, allowed: Allowed | None = None) -> RangeResult:
        """Everybody within a distance of each query.

        Args:
            queries: float32, float16 or float64, shape (m, d).
            radius: the greatest distance that is still inside.
            allowed: as for `search`.

        Returns:
            What unpacks into `limits`, int64 (m + 1,), `distances`, float64 (found,), and `ids`, (found,): those of
            query i are at limits[i] : limits[i + 1], ordered by (distance, id).

        Raises:
            SearchError: as for `search`, or the radius is no number.
        """
        asked = as_vectors(queries, "query", self.dims)
        _refuse_nan(radius)
        who, rank, distance = self._rows.within(asked, radius, self._view(allowed))
        limits = np.concatenate([[0], np.cumsum(np.bincount(who, minlength=len(asked)))]).astype(np.int64)
        return RangeResult(limits, distance, self._rows.ids_of(rank))

    def neighbors_of_all(self, k: int) -> Iterator[tuple[npt.NDArray[Any], SearchResult]]:
        """Each row's k nearest others, a block of rows at a time: their ids, and what was found.

        Memory is bounded by the block. A row is never its own neighbor; a row that equals it may be.
        """
        return pairs.neighbors_of_all(self._rows, k)

    def pairs_within(self, radius: float) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any], Float64s]]:
        """All pairs of rows at most `radius` apart, each once, a block at a time: two arrays of ids and the distances.

        The id of a pair that was added first comes first. Memory is bounded by the block and what it finds.

        Raises:
            SearchError: the radius is no number.
        """
        _refuse_nan(radius)
        return pairs.pairs_within(self._rows, radius)

    def save(self, folder: str | os.PathLike[str], note: str = "") -> None:
        """Write the index to a folder, its vectors with it. Written again, it adds what was added since.

        Args:
            folder: a new or empty one, or one that holds an index, which is replaced in one step.
            note: kept with it; `note` has it after `load`.

        Raises:
            SearchError: the folder holds something else, or cannot be written.
        """
        write(self._rows.state, Path(folder), note)
        self.note = note

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        mmap: bool = False,
        device: str = "cpu",
        threads: int | None = None,
        max_memory_fraction: float = 0.8,
    ) -> ExactIndex:
        """Read an index from a folder.

        Args:
            folder: where it was saved.
            mmap: leave vectors and codes on disk, and let the system bring in what a search looks at.
            device: as for a new index.
            threads: as for a new index.
            max_memory_fraction: as for a new index.

        Raises:
            SearchError: there is no index, or it cannot be read.
        """
        state, note = read(Path(folder), mmap=mmap)
        empty = np.empty((0, state.dims), state.dtype)
        index = cls(empty, None, state.metric, device, threads=threads, max_memory_fraction=max_memory_fraction)
        index.note = note
        index._rows.resume(state)
        return index

    def audit(self, queries: npt.ArrayLike) -> None:
        """Check the bounds themselves: compute those of all pairs, and compare each with the exact distance.

        For tests, and for whoever changes how vectors are encoded; costs more than brute force.

        Raises:
            SearchError: a bound says that a row is farther than it is; the message names the pair.
        """
        asked, rows = as_vectors(queries, "query", self.dims), self._rows
        rows.encode()
        if rows.encoder is None or not len(asked):
            return
        encoded = encode_queries(rows.encoder, asked, rows.where.threads)[0]
        for segment in rows.ranked_segments(rows.ids.alive):
            places = np.flatnonzero(segment.rank >= 0)
            distances = rows.measure(asked, rows.ids.by_rank[segment.rank[places]])
            limits = plain.least(encoded.threshold, self.metric, distances)
            for level, bounds in enumerate(plain.bounds(segment, encoded)):
                wrong = np.argwhere(bounds[:, places] < limits)
                if len(wrong):
                    query, place = wrong[0]
                    name = rows.ids_of(segment.rank[places[place]])
                    raise SearchError(f"the bound of query {query} and id {name} at level {level} is violated.")

    def _view(self, allowed: Allowed | None) -> View:
        if allowed is None:
            return self._rows.view()
        given, ids = np.asarray(allowed), self._rows.ids
        mask = np.zeros(len(ids.values), np.bool_)
        if given.dtype != np.bool_:
            mask[ids.positions(given)] = True
        elif given.shape == (len(self),):
            mask[np.flatnonzero(ids.alive)[given]] = True
        else:
            raise SearchError(
                f"mask has shape {given.shape}; it must be ({len(self)},): one value for each row of `ids`."
            )
        return self._rows.view(mask)


def _refuse_nan(radius: float) -> None:
    if np.isnan(radius):
        raise SearchError("radius is not a number; give the greatest distance that is still inside.")
