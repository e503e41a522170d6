"""The laws of a table, beside other writers too."""

import hashlib
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pytest

from imagelake import schema
from imagelake.errors import InputError, LakeError, LakeNotFoundError, LakeReadOnlyError
from imagelake.lake.table import Table
from imagelake.lake.tables import id_set, open_tables, uris_of
from privileges import let_all_reach, unprivileged


def image_rows(numbers, size=100):
    """Rows of the images table, bytes and all."""
    ids = [hashlib.sha256(str(n).encode()).hexdigest() for n in numbers]
    columns = {f.name: pa.nulls(len(ids), f.type) for f in schema.IMAGES}
    columns |= {
        "id": pa.array(ids, pa.string()),
        "uris": pa.array([[f"u{n}"] for n in numbers], pa.list_(pa.string())),
        "byte_size": pa.array([size] * len(ids), pa.int64()),
        "bytes": pa.array([str(n).encode().ljust(size) for n in numbers], pa.large_binary()),
    }
    return pa.table(columns)


@pytest.fixture
def images(tmp_path):
    return open_tables(tmp_path / "t.lake", create=True).images


def test_an_empty_table_answers(images):
    """Nothing in, nothing out, of every question."""
    assert images.count() == 0
    assert list(images.scan(["id"])) == [] or sum(b.num_rows for b in images.scan(["id"])) == 0
    assert images.insert_new(image_rows([])) == 0
    assert images.rows("id", [], ["id"]).num_rows == 0
    assert images.bytes_of([]) == {}
    assert len(id_set(images)) == 0


def test_a_key_is_inserted_once(images):
    """What is there already stays as it is."""
    assert images.insert_new(image_rows(range(10))) == 10
    assert images.insert_new(image_rows(range(5, 15))) == 5
    assert images.count() == 15


def test_appended_rows_are_there(images):
    """Bytes and all; nothing is looked up, so keys must be new."""
    images.append(image_rows([]))
    images.append(image_rows(range(3)))
    images.append(image_rows(range(3, 5)))
    assert images.count() == 5
    wanted = image_rows([4]).column("id").to_pylist()
    assert images.bytes_of(wanted) == {wanted[0]: b"4".ljust(100)}


def test_bytes_come_back_by_key_and_by_row(images):
    """The very bytes, and the column `bytes` travels only when asked for."""
    rows = image_rows(range(20))
    images.insert_new(rows)
    ids = rows.column("id").to_pylist()
    assert images.bytes_of(ids[3:6]) == dict(zip(ids[3:6], rows.column("bytes").to_pylist()[3:6], strict=True))
    batch = next(images.scan(["id"], row_ids=True))
    assert batch.schema.names == ["id", "_rowid"]
    found = images.read_bytes(batch.column("_rowid").to_pylist())
    assert dict(zip(batch.column("id").to_pylist(), found, strict=True))[ids[7]] == rows.column("bytes")[7].as_py()


def test_a_patch_changes_its_columns_only(images):
    """The pictures stay where they are."""
    rows = image_rows(range(4))
    images.insert_new(rows)
    ids = rows.column("id").to_pylist()
    patched = images.patch(lambda: pa.table({"id": ids[:2], "uris": pa.array([["a", "b"], ["c"]])}))
    assert patched == 2
    assert uris_of(images, ids) == {ids[0]: ["a", "b"], ids[1]: ["c"], ids[2]: ["u2"], ids[3]: ["u3"]}
    assert images.bytes_of(ids[:1]) == {ids[0]: rows.column("bytes")[0].as_py()}


def test_tidying_keeps_every_row(images):
    """Many small commits become one fragment with the same rows and bytes; a full table is left alone."""
    assert not images.tidy()
    for n in range(20):
        images.insert_new(image_rows(range(n * 3, n * 3 + 3)))
    assert images.tidy()
    rows = image_rows(range(60))
    assert images.bytes_of(rows.column("id").to_pylist()) == dict(
        zip(rows.column("id").to_pylist(), rows.column("bytes").to_pylist(), strict=True)
    )
    assert not images.tidy()


WRITER = textwrap.dedent(
    """
    import sys
    import pyarrow as pa
    sys.path[:0] = [sys.argv[1], sys.argv[1] + "/lake"]
    from test_table import image_rows
    from imagelake.lake.tables import open_tables, uris_of
    images = open_tables(sys.argv[2], create=True).images
    mine = "writer-" + sys.argv[3]
    for n in range(8):
        rows = image_rows([n, 1000 * (1 + int(sys.argv[3])) + n])
        images.insert_new(rows)
        shared = rows.column("id").to_pylist()[:1]
        def lists():
            there = uris_of(images, shared)[shared[0]]
            return pa.table({"id": shared, "uris": pa.array([[*there, mine]])})
        images.patch(lists)
    """
)


def test_writers_at_once_lose_nothing_and_duplicate_nothing(tmp_path):
    """Four processes create the lake, insert the same new keys and patch the same rows, all together."""
    root = tmp_path / "shared.lake"
    arguments = [sys.executable, "-c", WRITER, str(Path(__file__).parents[1]), str(root)]
    writers = [subprocess.Popen([*arguments, str(n)], stderr=subprocess.PIPE) for n in range(4)]
    for writer in writers:
        _, errors = writer.communicate(timeout=300)
        assert writer.returncode == 0, errors.decode()
    images = open_tables(root).images
    assert images.count() == len(id_set(images)) == 8 + 4 * 8
    ids = images.read(["id"]).column("id").to_pylist()
    assert len(set(ids)) == len(ids)
    shared = image_rows(range(8)).column("id").to_pylist()
    for uris in uris_of(images, shared).values():
        assert {uri for uri in uris if uri.startswith("writer-")} == {f"writer-{n}" for n in range(4)}


def test_where_there_is_no_lake(tmp_path):
    """The message says how to make one; nothing is made by looking."""
    with pytest.raises(LakeNotFoundError, match="imagelake ingest"):
        open_tables(tmp_path / "none.lake")
    assert not (tmp_path / "none.lake").exists()


def test_a_folder_of_photos_is_no_place_for_a_lake(tmp_path):
    """Nobody finds tables among their photos."""
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(Exception, match="new or empty folder"):
        open_tables(tmp_path, create=True)


def test_a_lake_that_is_read_only(tmp_path, images):
    """Reading works, writing is a clear error, and nothing is changed."""
    images.insert_new(image_rows(range(3)))
    let_all_reach(tmp_path)
    with unprivileged():
        table = Table(images.uri)
        assert table.count() == 3
        with pytest.raises(LakeReadOnlyError, match="may not be written"):
            table.insert_new(image_rows(range(3, 6)))
    assert images.count() == 3


def test_a_lake_of_a_later_format(tmp_path, monkeypatch):
    """It is refused, not misread."""
    open_tables(tmp_path / "t.lake", create=True)
    monkeypatch.setattr(schema, "FORMAT_VERSION", "2")
    with pytest.raises(LakeError, match="format 1"):
        open_tables(tmp_path / "t.lake")


def test_a_lake_that_was_killed_while_it_was_made(tmp_path):
    """The images table comes last: until then there is no lake, and making it again completes it."""
    root = tmp_path / "t.lake"
    tables = open_tables(root, create=True)
    shutil.rmtree(tables.images.uri)
    with pytest.raises(LakeNotFoundError):
        open_tables(root)
    assert open_tables(root, create=True).images.count() == 0
    (root / "embeddings" / "half.lance" / "_transactions").mkdir(parents=True)
    assert tables.embedding_sets() == []


def test_a_lake_that_is_a_file(tmp_path):
    """Says so, and what is allowed."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        open_tables(tmp_path / "file", create=True)


def test_columns_are_added_once(images):
    """As nulls beside the rows that are there; those that are there already stay."""
    images.insert_new(image_rows(range(3)))
    before = images.version()
    images.add_columns(images.schema)
    assert images.version() == before
    images.add_columns(pa.schema([pa.field("mood", pa.string())]))
    assert images.read(["mood"]).column("mood").to_pylist() == [None] * 3
