import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagelake.errors import SearchError
from imagelake.search import kernel, native, plain
from imagelake.search.index import ExactIndex

METRICS = ["l2", "cosine", "dot"]
KERNELS = [plain] + [native] * native.available()


@pytest.fixture(params=KERNELS, ids=lambda module: module.__name__.rsplit(".", 1)[-1])
def each_kernel(request):
    before = kernel.kernel()
    kernel.choose(request.param)
    yield request.param
    kernel.choose(before)


def hostile(name, n, d, rng):  # noqa: C901 - a table of cases
    """Data that defeats bounds, or arithmetic."""
    x = rng.standard_normal((n, d)).astype(np.float32)
    if name == "clusters":
        return (x * 0.01 + rng.standard_normal((5, d)).astype(np.float32)[rng.integers(0, 5, n)]).astype(np.float32)
    if name == "duplicates":
        return x[rng.integers(0, max(1, n // 10), n)]
    if name == "constant":
        return np.full((n, d), 3.25, np.float32)
    if name == "zeros":
        return x * (rng.random((n, 1)) < 0.5).astype(np.float32)
    if name == "outlier":
        x[n // 2] = 1e6
        return x
    if name == "huge norms":
        return (x * np.float32(1e18)).astype(np.float32)
    if name == "subnormal":
        return (x * np.float32(1e-40)).astype(np.float32)
    if name == "mixed norms":
        return (x * (10.0 ** rng.uniform(-20, 15, (n, 1)))).astype(np.float32)
    if name == "integers":
        return rng.integers(0, 2, (n, d)).astype(np.float32)
    if name == "far from zero":
        return (x + np.float32(1e4)).astype(np.float32)
    if name == "near duplicates":
        return (x[:1] + x * np.float32(1e-6)).astype(np.float32)
    if name == "one axis":
        x[:, 1:] *= np.float32(1e-3)
    return x


NAMES = [
    "random", "clusters", "duplicates", "constant", "zeros", "outlier", "huge norms", "subnormal", "mixed norms",
    "integers", "far from zero", "near duplicates", "one axis",
]  # fmt: skip


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(700, 300), (400, 70), (300, 5)], ids=str)
def test_hostile_data(name, metric, shape, each_kernel):
    """Data may defeat the bounds; the answer is that of float64 brute force all the same, and proven."""
    rng = np.random.default_rng(1)
    x = hostile(name, *shape, rng)
    queries = np.concatenate(
        [x[:5], hostile(name, 6, shape[1], rng), rng.standard_normal((3, shape[1])).astype(np.float32)]
    )
    index = ExactIndex(x, metric=metric)
    for k in (1, 7):
        found = index.search(queries, k, certificate=True)
        oracle.check(found, queries, x, np.arange(len(x)), k, metric)
        assert found.certificate.holds.all()
    index.audit(queries)


@pytest.mark.parametrize("metric", METRICS)
def test_kernels_agree_to_the_bit(metric):
    """Plain C, AVX2, AVX-512 and NumPy give the same bits."""
    if not native.available():
        pytest.skip("no compiled kernel here")
    rng = np.random.default_rng(2)
    x = hostile("clusters", 900, 333, rng).astype(np.float64 if metric == "dot" else np.float32)
    x[100:120] = x[100]
    queries = rng.standard_normal((70, 333))
    answers = []
    best = native.level()
    try:
        for level in range(best + 1):
            native.level(level)
            answers.append(ExactIndex(x, metric=metric).search(queries, 9))
    finally:
        native.level()
    kernel.choose(plain)
    answers.append(ExactIndex(x, metric=metric).search(queries, 9))
    kernel.choose(native)
    for other in answers[1:]:
        assert np.array_equal(answers[0].distances, other.distances)
        assert np.array_equal(answers[0].ids, other.ids)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("k", [0, 1, 199, 200, 250])
def test_every_k(metric, dtype, k, each_kernel):
    """With k = 0 nothing is found, with k = n everybody, and with more than n no more than that."""
    rng = np.random.default_rng(3)
    x, queries = rng.standard_normal((200, 20)).astype(dtype), rng.standard_normal((9, 20)).astype(dtype)
    oracle.check(ExactIndex(x, metric=metric).search(queries, k), queries, x, np.arange(200), k, metric)


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_in_nothing_out(metric, each_kernel):
    """An empty index answers with nothing, and so do no queries."""
    index = ExactIndex(np.empty((0, 4), np.float32), metric=metric)
    assert index.search(np.ones((2, 4)), 3).ids.shape == (2, 0)
    assert index.range_search(np.ones((2, 4)), 3.0).limits.tolist() == [0, 0, 0]
    assert not list(index.pairs_within(1.0))
    assert not list(index.neighbors_of_all(3))
    index.add(np.ones((3, 4), np.float32))
    assert index.search(np.empty((0, 4), np.float32), 2).ids.shape == (0, 2)


def test_threads_and_splitting_change_nothing(each_kernel, monkeypatch):
    """One thread or many, all queries at once or one by one: the same bits."""
    monkeypatch.setattr("imagelake.search.scan._SPLIT_PANELS", 1)  # so that few rows are split among threads too
    rng = np.random.default_rng(4)
    x, queries = hostile("clusters", 3000, 200, rng), hostile("clusters", 300, 200, rng)
    whole = ExactIndex(x, threads=1).search(queries, 5)
    for threads in (2, 5):
        index = ExactIndex(x, threads=threads)
        found = index.search(queries, 5)
        assert np.array_equal(found.distances, whole.distances)
        assert np.array_equal(found.ids, whole.ids)
        for at in (0, 17, 299):
            one = index.search(queries[at : at + 1], 5)
            assert np.array_equal(one.ids[0], whole.ids[at])
            assert np.array_equal(one.distances[0], whole.distances[at])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", ["random", "duplicates", "integers"])
def test_range(metric, name, each_kernel):
    """A range search finds everybody within, and nobody else."""
    rng = np.random.default_rng(5)
    x, queries = hostile(name, 500, 60, rng), hostile(name, 9, 60, rng)
    truth = oracle.distances(queries, x, metric)
    index = ExactIndex(x, metric=metric)
    for radius in (float(np.quantile(truth, 0.02)) * (1 + 1e-9), -1e9, 1e9):
        limits, distances, ids = index.range_search(queries, radius)
        for row in range(len(queries)):
            part = slice(limits[row], limits[row + 1])
            assert sorted(ids[part].tolist()) == np.flatnonzero(truth[row] <= radius).tolist()
            assert list(zip(distances[part], ids[part], strict=True)) == sorted(
                zip(distances[part], ids[part], strict=True)
            )


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.4, 1.0])
@pytest.mark.parametrize("metric", METRICS)
def test_filters(share, metric, each_kernel):
    """A filtered answer is complete over the rows that are allowed, however few."""
    rng = np.random.default_rng(6)
    x, queries = hostile("duplicates", 2000, 40, rng), hostile("random", 12, 40, rng)
    ids = rng.permutation(10_000)[:2000]
    index = ExactIndex(x, ids, metric)
    mask = rng.random(2000) < share
    for allowed in (mask, ids[mask]):
        oracle.check(index.search(queries, 4, allowed=allowed), queries, x[mask], ids[mask], 4, metric)
    radius = float(np.quantile(oracle.distances(queries, x, metric), 0.1))
    limits, _, found = index.range_search(queries, radius, allowed=mask)
    for row in range(len(queries)):
        inside = oracle.distances(queries[row : row + 1], x[mask], metric)[0] <= radius
        assert sorted(found[limits[row] : limits[row + 1]].tolist()) == sorted(ids[mask][inside].tolist())


@pytest.mark.parametrize("metric", METRICS)
def test_adding_and_removing(metric, each_kernel):
    """An index to which rows were added, and from which rows were taken, answers as one made of what is left."""
    rng = np.random.default_rng(7)
    x, queries = hostile("duplicates", 900, 50, rng), hostile("random", 20, 50, rng)
    index = ExactIndex(x[:300], metric=metric)
    index.add(x[300:310])
    index.add(x[310:])
    gone = rng.permutation(900)[:450]
    index.remove(gone)
    left = np.setdiff1d(np.arange(900), gone)
    assert len(index) == 450
    assert index.ids.tolist() == left.tolist()
    oracle.check(index.search(queries, 6), queries, x[left], left, 6, metric)
    index.add(x[:1], [gone[0]])
    assert len(index) == 451


def test_text_ids_break_ties(each_kernel):
    """Equal distances are ordered by id, whatever the ids are and whenever they came."""
    index = ExactIndex(np.zeros((3, 2), np.float32), ["b", "c", "a"])
    index.add(np.zeros((1, 2), np.float32), ["aa"])
    assert index.search(np.ones((1, 2), np.float32), 3).ids.tolist() == [["a", "aa", "b"]]
    index.remove(["a"])
    assert index.search(np.ones((1, 2), np.float32), 3).ids.tolist() == [["aa", "b", "c"]]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", ["random", "duplicates", "constant"])
def test_all_pairs(metric, name, each_kernel):
    """Each pair within the radius comes once, and each row's neighbors are others."""
    rng = np.random.default_rng(8)
    x = hostile(name, 240, 30, rng)
    truth = oracle.distances(x, x, metric)
    radius = float(np.quantile(truth, 0.03)) * (1 + 1e-9)
    index = ExactIndex(x[:150], metric=metric)
    index.add(x[150:])
    index.remove([3, 200])
    alive = np.setdiff1d(np.arange(240), [3, 200])
    pairs = [pair for a, b, _ in index.pairs_within(radius) for pair in zip(a.tolist(), b.tolist(), strict=True)]
    wanted = {(i, j) for i in alive for j in alive if i < j and truth[i, j] <= radius}
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == wanted
    for ids, found in index.neighbors_of_all(4):
        for row, name_ in enumerate(ids.tolist()):
            others = alive[alive != name_]
            assert name_ not in found.ids[row].tolist()
            tolerance = 1e-12 * max(1.0, np.abs(truth).max())
            np.testing.assert_allclose(
                found.distances[row], np.sort(truth[name_, others])[:4], rtol=1e-12, atol=tolerance
            )


def test_a_violated_bound_is_caught(each_kernel):
    """When a bound claims too little, the audit says so; so the audit is no formality."""
    rng = np.random.default_rng(9)
    x = hostile("random", 600, 300, rng)
    index = ExactIndex(x)
    index.audit(x[:20])
    bounds = index.parts[0].segment.bounds
    kept = bounds.copy()
    for row in (2, 3, 5, 6):  # error norms and rest norms of the first two levels
        bounds[:, row] *= 0.2
    with pytest.raises(SearchError, match="bound"):
        index.audit(x[:20])
    bounds[:] = kept
    bounds[:, 0] += 0.05 * bounds[:, 0].max()  # offsets that are too large
    with pytest.raises(SearchError, match="bound"):
        index.audit(x[:20])


@pytest.mark.parametrize(
    ("vectors", "word"),
    [
        (np.ones(3), "shape"),
        (np.ones((2, 0)), "shape"),
        (np.ones((2, 3), np.int32), "int32"),
        (np.array([[1.0, 2], [np.nan, 1]]), "vector 1 has nan at dimension 0"),
        (np.array([[1.0, 2], [1, np.inf]], np.float32), "vector 1 has inf at dimension 1"),
        (np.array([[1.0, 1e200]]), "1e150"),
    ],
)
def test_bad_vectors(vectors, word):
    """What is no vector is refused, and the row is named."""
    with pytest.raises(SearchError, match=word):
        ExactIndex(vectors)


def test_bad_arguments():
    """What cannot be searched for is refused with what is allowed; nothing changes meanwhile."""
    index = ExactIndex(np.ones((3, 2), np.float32))
    for call, word in (
        (lambda: index.search(np.ones((1, 3)), 1), "shape"),
        (lambda: index.search(np.ones((1, 2)), -1), "k is -1"),
        (lambda: index.search(np.ones((1, 2)), 1.5), "k is 1.5"),
        (lambda: index.search(np.array([[np.nan, 1]]), 1), "query 0 has nan"),
        (lambda: index.range_search(np.ones((1, 2)), float("nan")), "radius"),
        (lambda: index.search(np.ones((1, 2)), 1, allowed=np.ones(2, np.bool_)), "mask"),
        (lambda: index.search(np.ones((1, 2)), 1, allowed=[7]), "id 7"),
        (lambda: index.add(np.ones((1, 3), np.float32)), "shape"),
        (lambda: index.add(np.ones((1, 2), np.float32), [1]), "twice"),
        (lambda: index.add(np.ones((2, 2), np.float32), [5]), "one id a vector"),
        (lambda: index.add(np.ones((1, 2), np.float32), ["x"]), "other kind"),
        (lambda: index.add(np.ones((1, 2))), "float64"),
        (lambda: index.remove([9]), "id 9"),
        (lambda: ExactIndex(np.ones((1, 2)), metric="manhattan"), "manhattan"),
        (lambda: ExactIndex(np.ones((1, 2)), threads=0), "threads"),
    ):
        with pytest.raises(SearchError, match=word):
            call()
    assert len(index) == 3


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 120), st.integers(1, 40), st.integers(0, 6), st.integers(0, 12), st.sampled_from(METRICS),
    st.sampled_from(NAMES), st.integers(0, 2**31),
)  # fmt: skip
def test_any_small_case(n, d, m, k, metric, name, seed):
    """Whatever the numbers, the answer is the oracle's."""
    rng = np.random.default_rng(seed)
    x, queries = hostile(name, n, d, rng), hostile(name, max(m, 1), d, rng)[:m]
    oracle.check(ExactIndex(x, metric=metric).search(queries, k), queries, x, np.arange(n), k, metric)


def test_ten_thousand_small_cases():
    """A fuzz of 10,000 random small cases finds no difference from float64 brute force."""
    rng = np.random.default_rng(10)
    for _ in range(10_000):
        n, d, m, k = (int(rng.integers(low, high)) for low, high in ((1, 40), (1, 24), (1, 4), (1, 8)))
        name, metric = NAMES[rng.integers(len(NAMES))], METRICS[rng.integers(3)]
        x, queries = hostile(name, n, d, rng), hostile(name, m, d, rng)
        truth = oracle.distances(queries, x, metric)
        found = ExactIndex(x, metric=metric, threads=1).search(queries, k).distances
        scale = 1e-11 * np.abs(truth).max() if metric == "dot" else 1e-18
        np.testing.assert_allclose(found, np.sort(truth, axis=1)[:, :k], rtol=1e-11, atol=scale)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_saving_and_loading_change_nothing(metric, mmap, tmp_path):
    """An index that was saved, extended, saved again and loaded answers as before."""
    rng = np.random.default_rng(11)
    x, queries = hostile("duplicates", 3000, 120, rng), hostile("random", 30, 120, rng)
    names = np.array([f"row {number:05}" for number in rng.permutation(3000)])
    index = ExactIndex(x[:2000], names[:2000], metric)
    index.save(tmp_path / "index")
    written = {path.name for path in (tmp_path / "index").glob("part-*")}
    index.add(x[2000:], names[2000:])
    index.remove(names[5:50])
    index.save(tmp_path / "index", note="second")
    assert written < {path.name for path in (tmp_path / "index").glob("part-*")}
    loaded = ExactIndex.load(tmp_path / "index", mmap=mmap)
    assert loaded.note == "second"
    for one in (index.search(queries, 5), loaded.search(queries, 5)):
        assert one.ids.dtype == names.dtype
        oracle.check(one, queries, np.delete(x, slice(5, 50), 0), np.delete(names, slice(5, 50)), 5, metric)
    loaded.add(x[:3], ["new a", "new b", "new c"])
    loaded.remove(["new b"])
    loaded.save(tmp_path / "index")
    assert len(ExactIndex.load(tmp_path / "index", mmap=mmap)) == len(index) + 2


def test_an_index_that_cannot_be_read_says_so(tmp_path):
    """A folder without an index, with half of one, or of another format is refused, and nothing in it is replaced."""
    with pytest.raises(SearchError, match="no index"):
        ExactIndex.load(tmp_path / "nowhere")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    index = ExactIndex(np.ones((3, 2), np.float32))
    with pytest.raises(SearchError, match="something that is no index"):
        index.save(tmp_path / "photos")
    index.save(tmp_path / "index")
    part = next((tmp_path / "index").glob("part-*"))
    (part / "vectors.npy").write_bytes(b"short")
    with pytest.raises(SearchError, match="build it again"):
        ExactIndex.load(tmp_path / "index")
    (tmp_path / "index" / "header.json").write_text('{"format": 99}')
    with pytest.raises(SearchError, match="format 99"):
        ExactIndex.load(tmp_path / "index")
