"""The hot loops in NumPy, for where no compiler was at hand: the same functions as `native`, the same answers, slower."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from imagelake.search.segment import (
    BLOCK,
    CODE_NORM,
    LANES,
    PANEL,
    Answer,
    Floats,
    Float64s,
    Ints,
    Metric,
    Queries,
    Seeds,
    Segment,
)

_ROWS = 2048  # rows that one product looks at
_PAIRS = 1 << 22  # numbers gathered at once
_DENSE = 0.2  # of a product's pairs left, all pairs at once are faster than one by one


def available() -> bool:
    """It always is."""
    return True


def name() -> str:
    """What runs here, for benchmarks."""
    return "NumPy"


def squared_norms(vectors: Floats) -> Float64s:
    """Squared norms of rows, float64 (n,), the same bits on every machine."""
    out = np.empty(len(vectors))
    step = max(1, _PAIRS // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        wide = vectors[start : start + step].astype(np.float64)
        out[start : start + step] = _sum(wide * wide)
    return out


def prepare(
    vectors: Floats, center: Float64s, inverse: Float64s | None
) -> tuple[npt.NDArray[np.float32], Float64s, npt.NDArray[np.int32]]:
    """Rows less the center, scaled by a power of two to a norm in [0.5, 1); their norms; the exponents."""
    wide = vectors.astype(np.float64)
    if inverse is not None:
        wide *= inverse[:, None]
    wide -= center
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    exponents = np.where(norms > 0, np.frexp(norms)[1], 0).astype(np.int32)
    return np.ldexp(wide, -exponents[:, None]).astype(np.float32), norms, exponents


def pack(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A matrix as `rotate` reads it: as it is."""
    return matrix


def rotate(x: npt.NDArray[np.float32], packed: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`x` times the matrix, summed 256 terms at a time."""
    out = x[:, :256] @ packed[:256]
    for start in range(256, len(packed), 256):
        out += x[:, start : start + 256] @ packed[start : start + 256]
    return out


def encode(
    rotated: npt.NDArray[np.float32], dims: int, head: int, limit: float
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Codes of the first `head` dimensions, of the others, and their stats: see `segment.Codes`."""
    head_codes, head_stats = _quantize(rotated[:, :head], limit, 4)
    rest_codes, rest_stats = _quantize(rotated[:, head:dims], limit, 64)
    return head_codes, rest_codes, np.concatenate([head_stats, rest_stats], axis=1)


def _quantize(
    y: npt.NDArray[np.float32], limit: float, multiple: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    count, dims = y.shape
    codes = np.zeros((count, -(-dims // multiple) * multiple), np.int8)
    stats = np.zeros((count, 3), np.float32)
    if dims == 0:
        return codes, stats
    edges = range(0, dims, BLOCK)
    squares = np.stack([np.square(y[:, edge : edge + BLOCK]).sum(axis=1) for edge in edges], axis=1)
    stats[:, 2] = np.sqrt(squares.sum(axis=1))
    scale = np.maximum(np.sqrt(squares.max(axis=1)) / np.float32(178), np.abs(y).max(axis=1) / np.float32(limit))
    scale[scale <= 1e-30] = 0
    fits = scale == 0
    inverse = np.zeros_like(scale)
    while True:
        np.divide(1, scale, out=inverse, where=scale > 0)
        rounded = np.clip(np.rint(y * inverse[:, None]), -limit, limit)
        norms = np.stack([np.square(rounded[:, edge : edge + BLOCK]).sum(axis=1) for edge in edges], axis=1)
        fits |= norms.max(axis=1) <= CODE_NORM**2
        if fits.all():
            break
        scale[~fits] *= np.float32(1.02)
    codes[:, :dims] = rounded
    stats[:, 0] = scale
    stats[:, 1] = np.linalg.norm(y - scale[:, None] * rounded, axis=1)
    return codes, stats


def measure(segment: Segment, metric: Metric, query: Float64s, query_inverse: float, rows: Ints) -> Float64s:
    """Exact distances of one query to the named rows of `segment.vectors`."""
    out = np.empty(len(rows))
    step = max(1, _PAIRS // max(1, len(query)))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        x = segment.vectors[part].astype(np.float64)
        if metric == "dot":
            out[start : start + step] = -_sum(x * query)
        elif metric == "l2":
            out[start : start + step] = np.sqrt(_sum(np.square(x - query)))
        else:
            inverse = np.ones(len(part)) if segment.inverse is None else segment.inverse[part]
            half = 0.5 * _sum(np.square(x * inverse[:, None] - query * query_inverse))
            out[start : start + step] = np.where((inverse == 0) != (query_inverse == 0), 1.0, half)
    return out


def _sum(terms: Float64s) -> Float64s:
    """Sum rows as the compiled loop does: 16 running sums in order, then halved four times."""
    count, dims = terms.shape
    sums = np.zeros((count, LANES))
    for start in range(0, dims, LANES):
        part = terms[:, start : start + LANES]
        sums[:, : part.shape[1]] += part
    half = LANES
    while half > 1:
        half //= 2
        sums[:, :half] += sums[:, half : 2 * half]
    return sums[:, 0].copy()


def scan(segment: Segment, queries: Queries, answer: Answer, panels: range, seeds: Seeds | None) -> None:
    """Add to `answer` what the panels of a segment have for the queries."""
    head = queries.head.astype(np.float32)
    rest = queries.rest.astype(np.float32)
    if seeds is not None and answer.radius is None:
        _seed(segment, queries, head, answer, seeds)
    step = _ROWS // PANEL
    for first in range(panels.start, panels.stop, step):
        _scan_rows(segment, queries, (head, rest), answer, range(first, min(panels.stop, first + step)))


def _unpacked(segment: Segment, panels: Ints | range) -> npt.NDArray[np.float32]:
    """Head codes of some panels, float32 (rows, head dims)."""
    part = segment.head[panels.start : panels.stop] if isinstance(panels, range) else segment.head[panels]
    return part.transpose(0, 2, 1, 3).reshape(len(part) * PANEL, -1).astype(np.float32) - 64


def _seed(
    segment: Segment, queries: Queries, head: npt.NDArray[np.float32], answer: Answer, seeds: Seeds
) -> None:
    k = answer.distance.shape[1]
    for group, start in enumerate(seeds.start[:-1]):
        panels = seeds.panels[start : seeds.start[group + 1]].astype(np.int64)
        if not len(panels):
            continue
        products_of = _unpacked(segment, panels)
        bounds = segment.bounds[panels].transpose(1, 0, 2).reshape(6, -1)
        for query in range(group * 8, min(len(head), group * 8 + 8)):
            scale, factor = queries.coefficients[query, [0, 4]]
            estimate = bounds[3] * factor - bounds[0] * scale * (products_of @ head[query])
            best = np.argsort(estimate, kind="stable")[: k + k // 4 + 3]
            _take(segment, queries, answer, query, panels[best // PANEL] * PANEL + best % PANEL)


def _scan_rows(
    segment: Segment,
    queries: Queries,
    codes: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    answer: Answer,
    panels: range,
) -> None:
    head, rest = codes
    coefficients = queries.coefficients
    bounds = segment.bounds[panels.start : panels.stop].transpose(1, 0, 2).reshape(6, -1)
    with np.errstate(invalid="ignore", over="ignore"):
        bound = bounds[0] * (coefficients[:, :1] * (head @ _unpacked(segment, panels).T) + coefficients[:, 1:2])
        bound += bounds[1] * coefficients[:, 2:3] + bounds[2] * coefficients[:, 3:4] - bounds[3] * coefficients[:, 4:5]
    limits = _limits(queries, answer)
    reaching = bound >= limits[:, None]
    answer.counts[0] += reaching.size
    who, where = np.nonzero(reaching)
    if rest.shape[1] and len(who):
        rows = slice(panels.start * PANEL, panels.stop * PANEL)
        stored = segment.rest[rows].astype(np.float32) - 64
        if len(who) > _DENSE * reaching.size:
            answer.counts[3] += len(panels)
            products = (rest @ stored.T)[who, where]
        else:
            products = np.empty(len(who), np.float32)
            step = max(1, _PAIRS // rest.shape[1])
            for start in range(0, len(who), step):
                part = slice(start, start + step)
                products[part] = np.einsum("ij,ij->i", rest[who[part]], stored[where[part]])
        answer.counts[1] += len(who)
        own = coefficients[who]
        bound[who, where] += (
            bounds[4, where] * (own[:, 5] * products + own[:, 6]) + (bounds[5, where] - bounds[2, where]) * own[:, 3]
        )
        reaching[who, where] = bound[who, where] >= limits[who]
    if answer.excluded is not None:
        np.maximum(answer.excluded, np.where(reaching, -np.inf, bound).max(axis=1), out=answer.excluded)
    for query in np.flatnonzero(reaching.any(axis=1)):
        places = np.flatnonzero(reaching[query])
        _take(segment, queries, answer, int(query), panels.start * PANEL + places)


def _limits(queries: Queries, answer: Answer) -> npt.NDArray[np.float32]:
    """The least bound of a row that can be an answer, per query."""
    if answer.radius is not None:
        distance = answer.radius
    else:
        distance = np.where(answer.held == answer.distance.shape[1], answer.distance.max(axis=1, initial=0), np.inf)
    value = {"l2": np.square(distance), "cosine": 2 * distance, "dot": distance}[answer.metric]
    origin, factor, slack = queries.threshold.T
    with np.errstate(invalid="ignore", over="ignore"):
        limit = (origin - value) * factor - slack - np.abs(value) * factor * 1e-11 - 1e-37
    limit = np.where(np.isinf(distance), -np.inf, np.clip(limit, -3.4e38, 3e38))
    return np.nextafter(limit.astype(np.float32), np.float32(-np.inf))


def _take(segment: Segment, queries: Queries, answer: Answer, query: int, places: Ints) -> None:
    """Measure some rows for one query and keep those that are answers."""
    rank = segment.rank[places]
    usable = rank >= 0
    if answer.own_rank is not None:
        own = answer.own_rank[query]
        usable &= rank > own if answer.only_above else rank != own
    places, rank = places[usable], rank[usable]
    answer.counts[2] += len(places)
    wide = queries.vectors[query].astype(np.float64)
    distance = measure(segment, answer.metric, wide, float(queries.inverse[query]), segment.source[places])
    if answer.radius is not None:
        inside = distance <= answer.radius[query]
        answer.found.append((np.full(int(inside.sum()), query, np.int64), rank[inside], distance[inside]))
        return
    held = int(answer.held[query])
    ranks, first = np.unique(np.concatenate([answer.rank[query, :held], rank]), return_index=True)
    distances = np.concatenate([answer.distance[query, :held], distance])[first]
    order = np.lexsort((ranks, distances))[: answer.distance.shape[1]][::-1]  # the worst first: that is a heap too
    answer.held[query] = len(order)
    answer.rank[query, : len(order)] = ranks[order]
    answer.distance[query, : len(order)] = distances[order]
