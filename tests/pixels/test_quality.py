"""Each flag is found on a picture made for it, and not on its good original."""

import dataclasses

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from imagelake.errors import InputError
from imagelake.pixels.describe import describe, measure_file
from imagelake.pixels.figures import measure
from imagelake.pixels.quality import (
    COLUMNS,
    DEFAULTS,
    FLAGS,
    NAMES,
    NEW_COLUMNS,
    Thresholds,
    flag_lists,
    flags_of,
    passes,
    thresholds_from,
)
from pictures import encode, every_picture


def photo(seed=0, width=400, height=300):
    """Blobs of all sizes with grain: sharp, well lit, of full contrast. Shape (height, width, 3), uint8."""
    numbers = np.random.default_rng(seed)
    layers = [(6, 8, 0.45), (24, 32, 0.3), (height // 3, width // 3, 0.25)]
    image = sum(
        share * cv2.resize(numbers.integers(0, 256, (h, w, 3)).astype(np.float32), (width, height))
        for h, w, share in layers
    )
    return np.clip(128 + (image - 128) * 1.3 + numbers.normal(0, 2, image.shape), 0, 245).astype(np.uint8)


def screenshot(dark=False):
    """A window with a bar, buttons and lines of text."""
    ground, ink = ((30, 32, 38), (220, 222, 226)) if dark else ((250, 250, 250), (30, 30, 34))
    image = Image.new("RGB", (1280, 800), ground)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 1280, 44), fill=(60, 90, 160))
    for y in range(64, 700, 28):
        pen.text(
            (40, y),
            "the lake keeps each picture once with its figures " * (1 + y % 2),
            fill=ink,
            font=ImageFont.load_default(size=18),
        )
    pen.rectangle((900, 200, 1100, 260), fill=(200, 60, 60))
    return np.asarray(image)


def flags(image):
    return flags_of(measure(image), image.shape[1], image.shape[0])


SPOILED = {
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 4),
    "dark": lambda image: (image * 0.25).astype(np.uint8),
    "overexposed": lambda image: np.clip(image.astype(np.float32) * 2.2, 0, 255).astype(np.uint8),
    "low_contrast": lambda image: (110 + (image - 110.0) * 0.2).astype(np.uint8),
    "tiny": lambda image: image[:40, :60],
    "extreme_aspect": lambda image: image[:80],
    "near_constant": lambda image: (200 + np.random.default_rng(1).normal(0, 2, image.shape)).astype(np.uint8),
    "screenshot": lambda _: screenshot(),
}  # fmt: skip


def test_every_flag_has_a_figure_a_threshold_and_a_spoiled_picture():
    """Nothing is listed that does not work."""
    assert set(SPOILED) == set(NAMES)
    assert {field.name for field in dataclasses.fields(Thresholds)} == {*NAMES, "screenshot_flat"}
    for flag in FLAGS:
        assert f"{getattr(DEFAULTS, flag.name):g}" in flag.rule(DEFAULTS)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("flag", SPOILED)
def test_the_spoiled_picture_is_flagged_and_its_original_is_not(flag, seed):
    """One word for each way to spoil a picture."""
    good = photo(seed)
    assert flags(good) == []
    assert flag in flags(SPOILED[flag](good))


def test_a_flag_says_what_is_wrong_and_not_something_else():
    """A dark or dull copy is not blurred; one color is not blurred; a screenshot has no exposure."""
    good = photo()
    assert flags(SPOILED["dark"](good)) == ["dark", "low_contrast"]
    assert flags(SPOILED["low_contrast"](good)) == ["low_contrast"]
    assert flags(SPOILED["blurred"](good)) == ["blurred"]
    assert flags(SPOILED["near_constant"](good)) == ["low_contrast", "near_constant"]
    assert flags(screenshot()) == flags(screenshot(dark=True)) == ["screenshot"]
    assert flags(np.full((90, 90, 3), 255, np.uint8)) == ["overexposed", "low_contrast", "near_constant"]


def test_flags_survive_jpeg_and_size():
    """What is blurred, drawn or good stays so as a JPEG of quality 75 and at twice the size."""
    for image in (photo(), SPOILED["blurred"](photo()), screenshot()):
        width, height, figures = measure_file(encode(image, quality=75))
        assert flags_of(figures, width, height) == flags(image)
        larger = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        assert flags(larger) == flags(image)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 3), (4, 4), (5000, 1), (1, 5000)])
def test_odd_sizes_have_figures(size):
    """No shape is too thin, and shares are shares."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    figures = measure(image)
    assert all(0 <= getattr(figures, name) <= 1 for name in NEW_COLUMNS if name.endswith("share"))
    assert figures.fineness >= 0
    assert "tiny" in flags(image)


def test_the_new_figures_are_their_formulas():
    """Those of NumPy, on a picture that is not reduced."""
    image = photo(3, 200, 150)
    image[40:100, 20:150] = 255
    figures = measure(image)
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    down, across = np.diff(luma, axis=0), np.diff(luma, axis=1)
    assert figures.fineness == pytest.approx(figures.sharpness / ((down**2).mean() + (across**2).mean()))
    assert figures.bright_share == pytest.approx((luma >= 250).mean(), abs=1e-6)
    assert figures.flat_share == pytest.approx((down == 0).mean())
    assert figures.luma_p95 == np.quantile(luma, 0.95, method="inverted_cdf")
    low, high = np.quantile(luma, (0.01, 0.99), method="inverted_cdf")
    assert figures.luma_range == high - low
    changes, jumps = np.abs(down[1:-1]) > 3, np.abs(down[1:-1]) > 24
    crisp = jumps & ((down[:-2] == 0) | (down[2:] == 0))
    assert figures.crisp_share == pytest.approx(crisp.sum() / max(changes.sum(), 0.01 * luma.size))
    assert figures.flat_share > 0.2
    plain = measure(photo(3, 200, 150))
    assert (plain.flat_share < 0.2, plain.crisp_share) == (True, 0)


@pytest.mark.parametrize(("name", "data"), every_picture().items())
def test_measuring_a_file_is_describing_it(name, data):
    """The same figures and size from either, for every format."""
    described = describe(data)
    assert measure_file(data) == (described.width, described.height, described.figures)


def test_many_at_once_are_each_alone():
    """Arrays of figures, as the lake rounds them, give what one picture at a time gives."""
    images = [spoil(photo(seed)) for seed, spoil in enumerate(SPOILED.values())] + [photo(9), screenshot(dark=True)]
    rows = []
    for image in images:
        figures = measure(image)
        std = dict(zip(("std_r", "std_g", "std_b"), figures.std_rgb, strict=True))
        rows.append(
            {"width": image.shape[1], "height": image.shape[0], **std} | {n: getattr(figures, n) for n in NEW_COLUMNS}
        )
    columns = {name: np.array([row[name] for row in rows], np.float32).astype(np.float64) for name in COLUMNS}
    assert flag_lists(columns) == [flags(image) for image in images]
    assert flag_lists({name: values[:0] for name, values in columns.items()}) == []


def test_what_is_not_known_is_not_flagged():
    """A figure that is NaN holds for no flag."""
    nothing = {name: np.full(2, np.nan) for name in COLUMNS}
    assert not any(held.any() for held in passes(nothing).values())


def test_thresholds_from_words():
    """Those named change, the others stay."""
    assert thresholds_from([]) == DEFAULTS
    changed = thresholds_from(["blurred=60", "screenshot_flat = 0.3"])
    assert changed == dataclasses.replace(DEFAULTS, blurred=60, screenshot_flat=0.3)
    assert "blurred" in flags_of(measure(photo()), 400, 300, changed)


@pytest.mark.parametrize("word", ["ugly=1", "=1", "", "blurred", "blurred=", "blurred=x", "dark=nan", "dark=-1"])
def test_a_wrong_word_is_refused_with_what_is_allowed(word):
    """The names, or the form."""
    with pytest.raises(InputError) as error:
        thresholds_from([word])
    assert "near_constant" in str(error.value) or "=NUMBER" in str(error.value)
