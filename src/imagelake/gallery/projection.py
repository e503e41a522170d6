"""Vectors as points in a plane by principal components: exact, the same every time, in memory that is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_BLOCK_VALUES = 1 << 22  # 32 MiB as float64
_NOTHING = 1e-12  # an axis with less than this share of the variance is rounding


@dataclass(frozen=True)
class Basis:
    """The plane in which vectors vary most.

    Attributes:
        mean: float64 [d], the point that becomes (0, 0).
        axes: float64 [2, d], orthonormal; an axis along which nothing varies is 0. The entry of largest magnitude of
            each is positive, so that a map is never the mirror image of the one before.
        shares: what part of the variance lies along each axis, 0 to 1.
        rows: from how many vectors it was made.
    """

    mean: Doubles
    axes: Doubles
    shares: tuple[float, float]
    rows: int

    def place(self, vectors: Floats) -> Floats:
        """The points of some vectors [n, d], float32 [n, 2]."""
        return ((vectors.astype(np.float64) - self.mean) @ self.axes.T).astype(np.float32)

    def as_json(self) -> dict[str, Any]:
        """What `read_basis` reads."""
        return {
            "mean": self.mean.tolist(), "axes": self.axes.tolist(), "shares": list(self.shares), "rows": self.rows
        }  # fmt: skip


def read_basis(told: dict[str, Any]) -> Basis:
    """What `Basis.as_json` wrote."""
    mean, axes = np.array(told["mean"], np.float64), np.array(told["axes"], np.float64)
    first, second = told["shares"]
    return Basis(mean, axes.reshape(2, len(mean)), (float(first), float(second)), int(told["rows"]))


def block_rows(dimensions: int) -> int:
    """How many vectors of this length to hand over at a time."""
    return max(64, _BLOCK_VALUES // max(dimensions, 1))


def fit_basis(blocks: Iterable[Floats], dimensions: int, told: Callable[[int], None] | None = None) -> Basis:
    """The plane of some vectors, from one pass over blocks [n, d] of them; `told` hears how many rows were read.

    While there are fewer vectors than dimensions they are kept and decomposed themselves; from then on only their
    covariance is, summed in float64 around the mean of the first ones, which no cancellation harms.
    """
    sums = _Sums(dimensions)
    for block in blocks:
        sums.add(block.astype(np.float64))
        if told:
            told(len(block))
    return sums.basis()


class _Sums:
    """What is known of the vectors so far. A class because it is added to."""

    def __init__(self, dimensions: int) -> None:
        self.count, self.dimensions = 0, dimensions
        self._few: list[Doubles] = []
        self._shift = np.zeros(dimensions)
        self._total = np.zeros(dimensions)
        self._products: Doubles | None = None

    def add(self, block: Doubles) -> None:
        self.count += len(block)
        if self._products is None and self.count < self.dimensions:
            self._few.append(block)
            return
        if self._products is None:
            self._products = np.zeros((self.dimensions, self.dimensions))
            block = np.concatenate([*self._few, block])
            self._few = []
            self._shift = block.mean(axis=0)
        block = block - self._shift
        self._total += block.sum(axis=0)
        self._products += block.T @ block

    def basis(self) -> Basis:
        if not self.count:
            return Basis(np.zeros(self.dimensions), np.zeros((2, self.dimensions)), (0.0, 0.0), 0)
        mean, variances, axes = self._of_few() if self._products is None else self._of_many(self._products)
        return _basis(mean, variances, axes, self.count)

    def _of_few(self) -> tuple[Doubles, Doubles, Doubles]:
        rows = np.concatenate(self._few)
        mean = rows.mean(axis=0)
        _, values, axes = np.linalg.svd(rows - mean, full_matrices=False)
        return mean, values**2, axes

    def _of_many(self, products: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        off = self._total / self.count
        values, axes = np.linalg.eigh(products - self.count * np.outer(off, off))
        return self._shift + off, np.maximum(values[::-1], 0.0), axes.T[::-1]


def _basis(mean: Doubles, variances: Doubles, axes: Doubles, rows: int) -> Basis:
    total = float(variances.sum())
    two = np.zeros((2, len(mean)))
    shares = [0.0, 0.0]
    for number in range(min(2, len(axes))):
        share = float(variances[number]) / total if total > 0 else 0.0
        if share > _NOTHING:
            axis = axes[number]
            two[number] = axis if axis[np.argmax(np.abs(axis))] > 0 else -axis
            shares[number] = share
    return Basis(mean, two, (shares[0], shares[1]), rows)
