"""What becomes of the numbers that a model gives: decodings, pooling, whitening, scores; and guesses from shapes."""

from __future__ import annotations

import dataclasses
import re
import zipfile

import numpy as np
import pytest
from onnx import TensorProto, helper

from imagelake.errors import ModelError
from imagelake.models import file_manifest
from imagelake.models.adding import try_model
from imagelake.models.classifier import activate, open_classifier
from imagelake.models.decodings import Decoding, cell_count
from imagelake.models.file_embedder import open_file_embedder, read_whitening
from imagelake.models.file_manifest import FileManifest, TensorSpec
from imagelake.models.guess_head import guess_head
from imagelake.models.heads import complete_head
from imagelake.models.npz import read_npz
from imagelake.models.registry import Registry
from small_models import SIDE, save_fixed, save_map, save_onnx

SIZE_WH = (64, 32)
BOXES = np.float32([[4, 2, 20, 14], [30, 10, 62, 30], [8, 8, 12, 12]])
SCORES = np.float32([0.9, 0.75, 0.5])
CLASSES = np.int32([2, 0, 1])
NAMES = ("red", "green", "blue")


def centers(boxes):
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def one_hot(scores, classes):
    return np.where(np.arange(len(NAMES)) == classes[:, None], scores[:, None], 0).astype(np.float32)


def as_ssd(boxes, scores, classes):
    rows = [[0, c + 1, s, *(box / [64, 32, 64, 32])] for box, s, c in zip(boxes, scores, classes, strict=True)]
    rows = np.float32([*rows, [0, 1, 0.01, 0, 0, 1, 1]]) if rows else np.zeros((1, 7), np.float32)
    return {"y": rows[None, None]}, {"kind": "ssd"}


def as_yolov5(boxes, scores, classes):
    rows = np.zeros((1, 100, 8), np.float32)
    rows[0, : len(boxes)] = np.concatenate([centers(boxes), np.ones((len(boxes), 1)), one_hot(scores, classes)], axis=1)
    return {"y": rows}, {"kind": "yolov5"}


def as_yolov8(boxes, scores, classes):
    rows = np.zeros((1, 7, 100), np.float32)
    rows[0, :, : len(boxes)] = np.concatenate([centers(boxes), one_hot(scores, classes)], axis=1).T
    return {"y": rows}, {"kind": "yolov8"}


def as_yolox(boxes, scores, classes):
    """Each box in another stride, in the cell that its center lies in or in any other."""
    cells = cell_count(SIZE_WH, (8, 16, 32))
    rows = np.full((1, cells, 8), -3, np.float32)
    rows[0, :, 4:] = 0.001
    starts = {8: 0, 16: 32, 32: 40}
    for box, score, label, stride in zip(boxes, scores, classes, (8, 16, 32), strict=False):
        (x, y, width, height), columns = centers(box[None])[0], 64 // stride
        column, row = int(x // stride), int(y // stride)
        rows[0, starts[stride] + row * columns + column] = [
            *(x / stride - column, y / stride - row, np.log(width / stride), np.log(height / stride)),
            *(0.999, *(one_hot(np.float32([score]), np.int32([label]))[0] / 0.999)),
        ]
    return {"y": rows}, {"kind": "yolox"}


def as_boxes(form, *, normalized, of_classes=False, count=False):
    def written(boxes, scores, classes):
        corners = {"xyxy": boxes, "yxyx": boxes[:, [1, 0, 3, 2]], "cxcywh": centers(boxes)}
        corners["xywh"] = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        values = corners[form]
        if normalized:
            values = values / ([32, 64, 32, 64] if form == "yxyx" else [64, 32, 64, 32])
        filled = np.zeros((1, 10, 4), np.float32)
        filled[0, : len(boxes)] = values
        head = {"kind": "boxes", "boxes": "b", "scores": "s", "format": form, "normalized": normalized}
        outputs = {"b": filled, "s": np.zeros((1, 10), np.float32)}
        if of_classes:
            outputs["s"] = np.zeros((1, 10, 3), np.float32)
            outputs["s"][0, : len(boxes)] = one_hot(scores, classes)
            return outputs, head
        outputs["s"][0, : len(boxes)] = scores
        outputs["c"] = np.zeros((1, 10), np.float32)
        outputs["c"][0, : len(boxes)] = classes
        head["classes"] = "c"
        if count:
            outputs["s"][0, len(boxes) :] = 1  # rubbish behind what counts
            outputs["n"] = np.float32([len(boxes)])
            head["count"] = "n"
        return outputs, head

    return written


WRITERS = {
    "ssd": as_ssd,
    "yolov5": as_yolov5,
    "yolov8": as_yolov8,
    "yolox": as_yolox,
    "boxes xyxy": as_boxes("xyxy", normalized=False),
    "boxes xywh": as_boxes("xywh", normalized=False),
    "boxes cxcywh": as_boxes("cxcywh", normalized=True),
    "boxes yxyx": as_boxes("yxyx", normalized=True, count=True),
    "boxes of classes": as_boxes("xyxy", normalized=True, of_classes=True),
}


def decode(written, count=1, **settings):
    outputs, head = written
    head = complete_head("detector", head | settings)
    return Decoding(head, tuple(outputs), len(NAMES), SIZE_WH).decode(outputs, count)


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_every_decoding_reads_what_was_written(writer):
    """Boxes, scores and classes come back to 1e-4, whatever the family; the first label of ssd is 1."""
    (found,) = decode(writer(BOXES, SCORES, CLASSES))
    order = np.argsort(-found.scores)
    np.testing.assert_allclose(found.boxes_xyxy[order], BOXES, atol=1e-4)
    np.testing.assert_allclose(found.scores[order], SCORES, atol=1e-5)
    first = 1 if writer is as_ssd else 0
    np.testing.assert_array_equal(found.class_ids[order] - first, CLASSES)
    assert (found.boxes_xyxy.dtype, found.scores.dtype, found.class_ids.dtype) == (np.float32, np.float32, np.int32)


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_nothing_is_nothing(writer):
    """A picture in which nothing is seen has no candidates."""
    (found,) = decode(writer(BOXES[:0], SCORES[:0], CLASSES[:0]))
    assert found.boxes_xyxy.shape == (0, 4)
    assert len(found.scores) == len(found.class_ids) == 0


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_the_threshold_is_kept(writer):
    """A score that reaches the threshold stays, one below it goes."""
    (found,) = decode(writer(BOXES, SCORES, CLASSES), score_threshold=0.75)
    np.testing.assert_allclose(np.sort(found.scores), [0.75, 0.9], atol=1e-5)


@pytest.mark.parametrize(
    "writer", [w for w in WRITERS.values() if w is not as_ssd], ids=[n for n in WRITERS if n != "ssd"]
)
def test_each_picture_of_a_batch_has_its_own(writer):
    """In a batch each picture has what it has alone; pictures that only fill up the batch have no answer."""
    parts = [writer(BOXES[i:], SCORES[i:], CLASSES[i:]) for i in range(3)]
    outputs = {name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]}
    for found, part in zip(decode((outputs, parts[0][1]), 2), parts[:2], strict=True):
        (alone,) = decode(part)
        np.testing.assert_array_equal(found.boxes_xyxy, alone.boxes_xyxy)
        np.testing.assert_array_equal(found.class_ids, alone.class_ids)


def test_rows_of_ssd_belong_to_their_picture():
    """The first number of a row says whose it is; a padding row with image -1 is nobody's."""
    rows = np.float32(
        [[1, 1, 0.9, 0, 0, 0.5, 0.5], [0, 2, 0.8, 0, 0, 1, 1], [-1, 0, 1, 0, 0, 1, 1], [2, 1, 1, 0, 0, 1, 1]]
    )
    first, second = decode(({"y": rows[None, None]}, {"kind": "ssd"}), 2)
    assert first.scores == pytest.approx([0.8])
    assert second.scores == pytest.approx([0.9])
    np.testing.assert_allclose(second.boxes_xyxy, [[0, 0, 32, 16]])
    (six,) = decode(({"y": rows[None, :2, 1:]}, {"kind": "ssd"}))
    assert six.class_ids.tolist() == [1, 2]


def test_logits_become_scores():
    """With activation sigmoid, logits of objectness and classes are read as such."""
    rows = np.full((1, 4, 8), -9, np.float32)
    rows[0, 0] = [10, 10, 4, 4, 9, 9, -9, -9]
    (found,) = decode(({"y": rows}, {"kind": "yolov5", "activation": "sigmoid"}))
    assert found.scores == pytest.approx([1 / (1 + np.exp(-9)) ** 2])
    assert found.class_ids.tolist() == [0]


def test_a_model_gone_mad_gives_no_boxes():
    """Boxes and scores that are not finite are left out."""
    rows = np.zeros((1, 4, 8), np.float32)
    rows[0, :, 4:6] = 1
    rows[0, 0, 0] = np.nan
    rows[0, 1, 2] = np.inf
    rows[0, 2, 4] = np.nan
    (found,) = decode(({"y": rows}, {"kind": "yolov5"}))
    np.testing.assert_array_equal(found.boxes_xyxy, [[0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("outputs", "head"),
    [
        ({"y": np.zeros((1, 9, 85), np.float32)}, {"kind": "yolox"}),
        ({"y": np.zeros((1, 9, 8), np.float32)}, {"kind": "yolox"}),
        ({"y": np.zeros((1, 9, 85), np.float32)}, {"kind": "yolov5"}),
        ({"y": np.zeros((9, 8), np.float32)}, {"kind": "yolov5"}),
        ({"y": np.zeros((1, 9, 85), np.float32)}, {"kind": "yolov8"}),
        ({"y": np.zeros((1, 3), np.float32)}, {"kind": "ssd"}),
        ({"b": np.zeros((1, 9, 5)), "s": np.zeros((1, 9))}, {"kind": "boxes", "boxes": "b", "scores": "s"}),
        ({"b": np.zeros((1, 9, 4)), "s": np.zeros((1, 8))}, {"kind": "boxes", "boxes": "b", "scores": "s"}),
    ],
)
def test_outputs_of_another_family_are_refused(outputs, head):
    """A shape that the head cannot read is a ModelError that says what it can."""
    with pytest.raises(ModelError, match=r"shape .* is not what the head"):
        decode((outputs, head))


def of_boxes(count=2, **outputs):
    """Outputs b, s and more of some rows, and the head that names them all."""
    told = {"b": np.zeros((1, count, 4)), "s": np.ones((1, count)), **outputs}
    names = {"b": "boxes", "s": "scores", "c": "classes", "n": "count"}
    return told, {"kind": "boxes", **{names[key]: key for key in told}}


@pytest.mark.parametrize(
    ("outputs", "match"),
    [
        ({"c": np.zeros((1, 3))}, r"shape \(1, 3\) .* one class for each score"),
        ({"c": np.zeros(0)}, "one class for each score"),
        ({"c": np.zeros((1, 2)), "s": np.ones((1, 2, 3))}, "beside an output of classes"),
        ({"s": np.ones((1, 2, 0))}, "1 class or more"),
        ({"s": np.ones((1, 2, 3, 4))}, "with scores"),
        ({"s": np.float32(1)}, "with scores"),
        ({"b": np.zeros((1, 2, 1, 5))}, "with scores"),
        ({"b": np.float32(1)}, "with scores"),
        ({"b": np.array([["a"]])}, "holds no numbers"),
        ({"n": np.zeros(0)}, "one count a picture"),
        ({"n": np.float32([np.nan])}, "counts .nan. boxes"),
        ({"n": np.float32([np.inf])}, "counts .inf. boxes"),
        ({"n": np.float32([-1])}, "from 0 to the 2 rows"),
        ({"n": np.float32([3])}, "from 0 to the 2 rows"),
    ],
)
def test_outputs_of_boxes_that_do_not_fit_together(outputs, match):
    """Classes, scores and counts of another length, and counts that are none, are a ModelError that says which."""
    with pytest.raises(ModelError, match=match):
        decode(of_boxes(**outputs))


def test_rows_that_are_not_finite_are_left_out():
    """A box, a score or a class that is no finite number is in no picture; the other rows stay."""
    boxes = np.tile([0.0, 0.0, 4.0, 4.0], (1, 7, 1))
    boxes[0, 0, 2], boxes[0, 1, 0] = np.nan, 1e300
    scores, classes = np.ones((1, 7)), np.zeros((1, 7))
    scores[0, 2:4] = np.nan, np.inf
    classes[0, 4:6] = np.nan, -np.inf
    (found,) = decode(of_boxes(b=boxes, s=scores, c=classes))
    np.testing.assert_array_equal(found.boxes_xyxy, [[0, 0, 4, 4]])
    assert found.class_ids.tolist() == [0]
    (none,) = decode(({"y": np.full((1, 1, 2, 7), np.nan)}, {"kind": "ssd"}))
    assert len(none.scores) == 0
    (far,) = decode(of_boxes(1, c=np.float64([[1e30]])))
    assert far.class_ids[0] > 1_000_000


@pytest.mark.parametrize(
    ("task", "head", "match"),
    [
        ("detector", {"kind": "yolo"}, "ssd, yolox, yolov5, yolov8, boxes"),
        ("detector", {}, "ssd, yolox"),
        ("classifier", {"kind": "ssd"}, "classifier"),
        ("detector", {"kind": "ssd", "score_treshold": 0.5}, "nearest are score_threshold"),
        ("detector", {"kind": "ssd", "score_threshold": 2}, "between 0 and 1"),
        ("detector", {"kind": "ssd", "score_threshold": "high"}, "float"),
        ("detector", {"kind": "ssd", "limit": True}, "int"),
        ("detector", {"kind": "yolox", "strides": ["8"]}, "numbers"),
        ("detector", {"kind": "yolox", "strides": [0, 8]}, "one number or more between 1 and"),
        ("detector", {"kind": "yolox", "strides": [8, 10**30]}, "one number or more between 1 and"),
        ("detector", {"kind": "yolox", "strides": []}, "one number or more between 1 and"),
        ("detector", {"kind": "boxes", "boxes": "b"}, "boxes and scores"),
        ("embedder", {"pooling": "average"}, "avg, max, cls, none"),
    ],
)
def test_settings_are_checked(task, head, match):
    """An unknown kind, setting or value is a ModelError that says what is allowed."""
    with pytest.raises(ModelError, match=match):
        complete_head(task, head)


def add(tmp_path, path, task, head=None, *, outputs=("color",), labels=(), files=None, transforms=None):
    """A model on pictures of 8 x 8 whose values are 0..255."""
    files = {"model": path, **(files or {})}
    manifest = FileManifest(
        name="small",
        task=task,
        runtime="onnx",
        files={role: file.name for role, file in files.items()},
        inputs=(TensorSpec(name="x", shape=(-1, 3, SIDE, SIDE), layout="nchw"),),
        transforms=transforms or ({"resize": [SIDE, SIDE]}, {"layout": "chw"}, {"dtype": "float32"}),
        head=head or {},
        outputs=outputs,
        labels=labels,
    )
    return Registry(tmp_path / "models").add(manifest, files, replace=True)


def plain(color, size_hw=(20, 30)):
    return np.full((*size_hw, 3), color, np.uint8)


def test_a_classifier_names_the_color(tmp_path):
    """The best label of a plain picture is its color; scores of softmax sum to 1; k is at most the classes."""
    classifier = open_classifier(add(tmp_path, save_map(tmp_path / "m.onnx"), "classifier", labels=NAMES))
    colors = [plain((200, 0, 0)), plain((0, 0, 200)), plain((0, 200, 10))]
    prepared = [classifier.prepare(image) for image in colors]
    assert [guesses[0].label for guesses in classifier.top_k(prepared)] == ["red", "blue", "green"]
    np.testing.assert_allclose(classifier.scores(prepared).sum(axis=1), 1, atol=1e-6)
    assert [len(guesses) for guesses in classifier.top_k(prepared, 9)] == [3, 3, 3]
    assert [g.class_id for g in classifier.top_k([classifier.prepare(plain((5, 5, 5)))])[0]] == [0, 1, 2]
    with pytest.raises(ModelError, match="top 0"):
        classifier.top_k(prepared, 0)


def test_a_head_answers_no_pictures_with_nothing(tmp_path):
    """Zero pictures give zero answers of the right width, without running the model."""
    path = save_map(tmp_path / "m.onnx")
    classifier = open_classifier(add(tmp_path, path, "classifier", labels=NAMES))
    assert classifier.top_k([]) == []
    assert classifier.scores(np.zeros((0, 3, SIDE, SIDE), np.float32)).shape == (0, 3)
    embedder = open_file_embedder(add(tmp_path, path, "embedder"))
    assert embedder.embed(np.zeros((0, 3, SIDE, SIDE), np.float32)).shape == (0, 3)


def test_labels_must_be_as_many_as_classes(tmp_path):
    """Too few labels are a ModelError, not a wrong name."""
    classifier = open_classifier(add(tmp_path, save_map(tmp_path / "m.onnx"), "classifier", labels=NAMES[:2]))
    with pytest.raises(ModelError, match="2 labels and gives 3"):
        classifier.scores([classifier.prepare(plain(3))])


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_activations_stay_finite(activation):
    """Huge logits give scores, not overflows."""
    found = activate(np.float32([[1e4, -1e4, 0]]), activation)
    assert np.isfinite(found).all()
    assert found.argmax() == 0


@pytest.mark.parametrize(
    ("output", "head", "dimensions"),
    [
        ("color", {"metric": "l2"}, 3),
        ("map", {"pooling": "avg", "metric": "l2"}, 3),
        ("map", {"pooling": "max", "metric": "l2"}, 3),
        ("map", {"pooling": "none", "metric": "l2"}, 3 * SIDE * SIDE),
        ("tokens", {"pooling": "avg", "metric": "l2"}, 3),
        ("tokens", {"pooling": "max", "metric": "l2", "skip_tokens": 5}, 3),
        ("tokens", {"pooling": "cls", "metric": "l2"}, 3),
    ],
)
def test_every_pooling(tmp_path, output, head, dimensions):
    """Of a plain picture every pooling gives half of its color, which is what the model computes."""
    path = save_map(tmp_path / "m.onnx")
    embedder = open_file_embedder(add(tmp_path, path, "embedder", head, outputs=(output,)))
    assert (embedder.dimensions, embedder.metric) == (dimensions, "l2")
    (vector,) = embedder.embed([embedder.prepare(plain((20, 40, 60)))])
    if head.get("pooling") == "none":
        vector = vector.reshape(3, -1).mean(axis=1)
    np.testing.assert_allclose(vector, [10, 20, 30], atol=1e-4)


def test_poolings_differ_where_they_should(tmp_path):
    """avg, max and cls of a picture of two halves are the mean, the greatest and the first pixel."""
    image = plain((100, 0, 0), (SIDE, SIDE))
    image[:, : SIDE // 2] = (0, 50, 0)
    found = {}
    for pooling in ("avg", "max", "cls"):
        path = save_map(tmp_path / "m.onnx")
        head = {"pooling": pooling, "metric": "l2"}
        embedder = open_file_embedder(add(tmp_path, path, "embedder", head, outputs=("tokens",)))
        found[pooling] = embedder.embed([embedder.prepare(image)])[0].tolist()
    assert found == {"avg": [25, 12.5, 0], "max": [50, 25, 0], "cls": [0, 25, 0]}


def test_cosine_means_length_one(tmp_path):
    """With the metric cosine vectors have length 1; a vector of zeros stays one."""
    embedder = open_file_embedder(add(tmp_path, save_map(tmp_path / "m.onnx"), "embedder"))
    found = embedder.embed([embedder.prepare(plain(color)) for color in ((9, 200, 3), (0, 0, 0))])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 0], atol=1e-6)


def test_a_vector_does_not_depend_on_its_batch(tmp_path):
    """Each picture has the vector that it has alone, in any batch."""
    embedder = open_file_embedder(add(tmp_path, save_map(tmp_path / "m.onnx"), "embedder"))
    images = [np.random.default_rng(i).integers(0, 256, (30, 20, 3), np.uint8) for i in range(9)]
    stacked = np.stack([embedder.prepare(image) for image in images])
    alone = np.concatenate([embedder.embed(stacked[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(embedder.embed(stacked), alone, atol=1e-6)


def test_whitening(tmp_path):
    """Vectors are shifted and turned as the file says, before they get length 1; a file for others is refused."""
    np.savez(tmp_path / "w.npz", mean=np.float32([10, 20, 30]), matrix=np.float32([[2, 0], [0, 0], [0, 1]]))
    path, files = save_map(tmp_path / "m.onnx"), {"whitening": tmp_path / "w.npz"}
    embedder = open_file_embedder(add(tmp_path, path, "embedder", {"metric": "l2"}, files=files))
    assert embedder.dimensions == 2
    found = embedder.embed([embedder.prepare(plain(color)) for color in ((20, 40, 60), (24, 40, 66))])
    np.testing.assert_allclose(found, [[0, 0], [4, 3]], atol=1e-4)
    np.savez(tmp_path / "w.npz", mean=np.zeros(4), matrix=np.eye(4))
    with pytest.raises(ModelError, match="4 numbers"):
        open_file_embedder(add(tmp_path, path, "embedder", files=files))


@pytest.mark.parametrize("content", [{"mean": np.zeros(3)}, {"mean": np.zeros(3), "matrix": np.eye(4)}, None, "pickle"])
def test_whitening_that_is_none(tmp_path, content):
    """A file without the arrays, with arrays that do not fit, or with pickled objects is a ModelError."""
    path = tmp_path / "w.npz"
    if content is None:
        path.write_bytes(b"nothing")
    elif content == "pickle":
        np.savez(path, mean=np.array([object()]), matrix=np.eye(1))
    else:
        np.savez(path, **content)
    with pytest.raises(ModelError, match=r"w\.npz"):
        read_whitening(path)


@pytest.mark.parametrize(
    ("mean", "matrix"),
    [
        (np.float32([0, np.nan]), np.eye(2)),
        (np.zeros(2), np.float32([[1, 0], [np.inf, 1]])),
        (np.float64([0, 1e300]), np.eye(2)),
        (np.zeros(3), np.zeros((3, 0))),
        (np.zeros(0), np.zeros((0, 3))),
        (np.array(["a", "b"]), np.eye(2)),
    ],
)
def test_whitening_that_would_give_no_vectors(tmp_path, mean, matrix):
    """Numbers that are not finite, sides of 0 and words are a ModelError."""
    np.savez(tmp_path / "w.npz", mean=mean, matrix=matrix)
    with pytest.raises(ModelError, match=r"w\.npz"):
        read_whitening(tmp_path / "w.npz")


@pytest.mark.parametrize("shape", ["(10000000000000,)", "(-1, -4)", "(8,)", "(" * 5000])
def test_a_header_that_claims_what_is_not_there(tmp_path, shape):
    """No memory is taken for numbers that a file only claims to hold."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    magic = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as file:
        file.writestr("mean.npy", magic + header + bytes(32))
    with pytest.raises(ModelError, match="cannot read whitening"):
        read_whitening(tmp_path / "w.npz")


def test_one_array_is_no_file_of_arrays(tmp_path):
    """An `.npy` that is called `.npz` is a ModelError."""
    with (tmp_path / "w.npz").open("wb") as file:
        np.save(file, np.eye(3))
    with pytest.raises(ModelError, match=r"give an \.npz"):
        read_whitening(tmp_path / "w.npz")


@pytest.mark.parametrize("stored", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_they_were_written(tmp_path, stored):
    """Both ways to write an `.npz`, and both orders of a matrix, are read as NumPy reads them."""
    arrays = {"rows": np.arange(6, dtype=np.int16).reshape(2, 3), "columns": np.asfortranarray(np.eye(3)[:2])}
    stored(tmp_path / "a.npz", **arrays)
    found = read_npz(tmp_path / "a.npz", list(arrays))
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def save_reduced(path, axes):
    """A model that gives the mean of its pictures over some axes."""
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
    inputs = {"x": (TensorProto.FLOAT, ["n", 3, SIDE, SIDE])}
    return save_onnx(path, [node], inputs, {"y": (TensorProto.FLOAT, None)}, {"axes": np.int64(axes)})


@pytest.mark.parametrize("axes", [[0, 1, 2, 3], [0, 2, 3], [0]])
def test_an_embedder_gives_one_vector_a_picture(tmp_path, axes):
    """An output without an axis of pictures is refused when the model is tried, whatever its shape."""
    model = add(tmp_path, save_reduced(tmp_path / "m.onnx", axes), "embedder", outputs=("y",))
    with pytest.raises(ModelError, match="axis of pictures"):
        try_model(model)


def test_two_pictures_are_tried(tmp_path):
    """A model that says that it takes any number of pictures, and answers for one, is refused when it is tried."""
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=1)
    inputs = {"x": (TensorProto.FLOAT, ["n", 3, SIDE, SIDE])}
    path = save_onnx(
        tmp_path / "m.onnx", [node], inputs, {"y": (TensorProto.FLOAT, None)}, {"axes": np.int64([0, 2, 3])}
    )
    for task, labels in (("embedder", ()), ("classifier", NAMES)):
        with pytest.raises(ModelError, match=r"2 pictures|scores a picture"):
            try_model(add(tmp_path, path, task, outputs=("y",), labels=labels))


def test_whatever_a_strangers_model_raises_is_said(tmp_path, monkeypatch):
    """An exception that nobody foresaw is a ModelError; one that is ours stays as it is."""
    model = add(tmp_path, save_map(tmp_path / "m.onnx"), "classifier", labels=NAMES)

    def unforeseen(*_, **__):
        raise TypeError("len() of unsized object")

    monkeypatch.setattr("imagelake.models.adding.open_classifier", unforeseen)
    with pytest.raises(ModelError, match=r"does not run as its manifest says: TypeError: len\(\)"):
        try_model(model)


@pytest.mark.parametrize(
    ("output", "head"),
    [
        ("map", {"pooling": "cls"}),
        ("map", {"pooling": "avg", "layout": "tokens"}),
        ("tokens", {"pooling": "avg", "skip_tokens": 64}),
    ],
)
def test_poolings_that_do_not_fit(tmp_path, output, head):
    """A pooling that the shape does not allow is a ModelError when the model is opened."""
    path = save_map(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"pooling|skip"):
        open_file_embedder(add(tmp_path, path, "embedder", head, outputs=(output,)))


@pytest.mark.parametrize(
    ("transforms", "match"),
    [
        (({"resize": [SIDE, SIDE]},), "make uint8"),
        (({"resize": [SIDE, SIDE + 1]}, {"layout": "chw"}, {"dtype": "float32"}), r"\[3, 9, 8\]"),
        (({"resize": [SIDE, SIDE]}, {"normalize": {"mean": [1, 2]}}), "2 numbers"),
    ],
)
def test_transforms_must_fit_the_file(tmp_path, transforms, match):
    """Transforms that make another shape or type than the file takes are a ModelError when the model is opened."""
    model = add(tmp_path, save_map(tmp_path / "m.onnx"), "embedder", transforms=transforms)
    with pytest.raises(ModelError, match=match):
        open_file_embedder(model)


def test_manifest_and_file_must_agree(tmp_path):
    """Another name of the input, an unknown output, another task: a ModelError that says what there is."""
    path = save_map(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="color, map, tokens"):
        open_file_embedder(add(tmp_path, path, "embedder", outputs=("colour",)))
    with pytest.raises(ModelError, match="no classifier: its task is embedder"):
        open_classifier(add(tmp_path, path, "embedder"))
    other = save_fixed(tmp_path / "u.onnx", {"color": np.float32([1, 2, 3])}, dtype=np.uint8)
    with pytest.raises(ModelError, match="uint8"):
        open_file_embedder(add(tmp_path, other, "embedder"))


@pytest.mark.parametrize(("able", "expected"), [(True, 7), (False, 5)])
def test_int8_runs_where_the_processor_is_made_for_it(tmp_path, monkeypatch, able, expected):
    """`auto` runs the int8 file there and the other elsewhere; asking for one runs that one."""
    monkeypatch.setattr(file_manifest, "has_int8_dot_products", lambda: able)
    path = save_fixed(tmp_path / "m.onnx", {"color": np.float32([5, 0, 0])})
    int8 = save_fixed(tmp_path / "m8.onnx", {"color": np.float32([7, 0, 0])})
    model = add(tmp_path, path, "embedder", {"metric": "l2"}, files={"int8": int8})
    for precision, value in (("auto", expected), ("int8", 7), ("fp32", 5)):
        chosen = dataclasses.replace(model, manifest=dataclasses.replace(model.manifest, precision=precision))
        embedder = open_file_embedder(chosen)
        assert embedder.embed([embedder.prepare(plain(9))])[0, 0] == value


def floats(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("outputs", "said", "task", "kind", "asks"),
    [
        ({"y": floats(1, 3549, 85)}, {}, "detector", None, "yolox .* or yolov5"),
        ({"y": floats(1, 10647, 85)}, {}, "detector", "yolov5", ""),
        ({"y": floats(1, 84, 3549)}, {}, "detector", "yolov8", ""),
        ({"y": floats(1, 3549, 84)}, {"labels": 80}, "detector", "yolov8", ""),
        ({"y": floats(1, 1, 100, 7)}, {}, "detector", "ssd", ""),
        ({"y": floats(1, 1000)}, {"labels": 1000}, "classifier", "classifier", ""),
        ({"y": floats(1, 1000)}, {}, None, None, "classifier.* or .*embedder"),
        ({"y": floats(1, 1000)}, {"task": "embedder"}, "embedder", "embedder", ""),
        ({"y": floats(1, 512, 7, 7)}, {}, "embedder", "embedder", "avg, max"),
        ({"y": floats(1, 197, 768)}, {"task": "embedder"}, "embedder", "embedder", "cls"),
        ({"y": floats(1, 197, 768)}, {"task": "detector"}, "detector", None, "ssd, yolox"),
        ({"a": floats(1, 5), "b": floats(1, 6)}, {}, None, None, "which output"),
        (
            {
                "detection_scores": floats(1, 9),
                "detection_boxes": floats(1, 9, 4),
                "num_detections": floats(1),
                "detection_classes": floats(1, 9),
            },
            {},
            "detector",
            "boxes",
            "",
        ),
        ({"scores": floats(1, 9, 3), "boxes": floats(1, 9, 4)}, {}, "detector", "boxes", "xyxy, yxyx"),
    ],
)
def test_guesses_from_shapes(outputs, said, task, kind, asks):
    """What the shapes of 416 x 416 tell is guessed; what they leave open is asked, with words that would answer."""
    found = guess_head(outputs, (416, 416), **said)
    assert (found.task, found.head.get("kind")) == (task, kind)
    assert bool(found.question) == bool(asks) == bool(found.example)
    if asks:
        assert re.search(asks, found.question)
