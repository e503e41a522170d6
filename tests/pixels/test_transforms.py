"""Transforms against oracles of their own: plain NumPy, Pillow, the standard library."""

import colorsys
import math

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from imagelake.errors import ImageError, InputError
from imagelake.pixels.boxes import center_inside, iou
from imagelake.pixels.chain import parse
from imagelake.pixels.cropping import crop_box
from imagelake.pixels.draw import draw_boxes
from imagelake.pixels.fit import fit
from imagelake.pixels.frame import frame_of
from imagelake.pixels.raw import from_raw
from imagelake.pixels.sampler import SampleCrop
from pictures import make_image

IMAGE = make_image(5, 97, 75)


def run(*entries, image=IMAGE, seed=0, **more):
    return parse(list(entries)).apply(image, rng=np.random.default_rng(seed), **more)


def array(*entries, **more):
    return run(*entries, **more).array


def plain_linear(image, size_wh):
    """Interpolation between pixel centers: the new pixel i lies at (i + 0.5) * old / new - 0.5."""
    out = image.astype(np.float64)
    for axis, new in ((1, size_wh[0]), (0, size_wh[1])):
        old = image.shape[axis]
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if each == axis else 1 for each in range(3)])
        out = np.take(out, low, axis) * (1 - share) + np.take(out, np.minimum(low + 1, old - 1), axis) * share
    return out


@pytest.mark.parametrize("size_wh", [(97, 75), (50, 40), (200, 31), (1, 1), (300, 300)])
def test_linear_interpolates_between_pixel_centers(size_wh):
    """Linear resizing is the textbook formula, up to rounding."""
    found = array({"resize": list(size_wh)})
    np.testing.assert_allclose(found, plain_linear(IMAGE, size_wh), atol=1.01)
    exact = array({"dtype": "float32"}, {"resize": list(size_wh)})
    np.testing.assert_allclose(exact, plain_linear(IMAGE, size_wh), atol=1e-2)


def test_area_averages_whole_blocks():
    """By a whole factor, `area` is the mean of blocks; where one side grows, that side is linear."""
    image = make_image(6, 96, 72)
    blocks = image.reshape(18, 4, 32, 3, 3).mean(axis=(1, 3))
    options = {"interpolation": "area"}
    np.testing.assert_allclose(array({"resize": {"size_wh": [32, 18], **options}}, image=image), blocks, atol=0.51)
    narrow = image.reshape(72, 32, 3, 3).mean(axis=2)
    taller = array({"resize": {"size_wh": [32, 100], **options}}, image=image)
    np.testing.assert_allclose(taller, plain_linear(narrow, (32, 100)), atol=1.5)


def test_nearest_takes_the_pixel_under_the_center():
    """No half pixel is lost: new pixel i copies old pixel floor((i + 0.5) * old / new)."""
    found = array({"resize": {"size_wh": [40, 150], "interpolation": "nearest"}})
    x = np.floor((np.arange(40) + 0.5) * 97 / 40).astype(int)
    y = np.floor((np.arange(150) + 0.5) * 75 / 150).astype(int)
    assert np.array_equal(found, IMAGE[y][:, x])


@pytest.mark.parametrize(("word", "filter_"), [("linear", "BILINEAR"), ("cubic", "BICUBIC"), ("lanczos", "LANCZOS")])
def test_antialiased_is_what_pillow_does(word, filter_):
    """The antialiased interpolations are Pillow's, for color, gray and floats."""
    size = {"size_wh": [31, 22], "interpolation": f"{word}-antialiased"}
    expected = Image.fromarray(IMAGE).resize((31, 22), Image.Resampling[filter_])
    assert np.array_equal(array({"resize": size}), np.asarray(expected))
    gray = array({"order": "gray"})
    expected = Image.fromarray(gray[:, :, 0]).resize((31, 22), Image.Resampling[filter_])
    assert np.array_equal(array({"order": "gray"}, {"resize": size})[:, :, 0], np.asarray(expected))
    floats = np.clip(array({"dtype": "float32"}, {"resize": size}), 0, 255)
    np.testing.assert_allclose(floats, array({"resize": size}), atol=1.5)


@pytest.mark.parametrize("size_wh", [(64, 64), (20, 30), (97, 75), (200, 100)])
def test_smooth_is_what_fit_does(size_wh):
    """The default model's way to prepare a picture can be written as a chain, to the last bit."""
    options = {"size_wh": list(size_wh), "interpolation": "smooth"}
    assert np.array_equal(array({"resize": options}), fit(IMAGE, size_wh, "squash"))
    assert np.array_equal(array({"resize": options | {"how": "fill"}}), fit(IMAGE, size_wh, "crop"))
    assert np.array_equal(array({"letterbox": options | {"color": 127}}), fit(IMAGE, size_wh, "letterbox"))


@pytest.mark.parametrize(
    ("entry", "size_wh"),
    [
        ({"resize": {"size_wh": [50, 50], "how": "fit"}}, (50, 39)),
        ({"resize": {"size_wh": [50, 50], "how": "fill"}}, (50, 50)),
        ({"aspect_scale": 60}, (78, 60)),
        ({"aspect_scale": {"short_side": 600, "long_side": 200}}, (200, 155)),
        ({"aspect_scale": {"short_side": 60, "multiple_of": 32}}, (64, 32)),
        ({"aspect_scale": {"short_side": 1, "multiple_of": 32}}, (32, 32)),
        ({"random_aspect_scale": {"short_sides": [60], "long_side": 70}}, (70, 54)),
    ],
)
def test_sizes_keep_the_aspect(entry, size_wh):
    """Sizes follow the shorter side, the cap and the multiple."""
    prepared = run(entry)
    assert prepared.array.shape == (size_wh[1], size_wh[0], 3)


def test_letterbox_places_the_picture_and_paints_the_rest():
    """Bars are of the color and the picture is the resized one, in the middle or at the top left."""
    inner = array({"resize": [64, 49]})
    found = array({"letterbox": {"size_wh": [64, 64], "place": "top-left"}})
    assert np.array_equal(found[:49], inner)
    assert (found[49:] == 114).all()
    found = array({"letterbox": {"size_wh": [64, 64], "color": [1, 2, 3]}})
    assert np.array_equal(found[7:56], inner)
    assert (found[:7] == [1, 2, 3]).all()
    assert (found[56:] == [1, 2, 3]).all()


def test_crops_are_slices():
    """What is cut out is what stands there; beyond the picture stands the color."""
    assert np.array_equal(array({"center_crop": [41, 35]}), IMAGE[20:55, 28:69])
    assert np.array_equal(array({"crop": [10.4, 20.6, 30, 99]}), IMAGE[21:75, 10:30])
    assert np.array_equal(array({"crop": {"box_xyxy": [10, 20, 30, 40], "margin": 0.5}}), IMAGE[10:50, 0:40])
    assert array({"crop": {"box_xyxy": [2, 2, 3, 3], "relative": True}}).shape == (1, 1, 3)
    wide = array({"center_crop": {"size_wh": [101, 35], "color": 9}})
    assert np.array_equal(wide[:, 2:99], IMAGE[20:55])
    assert (wide[:, :2] == 9).all()
    assert (wide[:, 99:] == 9).all()
    assert np.array_equal(crop_box(IMAGE, [0.5, 0, 1, 1 / 3]), IMAGE[:25, 48:])
    assert crop_box(IMAGE, [0.5, 0.5, 0.5, 0.5]).shape == (1, 1, 3)


def test_random_crops_are_parts_and_reach_every_corner():
    """A random crop is a part of the picture, and each place is as likely as another."""
    image = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    seen = set()
    for seed in range(200):
        part = array({"random_crop": [4, 4]}, image=image, seed=seed)
        top, left = divmod(int(part[0, 0, 0]) // 3, 6)
        assert np.array_equal(part, image[top : top + 4, left : left + 4])
        seen.add((top, left))
    assert seen == {(top, left) for top in range(2) for left in range(3)}
    assert array({"random_crop": [200, 4]}).shape == (4, 200, 3)
    for seed in range(20):
        assert array({"random_resized_crop": [20, 30]}, seed=seed).shape == (30, 20, 3)
    narrow = run({"random_resized_crop": {"size_wh": [8, 8], "aspect": [9, 10]}})
    assert narrow.array.shape == (8, 8, 3)


def test_expand_and_fill():
    """The picture stands on the larger ground; a filled box has the color and the rest stays."""
    found = array({"expand": {"ratio": 2, "place": "top-left"}})
    assert found.shape == (150, 194, 3)
    assert np.array_equal(found[:75, :97], IMAGE)
    assert (found[75:] == [123, 117, 104]).all()
    filled = array({"fill": {"box_xyxy": [0, 0, 0.5, 1], "relative": True, "color": 7}})
    assert (filled[:, :48] == 7).all()
    assert np.array_equal(filled[:, 48:], IMAGE[:, 48:])
    for seed in range(10):
        height, width = array({"random_expand": 3}, seed=seed).shape[:2]
        assert 75 <= height <= 225
        assert 97 <= width <= 291


@pytest.mark.parametrize(
    ("entry", "size_wh"),
    [
        ({"aspect_scale": 600}, (1, 2000)),
        ({"random_aspect_scale": [600]}, (2000, 1)),
        ({"aspect_scale": 32_766}, (2, 1)),
        ({"expand": 1000}, (600, 600)),
        ({"resize": [32_766, 32_766]}, (4, 4)),
        ({"letterbox": [32_766, 32_766]}, (4, 1)),
        ({"center_crop": [32_766, 32_766]}, (4, 4)),
    ],
)
def test_no_picture_becomes_larger_than_any_that_is_read(entry, size_wh):
    """A result above the most pixels, or the longest side, of a picture is an ImageError before it is made."""
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    with pytest.raises(ImageError, match="would become"):
        array(entry, image=image)


def test_turns():
    """Flips and quarter turns move pixels as they are; other turns are those of Pillow."""
    assert np.array_equal(array({"flip": "horizontal"}), IMAGE[:, ::-1])
    assert np.array_equal(array({"flip": "vertical"}), IMAGE[::-1])
    for degrees, quarters in ((90, 1), (-90, 3), (450, 1), (180, 2), (0, 0)):
        turned = array({"rotate": {"degrees": degrees, "grow": True}})
        assert np.array_equal(turned, np.rot90(IMAGE, quarters))
    found = array({"rotate": {"degrees": 25, "color": 50}}).astype(int)
    pillow = Image.fromarray(IMAGE).rotate(25, Image.Resampling.BILINEAR, fillcolor=(50, 50, 50))
    inside = np.asarray(Image.new("L", (97, 75), 255).rotate(25))
    core = np.asarray(Image.fromarray(inside).reduce(1)) == 255
    core[1:-1, 1:-1] &= core[:-2, 1:-1] & core[2:, 1:-1] & core[1:-1, :-2] & core[1:-1, 2:]
    core[[0, -1]] = core[:, [0, -1]] = False
    assert np.abs(found - np.asarray(pillow).astype(int))[core].max() <= 3
    assert (found[0, 0] == 50).all()
    assert not (array({"rotate": {"degrees": 25, "border": "edge"}})[0, 0] == 50).all()
    grown = array({"rotate": {"degrees": 45, "grow": True}})
    side = math.ceil((97 + 75) * math.sqrt(0.5))
    assert grown.shape == (side, side, 3)
    half = [array({"random_flip": 0.5}, seed=seed) for seed in range(40)]
    assert 8 < sum(np.array_equal(each, IMAGE) for each in half) < 32


def test_a_picture_too_long_to_turn_is_an_image_error():
    """OpenCV counts the pixels of a picture that it turns in 16 bits."""
    long = np.zeros((1, 40_000, 3), np.uint8)
    with pytest.raises(ImageError, match="too long"):
        array({"rotate": 10}, image=long)
    assert array({"rotate": 180}, image=long).shape == long.shape


def test_light():
    """Brightness adds, contrast multiplies from black or from the mean; 8 bits are rounded and clipped."""
    values = IMAGE.astype(np.float64)
    assert np.array_equal(array({"brightness": 60}), np.clip(values + 60, 0, 255))
    assert np.array_equal(array({"brightness": -60.4}), np.clip(np.rint(values - 60.4), 0, 255))
    assert np.array_equal(array({"contrast": 1.3}), np.clip(np.rint(values * 1.3), 0, 255))
    assert array({"dtype": "float32"}, {"brightness": 300}).min() >= 300
    for factor in (0.0, 0.4, 1.7):
        pillow = np.asarray(ImageEnhance.Contrast(Image.fromarray(IMAGE)).enhance(factor)).astype(int)
        found = array({"contrast": {"factor": factor, "about": "mean"}})
        assert np.abs(found - pillow).max() <= 2  # Pillow rounds the mean
        swapped = array({"order": "bgr"}, {"contrast": {"factor": factor, "about": "mean"}}, {"order": "rgb"})
        assert np.array_equal(swapped, found)


@pytest.mark.parametrize("degrees", [0, 40, -100, 359])
def test_hue_turns_in_hsv(degrees):
    """Hue is that of the standard library's HSV, whatever the order of the channels."""
    small = make_image(8, 12, 9)
    expected = np.zeros(small.shape)
    for y, x in np.ndindex(9, 12):
        h, s, v = colorsys.rgb_to_hsv(*(small[y, x] / 255))
        expected[y, x] = np.array(colorsys.hsv_to_rgb((h + degrees / 360) % 1, s, v)) * 255
    np.testing.assert_allclose(array({"hue": degrees}, image=small), expected, atol=0.6)
    swapped = array({"order": "bgr"}, {"hue": degrees}, {"order": "rgb"}, image=small)
    np.testing.assert_allclose(swapped, expected, atol=0.6)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 3.0])
def test_saturation_pulls_from_the_brightest_channel(factor):
    """Saturation times a factor moves each channel away from the largest one by that factor, at most to 0."""
    values = IMAGE.astype(np.float64)
    top, low = values.max(axis=2, keepdims=True), values.min(axis=2, keepdims=True)
    most = np.divide(top, top - low, out=np.full_like(top, np.inf), where=top > low)
    expected = top - (top - values) * np.minimum(factor, most)
    np.testing.assert_allclose(array({"saturation": factor}), expected, atol=0.6)


def test_gray_stays_gray():
    """Hue and saturation of a gray picture change nothing; gray becomes color by repeating."""
    gray = array({"order": "gray"})
    assert gray.shape == (75, 97, 1)
    luma = np.asarray(Image.fromarray(IMAGE).convert("L")).astype(int)
    assert np.abs(gray[:, :, 0] - luma).max() <= 1
    assert np.abs(array({"order": "bgr"}, {"order": "gray"}).astype(int) - gray).max() == 0
    assert np.array_equal(array({"order": "gray"}, {"hue": 90}, {"saturation": 0}), gray)
    assert np.array_equal(array({"order": "gray"}, {"order": "bgr"}), np.repeat(gray, 3, axis=2))
    assert array({"order": "gray"}, {"layout": "chw"}).shape == (1, 75, 97)


def test_channels():
    """`bgr` is the reverse; a shuffle is one of the orders, and all of them come up."""
    assert np.array_equal(array({"order": "bgr"}), IMAGE[:, :, ::-1])
    assert np.array_equal(array({"order": "bgr"}, {"order": "rgb"}), IMAGE)
    orders = set()
    for seed in range(60):
        shuffled = array({"shuffle_channels": 1}, seed=seed)
        found = [next(c for c in range(3) if np.array_equal(shuffled[:, :, k], IMAGE[:, :, c])) for k in range(3)]
        orders.add(tuple(found))
    assert len(orders) == 6


MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_normalize_is_the_formula(layout):
    """`(x - mean) / std` in float32, in either layout, before or after the channels are exchanged."""
    expected = (IMAGE.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    turn = (2, 0, 1) if layout == "chw" else (0, 1, 2)
    normalize = {"normalize": {"mean": MEAN, "std": STD}}
    found = array(normalize, {"layout": layout})
    assert found.dtype == np.float32
    assert np.array_equal(found, expected.transpose(turn))
    assert np.array_equal(array(normalize, {"order": "bgr"}, {"layout": layout}), expected[:, :, ::-1].transpose(turn))
    backward = {"normalize": {"mean": MEAN[::-1], "std": STD[::-1]}}
    assert np.array_equal(
        array({"order": "bgr"}, backward, {"order": "rgb"}, {"layout": layout}), expected.transpose(turn)
    )


def test_what_is_due_adds_up():
    """Scale and normalize, put off and done at once, give what they give one after the other."""
    steps = [{"scale": 1 / 255}, {"normalize": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}]
    expected = (IMAGE / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(array(*steps), expected, atol=1e-5)
    np.testing.assert_allclose(array(*steps, {"scale": 3}, {"flip": "horizontal"}), 3 * expected[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(array(*steps, {"crop": [5, 6, 50, 40]}), expected[6:40, 5:50], atol=1e-5)
    resized = array({"dtype": "float32"}, {"resize": [40, 40]}, *steps)
    np.testing.assert_allclose(array(*steps, {"resize": [40, 40]}), resized, atol=1e-4)
    bars = array(*steps, {"letterbox": {"size_wh": [97, 97], "color": 0}})
    assert (bars[0] == 0).all()
    np.testing.assert_allclose(bars[11:86], expected, atol=1e-5)


def test_types():
    """uint8 is rounded and clipped, float16 comes at the end, float32 keeps values as they are."""
    assert array().dtype == np.uint8
    assert array({"dtype": "float32"}).dtype == np.float32
    assert np.array_equal(array({"dtype": "float32"}, {"dtype": "uint8"}), IMAGE)
    expected = np.clip(np.rint(IMAGE * 1.5 - 20), 0, 255)
    assert np.array_equal(array({"scale": 1.5}, {"brightness": -20}, {"dtype": "uint8"}), expected)
    half = array({"dtype": "float16"}, {"scale": 0.5})
    assert half.dtype == np.float16
    assert np.array_equal(half, (IMAGE * 0.5).astype(np.float16))
    assert array({"dtype": "float16"}, {"dtype": "float32"}).dtype == np.float32
    assert array({"dtype": "float16"}, {"dtype": "uint8"}).dtype == np.uint8


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_picture_normalized_by_itself(per_channel):
    """Mean 0 and deviation 1, or just from low to high, of all values or of each channel; an even picture is safe."""
    axes = (0, 1) if per_channel else None
    found = array({"normalize_image": {"per_channel": per_channel}})
    np.testing.assert_allclose(found.mean(axes), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(axes), 1, atol=1e-4)
    settings = {"how": "min_max", "low": -1, "high": 3, "per_channel": per_channel}
    found = array({"normalize_image": settings})
    np.testing.assert_allclose(found.min(axes), -1, atol=1e-5)
    np.testing.assert_allclose(found.max(axes), 3, atol=1e-5)
    even = np.full((4, 5, 3), 80, np.uint8)
    assert (array({"normalize_image": {"per_channel": per_channel}}, image=even) == 0).all()
    assert (array({"normalize_image": settings}, image=even) == -1).all()
    with pytest.raises(InputError, match="not below"):
        array({"normalize_image": {"how": "min_max", "low": 2}})


def test_ssd_samples_hold_what_they_promise():
    """A part drawn reaches the overlap asked for with some box; boxes stay where their center lies inside."""
    boxes = np.array([[5, 5, 40, 40], [50, 20, 95, 70], [70, 60, 75, 64]], np.float32)
    frame = frame_of(IMAGE, boxes)
    for least in (0.1, 0.5, 0.7):
        for seed in range(20):
            part = SampleCrop()._draw(frame, least, np.random.default_rng(seed))
            if part is not None:
                assert iou([part], boxes).max() >= least
                assert (part[:2] >= 0).all()
                assert (part[2:] <= [97, 75]).all()
                assert (part[2:] > part[:2]).all()
    whole = 0
    for seed in range(60):
        prepared = run({"sample_crop": {}}, seed=seed, boxes_xyxy=boxes)
        left, top = -prepared.matrix[:2, 2]
        window = [left, top, left + prepared.array.shape[1], top + prepared.array.shape[0]]
        assert prepared.kept.tolist() == np.flatnonzero(center_inside(boxes, window)).tolist()
        whole += prepared.array.shape == IMAGE.shape
    assert 2 <= whole <= 30
    assert np.array_equal(array({"sample_crop": {}}), IMAGE)


def test_sometimes_is_sometimes():
    """With probability 0 nothing happens, with 1 always, and all of a list or none of it."""
    both = [{"flip": "horizontal"}, {"brightness": 10}]
    assert np.array_equal(array({"sometimes": {"transforms": both, "probability": 0}}), IMAGE)
    done = array(*both)
    seen = [array({"sometimes": {"transforms": both}}, seed=seed) for seed in range(40)]
    assert all(np.array_equal(each, IMAGE) or np.array_equal(each, done) for each in seen)
    assert 8 < sum(np.array_equal(each, done) for each in seen) < 32


@pytest.mark.parametrize("order", ["rgb", "bgr", "gray", "rgba", "bgra"])
def test_raw_pixels_become_a_picture(order):
    """Raw pixels in each order give the same picture; a wrong count of bytes is an ImageError."""
    data = np.asarray(Image.fromarray(IMAGE).convert("L" if order == "gray" else "RGBA"))
    if order != "gray":
        data = (
            data[:, :, [0, 1, 2, 3][: len(order)]]
            if order.startswith("rgb")
            else data[:, :, [2, 1, 0, 3][: len(order)]]
        )
    found = from_raw(data.tobytes(), (97, 75), order)
    expected = np.repeat(data[:, :, None], 3, axis=2) if order == "gray" else IMAGE
    assert np.array_equal(found, expected)
    assert found.flags.writeable
    with pytest.raises(ImageError, match="which has"):
        from_raw(data.tobytes()[:-1], (97, 75), order)


def test_raw_pixels_need_a_size_and_an_order():
    """What cannot be a picture is refused with what is allowed."""
    with pytest.raises(InputError, match="rgb, bgr, gray"):
        from_raw(b"", (1, 1), "yuv")
    with pytest.raises(InputError, match="1 pixel or more"):
        from_raw(b"", (0, 1))


def test_drawn_boxes_can_be_seen():
    """A box has a line along its edges and a plate with its text; the picture given and the rest stay as they are."""
    image = np.full((240, 320, 3), 128, np.uint8)
    drawn = draw_boxes(image, np.array([[0.25, 0.5, 0.75, 0.9]]), ["cat 0.93"])
    assert (image == 128).all()
    assert (drawn[120, 80:240] != 128).any(axis=1).all()
    assert (drawn[215, 80:240] != 128).any(axis=1).all()
    assert (drawn[130:200, 90:230] == 128).all()
    plate = drawn[90:119, 80:130].reshape(-1, 3)
    assert (plate > 220).all(axis=1).any()
    assert np.array_equal(draw_boxes(image, np.zeros((0, 4))), image)


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3), (12, 12)])
def test_boxes_anywhere_on_any_picture_can_be_drawn(shape):
    """Boxes beyond the picture, points, long labels and odd letters draw without an error."""
    image = np.zeros((*shape, 3), np.uint8)
    boxes = [[-1, -1, 2, 2], [0.5, 0.5, 0.5, 0.5], [1, 1, 1, 1], [0.9, 0, 0.2, 1]]
    drawn = draw_boxes(image, np.array(boxes), ["é\n\x00 ✓" * 30, "", "x", "0.9"], [3, 99, 0, -1])
    assert drawn.shape == image.shape


def test_labels_have_to_fit_the_boxes():
    """One text and one class for each box, or none."""
    with pytest.raises(InputError, match="n texts"):
        draw_boxes(IMAGE, np.zeros((2, 4)), ["one"])
    with pytest.raises(InputError, match="class ids"):
        draw_boxes(IMAGE, np.zeros((2, 4)), ["one", "two"], [1])
