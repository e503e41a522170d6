"""Pictures in the cells of tables: every row comes once, with what its other columns say."""

import datetime as dt
import decimal
import json
import os
import subprocess
import sys
import uuid

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

import imagelake
from imagelake.errors import InputError, LakeError, LakeNotFoundError
from imagelake.files import path_to_uri
from imagelake.lake.table import Table
from imagelake.lake.tables import open_tables
from imagelake.sources import columns as columns_module
from imagelake.sources.columns import Columns, LakeSource
from pictures import encode, make_image

PICTURES = [encode(make_image(seed, 40, 30)) for seed in range(5)]


def rows_of(source):
    return [row for batch in source.batches() for row in batch.to_pylist()]


def known_of(source):
    return [row["metadata"] and json.loads(row["metadata"]) for row in rows_of(source)]


def write_stream(table, path):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


def write_file(table, path):
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


FORMS = {
    "x.parquet": pq.write_table,
    "x.pq": lambda table, path: pq.write_table(table, path, row_group_size=2),
    "x.feather": feather.write_feather,
    "x.arrow": write_stream,
    "x.ipc": write_file,
}


def write(folder, table, name="x.parquet"):
    path = os.fspath(folder / name)
    FORMS.get(name, pq.write_table)(table if isinstance(table, pa.Table) else pa.table(table), path)
    return path


# Forms


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_rows(tmp_path, name):
    """Parquet, Feather, IPC file and stream: the bytes, the number of the row, the other columns."""
    path = write(tmp_path, {"image": PICTURES, "label": list("abcde"), "n": range(5)}, name)
    source = Columns(path)
    rows = rows_of(source)
    assert [row["bytes"] for row in rows] == PICTURES
    assert [row["uri"] for row in rows] == [f"{path_to_uri(path)}#row={number}" for number in range(5)]
    assert known_of(source) == [{"labels": [label], "n": n} for n, label in enumerate("abcde")]
    assert source.estimate() in {5, None}


@pytest.mark.parametrize("name", FORMS)
def test_an_empty_table_yields_nothing(tmp_path, name):
    """No rows, no error."""
    assert rows_of(Columns(write(tmp_path, {"image": pa.array([], pa.binary())}, name))) == []


BYTES_TYPES = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())]


@pytest.mark.parametrize("kind", BYTES_TYPES, ids=str)
@pytest.mark.parametrize("name", ["x.ipc", "x.parquet"])
def test_every_type_of_bytes(tmp_path, kind, name):
    """However Arrow stores them."""
    column = (
        pa.array(PICTURES, pa.binary()).cast(kind) if kind != BYTES_TYPES[3] else pa.array(PICTURES).dictionary_encode()
    )
    assert [row["bytes"] for row in rows_of(Columns(write(tmp_path, {"image": column}, name)))] == PICTURES


def test_a_folder_is_read_file_by_file(tmp_path):
    """In the order of names, below it too; hidden files, those of Spark and other kinds are left alone."""
    for name, pictures in (("b/2.parquet", PICTURES[3:]), ("a.parquet", PICTURES[:3]), (".hidden.parquet", PICTURES)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path, {"image": pictures}, name)
    for name in ("_SUCCESS", "_metadata.parquet", "words.txt"):
        (tmp_path / name).write_text("words")
    source = Columns(str(tmp_path))
    assert [row["bytes"] for row in rows_of(source)] == PICTURES
    assert source.estimate() == 5


def test_a_bad_file_in_a_folder_is_a_row(tmp_path):
    """With its own URI and the reason; the others are read."""
    write(tmp_path, {"image": PICTURES[:1]}, "a.parquet")
    write(tmp_path, {"n": [1]}, "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "d.arrow").write_bytes(b"FEA1")
    (tmp_path / "e.arrow").symlink_to(tmp_path / "nowhere")
    good, *bad = rows_of(Columns(str(tmp_path)))
    assert good["bytes"] == PICTURES[0]
    assert [row["uri"] for row in bad] == [path_to_uri(tmp_path / f"{name}") for name in
                                           ("b.parquet", "c.parquet", "d.arrow", "e.arrow")]  # fmt: skip
    reasons = ["which column holds the pictures", "cannot be read", "Feather version 1", "cannot be read"]
    for row, reason in zip(bad, reasons, strict=True):
        assert row["bytes"] is None
        assert reason in row["error"]


@pytest.mark.parametrize("name", [b"latin-\xe9.parquet", "写真 #1.arrow".encode()])
def test_file_names_come_out_unharmed(tmp_path, name):
    """In any script, and not UTF-8."""
    write(tmp_path, {"image": PICTURES[:1]}, "x.arrow" if name.endswith(b"arrow") else "x.parquet")
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
    next(tmp_path.iterdir()).rename(path)
    (row,) = rows_of(Columns(path))
    assert row["uri"] == path_to_uri(path) + "#row=0"
    assert row["bytes"] == PICTURES[0]


def test_what_is_not_there(tmp_path):
    """A missing path and a folder without tables are told at once; a file that is no table on reading."""
    with pytest.raises(InputError, match="nowhere"):
        Columns(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="holds no table"):
        Columns(str(tmp_path))
    (tmp_path / "a.parquet").write_text("words")
    with pytest.raises(InputError, match="no Parquet or Arrow file"):
        rows_of(Columns(str(tmp_path / "a.parquet")))


# Which column


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["mask", "image"], "image"),
        (["Bytes", "mask"], "Bytes"),
        (["img", "jpeg"], "jpeg"),
        (["anything"], "anything"),
        (["content", "data"], "content"),
    ],
)
def test_the_column_is_found(tmp_path, names, chosen):
    """By its name, or as the only one; other bytes are dropped."""
    table = {name: [f"{name} of {row}".encode() for row in range(2)] for name in names}
    rows = rows_of(Columns(write(tmp_path, table)))
    assert [row["bytes"] for row in rows] == table[chosen]
    assert [row["metadata"] for row in rows] == [None, None]


def test_the_column_is_named(tmp_path):
    """And then no other is taken; what cannot be it is an error that lists what can."""
    path = write(tmp_path, {"image": PICTURES, "mask": PICTURES[::-1], "n": range(5)})
    assert [row["bytes"] for row in rows_of(Columns(path, column="mask"))] == PICTURES[::-1]
    for column, message in (("n", "'n' is int64"), ("nothing", "'nothing' is not there"), ("nothing", "image, mask")):
        with pytest.raises(InputError, match=message):
            rows_of(Columns(path, column=column))
    with pytest.raises(InputError, match="Name one"):
        rows_of(Columns(write(tmp_path, {"one": PICTURES, "two": PICTURES})))


def test_the_id_column_names_pictures(tmp_path):
    """In their URIs, encoded; where it is null, the number of the row does."""
    table = {"image": PICTURES, "key": ["a", "b/c#d e", "写", None, "é"], "raw": [b"\x01"] * 5}
    path = write(tmp_path, table)
    ends = [row["uri"].removeprefix(path_to_uri(path)) for row in rows_of(Columns(path, id_column="key"))]
    assert ends == ["#id=a", "#id=b%2Fc%23d%20e", "#id=%E5%86%99", "#row=3", "#id=%C3%A9"]
    assert rows_of(Columns(path, column="image", id_column="raw"))[0]["uri"].endswith("#id=01")
    assert known_of(Columns(path, id_column="key"))[0] == {"key": "a"}
    with pytest.raises(InputError, match="no column 'nope'"):
        rows_of(Columns(path, id_column="nope"))


# Hugging Face


def hugging_face(features, table):
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def test_hugging_face_structs_and_names(tmp_path):
    """Bytes and path in a struct; a class by its name, alone and in lists, and none where nobody labelled it."""
    table = pa.table({
        "image": pa.array([{"bytes": data, "path": f"{n}.jpg"} for n, data in enumerate(PICTURES[:3])]),
        "label": [1, -1, 7],
        "tags": [[0, 1], [], None],
        "mask": pa.array([{"bytes": b"m", "path": "m.png"}] * 3),
    })  # fmt: skip
    one = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    for many in ({"feature": one, "_type": "Sequence"}, {"feature": one, "_type": "List"}, [one]):
        marked = hugging_face({"label": one, "tags": many, "image": {"_type": "Image"}}, table)
        source = Columns(write(tmp_path, marked))
        assert [row["bytes"] for row in rows_of(source)] == PICTURES[:3]
        assert known_of(source) == [
            {"path": "0.jpg", "labels": ["dog"], "tags": ["cat", "dog"], "mask": {"path": "m.png"}},
            {"path": "1.jpg", "tags": [], "mask": {"path": "m.png"}},
            {"path": "2.jpg", "labels": ["7"], "mask": {"path": "m.png"}},
        ]


@pytest.mark.parametrize("said", ["", "[]", "{", '{"info": {"features": {"label": 5}}}', '{"info": {"features": 5}}'])
def test_features_that_say_nothing(tmp_path, said):
    """Are passed over: the number stays."""
    table = pa.table({"image": PICTURES[:1], "label": [1]}).replace_schema_metadata({"huggingface": said})
    assert known_of(Columns(write(tmp_path, table))) == [{"labels": ["1"]}]


def test_bytes_that_are_not_there(tmp_path, monkeypatch):
    """A null, a struct that only names a file, and a picture beyond the limit are rows with the reason."""
    image = pa.array(
        [None, {"bytes": None, "path": "/etc/passwd"}, {"bytes": b"12345678", "path": None}, {"bytes": b"", "path": ""}]
    )
    monkeypatch.setattr(columns_module, "MAX_FILE_BYTES", 7)
    null, named, large, empty = rows_of(Columns(write(tmp_path, {"image": image})))
    assert null["error"] == "the column 'image' is null in this row"
    assert "names the file '/etc/passwd', which is not read" in named["error"]
    assert "8 bytes; the limit is 7" in large["error"]
    assert [null["bytes"], named["bytes"], large["bytes"], empty["bytes"]] == [None, None, None, b""]


# Metadata


@pytest.mark.parametrize("name", ["x.ipc", "x.parquet"])
def test_other_columns_are_kept_as_json(tmp_path, name):
    """Times as ISO 8601, nested values nested; long vectors and bytes dropped, nulls left out."""
    time = dt.datetime(2024, 2, 3, 4, 5, 6, 789, dt.UTC)
    table = pa.table({
        "image": PICTURES[:2],
        "time": pa.array([time, None], pa.timestamp("us", "Europe/Berlin")),
        "nano": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns")),
        "nested_nano": pa.array([{"at": 1_700_000_000_123_456_789, "x": 1}, None],
                                pa.struct([("at", pa.timestamp("ns")), ("x", pa.int8())])),
        "far": pa.array([2**60, 0], pa.timestamp("ms")),
        "day": pa.array([dt.date(2024, 2, 3), None]),
        "hour": pa.array([dt.time(4, 5), None]),
        "span": pa.array([dt.timedelta(seconds=90), None]),
        "price": pa.array([decimal.Decimal("1.50"), None]),
        "who": pa.array([uuid.UUID(int=5).bytes, None], pa.uuid()),
        "nan": [float("nan"), 0.5],
        "nested": [{"a": [1, None], "raw": b"x", "b": {"c": "ü"}}, None],
        "word": pa.array(["same", "same"]).dictionary_encode(),
        "pairs": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        "vector": pa.array([[0.5] * 65] * 2, pa.list_(pa.float32(), 65)),
        "ragged": [[0.5] * 65, [0.5]],
        "hash": pa.array([b"1234"] * 2, pa.binary(4)),
    })  # fmt: skip
    first, second = known_of(Columns(write(tmp_path, table, name)))
    assert dt.datetime.fromisoformat(first.pop("time")) == time
    nested_nano = first.pop("nested_nano", None)
    assert nested_nano is None or nested_nano["x"] == 1
    assert first == {
        "nano": "2023-11-14T22:13:20.123456", "day": "2024-02-03", "hour": "04:05:00", "span": 90.0, "price": "1.50",
        "who": str(uuid.UUID(int=5)), "nested": {"a": [1, None], "b": {"c": "ü"}}, "word": "same", "pairs": [["k", 1]],
    }  # fmt: skip
    assert second == {"nan": 0.5, "far": "1970-01-01T00:00:00", "word": "same", "ragged": [0.5]}


def test_a_name_that_is_there_twice_is_no_metadata(tmp_path):
    """Nobody knows which one is meant."""
    table = pa.table([pa.array(PICTURES), pa.array(range(5)), pa.array(range(5))], names=["image", "n", "n"])
    assert known_of(Columns(write(tmp_path, table, "x.ipc"))) == [None] * 5


# Damage and size


def test_a_damaged_row_group_loses_its_own_rows_only(tmp_path):
    """Each of them is a row with the reason, and the number of the next ones stays right."""
    noise = [os.urandom(3000) for _ in range(6)]
    path = write(tmp_path, {"image": noise}, "x.pq")
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    with open(path, "r+b") as file:  # noqa: PTH123
        file.seek(start)
        file.write(b"\xff" * column.total_compressed_size)
    rows = rows_of(Columns(path))
    assert [row["uri"].partition("#row=")[2] for row in rows] == list("012345")
    assert [row["bytes"] for row in rows] == [*noise[:2], None, None, *noise[4:]]
    assert "damaged here" in rows[2]["error"]


@pytest.mark.parametrize("name", ["x.ipc", "x.arrow"])
def test_a_damaged_arrow_file_tells_where(tmp_path, name):
    """What comes before is read; from there on nobody knows the rows, which one row says. Offsets are checked."""
    batch = pa.record_batch({"image": pa.array([b"one", b"two"])})
    lying = pa.record_batch([pa.Array.from_buffers(pa.binary(), 2, [None, pa.py_buffer(
        bytes.fromhex("00000000 ffffff7f 03000000")), pa.py_buffer(b"abc")])], ["image"])  # fmt: skip
    path = os.fspath(tmp_path / name)
    new = pa.ipc.new_stream if name == "x.arrow" else pa.ipc.new_file
    with new(path, batch.schema) as writer:
        writer.write_batch(batch)
        writer.write_batch(lying)
    one, two, lost = rows_of(Columns(path))
    assert [one["bytes"], two["bytes"], lost["bytes"]] == [b"one", b"two", None]
    assert lost["uri"].endswith("#row=2")
    assert "damaged from this row on" in lost["error"]


def test_batches_stay_small(tmp_path):
    """One row group of 32 MB comes in batches of a few, and no more than some pages of it are held at once."""
    path = os.fspath(tmp_path / "x.parquet")
    pq.write_table(
        pa.table({"image": [os.urandom(1 << 18) for _ in range(128)]}), path, compression="none", write_batch_size=4
    )
    before = pa.total_allocated_bytes()
    most = rows = 0
    for batch in Columns(path).batches():
        rows += batch.num_rows
        assert batch.nbytes <= 5 << 20
        most = max(most, pa.total_allocated_bytes() - before)
    assert rows == 128
    assert most < 16 << 20


def test_the_shared_cifar10(shared):
    """All 60,000, each with its label and split."""
    source = Columns(os.fspath(shared("cifar10.parquet")), id_column="name")
    assert source.estimate() == 60_000
    first = next(source.batches()).to_pylist()[0]
    assert first["bytes"].startswith(b"\xff\xd8\xff")
    assert json.loads(first["metadata"]) == {"labels": ["airplane"], "split": "train", "name": "0000.jpg"}
    assert sum(batch.num_rows - batch.column("bytes").null_count for batch in source.batches()) == 60_000


# Another lake


def test_a_lake_gives_its_images(tmp_path, lake, photos):
    """Each once, with its bytes, the first of its URIs and its metadata; into another lake and back adds nothing."""
    table = write(tmp_path, {"image": PICTURES, "label": list("abcde")})
    lake.ingest(os.fspath(photos))
    lake.ingest(Columns(table))
    source = LakeSource(os.fspath(tmp_path / "test.lake"))
    rows = {row["uri"]: row for row in rows_of(source)}
    assert source.estimate() == len(rows) == 17
    for path in photos.rglob("*.*"):
        assert rows[path_to_uri(path)]["bytes"] == path.read_bytes()
    assert json.loads(rows[path_to_uri(table) + "#row=4"]["metadata"]) == {"labels": ["e"]}
    other = imagelake.open(tmp_path / "other.lake", create=True)
    assert other.ingest(source).added == 17
    assert lake.ingest(LakeSource(os.fspath(tmp_path / "other.lake"))).added == 0


def test_an_empty_lake_and_none(tmp_path, lake):
    """No rows; and where there is no lake, the message says so at once."""
    assert rows_of(LakeSource(os.fspath(tmp_path / "test.lake"))) == []
    with pytest.raises(LakeNotFoundError, match="nowhere"):
        LakeSource(os.fspath(tmp_path / "nowhere"))


def test_an_image_that_cannot_be_read_from_a_lake_is_a_row(tmp_path, lake, photos, monkeypatch):
    """A blob that fails fails alone, and so does one that is deleted meanwhile."""
    lake.ingest(os.fspath(photos))
    images = open_tables(tmp_path / "test.lake").images
    ids = [row_id for batch in images.scan(["id"], row_ids=True) for row_id in batch.column("_rowid").to_pylist()]
    read = Table.read_bytes

    def failing(self, row_ids):
        if ids[0] in row_ids:
            raise LakeError("a bad sector")
        return read(self, [each for each in row_ids if each != ids[1]])

    monkeypatch.setattr(Table, "read_bytes", failing)
    rows = rows_of(LakeSource(os.fspath(tmp_path / "test.lake")))
    assert [row["error"] for row in rows[:3]] == [
        "the lake cannot read it: a bad sector", "it was deleted from the lake meanwhile", None,
    ]  # fmt: skip
    assert sum(row["bytes"] is not None for row in rows) == 10


def test_a_picture_that_is_said_a_million_times_takes_little_memory(tmp_path):
    """A Parquet file stores it once; it is read a few rows at a time, and each is accounted for."""
    code = (
        "import sys, pyarrow as pa, pyarrow.parquet as pq\n"
        "from imagelake.sources.columns import Columns\n"
        "column = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array([bytes(32 << 20)]))\n"
        "some = pa.table({'image': column})\n"
        "pq.write_table(some, sys.argv[1], compression='zstd', dictionary_pagesize_limit=1 << 30)\n"
        "def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) >> 10\n"
        "before, rows = peak(), 0\n"
        "for batch in Columns(sys.argv[1]).batches():\n"
        "    rows += batch.num_rows\n"
        "    if rows > 40: break\n"
        "print(rows > 40, peak() - before)\n"
    )
    path = tmp_path / "bomb.parquet"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=120, check=True)
    whole, grown_mb = done.stdout.split()
    assert path.stat().st_size < 100_000
    assert whole == "True"
    assert int(grown_mb) < 1500
