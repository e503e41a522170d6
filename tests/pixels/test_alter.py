from __future__ import annotations

import numpy as np
import pytest

from imagelake.pixels.alter import ALTERATIONS, crop, relight, rotate, shrink
from pictures import mean_difference, scene


@pytest.mark.parametrize("name", ALTERATIONS)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 300), (60, 40)])
def test_every_alteration_gives_a_picture(name, width, height):
    """Whatever its size, a picture is altered into another one, and is itself left alone."""
    image_rgb = scene(width, height)
    altered = ALTERATIONS[name](image_rgb)
    assert (altered.dtype, altered.ndim, altered.shape[2]) == (np.uint8, 3, 3)
    assert altered.size > 0
    assert np.array_equal(image_rgb, scene(width, height))


@pytest.mark.parametrize("name", ALTERATIONS)
def test_every_alteration_changes_something(name):
    """No alteration is the picture itself."""
    altered = ALTERATIONS[name](scene())
    assert altered.shape != scene().shape or not np.array_equal(altered, scene())


def test_a_crop_is_the_part_that_was_asked_for():
    """Place (0, 0) is the top left, (1, 1) the bottom right."""
    assert np.array_equal(crop(scene(), 0.5, (0, 0)), scene()[:20, :30])
    assert np.array_equal(crop(scene(), 0.5, (1, 1)), scene()[20:, 30:])


def test_turning_by_nothing_changes_nothing():
    """A turn by 0 degrees is the picture itself; a quarter turns counterclockwise."""
    assert np.array_equal(rotate(scene(), 0), scene())
    square = scene(41, 41)
    assert mean_difference(rotate(square, 90)[2:-2, 2:-2], np.rot90(square)[2:-2, 2:-2]) < 8


def test_light_is_clipped():
    """Values above 255 stay 255."""
    assert relight(np.full((2, 2, 3), 200, np.uint8), 1.5).max() == 255
    assert shrink(scene(), 100).shape == (1, 1, 3)
