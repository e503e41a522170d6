"""The box around the main subject: what it is in, what it is of, and that it does not depend on its company."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from imagelake.errors import InputError, ModelError
from imagelake.models.class_activation import (
    activation_map,
    agree_with_colors,
    enlarge,
    heaviest_part,
    stretch,
)
from imagelake.models.subject import LABELS, open_subject
from imagelake.pixels.fit import fit
from pictures import make_image


@pytest.fixture(scope="module")
def detector(model_cache):
    return open_subject(threads=1, cache_dir=model_cache)


def gradient(height=360, width=480):
    """A plain ground: gray-blue, lighter towards the bottom right."""
    y, x = np.mgrid[0:height, 0:width]
    shade = 110 + 40 * y / height + 20 * x / width
    return np.stack([shade * 0.85, shade * 0.95, shade], axis=2).astype(np.uint8)


def cup_on_gradient(photos, left, top, side=170):
    """The coffee cup in an oval on the plain ground, and the box of the oval in [0, 1]."""
    scene = gradient()
    cup = fit(np.ascontiguousarray(photos["coffee"][0][20:380, 150:480]), (side, side), "squash")
    y, x = np.mgrid[0:side, 0:side]
    oval = (x - side / 2) ** 2 + (y - side / 2) ** 2 < (side / 2) ** 2
    scene[top : top + side, left : left + side][oval] = cup[oval]
    height, width = scene.shape[:2]
    return scene, np.array([left / width, top / height, (left + side) / width, (top + side) / height])


def iou(one, other):
    sides = np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0)
    shared = np.prod(sides)
    return shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared)


def found_in(detector, *images):
    return detector.detect([detector.prepare(image) for image in images])


def test_no_pictures_give_no_answers(detector):
    """An empty list is answered by an empty list."""
    assert detector.detect([]) == []


def test_it_says_what_it_finds(detector):
    """A detector tells its labels, its batch, and what side decoding must keep."""
    assert detector.labels == LABELS == ("subject",)
    assert detector.batch >= 1
    assert detector.min_side == detector.manifest.input_size_wh[0]


@pytest.mark.parametrize("size_wh", [(1, 1), (3, 200), (160, 120), (500, 333)])
def test_boxes_lie_in_the_picture(detector, size_wh):
    """Whatever the size: at most one box, in [0, 1] with some area, its score in [0, 1], its class 0."""
    (found,) = found_in(detector, make_image(3, *size_wh))
    assert len(found) <= 1
    assert (found.boxes_xyxy.dtype, found.scores.dtype, found.class_ids.dtype) == (np.float32, np.float32, np.int32)
    for box, score in zip(found.boxes_xyxy, found.scores, strict=True):
        assert box.shape == (4,)
        assert (box >= 0).all()
        assert (box <= 1).all()
        assert (box[2:] > box[:2]).all()
        assert 0 <= score <= 1
    assert not found.class_ids.any()


def test_company_does_not_matter(detector, photos):
    """A picture has the same box alone, in any batch and at any place in it, every time."""
    images = [image for image, _ in photos.values()] + [make_image(seed) for seed in range(4)]
    together = found_in(detector, *images)
    for image, expected in [*zip(images, together, strict=True), *zip(images[::-1], together[::-1], strict=True)]:
        (alone,) = found_in(detector, image)
        np.testing.assert_allclose(alone.boxes_xyxy, expected.boxes_xyxy)
        np.testing.assert_allclose(alone.scores, expected.scores, atol=1e-4)
    for one, other in zip(together, found_in(detector, *images[::-1])[::-1], strict=True):
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy)


@pytest.mark.parametrize(("left", "top"), [(10, 10), (280, 20), (30, 170), (290, 180), (150, 95)])
def test_an_object_on_a_plain_ground_is_found(detector, photos, left, top):
    """A cup on a plain ground is boxed wherever it lies: IoU of 0.6 and more, where the whole picture has 0.17."""
    scene, truth = cup_on_gradient(photos, left, top)
    (found,) = found_in(detector, scene)
    assert iou(found.boxes_xyxy[0], truth) > 0.6
    assert found.scores[0] > 0.3


@pytest.mark.parametrize("level", [0, 128, 255])
def test_nothing_is_found_in_one_color(detector, level):
    """A flat picture has no subject: no detection, so the whole picture is taken by whoever asked."""
    (found,) = found_in(detector, np.full((200, 300, 3), level, np.uint8))
    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)


def test_a_picture_of_another_kind_is_refused(detector):
    """An array that is no picture is an input error; a prepared one of another size is a model error."""
    with pytest.raises(InputError):
        detector.prepare(np.zeros((20, 20), np.uint8))
    good = detector.prepare(make_image(1))
    with pytest.raises(ModelError, match="was not prepared"):
        detector.detect([good, dataclasses.replace(good, array=good.array[:32])])
    with pytest.raises(ModelError, match="0 threads"):
        open_subject(threads=0)


def test_a_map_of_equal_cells_is_cold():
    """Where no cell differs there is no heat, and no part."""
    heat = activation_map(np.ones((5, 3, 4), np.float32))
    assert heat.shape == (3, 4)
    assert not heat.any()
    assert heaviest_part(heat, 0.5) is None


def test_what_has_more_features_is_hot():
    """The cells in which channels burn are at 1, the others at 0, whatever the sign of the component."""
    features = np.zeros((6, 4, 5), np.float32)
    features[:, 1:3, 2:4] = np.arange(1, 7)[:, None, None]
    expected = np.zeros((4, 5))
    expected[1:3, 2:4] = 1
    np.testing.assert_allclose(activation_map(features), expected, atol=1e-6)


@pytest.mark.parametrize("cells", [(1, 1), (2, 3), (12, 12)])
def test_enlarging_keeps_the_range(cells):
    """Interpolated values lie between the smallest and the largest; equal ones stay equal."""
    heat = np.random.default_rng(0).random(cells)
    large = enlarge(heat, 64)
    assert large.shape == (64, 64)
    assert large.min() >= heat.min() - 1e-12
    assert large.max() <= heat.max() + 1e-12
    np.testing.assert_allclose(enlarge(np.full(cells, 0.25), 64), 0.25)


def test_colors_fill_an_object():
    """A cold cell whose color is hot elsewhere becomes hotter than one of equal heat whose color is cold."""
    heat = np.full((8, 8), 0.2)
    heat[:, 3:5] = 1.0
    colors = np.zeros((8, 8, 3))
    colors[:, 2:5] = (250, 20, 20)
    agreed = agree_with_colors(heat, colors)
    assert (agreed[:, 2] > agreed[:, 5]).all()
    assert agreed.max() == 1


def test_the_heaviest_part_wins():
    """Of several connected parts the one whose heat sums to most is boxed; corners do not connect, bends do."""
    heat = np.zeros((10, 12))
    heat[0:3, 0:3] = 0.9  # nine cells
    heat[3, 3] = 0.9  # touches only by a corner
    heat[5, 5:12] = heat[5:9, 11] = heat[8, 5:12] = heat[6:8, 5] = 0.9  # a ring of twenty
    assert heaviest_part(heat, 0.5) == (5, 5, 12, 9)
    heat[0:3, 0:3] = 9.0
    assert heaviest_part(heat, 0.5) == (0, 0, 3, 3)


def test_parts_that_meet_below_are_one():
    """A U is one part, though its arms begin apart."""
    heat = np.zeros((5, 7))
    heat[0:4, 1] = heat[0:4, 5] = heat[4, 1:6] = 1
    assert heaviest_part(heat, 0.5) == (1, 0, 6, 5)


def test_stretching_empty_heat():
    """Equal values stretch to 0, others to exactly 0 and 1."""
    assert not stretch(np.full((2, 2), 3.0)).any()
    assert set(stretch(np.array([2.0, 4.0]))) == {0.0, 1.0}
