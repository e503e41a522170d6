"""Vectors as 8-bit codes whose products bound their true products, every rounding error included.

The mathematics is in docs/exact-search.md. In short: vectors are centered and rotated so that their first dimensions
hold most of what differs between them. Dimensions come in levels: the first, the head, is looked at for every pair, the
others for pairs that are left. Codes are integers times a scale; what they leave out is known by its norm, and so is
the rest beyond a level. Cauchy and Schwarz turn those norms into an upper bound on the product of two
vectors, and so into a lower bound on their distance.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from imagelake.search.kernel import kernel
from imagelake.search.segment import BLOCK, CODE_NORM, PANEL, Float64s, Floats, Ints, Metric, Queries
from imagelake.search.threads import in_threads, slices

LEVELS = (96, 160, 256)  # dimensions of the first levels, the last has the others; docs/exact-search.md has other costs
PANEL_LEVELS = 3  # so many levels are bounded a panel at a time
_SPARE, _ROUNDS = 32, 3  # of subspace iteration
_MIXED = 256  # axes that are turned together
_CHUNK = 256  # rows that one thread encodes at a time: they fit its cache with their products
_ROW_LIMIT, _QUERY_LIMIT = 63.0, 127.0
_UNIT32, _UNIT64 = 2.0**-24, 2.0**-53
_UP = 1.0 + 2.0**-21
_SUMMED = BLOCK  # terms that `rotate` sums at a time
_NORM_ERROR = 1 + 1e-4  # norms in `stats` are float32 sums of up to thousands of terms
_CODE_ERROR = 1e-6  # and what a code leaves out is a difference of float32 numbers


@dataclass(frozen=True)
class Encoder:
    """What all rows and queries of an index are encoded with.

    Attributes:
        metric: how vectors are compared.
        center: float64 (d,), subtracted from every row.
        rotation: float32 (d, d); its columns are nearly orthonormal, those of a level span its principal axes.
        levels: where in the rotated dimensions each level is.
        unit: a power of two near the median norm of the rows; all norms are kept as multiples of it.
        loss: how far `rotate` can be from an exact rotation, relative to the norm of what is rotated.
    """

    metric: Metric
    center: Float64s
    rotation: npt.NDArray[np.float32]
    levels: tuple[range, ...]
    unit: float
    loss: float

    @property
    def dims(self) -> int:
        """The length of a vector."""
        return len(self.center)

    @cached_property
    def packed(self) -> npt.NDArray[np.float32]:
        """The rotation as the kernel reads it."""
        packed: npt.NDArray[np.float32] = kernel().pack(self.rotation)
        return packed

    @property
    def slack(self) -> float:
        """Relative to the product of two norms: what rotating both, and float32 arithmetic on bounds, can hide."""
        return (2 * self.loss + self.loss**2) * (1 + 4 * self.loss) + 1e-5

    @property
    def padded(self) -> tuple[int, ...]:
        """How many codes a vector has at each level."""
        return tuple(
            -(-len(dims) // multiple) * multiple
            for dims, multiple in zip(self.levels, (4, *[64] * len(self.levels)), strict=False)
        )

    def code_norm(self, level: int) -> float:
        """The greatest norm that the codes of a level can have."""
        return CODE_NORM * float(np.sqrt(-(-len(self.levels[level]) // BLOCK)))


@dataclass(frozen=True)
class EncodedRows:
    """Encoded rows, not yet in panels.

    Attributes:
        codes: int8 (n, dims), one array a level.
        bounds: float32 (n, 1 + 3 levels); what c/scan.c calls `row`, in units of the encoder.
    """

    codes: tuple[npt.NDArray[np.int8], ...]
    bounds: npt.NDArray[np.float32]


def fit(sample: Floats, metric: Metric, levels: tuple[int, ...] = LEVELS) -> Encoder:
    """Find center and rotation from a sample of rows, (n, d) with n and d at least 1."""
    x = sample.astype(np.float64)
    if metric == "cosine":
        x *= inverse_norms(sample)[:, None]
    while True:  # outliers must not decide where center and axes are; the largest ones hide others
        center = x.mean(axis=0)
        norms = np.linalg.norm(x - center, axis=1)
        median = float(np.median(norms))
        usual = norms <= 10 * median
        if usual.all():
            break
        x = x[usual]
    x -= center
    scaled = (x / median if median > 0 else x).astype(np.float32)
    edges = [0, *(edge for edge in np.cumsum(levels).tolist() if edge < x.shape[1]), x.shape[1]]
    parts = tuple(range(start, stop) for start, stop in itertools.pairwise(edges))
    axes = _principal_axes(scaled, edges[-2] or x.shape[1])
    generator = np.random.default_rng(0)
    for part in parts:  # evens out the ranges of the dimensions inside each level
        axes[:, part.start : part.stop] = _turned(axes[:, part.start : part.stop], generator)
    rotation = np.ascontiguousarray(axes, np.float32)
    if not np.isfinite(rotation).all():  # any axes are right; these tell least
        rotation = np.eye(len(rotation), dtype=np.float32)
    return Encoder(
        metric, center, rotation, parts, float(2.0 ** np.frexp(median)[1]) if median > 0 else 1.0, loss(rotation)
    )


def _principal_axes(rows: npt.NDArray[np.float32], wanted: int) -> Float64s:
    """An orthonormal basis, float64 (d, d); its first columns are near the principal axes of the rows, in their order.

    By subspace iteration (Halko, Martinsson and Tropp, Finding structure with randomness, SIAM Review 53:2, 2011,
    section 4.5) where few axes are wanted: finding all of them costs more than encoding 10,000 rows. How near they are
    decides how much a level tells, not what is true.
    """
    scatter = rows.T @ rows
    dims = len(scatter)
    if dims <= wanted + _SPARE:
        axes: Float64s = np.linalg.eigh(scatter.astype(np.float64))[1][:, ::-1].copy()
        return axes
    basis = np.random.default_rng(1).standard_normal((dims, wanted + _SPARE), np.float32)
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(scatter @ basis)[0]
    inner = basis.astype(np.float64)
    turn = np.linalg.eigh(inner.T @ (scatter @ basis))[1][:, ::-1]
    complete, triangle = np.linalg.qr(inner @ turn[:, :wanted], mode="complete")
    complete[:, :wanted] *= np.where(np.diag(triangle) < 0, -1.0, 1.0)
    whole: Float64s = complete
    return whole


def _turned(axes: Float64s, generator: np.random.Generator) -> Float64s:
    """Other axes of the same space, each with about as much of everything.

    Many are mixed in groups by chance, twice, so that each has a part of every other one: that costs a fraction of one
    large rotation.
    """
    count = axes.shape[1]
    groups = -(-count // _MIXED)
    for _ in range(1 if groups == 1 else 2):
        axes = axes[:, generator.permutation(count)]
        for part in np.array_split(np.arange(count), groups):
            turn = np.linalg.qr(generator.standard_normal((len(part), len(part))))[0]
            axes[:, part] = axes[:, part] @ turn
    return axes


def loss(rotation: npt.NDArray[np.float32]) -> float:
    """How far `rotate` can be from an exact rotation, relative to the norm of what is rotated.

    The nearest orthogonal matrix is within |R^T R - I| of R, and a product of n terms, summed in pieces, is within
    gamma |R| |x| of the exact one (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1), where
    the norm of |R| is at most the root of its largest row sum times its largest column sum.
    """
    wide = rotation.astype(np.float64)
    skew = float(np.linalg.norm(wide.T @ wide - np.eye(len(wide)))) + 1e-12
    terms = min(len(wide), _SUMMED) + -(-len(wide) // _SUMMED)
    gamma = terms * _UNIT32 / (1 - terms * _UNIT32)
    absolute = np.abs(wide)
    norm = float(np.sqrt(absolute.sum(axis=0).max() * absolute.sum(axis=1).max()))
    return skew + _UNIT32 + gamma * norm


def inverse_norms(vectors: Floats) -> Float64s:
    """One over the norm of each row, 0 for a row of zeros; the same bits on every machine."""
    norms = np.sqrt(kernel().squared_norms(vectors))
    out: Float64s = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return out


_beyond_float32 = np.errstate(over="ignore", invalid="ignore", divide="ignore")
"""Numbers that float32 cannot hold make bounds that say nothing, and rows with such bounds are measured."""


def encode_rows(encoder: Encoder, vectors: Floats, inverse: Float64s | None, threads: int, rows: Ints) -> EncodedRows:
    """Encode some rows of `vectors`, at least one; `inverse` for cosine."""

    @_beyond_float32
    def encode(part: slice) -> EncodedRows:
        own = None if inverse is None else inverse[rows[part]]
        taken = vectors[rows[part]]
        scaled, norms, exponents = kernel().prepare(taken, encoder.center, own)
        codes, stats = _quantize(encoder, scaled, _ROW_LIMIT)
        lost = _lost_in_float64(encoder, taken, own) / encoder.unit
        return EncodedRows(codes, _row_bounds(encoder, stats, norms, exponents, lost))

    parts = in_threads(encode, slices(len(rows), _CHUNK), threads)
    codes = tuple(np.concatenate(level) for level in zip(*(part.codes for part in parts), strict=True))
    return EncodedRows(codes, np.concatenate([part.bounds for part in parts]))


def _quantize(
    encoder: Encoder, scaled: npt.NDArray[np.float32], limit: float
) -> tuple[tuple[npt.NDArray[np.int8], ...], Float64s]:
    """Codes of each level, and float64 (n, levels, 3): scale, error norm, norm."""
    rotated = kernel().rotate(scaled, encoder.packed)
    encoded = [
        kernel().encode(rotated, dims, padded, limit)
        for dims, padded in zip(encoder.levels, encoder.padded, strict=True)
    ]
    return tuple(codes for codes, _ in encoded), np.stack([stats for _, stats in encoded], axis=1).astype(np.float64)


def _rest_norms(stats: Float64s) -> Float64s:
    """Norms of all that comes after each level, (n, levels), from the norms of the levels."""
    squares = np.square(stats[:, ::-1, 2])
    after = np.cumsum(squares, axis=1) - squares
    out: Float64s = np.sqrt(np.maximum(after, 0))[:, ::-1] * _NORM_ERROR
    return out


def _row_bounds(
    encoder: Encoder, stats: Float64s, norms: Float64s, exponents: npt.NDArray[np.int32], lost: Float64s
) -> npt.NDArray[np.float32]:
    """Offset, then for each level scale, error norm and norm of the rest: what bounds are made of."""
    factor = np.ldexp(1.0, exponents) / encoder.unit
    out = np.empty((len(stats), 1 + 3 * len(encoder.levels)), np.float32)
    if encoder.metric == "dot":
        out[:, 0] = 0
    else:
        half = 0.5 * np.square(np.maximum(norms / encoder.unit - lost, 0)) * (1 - 2.0**-20)
        out[:, 0] = np.maximum(np.nextafter(half.astype(np.float32), np.float32(-np.inf)), 0)
    rest = _rest_norms(stats)
    for level in range(len(encoder.levels)):
        scales = stats[:, level, 0] * factor
        tiny = scales < 1e-30  # float32 could not hold it exactly: then the codes say nothing
        out[:, 1 + 3 * level] = np.where(tiny, 0, scales)
        left = np.where(tiny, stats[:, level, 2], stats[:, level, 1] + _CODE_ERROR * stats[:, level, 2])
        out[:, 2 + 3 * level] = _up(left * _NORM_ERROR * factor + lost)
        out[:, 3 + 3 * level] = _up(rest[:, level] * factor + lost)
    return out


def encode_queries(encoder: Encoder, vectors: Floats, threads: int) -> tuple[Queries, npt.NDArray[np.float32]]:
    """Encode queries, (m, d). With them come their heads as float32 (m, head), in units of the encoder."""
    inverse = inverse_norms(vectors) if encoder.metric == "cosine" else np.ones(len(vectors))
    center = np.zeros_like(encoder.center) if encoder.metric == "dot" else encoder.center

    @_beyond_float32
    def encode(part: slice) -> tuple[Queries, npt.NDArray[np.float32]]:
        own = inverse[part] if encoder.metric == "cosine" else None
        scaled, norms, exponents = kernel().prepare(vectors[part], center, own)
        codes, stats = _quantize(encoder, scaled, _QUERY_LIMIT)
        lost = _lost_in_float64(encoder, vectors[part], own)
        power = np.ldexp(1.0, exponents)
        size = np.maximum(power, encoder.unit * 2.0**-40)  # bounds are multiples of it
        coefficients = _coefficients(encoder, stats, encoder.slack * norms / size + lost / size, power / size)
        coefficients[:, 0] = encoder.unit / size
        threshold = _thresholds(encoder, norms, size, lost, vectors[part])
        with np.errstate(over="ignore"):
            scale = (stats[:, 0, 0] * power / encoder.unit).astype(np.float32)
            heads = codes[0][:, : len(encoder.levels[0])] * scale[:, None]  # only says where to look first
        return Queries(codes, coefficients, threshold, vectors[part], inverse[part]), heads

    parts = in_threads(encode, slices(len(vectors), _CHUNK), threads)
    joined = Queries(
        tuple(np.concatenate(level) for level in zip(*(queries.codes for queries, _ in parts), strict=True)),
        np.concatenate([queries.coefficients for queries, _ in parts]),
        np.concatenate([queries.threshold for queries, _ in parts]),
        vectors,
        inverse,
    )
    return joined, np.concatenate([heads for _, heads in parts])


def _coefficients(encoder: Encoder, stats: Float64s, hidden: Float64s, own: Float64s) -> npt.NDArray[np.float32]:
    """Room for the offset's factor, then for each level scale, slack, and what goes with error and rest of a row."""
    out = np.zeros((len(stats), 1 + 4 * len(encoder.levels)), np.float32)
    rest = _rest_norms(stats)
    for level in range(len(encoder.levels)):
        scale, error, norm = stats[:, level].T
        at = 1 + 4 * level
        out[:, at] = scale * own
        error = (error + _CODE_ERROR * norm) * _NORM_ERROR * own
        out[:, at + 1] = _up(encoder.code_norm(level) * (error + hidden))
        out[:, at + 2] = _up(norm * _NORM_ERROR * own + hidden)
        out[:, at + 3] = _up(rest[:, level] * own + hidden)
    return out


def _thresholds(encoder: Encoder, norms: Float64s, size: Float64s, lost: Float64s, vectors: Floats) -> Float64s:
    """Origin, factor and slack: a row at distance t has a bound of at least (origin - t^2) * factor - slack for l2."""
    out = np.empty((len(norms), 3))
    if encoder.metric == "dot":
        out[:, 0] = -(vectors.astype(np.float64) @ encoder.center)
        out[:, 1] = 1 / (encoder.unit * size)
        out[:, 2] = 4 * encoder.dims * _UNIT64 * norms * np.linalg.norm(encoder.center) * out[:, 1]
    else:
        out[:, 0] = np.square(norms)
        out[:, 1] = 0.5 / (encoder.unit * size)
        out[:, 2] = (1e-11 * np.square(norms) + 2 * norms * lost + np.square(lost)) * out[:, 1]
    return out


def _lost_in_float64(encoder: Encoder, vectors: Floats, inverse: Float64s | None) -> Float64s:
    """How far centering (and normalizing) in float64 can be off, in the vectors' own unit, per row."""
    norms = np.sqrt(kernel().squared_norms(vectors)) * (1.0 if inverse is None else inverse)
    lost: Float64s = 8 * _UNIT64 * (norms + float(np.linalg.norm(encoder.center)))
    return lost


def _up(values: Float64s) -> npt.NDArray[np.float32]:
    """To float32, never smaller."""
    return np.nextafter((values * _UP).astype(np.float32), np.float32(np.inf))


def in_panels(rows: EncodedRows, order: Ints) -> tuple[tuple[npt.NDArray[np.uint8], ...], npt.NDArray[np.float32]]:
    """Codes and bounds of `rows[order]` in panels; the last one is filled with rows that no bound reaches."""
    count = len(order)
    panels = -(-count // PANEL)
    padded = np.concatenate([order, np.zeros(panels * PANEL - count, np.int64)])
    levels = []
    for level, codes in enumerate(rows.codes):
        taken = codes[padded]
        taken += np.int8(64)
        if level < PANEL_LEVELS:
            words = taken.view(np.int32).reshape(panels, PANEL, -1).transpose(0, 2, 1)
            levels.append(np.ascontiguousarray(words).view(np.uint8).reshape(panels, -1, PANEL, 4))
        else:
            levels.append(taken.view(np.uint8))
    bounds = rows.bounds[padded]
    bounds[count:] = 0
    bounds[count:, 0] = np.inf
    return tuple(levels), np.ascontiguousarray(bounds.reshape(panels, PANEL, -1).transpose(0, 2, 1))
