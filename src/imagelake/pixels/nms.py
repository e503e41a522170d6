"""Non-maximum suppression: of boxes that overlap much, keep the one with the best score."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError

_PAIRS_AT_ONCE = 1 << 14
"""How many pairs of boxes are looked at together: few enough to stay in the cache of a processor."""

_SLACK = 1e-6
"""By how much of a box's reach the search for pairs looks further than it must, so that rounding loses none."""


def nms(
    boxes_xyxy: NDArray[Any],
    scores: NDArray[Any],
    class_ids: NDArray[Any] | None = None,
    *,
    iou_threshold: float = 0.45,
    score_threshold: float = 0.0,
    limit: int | None = None,
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression, exact: the best box stays, those that overlap it more than allowed go, and so on.

    Of equal scores, the box that comes first in the input counts as the better one, so the result never depends on the
    machine. Boxes and scores with a value that is not finite are left out.

    Args:
        boxes_xyxy: [n, 4], in any unit.
        scores: [n], the higher the better.
        class_ids: [n] whole numbers; boxes of different classes do not suppress each other. None: all are one class.
        iou_threshold: a box goes where its intersection over union with a better one is greater than this.
        score_threshold: boxes with a lower score are left out.
        limit: how many are returned at most; None: all.

    Returns:
        Indices of the boxes kept, int64, best first.

    Raises:
        InputError: the shapes do not fit together, or the threshold is outside 0 to 1.
    """
    boxes, values = np.asarray(boxes_xyxy), np.asarray(scores)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    classes = None if class_ids is None else np.asarray(class_ids)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or values.shape != (len(boxes),):
        raise InputError(f"boxes {boxes.shape} and scores {values.shape} do not fit; give [n, 4] and [n]")
    if classes is not None and classes.shape != values.shape:
        raise InputError(f"{classes.shape} class ids do not fit {values.shape} scores; give one for each box")
    if not 0 <= iou_threshold <= 1:
        raise InputError(f"iou_threshold {iou_threshold!r} is not allowed; give a number from 0 to 1")
    usable = np.flatnonzero((values >= score_threshold) & np.isfinite(values) & np.isfinite(boxes).all(axis=1))
    ranked = usable[np.argsort(-values[usable].astype(np.float64), kind="stable")]
    if len(ranked) < 2:
        return ranked[:limit]
    chosen = boxes[ranked].astype(np.float64)
    better, worse = _conflicts(chosen, None if classes is None else classes[ranked], iou_threshold)
    return ranked[_settle(len(ranked), better, worse)][:limit]


def batched_nms(
    boxes_xyxy: NDArray[Any],
    class_scores: NDArray[Any],
    *,
    iou_threshold: float = 0.45,
    score_threshold: float = 0.0,
    candidates: int | None = None,
    limit: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Suppress in all classes of one picture at once, each box being a candidate in each class.

    Args:
        boxes_xyxy: [n, 4], shared by all classes.
        class_scores: [n, classes].
        iou_threshold: see `nms`.
        score_threshold: pairs of box and class with a lower score are left out.
        candidates: how many pairs, the best ones, are looked at (`nms_top_k` in SSD, there for each class); None: all.
        limit: how many are returned at most; None: all.

    Returns:
        Which boxes and which classes are kept, int64 [k] each, best first; among equals, the lower index first.

    Raises:
        InputError: as for `nms`.
    """
    boxes, scores = np.asarray(boxes_xyxy), np.asarray(class_scores)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if scores.ndim != 2 or len(scores) != len(boxes):
        raise InputError(f"boxes {boxes.shape} and class scores {scores.shape} do not fit; give [n, 4], [n, classes]")
    flat = np.flatnonzero(scores >= score_threshold)
    values = scores.ravel()[flat]
    if candidates is not None and len(flat) > candidates:
        best = np.argsort(-values.astype(np.float64), kind="stable")[:candidates]
        best.sort()
        flat, values = flat[best], values[best]
    box_ids, class_ids = np.divmod(flat, max(1, scores.shape[1]))
    kept = nms(
        boxes[box_ids], values, class_ids, iou_threshold=iou_threshold, score_threshold=score_threshold, limit=limit
    )
    return box_ids[kept], class_ids[kept]


def _conflicts(
    boxes: NDArray[np.float64], classes: NDArray[Any] | None, iou_threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of boxes, by rank, of one class and with too much overlap: the better ones and the worse ones.

    Boxes are sorted by class and left edge. An overlap above the threshold t needs a shared width above t times the
    wider one, so the second box of a pair begins before the first has passed 1 - t of its width: only those that do
    are compared, not all with all.
    """
    count = len(boxes)
    group = np.zeros(count, np.int64) if classes is None else np.unique(classes, return_inverse=True)[1].reshape(-1)
    order = np.lexsort((boxes[:, 0], group))
    x1, y1, x2, y2 = (np.ascontiguousarray(column) for column in boxes[order].T)
    group = group[order]
    width, height = np.maximum(x2 - x1, 0), np.maximum(y2 - y1, 0)
    areas = width * height
    last = _last_candidates(x1, width, group, iou_threshold)
    counts = last - np.arange(count) - 1
    ends = np.cumsum(counts)
    better, worse = [], []
    start = 0
    while start < count:
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, side="right")))
        rows, each = np.arange(start, stop), counts[start:stop]
        first = np.repeat(rows, each)
        second = np.arange(len(first)) - np.repeat(ends[start:stop] - each - done - rows - 1, each)
        shared_h = np.minimum(y2[first], y2[second]) - np.maximum(y1[first], y1[second])
        shared_w = np.minimum(x2[first], x2[second]) - x1[second]  # the second one begins further right
        shared = shared_w * np.maximum(shared_h, 0)
        # Indices, since a mask of which half the bits are set takes ten times as long as the arithmetic.
        over = np.flatnonzero(shared > iou_threshold * (areas[first] + areas[second] - shared))
        one, other = order[first[over]], order[second[over]]
        better.append(np.minimum(one, other))
        worse.append(np.maximum(one, other))
        start = stop
    return np.concatenate(better), np.concatenate(worse)


def _last_candidates(
    x1: NDArray[np.float64], width: NDArray[np.float64], group: NDArray[np.int64], iou_threshold: float
) -> NDArray[np.int64]:
    """For each box, sorted by group and left edge, one past the last box whose left edge is near enough."""
    reach = width * (1 - iou_threshold)
    span = max(float(x1.max() - x1.min() + reach.max()), 1e-30) * 2
    along = (x1 - x1.min()) / span  # 0 to below 1, so that the number of the group can stand before it
    ends = np.searchsorted(group + along, group + along + reach / span + _SLACK, side="right")
    return np.asarray(np.minimum(ends, np.searchsorted(group, group, side="right")), np.int64)


def _settle(count: int, better: NDArray[np.int64], worse: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which boxes the greedy rule keeps, given the pairs that cannot both stay.

    In each round a box that no open pair calls worse is kept for good, and all that are worse than it go; pairs with a
    box that is gone are no longer open. That is the greedy result, since a box only depends on better ones.
    """
    kept = np.ones(count, np.bool_)
    while len(better):
        threatened = np.zeros(count, np.bool_)
        threatened[worse] = True
        kept[worse[~threatened[better]]] = False
        open_pairs = kept[better] & kept[worse]
        better, worse = better[open_pairs], worse[open_pairs]
    return kept
