"""Which rows to look at first: k-means over the heads. It decides the order of work, never the answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from imagelake.search.kernel import kernel
from imagelake.search.segment import GROUP, PANEL, Ints, Seeds
from imagelake.search.threads import slices

_ROWS = 192  # of a cluster, about
_MOST = 1024
_ROUNDS = 4
_PROBED = 5  # clusters that are looked at first
_PART = 16384

Points = npt.NDArray[np.float32]
_beyond_float32 = np.errstate(over="ignore", invalid="ignore")  # rows that far away are seen in any order


@dataclass(frozen=True)
class Clusters:
    """Rows in the order of their clusters.

    Attributes:
        centroids: float32 (c, head).
        first: int64 (c + 1,); where each cluster begins in the order.
    """

    centroids: Points
    first: Ints

    def label(self, points: Points) -> Ints:
        """The nearest centroid of each point, int64 (n,)."""
        return _nearest(points, self.centroids, self._packed)

    @cached_property
    def _packed(self) -> Points:
        return _pack(self.centroids)

    def seeds(self, label: Ints, k: int) -> Seeds:
        """The panels to look at first for the k nearest, for queries of these clusters, in groups of `GROUP`."""
        number = len(self.centroids)
        probed = min(number, _PROBED + 2 * k * number // max(1, int(self.first[-1])))
        of_label, place = np.unique(label, return_inverse=True)
        near = np.argsort(self._apart(of_label), axis=1)[:, :probed][place]
        low, high = self.first[:-1] // PANEL, -(-self.first[1:] // PANEL)
        start, panels = [0], []
        for group in range(0, len(label), GROUP):
            clusters = np.unique(near[group : group + GROUP])
            wanted = np.unique(np.concatenate([np.arange(low[c], high[c]) for c in clusters]))
            panels.append(wanted)
            start.append(start[-1] + len(wanted))
        return Seeds(np.array(start, np.int64), np.concatenate(panels).astype(np.int32))

    @_beyond_float32
    def _apart(self, label: Ints) -> Points:
        """How far the centroids are from some of them, less a constant a row."""
        apart: Points = (
            np.einsum("ij,ij->i", self.centroids, self.centroids) - 2 * self.centroids[label] @ self.centroids.T
        )
        apart[np.arange(len(label)), label] = -np.inf
        return apart


@_beyond_float32
def cluster(codes: npt.NDArray[np.int8], scales: Points, head: int) -> tuple[Ints, Clusters]:
    """Order rows by cluster.

    Args:
        codes: int8 (n, at least head), n at least 1.
        scales: float32 (n,), what makes them vectors.
        head: how many of the codes count.
    """
    count = len(codes)
    number = max(1, min(_MOST, count // _ROWS))
    generator = np.random.default_rng(0)
    sample = generator.permutation(count)[: 64 * number]
    points = codes[sample, :head].astype(np.float32) * scales[sample, None]
    centroids = points[:number].copy()
    if number == 1:
        return generator.permutation(count), Clusters(centroids, np.array([0, count]))
    for _ in range(_ROUNDS):
        label = _nearest(points, centroids, _pack(centroids))
        sizes = np.bincount(label, minlength=number)
        filled = np.flatnonzero(sizes)
        starts = np.concatenate([[0], np.cumsum(sizes[filled])[:-1]])
        centroids[filled] = np.add.reduceat(points[np.argsort(label, kind="stable")], starts) / sizes[filled, None]
    packed = _pack(centroids)
    label = np.concatenate(
        [
            _nearest(codes[part, :head].astype(np.float32) * scales[part, None], centroids, packed)
            for part in slices(count, _PART)
        ]
    )
    first = np.concatenate([[0], np.cumsum(np.bincount(label, minlength=number))])
    return np.argsort(label, kind="stable"), Clusters(centroids, first)


@_beyond_float32
def _nearest(points: Points, centroids: Points, packed: Points) -> Ints:
    """The nearest centroid of each point, int64 (n,)."""
    score = kernel().rotate(points, packed)[:, : len(centroids)]
    score -= 0.5 * np.einsum("ij,ij->i", centroids, centroids)
    out: Ints = score.argmax(axis=1)
    return out


def _pack(centroids: Points) -> Points:
    packed: Points = kernel().pack(np.ascontiguousarray(centroids.T))
    return packed
