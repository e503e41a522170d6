"""The drop-in for scikit-learn: the same arguments, shapes and order."""

import numpy as np
import pytest

from imagelake.errors import SearchError
from imagelake.search import NearestNeighbors

sklearn_neighbors = pytest.importorskip("sklearn.neighbors")


def both(rows, **arguments):
    return NearestNeighbors(**arguments).fit(rows), sklearn_neighbors.NearestNeighbors(**arguments).fit(rows)


def rows(count, dims=24, dtype=np.float32):
    generator = np.random.default_rng(count + dims)
    centers = generator.standard_normal((9, dims))
    return (centers[generator.integers(0, 9, count)] + 0.3 * generator.standard_normal((count, dims))).astype(dtype)


def compare(ours, theirs):
    """Shapes are equal, distances are near; rows are equal, for the data has no ties."""
    assert [each.dtype for each in ours] == [np.float64, np.int64]
    assert [each.shape for each in ours] == [each.shape for each in theirs]
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4, atol=2e-3)
    assert np.array_equal(ours[1], theirs[1])


@pytest.mark.parametrize("metric", ["minkowski", "euclidean", "l2", "cosine"])
@pytest.mark.parametrize("count", [40, 3000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kneighbors_is_scikit_learns(metric, count, dtype):
    """With queries, and for the rows themselves."""
    x = rows(count, dtype=dtype)
    ours, theirs = both(x, n_neighbors=3, metric=metric, algorithm="brute")
    compare(ours.kneighbors(rows(17, dtype=dtype)), theirs.kneighbors(rows(17, dtype=dtype)))
    compare(ours.kneighbors(rows(17, dtype=dtype), 7), theirs.kneighbors(rows(17, dtype=dtype), 7))
    compare(ours.kneighbors(), theirs.kneighbors())
    assert np.array_equal(ours.kneighbors(x[:4], 1, False), np.arange(4)[:, None])


@pytest.mark.parametrize("count", [40, 3000])
def test_radius_neighbors_is_scikit_learns(count):
    """The same rows for each query, as arrays of arrays."""
    x, queries = rows(count), rows(19)
    ours, theirs = both(x, radius=1.8)
    for asked in (queries, None):
        mine = ours.radius_neighbors(asked)
        other = theirs.radius_neighbors(asked, sort_results=True)
        assert [each.shape for each in mine] == [each.shape for each in other]
        assert [each.dtype for each in mine] == [each.dtype for each in other]
        for a, b in zip(mine[1], other[1], strict=True):
            assert sorted(a.tolist()) == sorted(b.tolist())
        np.testing.assert_allclose(np.concatenate(mine[0]), np.concatenate(other[0]), atol=1e-4)
    only = ours.radius_neighbors(queries, 0.5, return_distance=False)
    assert [a.tolist() for a in only] == [a.tolist() for a in ours.radius_neighbors(queries, 0.5)[1]]


def test_scikit_learn_can_copy_it():
    """`clone`, `get_params` and `set_params` work."""
    clone = pytest.importorskip("sklearn.base").clone
    made = clone(NearestNeighbors(n_neighbors=3, n_jobs=2, metric="cosine"))
    assert made.get_params()["n_neighbors"] == 3
    assert made.set_params(n_neighbors=4).kneighbors is not None
    assert repr(made) == "NearestNeighbors(n_neighbors=4, metric='cosine', n_jobs=2)"
    with pytest.raises(SearchError, match="'neighbors' is no parameter"):
        made.set_params(neighbors=3)


def test_arguments_of_scikit_learn_are_all_there():
    """By name, with the same defaults."""
    theirs = sklearn_neighbors.NearestNeighbors().get_params()
    assert theirs.items() <= NearestNeighbors().get_params().items()


def test_whole_numbers_are_rows_too():
    """As for scikit-learn."""
    x = np.arange(12).reshape(6, 2)
    distances, found = NearestNeighbors(n_neighbors=2).fit(x.tolist()).kneighbors(x[:1])
    assert found.tolist() == [[0, 1]]
    assert distances.tolist() == [[0, np.sqrt(8)]]


def test_ties_come_by_row():
    """Equal rows are found in the order they stand in."""
    x = np.ones((2000, 3), np.float32)
    assert NearestNeighbors(n_neighbors=3).fit(x).kneighbors(x[5:6])[1].tolist() == [[0, 1, 2]]
    assert NearestNeighbors(n_neighbors=2).fit(x).kneighbors()[1][:3].tolist() == [[1, 2], [0, 2], [0, 1]]


@pytest.mark.parametrize("jobs", [None, 1, 2, -1, -2])
def test_threads_change_nothing(jobs):
    """Whatever `n_jobs` says."""
    x = rows(2500)
    expected = NearestNeighbors(n_neighbors=3, n_jobs=1).fit(x).kneighbors(x[:300])
    found = NearestNeighbors(n_neighbors=3, n_jobs=jobs).fit(x).kneighbors(x[:300])
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithm": "lsh"}, "algorithm 'lsh' is not known; use one of auto"),
        ({"metric": "manhattan"}, "metric 'manhattan'.*use 'euclidean'"),
        ({"p": 1}, "p = 1"),
        ({"n_jobs": 0}, "n_jobs is 0; give 1 or more"),
        ({"device": "tpu"}, "device 'tpu' is not known"),
        ({"max_memory_fraction": 0}, "above 0 and at most 1"),
    ],
)
def test_what_is_not_supported_is_refused(arguments, message):
    """At `fit`, by name; a ValueError, as users of scikit-learn expect."""
    with pytest.raises(ValueError, match=message):
        NearestNeighbors(**arguments).fit(np.eye(3))


def test_what_cannot_be_found_is_refused():
    """Too many, too few, nothing fitted, nothing to fit, or a NaN."""
    with pytest.raises(SearchError, match="call fit first"):
        NearestNeighbors().kneighbors(np.eye(3))
    fitted = NearestNeighbors().fit(np.eye(3))
    with pytest.raises(SearchError, match="n_neighbors is 5, and there are 3 rows"):
        fitted.kneighbors(np.eye(3))
    with pytest.raises(SearchError, match="n_neighbors is 3, and there are 2 others"):
        fitted.kneighbors(n_neighbors=3)
    with pytest.raises(SearchError, match="n_neighbors is 0"):
        fitted.kneighbors(np.eye(3), 0)
    with pytest.raises(SearchError, match="row 1 has nan at dimension 0"):
        fitted.kneighbors([[1.0, 2, 3], [np.nan, 2, 3]], 1)
    with pytest.raises(SearchError, match="no rows"):
        NearestNeighbors().fit(np.empty((0, 3)))
