"""Exact search on a CUDA device, through torch: float16 products bound all pairs, the few that are left are measured.

Rows and queries are float16 numbers times a power of two. A tensor core takes float16 as fast as bfloat16, which has
three bits less, so its bounds would be eight times as wide; what bfloat16 has more of is range, and the power of two
gives that. What float16 leaves out of a vector is measured in float64 as a norm. With a row `a` that is held as `A`, a
query `p` that is held as `P`, and the error of summing n products, which is at most g |A| |P|:

    a.p - r |a|^2 / 2  <=  A.P  -  r |a|^2 / 2  +  |a - A| |P|  +  |a| (|p - P| + g |P|)

That is a sum of products of a number of the row and one of the query, so the terms after A.P are four more dimensions
of the product: it is the bound, and nothing needs to go over it again. For l2 and cosine `r` is the row's unit by the
query's, and the left side is a decreasing function of the distance; for dot it is 0.

The error of summing: g = 4 n 2^-24. float32 with rounding has n 2^-24 (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., section 3.1). Tensor cores multiply float16 exactly, subnormals too, then shift the b products of a
block and the sum so far to the largest exponent and cut them off, at 24 bits or later (Fasi, Higham, Mikaitis and
Pranesh, Numerical behavior of NVIDIA tensor cores, PeerJ Computer Science 7:e330, 2021): each of b + 1 numbers loses
less than 2^-23 of the largest, and so does the sum. That is (b + 2) 2^-23 a block, n (1 + 2 / b) 2^-23 in all, and
3 n 2^-24 for the smallest b of 4. NVIDIA documents none of this, and that paper looked at the V100, the T4 and the
A100: `TorchScan.audit` compares bounds and distances on the device at hand.

Which rows are measured: the k and some more with the greatest bounds, so all shapes are known beforehand. They are
found by the greatest bound of each 64 rows, one pass over the bounds, where `torch.topk` needs several. A query whose
k-th distance does not refuse all others has its bounds computed once more, and everybody above that known threshold is
measured; that needs `nonzero`, two more passes and a wait for their count, so it is not where all queries begin.

Distances are those of `plain.measure` to the bit: float64, 16 running sums in order, then halved four times. Each
product and each sum is a kernel of its own, so that no compiler can fuse two of them into one rounding.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake._optional import need
from imagelake.errors import SearchError
from imagelake.search.clusters import Clusters
from imagelake.search.encoding import Encoder, inverse_norms
from imagelake.search.kernel import kernel
from imagelake.search.scan import Found, Ranked
from imagelake.search.segment import LANES, Float64s, Floats, Ints, Metric, Segment
from imagelake.search.threads import in_threads, slices, thread_count

Tensor = Any  # torch is loaded late

_EXTRA = 4  # dimensions of the product that turn it into a bound
_ALIGNED = 8  # float16 numbers that a tensor core reads at once
_GROUP = 64  # rows whose greatest bound is looked at first
_LIMIT = 128.0  # norms of rows beyond this many units are cut to it; see `_cut`
_SMALLEST = 2.0**-14  # of float16, without subnormals
_LEAST_UNIT = 2.0**-400  # products of two units must not underflow
_UNIT64 = 2.0**-53
_SUMMED = 1 + 1e-9  # norms are float64 sums
_STAGED = 1 << 25  # bytes that go to the device at a time
_SCRATCH = 1 << 32  # bytes, at most
_MOST_DIMS = 1 << 19  # the error of summing is at most 1/8


def choose_device(device: str) -> str:
    """The device to search on: "cpu", "cuda" or "cuda:1"; "auto" is CUDA where torch has it, else "cpu".

    Raises:
        MissingExtraError: CUDA is asked for, and torch is not installed.
        SearchError: CUDA is asked for, and torch has none; or the name is another.
    """
    if device == "cpu" or (device == "auto" and importlib.util.find_spec("torch") is None):
        return "cpu"
    name, _, number = device.partition(":")
    if device != "auto" and (name != "cuda" or (":" in device and not number.isdecimal())):
        raise SearchError(f"device {device!r} is not known; use 'auto', 'cpu', 'cuda' or 'cuda:0'.")
    torch = need("gpu", "torch")
    count = torch.cuda.device_count() if torch.version.cuda is not None and torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if count else "cpu"
    if int(number or 0) >= count:
        raise SearchError(
            f"device {device!r} is not there: torch {torch.__version__} finds {count} CUDA devices. Use 'auto' or "
            "'cpu', or install a torch that was built for CUDA, and NVIDIA's driver."
        )
    return device


@dataclass(frozen=True)
class _Tile:
    """Rows that are bounded in one product.

    Attributes:
        first: the slot of the first; all rows of all segments have slots, in order.
        rows: float16 (n, width), on the device or, to be sent each time, on the host.
        unit: a power of two; what is held are multiples of it.
        cut: whether some norms were cut.
        stays: whether the rows are on the device.
    """

    first: int
    rows: Tensor
    unit: float
    cut: bool
    stays: bool


@dataclass
class _Part:
    """A segment's unique rows: `raw` and `inverse` are on the device, or None."""

    first: int
    source: Ints
    segment: Segment
    raw: Tensor
    inverse: Tensor

    @property
    def stop(self) -> int:
        return self.first + len(self.source)


@dataclass(frozen=True)
class _Ranks:
    """Which slots may be found: `of_slot` (slots,), all that may, and those of each tile, None for the whole tile."""

    given: tuple[Ints, ...]
    of_slot: Tensor
    usable: Tensor
    of_tile: tuple[Tensor | None, ...]


class GpuRows:
    """The rows of an index on a device, made once and kept between searches.

    Low-precision rows come first. What does not fit stays on the host and is sent, tile by tile, with each search. The
    vectors themselves go to the device too where there is room: to gather 40,000 candidates of 8 KB on the host and
    send them would take longer than bounding 10,000 x 90,000 pairs does.

    Args:
        encoder: the index's; its center and its unit are used here.
        segments: as for `Scan`.
        device: "cuda", "cuda:1", or "cpu" for tests.
        max_memory_fraction: how much of the device's free memory may be used.
        memory_bytes: that in bytes, instead.

    Raises:
        MissingExtraError: torch is not installed.
        SearchError: vectors are too long for these bounds.
    """

    def __init__(
        self,
        encoder: Encoder,
        segments: Sequence[tuple[Segment, Clusters]],
        *,
        device: str = "cuda",
        max_memory_fraction: float = 0.8,
        memory_bytes: int | None = None,
    ) -> None:
        self.torch = need("gpu", "torch")
        self.device = device
        self.encoder = encoder
        if encoder.dims > _MOST_DIMS:
            raise SearchError(
                f"vectors have {encoder.dims} dimensions; on a GPU they can have {_MOST_DIMS}. Use 'cpu'."
            )
        self.width = -(-(encoder.dims + _EXTRA) // _ALIGNED) * _ALIGNED
        if memory_bytes is None:
            memory_bytes = int(self._free() * max_memory_fraction)
        self.scratch = max(1 << 12, min(_SCRATCH, memory_bytes // 6))
        self._left = memory_bytes - 2 * self.scratch
        self.center = self.send(encoder.center)
        self.parts: list[_Part] = []
        self.tiles: list[_Tile] = []
        self._ranks: _Ranks | None = None  # the last ones
        self.add(segments)

    @property
    def error(self) -> float:
        """Of summing: times the norms of two vectors, what their product can be off."""
        return 4 * self.width * 2.0**-24

    @property
    def slots(self) -> int:
        """How many rows there are."""
        return self.parts[-1].stop if self.parts else 0

    @property
    def streamed(self) -> int:
        """How many rows are sent to the device with each search."""
        return sum(len(tile.rows) for tile in self.tiles if not tile.stays)

    @property
    def gathered(self) -> int:
        """How many rows are gathered on the host when they are measured."""
        return sum(len(part.source) for part in self.parts if part.raw is None)

    def add(self, segments: Sequence[tuple[Segment, Clusters]]) -> None:
        """Take in those of the segments that came after the ones held already."""
        for segment, clusters in segments[len(self.parts) :]:
            self._ranks = None
            source = segment.source[: int(clusters.first[-1])]
            inverse = None if segment.inverse is None else self.send(segment.inverse[source])
            part = _Part(self.slots, source, segment, None, inverse)
            self.parts.append(part)
            size = max(_GROUP, self.scratch // 4 // (2 * self.width))
            for rows in slices(len(source), size):
                self.tiles.append(self._tile(part, rows))
            raw = len(source) * self.encoder.dims * segment.vectors.itemsize
            if not self.streamed and raw <= self._left:
                self._left -= raw
                part.raw = self.send(segment.vectors, source)

    def ranks(self, segments: Sequence[tuple[Segment, Clusters]]) -> _Ranks:
        """The ranks that the segments have now; the last ones are kept."""
        given = tuple(segment.rank for segment, _ in segments)
        if len(given) != len(self.parts) or any(
            segment.source is not part.segment.source for (segment, _), part in zip(segments, self.parts, strict=True)
        ):
            raise SearchError("these are not the segments whose rows are on the device; add them first.")
        held = self._ranks
        if held is None or any(a is not b for a, b in zip(held.given, given, strict=True)):
            rank = np.concatenate([rank[: len(part.source)] for rank, part in zip(given, self.parts, strict=True)])
            there = rank >= 0
            of_tile: list[Tensor | None] = []
            for tile in self.tiles:
                mine = there[tile.first : tile.first + len(tile.rows)]
                of_tile.append(None if mine.all() else self.send(np.flatnonzero(mine)))
            held = self._ranks = _Ranks(given, self.send(rank), self.send(np.flatnonzero(there)), tuple(of_tile))
        return held

    def usable(self, ranks: _Ranks) -> Iterator[tuple[_Tile, Tensor, Tensor]]:
        """Each tile with its rows that may be found, on the device, and their slots."""
        for tile, chosen in zip(self.tiles, ranks.of_tile, strict=True):
            if chosen is not None and not len(chosen):
                continue
            rows = tile.rows if tile.stays else self._send(tile.rows)
            places = self.torch.arange(len(rows), device=self.device) if chosen is None else chosen
            yield tile, rows if chosen is None else rows[chosen], tile.first + places

    def vectors(self, slots: Tensor) -> tuple[Tensor, Tensor | None]:
        """The vectors of some slots, (n, d), and for cosine one over their norms, (n,)."""
        if len(self.parts) == 1:
            return self._vectors_of(self.parts[0], slots)
        out, inverse = None, None
        for part in self.parts:
            inside = ((slots >= part.first) & (slots < part.stop)).nonzero()[:, 0]
            some, own = self._vectors_of(part, slots[inside] - part.first)
            if out is None:
                out = some.new_empty((len(slots), some.shape[1]))
                inverse = None if own is None else own.new_empty(len(slots))
            out[inside] = some
            if inverse is not None:
                inverse[inside] = own
        return out, inverse

    def send(self, array: np.ndarray[Any, Any], rows: Ints | None = None) -> Tensor:
        """An array, or some rows of it, on the device."""
        count = len(array) if rows is None else len(rows)
        out = self.torch.empty(
            (count, *array.shape[1:]), dtype=getattr(self.torch, array.dtype.name), device=self.device
        )
        for part in slices(count, max(1, _STAGED // max(1, array[:1].nbytes))):
            piece = array[part] if rows is None else array[rows[part]]
            if not piece.flags.writeable:  # torch warns of those, though it only reads here
                piece = piece.copy()
            self._copy(self.torch.from_numpy(piece), out[part])
        return out

    def _send(self, rows: Tensor) -> Tensor:
        out = self.torch.empty(rows.shape, dtype=rows.dtype, device=self.device)
        for part in slices(len(rows), max(1, _STAGED // (2 * self.width))):
            self._copy(rows[part], out[part])
        return out

    def _copy(self, piece: Tensor, out: Tensor) -> None:
        if out.is_cuda:  # through pinned memory, which torch keeps: the host fills a piece while the last one is sent
            piece = piece.pin_memory()
        out.copy_(piece, non_blocking=True)

    def _free(self) -> int:
        """Bytes that nobody uses."""
        cuda = self.torch.cuda
        if self.device == "cpu":
            return 1 << 40
        return int(cuda.mem_get_info(self.device)[0]) + int(
            cuda.memory_reserved(self.device) - cuda.memory_allocated(self.device)
        )

    def _vectors_of(self, part: _Part, places: Tensor) -> tuple[Tensor, Tensor | None]:
        inverse = None if part.inverse is None else part.inverse[places]
        if part.raw is not None:
            return part.raw[places], inverse
        return self.send(part.segment.vectors, part.source[places.cpu().numpy()]), inverse

    def _tile(self, part: _Part, rows: slice) -> _Tile:
        """Encode rows; they stay on the device where they fit."""
        size = (rows.stop - rows.start) * self.width * 2
        stays = size <= self._left
        self._left -= size if stays else 0
        out = self.torch.zeros(
            (rows.stop - rows.start, self.width),
            dtype=self.torch.float16,
            device=self.device if stays else "cpu",
        )
        step = max(1, self.scratch // (40 * self.encoder.dims))
        pieces = [slice(rows.start + s.start, rows.start + s.stop) for s in slices(len(out), step)]
        unit = max(self.encoder.unit, _LEAST_UNIT)
        if self.encoder.metric == "dot":  # the longest may well be the nearest: none is cut
            largest = max(float(self._centered(part, piece)[1].max()) for piece in pieces)
            unit = max(float(2.0 ** np.frexp(largest)[1]), _LEAST_UNIT)
        cut = False
        for piece in pieces:
            wide, norm, lost = self._centered(part, piece)
            wide, norm, lost = wide * (1 / unit), norm / unit, lost / unit
            if self.encoder.metric != "dot" and bool((norm > _LIMIT).any()):
                cut = True
                wide, norm, lost = _cut(wide, norm, lost)
            at = slice(piece.start - rows.start, piece.stop - rows.start)
            out[at] = _encode_rows(wide, norm, lost, self)
        return _Tile(part.first + rows.start, out, unit, cut, stays)

    def _centered(self, part: _Part, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        inverse = None if part.inverse is None else part.inverse[rows]
        return self.centered(self.send(part.segment.vectors, part.source[rows]), inverse, self.center)

    def centered(self, x: Tensor, inverse: Tensor | None, center: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """float64 vectors less the center, their norms, and how far float64 can be off."""
        wide = x.double() if inverse is None else x.double() * inverse[:, None]
        lost = 8 * _UNIT64 * (_norms(wide) + (0.0 if center is None else _norms(center[None])))
        if center is not None:
            wide = wide - center
        return wide, _norms(wide), lost


@dataclass(frozen=True)
class _Encoded:
    """Queries for tiles of one unit.

    Attributes:
        columns: float16 (m, width).
        scale: float64 (m,); a bound times this is one of products of the vectors themselves.
        far: bool (m,) or None where there are none; rows that were cut have no bound for these.
    """

    columns: Tensor
    scale: Tensor
    far: Tensor | None


@dataclass
class _Block:
    """Some queries on the device.

    Attributes:
        vectors: (m, d), as given.
        inverse: float64 (m,), one over their norms, for cosine.
        norm: float64 (m,), of what is bounded: less the center, but for dot.
        lost: float64 (m,), how far float64 can be off in that.
        origin, slack: float64 (m,); what makes a distance of a product.
        encoded: for the unit that was asked for last.
    """

    vectors: Tensor
    inverse: Tensor | None
    norm: Tensor
    lost: Tensor
    origin: Tensor
    slack: Tensor
    encoded: tuple[float, _Encoded] | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: slice | Tensor) -> _Block:
        """Some of them."""
        inverse = None if self.inverse is None else self.inverse[rows]
        return _Block(
            self.vectors[rows], inverse, self.norm[rows], self.lost[rows], self.origin[rows], self.slack[rows]
        )


class TorchScan:
    """Queries made ready to be looked for on a device; what `Scan` is on the CPU, with the same answers to the bit.

    Args:
        rows: what is on the device.
        segments: the same ones, with ranks; -1 for a row that must not be found.
        queries: float32 or float64 (m, d).

    Raises:
        SearchError: the segments are not those of `rows`.
    """

    def __init__(self, rows: GpuRows, segments: Sequence[tuple[Segment, Clusters]], queries: Floats) -> None:
        self._rows = rows
        self._torch = rows.torch
        self._metric = rows.encoder.metric
        self._ranks = rows.ranks(segments)
        self._vectors = queries
        self._inverse: Float64s | None = None
        if self._metric == "cosine":
            parts = in_threads(lambda part: inverse_norms(queries[part]), slices(len(queries), 512), thread_count(None))
            self._inverse = np.concatenate([np.empty(0), *parts])
        self._blocks = slices(len(queries), max(1, rows.scratch // (32 * rows.width)))
        self._ready = self._block(self._blocks[0]) if len(self._blocks) == 1 else None

    def nearest(self, k: int, *, prove: bool = False) -> Ranked:
        """The k nearest of each query, k at least 1."""
        count = len(self._vectors)
        distance, rank = np.full((count, k), np.inf), np.full((count, k), -1, np.int64)
        bound, proven = np.full(count, np.inf), np.ones(count, np.bool_)
        wanted = min(len(self._ranks.usable), k + k // 4 + 5)
        measured = count * wanted
        for part in self._blocks if wanted else []:
            block = self._block(part) if self._ready is None else self._ready
            distance[part, :wanted], rank[part, :wanted], outside = self._candidates(block, k, wanted)
            again = np.flatnonzero(~self._holds(block, distance[part, -1], outside))
            if len(again):
                kth = distance[part][again, -1]
                who, ranks, distances, outside[again], more = self._above(block.take(self._rows.send(again)), kth)
                distance[part.start + again], rank[part.start + again] = _best(who, ranks, distances, len(again), k)
                measured += more
            if prove:
                proven[part] = self._holds(block, distance[part, -1], outside)
                bound[part] = self._distances(block, self._rows.send(outside)).cpu().numpy()
        return Ranked(distance, rank, bound if prove else None, proven if prove else None, measured)

    def within(self, radius: float) -> Found:
        """Everybody within `radius`."""
        found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
        for part in self._blocks:
            block = self._block(part) if self._ready is None else self._ready
            who, rank, distance, _, _ = self._above(block, np.full(len(block), float(radius)))
            found.append((part.start + who, rank, distance))
        return Found(*(np.concatenate(column) for column in zip(*found, strict=True)))

    def audit(self) -> None:
        """Check what this search rests on, on the device at hand: bounds of all pairs, and distances to the bit.

        For tests, and for a device that was not measured yet; costs more than brute force.

        Raises:
            SearchError: a bound says that a row is farther than it is, or a distance is not that of the CPU.
        """
        for query in range(len(self._vectors)):
            block = self._block(slice(query, query + 1))
            for tile, rows, slots in self._rows.usable(self._ranks):
                distance = self._pairs(block, self._torch.zeros_like(slots), slots)
                host = self._on_host(query, slots.cpu().numpy())
                bounds, scale = self._bounds(block, tile, rows, slice(None))
                below = ~(bounds[0].double() * scale >= self._needed(block, distance))
                other = distance.cpu().numpy().view(np.int64) != host.view(np.int64)
                for wrong, what in (
                    (other, "distance is not that of the CPU"),
                    (below.cpu().numpy(), "bound is violated"),
                ):
                    if wrong.any():
                        name = int(self._ranks.of_slot[slots[int(wrong.argmax())]])
                        raise SearchError(f"on {self._rows.device}, for query {query} and rank {name}, the {what}.")

    def _on_host(self, query: int, slots: Ints) -> Float64s:
        """Distances of one query, measured on the CPU."""
        out = np.empty(len(slots))
        inverse = 1.0 if self._inverse is None else float(self._inverse[query])
        wide = self._vectors[query].astype(np.float64)
        for part in self._rows.parts:
            inside = (slots >= part.first) & (slots < part.stop)
            places = part.source[slots[inside] - part.first]
            out[inside] = kernel().measure(part.segment, self._metric, wide, inverse, places)
        return out

    def _block(self, part: slice) -> _Block:
        """Send and prepare some queries."""
        vectors = self._rows.send(self._vectors[part])
        inverse = None if self._inverse is None else self._rows.send(self._inverse[part])
        wide, norm, lost = self._rows.centered(vectors, inverse, self._center)
        if self._metric == "dot":
            center = self._rows.center
            origin = -(wide * center).sum(1)
            slack = 4 * self._rows.encoder.dims * _UNIT64 * norm * _norms(center[None])
        else:
            origin = norm * norm
            slack = 0.5 * (1e-11 * origin + 2 * norm * lost + lost * lost)
        return _Block(vectors, inverse, norm, lost, origin, slack)

    @property
    def _center(self) -> Tensor | None:
        """What is subtracted from queries."""
        return None if self._metric == "dot" else self._rows.center

    def _encoded(self, block: _Block, unit: float) -> _Encoded:
        """Queries for tiles of a unit; the last ones are kept."""
        if block.encoded is not None and block.encoded[0] == unit:
            return block.encoded[1]
        rows, dims = self._rows, self._rows.encoder.dims
        norm = block.norm.cpu().numpy()  # powers of two are made on the host, where they are exact
        own = np.maximum(np.where(norm > 0, np.ldexp(1.0, np.frexp(norm)[1]), 0), unit)
        ratio = unit / own
        ratio[(ratio < _SMALLEST) | (self._metric == "dot")] = 0  # the bound is greater without it
        far = (norm > _LIMIT / 2 * unit) & (self._metric != "dot")
        factor = rows.send(1 / own)
        wide = rows.centered(block.vectors, block.inverse, self._center)[0] * factor[:, None]
        columns = wide.new_zeros((len(block), rows.width), dtype=self._torch.float16)
        columns[:, :dims] = wide
        kept = columns[:, :dims].double()
        error = _norms(wide - kept) * _SUMMED + block.lost * factor
        size = _norms(kept) * _SUMMED
        columns[:, dims] = columns[:, dims + 1] = rows.send(ratio)
        columns[:, dims + 2] = _up(size)
        columns[:, dims + 3] = _up((error + rows.error * size) * (1 + 2 * rows.error))
        out = _Encoded(columns, rows.send(unit * own), rows.send(far) if far.any() else None)
        block.encoded = unit, out
        return out

    def _bounds(self, block: _Block, tile: _Tile, rows: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """The bounds of some queries and all rows of a tile, float32 (m, n), and what they are multiples of, (m,)."""
        encoded = self._encoded(block, tile.unit)
        bounds = _products(self._torch, encoded.columns[part], rows)
        if tile.cut and encoded.far is not None:
            bounds[encoded.far[part]] = self._torch.inf
        return bounds, encoded.scale[part]

    def _needed(self, block: _Block, distance: Tensor) -> Tensor:
        """The least bound of a row that is at `distance` or nearer, both float64 (m,)."""
        value = distance * distance if self._metric == "l2" else distance * (2 if self._metric == "cosine" else 1)
        needed = (block.origin - value - 1e-11 * value.abs()) * self._half - block.slack - 1e-300
        return self._torch.where(distance.isinf(), -self._torch.inf, needed)

    def _distances(self, block: _Block, bound: Tensor) -> Tensor:
        """What distance a row with such a bound has at least, both float64 (m,)."""
        value = block.origin - (bound + block.slack + 1e-300) / self._half
        value = value - 1e-11 * value.abs()
        if self._metric != "dot":
            value = value.clamp(min=0).sqrt() if self._metric == "l2" else value / 2
        return self._torch.where(bound == -self._torch.inf, self._torch.inf, value)

    @property
    def _half(self) -> float:
        """A product is this times what a distance is made of."""
        return 1.0 if self._metric == "dot" else 0.5

    def _holds(self, block: _Block, kth: Float64s, outside: Float64s) -> npt.NDArray[np.bool_]:
        """Whether the greatest bound of those outside refuses them all."""
        needed: Float64s = self._needed(block, self._rows.send(kth)).cpu().numpy()
        holds: npt.NDArray[np.bool_] = (outside < needed) | (outside == -np.inf)
        return holds

    def _candidates(self, block: _Block, k: int, wanted: int) -> tuple[Float64s, Ints, Float64s]:
        """Measure those with the greatest bounds: the k best by (distance, rank), and the others' greatest bound."""
        count = len(block)
        if wanted == len(self._ranks.usable):
            slots = self._ranks.usable.expand(count, wanted)
            outside = np.full(count, -np.inf)
        else:
            values, slots = self._top(block, wanted + 1)
            slots, outside = slots[:, :wanted], values[:, wanted].cpu().numpy()
        distance, rank = self._each(block, slots), self._ranks.of_slot[slots]
        order = rank.argsort(dim=1)
        order = order.gather(1, distance.gather(1, order).argsort(dim=1, stable=True))
        order = order[:, :k]
        return distance.gather(1, order).cpu().numpy(), rank.gather(1, order).cpu().numpy(), outside

    def _top(self, block: _Block, wanted: int) -> tuple[Tensor, Tensor]:
        """The greatest bounds, float64 (m, wanted), descending, and their slots."""
        torch, shape = self._torch, (len(block), wanted)
        best = torch.full(shape, -torch.inf, dtype=torch.float64, device=self._rows.device)
        whose = torch.zeros(shape, dtype=torch.int64, device=self._rows.device)
        for tile, rows, slots in self._rows.usable(self._ranks):
            for part in _pieces(len(block), self._rows.scratch // (8 * len(rows) + 64 * wanted)):
                bounds, scale = self._bounds(block, tile, rows, part)
                values, columns = _greatest(torch, bounds, wanted)
                values = torch.cat([best[part], values.double() * scale[:, None]], dim=1)
                best[part], at = values.topk(wanted, dim=1)
                whose[part] = torch.cat([whose[part], slots[columns]], dim=1).gather(1, at)
        return best, whose

    def _above(self, block: _Block, limit: Float64s) -> tuple[Ints, Ints, Float64s, Float64s, int]:
        """Everybody within a limit a query: query, rank, distance; the greatest bound of the others; how many pairs."""
        torch, rows_ = self._torch, self._rows
        most = rows_.send(limit)
        needed = self._needed(block, most)
        outside = torch.full_like(most, -torch.inf)
        found = [(torch.zeros_like(self._ranks.usable[:0]), torch.zeros_like(self._ranks.usable[:0]), most[:0])]
        measured = 0
        for tile, rows, slots in rows_.usable(self._ranks):
            for part in _pieces(len(block), rows_.scratch // (32 * len(rows))):
                bounds, scale = self._bounds(block, tile, rows, part)
                least = (needed[part] / scale).clamp(max=3e38)
                hit = ~(bounds < (least - 2.0**-22 * least.abs() - 1e-37).float()[:, None])
                refused = torch.where(hit, -torch.inf, bounds).amax(1).double() * scale
                outside[part] = torch.maximum(outside[part], refused)
                who, column = hit.nonzero(as_tuple=True)
                who = who + part.start
                distance = self._pairs(block, who, slots[column])
                inside = distance <= most[who]
                found.append((who[inside], self._ranks.of_slot[slots[column[inside]]], distance[inside]))
                measured += len(who)
        who, rank, distance = (torch.cat(column).cpu().numpy() for column in zip(*found, strict=True))
        return who, rank, distance, outside.cpu().numpy(), measured

    def _each(self, block: _Block, slots: Tensor) -> Tensor:
        """Distances of each query to its own slots, (m, n)."""
        out = slots.new_empty(slots.shape, dtype=self._torch.float64)
        most = max(1, self._rows.scratch // (24 * self._rows.encoder.dims))
        for columns in slices(slots.shape[1], most):
            for part in slices(len(slots), max(1, most // (columns.stop - columns.start))):
                some = slots[part, columns]
                x, inverse = self._rows.vectors(some.reshape(-1))
                own = None if block.inverse is None else block.inverse[part, None]
                inverse = None if inverse is None else inverse.view(some.shape)
                x = x.view(*some.shape, -1)
                out[part, columns] = _measure(self._torch, self._metric, x, inverse, block.vectors[part, None], own)
        return out

    def _pairs(self, block: _Block, who: Tensor, slots: Tensor) -> Tensor:
        """Distances of pairs, (n,)."""
        out = slots.new_empty(slots.shape, dtype=self._torch.float64)
        for part in slices(len(slots), max(1, self._rows.scratch // (40 * self._rows.encoder.dims))):
            x, inverse = self._rows.vectors(slots[part])
            own = None if block.inverse is None else block.inverse[who[part]]
            out[part] = _measure(self._torch, self._metric, x, inverse, block.vectors[who[part]], own)
        return out


def _norms(x: Tensor) -> Tensor:
    return (x * x).sum(1).sqrt()


def _up(values: Tensor) -> Tensor:
    """To float16, never smaller."""
    return (values * (1 + 2.0**-10) + 2.0**-24).half()


def _cut(wide: Tensor, norm: Tensor, lost: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cut norms to the limit, for l2 and cosine.

    x.q - |x|^2 / 2 grows when an x with |x| >= |q| is made shorter, down to |q|: what bounds the shorter one bounds x.
    """
    scale = (_LIMIT / norm).clamp(max=1.0)
    return wide * scale[:, None], norm * scale, lost * scale + (scale < 1) * (_LIMIT * 4 * _UNIT64)


def _encode_rows(wide: Tensor, norm: Tensor, lost: Tensor, rows: GpuRows) -> Tensor:
    """float16 (n, width): rows, then what makes their products bounds. In units of the tile."""
    dims = wide.shape[1]
    out = wide.new_zeros((len(wide), rows.width), dtype=rows.torch.float16)
    out[:, :dims] = wide
    error = _norms(wide - out[:, :dims].double()) * _SUMMED + lost
    if rows.encoder.metric != "dot":
        half = 0.5 * (norm * (2 - _SUMMED) - lost).clamp(min=0).square() * (1 - 2 * rows.error)
        first = half.half()
        rest = half - first.double()
        out[:, dims] = -first
        out[:, dims + 1] = -(rest - rest.abs() * 2.0**-10 - 2.0**-24).half()
    out[:, dims + 2] = _up(error * (1 + 2 * rows.error))
    out[:, dims + 3] = _up(norm * _SUMMED + lost + error)
    return out


@contextmanager
def _summed_in_float32(torch: Any) -> Iterator[None]:
    """Do not let products be put together from sums in float16."""
    settings = torch.backends.cuda.matmul
    before = settings.allow_fp16_reduced_precision_reduction
    settings.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        settings.allow_fp16_reduced_precision_reduction = before


def _products(torch: Any, queries: Tensor, rows: Tensor) -> Tensor:
    """All products of float16 vectors, float32 (m, n)."""
    if queries.is_cuda:  # without `out_dtype`, the sums would be rounded to float16
        with _summed_in_float32(torch):
            return torch.mm(queries, rows.T, out_dtype=torch.float32)
    return (queries.double() @ rows.double().T).float()  # float32 products may be set to be summed in bfloat16


def _greatest(torch: Any, bounds: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    """The greatest of each row of bounds, and their columns.

    They are in the groups with the greatest maxima: each of so many groups has one that is no less than any outside.
    """
    count, columns = bounds.shape
    if columns < 2 * _GROUP * wanted:
        values, at = bounds.topk(min(wanted, columns), dim=1)
        return values, at
    groups = columns // _GROUP  # each has every so many columns, so that neighbors are read together
    chosen = bounds[:, : groups * _GROUP].unflatten(1, (_GROUP, groups)).amax(1).topk(wanted, dim=1).indices
    members = chosen[:, None] + groups * torch.arange(_GROUP, device=bounds.device)[None, :, None]
    left = torch.arange(groups * _GROUP, columns, device=bounds.device).expand(count, -1)
    looked_at = torch.cat([members.flatten(1), left], dim=1)
    values, at = bounds.gather(1, looked_at).topk(wanted, dim=1)
    return values, looked_at.gather(1, at)


def _measure(
    torch: Any, metric: Metric, x: Tensor, inverse: Tensor | None, query: Tensor, query_inverse: Tensor | None
) -> Tensor:
    """Exact distances over the last axis: `plain.measure` on the device."""
    query = query.double()
    if metric == "dot":
        return -_sum(x * query)
    if inverse is None or query_inverse is None:
        apart = x - query
        return _root(torch, _sum(apart.mul_(apart)))
    apart = x * inverse[..., None] - query * query_inverse[..., None]
    return torch.where((inverse == 0) != (query_inverse == 0), 1.0, 0.5 * _sum(apart.mul_(apart)))


def _sum(terms: Tensor) -> Tensor:
    """`plain._sum` over the last axis."""
    dims = terms.shape[-1]
    sums = terms.new_zeros((*terms.shape[:-1], LANES))
    for start in range(0, dims, LANES):
        size = min(LANES, dims - start)
        sums[..., :size].add_(terms[..., start : start + size])
    half = LANES
    while half > 1:
        half //= 2
        sums[..., :half].add_(sums[..., half : 2 * half])
    return sums[..., 0].clone()


def _root(torch: Any, x: Tensor) -> Tensor:
    """The square root, rounded correctly: on CUDA all are, on the CPU torch may call a library whose are not."""
    return x.sqrt() if x.is_cuda else torch.from_numpy(np.sqrt(x.numpy()))


def _pieces(count: int, most: int) -> list[slice]:
    """`range(count)` in as few pieces of at most `most` as there can be, all about as large."""
    number = max(1, -(-count // max(1, most)))
    return slices(count, -(-count // number))


def _best(who: Ints, rank: Ints, distance: Float64s, count: int, k: int) -> tuple[Float64s, Ints]:
    """The k best of each query by (distance, rank)."""
    order = np.lexsort((rank, distance, who))
    who = who[order]
    place = np.arange(len(who)) - np.searchsorted(who, who)
    out, ranks = np.full((count, k), np.inf), np.full((count, k), -1, np.int64)
    keep = place < k
    out[who[keep], place[keep]] = distance[order][keep]
    ranks[who[keep], place[keep]] = rank[order][keep]
    return out, ranks
