"""The k-NN benchmark: what it measures, and that its check lets nothing wrong pass."""

import importlib.util
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from imagelake import schema
from imagelake.errors import InputError, SearchError
from imagelake.run import knn_contenders, knn_data
from imagelake.run.bench_knn import KnnOptions, bench_knn, check_options
from imagelake.run.knn_check import Answer, check_answers
from imagelake.run.knn_contenders import CONTENDERS, Contender, limited_threads
from imagelake.run.knn_data import KnnData, Source, load_knn_data, synthesize
from imagelake.run.knn_grid import save_knn_grid
from imagelake.search.exact import exact_distances

NEEDED = {contender.name: contender.module for contender in CONTENDERS}
DIMS = 8


@pytest.fixture(scope="module")
def data():
    return synthesize(300, 20, 16)


def truth(base, queries, k, metric="l2"):
    """The answer by the plainest means."""
    distances = np.stack([exact_distances(query, base, metric) for query in queries])
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return Answer(np.take_along_axis(distances, rows, 1), rows)


def verdict(base, queries, answer, k, metric="l2"):
    return check_answers(base, queries, {"it": answer}, k, metric)["it"]


def only_numpy(data, **options):
    return bench_knn(data, KnnOptions(against=["numpy"], devices=["cpu"], repeats=1, **options)).report


# The check


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("kind", ["plain", "far from the origin", "all equal", "copies", "zeros", "float64"])
def test_the_truth_is_right(metric, kind):
    """On data where products in float64 lose most of their digits, too."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((500, 12)).astype(np.float32)
    if kind == "far from the origin":
        base += np.float32(1e6)
    if kind == "all equal":
        base[:] = base[0]
    if kind == "copies":
        base = np.concatenate([base[:170]] * 3)
    if kind == "zeros":
        base[::7] = 0
    if kind == "float64":
        base = base.astype(np.float64) * 1e60 + 1e52
    queries = np.concatenate([base[:30], base[30:60] * 3])
    for k in (1, 5, len(base)):
        found = verdict(base, queries, truth(base, queries, k, metric), k, metric)
        assert (found.max_distance_difference, found.wrong_neighbors) == (0, 0)


def test_blocks_change_nothing(monkeypatch):
    """However many rows and queries are looked at together."""
    data = synthesize(333, 41, 9)
    monkeypatch.setattr("imagelake.run.knn_check._QUERIES", 7)
    monkeypatch.setattr("imagelake.run.knn_check._ROWS", 10)
    found = verdict(data.base, data.queries, truth(data.base, data.queries, 12), 12)
    assert (found.max_distance_difference, found.wrong_neighbors) == (0, 0)


@pytest.mark.parametrize(
    ("plant", "wrong"),
    [
        (lambda d, r: (d, np.where(np.arange(3) == 2, 299, r)), 20),
        (lambda d, r: (d, r[:, [0, 0, 2]]), 20),
        (lambda d, r: (d, np.where(np.arange(3) == 1, -1, r)), 20),
        (lambda d, r: (d, np.where(np.arange(3) == 1, 1 << 40, r)), 20),
        (lambda d, r: (d[:, :2], r[:, :2]), 20),
        (lambda d, r: (d[:, :0], r[:, :0]), 60),
        (lambda d, r: (d, r[:, ::-1]), 0),
    ],
    ids=["far", "twice", "missing", "no row", "too few", "none", "order"],
)
def test_a_wrong_neighbor_is_caught(data, plant, wrong):
    """One that is farther than the k-th, named twice, or missing; the order is no fault of the neighbors."""
    base = data.base.copy()
    base[299] = 1e3  # nobody's neighbor
    good = truth(base, data.queries, 3)
    assert verdict(base, data.queries, Answer(*plant(good.distances, good.rows)), 3).wrong_neighbors == wrong


def test_ties_are_excused():
    """Of rows at the same distance any is right, but each only once."""
    base = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    queries = base[:1]
    for rows, wrong in (([4, 2, 3], 0), ([0, 1, 4], 0), ([0, 1, 1], 1), ([0, 1, 5], 1)):
        assert verdict(base, queries, Answer(np.zeros((1, 3)), np.array([rows])), 3).wrong_neighbors == wrong


def test_distances_are_compared_with_the_truth(data):
    """Each with that of its place; what is no number is infinitely wrong."""
    good = truth(data.base, data.queries, 3)
    off = good.distances.copy()
    off[3, 1] += 0.002
    off[5, 0] -= 2
    found = verdict(data.base, data.queries, Answer(off, good.rows), 3)
    assert found.max_distance_difference == pytest.approx(2)
    assert (found.above_tolerance, found.above_thousandth, found.wrong_neighbors) == (1, 2, 0)
    off[0, 0] = np.nan
    assert verdict(data.base, data.queries, Answer(off, good.rows), 3).max_distance_difference == np.inf


def test_a_bad_answer_does_not_change_another_ones_verdict(data):
    """The truth is found without them."""
    good = truth(data.base, data.queries, 3)
    bad = Answer(np.zeros_like(good.distances), np.zeros_like(good.rows))
    found = check_answers(data.base, data.queries, {"bad": bad, "good": good}, 3, "l2")
    assert found["bad"].wrong_neighbors >= 40
    assert (found["good"].max_distance_difference, found["good"].wrong_neighbors) == (0, 0)


# The benchmark


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("name", [name for name in NEEDED if name != "cuvs"])
def test_each_contender_finds_the_neighbors(data, name, metric):
    """In our words: rows of the base, and Euclidean or cosine distances; of one query as of many."""
    pytest.importorskip(NEEDED[name])
    for queries, k in ((data.queries, 3), (data.queries[:1], 1), (data.queries[:1], 300)):
        some = KnnData(data.base, queries, "some")
        options = KnnOptions(k=k, metric=metric, against=[name], devices=["cpu"], repeats=2, threads=1)
        report = bench_knn(some, options).report
        assert [run.name for run in report.runs] == ["imagelake-cpu", name]
        for run in report.runs:
            assert run.wrong_neighbors == 0
            assert run.max_distance_difference < 1e-3
            assert len(run.times) == 2
            assert run.seconds == pytest.approx(np.mean(run.times))
            assert run.build_seconds > 0
        assert report.runs[0].ratio == 1.0
        assert report.runs[1].ratio == pytest.approx(report.runs[1].seconds / report.runs[0].seconds)


def test_the_report_says_what_was_measured(data):
    """Sizes, threads, the machine and the versions."""
    report = only_numpy(data, k=4, threads=1)
    assert (report.k, report.metric, report.base, report.queries) == (4, "l2", (300, 16), 20)
    assert (report.threads, report.machine.threads, report.checked_queries) == (1, 1, 20)
    assert "synthetic" in report.source
    assert report.machine.gpu is None
    assert report.machine.versions["numpy"] == np.__version__
    assert report.notes == []


def test_a_sample_is_checked(data):
    """As many queries as asked for, or all."""
    assert only_numpy(data, check=7).checked_queries == 7
    assert only_numpy(data, check=1000).checked_queries == 20


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_float_is_searched(tmp_path, data, dtype):
    """Without a wrong neighbor of ours; float64 is searched as such, and the report says who rounds it."""
    np.save(tmp_path / "b.npy", data.base.astype(dtype))
    np.save(tmp_path / "q.npy", data.queries.astype(np.float32))
    read = load_knn_data(Source(base=tmp_path / "b.npy", queries=tmp_path / "q.npy"))
    assert read.base.dtype == read.queries.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert read.source == "files b.npy and q.npy"
    report = bench_knn(read, KnnOptions(devices=["cpu"], repeats=1)).report
    assert {run.name: run.wrong_neighbors for run in report.runs}["imagelake-cpu"] == 0
    assert all(run.above_thousandth == 0 for run in report.runs)
    assert any("float64" in note for note in report.notes) == (dtype == np.float64)


def test_zero_vectors_are_remarked(data):
    """Under cosine, where they have no angle."""
    base = data.base.copy()
    base[3] = 0
    report = only_numpy(KnnData(base, data.queries, "some"), metric="cosine", k=300)
    assert [run.wrong_neighbors for run in report.runs] == [0, 0]
    assert any("zero" in note for note in report.notes)
    assert only_numpy(KnnData(base, data.queries, "some")).notes == []


def test_who_is_not_installed_is_named(data, monkeypatch):
    """In a note, and in an error where it was asked for; both say what to type."""
    there = importlib.util.find_spec
    gone = {"usearch", "cuvs", "faiss"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in gone else there(name, *rest))
    report = bench_knn(data, KnnOptions(devices=["cpu"], repeats=1)).report
    assert not gone & {run.name for run in report.runs}
    assert [note for note in report.notes if "pip install faiss-cpu usearch cuvs-cu12" in note]
    with pytest.raises(InputError, match="pip install faiss-cpu"):
        bench_knn(data, KnnOptions(against=["numpy", "faiss"]))


def test_a_contender_that_fails_is_a_note(data, monkeypatch):
    """And an error where it was asked for."""

    def broken(base, setting):
        raise OSError("no such\nlibrary")

    monkeypatch.setattr(knn_contenders, "CONTENDERS", (CONTENDERS[3], Contender("sad", "json", "sad-cpu", broken)))
    report = bench_knn(data, KnnOptions(devices=["cpu"], repeats=1)).report
    assert [run.name for run in report.runs] == ["imagelake-cpu", "numpy"]
    assert report.notes == ["sad failed: OSError: no such library"]
    with pytest.raises(InputError, match="sad failed: OSError"):
        bench_knn(data, KnnOptions(against=["sad"], devices=["cpu"], repeats=1))


def test_threads_are_as_before_afterwards():
    """What was held to one thread is let go."""
    torch, faiss = pytest.importorskip("torch"), pytest.importorskip("faiss")
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    with limited_threads(1):
        assert (torch.get_num_threads(), faiss.omp_get_max_threads()) == (1, 1)
    assert (torch.get_num_threads(), faiss.omp_get_max_threads()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "-k is 0"),
        ({"metric": "l1"}, "give l2 or cosine"),
        ({"repeats": 0}, "--repeats is 0"),
        ({"check": 0}, "--check is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"threads": 0}, "0 threads"),
        ({"max_memory_fraction": 0.0}, "above 0, at most 1"),
        ({"max_memory_fraction": float("nan")}, "above 0, at most 1"),
        ({"against": ["numpy", "annoy"]}, "'annoy' is not known. Give some of sklearn,faiss"),
        ({"against": []}, "nothing is named"),
        ({"devices": []}, "--device names nothing"),
        ({"devices": ["tpu"]}, "'tpu' is not known"),
    ],
)
def test_options_out_of_range(options, message):
    """They are refused before anything is read or measured."""
    with pytest.raises((InputError, SearchError), match=message):
        check_options(KnnOptions(**options))


def test_more_neighbors_than_rows(data):
    """There is no such answer."""
    with pytest.raises(InputError, match=r"-k is 301; the base has 300 vectors, so give 1 to 300"):
        bench_knn(data, KnnOptions(k=301))


# The vectors


def test_synthetic_vectors_are_the_same_again():
    """For one seed; another one gives others. Few directions carry most of their variance."""
    some = synthesize(400, 50, 64, seed=1)
    assert (some.base.shape, some.queries.shape, some.base.dtype) == ((400, 64), (50, 64), np.float32)
    np.testing.assert_array_equal(some.base, synthesize(400, 50, 64, seed=1).base)
    assert not np.array_equal(some.base, synthesize(400, 50, 64, seed=2).base)
    variances = np.linalg.svd(some.base - some.base.mean(axis=0), compute_uv=False) ** 2
    assert variances[:16].sum() > 0.6 * variances.sum()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "No source of vectors was given; exactly one"),
        ({"base": "b.npy", "synthetic": "1,1,1"}, "Given were --base and --synthetic; exactly one"),
        ({"base": "b.npy"}, "--base was given without --queries"),
        ({"queries": "q.npy"}, "--queries was given without --base"),
        ({"synthetic": "9,9,9", "embedding_set": "some"}, "--set some was given without a lake"),
        ({"synthetic": "10,10"}, "three whole numbers"),
        ({"synthetic": "10,0,10"}, "three whole numbers"),
        ({"synthetic": "10,-1,10"}, "three whole numbers"),
        ({"synthetic": "999999999,10,9999"}, "more than half of this machine's memory"),
    ],
)
def test_a_source_that_cannot_be(source, message):
    """What was given, what is allowed, what to do."""
    with pytest.raises(InputError, match=message):
        load_knn_data(Source(**source))


def test_files_that_cannot_be(tmp_path):
    """Missing, of another kind, of another shape, or empty."""
    good, path = tmp_path / "good.npy", tmp_path / "x.npy"
    np.save(good, np.ones((4, 3), np.float32))
    with pytest.raises(InputError, match=r"--queries: .* cannot be read: No such file"):
        load_knn_data(Source(base=good, queries=path))
    for content in (b"", b"no array", b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"no \.npy file of numbers"):
            load_knn_data(Source(base=path, queries=good))
    np.save(path, np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"no \.npy file of numbers"):
        load_knn_data(Source(base=path, queries=good))
    with path.open("wb") as file:
        np.savez(file, a=np.ones(3), b=np.ones(3))
    with pytest.raises(InputError, match="several arrays"):
        load_knn_data(Source(base=path, queries=good))
    np.save(path, np.ones((0, 3), np.float32))
    with pytest.raises(InputError, match="--base has no rows"):
        load_knn_data(Source(base=path, queries=good))
    for array, message in (
        (np.ones((4, 2), np.float32), r"must be \(n, 3\)"),
        (np.ones(3, np.float32), r"must be \(n, 3\)"),
        (np.ones((4, 3), np.int64), "float32, float16 or float64"),
        (np.full((4, 3), np.nan, np.float32), "finite"),
    ):
        np.save(path, array)
        with pytest.raises(SearchError, match=message):
            load_knn_data(Source(base=good, queries=path))


@pytest.fixture
def filled(lake, photos):
    """A lake of twelve pictures whose vectors are random, and one vector whose image is gone."""
    lake.ingest(photos)
    ids = lake.tables.images.read(["id"]).column("id").to_pylist()
    lake.tables.create_embeddings("some", schema.embeddings(DIMS, "{}", "mark"))
    vectors = np.random.default_rng(0).standard_normal((len(ids) + 1, DIMS)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMS)
    lake.tables.embeddings("some").insert_new(pa.table({"id": pa.array([*ids, "f" * 64]), "vector": column}))
    return lake


def test_a_lake_is_split_nine_to_one(filled):
    """By the seed alone; each image is in one part, and one that is gone in none."""
    some = load_knn_data(Source(tables=filled.tables))
    assert (some.base.shape, some.queries.shape) == ((11, DIMS), (1, DIMS))
    assert len({*some.base_ids, *some.query_ids}) == 12
    again = load_knn_data(Source(tables=filled.tables, embedding_set="some"))
    np.testing.assert_array_equal(some.query_ids, again.query_ids)
    np.testing.assert_array_equal(some.base, again.base)
    others = {load_knn_data(Source(tables=filled.tables), seed).query_ids[0] for seed in range(9)}
    assert len(others) > 1
    assert "embedding set some" in some.source


def test_a_lake_is_measured_and_drawn(filled, tmp_path, monkeypatch):
    """Its vectors as they are, read-only or not; the grid has a row for each of at most five queries."""
    monkeypatch.setattr(knn_data, "_BASE_PARTS", 1)  # six queries
    some = load_knn_data(Source(tables=filled.tables))
    measured = bench_knn(some, KnnOptions(devices=["cpu"], repeats=1, metric="cosine"))
    assert all(run.wrong_neighbors == 0 for run in measured.report.runs)
    save_knn_grid(some, measured.answer, tmp_path / "grid.png")
    save_knn_grid(some, measured.answer, tmp_path / "again.png")
    assert (tmp_path / "grid.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    with Image.open(tmp_path / "grid.png") as grid:
        assert 4 * 448 < grid.width < 5 * 448
        assert 5 * 448 < grid.height < 6 * (448 + 140)


def test_a_lake_without_enough_vectors(lake, filled):
    """It says what to do."""
    with pytest.raises(InputError, match="no embedding set 'other'"):
        load_knn_data(Source(tables=lake.tables, embedding_set="other"))
    lake.tables.create_embeddings("more", schema.embeddings(DIMS, "{}", "mark"))
    with pytest.raises(InputError, match=r"several embedding sets; choose one with --set: more, some"):
        load_knn_data(Source(tables=lake.tables))
    with pytest.raises(InputError, match=r"more has 0 vectors.*imagelake extract"):
        load_knn_data(Source(tables=lake.tables, embedding_set="more"))


def test_a_lake_without_any_vectors(lake):
    """It says what to do."""
    with pytest.raises(InputError, match="imagelake extract"):
        load_knn_data(Source(tables=lake.tables))


def test_no_grid_of_vectors_without_pictures(data, tmp_path):
    """Nor of another format."""
    with pytest.raises(InputError, match="Give --lake"):
        save_knn_grid(data, truth(data.base, data.queries, 3), tmp_path / "grid.png")


def test_libraries_load_late():
    """The modules of the benchmark bring in none of those that it compares."""
    code = "import sys, imagelake.run.bench_knn as _; print(sorted({'torch', 'faiss', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
