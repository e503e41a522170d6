"""From images to vectors to matches."""

import os

import numpy as np
import pytest
from PIL import Image

import imagelake
from imagelake.errors import ImageError, InputError, LakeNotFoundError
from imagelake.run.search import Searcher
from pictures import encode, make_image


@pytest.fixture
def filled(lake, photos):
    lake.ingest(photos)
    lake.extract()
    return lake


def test_a_lake_without_images(lake):
    """There is nothing to embed, and search says what to do."""
    assert lake.extract().found == 0
    with pytest.raises(InputError, match="imagelake extract"):
        lake.search_random(1, imagelake.SearchOptions())


def test_every_image_gets_one_vector(filled, photos):
    """Once; a second run does nothing; a new image gets its own."""
    again = filled.extract()
    assert (again.found, again.added, again.known, again.rejected) == (12, 0, 12, 0)
    (photos / "new.jpg").write_bytes(encode(make_image(99)))
    filled.ingest(photos)
    more = filled.extract()
    assert (more.found, more.added, more.known) == (13, 1, 12)
    name = more.embedding_set
    lengths = filled.sql(f'select list_dot_product(vector::float[], vector::float[]) as n from "embeddings/{name}"')
    np.testing.assert_allclose([row["n"] for row in lengths.to_pylist()], 1.0, rtol=1e-5)


def test_another_preprocessing_makes_another_set(filled):
    """Beside the old one, which stays."""
    first = filled.extract().embedding_set
    second = filled.extract(imagelake.model("efficientnet-lite0", input_size=96)).embedding_set
    assert first != second
    sets = {each.name: each for each in filled.info().embedding_sets}
    assert sets.keys() == {first, second}
    assert sets[second].input_size_wh == (96, 96)
    assert {each.vectors for each in sets.values()} == {12}


def test_a_picture_of_the_lake_is_its_own_first_match(filled, photos):
    """At distance 0, unless it is left out; ordered by (distance, id)."""
    for path in sorted(photos.glob("*.jpg")):
        matches = filled.search(path, k=4)
        assert matches[0].uri.endswith("/" + path.name)
        assert matches[0].distance == 0.0
        assert matches == sorted(matches, key=lambda m: (m.distance, m.id))
        assert filled.search(path, k=3, exclude_self=True) == matches[1:]
        assert filled.search(path.read_bytes(), k=4) == matches


def test_an_altered_copy_finds_its_original(filled, photos):
    """A smaller, recompressed copy that is not in the lake."""
    original = Image.open(photos / "4.jpg")
    (photos.parent / "copy.jpg").write_bytes(encode(np.asarray(original.resize((120, 90))), quality=40))
    assert filled.search(photos.parent / "copy.jpg", k=1)[0].uri.endswith("/4.jpg")


def test_a_predicate_narrows_the_search(filled, photos):
    """And the answer is complete within it."""
    everything = filled.search(photos / "1.jpg", k=100)
    assert len(everything) == 12
    some = filled.search(photos / "1.jpg", k=100, where="format <> 'jpeg'")
    assert some == [m for m in everything if not m.uri.endswith(".jpg")]
    assert filled.search(photos / "1.jpg", where="false") == []


@pytest.mark.parametrize("given", ["nowhere.jpg", "text.jpg"])
def test_a_query_that_is_no_picture(filled, tmp_path, given):
    """Says what was given and why it cannot be used."""
    (tmp_path / "text.jpg").write_text("words")
    with pytest.raises((InputError, ImageError), match=r"cannot be read|not a picture"):
        filled.search(tmp_path / given)


def test_k_below_one(filled, photos):
    """Is refused."""
    with pytest.raises(InputError, match="k is 0"):
        filled.search(photos / "1.jpg", k=0)


def test_the_grid_is_a_picture_with_one_row_a_query(filled, photos, tmp_path):
    """Five random images and their matches, and one picture with its own."""
    found = filled.search_random(5, imagelake.SearchOptions(k=3), seed=1, out=tmp_path / "five.png")
    assert len(found) == 5
    assert all(len(matches) == 3 and matches[0].id == query for query, matches in found.items())
    filled.search_grid(photos / "2.jpg", tmp_path / "one.png", imagelake.SearchOptions(k=3))
    with Image.open(tmp_path / "five.png") as five, Image.open(tmp_path / "one.png") as one:
        assert five.width == one.width
        assert five.height > 3 * one.height
    with pytest.raises(InputError, match=r"\.png"):
        filled.search_grid(photos / "2.jpg", tmp_path / "one.txt", imagelake.SearchOptions())


def test_an_image_that_cannot_be_embedded_is_a_rejection(filled, photos):
    """Bytes that rot inside the lake are told, and the rest goes on."""
    broken = imagelake.open(os.path.join(filled.root, "..", "rotten.lake"), create=True)  # noqa: PTH118
    broken.ingest(photos)
    rows = broken.tables.images.read(broken.tables.images.schema.names[:-1])
    victim = rows.column("id")[0].as_py()
    kept = rows.filter(np.array([i == 0 for i in range(rows.num_rows)]))
    broken.tables.images.delete(f"id = '{victim}'")
    import pyarrow as pa

    broken.tables.images.insert_new(kept.append_column("bytes", pa.array([b"rotten"], pa.large_binary())))
    report = broken.extract()
    assert (report.found, report.added, report.rejected) == (12, 11, 1)
    assert [row["stage"] for row in broken.rejections().to_pylist()] == ["decode"]


def test_opening_nothing(tmp_path):
    """Is an error that says how to make a lake."""
    with pytest.raises(LakeNotFoundError):
        imagelake.open(tmp_path / "none.lake")


def test_vectors_of_deleted_images_are_not_found(filled, photos):
    """Another program may delete an image: nothing fails, nothing is miscounted, and new images get their vectors."""
    gone = filled.search(photos / "3.jpg", k=1)[0]
    filled.tables.images.delete(f"id = '{gone.id}'")
    (photos / "3.jpg").unlink()
    (photos / "new.jpg").write_bytes(encode(make_image(99)))
    filled.ingest(photos)
    assert filled.without_vector() == 0  # as many vectors as images, and yet one is missing
    report = filled.extract()
    assert (report.found, report.added, report.known) == (12, 1, 11)
    assert gone.id not in {match.id for match in filled.search(photos / "1.jpg", k=50)}
    assert len(filled.search(photos / "1.jpg", k=50)) == 12
    assert gone.id not in filled.search_random(50, imagelake.SearchOptions())


def test_a_seed_below_zero(filled):
    """Is refused."""
    with pytest.raises(InputError, match="--seed is -1"):
        filled.search_random(1, imagelake.SearchOptions(), seed=-1)


def test_a_predicate_still_holds_where_images_are_deleted_meanwhile(filled, photos):
    """The search begins again among those that are left, not among all."""
    searcher = Searcher(filled.tables, imagelake.SearchOptions(k=50, where="format = 'jpeg'"), filled.default_model())
    gone = filled.search(photos / "3.jpg", k=1)[0].id
    filled.tables.images.delete(f"id = '{gone}'")
    matches = searcher.by_bytes((photos / "1.jpg").read_bytes())
    assert len(matches) == 9
    assert all(match.uri.endswith(".jpg") for match in matches)


def test_the_index_answers_what_search_does_not(filled):
    """All pairs and many queries at once, by the ids of images."""
    index = filled.index()
    assert sorted(index.ids.tolist()) == filled.sql("select id from images order by id").column("id").to_pylist()
    pairs = sum(len(distances) for _, _, distances in index.pairs_within(2.0))
    assert pairs == 12 * 11 // 2
    assert filled.duplicates(imagelake.DuplicateOptions(by=("exact", "hash"))).images == 12
