"""What a reader of the code found wrong once, and must not come back."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from imagelake.errors import SearchError
from imagelake.search import ExactIndex
from imagelake.search.rows import Rows


def nearest(index, queries, k):
    """By measuring everybody."""
    positions = np.arange(len(index.ids))
    distance = index._rows.measure(queries, positions)
    order = np.lexsort((np.broadcast_to(positions, distance.shape), distance), axis=1)[:, :k]
    return np.take_along_axis(distance, order, axis=1), order


def rows(count, dims=16, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dims)).astype(np.float32)


@pytest.mark.parametrize("k", [1499, 1500, 1501, 2000])
def test_more_neighbors_than_different_rows(k):
    """Where 500 of 2,000 rows repeat others, k may be anything."""
    x = rows(1500)[np.arange(2000) % 1500]
    index = ExactIndex(x)
    found = index.search(x[:70], k)
    distance, ids = nearest(index, x[:70], k)
    assert np.array_equal(found.ids, ids)
    assert np.array_equal(found.distances, distance)
    for _, near in ExactIndex(rows(100)[np.arange(2000) % 100]).neighbors_of_all(150):
        assert near.ids.shape[1] == 150


def test_a_changed_vector_is_not_lost_by_saving(tmp_path):
    """Another index that is saved over an old one replaces all of it, however alike they are."""
    x = rows(3000)
    ExactIndex(x).save(tmp_path / "index")
    changed = x.copy()
    changed[7] *= 1.05
    ExactIndex(changed).save(tmp_path / "index")
    loaded = ExactIndex.load(tmp_path / "index", mmap=True)
    assert np.array_equal(loaded.vectors_of([7]), changed[7:8])
    assert loaded.search(changed[7:8], 1).distances[0, 0] == 0


def test_one_index_in_several_threads():
    """The first searches after a change come at once, and all are right."""
    x = np.concatenate([rows(2000)] * 3)
    index = ExactIndex(x)
    index.search(x[:1], 1)
    queries, wrong = x[:50], []
    expected = index.search(queries, 4).ids

    def search():
        for _ in range(20):
            index._rows._group_of = None
            if not np.array_equal(index.search(queries, 4).ids, expected):
                wrong.append(1)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=search) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong


def test_rows_are_encoded_once_whoever_asks(monkeypatch):
    """Two threads that ask for the parts at once get the same ones."""
    index = ExactIndex(rows(900))
    threads = [threading.Thread(target=lambda: index.parts) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(index.parts) == 1


@pytest.mark.parametrize("metric", ["l2", "cosine", "dot"])
@pytest.mark.parametrize("outliers", [(1e23, 1e20, -1e20), (1e18, 1e12, 1e6), (1e30, 1e2, 1e1)])
def test_outliers_that_hide_each_other(metric, outliers):
    """Every row finds what measuring finds."""
    x = rows(3000, 600)
    for place, outlier in enumerate(outliers):
        x[place * 7, place] = outlier
    index = ExactIndex(x, metric=metric)
    queries = x[::61].copy()
    found = index.search(queries, 3, certificate=True)
    distance, ids = nearest(index, queries, 3)
    assert np.array_equal(found.ids, ids)
    assert np.array_equal(found.distances, distance)
    index.audit(queries)


@pytest.mark.parametrize("metric", ["l2", "dot"])
@pytest.mark.parametrize("factor", [1e38, 1e45, 1e60])
def test_rows_beyond_what_bounds_can_hold(metric, factor):
    """Float64 rows of any size are found, by k, by radius and as pairs."""
    x = rows(2500, 40).astype(np.float64)
    x[::80] *= factor
    index = ExactIndex(x, metric=metric)
    queries = x[:40]
    distance, ids = nearest(index, queries, 5)
    found = index.search(queries, 5)
    assert np.array_equal(found.ids, ids)
    assert np.array_equal(found.distances, distance)
    assert len(index.range_search(queries[:3], np.inf).ids) == 3 * 2500
    assert sum(len(each) for _, _, each in index.pairs_within(np.inf)) == 2500 * 2499 // 2


def test_tiny_float64_rows():
    """Nor is anything lost at the other end; and the audit does not cry wolf."""
    x = rows(2500, 40).astype(np.float64) * 1e-160
    index = ExactIndex(x)
    index.audit(x[:20])
    assert np.array_equal(index.search(x[:20], 3).ids, nearest(index, x[:20], 3)[1])


@pytest.mark.parametrize("name", ["codes1.npy", "inverse.npy", "bounds.npy", "vectors.npy"])
def test_an_index_with_a_missing_file_is_refused(tmp_path, name):
    """And one whose files do not fit each other."""
    ExactIndex(rows(3000, 300), metric="cosine").save(tmp_path / "index")
    file = next((tmp_path / "index").glob(f"part-*/{name}"))
    array = np.load(file)
    np.save(file, array[:-1])
    with pytest.raises(SearchError, match="cannot be read"):
        ExactIndex.load(tmp_path / "index")
    file.unlink()
    with pytest.raises(SearchError, match="cannot be read"):
        ExactIndex.load(tmp_path / "index")


def test_two_that_save_leave_a_whole_index(tmp_path):
    """The last one wins; nobody's half is left."""
    ExactIndex(rows(2000)).save(tmp_path / "index")
    first, second = (ExactIndex.load(tmp_path / "index") for _ in range(2))
    first.add(rows(5, seed=1))
    second.add(rows(9, seed=2))
    first.save(tmp_path / "index")
    second.save(tmp_path / "index")
    assert len(ExactIndex.load(tmp_path / "index")) == 2009
    code = (
        "import sys, numpy as np; from imagelake.search import ExactIndex\n"
        "index = ExactIndex.load(sys.argv[1]); index.add(np.full((3, 16), float(sys.argv[2]), np.float32))\n"
        "for _ in range(5): index.save(sys.argv[1]); ExactIndex.load(sys.argv[1], mmap=True)\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "index"), str(number)]) for number in range(3)
    ]
    assert [each.wait(120) for each in running] == [0, 0, 0]
    ExactIndex.load(tmp_path / "index").search(rows(3), 2)


def test_saving_at_the_edges(tmp_path):
    """Nothing in it, a file in the way, a save before that failed; and others may read it."""
    ExactIndex(np.empty((0, 4), np.float32)).save(tmp_path / "empty")
    assert len(ExactIndex.load(tmp_path / "empty")) == 0
    (tmp_path / "file").write_text("x")
    with pytest.raises(SearchError):
        ExactIndex(rows(10)).save(tmp_path / "file")
    (tmp_path / "half" / "part-0123").mkdir(parents=True)
    ExactIndex(rows(10)).save(tmp_path / "half")
    assert len(ExactIndex.load(tmp_path / "half")) == 10
    assert (tmp_path / "half" / "header.json").stat().st_mode & 0o044 == 0o044
    assert json.loads((tmp_path / "half" / "header.json").read_text())["metric"] == "l2"


def test_ids_at_the_ends_of_64_bits():
    """Order, look-up, and no silent turning over."""
    ids = np.array([2**63 - 1, -(2**63), 5])
    index = ExactIndex(np.ones((3, 2), np.float32), ids)
    assert index.search(np.ones((1, 2), np.float32), 3).ids.tolist() == [[-(2**63), 5, 2**63 - 1]]
    assert index.vectors_of([2**63 - 1]).tolist() == [[1, 1]]
    with pytest.raises(SearchError, match="no whole numbers are left"):
        index.add(np.ones((1, 2), np.float32))
    with pytest.raises(SearchError, match="too large"):
        ExactIndex(np.ones((1, 2), np.float32), np.array([2**63 + 5], np.uint64))


def test_an_index_that_changes_under_an_iteration_says_so():
    """Rather than pairing old rows with new ones."""
    index = ExactIndex(rows(9000))
    walk = index.neighbors_of_all(1)
    next(walk)
    index.add(rows(1, seed=3))
    with pytest.raises(SearchError, match="begin again"):
        next(walk)


def test_a_thread_that_outlives_the_main_one_can_search():
    """No more threads can be started then; it searches alone."""
    code = (
        "import threading, time, numpy as np; from imagelake.search import ExactIndex\n"
        "x = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float32); index = ExactIndex(x, threads=2)\n"
        "def late():\n    time.sleep(0.5); print(index.search(x[:600], 1).ids[:3].ravel().tolist())\n"
        "threading.Thread(target=late).start()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[0, 1, 2]", done.stderr


def test_rows_know_how_often_they_changed():
    """Which is what iterations look at."""
    index = ExactIndex(rows(20))
    assert isinstance(index._rows, Rows)
    before = index._rows.changes
    index.remove([3])
    assert index._rows.changes == before + 1
