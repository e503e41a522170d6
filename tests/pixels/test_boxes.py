import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagelake.errors import InputError
from imagelake.pixels import boxes as b

EMPTY = np.zeros((0, 4), np.float32)
whole = st.integers(0, 60)


@st.composite
def some_boxes(draw):
    count = draw(st.integers(0, 6))
    made = []
    for _ in range(count):
        x, y, w, h = draw(whole), draw(whole), draw(st.integers(1, 40)), draw(st.integers(1, 40))
        made.append([x, y, x + w, y + h])
    return np.array(made, np.float32).reshape(-1, 4)


def painted_iou(one, other):
    """The same by counting pixels of boxes with whole edges."""
    canvases = np.zeros((2, 110, 110), bool)
    for canvas, (x1, y1, x2, y2) in zip(canvases, (one.astype(int), other.astype(int)), strict=True):
        canvas[y1:y2, x1:x2] = True
    return (canvases[0] & canvases[1]).sum() / (canvases[0] | canvases[1]).sum()


@given(some_boxes(), some_boxes())
def test_overlap_is_what_counting_pixels_gives(one, other):
    """Intersection over union equals the count of shared pixels over that of all pixels covered."""
    found = b.iou(one, other)
    assert found.shape == (len(one), len(other))
    for i, first in enumerate(one):
        for j, second in enumerate(other):
            assert found[i, j] == pytest.approx(painted_iou(first, second))


def test_boxes_without_area_overlap_nothing():
    """A box that is a point or turned round has area 0 and overlap 0, itself included."""
    odd = np.array([[5, 5, 5, 5], [9, 9, 3, 3]])
    assert not b.iou(odd, odd).any()
    assert not b.area(odd).any()


@given(some_boxes())
def test_flipping_twice_changes_nothing(boxes):
    """A flip is its own inverse, and turns both edges of the axis."""
    for axis in ("horizontal", "vertical", "both"):
        assert np.array_equal(b.flip(b.flip(boxes, (100, 90), axis), (100, 90), axis), boxes)
    assert np.array_equal(b.flip(b.flip(boxes, (100, 90)), (100, 90), "vertical"), b.flip(boxes, (100, 90), "both"))


@given(some_boxes())
def test_boxes_return_from_other_forms(boxes):
    """Center form and back, scaled and back: the same boxes."""
    np.testing.assert_allclose(b.from_center(b.to_center(boxes)), boxes, atol=1e-4)
    np.testing.assert_allclose(b.scale(b.scale(boxes, (1 / 100, 1 / 80)), (100, 80)), boxes, atol=1e-4)


@given(some_boxes(), st.floats(-180, 180), st.floats(0.2, 5))
def test_a_projected_box_holds_its_corners(boxes, degrees, factor):
    """The hull of a turned box touches the four turned corners; a turn back gives a box that holds the first one."""
    angle = np.radians(degrees)
    c, s = factor * np.cos(angle), factor * np.sin(angle)
    matrix = np.array([[c, s, 3.0], [-s, c, -7.0], [0, 0, 1]])
    hulls = b.project(boxes, matrix)
    for box, hull in zip(boxes, hulls, strict=True):
        corners = np.array([[x, y, 1] for x in box[[0, 2]] for y in box[[1, 3]]]) @ matrix.T
        expected = [*corners[:, :2].min(axis=0), *corners[:, :2].max(axis=0)]
        np.testing.assert_allclose(hull, expected, atol=1e-3)
    back = b.project(hulls, np.linalg.inv(matrix))
    assert (back[:, :2] <= boxes[:, :2] + 1e-2).all()
    assert (back[:, 2:] >= boxes[:, 2:] - 1e-2).all()


def test_clipping_growing_and_centers():
    """Boxes are cut at the picture's edges; a margin is a share of the box; a center on the edge is not inside."""
    assert b.clip([[-5, 2, 20, 50], [30, 30, 40, 40]], (10, 20)).tolist() == [[0, 2, 10, 20], [10, 20, 10, 20]]
    assert b.grow([[10, 10, 20, 30]], 0.5).tolist() == [[5, 0, 25, 40]]
    assert b.center_inside([[0, 0, 10, 10], [0, 0, 4, 4]], [5, 0, 9, 9]).tolist() == [False, False]
    assert b.center_inside([[4, 0, 10, 10]], [5, 0, 9, 9]).tolist() == [True]


@pytest.mark.parametrize("function", [b.area, b.to_center, b.from_center])
def test_no_boxes_are_fine(function):
    """Nothing in, nothing out."""
    assert len(function(EMPTY)) == 0
    assert len(function([])) == 0
    assert b.iou([], [[0, 0, 1, 1]]).shape == (0, 1)
    assert b.project([], np.eye(3)).shape == (0, 4)


def test_other_shapes_are_refused():
    """What is no list of four edges is refused with the shape that is allowed."""
    with pytest.raises(InputError, match=r"\[n, 4\]"):
        b.area(np.zeros((3, 5)))
    with pytest.raises(InputError, match="horizontal"):
        b.flip(np.zeros((1, 4)), (3, 3), "diagonal")
