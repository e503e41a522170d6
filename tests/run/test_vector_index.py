"""The kept search index: built once, never stale."""

import hashlib
import shutil

import numpy as np
import pyarrow as pa
import pytest

from imagelake import open as open_lake
from imagelake import schema
from imagelake.lake.tables import open_tables
from imagelake.run import vector_index
from imagelake.run.vector_index import open_index
from imagelake.search.index import ExactIndex
from privileges import let_all_reach, unprivileged

DIMS = 12


@pytest.fixture(autouse=True)
def keep_small_ones(monkeypatch):
    monkeypatch.setattr(vector_index, "_KEPT_FROM", 1)


@pytest.fixture
def tables(tmp_path):
    tables = open_tables(tmp_path / "lake", create=True)
    tables.create_embeddings("some", schema.embeddings(DIMS, "{}", "mark"))
    return tables


def grow(tables, numbers):
    vectors = np.stack([np.random.default_rng(number).standard_normal(DIMS).astype(np.float32) for number in numbers])
    insert(tables, [name(number) for number in numbers], vectors)
    return vectors


def insert(tables, ids, vectors):
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMS)
    tables.embeddings("some").insert_new(pa.table({"id": pa.array(ids), "vector": column}))


def name(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_an_empty_set_has_an_empty_index(tables):
    """Before there are vectors the index finds nothing."""
    assert open_index(tables, "some", "cosine").search(np.ones((1, DIMS), np.float32), 3).ids.shape == (1, 0)


def test_it_is_built_once(tables, monkeypatch):
    """The second time the index is read, not built."""
    vectors = grow(tables, range(50))
    open_index(tables, "some", "cosine")
    monkeypatch.setattr(vector_index, "_vectors", lambda *_: pytest.fail("it was built again"))
    again = open_index(tables, "some", "cosine")
    assert again.search(vectors[7:8], 1).ids.tolist() == [[name(7)]]
    assert isinstance(again.parts[0].segment.vectors, np.memmap)


def test_it_follows_the_lake(tables):
    """Rows that came are found, rows that went are not, and what was there is not encoded again."""
    grow(tables, range(60))
    open_index(tables, "some", "l2")
    folder = tables.index_folder("some")
    before = {path.name for path in folder.glob("part-*")}
    more = grow(tables, range(60, 90))
    tables.embeddings("some").delete(f"id IN ('{name(3)}', '{name(70)}')")
    index = open_index(tables, "some", "l2")
    assert len(index) == 88
    assert index.search(more[:1], 1).ids.tolist() == [[name(60)]]
    assert name(3) not in index.ids.tolist()
    assert before < {path.name for path in folder.glob("part-*")}
    grow(tables, [3])
    assert name(3) in open_index(tables, "some", "l2").ids.tolist()


def test_a_broken_index_is_built_anew(tables):
    """An index that cannot be read, or was made for another metric, is replaced."""
    vectors = grow(tables, range(40))
    open_index(tables, "some", "l2")
    folder = tables.index_folder("some")
    next(folder.glob("part-*/codes0.npy")).write_bytes(b"broken")
    assert open_index(tables, "some", "l2").search(vectors[:1], 1).ids.tolist() == [[name(0)]]
    assert open_index(tables, "some", "cosine").metric == "cosine"
    (folder / "header.json").write_text("{")
    assert len(open_index(tables, "some", "cosine")) == 40


def test_a_lake_that_cannot_be_written_is_searched(tables, tmp_path):
    """Without the right to write the index is made in memory."""
    grow(tables, range(30))
    let_all_reach(tmp_path)
    with unprivileged():
        assert len(open_index(tables, "some", "l2")) == 30
    assert not (tmp_path / "lake" / "indexes").exists()


def test_indexes_of_sets_that_are_no_more_are_removed(tables):
    """A kept index goes when its embedding set has gone."""
    grow(tables, range(30))
    old = tables.index_folder("older")
    ExactIndex(np.ones((3, 2), np.float32)).save(old)
    open_index(tables, "some", "l2")
    assert not old.exists()
    assert tables.index_folder("some").exists()


def test_a_lake_with_an_index_is_still_a_lake(tables):
    """The folder of indexes does not keep a lake from being opened, or made again."""
    grow(tables, range(30))
    open_index(tables, "some", "l2")
    assert open_lake(tables.root, create=True).root == tables.root


def test_vectors_that_changed_are_not_searched(tables):
    """A set that was made again under the same ids, or by another model, gets a new index."""
    grow(tables, range(50))
    open_index(tables, "some", "l2")
    shutil.rmtree(tables.embeddings("some").uri)
    tables.create_embeddings("some", schema.embeddings(DIMS, "{}", "mark"))
    ids, vectors = [name(number) for number in range(50)], np.random.default_rng(9).random((50, DIMS), np.float32)
    insert(tables, ids, vectors)
    assert open_index(tables, "some", "l2").search(vectors[:1], 1).distances.tolist() == [[0]]
    shutil.rmtree(tables.embeddings("some").uri)
    tables.create_embeddings("some", schema.embeddings(DIMS, '{"another": 1}', "mark"))
    insert(tables, ids, vectors[::-1])
    assert open_index(tables, "some", "l2").search(vectors[:1], 1).ids.tolist() == [[name(49)]]
