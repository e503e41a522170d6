"""scikit-learn's `NearestNeighbors` with the exact index behind it."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from imagelake.errors import SearchError
from imagelake.search.index import ExactIndex
from imagelake.search.segment import Float64s, Ints, Metric
from imagelake.search.threads import thread_count
from imagelake.search.vectors import as_vectors

_METRICS: dict[str, Metric] = {"minkowski": "l2", "euclidean": "l2", "l2": "l2", "cosine": "cosine"}
_ALGORITHMS = ("auto", "brute", "ball_tree", "kd_tree")
Objects = npt.NDArray[np.object_]


class NearestNeighbors:
    """Finds nearest rows; arguments, shapes and order are those of `sklearn.neighbors.NearestNeighbors`.

    What differs: equal distances are ordered by row, where scikit-learn leaves it open; distances are those of float64
    differences, where scikit-learn's come from products and lose digits when rows are near; `radius_neighbors` is
    always sorted; sparse matrices, other metrics and the graph methods are not there. Errors are `SearchError`, which
    is a `ValueError`.

    Args:
        n_neighbors: how many neighbors `kneighbors` finds.
        radius: how far `radius_neighbors` looks.
        algorithm: `"auto"`, `"brute"`, `"ball_tree"` or `"kd_tree"`. All are exact there, so all are the same here.
        leaf_size: taken and not used.
        metric: `"minkowski"` with p = 2, `"euclidean"`, `"l2"` or `"cosine"`.
        p: 2.
        metric_params: None.
        n_jobs: threads; None and -1 for as many as the process may use, -2 for one less, and so on.
        device: `"cpu"`, `"cuda"` or `"auto"`; see `ExactIndex`.
        max_memory_fraction: of the device's free memory; see `ExactIndex`.

    Attributes:
        index_: the `ExactIndex`, after `fit`.
        n_features_in_: the length of its rows.
        n_samples_fit_: how many rows it has.
        effective_metric_: `"euclidean"` or `"cosine"`.
    """

    def __init__(
        self,
        *,
        n_neighbors: int = 5,
        radius: float = 1.0,
        algorithm: str = "auto",
        leaf_size: int = 30,
        metric: str = "minkowski",
        p: float = 2,
        metric_params: None = None,
        n_jobs: int | None = None,
        device: str = "cpu",
        max_memory_fraction: float = 0.8,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.algorithm = algorithm
        self.leaf_size = leaf_size
        self.metric = metric
        self.p = p
        self.metric_params = metric_params
        self.n_jobs = n_jobs
        self.device = device
        self.max_memory_fraction = max_memory_fraction

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002  (scikit-learn's signature)
        """The arguments this was made with."""
        return {name: value for name, value in vars(self).items() if not name.endswith("_")}

    def set_params(self, **params: Any) -> Self:
        """Change arguments; they count from the next `fit`, and `n_neighbors` and `radius` at once.

        Raises:
            SearchError: there is no such argument.
        """
        for name, value in params.items():
            if name not in self.get_params():
                raise SearchError(f"{name!r} is no parameter; use one of {', '.join(self.get_params())}.")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """What differs from the defaults."""
        defaults = type(self)().get_params()
        shown = [f"{name}={value!r}" for name, value in self.get_params().items() if value != defaults[name]]
        return f"NearestNeighbors({', '.join(shown)})"

    def fit(self, X: npt.ArrayLike, y: object = None) -> Self:  # noqa: ARG002, N803  (scikit-learn's names)
        """Take in the rows that neighbors are found among.

        Args:
            X: float32, float16, float64 or whole numbers, shape (n, d), n at least 1; not copied where it is float32
                or float64 in C order.
            y: taken and not used.

        Raises:
            SearchError: an argument that is not known, a shape that does not fit, a value that is no finite number.
        """
        if self.algorithm not in _ALGORITHMS:
            raise SearchError(f"algorithm {self.algorithm!r} is not known; use one of {', '.join(_ALGORITHMS)}.")
        if (
            self.metric not in _METRICS
            or self.metric_params is not None
            or (self.metric == "minkowski" and self.p != 2)
        ):
            raise SearchError(
                f"metric {self.metric!r} with p = {self.p} and metric_params {self.metric_params} is not supported; "
                "use 'euclidean', 'cosine', or 'minkowski' with p = 2."
            )
        rows = _floats(X)
        if not len(rows):
            raise SearchError("there are no rows to find neighbors among; give at least one.")
        self.index_ = ExactIndex(
            rows,
            metric=_METRICS[self.metric],
            device=self.device,
            threads=_threads(self.n_jobs),
            max_memory_fraction=self.max_memory_fraction,
        )
        self.n_features_in_ = self.index_.dims
        self.n_samples_fit_ = len(rows)
        self.effective_metric_ = "cosine" if self.metric == "cosine" else "euclidean"
        return self

    def kneighbors(
        self,
        X: npt.ArrayLike | None = None,  # noqa: N803
        n_neighbors: int | None = None,
        return_distance: bool = True,  # noqa: FBT001, FBT002
    ) -> tuple[Float64s, Ints] | Ints:
        """The nearest rows of each query.

        Args:
            X: queries, shape (m, d); None for the rows themselves, none of which is its own neighbor.
            n_neighbors: how many; None for what this was made with.
            return_distance: whether distances are asked for too.

        Returns:
            Distances, float64 (m, n_neighbors), ascending, and row numbers, int64 of that shape, equal distances by
            row; or the row numbers alone.

        Raises:
            SearchError: nothing was fitted, there are not so many rows, or queries do not fit.
        """
        index, k = self._fitted(), self.n_neighbors if n_neighbors is None else n_neighbors
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise SearchError(f"n_neighbors is {k!r}; it must be a whole number, 1 or more.")
        if k > len(index) - (X is None):
            others = f"{len(index) - 1} others" if X is None else f"{len(index)} rows"
            raise SearchError(f"n_neighbors is {k}, and there are {others}; it can be no more than that.")
        if X is not None:
            distances, rows = index.search(_floats(X), int(k))
        else:
            found = [result for _, result in index.neighbors_of_all(int(k))]
            distances = np.concatenate([result.distances for result in found])
            rows = np.concatenate([result.ids for result in found])
        return (distances, rows) if return_distance else rows

    def radius_neighbors(
        self,
        X: npt.ArrayLike | None = None,  # noqa: N803
        radius: float | None = None,
        return_distance: bool = True,  # noqa: FBT001, FBT002
        sort_results: bool = False,  # noqa: ARG002, FBT001, FBT002
    ) -> tuple[Objects, Objects] | Objects:
        """All rows within a radius of each query, the border included.

        Args:
            X: queries, shape (m, d); None for the rows themselves, none of which is its own neighbor.
            radius: how far; None for what this was made with.
            return_distance: whether distances are asked for too.
            sort_results: taken and not used: results are always sorted by (distance, row).

        Returns:
            Two arrays of m arrays: distances, float64, and row numbers, int64; or the row numbers alone.

        Raises:
            SearchError: nothing was fitted, or queries do not fit.
        """
        index, far = self._fitted(), self.radius if radius is None else radius
        asked = index.vectors_of(index.ids) if X is None else _floats(X)
        limits, distances, rows = index.range_search(asked, far)
        if X is None:
            who = np.repeat(np.arange(len(asked)), np.diff(limits))
            other = rows != who
            distances, rows = distances[other], rows[other]
            limits = np.concatenate([[0], np.cumsum(np.bincount(who[other], minlength=len(asked)))])
        rows_found = _split(rows, limits)
        return (_split(distances, limits), rows_found) if return_distance else rows_found

    def _fitted(self) -> ExactIndex:
        index: ExactIndex | None = getattr(self, "index_", None)
        if index is None:
            raise SearchError("this NearestNeighbors is not fitted yet; call fit first.")
        return index


def _floats(given: npt.ArrayLike) -> npt.NDArray[Any]:
    """Whole numbers as float64, which scikit-learn's users may pass; the rest as it is."""
    array = np.asarray(given)
    return as_vectors(array.astype(np.float64) if array.dtype.kind in "iub" else array, "row")


def _threads(jobs: int | None) -> int:
    """How many threads `n_jobs` means.

    Raises:
        SearchError: 0.
    """
    if jobs is None:
        return thread_count(None)
    if jobs == 0:
        raise SearchError("n_jobs is 0; give 1 or more, or -1 for all there are.")
    return jobs if jobs > 0 else max(1, thread_count(None) + 1 + jobs)


def _split(values: npt.NDArray[Any], limits: Ints) -> Objects:
    """An array of arrays."""
    out = np.empty(len(limits) - 1, object)
    for at in range(len(out)):
        out[at] = values[limits[at] : limits[at + 1]]
    return out
