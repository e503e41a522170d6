"""The hot loops in NumPy, for where no compiler was at hand: functions and answers as in `native`, but slower."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from imagelake.search.segment import (
    BLOCK,
    CODE_NORM,
    GROUP,
    LANES,
    PANEL,
    Answer,
    Float64s,
    Floats,
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
    """`x` times the matrix, summed `BLOCK` terms at a time."""
    out = x[:, :BLOCK] @ packed[:BLOCK]
    for start in range(BLOCK, len(packed), BLOCK):
        out += x[:, start : start + BLOCK] @ packed[start : start + BLOCK]
    return out


def encode(
    rotated: npt.NDArray[np.float32], dims: range, padded: int, limit: float
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Codes of some dimensions, int8 (n, padded), and their scales, error norms and norms, float32 (n, 3)."""
    y = rotated[:, dims.start : dims.stop]
    codes = np.zeros((len(y), padded), np.int8)
    stats = np.zeros((len(y), 3), np.float32)
    edges = range(0, len(dims), BLOCK)
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
    codes[:, : len(dims)] = rounded
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
    codes = [level.astype(np.float32) for level in queries.codes]
    if seeds is not None and answer.radius is None:
        _seed(segment, queries, codes[0], answer, seeds)
    step = _ROWS // PANEL
    for first in range(panels.start, panels.stop, step):
        _scan_rows(segment, queries, codes, answer, range(first, min(panels.stop, first + step)))


def bounds(segment: Segment, queries: Queries) -> Iterator[npt.NDArray[np.float32]]:
    """The bounds of all pairs after each level, float32 (m, panels * 32)."""
    with np.errstate(invalid="ignore", over="ignore"):
        bound = _start(segment.bounds, queries)
    for level, codes in enumerate(queries.codes):
        products = codes.astype(np.float32) @ _unpacked(segment, level, slice(None)).T
        with np.errstate(invalid="ignore", over="ignore"):
            bound = bound + _terms(segment.bounds, queries, level, products)
        yield bound
        with np.errstate(invalid="ignore", over="ignore"):
            bound = bound - _rest(segment.bounds, queries, level)


def _columns(stored: npt.NDArray[np.float32], column: int) -> npt.NDArray[np.float32]:
    """One of the numbers that a segment keeps of each row, (rows,)."""
    return np.ascontiguousarray(stored[:, column]).reshape(-1)


def _start(stored: npt.NDArray[np.float32], queries: Queries) -> npt.NDArray[np.float32]:
    return -_columns(stored, 0) * queries.coefficients[:, :1]


def _terms(
    stored: npt.NDArray[np.float32], queries: Queries, level: int, products: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """What a level adds to the bounds, the norm of the rest after it included."""
    scale, error, rest = (_columns(stored, 1 + 3 * level + at) for at in range(3))
    own = queries.coefficients[:, 1 + 4 * level : 5 + 4 * level]
    out = scale * (own[:, :1] * products + own[:, 1:2]) + error * own[:, 2:3] + rest * own[:, 3:4]
    return np.asarray(out, np.float32)


def _rest(stored: npt.NDArray[np.float32], queries: Queries, level: int) -> npt.NDArray[np.float32]:
    """What stands in the bounds for the levels after this one."""
    return _columns(stored, 3 + 3 * level) * queries.coefficients[:, 4 + 4 * level, None]


def _unpacked(segment: Segment, level: int, panels: slice | Ints) -> npt.NDArray[np.float32]:
    """Codes of some panels at a level, float32 (rows, dims)."""
    codes = segment.codes[level]
    if codes.ndim == 4:
        part = codes[panels]
        return part.transpose(0, 2, 1, 3).reshape(len(part) * PANEL, -1).astype(np.float32) - 64
    return codes.reshape(segment.panels, PANEL, -1)[panels].reshape(-1, codes.shape[1]).astype(np.float32) - 64


def _seed(segment: Segment, queries: Queries, head: npt.NDArray[np.float32], answer: Answer, seeds: Seeds) -> None:
    k = answer.distance.shape[1]
    for group, start in enumerate(seeds.start[:-1]):
        panels = seeds.panels[start : seeds.start[group + 1]].astype(np.int64)
        if not len(panels):
            continue
        stored, codes = segment.bounds[panels], _unpacked(segment, 0, panels)
        for query in range(group * GROUP, min(len(head), group * GROUP + GROUP)):
            factor, scale = queries.coefficients[query, :2]
            estimate = _columns(stored, 0) * factor - _columns(stored, 1) * scale * (codes @ head[query])
            best = np.argsort(estimate, kind="stable")[: k + k // 4 + 3]
            _take(segment, queries, answer, query, panels[best // PANEL] * PANEL + best % PANEL)


def _scan_rows(
    segment: Segment, queries: Queries, codes: list[npt.NDArray[np.float32]], answer: Answer, panels: range
) -> None:
    part = slice(panels.start, panels.stop)
    stored = segment.bounds[part]
    limits = _limits(queries, answer)
    with np.errstate(invalid="ignore", over="ignore"):
        bound = _start(stored, queries)
        reaching = np.ones(bound.shape, np.bool_)
        for level, asked in enumerate(codes):
            answer.counts[min(level, 1)] += int(reaching.sum())
            rows = _unpacked(segment, level, part)
            if reaching.sum() > _DENSE * reaching.size:
                answer.counts[3] += len(panels) * (level > 0)
                products = asked @ rows.T
            else:
                products = _some_products(asked, rows, reaching)
            bound = np.where(reaching, bound + _terms(stored, queries, level, products), bound)
            reaching &= ~(bound < limits[:, None])  # a bound that is no number says nothing
            if level + 1 < len(codes) and reaching.any():
                bound = np.where(reaching, bound - _rest(stored, queries, level), bound)
            else:
                break
    if answer.excluded is not None:
        np.maximum(answer.excluded, np.where(reaching, -np.inf, bound).max(axis=1), out=answer.excluded)
    for query in np.flatnonzero(reaching.any(axis=1)):
        _take(segment, queries, answer, int(query), panels.start * PANEL + np.flatnonzero(reaching[query]))


def _some_products(
    asked: npt.NDArray[np.float32], rows: npt.NDArray[np.float32], wanted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    out = np.zeros(wanted.shape, np.float32)
    who, where = np.nonzero(wanted)
    step = max(1, _PAIRS // rows.shape[1])
    for start in range(0, len(who), step):
        some = slice(start, start + step)
        out[who[some], where[some]] = np.einsum("ij,ij->i", asked[who[some]], rows[where[some]])
    return out


def _limits(queries: Queries, answer: Answer) -> npt.NDArray[np.float32]:
    """The least bound of a row that can be an answer, per query."""
    if answer.radius is not None:
        distance = answer.radius
    else:
        full = answer.held == answer.distance.shape[1]
        distance = np.where(full, answer.distance.max(axis=1, initial=-np.inf), np.inf)
    return least(queries.threshold, answer.metric, distance[:, None])[:, 0]


def least(threshold: Float64s, metric: Metric, distance: Float64s) -> npt.NDArray[np.float32]:
    """The least bound of a row that can be at `distance`, float64 (m, n), or nearer."""
    with np.errstate(invalid="ignore", over="ignore"):
        value = np.square(distance) if metric == "l2" else 2 * distance if metric == "cosine" else distance
        origin, factor, slack = (threshold[:, at, None] for at in range(3))
        limit = (origin - value) * factor - slack - np.abs(value) * factor * 1e-11 - 1e-37
    limit = np.where(limit > -3e38, np.minimum(limit, 3e38), -np.inf)
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
