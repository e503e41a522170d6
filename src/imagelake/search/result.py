"""What a search gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake.search.segment import Float64s, Ints


@dataclass(frozen=True)
class Certificate:
    """The proof that an answer is complete: no row outside it can be nearer than the farthest inside.

    Every row of the index was either measured exactly or refused because a lower bound on its distance, rounding
    errors included, lies above the k-th distance.

    Attributes:
        kth: float64 (m,); the distance of the farthest answer of each query.
        bound: float64 (m,); no row that was refused is nearer than this; infinite where none was refused.
        holds: bool (m,); whether the bounds prove the answer. They always do, unless they are broken:
            `ExactIndex.audit` checks the bounds themselves.
        measured: how many pairs were measured exactly, for all queries together.
        bounded: how many pairs of a query and a row there were.
    """

    kth: Float64s
    bound: Float64s
    holds: npt.NDArray[np.bool_]
    measured: int
    bounded: int


@dataclass(frozen=True)
class SearchResult:
    """The nearest of each query; unpacks into `distances, ids`.

    Attributes:
        distances: float64 (m, k), ascending.
        ids: (m, k); equal distances by id.
        certificate: the proof, where it was asked for.
    """

    distances: Float64s
    ids: npt.NDArray[Any]
    certificate: Certificate | None = None

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        """Distances, then ids."""
        return iter((self.distances, self.ids))


@dataclass(frozen=True)
class RangeResult:
    """Everybody within the radius; unpacks into `limits, distances, ids`.

    Attributes:
        limits: int64 (m + 1,); the answers of query i are at limits[i] : limits[i + 1].
        distances: float64 (found,), ascending for each query.
        ids: (found,); equal distances by id.
    """

    limits: Ints
    distances: Float64s
    ids: npt.NDArray[Any]

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        """Limits, distances, then ids."""
        return iter((self.limits, self.distances, self.ids))
