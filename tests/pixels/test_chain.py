import json
import pickle
import runpy
import sys

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pixels import golden_transforms as golden

from imagelake.errors import InputError
from imagelake.pixels import chain as module
from imagelake.pixels.boxes import clip, project
from imagelake.pixels.chain import Chain, boxes_in_source, names, parse, settings_of, transform_class
from imagelake.pixels.frame import frame_of
from pictures import encode, make_image, scene
from places import ROOT

GEOMETRIC = [
    [{"resize": [53, 80]}],
    [{"resize": {"size_wh": [53, 80], "interpolation": "cubic"}}],
    [{"resize": {"size_wh": [200, 61], "interpolation": "area"}}],
    [{"resize": {"size_wh": [70, 41], "interpolation": "nearest"}}],
    [{"resize": {"size_wh": [33, 31], "interpolation": "smooth"}}],
    [{"resize": {"size_wh": [64, 64], "interpolation": "linear-antialiased"}}],
    [{"resize": {"size_wh": [64, 64], "how": "fit", "interpolation": "cubic-antialiased"}}],
    [{"resize": {"size_wh": [90, 50], "how": "fill"}}],
    [{"letterbox": {"size_wh": [120, 120], "color": 0}}],
    [{"letterbox": {"size_wh": [50, 140], "color": 0, "place": "top-left", "interpolation": "smooth"}}],
    [{"aspect_scale": {"short_side": 60, "long_side": 100}}],
    [{"aspect_scale": {"short_side": 90, "multiple_of": 32}}],
    [{"center_crop": [60, 90]}],
    [{"crop": {"box_xyxy": [0.2, 0.1, 0.8, 0.9], "relative": True}}],
    [{"crop": {"box_xyxy": [10, 7, 50, 40], "margin": 0.2}}],
    [{"expand": {"ratio": 1.7, "color": 0}}],
    [{"flip": "horizontal"}],
    [{"flip": "vertical"}, {"resize": [70, 70]}],
    [{"rotate": 90}],
    [{"rotate": {"degrees": 90, "grow": True}}],
    [{"rotate": {"degrees": -270, "grow": True}}],
    [{"rotate": 180}],
    [{"rotate": 20}],
    [{"rotate": {"degrees": -37.5, "grow": True, "interpolation": "cubic"}}],
    [{"random_crop": [70, 60]}],
    [{"random_expand": {"color": 0}}],
    [{"random_flip": {"probability": 0.5, "axis": "both"}}],
    [{"random_rotate": {"degrees": [-90, 90]}}],
    [{"random_resized_crop": {"size_wh": [90, 90], "area": [0.3, 1]}}],
    [{"random_aspect_scale": [50, 80, 110]}],
    [{"random_interpolation": [77, 99]}],
    [{"sample_crop": {}}],
    [{"resize": [80, 60]}, {"rotate": 15}, {"random_crop": [70, 50]}, {"letterbox": {"size_wh": [96, 96], "color": 0}}],
]


def spot(width, height, at_xy, sigma=4.0):
    """A soft white spot on black whose middle lies at an edge coordinate."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    light = 255 * np.exp(-((x - at_xy[0]) ** 2 + (y - at_xy[1]) ** 2) / (2 * sigma**2))
    return np.repeat(light.round().astype(np.uint8)[:, :, None], 3, axis=2)


def middle_of(image):
    """Where the light has its middle, in edge coordinates."""
    light = image[:, :, 0].astype(np.float64)
    y, x = np.mgrid[0 : light.shape[0], 0 : light.shape[1]] + 0.5
    return np.array([(light * x).sum(), (light * y).sum()]) / light.sum()


@pytest.mark.parametrize("entries", GEOMETRIC, ids=json.dumps)
def test_the_matrix_is_right_to_a_tenth_of_a_pixel(entries):
    """A soft spot lies, in the prepared picture, where the matrix takes its middle."""
    checked = 0
    for seed in range(12):
        at_xy = np.random.default_rng(seed).uniform([30, 25], [67, 50])
        prepared = parse(entries).apply(spot(97, 75, at_xy), rng=np.random.default_rng(seed))
        expected = (prepared.matrix @ [*at_xy, 1])[:2]
        height, width = prepared.array.shape[:2]
        reach_xy = 14 * np.hypot(prepared.matrix[:2, 0], prepared.matrix[:2, 1])
        if not (np.minimum(expected, [width, height] - expected) > reach_xy).all():
            continue  # cut off by a crop: the middle of what is left is another
        # A spot that is copied pixel by pixel has jumps of a pixel.
        coarse = "nearest" in str(entries) or "random_interpolation" in str(entries)
        np.testing.assert_allclose(middle_of(prepared.array), expected, atol=0.3 if coarse else 0.1)
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize("entries", GEOMETRIC, ids=json.dumps)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_rectangle_lies_in_its_projected_box(entries, data):
    """What is painted into a box of the source lies in the projected box of the prepared picture, and fills it."""
    width, height = data.draw(st.integers(40, 120)), data.draw(st.integers(40, 120))
    left, top = data.draw(st.integers(0, width - 12)), data.draw(st.integers(0, height - 12))
    right, bottom = data.draw(st.integers(left + 12, width)), data.draw(st.integers(top + 12, height))
    image = np.zeros((height, width, 3), np.uint8)
    image[top:bottom, left:right] = (255, 200, 180)
    box = np.array([[left, top, right, bottom]], np.float32)
    prepared = parse(entries).apply(image, rng=np.random.default_rng(left), boxes_xyxy=box)
    new_h, new_w = prepared.array.shape[:2]
    projected = clip(project(box, prepared.matrix), (new_w, new_h))[0]
    assume((projected[2:] - projected[:2] > 4).all())
    y, x = np.nonzero(prepared.array[:, :, 0] > 127)
    assume(len(x) > 0)  # a turned box may touch the picture with its empty corner only
    found = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
    turned = abs(prepared.matrix[0, 1]) > 1e-6 and abs(prepared.matrix[0, 0]) > 1e-6
    assert (found[:2] >= projected[:2] - 1.01).all()
    assert (found[2:] <= projected[2:] + 1.01).all()
    if not turned:
        assert np.abs(found - projected).max() <= 1.01 + np.abs(prepared.matrix[:2, :2]).max() / 2
        if len(prepared.kept):  # `sample_crop` drops boxes with their center outside
            np.testing.assert_allclose(prepared.boxes_xyxy[0], projected, atol=1e-3)


@pytest.mark.parametrize("entries", GEOMETRIC, ids=json.dumps)
def test_boxes_return_to_the_source(entries):
    """A box projected into the prepared picture and back is the box again; turned, it is one around it."""
    image = make_image(1, 97, 75)
    prepared = parse(entries).apply(image, rng=np.random.default_rng(4))
    boxes = np.array([[30, 20, 60, 50], [0, 0, 97, 75]], np.float32)
    back = boxes_in_source(project(boxes, prepared.matrix), prepared) * [97, 75, 97, 75]
    assert back.dtype == np.float32 or back.dtype == np.float64
    if abs(prepared.matrix[0, 1] * prepared.matrix[0, 0]) < 1e-9:
        np.testing.assert_allclose(back, boxes, atol=1e-3)
    assert (back[:, :2] <= boxes[:, :2] + 1e-3).all()
    assert (back[:, 2:] >= boxes[:, 2:] - 1e-3).all()
    assert boxes_in_source(np.zeros((0, 4)), prepared).shape == (0, 4)


@pytest.mark.parametrize("name", golden.CASES)
def test_numbers_stay_as_they_were(name):
    """Each transform gives what it gave when golden/transforms.npz was made, up to one step of rounding."""
    prepared = golden.prepare(golden.CASES[name])
    with np.load(golden.FILE) as stored:
        array, boxes, kept = (stored[f"{name}/{part}"] for part in ("array", "boxes", "kept"))
    assert prepared.array.dtype == array.dtype
    assert prepared.array.shape == array.shape
    step = 1 if array.dtype == np.uint8 else 1e-3
    np.testing.assert_allclose(prepared.array.astype(np.float64), array.astype(np.float64), atol=step)
    np.testing.assert_allclose(prepared.boxes_xyxy, boxes, atol=1e-3)
    assert prepared.kept.tolist() == kept.tolist()


def test_every_transform_has_a_golden_case():
    """No transform of ours goes without stored numbers, and none is stored that is gone."""
    assert {name.split()[0] for name in golden.CASES} == set(names())


@pytest.mark.parametrize("name", golden.CASES)
def test_a_chain_travels(name):
    """A chain comes back from JSON and from a pickle as it was, and does the same."""
    chain = parse(golden.CASES[name], folder=golden.FOLDER)
    copy = parse(json.loads(json.dumps(chain.to_list())), folder=golden.FOLDER)
    assert copy == chain
    assert copy.to_list() == chain.to_list()
    assert pickle.loads(pickle.dumps(chain)) == chain
    assert hash(copy) == hash(chain)


@pytest.mark.parametrize("form", [[], [{"order": "gray"}], [{"dtype": "float32"}], [{"order": "bgr"}, {"scale": 1}]])
@pytest.mark.parametrize("name", golden.CASES)
def test_any_picture_passes(name, form):
    """Each transform takes color and gray, 8 bits and floats; it changes no input and hands out no part of it."""
    entries = json.loads(json.dumps(golden.CASES[name]))
    if form == [{"order": "gray"}]:
        for settings_given in entries[0].values():
            if isinstance(settings_given, dict):
                settings_given.update({key: 5 for key in ("color", "mean", "std") if key in settings_given})
        entries[0] = {"expand": {"ratio": 1.5, "color": 5}} if name == "expand" else entries[0]
        entries[0] = {"random_expand": {"color": 5}} if name == "random_expand" else entries[0]
        entries[0] = {"scale": 2} if name == "normalize_pixels" else entries[0]
    image = scene(24, 16)
    before = image.copy()
    prepared = parse([*form, *entries], folder=golden.FOLDER).apply(image, rng=np.random.default_rng(golden.SEED))
    assert np.array_equal(image, before)
    assert not np.may_share_memory(prepared.array, image)
    assert prepared.array.flags.c_contiguous
    assert prepared.array.flags.writeable
    assert prepared.array.ndim == 3
    if form == [{"dtype": "float32"}] and name not in {"dtype", "sometimes", "color_jitter"}:  # they clip midway
        plain = parse(entries, folder=golden.FOLDER).apply(image, rng=np.random.default_rng(golden.SEED)).array
        inside = np.clip(prepared.array, 0, 255) if plain.dtype == np.uint8 else prepared.array
        np.testing.assert_allclose(inside, plain.astype(np.float32), atol=2.5)


def test_the_example_of_a_manifest():
    """Resize, subtract means, exchange the channels: plain arithmetic on OpenCV's resize."""
    entries = [
        {"resize": {"size_wh": [300, 300]}},
        {"normalize": {"mean": [123, 117, 104], "std": 1}},
        {"order": "bgr"},
        {"layout": "chw"},
    ]
    image = make_image(2, 320, 200)
    prepared = parse(entries).apply(image)
    expected = (cv2.resize(image, (300, 300)).astype(np.float32) - np.float32([123, 117, 104]))[:, :, ::-1]
    assert prepared.array.dtype == np.float32
    assert np.array_equal(prepared.array, expected.transpose(2, 0, 1))
    assert prepared.source_wh == (320, 200)


def test_an_empty_chain_gives_a_copy():
    """Without transforms the picture comes as it is, and the result may be written into."""
    image = make_image(1)
    prepared = parse([]).apply(image)
    assert np.array_equal(prepared.array, image)
    prepared.array[:] = 0
    assert image.any()
    assert prepared.boxes_xyxy is None
    assert parse([]) == Chain()
    assert parse([]).apply_all([]) == []


def test_bytes_are_decoded():
    """The bytes of a file give what their pixels give."""
    image = make_image(3)
    chain = parse([{"resize": [20, 20]}])
    assert np.array_equal(chain.apply_bytes(encode(image, "PNG")).array, chain.apply(image).array)


def test_chance_is_seeded():
    """The same seed gives the same pictures; each picture has its own luck, whoever else is in the list."""
    chain = parse([{"random_crop": [40, 40]}, {"color_jitter": {}}, {"random_flip": 0.5}])
    images = [make_image(seed) for seed in range(4)]
    first, again, other = (chain.apply_all(images, seed=seed) for seed in (5, 5, 6))
    assert all(np.array_equal(a.array, b.array) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.array, b.array) for a, b in zip(first, other, strict=True))
    assert np.array_equal(chain.apply_all(images[:2], seed=5)[1].array, first[1].array)
    same = chain.apply_all([images[0]] * 2, seed=5)
    assert not np.array_equal(same[0].array, same[1].array)


def test_chance_without_a_seed_is_refused():
    """A chain that draws numbers says so and asks for a generator; one that does not needs none."""
    chain = parse([{"resize": [9, 9]}, {"random_flip": 0.5}])
    assert chain.random
    assert not parse([{"resize": [9, 9]}]).random
    with pytest.raises(InputError, match=r"random_flip draws numbers; give rng"):
        chain.apply(make_image(1))
    with pytest.raises(InputError, match="seed"):
        chain.apply_all([make_image(1)])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"resise": [3, 3]}], "transform 'resise' is not known; did you mean resize"),
        ([{"xyzzy": 1}], "known are aspect_scale, brightness"),
        (
            [{"resize": {"size_wh": [3, 3], "interpolate": "linear"}}],
            "no setting 'interpolate'; did you mean interpolation",
        ),
        ([{"resize": {}}], "resize needs size_wh"),
        ([{"resize": [0, 3]}], "resize: size_wh .* such as .300, 300"),
        ([{"resize": [3.0, 3]}], "size_wh"),
        ([{"aspect_scale": 100_000_000}], "short_side 100000000 is not allowed; give a whole number from 1 to 32,766"),
        ([{"aspect_scale": {"short_side": 6, "long_side": 40_000}}], "long_side 40000"),
        ([{"aspect_scale": {"short_side": 6, "multiple_of": 40_000}}], "multiple_of 40000"),
        ([{"aspect_scale": 0}], "short_side 0"),
        ([{"random_aspect_scale": [8, 40_000]}], "short_sides 40000"),
        ([{"expand": 1e6}], "ratio 1000000.0 is not allowed; give a number from 1 to 32766"),
        ([{"random_expand": 1e6}], "max_ratio"),
        ([{"resize": {"size_wh": [3, 3], "interpolation": "bicubic"}}], "use one of linear, cubic"),
        ([{"normalize": {"mean": [1, "2"], "std": 1}}], "mean '2'"),
        ([{"normalize": {"mean": 0, "std": 0}}], "std 0 is not allowed; give a number above 0"),
        ([{"normalize": [1, 2, 3]}], "give a table with mean, std"),
        ([{"scale": True}], "factor True"),
        ([{"scale": float("nan")}], "factor nan"),
        ([{"scale": 10**400}], "factor 1000"),
        ([{"order": "rbg"}], "use one of rgb, bgr, gray"),
        ([{"flip": {"axis": ["horizontal"]}}], "axis"),
        ([{"random_brightness": [5, -5]}], "the lowest and the highest"),
        ([{"random_flip": 2}], "from 0 to 1"),
        ([{"crop": [5, 5, 5, 9]}], "left < right"),
        ([{"sometimes": {"transforms": 3}}], "give a list of transforms"),
        ([{"sometimes": {"transforms": [{"flop": 1}]}}], "did you mean flip"),
        ([{"sample_crop": {"sides": [0.5, 2]}}], "at most as large"),
        ([{"normalize_pixels": "../mean.npy"}], "lies beside the manifest"),
        ([{"normalize_pixels": {"mean": "mean.npy", "folder": "/"}}], "no setting 'folder'"),
        ([{"order": "bgr", "scale": 1}], "give one name"),
        (["order"], "give one name"),
        ([{1: 2}], "transform 1 is not known"),
        ({"order": "bgr"}, "are no list"),
        ("order", "are no list"),
    ],
)
def test_what_is_wrong_is_said(entries, message):
    """A list that is no chain is refused as it is read, with what is allowed."""
    with pytest.raises(InputError, match=message):
        parse(entries)


@pytest.mark.parametrize(
    "image",
    [np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)],
)
def test_what_is_no_picture_is_refused(image):
    """Only uint8 [h, w, 3] with a pixel is a picture."""
    with pytest.raises(InputError, match="cannot be prepared"):
        parse([]).apply(image)


def test_numbers_for_other_channels_are_refused():
    """Three means for a gray picture are a mistake, said with what to do."""
    with pytest.raises(InputError, match=r"mean has 3 numbers and the picture 1 channels \(gray\)"):
        parse([{"order": "gray"}, {"normalize": {"mean": [1, 2, 3]}}]).apply(make_image(1))


def test_mean_pictures_are_files_beside_the_manifest(tmp_path):
    """A file that is missing, no array, a pickle or of another shape is an error that names it."""
    np.save(tmp_path / "odd.npy", np.zeros((5, 5, 3)))
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("hello")
    for name, message in [("gone.npy", "gone"), ("odd.npy", "shape"), ("pickle.npy", "pickle"), ("text.npy", "text")]:
        with pytest.raises(InputError, match=message):
            parse([{"normalize_pixels": name}], folder=tmp_path).apply(make_image(1))


@pytest.mark.parametrize(
    ("entries", "side"),
    [
        ([], None),
        ([{"order": "bgr"}, {"resize": [300, 200]}], 300),
        ([{"letterbox": [416, 416]}, {"layout": "chw"}], 416),
        ([{"aspect_scale": 256}, {"center_crop": [224, 224]}], 256),
        ([{"crop": [0, 0, 10, 10]}, {"resize": [300, 200]}], None),
        ([{"random_resized_crop": [224, 224]}], None),
    ],
)
def test_a_chain_knows_what_decoding_has_to_give(entries, side):
    """The shorter side that decoding needs is known where a chain begins with scaling the whole picture."""
    assert parse(entries).shortest_side == side


def test_boxes_outside_are_dropped_and_named():
    """Boxes that leave the picture go; `kept` says which of those given are left."""
    boxes = [[0, 0, 5, 5], [20, 20, 60, 60], [90, 70, 97, 75]]
    prepared = parse([{"crop": [10, 10, 50, 50]}, {"expand": 2}]).apply(
        make_image(1, 97, 75), boxes_xyxy=np.array(boxes)
    )
    assert prepared.kept.tolist() == [1]
    assert prepared.boxes_xyxy.tolist() == [[30, 30, 60, 60]]  # cut off by the crop, and so it stays
    assert parse([]).apply(make_image(1), boxes_xyxy=np.zeros((0, 4))).boxes_xyxy.shape == (0, 4)


def test_another_package_brings_a_transform(tmp_path, monkeypatch):
    """A class of another package is found by its entry point, checked and written like ours."""
    (tmp_path / "solar.py").write_text(
        "from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass Solarize:\n"
        "    shorthand = 'threshold'\n    threshold: int = 128\n\n"
        "    def __post_init__(self):\n        if self.threshold > 255:\n            raise ValueError('too high')\n\n"
        "    def apply(self, frame):\n        values = frame.pixels()\n"
        "        return frame.with_pixels(values ^ ((values >= self.threshold) * values.dtype.type(255)))\n"
    )
    info = tmp_path / "solar-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: solar\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[imagelake.transforms]\nsolarize = solar:Solarize\n")
    monkeypatch.syspath_prepend(tmp_path)
    module._entry_points.cache_clear()
    try:
        chain = parse([{"solarize": 100}, {"order": "bgr"}])
        assert chain.to_list()[0] == {"solarize": {"threshold": 100}}
        image = make_image(1)
        expected = np.where(image >= 100, 255 - image, image)[:, :, ::-1]
        assert np.array_equal(chain.apply(image).array, expected)
        with pytest.raises(InputError, match="no setting 'level'"):
            parse([{"solarize": {"level": 3}}])
        with pytest.raises(InputError, match="too high"):
            parse([{"solarize": 300}])
        with pytest.raises(InputError, match="did you mean solarize"):
            parse([{"solarise": 3}])
    finally:
        module._entry_points.cache_clear()
        sys.modules.pop("solar", None)


@pytest.mark.parametrize("name", names())
def test_every_transform_is_a_frozen_dataclass_that_says_what_it_does(name):
    """Ours keep the rules that we ask others to keep."""
    kind = transform_class(name)
    assert kind.__doc__
    assert kind.__dataclass_params__.frozen
    link = parse(golden.CASES[name], folder=golden.FOLDER).links[0]
    assert isinstance(settings_of(link.transform), dict)
    frame = frame_of(scene(24, 16))
    assert frame.settled() is frame


def test_the_page_shows_every_transform_as_it_is():
    """The tables of the how-to page are made of the code; otherwise run `python scripts/transforms_table.py`."""
    made = runpy.run_path(str(ROOT / "scripts" / "transforms_table.py"))
    page = made["page"]()
    assert made["PAGE"].read_text() == page, "run: python scripts/transforms_table.py"
    assert [name for name in names() if f"| `{name}` |" not in page] == []
