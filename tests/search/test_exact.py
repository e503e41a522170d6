"""The laws of exact search: it equals the oracle, in order, whatever the vectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imagelake.errors import SearchError
from imagelake.search.exact import nearest


def oracle(query, ids, vectors, k, metric):
    """Every distance in extended precision, then a stable sort by (distance, id)."""
    x, q = vectors.astype(np.longdouble), query.astype(np.longdouble)
    if metric == "l2":
        distances = np.sqrt(((x - q) ** 2).sum(axis=1))
    else:
        norms, norm = np.sqrt((x**2).sum(axis=1)), np.sqrt((q**2).sum())
        cosines = np.array([a @ q / (n * norm) if n and norm else 0 for a, n in zip(x, norms, strict=True)])
        distances = np.where((norms == 0) & (norm == 0), 0, 1 - cosines)
    order = sorted(range(len(ids)), key=lambda row: (distances[row], ids[row]))[:k]
    return distances[order].astype(np.float64), ids[order]


def blocks(ids, vectors, size):
    return ((ids[start : start + size], vectors[start : start + size]) for start in range(0, len(ids), size))


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize(("n", "d", "k", "size"), [(0, 4, 3, 8), (1, 1, 3, 8), (500, 64, 7, 60), (3000, 200, 5, 999)])
def test_it_equals_the_oracle(metric, n, d, k, size):
    """Distances agree to rounding and the ids are the same, however the vectors are cut into blocks."""
    random = np.random.default_rng(n + d)
    vectors = random.normal(size=(n, d)).astype(np.float32)
    ids = np.array([f"{i:08x}" for i in random.permutation(n)], dtype="U8")
    query = random.normal(size=d).astype(np.float32)
    found = nearest(query, blocks(ids, vectors, size), k, metric)
    distances, names = oracle(query, ids, vectors, k, metric)
    np.testing.assert_array_equal(found.ids, names)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_ties_are_ordered_by_id(metric):
    """Of vectors at the same distance the smaller ids win, wherever they stand."""
    vectors = np.ones((100, 8), np.float32)
    ids = np.array([f"{i:03}" for i in reversed(range(100))])
    found = nearest(np.ones(8, np.float32), blocks(ids, vectors, 7), 5, metric)
    assert found.ids.tolist() == ["000", "001", "002", "003", "004"]
    assert found.distances.tolist() == [0.0] * 5


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_hostile_values_are_found_too(metric, data):
    """Huge, tiny, zero and equal values defeat float32 products, never the answer: nobody nearer is left out."""
    values = st.sampled_from([0.0, 1.0, -1.0, 1e-30, 3e-23, 1e19, -2e19, 1e38, 0.1, 0.1000001])
    vectors = data.draw(hnp.arrays(np.float32, (40, 3), elements=values.map(np.float32)))
    query = data.draw(hnp.arrays(np.float32, 3, elements=values.map(np.float32)))
    ids = np.array([f"{i:03}" for i in range(40)])
    found = nearest(query, blocks(ids, vectors, 16), 4, metric)
    distances, _ = oracle(query, ids, vectors, 4, metric)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-10, atol=1e-12)


def test_a_vector_is_at_zero_from_itself():
    """Exactly zero, for both metrics."""
    random = np.random.default_rng(1)
    vectors = random.normal(size=(50, 1280)).astype(np.float32)
    ids = np.array([f"{i:02}" for i in range(50)])
    for metric in ("l2", "cosine"):
        for row in range(50):
            found = nearest(vectors[row], [(ids, vectors)], 1, metric)
            assert (found.ids[0], found.distances[0]) == (ids[row], 0.0)


@pytest.mark.parametrize(
    ("query", "k", "message"),
    [(np.ones(3), 0, "k is 0"), (np.ones(4), 1, "4 dimensions"), (np.array([1, np.nan, 1]), 1, "no finite")],
)
def test_bad_input_is_refused(query, k, message):
    """What was given is said."""
    with pytest.raises(SearchError, match=message):
        nearest(query.astype(np.float32), [(np.array(["a"] * 9), np.ones((9, 3), np.float32))], k, "l2")


def test_a_vector_that_is_not_finite_is_refused():
    """An infinite value in the lake is named, not ranked."""
    vectors = np.ones((9, 3), np.float32)
    vectors[4, 1] = np.inf
    with pytest.raises(SearchError, match="Vector 4"):
        nearest(np.ones(3, np.float32), [(np.array(["a"] * 9), vectors)], 1, "l2")
