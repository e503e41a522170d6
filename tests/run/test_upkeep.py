"""Deleting for good, naming versions, going back."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from imagelake import schema
from imagelake.errors import InputError
from imagelake.lake.sql import matching_ids
from imagelake.lake.tables import manifest_text
from imagelake.run import upkeep, vector_index
from imagelake.run.vector_index import open_index

DIMS = 16


@pytest.fixture
def filled(lake, photos, monkeypatch):
    """Twelve images with vectors, a kept index, a region and a prediction of each."""
    monkeypatch.setattr(vector_index, "_KEPT_FROM", 1)
    lake.ingest(photos)
    ids = sorted(lake.sql("select id from images").column("id").to_pylist())
    vectors = np.random.default_rng(0).standard_normal((12, DIMS)).astype(np.float32)
    tables = lake.tables
    tables.create_embeddings("some", schema.embeddings(DIMS, "{}", "mark"))
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMS)
    tables.embeddings("some").insert_new(pa.table({"id": pa.array(ids), "vector": column}))
    for name, columns in (("regions", schema.REGIONS), ("predictions", schema.PREDICTIONS)):
        rows = [{"id": f"{name}{number}", "image_id": each, "label": "cat"} for number, each in enumerate(ids)]
        tables.all()[name].insert_new(pa.Table.from_pylist(rows, schema=columns))
    open_index(tables, "some", "l2")
    return lake


def files_with(lake, data):
    return [path for path in Path(lake.root).rglob("*") if path.is_file() and data in path.read_bytes()]


def test_nothing_is_left_of_what_was_deleted(filled, photos):
    """Not of its bytes, not of its vector, in no file of the lake; all others are whole."""
    gone = filled.sql("select id, uris from images where format = 'png'").to_pylist()[0]
    picture = (photos / "ten.PNG").read_bytes()
    vector = filled.tables.embeddings("some").rows("id", [gone["id"]], ["vector"]).column("vector")[0].values
    number = vector.to_numpy()[:4].tobytes()
    assert files_with(filled, picture)
    assert files_with(filled, number)
    report = upkeep.delete(filled.tables, "format = 'png'", really=True)
    assert (report.done, report.images, report.bytes) == (True, 1, len(picture))
    assert report.rows == {"embeddings/some": 1, "regions": 1, "predictions": 1}
    assert report.indexes == ["some"]
    assert report.bytes_freed > len(picture)
    assert not files_with(filled, picture)
    assert not files_with(filled, number)
    assert not files_with(filled, gone["id"].encode())
    assert filled.tables.images.count() == 11
    for row in filled.sql("select id, uris from images").to_pylist():
        data = filled.tables.images.bytes_of([row["id"]])[row["id"]]
        assert data == (photos / Path(row["uris"][0]).relative_to(photos.as_uri())).read_bytes()
    assert len(open_index(filled.tables, "some", "l2")) == 11


def test_without_being_told_so_nothing_is_deleted(filled):
    """It says what would be."""
    before = filled.tables.images.version()
    report = upkeep.delete(filled.tables, "format = 'jpeg'")
    assert (report.done, report.images, report.bytes_freed) == (False, 10, 0)
    assert filled.tables.images.version() == before
    with pytest.raises(InputError):
        upkeep.delete(filled.tables, "no such thing", really=True)


def test_a_deleted_picture_can_come_back(filled, photos):
    """Nothing of it is known, so it is new."""
    upkeep.delete(filled.tables, "format = 'png'", really=True)
    assert filled.ingest(photos).added == 1


def test_a_named_version_is_not_emptied_unseen(filled, photos):
    """It keeps what is to be deleted: first its name has to go."""
    upkeep.tag_version(filled.tables, "first")
    with pytest.raises(InputError, match="tagged versions first keep"):
        upkeep.delete(filled.tables, "format = 'png'", really=True)
    assert filled.tables.images.count() == 12
    report = upkeep.delete(filled.tables, "format = 'png'", really=True, drop_tags=True)
    assert report.tags == ["first"]
    assert not files_with(filled, (photos / "ten.PNG").read_bytes())


def test_one_can_go_back_and_forth(filled):
    """To a name, and to what was before that."""
    upkeep.tag_version(filled.tables, "first")
    filled.tables.images.delete("format = 'png'")
    assert filled.tables.images.count() == 11
    before = upkeep.restore(filled.tables, "first")
    assert filled.tables.images.count() == 12
    upkeep.restore(filled.tables, before)
    assert filled.tables.images.count() == 11
    named = [tag for version in upkeep.versions(filled.tables)["images"] for tag in version.tags]
    assert named.count("first") == 1


def test_names_of_versions_are_checked(filled):
    """Taken, none, or unknown."""
    upkeep.tag_version(filled.tables, "first")
    with pytest.raises(InputError, match="'first' already"):
        upkeep.tag_version(filled.tables, "first")
    with pytest.raises(InputError, match="no name for a version"):
        upkeep.tag_version(filled.tables, "a b")
    with pytest.raises(InputError, match=r"No version is called 'second'\. There are: first"):
        upkeep.restore(filled.tables, "second")


def test_many_small_commits_are_folded(filled):
    """Nothing is lost by it."""
    rows = filled.tables.embeddings("some")
    for number in range(40):
        column = pa.FixedSizeListArray.from_arrays(pa.array(np.full(DIMS, number, np.float32)), DIMS)
        rows.insert_new(pa.table({"id": pa.array([f"{number:064d}"]), "vector": column}))
    assert "embeddings/some" in upkeep.optimize(filled.tables).folded
    assert upkeep.optimize(filled.tables).folded == []
    assert rows.count() == 52
    assert manifest_text(rows) == "{}"


def test_columns_that_people_filter_by_are_indexed(filled):
    """The same answers with an index, also for rows that came after it; and nothing deleted stays in it."""
    questions = ["brightness > 100", "format = 'jpeg'", "array_has(tags, 'a')", "width between 100 and 200"]
    filled.tag("width > 0", ["a"])
    before = [sorted(matching_ids(filled.tables, each).to_pylist()) for each in questions]
    assert upkeep.optimize(filled.tables).indexed == []  # too few rows to be worth it
    assert {"brightness", "format", "tags"} <= set(upkeep.optimize(filled.tables, index_from_rows=1).indexed)
    assert upkeep.optimize(filled.tables, index_from_rows=1).indexed == []
    assert [sorted(matching_ids(filled.tables, each).to_pylist()) for each in questions] == before
    assert filled.tables.images.count("array_has(tags, 'a')") == len(before[2])
    chosen = before[0][0]
    filled.tag(f"id = '{chosen}'", ["zebra"], ["a"])
    assert filled.tables.images.count("array_has(tags, 'zebra')") == 1
    upkeep.optimize(filled.tables, index_from_rows=1)
    assert filled.tables.images.count("array_has(tags, 'zebra')") == 1
    upkeep.delete(filled.tables, f"id = '{chosen}'", really=True, drop_tags=True)
    assert files_with(filled, b"zebra") == []
    assert upkeep.optimize(filled.tables, index_from_rows=1).indexed != []
