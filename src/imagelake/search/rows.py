"""The rows of an index: added, encoded, removed, and asked for by position."""

from __future__ import annotations

import dataclasses
import threading
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake.search.clusters import cluster
from imagelake.search.encoding import Encoder, encode_rows, fit, in_panels, inverse_norms
from imagelake.search.gpu import GpuRows, TorchScan
from imagelake.search.ids import Ids
from imagelake.search.kernel import kernel
from imagelake.search.saved import Added, Part, State
from imagelake.search.scan import Clustered, Ranked, Scan
from imagelake.search.segment import PANEL, Float64s, Floats, Ints, Metric, Segment
from imagelake.search.threads import in_threads, slices
from imagelake.search.twins import NO_TWINS, Twins, twins

_SAMPLE = 8192  # rows that center and axes are found from
_SMALL = 1024  # so few rows are measured one by one, and are not encoded before there are more
_FEW_NUMBERS = 1 << 20  # in all pairs: they are measured in the time that it takes to begin a scan
_EXPANDED = 1 << 22  # rows that are looked at, when twins join an answer
_DIRECT = 128  # measuring a row costs about as many times what bounding it does


@dataclass(frozen=True)
class Where:
    """What searches.

    Attributes:
        threads: how many.
        device: "cpu", or a CUDA device by torch's name.
        max_memory_fraction: how much of that device's free memory may be used.
    """

    threads: int
    device: str
    max_memory_fraction: float


@dataclass(frozen=True)
class View:
    """The rows that a search may find.

    Attributes:
        allowed: bool over positions.
        count: how many.
        direct: positions that are measured one by one, or None to scan.
        segments: what is scanned.
        twins: positions of rows that are equal and may be found, by id.
    """

    allowed: npt.NDArray[np.bool_]
    count: int
    direct: Ints | None
    segments: list[Clustered]
    twins: Twins


class Rows:
    """Rows by position, the order in which they were added; equal ones are encoded once.

    Attributes:
        metric: how they are compared.
        dims: how long vectors are.
        dtype: of the vectors.
        where: what searches.
        ids: who is who.
        added: rows as they came.
        parts: the first of them, encoded; all of them once there are more than a few rows.
        encoder: how rows are encoded; None before any are.
        twins: positions of rows that are equal.
    """

    def __init__(self, metric: Metric, dims: int, where: Where) -> None:
        self.metric: Metric = metric
        self.dims = dims
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self.where = where
        self.ids = Ids(np.empty(0, np.int64), np.empty(0, np.bool_))
        self.added: list[Added] = []
        self.parts: list[Part] = []
        self.encoder: Encoder | None = None
        self.twins = NO_TWINS
        self._group_of: Ints | None = None  # of each position, -1 without twins
        self._whole: View | None = None
        self._on_gpu: GpuRows | None = None
        self._encoding = threading.Lock()
        self.changes = 0  # how often rows were added or removed

    @property
    def state(self) -> State:
        """All that is kept on disk."""
        self.encode()
        return State(self.metric, self.dims, self.dtype, self.encoder, self.parts, self.ids)

    def resume(self, state: State) -> None:
        """Go on from what was kept on disk; for rows that hold nothing yet."""
        self.dtype, self.encoder, self.parts, self.ids = state.dtype, state.encoder, state.parts, state.ids
        self.added = [Added(part.offset, part.segment.vectors, part.segment.inverse) for part in state.parts]
        for part in self.parts:
            self.twins = self.twins.joined(part.twins, part.offset)

    def add(self, given: Floats, ids: npt.ArrayLike | None) -> None:
        """Add rows.

        Raises:
            SearchError: ids that do not fit, or repeat.
        """
        known = self.ids.added(ids, len(given))
        if not len(given):
            return
        inverse = inverse_norms(given) if self.metric == "cosine" else None
        self.added.append(Added(len(self.ids.values), given, inverse))
        self.ids, self._whole, self._group_of = known, None, None
        self.changes += 1
        if len(self.ids.values) > _SMALL:
            self.encode()

    def encode(self) -> None:
        """Encode what was added and is not encoded yet."""
        with self._encoding:
            self._encode()

    def _encode(self) -> None:
        for rows in self.added[len(self.parts) :]:
            if self.encoder is None:
                chosen = np.random.default_rng(0).permutation(len(rows.vectors))[:_SAMPLE]
                self.encoder = fit(rows.vectors[np.sort(chosen)], self.metric)
            part = _make_part(self.encoder, rows, self.where.threads)
            self.parts.append(part)
            self.twins = self.twins.joined(part.twins, part.offset)
            self._whole, self._group_of = None, None

    def remove(self, ids: npt.ArrayLike) -> None:
        """Take rows out.

        Raises:
            SearchError: an id is not there; nothing was removed then.
        """
        self.ids, self._whole = self.ids.removed(ids), None
        self.changes += 1

    def vectors(self, positions: Ints) -> Floats:
        """Vectors as they were added, (n, d)."""
        out = np.empty((len(positions), self.dims), self.dtype)
        for added in self.added:
            inside, rows = added.rows(positions)
            out[inside] = added.vectors[rows]
        return out

    def view(self, mask: npt.NDArray[np.bool_] | None = None) -> View:
        """The rows that may be found, and how: few are measured one by one, more are scanned.

        Args:
            mask: bool over positions, of rows that are there; None for all that are.
        """
        if mask is None and self._whole is not None:
            return self._whole
        allowed = self.ids.alive if mask is None else mask
        count = int(allowed.sum())
        direct, segments = None, []
        if count <= _SMALL or (mask is not None and count * _DIRECT <= len(mask)):
            direct = np.flatnonzero(allowed)
        else:
            self.encode()
            clusters = [part.clusters for part in self.parts]
            segments = list(zip(self.ranked_segments(allowed), clusters, strict=True))
        view = View(allowed, count, direct, segments, self._twins_among(allowed))
        if mask is None:
            self._whole = view
        return view

    def _twins_among(self, mask: npt.NDArray[np.bool_]) -> Twins:
        """The groups of twins as they are under a mask, ordered by id; some may have become empty."""
        group = np.repeat(np.arange(len(self.twins)), np.diff(self.twins.first))
        members = self.twins.members
        order = np.lexsort((self.ids.rank[members], group))
        order = order[mask[members[order]]]
        first = np.concatenate([[0], np.cumsum(np.bincount(group[order], minlength=len(self.twins)))])
        return Twins(members[order], first.astype(np.int64))

    def ranked_segments(self, mask: npt.NDArray[np.bool_]) -> list[Segment]:
        """Segments with the ranks of the rows that may be found."""
        return [self._ranked_segment(part, mask) for part in self.parts]

    def _ranked_segment(self, part: Part, mask: npt.NDArray[np.bool_]) -> Segment:
        """A part's segment with the rank of each place: that of the first of its twins that may be found, or -1."""
        segment, rank = part.segment, self.ids.rank
        unique = int(part.clusters.first[-1])  # the places after that fill the last panel
        positions = part.offset + segment.source[:unique]
        of_place = np.full(len(segment.source), -1, np.int64)
        of_place[:unique] = np.where(mask[positions], rank[positions], -1)
        if len(part.twins):
            members = part.offset + part.twins.members
            last = np.iinfo(np.int64).max
            least = np.minimum.reduceat(np.where(mask[members], rank[members], last), part.twins.first[:-1])
            place = np.empty(len(segment.vectors), np.int64)
            place[segment.source[:unique]] = np.arange(unique)
            of_place[place[part.twins.leaders]] = np.where(least < last, least, -1)
        bounds = segment.bounds
        if (of_place[:unique] < 0).any():
            bounds = bounds.copy()
            bounds[:, 0][(of_place < 0).reshape(-1, PANEL)] = np.inf
        return dataclasses.replace(segment, rank=of_place, bounds=bounds)

    def _scan(self, asked: Floats, view: View) -> Scan | TorchScan:
        if self.encoder is None:
            raise AssertionError("what is scanned was encoded")
        if self.where.device == "cpu":
            return Scan(self.encoder, view.segments, asked, self.where.threads)
        if self._on_gpu is None:
            fraction = self.where.max_memory_fraction
            self._on_gpu = GpuRows(self.encoder, view.segments, device=self.where.device, max_memory_fraction=fraction)
        self._on_gpu.add(view.segments)
        return TorchScan(self._on_gpu, view.segments, asked)

    def nearest(self, asked: Floats, k: int, view: View, *, prove: bool = False) -> Ranked:
        """The k nearest of each query by (distance, rank), all twins among them; k at most `view.count`."""
        if k == 0 or not len(asked):
            return Ranked(np.empty((len(asked), k)), np.empty((len(asked), k), np.int64), None, None, 0)
        if view.direct is not None:
            return self._direct(asked, k, view.direct)
        if len(asked) * view.count * self.dims <= _FEW_NUMBERS:
            return self._direct(asked, k, np.flatnonzero(view.allowed))
        unique = sum(int((segment.rank >= 0).sum()) for segment, _ in view.segments)
        found = self._scan(asked, view).nearest(min(k, unique), prove=prove)
        return found if not len(self.twins) else self._expanded(found, k, view)

    def _expanded(self, found: Ranked, k: int, view: View) -> Ranked:
        """Rows with their twins, the k best of all."""
        distance, rank = np.empty((len(found.rank), k)), np.empty((len(found.rank), k), np.int64)
        group = self._groups()[self.ids.by_rank[found.rank]]
        alone: npt.NDArray[np.bool_] = np.zeros(len(group), np.bool_)
        if found.rank.shape[1] == k:
            alone = np.asarray((group < 0).all(axis=1))
            distance[alone], rank[alone] = found.distance[alone], found.rank[alone]
        for part in slices(int((~alone).sum()), max(1, _EXPANDED // (k * found.rank.shape[1]))):
            others = np.flatnonzero(~alone)[part]
            size = np.where(group[others] < 0, 1, np.diff(view.twins.first)[group[others]])
            needed = np.cumsum(size, axis=1) - size < k  # those before do not fill the answer yet
            far = np.where(needed, found.distance[others], -np.inf).max(axis=1)
            who, place = np.nonzero(found.distance[others] <= far[:, None])
            at = others[who], place
            who, ranks, distances = self.with_twins(who, found.rank[at], found.distance[at], view, most=k)
            order = np.lexsort((ranks, distances, who))
            start = np.searchsorted(who[order], np.arange(len(others)))
            best = order[start[:, None] + np.arange(k)]
            distance[others], rank[others] = distances[best], ranks[best]
        return dataclasses.replace(found, distance=distance, rank=rank)

    def within(self, asked: Floats, radius: float, view: View) -> tuple[Ints, Ints, Float64s]:
        """Everybody within a radius: which query, rank and distance, each (found,), ordered by all but rank last."""
        if view.direct is not None:
            who, rank, distance = self._direct_within(asked, radius, view.direct)
        elif not len(asked):
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        else:
            found = self._scan(asked, view).within(radius)
            who, rank, distance = self.with_twins(found.query, found.rank, found.distance, view)
        order = np.lexsort((rank, distance, who))
        return who[order], rank[order], distance[order]

    def with_twins(
        self, who: Ints, rank: Ints, distance: Float64s, view: View, most: int | None = None
    ) -> tuple[Ints, Ints, Float64s]:
        """Found rows, and those that equal them and may be found; whose order is lost. At most the first of a group."""
        if not len(self.twins):
            return who, rank, distance
        group = self._groups()[self.ids.by_rank[rank]]
        alone = group < 0
        at, positions = members_of(view.twins, group[~alone], most)
        at = np.flatnonzero(~alone)[at]
        return (
            np.concatenate([who[alone], who[at]]),
            np.concatenate([rank[alone], self.ids.rank[positions]]),
            np.concatenate([distance[alone], distance[at]]),
        )

    def _groups(self) -> Ints:
        """Which group of twins each position is in, int64, -1 for none."""
        known = self._group_of
        if known is None:
            known = np.full(len(self.ids.values), -1, np.int64)
            known[self.twins.members] = np.repeat(np.arange(len(self.twins)), np.diff(self.twins.first))
            self._group_of = known  # not before it is whole: others may search meanwhile
        return known

    def group_of(self, positions: Ints) -> Ints:
        """Which group of twins some positions are in, -1 for none."""
        return self._groups()[positions]

    def _direct(self, asked: Floats, k: int, positions: Ints) -> Ranked:
        """The k nearest of some rows, each measured; k at least 1."""
        rank = self.ids.rank[positions]
        out_distance, out_rank = np.empty((len(asked), k)), np.empty((len(asked), k), np.int64)

        def some(part: slice) -> None:
            distance = self.measure(asked[part], positions)
            kth = np.partition(distance, k - 1, axis=1)[:, k - 1]
            for query, own, most in zip(range(part.start, part.stop), distance, kth, strict=True):
                near = np.flatnonzero(own <= most)
                near = near[np.lexsort((rank[near], own[near]))[:k]]
                out_distance[query], out_rank[query] = own[near], rank[near]

        in_threads(some, slices(len(asked), 64), self.where.threads)
        return Ranked(out_distance, out_rank, None, None, len(asked) * len(positions))

    def _direct_within(self, asked: Floats, radius: float, positions: Ints) -> tuple[Ints, Ints, Float64s]:
        """Those of some rows that are within a radius, each measured."""
        rank = self.ids.rank[positions]

        def some(part: slice) -> tuple[Ints, Ints, Float64s]:
            distance = self.measure(asked[part], positions)
            who, place = np.nonzero(distance <= radius)
            return part.start + who, rank[place], distance[who, place]

        found = in_threads(some, slices(len(asked), 64), self.where.threads)
        if not found:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        who, ranks, distance = (np.concatenate(column) for column in zip(*found, strict=True))
        return who, ranks, distance

    def measure(self, asked: Floats, positions: Ints) -> Float64s:
        """Exact distances, float64 (m, positions)."""
        inverse = inverse_norms(asked) if self.metric == "cosine" else np.ones(len(asked))
        out = np.empty((len(asked), len(positions)))
        for added in self.added:
            inside, rows = added.rows(positions)
            segment = _bare(added)
            for query, vector in enumerate(asked.astype(np.float64)):
                out[query, inside] = kernel().measure(segment, self.metric, vector, float(inverse[query]), rows)
        return out

    def ids_of(self, rank: Ints) -> npt.NDArray[Any]:
        """The ids of ranks, in the same shape."""
        return self.ids.values[self.ids.by_rank[rank]]


def members_of(groups: Twins, wanted: Ints, most: int | None = None) -> tuple[Ints, Ints]:
    """The members of some groups, at most the first so many of each: which of the wanted each is of, and who it is."""
    sizes = groups.first[wanted + 1] - groups.first[wanted]
    if most is not None:
        sizes = np.minimum(sizes, most)
    which = np.repeat(np.arange(len(wanted)), sizes)
    place = np.arange(len(which)) + (groups.first[wanted] - (np.cumsum(sizes) - sizes))[which]
    return which, groups.members[place]


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
    return Part(added.offset, segment, clusters, groups, uuid.uuid4().hex)
