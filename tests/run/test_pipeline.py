"""Detect, choose, crop, embed: what lands in the lake, on models whose answers can be worked out by hand."""

import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pytest

import imagelake
from imagelake.errors import InputError
from imagelake.models import choice
from imagelake.models.choice import fingerprint_of, open_any_detector
from imagelake.models.coder import register_coder
from imagelake.models.learned_code import linear_code
from imagelake.models.registry import Registry
from imagelake.run.codes import code_set_name, write_codes
from imagelake.run.extract import extract
from imagelake.run.search import Searcher
from imagelake.run.upkeep import delete
from imagelake.steps.extract import ExtractPictures
from imagelake.steps.pipeline import Crop, Detect, Pipeline, from_json
from pictures import encode, make_image
from tiny_models import brighter_half, mean_color


def halves(left, right, width=40, height=20):
    """A picture whose halves have these colors."""
    image = np.empty((height, width, 3), np.uint8)
    image[:, : width // 2], image[:, width // 2 :] = left, right
    return image


RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)
WHITE, GRAY = (255, 255, 255), (100, 100, 100)
PHOTOS = {"white-left": (WHITE, RED), "white-right": (GREEN, WHITE), "gray": (GRAY, GRAY), "black": (BLACK, BLACK)}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "detector": brighter_half(folder),
        "throwing": brighter_half(folder / "throwing", throws_when_dark=True),
        "embedder": mean_color(folder),
    }


@pytest.fixture
def filled(lake, tmp_path):
    folder = tmp_path / "halves"
    folder.mkdir()
    for name, colors in PHOTOS.items():
        (folder / f"{name}.png").write_bytes(encode(halves(*colors), "PNG"))
    lake.ingest(folder)
    return lake


@pytest.fixture(autouse=True)
def registered(models, monkeypatch):
    """The registry of the user who searches."""
    monkeypatch.setattr(choice, "default_registry", lambda: Registry(models["detector"].folder.parent))


@pytest.fixture
def whole(models):
    """Detect, crop the best, embed."""
    return Pipeline(detect=Detect(model=models["detector"]), crop=Crop(), embed=models["embedder"])


def regions_of(lake, order="label"):
    query = f"""SELECT split_part(uris[1], '/', -1) AS name, label, score, fallback, box_xyxy::float[] AS box,
                r.id AS id FROM regions r JOIN images i ON r.image_id = i.id ORDER BY name, {order}"""
    return lake.sql(query).to_pylist()


def vectors_of(lake, name):
    rows = lake.sql(f'SELECT id, vector::float[] AS vector FROM "embeddings/{name}"').to_pylist()
    return {row["id"]: row["vector"] for row in rows}


def test_a_lake_without_images_gives_nothing(lake, whole):
    """And the set is there, empty."""
    report = extract(lake.tables, whole)
    assert (report.found, report.regions) == (0, 0)
    assert vectors_of(lake, report.embedding_set) == {}


def test_the_best_box_is_cut_out_and_embedded(filled, whole):
    """Best by score, not the first; a picture in which nothing is found falls back to all of it, and is marked so."""
    report = extract(filled.tables, whole)
    assert (report.found, report.added, report.regions, report.fallbacks) == (4, 4, 4, 1)
    black, gray, left, right = regions_of(filled)
    assert (black["fallback"], black["label"], black["score"], black["box"]) == (True, None, None, [0, 0, 1, 1])
    assert (gray["label"], gray["fallback"]) == ("left", False)  # equal scores: the first
    assert (left["label"], left["box"]) == ("left", [0, 0, 0.5, 1])
    assert (right["label"], right["box"]) == ("right", [0.5, 0, 1, 1])
    assert right["score"] == pytest.approx(1.0)
    vectors = vectors_of(filled, report.embedding_set)
    assert vectors.keys() == {row["id"] for row in (black, gray, left, right)}
    for row, color in ((black, BLACK), (gray, GRAY), (left, WHITE), (right, WHITE)):
        np.testing.assert_allclose(vectors[row["id"]], color, atol=0.5)


def test_a_second_run_does_nothing(filled, whole):
    """And a new picture is done alone."""
    extract(filled.tables, whole)
    again = extract(filled.tables, whole)
    assert (again.found, again.added, again.known, again.regions) == (4, 0, 4, 0)
    assert len(regions_of(filled)) == 4


def test_all_boxes_get_a_vector_each(filled, models):
    """Down to the least score."""
    detect = Detect(model=models["detector"], keep="all", min_score=0.2)
    report = extract(filled.tables, Pipeline(detect=detect, crop=Crop(), embed=models["embedder"]))
    rows = regions_of(filled)
    assert [(row["name"], row["label"]) for row in rows] == [
        ("black.png", None),
        *itertools.product(["gray.png", "white-left.png", "white-right.png"], ["left", "right"]),
    ]
    vectors = vectors_of(filled, report.embedding_set)
    expected = [BLACK, GRAY, GRAY, WHITE, RED, GREEN, WHITE]
    for row, color in zip(rows, expected, strict=True):
        np.testing.assert_allclose(vectors[row["id"]], color, atol=0.5)


def test_only_wanted_labels_are_kept(filled, models):
    """Whatever the others score."""
    detect = Detect(model=models["detector"], labels=("left",), min_score=0.3)
    extract(filled.tables, Pipeline(detect=detect))
    labels = {row["name"]: row["label"] for row in regions_of(filled)}
    assert labels == {"black.png": None, "gray.png": "left", "white-left.png": "left", "white-right.png": "left"}


def test_a_margin_makes_the_crop_larger(filled, models):
    """By its share of the box, but not beyond the picture."""
    detect = Detect(model=models["detector"], labels=("left",))
    pipeline = Pipeline(detect=detect, crop=Crop(margin=1.0), embed=models["embedder"])
    report = extract(filled.tables, pipeline)
    vectors = vectors_of(filled, report.embedding_set)
    (left,) = [row for row in regions_of(filled) if row["name"] == "white-left.png"]
    np.testing.assert_allclose(vectors[left["id"]], (255, 127.5, 127.5), atol=1)  # the whole picture


def test_without_embedding_only_regions_land(filled, models):
    """They mark a picture as done, the fallback too."""
    pipeline = Pipeline(detect=Detect(model=models["detector"]))
    report = extract(filled.tables, pipeline)
    assert (report.embedding_set, report.model, report.regions) == (None, None, 4)
    assert filled.info().embedding_sets == []
    assert extract(filled.tables, pipeline).known == 4


def test_without_a_crop_whole_pictures_are_embedded(filled, models):
    """In the set of the model alone, which a run without a detector made: regions are still found for all."""
    alone = extract(filled.tables, Pipeline(embed=models["embedder"]))
    both = extract(filled.tables, Pipeline(detect=Detect(model=models["detector"]), embed=models["embedder"]))
    assert both.embedding_set == alone.embedding_set
    assert (alone.added, both.added, both.known, both.regions) == (4, 4, 0, 4)
    assert len(vectors_of(filled, both.embedding_set)) == 4


def test_a_model_that_throws_costs_that_picture_alone(filled, models):
    """It becomes a rejection with the reason, and the others of its batch are done."""
    pipeline = Pipeline(detect=Detect(model=models["throwing"]), crop=Crop(), embed=models["embedder"])
    report = extract(filled.tables, pipeline)
    assert (report.found, report.added, report.rejected, report.regions) == (4, 3, 1, 3)
    (rejection,) = filled.rejections().to_pylist()
    assert rejection["uri"].endswith("/black.png")
    assert rejection["stage"] == "detect"
    again = extract(filled.tables, pipeline)
    assert (again.known, again.rejected) == (3, 1)
    assert filled.rejections().num_rows == 1


def test_a_run_that_was_killed_between_two_tables_goes_on(filled, whole):
    """Regions without vectors are no picture that is done; nothing is doubled."""
    report = extract(filled.tables, whole)
    filled.tables.embeddings(report.embedding_set).delete("true")
    again = extract(filled.tables, whole)
    assert (again.added, len(regions_of(filled))) == (4, 4)
    assert len(vectors_of(filled, report.embedding_set)) == 4


def test_a_broken_picture_never_gets_the_pixels_of_the_one_before(whole):
    """It is a row with its reason."""
    good = encode(halves(WHITE, RED), "PNG")
    batch = pa.record_batch({
        "id": ["a", "b", "c"], "bytes": pa.array([good, good[: len(good) // 2], None], pa.large_binary()),
    })  # fmt: skip
    one, two, three = ExtractPictures(whole).open()(batch).to_pylist()
    assert one["error"] is None
    assert (two["vector"], two["box_xyxy"], two["stage"]) == (None, None, "decode")
    assert (three["vector"], three["stage"], three["error"]) == (None, "read", "there are no bytes")


def test_a_huge_picture_among_thumbnails_changes_no_row(whole):
    """Pixels wait for the detector only up to a number of bytes; the rows are those of each picture alone."""
    data = [encode(halves(*colors), "PNG") for colors in PHOTOS.values()]
    data.insert(2, encode(halves(WHITE, BLUE, 9000, 4000), "PNG"))
    batch = pa.record_batch({"id": [f"{n}" for n in range(5)], "bytes": pa.array(data, pa.large_binary())})
    function = ExtractPictures(whole).open()
    columns = ["image_id", "region_id", "box_xyxy", "label", "score", "fallback", "vector", "error"]
    together = function(batch).select(columns).to_pylist()
    alone = [row for n in range(5) for row in function(batch.slice(n, 1)).select(columns).to_pylist()]
    assert together == alone
    assert together[2]["label"] == "left"


def test_deleting_an_image_deletes_its_regions_and_their_vectors(filled, whole):
    """Of sets of regions, too."""
    report = extract(filled.tables, whole)
    delete(filled.tables, "width = 40", really=True)
    assert regions_of(filled) == []
    assert vectors_of(filled, report.embedding_set) == {}


def test_search_compares_regions(filled, whole, tmp_path):
    """The query goes through the same steps; a match tells its box; an image of the lake is its own first match."""
    report = extract(filled.tables, whole)
    options = imagelake.SearchOptions(k=2, embedding_set=report.embedding_set)
    query = tmp_path / "query.png"
    query.write_bytes(encode(halves((250, 250, 250), BLUE), "PNG"))
    found = filled.search(query, k=2, embedding_set=report.embedding_set)
    assert {match.uri.rsplit("/")[-1] for match in found} == {"white-left.png", "white-right.png"}
    assert {match.label for match in found} == {"left", "right"}
    assert (0.5, 0.0, 1.0, 1.0) in {match.box_xyxy for match in found}
    searcher = Searcher(filled.tables, dataclasses.replace(options, exclude_self=True), filled.default_model())
    own = found[0].id
    assert own not in {match.id for match in searcher.by_id(own)}
    assert searcher.image_count() == 4
    narrow = filled.search(query, k=9, where="uris[1] LIKE '%gray%'", embedding_set=report.embedding_set)
    assert [match.uri.rsplit("/")[-1] for match in narrow] == ["gray.png"]


def test_whatever_shapes_a_result_is_in_the_fingerprint(models):
    """And vectors of whole pictures have that of their model alone."""
    base = Pipeline(detect=Detect(model=models["detector"]), crop=Crop(), embed=models["embedder"])
    assert base.detect is not None
    others = [
        dataclasses.replace(base, detect=dataclasses.replace(base.detect, **change))
        for change in (
            {"model": models["throwing"]}, {"labels": ("left",)}, {"min_score": 0.5}, {"keep": "all"},
            {"keep": "all", "most": 3},
        )
    ]  # fmt: skip
    others += [dataclasses.replace(base, crop=Crop(margin=0.1)), dataclasses.replace(base, crop=None)]
    assert len({each.fingerprint for each in [base, *others]}) == 8
    assert dataclasses.replace(base, crop=None).fingerprint == fingerprint_of(models["embedder"])
    assert dataclasses.replace(base).fingerprint == base.fingerprint


def test_a_pipeline_is_told_again_from_what_a_set_keeps(models):
    """With its detector looked up where models are registered."""
    detect = Detect(model=models["detector"], labels=("left",), keep="all", most=4)
    pipeline = Pipeline(detect=detect, crop=Crop(margin=0.25), embed=models["embedder"])
    told = from_json(pipeline.to_json(), models["embedder"])
    assert told.fingerprint == pipeline.fingerprint


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ({}, "does nothing"),
        ({"crop": Crop()}, "does nothing"),
        ({"embed": "embedder", "crop": Crop()}, "takes a detector"),
        ({"detect": "detector", "code": "embedder"}, "made of vectors"),
    ],
)
def test_steps_that_do_not_go_together_are_refused(models, steps, reason):
    """With what is missing."""
    given = {name: models.get(value, value) if isinstance(value, str) else value for name, value in steps.items()}
    if "detect" in given:
        given["detect"] = Detect(model=given["detect"])
    with pytest.raises(InputError, match=reason):
        Pipeline(**given)


def test_codes_land_beside_the_vectors(filled, whole, models):
    """Of regions that are embedded now, and of those that had a vector before there was a coder."""
    extract(filled.tables, whole)
    registry = Registry(models["detector"].folder.parent)
    head = {"method": "pca", "embeddings": whole.fingerprint}
    projection = np.tile(np.eye(3), 6)[:, :16]
    code = linear_code(np.full(3, 128.0), projection)
    coder = register_coder(registry, "bright", code, head, "this test", replace=True)
    coded = dataclasses.replace(whole, code=coder)
    report = extract(filled.tables, coded)
    assert report.known == 4
    assert write_codes(filled.tables, coder).added == 4
    filled.tables.embeddings(report.embedding_set).delete("true")
    filled.tables.codes(code_set_name(coder)).delete("true")
    assert extract(filled.tables, coded).added == 4
    codes = filled.tables.codes(code_set_name(coder)).read(["id", "code"]).to_pylist()
    vectors = vectors_of(filled, report.embedding_set)
    assert {row["id"] for row in codes} == set(vectors)
    for row in codes:
        bright = vectors[row["id"]][0] > 128
        assert bool(row["code"][0] & 0x80) == bright
    with pytest.raises(InputError, match="learned on other vectors"):
        Pipeline(embed=models["embedder"], code=coder)


@pytest.fixture
def large(lake, tmp_path):
    """Photos that a decoder may take at 1/2 or 1/8 of their size: the pixels of those differ."""
    folder = tmp_path / "large"
    folder.mkdir()
    for seed in range(3):
        (folder / f"{seed}.jpg").write_bytes(encode(make_image(seed, 3000, 2400), quality=60))
    lake.ingest(folder)
    return lake


def test_the_same_detector_finds_the_same_regions_whatever_embeds_them(large, models):
    """Alone, before an embedder of any size, with a crop or without: one fingerprint, no region twice."""
    detect = Detect(model=models["detector"], keep="all", min_score=0.05)
    extract(large.tables, Pipeline(detect=detect))
    found = regions_of(large)
    assert len(found) == 6
    wide = imagelake.model("efficientnet-lite0", precision="fp32", input_size=96)
    for embed, crop in ((models["embedder"], Crop()), (wide, Crop(margin=0.1)), (models["embedder"], None)):
        extract(large.tables, Pipeline(detect=detect, crop=crop, embed=embed))
        assert regions_of(large) == found


def test_a_detector_changes_no_vector_of_a_whole_picture(large, models):
    """It goes into the same set, so it is the same to the last digit."""
    both = extract(large.tables, Pipeline(detect=Detect(model=models["detector"]), embed=models["embedder"]))
    vectors = vectors_of(large, both.embedding_set)
    large.tables.embeddings(both.embedding_set).delete("true")
    alone = extract(large.tables, Pipeline(embed=models["embedder"]))
    assert (alone.embedding_set, alone.added) == (both.embedding_set, 3)
    assert vectors_of(large, alone.embedding_set) == vectors


def test_what_means_the_same_has_the_same_fingerprint(models):
    """Whole numbers for others, labels in another order or twice, a limit that limits nothing."""
    base = {"model": models["detector"], "labels": ("left", "right"), "min_score": 1.0}
    same = [
        Pipeline(detect=Detect(**base | change), crop=Crop(margin=margin), embed=models["embedder"]).fingerprint
        for change, margin in (
            ({}, 0.0), ({"min_score": 1}, 0), ({"labels": ("right", "left", "right")}, 0.0), ({"most": 3}, 0.0),
        )
    ]  # fmt: skip
    assert len(set(same)) == 1


def test_a_limit_above_that_of_the_detector_holds(models):
    """All boxes that are asked for come."""
    assert open_any_detector(models["detector"], most=500).model.manifest.head["limit"] == 500
    assert open_any_detector(models["detector"], most=5).model.manifest.head["limit"] == 100


def test_what_comes_out_is_named_by_all_that_shapes_it(models):
    """Where vectors of whole pictures share a set, regions beside them do not share a name."""
    alone = Pipeline(embed=models["embedder"])
    both = Pipeline(detect=Detect(model=models["detector"]), embed=models["embedder"])
    cropped = dataclasses.replace(both, crop=Crop())
    assert alone.fingerprint == both.fingerprint
    assert len({each.result_fingerprint for each in (alone, both, cropped)}) == 3
    assert (alone.result_fingerprint, cropped.result_fingerprint) == (alone.fingerprint, cropped.fingerprint)
