import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagelake.errors import InputError
from imagelake.pixels import nms as module
from imagelake.pixels.boxes import iou
from imagelake.pixels.nms import batched_nms, nms


def plain_nms(boxes, scores, class_ids=None, iou_threshold=0.45, score_threshold=0.0, limit=None):
    """The rule, word for word: take the best box, drop those of its class that overlap it too much, go on."""
    class_ids = [0] * len(boxes) if class_ids is None else class_ids
    waiting = sorted((i for i in range(len(boxes)) if scores[i] >= score_threshold), key=lambda i: (-scores[i], i))
    kept = []
    while waiting:
        best = waiting.pop(0)
        kept.append(best)
        overlap = iou(boxes[best : best + 1], boxes)[0]
        waiting = [i for i in waiting if class_ids[i] != class_ids[best] or overlap[i] <= iou_threshold]
    return kept[:limit]


def crowd(seed, count, classes=1, spread=100, ties=False):
    rng = np.random.default_rng(seed)
    corner, side = rng.uniform(0, spread, (count, 2)), rng.uniform(1, 60, (count, 2))
    scores = rng.integers(0, 5, count) / 4 if ties else rng.random(count)
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    return boxes, scores.astype(np.float32), rng.integers(0, classes, count)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 70),
    classes=st.integers(1, 4),
    ties=st.booleans(),
    iou_threshold=st.sampled_from([0.0, 0.1, 0.3, 0.45, 0.5, 0.7, 0.95, 1.0]),
    score_threshold=st.sampled_from([0.0, 0.25, 0.8]),
    limit=st.sampled_from([None, 0, 1, 5]),
)
def test_the_greedy_rule_holds(seed, count, classes, ties, iou_threshold, score_threshold, limit):
    """The result is that of the plain rule, for any crowd, with equal scores, classes, thresholds and a limit."""
    boxes, scores, class_ids = crowd(seed, count, classes, ties=ties)
    rule = {"iou_threshold": iou_threshold, "score_threshold": score_threshold, "limit": limit}
    assert nms(boxes, scores, class_ids, **rule).tolist() == plain_nms(boxes, scores, class_ids, **rule)
    assert nms(boxes, scores, **rule).tolist() == plain_nms(boxes, scores, **rule)


@pytest.mark.parametrize("spread", [1e-3, 30, 1e7])
def test_large_crowds_too(spread, monkeypatch):
    """Nor does it matter how many pairs are looked at together, or in which unit the boxes are."""
    boxes, scores, class_ids = crowd(3, 600, 3, spread)
    boxes = boxes * np.float32(min(spread, 1))
    expected = plain_nms(boxes, scores, class_ids)
    for at_once in (1, 100, 1 << 14):
        monkeypatch.setattr(module, "_PAIRS_AT_ONCE", at_once)
        assert nms(boxes, scores, class_ids).tolist() == expected


def test_a_chain_of_overlaps_spares_every_other():
    """A box that is gone suppresses nothing: of boxes that each overlap the next, every second stays."""
    x = np.arange(500) * 5.0
    boxes = np.stack([x, x * 0, x + 10, x * 0 + 10], axis=1)
    assert nms(boxes, np.linspace(1, 0.5, 500), iou_threshold=0.3).tolist() == list(range(0, 500, 2))


def test_of_equal_scores_the_first_box_stays():
    """Ties go by the place in the input, so the result is the same everywhere."""
    boxes = np.tile([[0.0, 0, 10, 10]], (4, 1))
    assert nms(boxes, np.full(4, 0.5)).tolist() == [0]
    assert nms(boxes, [0.5, 0.7, 0.7, 0.5]).tolist() == [1]
    assert nms(boxes, np.full(4, 0.5), [1, 0, 1, 0]).tolist() == [0, 1]


def test_an_overlap_at_the_threshold_stays():
    """A box goes where its overlap is greater than the threshold, not where it equals it."""
    boxes = [[0, 0, 10, 10], [0, 0, 10, 5]]  # an overlap of exactly one half
    assert nms(boxes, [0.9, 0.8], iou_threshold=0.5).tolist() == [0, 1]
    assert nms(boxes, [0.9, 0.8], iou_threshold=0.499).tolist() == [0]


def test_nothing_and_odd_values():
    """No boxes give no indices; boxes and scores that are no finite number are left out."""
    assert nms(np.zeros((0, 4)), np.zeros(0)).dtype == np.int64
    assert len(nms([], [])) == 0
    assert nms([[0, 0, 1, 1], [0, 0, np.nan, 1], [5, 5, 6, 6]], [np.nan, 0.9, 0.8]).tolist() == [2]
    assert nms([[0, 0, 0, 0], [0, 0, 0, 0]], [1, 1], iou_threshold=0.0).tolist() == [0, 1]
    assert [len(part) for part in batched_nms(np.zeros((0, 4)), np.zeros((0, 80)))] == [0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_all_classes_at_once_is_each_class_on_its_own(seed):
    """Every box as a candidate in every class: the union of what the rule keeps in each, best first."""
    rng = np.random.default_rng(seed)
    boxes, _, _ = crowd(seed, 60)
    scores = rng.integers(0, 100, (60, 5)).astype(np.float32) / 99
    box_ids, class_ids = batched_nms(boxes, scores, score_threshold=0.3)
    expected = [(-scores[i, c], i, c) for c in range(5) for i in plain_nms(boxes, scores[:, c], score_threshold=0.3)]
    assert list(zip(box_ids, class_ids, strict=True)) == [(i, c) for _, i, c in sorted(expected)]
    few_boxes, few_classes = batched_nms(boxes, scores, score_threshold=0.3, limit=4)
    assert few_boxes.tolist() == box_ids[:4].tolist()
    assert few_classes.tolist() == class_ids[:4].tolist()


def test_candidates_are_the_best_pairs():
    """With few candidates, pairs of box and class with lower scores are not looked at."""
    boxes = [[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]]
    box_ids, class_ids = batched_nms(boxes, [[0.1, 0.9], [0.5, 0.2], [0.5, 0.3]], candidates=2)
    assert box_ids.tolist() == [0, 1]
    assert class_ids.tolist() == [1, 0]


def test_shapes_that_do_not_fit_are_refused():
    """One score and one class for each box; a threshold between 0 and 1."""
    boxes = np.zeros((3, 4))
    for scores, class_ids, threshold in [([1, 2], None, 0.5), ([1, 2, 3], [0], 0.5), ([1, 2, 3], None, 1.5)]:
        with pytest.raises(InputError, match="give"):
            nms(boxes, scores, class_ids, iou_threshold=threshold)
    with pytest.raises(InputError, match=r"\[n, classes\]"):
        batched_nms(boxes, [1, 2, 3])
