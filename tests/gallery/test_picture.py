"""All that is known of one image, the same picture large, and where its vectors come from."""

import io
import json
import math
import shutil
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from imagelake import schema
from imagelake.errors import ImageError, InputError, TooLargeError
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.large import STEPS, LargePictures, make_large, safe_name, step_of
from imagelake.gallery.metadata_tree import flatten
from imagelake.gallery.neighbors import NeighborSearch
from imagelake.gallery.picture import picture_of
from imagelake.gallery.picture_near import near
from imagelake.models.zoo import default_manifest
from imagelake.pixels.decode import decode_rgb
from imagelake.run.lake_view import open_lake_view
from imagelake.schema import PREDICTIONS, REGIONS
from imagelake.steps.pipeline import Crop, Detect, Pipeline
from imagelake.web.picture import disposition
from pictures import encode, every_picture, make_image, mean_difference, orientation_exif, scene
from tiny_models import brighter_half, mean_color

NOBODY = "0" * 64


def gallery_of(lake, embedding_set=None):
    """A gallery; with a search where a set is named."""
    if embedding_set is None:
        return Gallery(lake.tables, None)
    view = open_lake_view(lake.tables, embedding_set=embedding_set, default=default_manifest("fp32"))
    return Gallery(lake.tables, view)


@pytest.fixture
def filled(lake, photos):
    """Twelve pictures, one of them under two names."""
    shutil.copy(photos / "3.jpg", photos / "three again.jpg")
    lake.ingest(photos)
    return lake


def ids_of(lake):
    return sorted(lake.sql("SELECT id FROM images").column("id").to_pylist())


def opened(data):
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


def test_unknown_images_are_none(filled):
    """An id that the lake has not, or that is none at all, gives nothing: of details, large pictures and originals."""
    gallery = gallery_of(filled)
    large = LargePictures(gallery)
    for name in ("", "x", NOBODY, "0" * 16, "../images", "A" * 64, "é" * 64, ids_of(filled)[0] + "0"):
        assert picture_of(gallery, name) is None
        assert large.jpeg(name, 100) is None
        assert large.original(name) is None


def test_an_empty_lake_knows_no_image(lake):
    """Where there are no images, none is found, and nothing fails."""
    assert picture_of(gallery_of(lake), NOBODY) is None


def test_what_is_not_known_is_left_out(filled):
    """A picture without metadata has no camera, place, trees or predictions: not as null, not at all."""
    gallery = gallery_of(filled)
    for name in ids_of(filled):
        told = picture_of(gallery, name)
        assert not {"camera", "place", "trees", "regions", "predictions", "rejections", "lineage"} & told.keys()
        assert "null" not in json.dumps(told, allow_nan=False)
        assert (told["width"], told["height"]) == (160, 120)
        assert told["ingested"]["work"] == "ingest"


def test_the_first_letters_of_an_id_name_it(filled):
    """16 letters of an id give what all 64 do."""
    gallery = gallery_of(filled)
    name = ids_of(filled)[0]
    assert picture_of(gallery, name[:16]) == picture_of(gallery, name)


def test_all_names_of_a_content_are_told(filled):
    """A content that was seen under two names has both."""
    seen = [picture_of(gallery_of(filled), name)["uris_count"] for name in ids_of(filled)]
    assert sorted(seen) == [1] * 11 + [2]


def test_no_number_is_infinite(filled):
    """NaN and infinity of any column never reach JSON: they are not known."""
    name = ids_of(filled)[0]
    fields = ("brightness", "luma_range", "mean_r", "exposure_s", "latitude")

    def broken():
        values = [math.nan, math.inf, math.nan, -math.inf, math.nan]
        columns = {"id": [name]} | {field: [value] for field, value in zip(fields, values, strict=True)}
        schema = filled.tables.images.schema
        return pa.table(columns, schema=pa.schema([schema.field(each) for each in columns]))

    filled.tables.images.patch(broken)
    score = {"id": NOBODY, "image_id": name, "box_xyxy": [0, 0, math.nan, 1], "score": math.nan, "label": "gone"}
    filled.tables.regions.insert_new(pa.Table.from_pylist([score], REGIONS))
    filled.tables.predictions.insert_new(
        pa.Table.from_pylist([{"id": NOBODY, "image_id": name, "score": math.inf, "latitude": math.nan}], PREDICTIONS)
    )
    told = picture_of(gallery_of(filled), name)
    json.dumps(told, allow_nan=False)
    assert "color" not in told
    assert not {"brightness", "luma_range"} & told["figures"].keys()
    assert told["predictions"] == [{"id": NOBODY}]
    assert "regions" not in told  # a box without a side is none


def test_every_set_with_the_image_is_in_its_lineage(filled, tmp_path):
    """Of whole pictures and of regions: each set that has a vector of the image tells its model, and codes of it."""
    embed, detect = mean_color(tmp_path / "m"), Detect(model=brighter_half(tmp_path / "m"), keep="all", min_score=0.0)
    filled.extract(Pipeline(embed=embed))
    filled.extract(Pipeline(embed=embed, detect=detect, crop=Crop(margin=0.25)))
    filled.extract(Pipeline(detect=Detect(model=detect.model, min_score=0.01)))  # boxes only
    whole = filled.tables.embedding_sets(of_regions=False)[0]
    sets = set(filled.tables.embedding_sets())
    for name in ids_of(filled):
        told = picture_of(gallery_of(filled), name)
        found = {entry["set"]: entry for entry in told["lineage"] if "set" in entry}
        assert found.keys() == sets
        assert found[whole]["kind"] == "image"
        assert found[whole]["vectors"] == 1
        for entry in found.values():
            assert entry["model"]["name"] == "mean-color"
            assert entry["model"]["metric"] == "l2"
            assert len(entry["model"]["sha256"]) == len(entry["fingerprint"]) == 64
            assert entry["dimensions"] == 3
            assert entry["runs_count"] == 1
            assert entry["runs"][0]["subject"] == entry["set"]
        of_regions = found[(sets - {whole}).pop()]
        assert of_regions["vectors"] == 2
        assert of_regions["detector"]["model"]["name"] == "brighter-half"
        assert of_regions["detector"]["margin"] == 0.25
        boxes = [entry for entry in told["lineage"] if entry["kind"] == "detector"]
        assert [entry["model"]["name"] for entry in boxes] == ["brighter-half"]
        assert min(region["box_xyxy"][0] for region in told["regions"]) == 0.0


def test_lineage_tells_the_codes(filled, tmp_path):
    """Codes that were made of a vector follow it, with their coder; of another set, they do not."""
    rng = np.random.default_rng(0)
    for mark in ("a", "b"):
        columns = schema.embeddings(32, '{"name": "m", "metric": "cosine"}', mark * 64)
        rows = [{"id": name, "vector": rng.normal(size=32).astype(np.float32)} for name in ids_of(filled)]
        filled.tables.create_embeddings(f"set-{mark}", columns).insert_new(pa.Table.from_pylist(rows, columns))
    columns = schema.codes(16, '{"name": "coder", "runtime": "linear-code", "sha256": {}}', "c" * 64, "a" * 64)
    coded = ids_of(filled)[0]
    rows = pa.Table.from_pylist([{"id": coded, "code": b"ab"}], columns)
    filled.tables.create_codes("coder-1", columns).insert_new(rows)
    for name in ids_of(filled):
        one, other = picture_of(gallery_of(filled), name)["lineage"]
        assert [(each["set"], each["bits"], each["codes"]) for each in one["codes"]] == [
            ("coder-1", 16, int(name == coded))
        ]
        assert one["codes"][0]["model"]["name"] == "coder"
        assert "codes" not in other


@pytest.mark.parametrize(
    "manifest",
    ["", "no json", "[1]", "null", '"x"', '{"runtime": 3, "sha256": [], "inputs": [7]}'],
)
def test_a_manifest_that_nobody_can_read_is_no_error(filled, manifest):
    """A set whose manifest says nothing, or nonsense, is in the lineage all the same."""
    columns = schema.embeddings(2, manifest, "a" * 64)
    rows = [{"id": name, "vector": [0.0, 1.0]} for name in ids_of(filled)]
    filled.tables.create_embeddings("odd", columns).insert_new(pa.Table.from_pylist(rows, columns))
    told = picture_of(gallery_of(filled), ids_of(filled)[0])
    assert [entry["set"] for entry in told["lineage"]] == ["odd"]
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_come_upright(orientation):
    """Whichever way a picture was stored, its large one is what `decode` gives, without metadata to turn it again."""
    stored = Image.fromarray(scene(600, 400))
    data = io.BytesIO()
    stored.save(data, "JPEG", quality=95, exif=orientation_exif(orientation))
    shown = opened(make_large(data.getvalue(), 512))
    assert not shown.getexif()
    turned = Image.fromarray(decode_rgb(data.getvalue())).resize(shown.size)
    assert mean_difference(np.asarray(shown), np.asarray(turned)) < 4
    assert (shown.size[0] > shown.size[1]) == (orientation < 5)


def test_shared_pictures_come_upright(shared):
    """Eight files that cameras turned in eight ways are one picture, and HEIC is shown like any other."""
    kinds = [shared(f"exif/jpg/orientation/landscape_{number}.jpg") for number in range(1, 9)]
    shown = [np.asarray(opened(make_large(path.read_bytes(), 512)).resize((60, 40))) for path in kinds]
    assert all(mean_difference(shown[0], each) < 20 for each in shown)
    heic = opened(make_large(shared("exif/heic/mobile/iphone_13_pro_max.HEIC").read_bytes(), 512))
    assert (heic.format, max(heic.size)) == ("JPEG", 512)


def test_every_form_is_shown():
    """A picture of any format and mode becomes a JPEG in RGB that is not larger than it was."""
    for name, data in every_picture().items():
        shown = opened(make_large(data, 512))
        assert (shown.format, shown.mode) == ("JPEG", "RGB"), name
        assert sorted(shown.size) == [40, 60], name


def test_sides_are_few_and_bounded():
    """A side becomes the next of a few; none is made larger than the picture."""
    assert [step_of(side) for side in (1, 512, 513, 10**9)] == [STEPS[0], STEPS[0], STEPS[1], STEPS[-1]]
    with pytest.raises(InputError, match="side is 0"):
        step_of(0)
    data = encode(make_image(1, 3000, 30), quality=90)
    assert opened(make_large(data, 1024)).size == (1024, 10)
    assert opened(make_large(data, 8192)).size == (3000, 30)


def test_too_many_pixels_are_refused_in_words():
    """What takes more pixels than allowed is not decoded; a JPEG that its decoder makes smaller takes fewer."""
    image = make_image(1, 1600, 1200)
    with pytest.raises(TooLargeError, match="1600 x 1200"):
        make_large(encode(image, "PNG"), 512, max_pixels=1_000_000)
    assert opened(make_large(encode(image), 512, max_pixels=1_000_000)).size == (512, 384)
    with pytest.raises(ImageError):
        make_large(b"\xff\xd8\xff\xe0 no picture", 512)


def test_large_pictures_are_kept_up_to_a_size(filled, monkeypatch):
    """Asked for again, it is the same object; what is kept stays below the bound."""
    monkeypatch.setattr("imagelake.gallery.large._KEPT_BYTES", 20_000)
    large = LargePictures(gallery_of(filled))
    first = large.jpeg(ids_of(filled)[0], 512)
    assert large.jpeg(ids_of(filled)[0], 100) is first
    for name in ids_of(filled):
        large.jpeg(name, 512)
    assert 0 < large._size == sum(map(len, large._kept.values())) <= 20_000


def test_originals_are_the_bytes_that_came(filled, photos):
    """The original of each image is a file of the folder, byte for byte, under a name of it."""
    large = LargePictures(gallery_of(filled))
    files = {path.read_bytes() for path in photos.rglob("*.*")}
    found = [large.original(name) for name in ids_of(filled)]
    assert {each.data for each in found} == files
    assert {each.media_type for each in found} == {"image/jpeg", "image/png", "image/webp"}
    assert "ten.PNG" in {each.name for each in found}


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("", "aaaaaaaaaaaa.jpg"),
        ("file:///a/photo.JPEG", "photo.JPEG"),
        ("file:///a/run.exe", "run.exe.jpg"),
        ("file:///a/jpg", "jpg.jpg"),
        ("file:///a/..", "aaaaaaaaaaaa.jpg"),
        ("file:///a/%2e%2e%2fetc%2fpasswd", "_etc_passwd.jpg"),
        ("file:///a/C%3A%5Cx.jpg", "C__x.jpg"),
        ("file:///a/gpj%E2%80%AE.exe", "gpj_.exe.jpg"),
        ("file:///a/%0d%0aSet-Cookie%3a%20x.jpg", "__Set-Cookie_ x.jpg"),
        ("file:///a/%3Cimg%20onerror%3D1%3E.jpg", "_img onerror=1_.jpg"),
        ("file:///a/写真.jpg", "写真.jpg"),
        ("file:///a/" + "x" * 500 + ".jpg", "x" * 116 + ".jpg"),
    ],
)
def test_download_names_are_safe(uri, name):
    """A name has no path, no control character, none that turns text, and ends as its format does."""
    assert safe_name(uri, "a" * 64, "jpeg") == name
    header = disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert unquote(header.rpartition("''")[2]) == name


def test_near_copies_and_neighbors_of_regions(filled, tmp_path):
    """Neighbors come nearest first, each image once and never itself; a copy in another quality is one by its hash."""
    again = tmp_path / "again"
    again.mkdir()
    (again / "again.jpg").write_bytes(encode(make_image(3), quality=60))
    filled.ingest(again)
    embed, detect = mean_color(tmp_path / "m"), Detect(model=brighter_half(tmp_path / "m"), keep="all", min_score=0.0)
    filled.extract(Pipeline(embed=embed, detect=detect, crop=Crop()))
    gallery = gallery_of(filled, filled.tables.embedding_sets()[0])
    search = NeighborSearch(gallery)
    copy = filled.sql("SELECT id FROM images WHERE uris[1] LIKE '%again.jpg' AND len(uris) = 1").to_pylist()[0]["id"]
    for name in ids_of(filled):
        found = near(search, name, 5)
        distances = [each["distance"] for each in found["neighbors"]]
        others = [each["id"] for each in found["neighbors"]]
        assert distances == sorted(distances)
        assert name not in others
        assert len(set(others)) == len(others)
        assert all(len(each["box_xyxy"]) == 4 for each in found["neighbors"])
        if name == copy:
            assert found["copies"][0]["by"] == "hash"
            assert found["copies"][0]["name"] in {"3.jpg", "three again.jpg"}
        json.dumps(found, allow_nan=False)
    search.close()
    gallery.view.close()


def test_without_vectors_it_says_what_to_do(filled):
    """Where nothing has a vector, the reason is told, and copies are found by hash all the same."""
    found = near(NeighborSearch(gallery_of(filled)), ids_of(filled)[0], 5)
    assert found["neighbors"] == []
    assert "imagelake extract" in found["why"]
    with pytest.raises(InputError, match="k is 0"):
        near(NeighborSearch(gallery_of(filled)), ids_of(filled)[0], 0)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("{}", []),
        ("[]", [("", "")]),
        ('{"a": {"b": [1, {"c": "x"}], "d": [1, 2.5]}}', [("a.b[0]", "1"), ("a.b[1].c", "x"), ("a.d", "1, 2.5")]),
        ('{"a": null, "b": true, "c": NaN}', [("a", "null"), ("b", "true"), ("c", "NaN")]),
        ("no json", [("", "no json")]),
        ("[" * 100_000, [("", "[" * 2000 + "…")]),
        ('{"a": ' + "9" * 5000 + "}", [("", '{"a": ' + "9" * 1994 + "…")]),
    ],
)
def test_trees_become_lines(text, lines):
    """Each value of a tree is a line by its path; what is no tree is one line."""
    assert flatten(text) == lines


def test_trees_are_bounded():
    """Of a huge tree, the first lines are told, and that there are more."""
    wide = flatten(json.dumps({str(number): number for number in range(5000)}))
    assert len(wide) == 2001
    assert wide[-1] == ("…", "")
    deep = flatten('{"a":' * 500 + "1" + "}" * 500)
    assert deep == [(".".join("a" * 500), "1")]
    assert all(len(name) + len(value) < 5000 for name, value in flatten(json.dumps({"k" * 9000: "v" * 9000})))
