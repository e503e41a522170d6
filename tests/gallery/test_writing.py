"""What people change from the page."""

import hashlib
import threading
from pathlib import Path

import pytest

import imagelake
from imagelake.errors import InputError
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.writing import MOST_TAGS, Uploads, list_of, tag_some, upload_uri
from imagelake.run.tags import count_tags, tag_images
from pictures import encode, make_image

HOSTILE_TAGS = [
    "'; DROP TABLE images; --",
    '"quoted"',
    "<img src=x onerror=alert(1)>",
    "=1+1",
    "写真 📷",
    "%s {x}",
    "\\",
]


@pytest.fixture
def gallery(tmp_path) -> Gallery:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.png").write_bytes(encode(make_image(number, 40, 30), "PNG"))
    lake = imagelake.open(tmp_path / "lake", create=True)
    lake.ingest(folder)
    return Gallery(lake.tables, None)


def ids_of(gallery):
    return sorted(gallery.tables.images.read(["id"]).column("id").to_pylist())


def tags_of(gallery):
    return dict(
        zip(*(gallery.tables.images.read(["id", "tags"]).column(n).to_pylist() for n in ("id", "tags")), strict=True)
    )


def undo(gallery, changes):
    for (gained, lost), ids in changes.gained.items():
        tag_some(gallery, ids, lost, gained)


def test_no_image_is_tagged(gallery):
    """No ids, or ids that the lake has not, change nothing."""
    for ids in ([], ["0" * 64], ["0" * 16], ["x"], [""], ["'"], ["g" * 64]):
        assert tag_some(gallery, ids, ["a"], []).changed == 0
    assert set(tags_of(gallery).values()) == {None}


def test_tags_added_and_undone_leave_all_as_before(gallery):
    """What is added and undone leaves every row's tags as they were, whatever they were; so does what is removed."""
    ids = ids_of(gallery)
    tag_some(gallery, ids[:6], ["old"], [])
    before = tags_of(gallery)
    changes = tag_some(gallery, [each[:16] for each in ids[3:9]], ["old", "new", *HOSTILE_TAGS], [])
    assert (changes.images, changes.changed) == (6, 6)
    assert tags_of(gallery) != before
    undo(gallery, changes)
    assert tags_of(gallery) == before
    changes = tag_some(gallery, ids, [], ["old"])
    assert changes.changed == 6
    undo(gallery, changes)
    assert tags_of(gallery) == before


def test_hostile_tags_are_words(gallery):
    """A tag may be any word; it comes back as it was given."""
    tag_some(gallery, ids_of(gallery)[:1], HOSTILE_TAGS, [])
    assert set(count_tags(gallery.tables)) == set(HOSTILE_TAGS)


@pytest.mark.parametrize(
    ("add", "remove"),
    [([], []), ([""], []), ([" "], []), (["a\n"], []), (["a" * 101], []), (["a"], ["a"]), (["\ud800"], []),
     ([str(n) for n in range(MOST_TAGS + 1)], [])],
)  # fmt: skip
def test_no_tags(gallery, add, remove):
    """What is no tag is refused before anything is changed."""
    with pytest.raises(InputError):
        tag_some(gallery, ids_of(gallery), add, remove)
    assert set(tags_of(gallery).values()) == {None}


def test_two_people_tag_at_once(gallery):
    """Of tags that several people give at once, none is lost, and each is told what was theirs."""
    ids = ids_of(gallery)
    told = {}

    def work(name):
        told[name] = tag_images(gallery.tables, ids, [name, "all"], [])

    threads = [threading.Thread(target=work, args=[f"tag {n}"]) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert all(set(tags) == {"all", *told} for tags in tags_of(gallery).values())
    assert all(changes.changed == len(ids) for changes in told.values())
    assert sum("all" in gained for changes in told.values() for gained, _ in changes.gained) == 1


def test_list_of_images(gallery):
    """A list has every image that was asked for and is there, with its URIs."""
    ids = ids_of(gallery)
    found = list_of(gallery, [ids[2], "0" * 64, ids[0][:16]])
    assert [each["id"] for each in found] == [ids[2], ids[0]]
    assert all(each["uris"][0].endswith(each["name"]) for each in found)


@pytest.mark.parametrize(
    ("name", "label"),
    [("", "picture"), ("..", "picture"), ("../../etc/passwd", "passwd"), ("C:\\photos\\a b.jpg", "a%20b.jpg"),
     ("a\x00\n\u202e.png", "a.png"), ("写真.jpg", "写真.jpg"), ("a/", "picture"), ("#?%.gif", "%23%3F%25.gif")],
)  # fmt: skip
def test_names_are_labels(name, label):
    """What a picture is called is the last part of its URI, and never a path."""
    assert upload_uri(name).rsplit("/", 1)[1] == label
    assert upload_uri(name).count("/") == 4


def test_upload(gallery):
    """A new picture is in the lake when it is answered for; a known one changes nothing; what is none says why."""
    uploads, data = Uploads(gallery.tables), encode(make_image(99, 64, 64), "PNG")
    taken = uploads.take("new.png", data)
    assert (taken.known, taken.error, taken.id) == (False, None, hashlib.sha256(data).hexdigest())
    row = gallery.tables.images.rows("id", [taken.id], ["uris", "width"]).to_pylist()
    assert row[0]["width"] == 64
    assert row[0]["uris"][0].endswith("/new.png")
    version = gallery.tables.images.version()
    again = uploads.take("other name.png", data)
    assert again.known
    assert gallery.tables.images.version() == version
    broken = uploads.take("broken.jpg", b"\xff\xd8\xff\xe0 no picture")
    assert broken.error
    assert gallery.tables.rejections.count() == 1
    with pytest.raises(InputError, match="empty"):
        uploads.take("empty.jpg", b"")


def test_many_upload_at_once(gallery):
    """Of pictures that come at once, each is there once, and each of its senders is told so."""
    uploads = Uploads(gallery.tables)
    data = [encode(make_image(100 + n // 2, 32, 32), "PNG") for n in range(20)]
    told = [None] * len(data)

    def work(number):
        told[number] = uploads.take(f"{number}.png", data[number])

    threads = [threading.Thread(target=work, args=[n]) for n in range(len(data))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert gallery.tables.images.count() == 12 + 10
    assert sum(each.known for each in told) == 10
    assert all(each.error is None for each in told)


def test_nothing_is_written_elsewhere(gallery, tmp_path):
    """A name that climbs out of its folder leads nowhere."""
    before = {path for path in tmp_path.rglob("*") if "lake" not in path.parts}
    Uploads(gallery.tables).take("../../../photos/0.png", encode(make_image(3, 9, 9), "PNG"))
    assert {path for path in tmp_path.rglob("*") if "lake" not in path.parts} == before
    assert Path(tmp_path / "photos/0.png").exists()
