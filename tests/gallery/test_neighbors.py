"""The nearest images for the page, beside brute force; and what it says of them."""

import hashlib

import numpy as np
import pytest

import imagelake
from imagelake.errors import ImageError, InputError
from imagelake.gallery.calibration import LINE
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.neighbors import MOST, NeighborOptions, NeighborSearch, Query
from imagelake.gallery.selection import Selection
from imagelake.models.choice import choose_coder
from imagelake.run.codes import FitOptions, fit_codes, write_codes
from imagelake.run.lake_view import open_lake_view
from imagelake.run.pipeline_options import DetectOptions, EmbedOptions, ExtractOptions
from pictures import encode, make_image

PICTURES = 60
NOBODY = "0" * 64


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory):
    """A registry of these tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("data")
        patch.setenv("XDG_DATA_HOME", str(folder))
        patch.setattr("platformdirs.user_data_dir", lambda *_, **__: str(folder / "imagelake"))
        yield


@pytest.fixture(scope="module")
def pictures():
    """Sixty pictures by id."""
    made = [encode(make_image(seed, height=72, width=96), quality=90) for seed in range(PICTURES)]
    return {hashlib.sha256(data).hexdigest(): data for data in made}


@pytest.fixture(scope="module")
def lake(pictures, tmp_path_factory):
    """A lake of them with vectors, codes, and vectors of regions."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, data in enumerate(pictures.values()):
        (folder / f"{number}.jpg").write_bytes(data)
    lake = imagelake.open(tmp_path_factory.mktemp("lake") / "test.lake", create=True)
    lake.ingest(folder)
    lake.extract(imagelake.model("efficientnet-lite0", input_size=64))
    report = fit_codes(lake.tables, FitOptions(bits=16, method="itq"))
    write_codes(lake.tables, choose_coder(report.coder))
    lake.tag("uris[1] LIKE '%/1%.jpg'", add=["one"])
    return lake


@pytest.fixture(scope="module")
def search(lake):
    """Its search."""
    (name,) = lake.tables.embedding_sets(of_regions=False)
    view = open_lake_view(lake.tables, embedding_set=name, default=lake.default_model())
    found = NeighborSearch(Gallery(lake.tables, view))
    yield found
    found.close()
    view.close()


@pytest.fixture(scope="module")
def vectors(lake):
    """The vectors by id, float64."""
    (name,) = lake.tables.embedding_sets(of_regions=False)
    table = lake.tables.embeddings(name).read(["id", "vector"]).to_pydict()
    return {key: np.array(value, np.float64) for key, value in zip(table["id"], table["vector"], strict=True)}


def brute_force(vectors, query, ids):
    """All of these images by (cosine distance, id)."""
    unit = query / np.linalg.norm(query)
    return sorted((((unit - vectors[i] / np.linalg.norm(vectors[i])) ** 2).sum() / 2, i) for i in ids)


def test_without_vectors_says_what_to_do(tmp_path):
    """A lake that has none is told how to get some."""
    empty = imagelake.open(tmp_path / "empty.lake", create=True)
    with pytest.raises(InputError, match="imagelake extract"):
        NeighborSearch(Gallery(empty.tables, None)).find(Query(NOBODY), NeighborOptions())


@pytest.mark.parametrize("k", [1, 7, MOST])
def test_like_an_image_is_brute_force(search, vectors, k):
    """The nearest to an image are those of brute force, without itself, and that is certified."""
    for asked in list(vectors)[:12]:
        found = search.find(Query(asked), NeighborOptions(k=k))
        wanted = brute_force(vectors, vectors[asked], set(vectors) - {asked})[:k]
        assert [each.id for each in found.matches] == [each[1] for each in wanted]
        np.testing.assert_allclose([each.distance for each in found.matches], [each[0] for each in wanted], atol=1e-12)
        assert found.certified
        assert (found.searched, found.images, found.in_lake) == (PICTURES - 1, PICTURES - 1, asked)


def test_within_a_selection(search, lake, vectors):
    """Only what is selected is found, all of it, and the answer is certified over so many."""
    chosen = set(lake.sql("SELECT id FROM images WHERE list_contains(tags, 'one')").column("id").to_pylist())
    asked = min(chosen)
    options = NeighborOptions(k=MOST, selection=Selection(facets={"tag": ("one",)}))
    found = search.find(Query(asked), options)
    assert [each.id for each in found.matches] == [
        each[1] for each in brute_force(vectors, vectors[asked], chosen - {asked})
    ]
    assert found.certified
    assert found.searched == found.images == len(chosen) - 1
    assert found.better is not None  # chance is that of the whole lake


def test_an_empty_selection(search, vectors):
    """Of nothing, nothing is found."""
    found = search.find(Query(next(iter(vectors))), NeighborOptions(selection=Selection(where="width = 1")))
    assert (found.matches, found.searched, found.better) == ([], 0, 0)


def test_a_picture_of_the_lake_finds_itself(search, pictures):
    """The bytes of an image find it first, at no distance, and no chance gives that."""
    image_id, data = next(iter(pictures.items()))
    found = search.find(Query(picture=data), NeighborOptions(k=3))
    first = found.matches[0]
    assert (first.id, first.distance, first.by_chance, first.bar) == (image_id, 0.0, 0.0, 1.0)
    assert found.in_lake == image_id


def test_bars_and_cut_off_agree(search, vectors):
    """A match is before the cut-off just where its bar goes beyond the line; bars never grow with the distance."""
    for asked in list(vectors)[:10]:
        found = search.find(Query(asked), NeighborOptions(k=MOST))
        bars = [each.bar for each in found.matches]
        assert bars == sorted(bars, reverse=True)
        assert found.better == sum(bar > LINE for bar in bars)
        assert found.better < PICTURES / 2


def test_a_box_is_the_picture_cut_out(search, pictures):
    """A part of an image is looked for as that part alone, and the image itself is left out."""
    image_id, data = next(iter(pictures.items()))
    box = (0.1, 0.2, 0.7, 0.9)
    of_image = search.find(Query(image_id, box_xyxy=box), NeighborOptions(k=5))
    of_picture = search.find(Query(picture=data, box_xyxy=box), NeighborOptions(k=6))
    others = [each.id for each in of_picture.matches if each.id != image_id]
    assert [each.id for each in of_image.matches] == others[:5]
    assert image_id not in {each.id for each in of_image.matches}
    assert of_image.in_lake is None


def test_codes_choose_and_certify_nothing(search, vectors):
    """Where codes choose, the matches are measured exactly, and nothing is certified."""
    asked = next(iter(vectors))
    coded = search.find(Query(asked), NeighborOptions(k=5, codes=True))
    exact = search.find(Query(asked), NeighborOptions(k=5))
    assert [each.id for each in coded.matches] == [each.id for each in exact.matches]  # all of so few are candidates
    assert not coded.certified
    assert [each.codes for each in search.sets.found()] == [True]


def test_regions(lake, search):
    """In a set of regions each match has its box, and no region of the image itself is found."""
    lake.extract(ExtractOptions(embed=EmbedOptions(input_size=64), detect=DetectOptions(model="subject")))
    (name,) = set(lake.tables.embedding_sets()) - set(lake.tables.embedding_sets(of_regions=False))
    whole = search.sets.view(None).embedding_set
    asked = lake.tables.embeddings(name).read(["image_id"]).column("image_id")[0].as_py()
    search.sets._listed = None
    found = search.find(Query(asked), NeighborOptions(k=4, embedding_set=name))
    assert found.embedding_set == name != whole
    assert len(found.matches) == 4
    assert asked not in {each.id for each in found.matches}
    assert all(each.box_xyxy is not None for each in found.matches)
    assert found.certified


@pytest.mark.parametrize(
    ("query", "options", "words"),
    [
        (Query(NOBODY), NeighborOptions(), "no vector"),
        (Query(), NeighborOptions(), "give a picture"),
        (Query(NOBODY), NeighborOptions(k=0), f"1 to {MOST}"),
        (Query(NOBODY), NeighborOptions(k=MOST + 1), f"1 to {MOST}"),
        (Query(NOBODY), NeighborOptions(embedding_set="../x"), "It has:"),
        (Query(NOBODY, box_xyxy=(0, 0, 1, 1)), NeighborOptions(), "give a picture"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_for(search, query, options, words):
    """Says what was given and what to do."""
    with pytest.raises(InputError, match=words):
        search.find(query, options)


def test_no_picture(search):
    """Bytes that are no picture are told so."""
    with pytest.raises(ImageError):
        search.find(Query(picture=b"no picture"), NeighborOptions())


def test_follows_the_lake(lake, tmp_path, monkeypatch):
    """A new image is found by the search after it was added."""
    monkeypatch.setattr("imagelake.run.lake_view._LOOK_S", 0.0)
    monkeypatch.setattr("imagelake.gallery.gallery._LOOK_S", 0.0)
    own = imagelake.open(tmp_path / "own.lake", create=True)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(encode(make_image(900), quality=90))
    own.ingest(tmp_path / "a")
    own.extract(imagelake.model("efficientnet-lite0", input_size=64))
    (name,) = own.tables.embedding_sets()
    view = open_lake_view(own.tables, embedding_set=name, default=own.default_model())
    search = NeighborSearch(Gallery(own.tables, view))
    data = encode(make_image(901), quality=90)
    assert len(search.find(Query(picture=data), NeighborOptions()).matches) == 1
    (tmp_path / "a" / "2.jpg").write_bytes(data)
    own.ingest(tmp_path / "a")
    own.extract(imagelake.model("efficientnet-lite0", input_size=64))
    search.gallery.catalog()
    found = search.find(Query(picture=data), NeighborOptions())
    for _ in range(50):
        if len(found.matches) == 2:
            break
        found = search.find(Query(picture=data), NeighborOptions())
    assert found.matches[0].id == hashlib.sha256(data).hexdigest()
    assert found.better is None  # of two images nobody can tell what is chance
    view.close()
    search.close()
