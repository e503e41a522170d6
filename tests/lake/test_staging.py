"""Laws of rows that workers stage and one commits, and of the notes that tell of them."""

import hashlib
import threading

import lance
import pyarrow as pa
import pytest
from sources.s3_server import S3Server

import imagelake.lake.table
from imagelake import schema
from imagelake.lake.ids import IdSet
from imagelake.lake.staged import Mark, commit_staged, mark_of, stage
from imagelake.lake.staging import Staging, runs
from imagelake.lake.tables import open_tables


def name_of(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def vectors(numbers):
    values = pa.array([float(n) for n in numbers for _ in range(4)], pa.float32())
    ids = pa.array([name_of(n) for n in numbers], pa.string())
    return pa.table({"id": ids, "vector": pa.FixedSizeListArray.from_arrays(values, 4)})


def numbers_of(table):
    rows = table.read(["id", "vector"]).to_pylist()
    assert all(row["id"] == name_of(int(row["vector"][0])) for row in rows)
    return sorted(int(row["vector"][0]) for row in rows)


@pytest.fixture
def table(tmp_path):
    tables = open_tables(tmp_path / "t.lake", create=True)
    return tables.create_embeddings("set", schema.embeddings(4, "{}", "f"))


def test_nothing_is_staged(table):
    """No rows, no commit."""
    before = mark_of(table)
    assert commit_staged(table, []).inserted == []
    assert commit_staged(table, [stage(table, vectors([]))], before).inserted == [0]
    assert mark_of(table) == before == Mark(1, -1)


def test_staged_rows_are_no_part_of_the_table_until_they_are_committed(table):
    """One commit for all, each row with a row id of its own; tidying keeps them."""
    first = mark_of(table)
    staged = [stage(table, vectors(range(n * 5, n * 5 + 5))) for n in range(20)]
    assert (table.count(), table.version()) == (0, first.version)
    done = commit_staged(table, staged, first)
    assert done.inserted == [5] * 20
    assert done.mark == mark_of(table)
    assert table.version() == first.version + 1
    assert numbers_of(table) == list(range(100))
    row_ids = [each for batch in table.scan(["id"], row_ids=True) for each in batch.column("_rowid").to_pylist()]
    assert len(set(row_ids)) == 100
    assert table.tidy()
    assert numbers_of(table) == list(range(100))


@pytest.mark.parametrize("since", ["before", "none"])
def test_committed_twice_is_there_once(table, since):
    """A driver that died after the commit and before it noted so changes nothing, also after the files were folded."""
    mark = mark_of(table) if since == "before" else None
    staged = [stage(table, vectors(range(n * 5, n * 5 + 5))) for n in range(20)]
    commit_staged(table, staged, mark)
    assert commit_staged(table, staged, mark).inserted == [0] * 20
    table.tidy()
    assert commit_staged(table, staged, mark).inserted == [0] * 20
    assert numbers_of(table) == list(range(100))


def test_rows_of_another_writer_are_not_doubled(table):
    """What somebody else inserted in between stays, and only what is missing comes."""
    mark = mark_of(table)
    staged = [stage(table, vectors(range(start, start + 5))) for start in (0, 5, 10)]
    table.insert_new(vectors([3, 5, 6, 7, 8, 9, 77]))
    assert commit_staged(table, staged, mark).inserted == [4, 0, 5]
    assert numbers_of(table) == [*range(15), 77]


def test_two_pieces_with_the_same_key(table):
    """Where nobody knows that keys differ, the first piece wins, in one call and in several."""
    staged = [stage(table, vectors(numbers)) for numbers in ([1, 2], [2, 3], [2])]
    assert commit_staged(table, staged).inserted == [2, 1, 0]
    assert commit_staged(table, [stage(table, vectors([3, 4]))]).inserted == [1]
    assert numbers_of(table) == [1, 2, 3, 4]


def test_suspects_are_looked_at(table):
    """Keys that were there before the mark count, where somebody says which they may be."""
    table.insert_new(vectors([1, 2, 3]))
    mark = mark_of(table)
    staged = [stage(table, vectors([0, 1])), stage(table, vectors([2, 3])), stage(table, vectors([4, 5]))]
    suspects = IdSet([pa.array([name_of(n) for n in (1, 2, 3)])])
    assert commit_staged(table, staged, mark, suspects).inserted == [1, 0, 2]
    assert numbers_of(table) == [0, 1, 2, 3, 4, 5]


def test_many_commit_at_once(table):
    """Drivers with the same rows, and a writer of another kind beside them: each key once."""
    mark = mark_of(table)
    staged = [stage(table, vectors(range(start, start + 10))) for start in range(0, 100, 10)]
    inserted, failed = [], []

    def run(work):
        try:
            inserted.append(work())
        except Exception as error:  # noqa: BLE001  (whatever it is, the test shows it)
            failed.append(error)

    work = [
        *(lambda: sum(filter(None, commit_staged(table, staged, mark).inserted)) for _ in range(3)),
        lambda: table.insert_new(vectors(range(95, 120))),
        lambda: table.insert_new(vectors(range(3))),
    ]
    threads = [threading.Thread(target=run, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert numbers_of(table) == list(range(120))
    assert sum(inserted) == 120


def test_what_is_gone_is_work_again(table, tmp_path):
    """Files that were cleaned away, or a table that was made again, are not committed; the rest is."""
    staged = [stage(table, vectors([n])) for n in range(3)]
    data = tmp_path / "t.lake" / "embeddings" / "set.lance" / "data"
    (data / staged[1].split('"path": "')[1].split('"')[0]).unlink()
    other = open_tables(tmp_path / "other.lake", create=True).create_embeddings("set", schema.embeddings(4, "{}", "f"))
    assert commit_staged(table, staged).inserted == [1, None, 1]
    assert commit_staged(other, staged).inserted == [None] * 3
    assert numbers_of(table) == [0, 2]


def test_columns_that_came_later_and_indices_stay_right(tmp_path):
    """A table that was folded, widened and indexed takes staged rows, and finds them by its index."""
    regions = open_tables(tmp_path / "t.lake", create=True).regions
    old = {each.name: pa.nulls(1, each.type) for each in schema.REGIONS}

    def rows(numbers, label):
        columns = {
            **{name: pa.nulls(len(numbers), each.type) for name, each in old.items()},
            "id": pa.array([name_of(n) for n in numbers]),
            "image_id": pa.array(["i"] * len(numbers)),
            "label": pa.array([label] * len(numbers)),
        }
        return pa.table(columns)

    regions.insert_new(rows([1, 2], "cat"))
    regions.add_columns(pa.schema([pa.field("later", pa.int64())]))
    regions.index({"label": "BITMAP"})
    regions.delete(f"id = '{name_of(1)}'")
    new = rows([3, 4], "cat").append_column("later", pa.array([7, 8], pa.int64()))
    assert commit_staged(regions, [stage(regions, new)], mark_of(regions)).inserted == [2]
    found = regions.read(["id", "later"], "label = 'cat'").to_pylist()
    assert {(row["id"], row["later"]) for row in found} == {(name_of(2), None), (name_of(3), 7), (name_of(4), 8)}
    regions.index({"label": "BITMAP"})
    assert regions.count("label = 'cat'") == 3


def test_a_note_is_written_once(tmp_path):
    """The first wins; it is whole or not there; runs are listed; nothing is left of a run that is removed."""
    root = str(tmp_path)
    note = Staging(root, "b")
    assert (note.names(), note.get("x"), runs(root)) == ([], None, [])
    assert note.put("x.json", b"first")
    assert not note.put("x.json", b"second")
    assert note.get("x.json") == b"first"
    assert note.put("x.json", b"third", replace=True)
    assert (note.get("x.json"), note.names()) == (b"third", ["x.json"])
    Staging(root, "a").put("y", b"")
    assert runs(root) == ["a", "b"]
    for run in ("a", "b"):
        Staging(root, run).remove()
    assert list(tmp_path.iterdir()) == []


def test_many_write_one_note(tmp_path):
    """One of them does."""
    note, wrote = Staging(str(tmp_path), "r"), []
    threads = [
        threading.Thread(target=lambda n=n: wrote.append(note.put("x", b"%d" % n)), name=str(n)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wrote) == [False] * 7 + [True]


def test_notes_and_rows_in_a_bucket(monkeypatch, tmp_path):
    """A lake in a bucket does what a lake in a folder does."""
    with S3Server("lakes") as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOME", str(tmp_path))
        root = "s3://lakes/mine"
        note = Staging(root, "run")
        assert (note.get("x"), note.names(), runs(root)) == (None, [], [])
        assert note.put("x", b"first")
        assert not note.put("x", b"second")
        assert note.put("y", b"1", replace=True)
        assert note.put("y", b"2", replace=True)
        assert (note.get("x"), note.get("y"), note.names(), runs(root)) == (b"first", b"2", ["x", "y"], ["run"])
        note.remove()
        note.delete("x")
        assert runs(root) == []

        table = open_tables(root, create=True).create_embeddings("set", schema.embeddings(4, "{}", "f"))
        staged = [stage(table, vectors([1, 2])), stage(table, vectors([3]))]
        table.insert_new(vectors([2]))
        assert commit_staged(table, staged).inserted == [1, 1]
        assert commit_staged(table, staged).inserted == [0, 0]
        assert numbers_of(table) == [1, 2, 3]


def test_the_table_format_refuses_a_merge_beside_another_writer(table):
    """What the single commit rests on: a new release of the format must still do so."""
    session = imagelake.lake.table._session()
    stale = lance.dataset(table.uri, session=session)
    table.insert_new(vectors([1]))
    merge = lance.LanceOperation.Merge([each.metadata for each in stale.get_fragments()], stale.lance_schema)
    with pytest.raises(OSError, match="Retryable commit conflict"):
        lance.LanceDataset.commit(stale, merge, read_version=stale.version, max_retries=0)
