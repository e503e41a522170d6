"""A lake that is searched by many threads while it changes."""

import hashlib
import io
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import imagelake
from imagelake.errors import ImageError, InputError, TooLargeError
from imagelake.run import lake_view
from imagelake.run.lake_view import open_lake_view
from imagelake.run.pipeline_options import DetectOptions, EmbedOptions, ExtractOptions
from pictures import encode, make_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed in (*range(6), 50):
        (folder / f"{seed}.png").write_bytes(encode(make_image(seed), "PNG"))
    return folder


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A lake of them that no test changes."""
    lake = imagelake.open(tmp_path_factory.mktemp("finished") / "finished.lake", create=True)
    lake.ingest(folder)
    lake.extract()
    return lake


@pytest.fixture(scope="module")
def still(finished):
    """A view of it."""
    opened = open_lake_view(finished.tables, default=finished.default_model())
    yield opened
    opened.close()


@pytest.fixture
def filled(finished, tmp_path):
    """The same lake again, to be changed."""
    return imagelake.open(shutil.copytree(finished.root, tmp_path / "test.lake"))


@pytest.fixture
def view(filled):
    """A view of that."""
    opened = open_lake_view(filled.tables, default=filled.default_model())
    yield opened
    opened.close()


@pytest.fixture
def at_once(monkeypatch):
    """The tables are looked at with every search."""
    monkeypatch.setattr(lake_view, "_LOOK_S", 0.0)
    monkeypatch.setattr(lake_view, "_SHARE", float("inf"))
    monkeypatch.setattr(lake_view, "_PATIENCE_S", 60.0)


def both():
    """50 on the right half of a picture, 3 on the left."""
    return np.concatenate([make_image(3), make_image(50)], axis=1)


def name_of(match):
    return match.uri.rpartition("/")[2]


def test_a_lake_without_vectors(lake):
    """Says what to do."""
    with pytest.raises(InputError, match="imagelake extract"):
        open_lake_view(lake.tables, default=lake.default_model())


def test_it_finds_what_search_finds(finished, still, folder):
    """The same matches in the same order, also of a picture that is not in the lake, and of several at once."""
    data = [(folder / "1.png").read_bytes(), encode(make_image(77)), (folder / "4.png").read_bytes()]
    assert still.search_pictures([], k=3) == []
    assert still.search_pictures(data, k=4) == [finished.search(each, k=4) for each in data]
    assert still.search_pictures(data[:1], k=2, exclude_self=True) == [finished.search(data[0], k=2, exclude_self=True)]
    where = "uris[1] NOT LIKE '%1.png'"
    assert still.search_pictures(data, k=9, where=where) == [finished.search(each, k=9, where=where) for each in data]


def test_by_vector_and_by_id(finished, still, folder):
    """An image, its vector and its id find the same."""
    data = (folder / "2.png").read_bytes()
    image_id = hashlib.sha256(data).hexdigest()
    (expected,) = still.search_pictures([data], k=3)
    assert still.search_ids([image_id], k=3) == [expected]
    assert still.search_ids([image_id], k=2, exclude_self=True) == [expected[1:]]
    vector = finished.index().vectors_of([image_id])
    assert still.search_vectors(vector, k=3) == [expected]
    assert still.search_vectors(np.empty((0, still.dimensions), np.float32), k=3) == []


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_box_is_searched_by_what_is_inside(still, form):
    """The right half of a picture finds what it shows, at the distance of the crop alone; the whole does not."""
    options = {} if form == "PNG" else {"quality": 95}
    whole = encode(both(), form, **options)
    (inside,) = still.search_pictures([whole], k=7, box_xyxy=(0.5, 0, 1, 1))
    assert name_of(inside[0]) == "50.png"
    (left,) = still.search_pictures([whole], k=1, box_xyxy=(0, 0, 0.5, 1))
    assert name_of(left[0]) == "3.png"
    pixels = np.asarray(Image.open(io.BytesIO(whole)))
    (crop,) = still.search_pictures([encode(np.ascontiguousarray(pixels[:, 160:]), "PNG")], k=7)
    assert [match.id for match in inside] == [match.id for match in crop]
    near = 1e-6 if form == "PNG" else 0.02  # a JPEG may be decoded at a smaller scale
    np.testing.assert_allclose([m.distance for m in inside], [m.distance for m in crop], atol=near)


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 1), (0.5, 0, 0.2, 1), (-0.1, 0, 1, 1), (0, 0, 1, 1.1), (0, 0, float("nan"), 1), (0, 1)]
)
def test_what_is_no_box(still, box):
    """Is refused."""
    with pytest.raises(InputError, match="left < right"):
        still.search_pictures([encode(make_image(1))], k=1, box_xyxy=box)


def test_questions_without_sense(still):
    """Say what was given and what is allowed."""
    with pytest.raises(ImageError, match="not a picture"):
        still.search_pictures([b"words"], k=1)
    with pytest.raises(InputError, match="k is 0"):
        still.search_pictures([encode(make_image(1))], k=0)
    with pytest.raises(InputError, match="has a vector"):
        still.search_ids(["ab" * 32], k=1)
    with pytest.raises(InputError, match="has a vector"):
        still.search_ids(["é"], k=1)
    with pytest.raises(InputError, match="give \\[n, "):
        still.search_vectors(np.ones((1, 3), np.float32), k=1)
    with pytest.raises(InputError, match="no finite number"):
        still.search_vectors(np.full((1, still.dimensions), np.nan, np.float32), k=1)


@pytest.mark.parametrize(
    "where",
    [
        "",
        "no_such_column = 1",
        "true) UNION SELECT 'x' WHERE (true",
        "true) UNION SELECT 'é' WHERE (true",
        "true) UNION SELECT NULL WHERE (true",
        "true) UNION ALL SELECT uris[1] FROM images WHERE (true",
        "id IN (SELECT content FROM read_text('/etc/passwd'))",
        "true; DROP TABLE images",
    ],
)
def test_a_predicate_that_is_none(still, where):
    """Is refused: it reads no files, changes nothing, and gives no ids of its own."""
    with pytest.raises(InputError):
        still.search_pictures([encode(make_image(1))], k=1, where=where)
    assert still.count() == 7


def test_a_predicate_that_takes_too_long(still, monkeypatch):
    """Is ended."""
    monkeypatch.setattr("imagelake.run.lake_state._PREDICATE_S", 0.2)
    tables = ", ".join(f"images i{number}" for number in range(16))
    forever = f"(SELECT sum({' + '.join(f'i{number}.width' for number in range(16))}) FROM {tables}) > 0"
    with pytest.raises(InputError, match="takes longer than"):
        still.search_pictures([encode(make_image(1))], k=1, where=forever)


def test_a_picture_with_too_many_pixels(finished):
    """Is refused by its header, whole and with a box."""
    view = open_lake_view(finished.tables, default=finished.default_model(), max_pixels=19_199)
    try:
        with pytest.raises(TooLargeError, match="160 x 120"):
            view.search_pictures([encode(make_image(77))], k=1)
        with pytest.raises(TooLargeError, match="160 x 120"):
            view.search_pictures([encode(make_image(77))], k=1, box_xyxy=(0, 0, 1, 0.1))
    finally:
        view.close()


def test_it_follows_what_is_added(filled, view, tmp_path, at_once):
    """What came later is found, by its picture and its id; a search that goes on meanwhile is not disturbed."""
    data = encode(make_image(99), "PNG")
    image_id = hashlib.sha256(data).hexdigest()
    assert view.search_pictures([data], k=1)[0][0].id != image_id
    assert view.image(image_id) is None
    stop, troubles = threading.Event(), []

    def search():
        while not stop.is_set():
            (found,) = view.search_pictures([encode(make_image(1), "PNG")], k=3)
            if name_of(found[0]) != "1.png" or len(found) != 3:
                troubles.append(found)

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(search) for _ in range(2)]
        try:
            (tmp_path / "more").mkdir()
            (tmp_path / "more" / "99.png").write_bytes(data)
            filled.ingest(tmp_path / "more")
            filled.extract()
            deadline = time.monotonic() + 60
            while view.search_pictures([data], k=1)[0][0].id != image_id:
                assert time.monotonic() < deadline
        finally:
            stop.set()
        for each in running:
            each.result()
    assert troubles == []
    assert view.search_ids([image_id], k=1)[0][0].distance == 0
    assert view.count() == 8


def test_deleted_images_are_not_found(filled, view, folder):
    """Neither by a search that began before anybody looked again, nor later; others take their places."""
    data = (folder / "3.png").read_bytes()
    image_id = hashlib.sha256(data).hexdigest()
    assert view.search_pictures([data], k=1)[0][0].id == image_id
    filled.tables.images.delete(f"id = '{image_id}'")
    (found,) = view.search_pictures([data], k=10)
    assert len(found) == 6
    assert image_id not in {match.id for match in found}
    assert view.image(image_id) is None
    assert view.picture(image_id) is None
    assert view.thumbnail(image_id) is None
    filled.ingest(folder)
    deadline = time.monotonic() + 60
    while view.search_pictures([data], k=1)[0][0].id != image_id:  # it has its vector still
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_lake_that_is_lost_is_answered_for_as_before(filled, view, tmp_path, at_once):
    """What can be answered from memory still is, and what cannot says so."""
    state = view._state
    (tmp_path / "test.lake").rename(tmp_path / "elsewhere.lake")
    assert view._current() is state
    (tmp_path / "elsewhere.lake").rename(tmp_path / "test.lake")
    assert len(view.search_pictures([encode(make_image(1))], k=2)[0]) == 2


def test_what_is_known_of_an_image(still, folder):
    """Its row as JSON without pictures; its bytes and its thumbnail apart."""
    data = (folder / "1.png").read_bytes()
    image_id = hashlib.sha256(data).hexdigest()
    told = still.image(image_id)
    assert told["id"] == image_id
    assert (told["format"], told["width"], told["height"]) == ("png", 160, 120)
    assert not {"bytes", "thumbnail"} & told.keys()
    assert isinstance(told["added_at"], str)
    assert still.picture(image_id) == (data, "png")
    assert still.thumbnail(image_id)[:2] == b"\xff\xd8"
    assert still.image("../../etc/passwd") is None


def test_in_a_set_of_regions(filled):
    """Matches are regions with their boxes and labels; a box of the query is compared itself."""
    filled.extract(ExtractOptions(detect=DetectOptions(model="subject"), embed=EmbedOptions()))
    view = open_lake_view(filled.tables, embedding_set="regions", default=filled.default_model())
    try:
        data = encode(make_image(1), "PNG")
        (found,) = view.search_pictures([data], k=3)
        assert name_of(found[0]) == "1.png"
        assert found == filled.search(data, k=3, embedding_set="regions")
        (others,) = view.search_pictures([data], k=20, exclude_self=True)
        assert "1.png" not in {name_of(match) for match in others}
        assert len(others) == 6
        (inside,) = view.search_pictures([encode(both(), "PNG")], k=1, box_xyxy=(0.5, 0, 1, 1))
        assert len(inside) == 1
        assert view.search_ids([found[0].id], k=3) == [found]
    finally:
        view.close()
