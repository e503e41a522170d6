"""Faults that a reader of the code found, each of which must stay mended."""

import json
import os
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from imagelake import schema
from imagelake.errors import InputError
from imagelake.lake import table
from imagelake.run import upkeep, watch
from imagelake.run.intake_commit import drain
from imagelake.run.intake_spool import Received, Spool
from imagelake.run.receipts import Position, last_position
from imagelake.run.watch import WatchOptions
from imagelake.sources.folder import Folder
from imagelake.sources.labelled import parent_name
from imagelake.sources.url_list import read_url_list
from pictures import encode, make_image


def picture(seed):
    return encode(make_image(seed, 48, 36))


class Given:
    """A source of given rows, `(uri, bytes, metadata)`, which can start after any of them."""

    name = "given:"

    def __init__(self, *rows):
        self.rows = rows

    def estimate(self):
        return len(self.rows)

    def resume_after(self, uri):
        return Given(*self.rows[[row[0] for row in self.rows].index(uri) + 1 :])

    def batches(self):
        for uri, data, metadata in self.rows:
            row = {"uri": uri, "bytes": data, "error": None if data else "not there", "metadata": metadata}
            yield pa.RecordBatch.from_pylist([row], schema=schema.SOURCE)


def test_an_encoding_that_nobody_knows_costs_one_caption(lake):
    """The picture comes in, and so do its neighbors."""
    packet = b'<?xml version="1.0" encoding="foo"?><x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
    data = encode(make_image(1, 48, 36), xmp=packet)
    assert lake.ingest(Given(("a", data, None), ("b", picture(2), None))).added == 2


@pytest.mark.parametrize(
    "told",
    [
        {"captured_at": "0001-01-01T00:00:00+14:00"},
        {"captured_at": "9999-12-31T23:59:59-14:00"},
        {"latitude": int("9" * 400), "longitude": 1},
        {"labels": ["\ud83d"]},
        {"regions": [{"box_xyxy": [0, 0, int("9" * 400), 1], "label": "\ud83d"}]},
        {"labels": [["[" * 50]]},
    ],
    ids=["year 1", "year 9999", "far", "half a letter", "a huge box", "a list"],
)
def test_odd_metadata_costs_nothing(lake, told):
    """What cannot be a column stays metadata."""
    assert lake.ingest(Given(("a", picture(1), json.dumps(told)), ("b", picture(2), "[" * 100_000))).added == 2


def test_a_watched_folder_may_hold_the_lake(tmp_path):
    """The lake's own files are no pictures."""
    inside = tmp_path / "photos" / "own.lake" / "images.lance" / "data"
    inside.mkdir(parents=True)
    (inside / "a.blob").write_bytes(picture(1))
    (tmp_path / "photos" / "b.jpg").write_bytes(picture(2))
    folder = Folder(str(tmp_path / "photos"))
    assert folder.mark((inside / "a.blob").as_uri()) is None
    assert folder.mark((tmp_path / "photos" / "b.jpg").as_uri()) is not None
    assert [uri for uri, _ in folder.listing()] == [(tmp_path / "photos" / "b.jpg").as_uri()]


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://host/a.jpg", None),
        ("https://host/i?p=/cats/1.jpg", None),
        ("https://host/two%20cats/1.jpg?x=/dogs/", "two cats"),
        ("s3://bucket/a.jpg", None),
        ("s3://bucket/100%25/x.jpg", "100%25"),
        ("s3://bucket/cats#1/x.jpg", "cats#1"),
    ],
)
def test_only_folders_are_labels(uri, name):
    """No host, no bucket, no query, and a key as it is."""
    assert parent_name(uri) == name


def test_numbers_of_a_list_stay_json(tmp_path):
    """One that is too long or not finite is a text."""
    (tmp_path / "list.csv").write_text(
        f"url,n\nhttps://h/1.jpg,5\nhttps://h/2.jpg,{'9' * 5000}\nhttps://h/3.jpg,1e999\n"
    )
    texts = [each.metadata for each in read_url_list(str(tmp_path / "list.csv"))]
    found = [json.loads(text, parse_constant=pytest.fail)["n"] for text in texts]
    assert [str(each) for each in found] == ["5", "9" * 5000, "1e999"]


class Bucket:
    """A watched source of one picture, which cannot be had the first times."""

    name = "bucket:"
    failures = 2

    def estimate(self):
        return 1

    def listing(self):
        yield "bucket:a", "mark"

    def only(self, uris):
        assert uris == ["bucket:a"]
        return self

    def batches(self):
        self.failures -= 1
        yield from Given(("bucket:a", None if self.failures >= 0 else picture(1), None)).batches()


def test_what_could_not_be_read_is_tried_again(lake, monkeypatch):
    """Though its mark is the same."""
    monkeypatch.setattr(watch, "_UNREAD_AGAIN_S", 0.1)
    stop, added = threading.Event(), 0
    for report in watch.watch(lake.tables, [Bucket()], stop, WatchOptions(look_every_s=0.1)):
        added += report.added
        if added:
            stop.set()
    assert added == 1
    assert lake.sql("select count(*) as n from rejections").to_pylist() == [{"n": 0}]


def test_a_delete_empties_the_spool_first(lake):
    """What a killed receiver left would come back later; damaged files are said, and nothing is deleted then."""
    lake.ingest(Given(("a", picture(1), None)))
    folder = Path(lake.root) / "incoming"
    spool = Spool(folder)
    segment = spool.segment()
    segment.append([Received("receive://x", picture(2), None)])
    segment.close()
    spool.close()
    (folder / "000000000009.spool.damaged").write_bytes(b"x")
    with pytest.raises(InputError, match="damaged"):
        upkeep.delete(lake.tables, "true", really=True)
    (folder / "000000000009.spool.damaged").unlink()
    assert upkeep.delete(lake.tables, "true", really=True).images == 2
    assert drain(lake.tables) is None
    assert [path for path in Path(lake.root).rglob("*") if path.is_file() and picture(2) in path.read_bytes()] == []


def test_a_delete_removes_what_killed_writers_left(lake, monkeypatch):
    """And nothing that a version names; young files may be in use and stay."""
    lake.ingest(Given(*((str(seed), picture(seed), None) for seed in range(5))))
    orphan = Path(lake.root) / "images.lance" / "data" / "orphan.lance"
    orphan.write_bytes(picture(9))
    chosen = lake.sql("select id from images order by id limit 1").to_pylist()[0]["id"]
    upkeep.delete(lake.tables, f"id = '{chosen}'", really=True)
    assert orphan.exists()
    for path in Path(lake.root).rglob("*"):
        os.utime(path, (time.time() - 7200,) * 2)
    chosen = lake.sql("select id from images order by id limit 1").to_pylist()[0]["id"]
    upkeep.delete(lake.tables, f"id = '{chosen}'", really=True)
    monkeypatch.setattr(table, "_ORPHAN_S", -1.0)
    lake.tables.images.purge()
    assert not orphan.exists()
    ids = lake.sql("select id from images").column("id").to_pylist()
    assert len(lake.tables.images.bytes_of(ids)) == 3


def test_a_delete_forgets_positions_and_rejections_of_the_uri(lake):
    """No URI of it stays in another table."""
    lake.ingest(Given(("x:secret", None, None)))
    lake.ingest(Given(("x:open", picture(1), None), ("x:secret", picture(2), None)))
    lake.ingest(Given(("x:secret", None, None)))
    assert last_position(lake.tables, "ingest", "given:") == Position("x:secret", at_end=True)
    upkeep.delete(lake.tables, "array_has(uris, 'x:secret')", really=True)
    holding = [path for path in Path(lake.root).rglob("*") if path.is_file() and b"x:secret" in path.read_bytes()]
    assert holding == []


def test_a_delete_of_nothing_keeps_names(lake):
    """The names of versions are taken away only where something is deleted."""
    lake.ingest(Given(("a", picture(1), None)))
    upkeep.tag_version(lake.tables, "good")
    assert upkeep.delete(lake.tables, "false", really=True, drop_tags=True).images == 0
    assert upkeep.delete(lake.tables, "false", really=True).images == 0
    assert lake.tables.images.tags() == ["good"]


def test_an_export_of_another_lake_is_refused(lake, tmp_path):
    """Its folder would seem to hold this one."""
    import imagelake

    lake.ingest(Given(("a", picture(1), None)))
    lake.export(tmp_path / "out", "csv")
    other = imagelake.open(tmp_path / "other.lake", create=True)
    with pytest.raises(InputError, match="not of"):
        other.export(tmp_path / "out", "csv")


def test_a_tag_that_is_not_utf8_is_none(lake):
    """It is said, and nothing breaks."""
    with pytest.raises(InputError, match="no tag"):
        lake.tag("true", ["\udcff"])


def test_what_cannot_be_read_is_tried_less_and_less(monkeypatch):
    """The wait doubles up to the longest; what was read since starts anew."""
    monkeypatch.setattr(watch, "_UNREAD_LONGEST_S", 200.0)
    watched = watch._Watched(Bucket(), done={"a": "mark", "b": "mark"})
    waits = []
    for _ in range(4):
        watched.again({"a", "of another source"}, 0.0)
        waits.append(watched.waiting["a"][1])
        watched.finish(["a"])
    assert waits == [60.0, 120.0, 200.0, 200.0]
    watched.again(set(), 0.0)
    watched.again({"a"}, 0.0)
    assert watched.waiting == {"a": ("mark", 60.0)}


def test_an_export_of_a_lake_that_has_grown_says_so(lake, tmp_path):
    """Its plan stays; what is newer is counted, and is in another folder's export."""
    lake.ingest(Given(("a", picture(1), None)))
    assert lake.export(tmp_path / "out", "csv").newer == 0
    lake.ingest(Given(("a", picture(1), None), ("b", picture(2), None)))
    again = lake.export(tmp_path / "out", "csv")
    assert (again.there, again.written, again.newer) == (1, 0, 1)
    assert lake.export(tmp_path / "other", "csv").written == 2


@pytest.mark.parametrize("words", [["--every", "5"], ["--watch", "--new-only"]])
def test_options_that_would_do_nothing_are_refused(tmp_path, words):
    """With the code of a wrong usage, and no lake is made."""
    from typer.testing import CliRunner

    from imagelake.cli.main import app

    done = CliRunner().invoke(app, ["ingest", str(tmp_path), "--lake", str(tmp_path / "lake"), *words])
    assert done.exit_code == 2
    assert words[-2 if words[0] == "--every" else -1] in done.output
    assert not (tmp_path / "lake").exists()
