"""The arrays that a scan works on: rows in panels, encoded queries, what was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Metric = Literal["l2", "cosine", "dot"]
Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Float64s = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PANEL = 32  # rows that are bounded together
GROUP = 8  # queries that are
QUERIES = 256  # queries of one call of `scan`
BLOCK = 128  # dimensions whose codes have a bounded norm
CODE_NORM = 181.0  # that norm: 181 * 181 < 2^15, so sums of 16 bits hold a product of two blocks
MOST_LEVELS = 4
LANES = 16  # running sums of an exact distance


@dataclass(frozen=True)
class Segment:
    """Rows of an index, encoded, in panels of 32; what each array holds is said in c/scan.c.

    Attributes:
        codes: uint8, of the first levels (panels, dims / 4, 32, 4), of the others (panels * 32, dims).
        bounds: float32 (panels, 1 + 3 levels, 32).
        rank: int64 (panels * 32,); the place of each row's id among all ids, -1 for a row that is not there.
        source: int64 (panels * 32,); each row's place in `vectors`.
        vectors: float32 or float64 (n, d).
        inverse: float64 (n,); one over their norms, for cosine.
    """

    codes: tuple[npt.NDArray[np.uint8], ...]
    bounds: npt.NDArray[np.float32]
    rank: Ints
    source: Ints
    vectors: Floats
    inverse: Float64s | None

    @property
    def panels(self) -> int:
        """How many panels there are."""
        return len(self.bounds)


@dataclass(frozen=True)
class Queries:
    """Encoded queries; what each array holds is said in c/scan.c.

    Attributes:
        codes: int8 (m, dims), one array a level.
        coefficients: float32 (m, 1 + 4 levels).
        threshold: float64 (m, 3).
        vectors: float32 or float64 (m, d).
        inverse: float64 (m,); one over their norms; ones where that does not matter.
    """

    codes: tuple[npt.NDArray[np.int8], ...]
    coefficients: npt.NDArray[np.float32]
    threshold: Float64s
    vectors: Floats
    inverse: Float64s

    def __len__(self) -> int:
        """How many queries there are."""
        return len(self.coefficients)

    def take(self, rows: slice | Ints) -> Queries:
        """Some of them."""
        return Queries(
            tuple(codes[rows] for codes in self.codes),
            self.coefficients[rows],
            self.threshold[rows],
            self.vectors[rows],
            self.inverse[rows],
        )


@dataclass
class Answer:
    """What a scan finds for some queries, and adds to over several scans.

    Attributes:
        distance: float64 (m, k), a heap a query with the worst on top; empty places are infinite.
        rank: int64 (m, k), whom those distances belong to.
        held: int64 (m,); how many places are filled.
        radius: float64 (m,) or None; with it, `found` holds everybody within, and the heaps nothing.
        excluded: float32 (m,) or None; the greatest bound of a row that was not measured.
        own_rank: int64 (m,) or None; this rank is no answer of that query,
        only_above: nor are those below it.
        found: (query, rank, distance) arrays, one triple a scan.
        counts: pairs bounded by the head, pairs bounded by all dimensions, pairs measured, panels bounded whole.
    """

    metric: Metric
    distance: Float64s
    rank: Ints
    held: Ints
    radius: Float64s | None = None
    excluded: npt.NDArray[np.float32] | None = None
    own_rank: Ints | None = None
    only_above: bool = False
    found: list[tuple[Ints, Ints, Float64s]] = field(default_factory=list)
    counts: Ints = field(default_factory=lambda: np.zeros(4, np.int64))


@dataclass(frozen=True)
class Seeds:
    """Which panels to look at first: those of group g of `GROUP` queries are panels[start[g] : start[g + 1]]."""

    start: Ints
    panels: npt.NDArray[np.int32]
