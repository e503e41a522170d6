"""Detectors out of a registry: tiny ones made here, and real ones where the shared data is."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from imagelake.errors import ModelError
from imagelake.models.adding import add_files
from imagelake.models.detector import open_detector
from imagelake.models.file_manifest import FileManifest, TensorSpec, read_labels
from imagelake.models.guess import Answers
from imagelake.models.registry import Registry
from imagelake.pixels.boxes import iou
from small_models import save_fixed

COCO = read_labels(Path(__file__).with_name("coco_labels.txt"))
SIDE = 32
PLAIN = ({"resize": [SIDE, SIDE]}, {"layout": "chw"}, {"dtype": "float32"})
BOXED = ({"letterbox": {"size_wh": [SIDE, SIDE], "place": "top-left"}}, *PLAIN[1:])

# Corners in pixels, scores and classes: a cat twice, a dog in the same place, and another cat.
ROWS = [
    ((2, 2, 18, 18), 0.9, 0),
    ((3, 2, 19, 18), 0.8, 0),
    ((2, 2, 18, 18), 0.7, 1),
    ((20, 20, 30, 30), 0.6, 0),
    ((0, 0, 4, 4), 0.2, 1),
]
KEPT = [(0.9, "cat"), (0.7, "dog"), (0.6, "cat")]


def yolov5():
    rows = [
        [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, 1, *(s * (c == i) for i in (0, 1))]
        for (x1, y1, x2, y2), s, c in ROWS
    ]
    return {"y": np.float32(rows)}, {"kind": "yolov5"}


def yolov8():
    rows, _ = yolov5()
    return {"y": np.delete(rows["y"], 4, axis=1).T}, {"kind": "yolov8"}


def ssd():
    rows = [[0, c + 1, s, *(side / SIDE for side in box)] for box, s, c in ROWS]
    return {"y": np.float32(rows)[None]}, {"kind": "ssd", "nms": True}


def separate():
    outputs = {
        "scores": np.float32([s for _, s, _ in ROWS]),
        "boxes": np.float32([box for box, _, _ in ROWS])[:, [1, 0, 3, 2]] / SIDE,
        "labels": np.float32([c for _, _, c in ROWS]),
    }
    head = {"kind": "boxes", "boxes": "boxes", "scores": "scores", "classes": "labels"}
    return outputs, head | {"format": "yxyx", "normalized": True}


def yolox():
    rows = np.full((21, 7), -4, np.float32)  # 16 + 4 + 1 cells
    rows[:, 4:] = 0
    for (x1, y1, x2, y2), s, c in ROWS:
        free = int(np.flatnonzero(rows[:16, 4] == 0)[0])
        center, size = np.float32([x1 + x2, y1 + y2]) / 16, np.log(np.float32([x2 - x1, y2 - y1]) / 8)
        rows[free] = [*(center - [free % 4, free // 4]), *size, 1, *(s * (c == i) for i in (0, 1))]
    return {"y": rows}, {"kind": "yolox"}


HEADS = {"yolox": yolox, "yolov5": yolov5, "yolov8": yolov8, "ssd": ssd, "boxes": separate}


def add(tmp_path, outputs, head, *, batch="n", transforms=PLAIN, labels=("cat", "dog")):
    path = save_fixed(tmp_path / "small.onnx", outputs, (batch, 3, SIDE, SIDE))
    manifest = FileManifest(
        name="small",
        task="detector",
        runtime="onnx",
        files={"model": path.name},
        inputs=(TensorSpec(name="x", shape=(-1 if batch == "n" else batch, 3, SIDE, SIDE), layout="nchw"),),
        transforms=transforms,
        head=head,
        labels=labels,
    )
    return Registry(tmp_path / "models").add(manifest, {"model": path}, replace=True)


def plain(height=SIDE, width=SIDE):
    return np.full((height, width, 3), 77, np.uint8)


def seen(detector, detections):
    return [
        (round(float(s), 4), detector.labels[c]) for s, c in zip(detections.scores, detections.class_ids, strict=True)
    ]


@pytest.fixture(params=HEADS.values(), ids=HEADS)
def written(request):
    return request.param()


def test_every_head_finds_what_is_there(tmp_path, written):
    """The best of each class and place stays, best first; of one class what overlaps goes, another class stays."""
    detector = open_detector(add(tmp_path, *written))
    (found,) = detector.detect([detector.prepare(plain(64, 96))])
    assert seen(detector, found) == KEPT
    np.testing.assert_allclose(found.boxes_xyxy * SIDE, [[2, 2, 18, 18], [2, 2, 18, 18], [20, 20, 30, 30]], atol=1e-3)
    assert len(found) == 3
    assert (found.boxes_xyxy.dtype, found.scores.dtype, found.class_ids.dtype) == (np.float32, np.float32, np.int32)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"score_threshold": 0.65}, KEPT[:2]),
        ({"score_threshold": 0.95}, []),
        ({"limit": 1}, KEPT[:1]),
        ({"wanted": ["dog"]}, [(0.7, "dog")]),
        ({"nms": False}, [(0.9, "cat"), (0.8, "cat"), (0.7, "dog"), (0.6, "cat")]),
        ({"iou_threshold": 0.99}, [(0.9, "cat"), (0.8, "cat"), (0.7, "dog"), (0.6, "cat")]),
        ({"score_threshold": 0.1, "limit": 9}, [*KEPT, (0.2, "dog")]),
    ],
)
def test_settings_of_the_head(tmp_path, written, settings, kept):
    """Threshold, limit, wanted labels and suppression do what they say, with every head."""
    outputs, head = written
    detector = open_detector(add(tmp_path, outputs, head | settings))
    assert seen(detector, detector.detect([detector.prepare(plain())])[0]) == kept


def test_no_pictures_no_answers(tmp_path, written):
    """Nothing in, nothing out."""
    assert open_detector(add(tmp_path, *written)).detect([]) == []


@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_any_number_of_pictures(tmp_path, batch):
    """A picture has the same answer in any company, whatever number the file takes at once."""
    detector = open_detector(add(tmp_path, *yolox(), batch=batch, transforms=BOXED))
    assert detector.batch == (4 if batch == "n" else batch)
    prepared = [detector.prepare(plain(20 + 7 * i, 64)) for i in range(7)]
    alone = [detector.detect([one])[0] for one in prepared]
    for one, other in zip(detector.detect(prepared), alone, strict=True):
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_array_equal(one.scores, other.scores)
    assert not np.array_equal(alone[0].boxes_xyxy, alone[-1].boxes_xyxy)


def test_boxes_are_those_of_the_source(tmp_path):
    """A letterbox is undone: boxes come back in [0, 1] of the picture, and what lies on the bars is dropped."""
    detector = open_detector(add(tmp_path, *yolov5(), transforms=BOXED))
    (found,) = detector.detect([detector.prepare(plain(100, 200))])  # it fills 32 x 16 pixels
    np.testing.assert_allclose(
        found.boxes_xyxy, [[2 / 32, 2 / 16, 18 / 32, 1], [2 / 32, 2 / 16, 18 / 32, 1]], atol=1e-5
    )
    assert found.scores == pytest.approx([0.9, 0.7])


def test_threads_may_share_a_detector(tmp_path):
    """Many threads at once get what one gets."""
    detector = open_detector(add(tmp_path, *yolox(), transforms=BOXED))
    prepared = [detector.prepare(plain(20 + i, 64)) for i in range(24)]
    expected = [detector.detect([one])[0].boxes_xyxy for one in prepared]
    with ThreadPoolExecutor(6) as pool:
        for found, wanted in zip(pool.map(lambda one: detector.detect([one])[0], prepared), expected, strict=True):
            np.testing.assert_array_equal(found.boxes_xyxy, wanted)


def test_classes_beyond_the_labels(tmp_path):
    """A class that no label names is a ModelError; one before the first label is background."""
    outputs, head = separate()
    one_label = open_detector(add(tmp_path, outputs, head, labels=("cat",)))
    with pytest.raises(ModelError, match="beyond its 1 labels"):
        one_label.detect([one_label.prepare(plain())])
    detector = open_detector(add(tmp_path, outputs, head | {"first_label": 1}))
    assert seen(detector, detector.detect([detector.prepare(plain())])[0]) == [(0.7, "cat")]


@pytest.mark.parametrize("change", [{"boxes": "nowhere"}, {"scores": "nowhere"}, {"classes": "nowhere"}])
def test_outputs_that_are_not_there(tmp_path, change):
    """An output that the file does not have is a ModelError when the model is opened."""
    outputs, head = separate()
    with pytest.raises(ModelError, match=r"nowhere.* are not in its file"):
        open_detector(add(tmp_path, outputs, head | change))


def test_the_side_that_is_needed(tmp_path):
    """`min_side` is what decoding must keep for the first resize."""
    assert open_detector(add(tmp_path, *yolov5())).min_side == SIDE


# Real models.


@pytest.fixture(scope="module")
def real(tmp_path_factory, shared):
    """The models of the shared data, added as a user would."""
    registry = Registry(tmp_path_factory.mktemp("models"))
    answers = Answers(head="yolox", labels=COCO, resize="letterbox-top-left", order="bgr", scale=1.0)
    add_files(registry, [shared("models/yolox_nano.onnx")], answers)
    answers = Answers(labels=("qr code",), resize="exact", scale=1 / 255)
    files = [shared("models/qr_ssd.caffemodel"), shared("models/qr_ssd.prototxt")]
    add_files(registry, files, answers)
    return registry


PHOTOS = {
    "astronaut": ("person", (0.03, 0.05, 0.75, 1.0)),
    "camera": ("person", (0.05, 0.1, 0.55, 0.98)),
    "chelsea": ("cat", (0.0, 0.0, 1.0, 1.0)),
    "coffee": ("cup", (0.27, 0.04, 0.68, 0.72)),
    "stereo_motorcycle": ("motorcycle", (0.15, 0.13, 0.95, 0.9)),
}


def photo(name):
    image = getattr(skimage.data, name)()
    image = image[0] if isinstance(image, tuple) else image
    return np.ascontiguousarray(image if image.ndim == 3 else np.stack([image] * 3, axis=-1))


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_yolox_finds_what_is_in_photos(real, name):
    """The best detection of a photo is what a person sees there, in the place where it is (IoU of 0.7 and more)."""
    detector = open_detector(real.get("yolox-nano"))
    (found,) = detector.detect([detector.prepare(photo(name))])
    label, box = PHOTOS[name]
    assert detector.labels[found.class_ids[0]] == label
    assert iou(found.boxes_xyxy[:1], np.float32([box]))[0, 0] > 0.7


def test_yolox_sees_the_same_in_a_mirror(real):
    """Boxes follow the picture: mirrored, the cup stands on the other side."""
    detector = open_detector(real.get("yolox-nano"))
    coffee = photo("coffee")
    plain_box, mirrored = (
        found.boxes_xyxy[found.class_ids == COCO.index("cup")][0]
        for found in detector.detect(
            [detector.prepare(coffee), detector.prepare(np.ascontiguousarray(coffee[:, ::-1]))]
        )
    )
    np.testing.assert_allclose(mirrored[[2, 1, 0, 3]] * [-1, 1, -1, 1] + [1, 0, 1, 0], plain_box, atol=0.05)


def qr_picture(seed):
    """A picture with a QR code at a known place: pixels, and the box of its modules in [0, 1]."""
    rng = np.random.default_rng(seed)
    image = photo("coffee").copy() if seed % 2 else np.full((480, 640, 3), 220, np.uint8)
    code = cv2.QRCodeEncoder.create().encode(f"https://example.org/{seed}")
    scale = int(rng.integers(4, 8))
    side = len(code) * scale
    drawn = np.kron(code, np.ones((scale, scale), np.uint8))[..., None]
    height, width = image.shape[:2]
    x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
    image[y : y + side, x : x + side] = drawn
    quiet = 2 * scale  # the encoder's white frame
    corners = np.array([x + quiet, y + quiet, x + side - quiet, y + side - quiet])
    return image, (corners / [width, height, width, height]).astype(np.float32)


def test_qr_codes_are_found_where_they_were_drawn(real):
    """Each drawn code is found once, alone in its picture, with IoU of 0.7 and more; a batch gives the same."""
    detector = open_detector(real.get("qr-ssd"))
    drawn = [qr_picture(seed) for seed in range(12)]
    prepared = [detector.prepare(image) for image, _ in drawn]
    together = detector.detect(prepared)
    for one, (_, box), found in zip(prepared, drawn, together, strict=True):
        assert len(found) == 1
        assert iou(found.boxes_xyxy, box[None])[0, 0] > 0.7
        np.testing.assert_allclose(detector.detect([one])[0].boxes_xyxy, found.boxes_xyxy, atol=1e-4)


def test_no_codes_where_none_are(real):
    """A photo without a code has no detection."""
    detector = open_detector(real.get("qr-ssd"))
    assert [len(found) for found in detector.detect([detector.prepare(photo(name)) for name in PHOTOS])] == [0] * 5


def test_caffe_nets_work_in_threads(real):
    """A net of OpenCV serves one thread at a time; the detector serves many, with the same answers."""
    detector = open_detector(real.get("qr-ssd"))
    drawn = [qr_picture(seed) for seed in range(12)]
    prepared = [detector.prepare(image) for image, _ in drawn]
    expected = [found.boxes_xyxy for found in detector.detect(prepared)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: detector.detect([one])[0].boxes_xyxy, prepared * 2))
    for one, wanted in zip(found, expected * 2, strict=True):
        np.testing.assert_allclose(one, wanted, atol=1e-4)


def test_a_changed_model_is_not_run(real, tmp_path):
    """One byte more and the model is refused, though it would run."""
    model = real.get("yolox-nano")
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "yolox_nano.onnx").write_bytes(model.path("model").read_bytes() + b"\0")
    with pytest.raises(ModelError, match="SHA-256"):
        open_detector(dataclasses.replace(model, folder=copy))
