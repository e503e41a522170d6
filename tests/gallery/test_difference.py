"""Where two pictures differ."""

import cv2
import numpy as np
import pytest

import imagelake
from imagelake.errors import InputError
from imagelake.gallery.difference import Differences
from imagelake.gallery.gallery import Gallery
from imagelake.pixels.difference import difference_colors, draw_difference, measure_difference, overlay
from pictures import encode, make_image


def smooth(seed, width=320, height=240):
    """A picture with something to see, which survives scaling."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (9, 12, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def test_equal_pictures_do_not_differ():
    """A picture differs from itself by nothing: no mean, no PSNR, SSIM 1, and the drawing has one color."""
    image = smooth(1)
    found = measure_difference(image, image)
    assert (found.mean, found.most, found.changed, found.psnr_db) == (0, 0, 0, None)
    assert found.ssim == pytest.approx(1)
    assert (draw_difference(image, image, 8) == difference_colors(8)[0]).all()


def test_difference_is_symmetric():
    """It does not matter which picture is the first."""
    one, other = smooth(1), smooth(2)
    assert measure_difference(one, other) == measure_difference(other, one)
    assert (draw_difference(one, other, 4) == draw_difference(other, one, 4)).all()


def test_psnr_as_defined():
    """PSNR is 10 log10 (255² / mean squared error)."""
    one = np.full((20, 20, 3), 100, np.uint8)
    found = measure_difference(one, one + np.uint8(5))
    assert found.psnr_db == pytest.approx(10 * np.log10(255**2 / 25))
    assert found.mean == 5
    assert found.changed == 0


def test_gain_saturates_where_the_legend_says():
    """The lightest color stands for 255 / gain and more; colors get lighter from none to there."""
    for gain in (1, 4, 16, 64):
        colors = difference_colors(gain).astype(int).sum(axis=1)
        assert (np.diff(colors) >= 0).all()
        assert (colors[int(np.ceil(255 / gain)) :] == colors[-1]).all()


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.0])
def test_a_smaller_copy_is_the_same_picture(scale):
    """A copy in another size is laid over whole, at the size of the smaller, and differs little."""
    one = smooth(3)
    other = cv2.resize(one, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for pair in ((one, other), (other, one)):
        laid = overlay(*pair)
        assert (laid.part_of, laid.mirrored, laid.stretched) == (None, False, False)
        assert laid.one.shape == laid.other.shape == other.shape
        assert measure_difference(laid.one, laid.other).mean < 3


def test_a_part_is_found_in_the_whole():
    """Of a picture and a part of it, the part is taken from the larger one, and then they differ little."""
    whole = smooth(4, 640, 480)
    part = whole[48:432, 96:608]
    for pair, name in (((whole, part), "one"), ((part, whole), "other")):
        laid = overlay(*pair)
        assert laid.part_of == name
        assert np.allclose(laid.part_xyxy, (0.15, 0.1, 0.95, 0.9), atol=0.02)
        assert measure_difference(laid.one, laid.other).mean < 10


def test_a_mirrored_copy_is_turned_back():
    """A mirrored copy is found out, and then nothing differs."""
    one = smooth(5)
    laid = overlay(one, np.ascontiguousarray(one[:, ::-1]))
    assert laid.mirrored
    assert measure_difference(laid.one, laid.other).mean == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (5, 3), (40, 2000)])
def test_pictures_of_any_size(size):
    """Pictures of any size can be laid over each other, plain ones too."""
    for other in (smooth(6), np.zeros((30, 30, 3), np.uint8), np.full((*size, 3), 7, np.uint8)):
        one = np.full((*size, 3), 200, np.uint8)
        for pair in ((one, other), (other, one)):
            laid = overlay(*pair)
            assert np.isfinite(measure_difference(laid.one, laid.other).ssim)


def test_gain_has_limits():
    """A gain below 1 or above 64, and one that is no number, is refused; so are pictures of two sizes."""
    image = smooth(1)
    for gain in (0, -1, 65, float("nan"), float("inf")):
        with pytest.raises(InputError):
            draw_difference(image, image, gain)
    with pytest.raises(InputError):
        measure_difference(image, image[1:])


def test_two_images_of_a_lake(tmp_path):
    """Of an original and a smaller copy without EXIF: the original is larger, sharper and has what the copy lost."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Model"
    image = make_image(7, 400, 300)
    Image.fromarray(image).save(tmp_path / "one.jpg", quality=95, exif=exif)
    (tmp_path / "other.jpg").write_bytes(encode(cv2.GaussianBlur(cv2.resize(image, (200, 150)), (0, 0), 2), "JPEG"))
    lake = imagelake.open(tmp_path / "lake", create=True)
    lake.ingest(tmp_path)
    gallery = Gallery(lake.tables, None)
    ids = {each["name"]: each["id"] for each in gallery.catalog().columns.select(["name", "id"]).to_pylist()}
    differences = Differences(gallery)
    told = differences.told(ids["one.jpg"], ids["other.jpg"][:16])
    assert told["better"]["pixels"] == told["better"]["sharper"] == told["better"]["exif"] == 0
    assert {"Make", "Model"} <= set(told["lost"])
    assert told["gained"] == [] or "Make" not in told["gained"]
    assert differences.drawn(ids["one.jpg"], ids["other.jpg"], 8).startswith(b"\x89PNG")
    for wrong in ("0" * 64, "", "..", "x" * 10_000):
        with pytest.raises(InputError):
            differences.told(ids["one.jpg"], wrong)
