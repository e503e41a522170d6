"""Boxes: how much they overlap, and where they lie after a picture was changed.

A box is `x1, y1, x2, y2`, its left, top, right and bottom edge, in pixels unless said otherwise. Edges are counted, not
pixel centers: a picture of width w reaches from 0 to w, its first pixel from 0 to 1. So resizing by a factor multiplies
every edge by that factor, and flipping takes x to w - x. (In pixel centers, as `cv2.warpAffine` counts, the first pixel
lies at 0: an edge coordinate is that plus one half.)
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.pixels.nms import batched_nms, nms

__all__ = [
    "Boxes",
    "area",
    "batched_nms",
    "center_inside",
    "clip",
    "flip",
    "from_center",
    "grow",
    "iou",
    "nms",
    "project",
    "scale",
    "to_center",
]

Boxes = NDArray[np.float32]
"""float32 [n, 4]."""


def area(boxes_xyxy: NDArray[Any]) -> NDArray[np.float64]:
    """The area of each box [n, 4], float64 [n]; 0 where a side is turned round."""
    boxes = _checked(boxes_xyxy)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1])


def iou(boxes_xyxy: NDArray[Any], others_xyxy: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union (the Jaccard index) of each box [n, 4] with each other box [m, 4].

    Returns:
        float64 [n, m], 0 to 1; 0 where both boxes are empty.
    """
    boxes, others = _checked(boxes_xyxy), _checked(others_xyxy)
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    sides = np.maximum(high - low, 0)
    shared = sides[..., 0] * sides[..., 1]
    union = area(boxes)[:, None] + area(others)[None, :] - shared
    return np.asarray(shared / np.where(union > 0, union, 1))


def clip(boxes_xyxy: NDArray[Any], size_wh: tuple[float, float]) -> Boxes:
    """Boxes [n, 4] cut off at the edges of a picture of `size_wh`; a box outside becomes one without area."""
    limits = np.array([*size_wh, *size_wh], np.float64)
    return np.clip(_checked(boxes_xyxy), 0, limits).astype(np.float32)


def scale(boxes_xyxy: NDArray[Any], factors_xy: tuple[float, float]) -> Boxes:
    """Boxes [n, 4] times a factor for x and one for y: to [0, 1] with `(1 / width, 1 / height)`, and back."""
    return (_checked(boxes_xyxy) * np.array([*factors_xy, *factors_xy], np.float64)).astype(np.float32)


def flip(
    boxes_xyxy: NDArray[Any],
    size_wh: tuple[float, float],
    axis: Literal["horizontal", "vertical", "both"] = "horizontal",
) -> Boxes:
    """Boxes [n, 4] in the mirrored picture: left and right change sides with `horizontal`.

    Raises:
        InputError: the axis is another word.
    """
    if axis not in {"horizontal", "vertical", "both"}:
        raise InputError(f"axis {axis!r} is not known; use one of horizontal, vertical, both")
    boxes = _checked(boxes_xyxy).copy()
    if axis != "vertical":
        boxes[:, [0, 2]] = size_wh[0] - boxes[:, [2, 0]]
    if axis != "horizontal":
        boxes[:, [1, 3]] = size_wh[1] - boxes[:, [3, 1]]
    return boxes.astype(np.float32)


def grow(boxes_xyxy: NDArray[Any], margin: float) -> Boxes:
    """Boxes [n, 4] with `margin` times its width added left and right of each, and of its height above and below."""
    boxes = _checked(boxes_xyxy)
    reach = (boxes[:, 2:] - boxes[:, :2]) * margin
    return np.concatenate([boxes[:, :2] - reach, boxes[:, 2:] + reach], axis=1).astype(np.float32)


def project(boxes_xyxy: NDArray[Any], matrix: NDArray[np.floating[Any]]) -> Boxes:
    """Where boxes [n, 4] lie after a map of the plane.

    Args:
        boxes_xyxy: the boxes.
        matrix: float64 [3, 3], which takes edge coordinates `(x, y, 1)` to new ones.

    Returns:
        float32 [n, 4]: of each box the smallest box around its four corners, so that a turned one grows.
    """
    boxes = _checked(boxes_xyxy)
    x, y = boxes[:, [0, 2, 2, 0]], boxes[:, [1, 1, 3, 3]]
    weight = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
    new_x = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / weight
    new_y = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / weight
    edges = [new_x.min(axis=1), new_y.min(axis=1), new_x.max(axis=1), new_y.max(axis=1)]
    return np.stack(edges, axis=1).astype(np.float32)


def center_inside(boxes_xyxy: NDArray[Any], window_xyxy: NDArray[Any]) -> NDArray[np.bool_]:
    """Of which boxes [n, 4] the center lies inside one window [4], bool [n]."""
    boxes = _checked(boxes_xyxy)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    window = np.asarray(window_xyxy, np.float64)
    return np.asarray(((centers > window[:2]) & (centers < window[2:])).all(axis=1))


def from_center(boxes_cxcywh: NDArray[Any]) -> Boxes:
    """Boxes [n, 4] from their center, width and height."""
    boxes = _checked(boxes_cxcywh)
    reach = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - reach, boxes[:, :2] + reach], axis=1).astype(np.float32)


def to_center(boxes_xyxy: NDArray[Any]) -> NDArray[np.float32]:
    """The center, width and height of boxes, float32 [n, 4]."""
    boxes = _checked(boxes_xyxy)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float32)


def _checked(boxes: NDArray[Any]) -> NDArray[np.float64]:
    """Boxes as float64 [n, 4]; an empty list has no boxes.

    Raises:
        InputError: the array has another shape.
    """
    array = np.asarray(boxes, np.float64)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"boxes of shape {array.shape} are not allowed; give [n, 4]: left, top, right, bottom")
    return array
