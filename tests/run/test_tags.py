"""Labels that sources give and tags that people give."""

import json
import shutil
import zipfile

import pyarrow as pa
import pytest

from imagelake import schema
from imagelake.errors import InputError
from imagelake.run.ingest import ingest
from imagelake.sources.labelled import label_from, parent_name
from imagelake.sources.open import open_source
from pictures import encode, make_image


class Given:
    """A source of given pictures and metadata."""

    name = "given:"

    def __init__(self, *rows):
        self.rows = rows

    def estimate(self):
        return len(self.rows)

    def batches(self):
        uris, data, metadata = zip(*self.rows, strict=True)
        texts = [None if each is None else each if isinstance(each, str) else json.dumps(each) for each in metadata]
        columns = [pa.array(uris), pa.array(data, pa.large_binary()), pa.nulls(len(uris), pa.string())]
        yield pa.record_batch([*columns, pa.array(texts, pa.string())], schema=schema.SOURCE)


def picture(seed):
    return encode(make_image(seed, 32, 24))


def column(lake, name):
    rows = lake.sql(f"select uris[1] as uri, {name} as it from images order by uri").to_pylist()
    return {row["uri"]: row["it"] for row in rows}


def test_labels_come_from_sources_and_add_up(lake):
    """A picture that is seen again under other labels has them all, each once."""
    lake.ingest(Given(("x:1", picture(1), {"labels": ["cat"]}), ("x:2", picture(2), None)))
    assert column(lake, "labels") == {"x:1": ["cat"], "x:2": None}
    lake.ingest(Given(("x:1b", picture(1), {"labels": ["animal", "cat"]}), ("x:2", picture(2), {"labels": ["dog"]})))
    assert column(lake, "labels") == {"x:1": ["cat", "animal"], "x:2": ["dog"]}
    found = lake.sql("select count(*) as n from images where array_has(labels, 'animal')").to_pylist()
    assert found == [{"n": 1}]


def test_broken_metadata_is_kept_and_harms_nothing(lake):
    """What is no object, no list, no time or no position stays where it is."""
    bad = {"labels": "cat", "captured_at": "yesterday", "latitude": 91, "longitude": 0}
    lake.ingest(Given(("x:1", picture(1), bad), ("x:2", picture(2), "[1]"), ("x:3", picture(3), "{")))
    assert column(lake, "labels") == {"x:1": None, "x:2": None, "x:3": None}
    assert column(lake, "latitude") == {"x:1": None, "x:2": None, "x:3": None}
    assert json.loads(column(lake, "metadata")["x:1"]) == bad


def test_time_and_place_of_the_source_fill_what_the_file_has_not(lake):
    """With an offset they are UTC too, without they stay naive and say so."""
    lake.ingest(
        Given(
            ("x:1", picture(1), {"captured_at": "2026-05-01T12:00:00+02:00", "latitude": "48.1", "longitude": 11.5}),
            ("x:2", picture(2), {"captured_at": "2026-05-01T12:00:00"}),
        )
    )
    rows = lake.sql(
        "select taken_at::text as t, taken_at_utc::text as u, utc_offset_minutes as o, taken_at_source as s, latitude, "
        "longitude from images order by uris[1]"
    ).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("2026-05-01 12:00:00", "2026-05-01 10:00:00+00", 120, "source+offset", 48.1, 11.5),
        ("2026-05-01 12:00:00", None, None, "source", None, None),
    ]


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("file:///a/cats/1.jpg", "cats"),
        ("file:///a/two%20words/1.jpg", "two words"),
        ("zip:///a/b.zip#cats/1.jpg", "cats"),
        ("s3://bucket/1.jpg", None),
        ("1.jpg", None),
    ],
)
def test_the_name_of_a_folder(uri, name):
    """The last folder of a URI, readable."""
    assert parent_name(uri) == name


def test_labels_from_folders(lake, tmp_path):
    """Of a folder and of a zip file alike; other labels stay."""
    for seed, name in enumerate(["cats", "dogs"]):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "1.jpg").write_bytes(picture(seed))
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("birds/1.jpg", picture(7))
    ingest(lake.tables, label_from(open_source(str(tmp_path / "in")), "parent"))
    ingest(lake.tables, label_from(open_source(str(tmp_path / "more.zip")), "parent"))
    assert sorted(column(lake, "labels").values()) == [["birds"], ["cats"], ["dogs"]]
    with pytest.raises(InputError, match="parent"):
        label_from(open_source(str(tmp_path / "in")), "grandparent")


def test_tags_are_given_and_taken_away(lake, photos):
    """By any predicate; doing it again changes nothing; the pictures stay as they are."""
    lake.ingest(photos)
    some = "width > 0 and id in (select id from images order by id limit 5)"
    assert vars(lake.tag(some, ["best", "2024"])) == {"images": 5, "changed": 5}
    assert vars(lake.tag(some, ["best"])) == {"images": 5, "changed": 0}
    assert lake.sql("select count(*) as n from images where array_has(tags, 'best')").to_pylist() == [{"n": 5}]
    assert vars(lake.tag("array_has(tags, 'best')", ["old"], ["best", "2024"])) == {"images": 5, "changed": 5}
    assert vars(lake.tag("array_has(tags, 'old')", remove=["old"])) == {"images": 5, "changed": 5}
    assert lake.sql("select count(*) as n from images where tags is not null").to_pylist() == [{"n": 0}]
    before = {path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    ids = lake.sql("select id from images").column("id").to_pylist()
    assert set(lake.tables.images.bytes_of(ids).values()) == before


def test_tags_of_a_lake_of_an_older_version(lake, photos):
    """A table without the column gets it."""
    lake.ingest(photos)
    lake.tables.images.arrow().drop_columns(["tags", "labels"])
    assert lake.tag("true", ["all"]).changed == 12
    shutil.copy(photos / "1.jpg", photos / "other.jpg")
    lake.ingest(photos)
    assert lake.sql("select count(*) as n from images where array_has(tags, 'all')").to_pylist() == [{"n": 12}]


@pytest.mark.parametrize(
    ("add", "remove", "told"),
    [
        ([""], [], "is no tag"),
        (["a\n"], [], "is no tag"),
        (["x" * 101], [], "is no tag"),
        (["a"], ["a"], "added and removed"),
        ([], [], "Nothing is to be"),
    ],
)
def test_what_is_no_tag(lake, add, remove, told):
    """Says what is allowed, and changes nothing."""
    with pytest.raises(InputError, match=told):
        lake.tag("true", add, remove)
