from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from imagelake.errors import InputError
from imagelake.pixels.decode import decode_rgb
from imagelake.pixels.describe import describe
from imagelake.pixels.figures import WORKING_SIDE, measure
from imagelake.pixels.grid import Cell, draw_grid, save_png
from imagelake.pixels.hashing import hamming_distance, hash_luma, perceptual_hash
from imagelake.pixels.reduction import reduce_to, reduced_size
from imagelake.pixels.thumbnail import encode_jpeg, thumbnail
from pictures import every_picture, mean_difference, save, scene


def textured(width: int, height: int) -> np.ndarray:
    """The scene with blobs of all sizes, which hashes and sharpness can hold on to."""
    noise = np.random.default_rng(7).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    blobs = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.addWeighted(blobs, 0.6, scene(width, height), 0.4, 0)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_flat_picture_has_its_value_and_nothing_else(value):
    """A picture of one gray has no contrast, no edges and no entropy."""
    figures = measure(np.full((30, 50, 3), value, np.uint8))
    assert figures.mean_rgb == (value, value, value)
    assert figures.brightness == pytest.approx(value)
    assert (figures.std_rgb, figures.sharpness, figures.entropy) == ((0, 0, 0), 0, 0)
    assert figures.contrast == pytest.approx(0, abs=1e-3)


def test_figures_are_their_formulas():
    """Below the working side, the figures are those of NumPy."""
    image_rgb = textured(WORKING_SIDE, 90)
    figures = measure(image_rgb)
    luma = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
    shares = np.bincount(luma.ravel(), minlength=256) / luma.size
    shares = shares[shares > 0]
    assert figures.mean_rgb == pytest.approx(image_rgb.mean(axis=(0, 1)))
    assert figures.std_rgb == pytest.approx(image_rgb.std(axis=(0, 1)))
    assert (figures.brightness, figures.contrast) == pytest.approx((luma.mean(), luma.std()))
    assert figures.sharpness == pytest.approx(cv2.Laplacian(luma, cv2.CV_64F).var())
    assert figures.entropy == pytest.approx(-(shares * np.log2(shares)).sum())


def test_blur_lowers_sharpness():
    """A blurred copy is less sharp."""
    image_rgb = textured(300, 200)
    assert measure(cv2.GaussianBlur(image_rgb, (0, 0), 4)).sharpness < measure(image_rgb).sharpness / 2


def test_figures_hold_between_sizes():
    """A larger copy has nearly the same figures."""
    small, large = measure(textured(600, 400)), measure(textured(2400, 1600))
    assert large.brightness == pytest.approx(small.brightness, abs=1)
    assert large.contrast == pytest.approx(small.contrast, rel=0.03)
    assert large.sharpness == pytest.approx(small.sharpness, rel=0.35)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_a_hash_is_of_the_lowest_cosine_coefficients(size):
    """Each bit says whether one of the lowest 8 x 8 coefficients of the 32 x 32 picture is above their median."""
    for seed in range(20):
        luma = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)
        lowest = cv2.dct(luma.astype(np.float32))[:8, :8].ravel()
        bits = "".join("01"[int(value > np.median(lowest) + 0.01)] for value in lowest)
        each = size // 32
        assert f"{hash_luma(luma.repeat(each, 0).repeat(each, 1)):064b}" == bits


def test_copies_hash_alike_and_strangers_do_not():
    """Another size and quality changes few of the 64 bits, another picture many."""
    image_rgb = textured(600, 400)
    copy = decode_rgb(encode_jpeg(reduce_to(image_rgb, 300), 50))
    stranger = np.ascontiguousarray(image_rgb[::-1, ::-1])
    original = perceptual_hash(image_rgb)
    assert 0 <= original < 2**64
    assert hamming_distance(original, original) == 0
    assert hamming_distance(original, perceptual_hash(copy)) <= 6
    assert hamming_distance(original, perceptual_hash(stranger)) > 16


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 5000), (5000, 1), (3, 2), (511, 513)])
def test_odd_sizes_are_measured(width, height):
    """No shape is too thin."""
    image_rgb = scene(width, height)
    assert measure(image_rgb).brightness >= 0
    assert perceptual_hash(image_rgb) >= 0
    small = thumbnail(image_rgb, 100)
    assert min(small.shape[:2]) >= 1
    assert max(small.shape[:2]) <= 100
    describe(save(Image.fromarray(image_rgb), "JPEG"))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((400, 533), (192, 256)), ((10, 5), (10, 5)), ((5000, 1), (256, 1)), ((256, 256), (256, 256))],
)
def test_a_thumbnail_keeps_the_aspect_and_is_never_enlarged(size, expected):
    """The longer side is at most what was asked."""
    assert reduced_size(*size, 256) == expected
    assert thumbnail(scene(*size)).shape[1::-1] == expected


def test_reduction_is_as_good_as_the_mean_of_areas():
    """The fast reduction hardly differs from OpenCV's slow one."""
    image_rgb = textured(1400, 933)
    assert (
        mean_difference(reduce_to(image_rgb, 256), cv2.resize(image_rgb, (256, 171), interpolation=cv2.INTER_AREA)) < 1
    )


def test_bad_arguments_are_named():
    """What is out of range is refused in words."""
    for call in (
        lambda: thumbnail(scene(), 0),
        lambda: encode_jpeg(scene(), 0),
    ):
        with pytest.raises(InputError, match="give"):
            call()


@pytest.mark.parametrize(("name", "data"), every_picture().items())
def test_a_description_holds_what_its_parts_say(name, data):
    """One call gives header, figures, hash and thumbnail, for every format."""
    description = describe(data)
    image_rgb = decode_rgb(data)
    assert (description.height, description.width) == image_rgb.shape[:2]
    assert description.figures == measure(image_rgb)
    assert description.perceptual_hash == perceptual_hash(image_rgb)
    small = decode_rgb(description.thumbnail_jpeg)
    assert mean_difference(small, image_rgb) < 20


def test_a_description_does_not_depend_on_the_reduced_decode():
    """A large JPEG, decoded at a smaller scale, is described like the whole one."""
    image_rgb = textured(2000, 1500)
    description = describe(encode_jpeg(image_rgb, 95))
    whole = measure(image_rgb)
    assert description.figures.mean_rgb == pytest.approx(whole.mean_rgb, abs=2)
    assert description.figures.sharpness == pytest.approx(whole.sharpness, rel=0.15)
    assert hamming_distance(description.perceptual_hash, perceptual_hash(image_rgb)) <= 4
    assert max(decode_rgb(description.thumbnail_jpeg).shape) <= WORKING_SIDE


def test_a_grid_is_drawn_and_saved(tmp_path):
    """Rows of unequal length, odd pictures and names that no font has are drawn, and the file shows the same."""
    cells = [
        Cell(scene(), "query", "a.jpg"),
        Cell(scene(1, 1), "0.5", "日本 \udcff " + "x" * 300),
        Cell(np.zeros((3, 900, 3), np.uint8), "", ""),
    ]
    sheet = draw_grid([cells, cells[:1]], heading="Nearest")
    save_png(sheet, tmp_path / "sheet.png")
    assert sheet.dtype == np.uint8
    assert np.array_equal(np.array(Image.open(tmp_path / "sheet.png")), sheet)
    assert (sheet[0, 0] == 255).all()
    assert draw_grid([]).ndim == draw_grid([[]]).ndim == 3
    with pytest.raises(OSError, match="No such file"):
        save_png(sheet, tmp_path / "no" / "sheet.png")


def test_a_thumbnail_is_a_jpeg_that_others_read():
    """Pillow reads our JPEG with the same colors."""
    data = encode_jpeg(scene(), 95)
    with Image.open(io.BytesIO(data)) as image:
        assert mean_difference(np.array(image), scene()) < 3
