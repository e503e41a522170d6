"""An index that finds the exact nearest neighbors faster than brute force, and can prove it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake.errors import SearchError
from imagelake.search import plain
from imagelake.search.clusters import Clusters, cluster
from imagelake.search.encoding import Encoder, encode_queries, encode_rows, fit, in_panels, inverse_norms
from imagelake.search.ids import Ids
from imagelake.search.kernel import kernel
from imagelake.search.result import Certificate, RangeResult, SearchResult
from imagelake.search.saved import Added, Part, State, read, write
from imagelake.search.scan import Ranked, Scan
from imagelake.search.segment import PANEL, Float64s, Floats, Ints, Metric, Segment
from imagelake.search.threads import in_threads, slices, thread_count
from imagelake.search.twins import twins
from imagelake.search.vectors import as_vectors

Allowed = npt.NDArray[Any] | Sequence[Any]

_SAMPLE = 8192  # rows that center and axes are found from
_SMALL = 1024  # so few rows are measured one by one, and are not encoded before there are more
_DIRECT = 128  # measuring a row costs about as many times what bounding it does
_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class _View:
    """The rows that a search may find.

    Attributes:
        allowed: bool over positions.
        count: how many.
        direct: positions that are measured one by one, by rank, or None to scan.
        segments: what is scanned.
    """

    allowed: npt.NDArray[np.bool_]
    count: int
    direct: Ints | None
    segments: list[tuple[Segment, Clusters]]


class ExactIndex:
    """The exact nearest neighbors of vectors.

    The answers are those of float64 arithmetic on the vectors as given: each distance is summed in float64 in one fixed
    order, and equal distances are ordered by id. So they are the same on every machine, with any number of threads,
    however queries are grouped, and with or without the compiled kernel.

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
        threads: how many; None for as many as the process may use.

    Raises:
        SearchError: shapes or types that do not fit, a value that is no finite number, ids that repeat.
    """

    def __init__(
        self,
        vectors: npt.ArrayLike,
        ids: npt.ArrayLike | None = None,
        metric: Metric = "l2",
        *,
        threads: int | None = None,
    ) -> None:
        if metric not in ("l2", "cosine", "dot"):
            raise SearchError(f"metric {metric!r} is not known; use 'l2', 'cosine' or 'dot'.")
        given = as_vectors(vectors, "vector")
        self.metric: Metric = metric
        self.note = ""
        self.dims = given.shape[1]
        self._dtype = given.dtype
        self._threads = thread_count(threads)
        self._added: list[Added] = []
        self._parts: list[Part] = []  # of the first of `_added`; all of them once there are more than a few rows
        self._encoder: Encoder | None = None
        self._ids = Ids(np.empty(0, np.int64), np.empty(0, np.bool_))
        self._groups: dict[int, Ints] = {}  # positions of rows that others equal, with all of those
        self._places: dict[int, Ints] = {}  # for a part, the place of each row in its segment
        self._whole: _View | None = None
        self.add(given, ids)

    def __len__(self) -> int:
        """How many rows can be found."""
        return int(self._ids.alive.sum())

    @property
    def ids(self) -> npt.NDArray[Any]:
        """Ids of the rows that can be found, in the order they were added."""
        return self._ids.values[self._ids.alive]

    @property
    def encoder(self) -> Encoder | None:
        """How rows are encoded; None before there are any."""
        return self._encoder

    @property
    def parts(self) -> tuple[Part, ...]:
        """What was added, in order, encoded."""
        self._encode()
        return tuple(self._parts)

    @property
    def memory_bytes(self) -> int:
        """What the index holds besides the vectors themselves."""
        held = 0 if self._encoder is None else 2 * self._encoder.rotation.nbytes
        for part in self._parts:
            segment = part.segment
            held += sum(codes.nbytes for codes in segment.codes) + segment.bounds.nbytes + segment.source.nbytes
            held += segment.source.nbytes + part.clusters.centroids.nbytes  # the rank, and the clusters
            held += 0 if segment.inverse is None else segment.inverse.nbytes
        return held + self._ids.alive.nbytes + 3 * self._ids.values.nbytes

    def add(self, vectors: npt.ArrayLike, ids: npt.ArrayLike | None = None) -> None:
        """Add rows; what is there stays as it is.

        Raises:
            SearchError: as when an index is made; nothing was added then.
        """
        given = as_vectors(vectors, "vector", self.dims)
        if not self._added:
            self._dtype = given.dtype
        if given.dtype == np.float64 and self._dtype == np.float32:
            raise SearchError("float64 rows do not fit an index of float32 rows; convert them, or make a new index.")
        given = as_vectors(given.astype(self._dtype, copy=False), "vector", self.dims)
        known = self._ids.added(ids, len(given))
        if not len(given):
            return
        inverse = inverse_norms(given) if self.metric == "cosine" else None
        self._added.append(Added(len(self._ids.values), given, inverse))
        self._ids, self._whole = known, None
        if len(self._ids.values) > _SMALL:
            self._encode()

    def _encode(self) -> None:
        """Encode what was added and is not encoded yet."""
        for rows in self._added[len(self._parts) :]:
            if self._encoder is None:
                chosen = np.random.default_rng(0).permutation(len(rows.vectors))[:_SAMPLE]
                self._encoder = fit(rows.vectors[np.sort(chosen)], self.metric)
            part = _make_part(self._encoder, rows, self._threads)
            self._parts.append(part)
            self._groups.update({row: group for group in _positions(part) for row in group.tolist()})
            self._whole = None

    def remove(self, ids: npt.ArrayLike) -> None:
        """Take rows out; what is there else stays as it is.

        Raises:
            SearchError: an id is not there; nothing was removed then.
        """
        self._ids, self._whole = self._ids.removed(ids), None

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
        found = self._ranked(as_vectors(queries, "query", self.dims), min(int(k), view.count), view, prove=certificate)
        proof = None
        if certificate:
            bound = np.full(len(found.rank), np.inf) if found.bound is None else found.bound
            kth = found.distance[:, -1] if found.rank.shape[1] else np.full(len(found.rank), -np.inf)
            holds = np.ones(len(kth), np.bool_) if found.proven is None else found.proven
            proof = Certificate(kth, bound, holds, found.measured, len(found.rank) * view.count)
        return SearchResult(found.distance, self._ids.values[self._ids.by_rank[found.rank]], proof)

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
        if np.isnan(radius):
            raise SearchError("radius is not a number; give the greatest distance that is still inside.")
        view = self._view(allowed)
        if view.direct is not None:
            ranked = self._direct(asked, view.count, view.direct)
            who, rank, distance = (
                np.repeat(np.arange(len(asked)), view.count),
                ranked.rank.ravel(),
                ranked.distance.ravel(),
            )
            inside = distance <= radius
            who, rank, distance = who[inside], rank[inside], distance[inside]
        elif self._encoder is None or not len(asked):  # nothing was added, or nothing is asked
            who, rank, distance = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        else:
            found = Scan(self._encoder, view.segments, asked, self._threads).within(radius)
            who, rank, distance = self._with_twins(found.query, found.rank, found.distance, view)
        order = np.lexsort((rank, distance, who))
        limits = np.concatenate([[0], np.cumsum(np.bincount(who, minlength=len(asked)))]).astype(np.int64)
        return RangeResult(limits, distance[order], self._ids.values[self._ids.by_rank[rank[order]]])

    def save(self, folder: str | os.PathLike[str], note: str = "") -> None:
        """Write the index to a folder, its vectors with it. Written again, it adds what was added since.

        Args:
            folder: a new or empty one, or one that holds an index, which is replaced in one step.
            note: kept with it; `note` has it after `load`.

        Raises:
            SearchError: the folder holds something else, or cannot be written.
        """
        self._encode()
        state = State(self.metric, self.dims, np.dtype(self._dtype), self._encoder, self._parts, self._ids)
        write(state, Path(folder), note)
        self.note = note

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, mmap: bool = False, threads: int | None = None) -> ExactIndex:
        """Read an index from a folder.

        Args:
            folder: where it was saved.
            mmap: leave vectors and codes on disk, and let the system bring in what a search looks at.
            threads: as for a new index.

        Raises:
            SearchError: there is no index, or it cannot be read.
        """
        state, note = read(Path(folder), mmap=mmap)
        index = cls(np.empty((0, state.dims), state.dtype), metric=state.metric, threads=threads)
        index.note = note
        index._encoder, index._parts, index._ids = state.encoder, state.parts, state.ids
        index._added = [Added(part.offset, part.segment.vectors, part.segment.inverse) for part in state.parts]
        for part in state.parts:
            index._groups.update({row: group for group in _positions(part) for row in group.tolist()})
        return index

    def audit(self, queries: npt.ArrayLike) -> None:
        """Check the bounds themselves: compute those of all pairs, and compare each with the exact distance.

        For tests, and for whoever changes how vectors are encoded; costs more than brute force.

        Raises:
            SearchError: a bound says that a row is farther than it is; the message names the pair.
        """
        asked = as_vectors(queries, "query", self.dims)
        self._encode()
        view = self._view(None)
        if self._encoder is None or not len(asked):
            return
        encoded = encode_queries(self._encoder, asked, self._threads)[0]
        for segment in (self._ranked_segment(part, view.allowed) for part in self._parts):
            places = np.flatnonzero(segment.rank >= 0)
            distances = self._distances_to(asked, self._ids.by_rank[segment.rank[places]])
            limits = plain.least(encoded.threshold, self.metric, distances)
            for level, bounds in enumerate(plain.bounds(segment, encoded)):
                wrong = np.argwhere(~(bounds[:, places] >= limits))
                if len(wrong):
                    query, place = wrong[0]
                    name = self._ids.values[self._ids.by_rank[segment.rank[places[place]]]]
                    raise SearchError(f"the bound of query {query} and id {name} at level {level} is violated.")

    def neighbors_of_all(self, k: int) -> Iterator[tuple[npt.NDArray[Any], SearchResult]]:
        """Each row's k nearest others, a block of rows at a time: their ids, and what was found.

        Memory is bounded by the block. A row is never its own neighbor; a row that equals it may be.
        """
        view = self._view(None)
        k = min(k, view.count - 1)
        for added in self._added:
            for start in range(0, len(added.vectors), _BLOCK_ROWS):
                rows = np.arange(start, min(len(added.vectors), start + _BLOCK_ROWS))
                rows = rows[self._ids.alive[added.offset + rows]]
                if not len(rows) or k < 1:
                    continue
                found = self._ranked(added.vectors[rows], k + 1, view)
                other = found.rank != self._ids.rank[added.offset + rows][:, None]
                keep = np.sort(np.argsort(~other, axis=1, kind="stable")[:, :k], axis=1)
                rank = np.take_along_axis(found.rank, keep, axis=1)
                result = SearchResult(
                    np.take_along_axis(found.distance, keep, axis=1), self._ids.values[self._ids.by_rank[rank]]
                )
                yield self._ids.values[added.offset + rows], result

    def pairs_within(self, radius: float) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any], Float64s]]:
        """All pairs of rows at most `radius` apart, each once, a block at a time: two arrays of ids and the distances.

        The id of a pair that was added first comes first. Memory is bounded by the block and what it finds.

        Raises:
            SearchError: the radius is no number.
        """
        if np.isnan(radius):
            raise SearchError("radius is not a number; give the greatest distance that is still inside.")
        view = self._view(None)
        if view.direct is not None:
            yield from self._few_pairs(view.direct, radius)
            return
        for at, part in enumerate(self._parts):
            for first in range(0, part.segment.panels, _BLOCK_ROWS // PANEL):
                a, b, distance = self._pairs_of(at, first, radius, view)
                if len(a):
                    low, high = np.minimum(a, b), np.maximum(a, b)
                    order = np.lexsort((high, low))
                    yield self._ids.values[low[order]], self._ids.values[high[order]], distance[order]

    def _few_pairs(
        self, positions: Ints, radius: float
    ) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any], Float64s]]:
        vectors = self._vectors_of(positions)
        for row in range(len(positions) - 1):
            later = positions[row + 1 :]
            distance = self._distances_to(vectors[row : row + 1], later)[0]
            inside = distance <= radius
            if inside.any():
                ids = self._ids.values[later[inside]]
                yield np.full(len(ids), self._ids.values[positions[row]]), ids, distance[inside]

    def _pairs_of(self, at: int, first: int, radius: float, view: _View) -> tuple[Ints, Ints, Float64s]:
        """Pairs of some panels' rows with the rows after them: positions and distances."""
        if self._encoder is None:
            raise AssertionError("what is scanned was encoded")
        segment, clusters = view.segments[at]
        places = np.arange(first * PANEL, min(segment.panels, first + _BLOCK_ROWS // PANEL) * PANEL)
        places = places[segment.rank[places] >= 0]
        sources = self._parts[at].segment.source
        everywhere = np.where(segment.rank >= 0, np.arange(len(segment.rank)), -1)
        vectors = segment.vectors[sources[places]]
        here = dataclasses.replace(segment, rank=everywhere)
        found = Scan(self._encoder, [(here, clusters)], vectors, self._threads).within(radius, places, first)
        offset = self._parts[at].offset
        a, b, distance = [offset + sources[places[found.query]]], [offset + sources[found.rank]], [found.distance]
        later = view.segments[at + 1 :]
        if later:
            other = Scan(self._encoder, later, vectors, self._threads).within(radius)
            a.append(offset + sources[places[other.query]])
            b.append(self._ids.by_rank[other.rank])
            distance.append(other.distance)
        pairs = np.concatenate(a), np.concatenate(b), np.concatenate(distance)
        if not self._groups:
            return pairs
        return self._twin_pairs(pairs, offset + sources[places], radius)

    def _twin_pairs(self, pairs: tuple[Ints, Ints, Float64s], rows: Ints, radius: float) -> tuple[Ints, Ints, Float64s]:
        """Pairs of rows, and of all rows that equal them, and of those among each other."""
        out: list[tuple[Ints, Ints, Float64s]] = []
        for a, b, distance in zip(*pairs, strict=True):
            mine, others = self._alive_twins(int(a)), self._alive_twins(int(b))
            size = len(mine) * len(others)
            out.append((np.repeat(mine, len(others)), np.tile(others, len(mine)), np.full(size, distance)))
        for row in rows.tolist():
            group = self._alive_twins(row)
            if len(group) > 1:
                distance = self._distances_to(self._vectors_of(group[:1]), group[:1])[0, 0]
                if distance <= radius:
                    low, high = np.triu_indices(len(group), 1)
                    out.append((group[low], group[high], np.full(len(low), distance)))
        if not out:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        a, b, distances = (np.concatenate(column) for column in zip(*out, strict=True))
        return a, b, distances

    def _alive_twins(self, position: int) -> Ints:
        group = self._groups.get(position)
        if group is None:
            return np.array([position])
        return group[self._ids.alive[group]]

    def _vectors_of(self, positions: Ints) -> Floats:
        out = np.empty((len(positions), self.dims), self._dtype)
        for added in self._added:
            inside, rows = added.rows(positions)
            out[inside] = added.vectors[rows]
        return out

    def _view(self, allowed: Allowed | None) -> _View:
        """The rows that may be found, and how: few are measured one by one, more are scanned."""
        if allowed is None and self._whole is not None:
            return self._whole
        mask = self._ids.alive if allowed is None else self._mask(allowed)
        count = int(mask.sum())
        direct = None
        if count <= _SMALL or (allowed is not None and count * _DIRECT <= len(mask)):
            direct = np.flatnonzero(mask)
        else:
            self._encode()
        segments = (
            [] if direct is not None else [(self._ranked_segment(part, mask), part.clusters) for part in self._parts]
        )
        view = _View(mask, count, direct, segments)
        if allowed is None:
            self._whole = view
        return view

    def _mask(self, allowed: Allowed) -> npt.NDArray[np.bool_]:
        given = np.asarray(allowed)
        mask = np.zeros(len(self._ids.values), np.bool_)
        if given.dtype != np.bool_:
            mask[self._ids.positions(given)] = True
            return mask
        if given.shape != (len(self),):
            raise SearchError(
                f"mask has shape {given.shape}; it must be ({len(self)},): one value for each row of `ids`."
            )
        mask[np.flatnonzero(self._ids.alive)[given]] = True
        return mask

    def _ranked_segment(self, part: Part, mask: npt.NDArray[np.bool_]) -> Segment:
        """A part's segment with the rank of each place: that of the first of its twins that may be found, or -1."""
        segment, rank = part.segment, self._ids.rank
        positions = part.offset + segment.source
        of_place = np.where(mask[positions], rank[positions], -1)
        for group in _positions(part):
            there = group[mask[group]]
            place = self._place_of(part, int(group[0]))
            of_place[place] = rank[there].min() if len(there) else -1
        filled = np.zeros(len(of_place), np.bool_)
        filled[: _unique_count(part)] = True
        of_place[~filled] = -1
        bounds = segment.bounds
        if (of_place[filled] < 0).any():
            bounds = bounds.copy()
            bounds[:, 0][(of_place < 0).reshape(-1, PANEL)] = np.inf
        return dataclasses.replace(segment, rank=of_place, bounds=bounds)

    def _place_of(self, part: Part, position: int) -> int:
        places = self._places.get(part.offset)
        if places is None:
            count = _unique_count(part)
            places = np.full(len(part.segment.vectors), -1, np.int64)
            places[part.segment.source[:count]] = np.arange(count)
            self._places[part.offset] = places
        return int(places[position - part.offset])

    def _ranked(self, asked: Floats, k: int, view: _View, *, prove: bool = False) -> Ranked:
        """The k nearest of each query by (distance, rank), all twins among them; k at most `view.count`."""
        if k == 0 or not len(asked):
            return Ranked(np.empty((len(asked), k)), np.empty((len(asked), k), np.int64), None, None, 0)
        if view.direct is not None:
            return self._direct(asked, k, view.direct)
        if self._encoder is None:
            raise AssertionError("what is scanned was encoded")
        unique = sum(int((segment.rank >= 0).sum()) for segment, _ in view.segments)
        found = Scan(self._encoder, view.segments, asked, self._threads).nearest(min(k, unique), prove=prove)
        if not self._groups:
            return found
        return dataclasses.replace(found, **self._expanded(found, k, view))

    def _expanded(self, found: Ranked, k: int, view: _View) -> dict[str, Any]:
        """Rows with their twins, the k best of all."""
        position = self._ids.by_rank[found.rank]
        twin = np.zeros(len(self._ids.values), np.bool_)
        twin[list(self._groups)] = True
        distance = np.empty((len(position), k))
        rank = np.empty((len(position), k), np.int64)
        alone = ~twin[position].any(axis=1)  # then as many were found as are asked for
        if alone.any():
            distance[alone], rank[alone] = found.distance[alone], found.rank[alone]
        for query in np.flatnonzero(~alone).tolist():
            who = np.zeros(found.rank.shape[1], np.int64)
            _, ranks, distances = self._with_twins(who, found.rank[query], found.distance[query], view)
            order = np.lexsort((ranks, distances))[:k]
            distance[query], rank[query] = distances[order], ranks[order]
        return {"distance": distance, "rank": rank}

    def _with_twins(self, who: Ints, rank: Ints, distance: Float64s, view: _View) -> tuple[Ints, Ints, Float64s]:
        """Found rows, and those that equal them."""
        if not self._groups:
            return who, rank, distance
        members = []
        for position in self._ids.by_rank[rank].tolist():
            group = self._groups.get(position)
            members.append(np.array([position]) if group is None else group[view.allowed[group]])
        sizes = [len(group) for group in members]
        positions = np.concatenate(members) if members else np.empty(0, np.int64)
        return np.repeat(who, sizes), self._ids.rank[positions], np.repeat(distance, sizes)

    def _direct(self, asked: Floats, k: int, positions: Ints) -> Ranked:
        """The k nearest of some rows, each measured."""
        rank = self._ids.rank[positions]
        out_distance, out_rank = np.empty((len(asked), k)), np.empty((len(asked), k), np.int64)

        def some(part: slice) -> None:
            distance = self._distances_to(asked[part], positions)
            order = np.lexsort((np.broadcast_to(rank, distance.shape), distance), axis=1)[:, :k]
            out_distance[part], out_rank[part] = np.take_along_axis(distance, order, axis=1), rank[order]

        in_threads(some, slices(len(asked), 64), self._threads)
        return Ranked(out_distance, out_rank, None, None, len(asked) * len(positions))

    def _distances_to(self, asked: Floats, positions: Ints) -> Float64s:
        """Exact distances, float64 (m, positions)."""
        inverse = inverse_norms(asked) if self.metric == "cosine" else np.ones(len(asked))
        out = np.empty((len(asked), len(positions)))
        for added in self._added:
            inside, rows = added.rows(positions)
            segment = _bare(added)
            for query, vector in enumerate(asked.astype(np.float64)):
                out[query, inside] = kernel().measure(segment, self.metric, vector, float(inverse[query]), rows)
        return out


def _bare(added: Added) -> Segment:
    """Good for measuring, not for scanning."""
    nothing = np.empty(0, np.int64)
    return Segment((), np.empty((0, 1, PANEL), np.float32), nothing, nothing, added.vectors, added.inverse)


def _make_part(encoder: Encoder, added: Added, threads: int) -> Part:
    rows, groups = twins(added.vectors, threads)
    encoded = encode_rows(encoder, added.vectors, added.inverse, threads, rows)
    order, clusters = cluster(encoded.codes[0], encoded.bounds[:, 1], len(encoder.levels[0]))
    codes, bounds = in_panels(encoded, order)
    source = np.zeros(len(bounds) * PANEL, np.int64)
    source[: len(order)] = rows[order]
    segment = Segment(codes, bounds, source, source, added.vectors, added.inverse)
    return Part(added.offset, segment, clusters, groups)


def _unique_count(part: Part) -> int:
    return int(part.clusters.first[-1])


def _positions(part: Part) -> list[Ints]:
    return [part.offset + group for group in part.groups]
