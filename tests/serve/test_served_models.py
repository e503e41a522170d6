"""Models as the plane serves them: the same answers as from the opened model, for tensors and for encoded pictures."""

import concurrent.futures
import json

import numpy as np
import pytest
from onnx import TensorProto, helper

from imagelake.errors import ImageError, ModelError, TooLargeError
from imagelake.models.default_classifier import open_default_classifier
from imagelake.models.detector import open_detector
from imagelake.models.file_embedder import open_file_embedder
from imagelake.models.file_manifest import FileManifest, TensorSpec
from imagelake.models.registry import Registry
from imagelake.pixels.decode import decode_rgb
from imagelake.pixels.png import encode_png
from imagelake.pixels.thumbnail import encode_jpeg
from imagelake.serve.plane import BatchOptions, Plane, TensorInfo
from imagelake.serve.served_models import (
    BUILT_IN,
    CLASSIFIER,
    EMBEDDER,
    open_bare,
    open_named,
    open_served,
    serve_function,
)
from pictures import scene
from small_models import save_caffe, save_fixed, save_map, save_onnx, save_tensorflow
from tiny_models import brighter_half, mean_color

WAIT_S = 60


def strings(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def photo(seed, width=300, height=200):
    """A picture unlike the others."""
    return np.roll(scene(width, height), (seed * 31, seed * 17, seed), (0, 1, 2))


@pytest.fixture(scope="module")
def jpegs():
    return [encode_jpeg(photo(seed, 300 + 40 * seed)) for seed in range(6)]


@pytest.fixture
def classifier_model(tmp_path):
    """A registered classifier whose three scores are fixed."""
    path = save_fixed(tmp_path / "fixed.onnx", {"scores": np.float32([1, 3, 2])})
    manifest = FileManifest(
        name="three",
        task="classifier",
        runtime="onnx",
        files={"model": "fixed.onnx"},
        inputs=(TensorSpec(name="x", shape=(-1, 3, 8, 8), layout="nchw"),),
        transforms=({"resize": {"size_wh": [8, 8]}}, {"dtype": "float32"}, {"layout": "chw"}),
        labels=("a", "b", "é"),
    )
    return Registry(tmp_path / "registry").add(manifest, {"model": path})


def ask(served, inputs, outputs=(), **options):
    with Plane() as plane:
        plane.load(served, BatchOptions(**options))
        return plane.infer(served.name, inputs, outputs, timeout_s=WAIT_S)


@pytest.mark.slow
def test_the_default_classifier_is_served(jpegs):
    """Pictures that many callers post come back as the opened model classifies each of them alone."""
    classifier, served = open_default_classifier(), open_named(CLASSIFIER)
    prepared = [classifier.prepare(decode_rgb(jpeg, classifier.min_side)) for jpeg in jpegs]
    wanted = classifier.scores(prepared)
    (info,) = served.inputs
    assert (info.dtype, info.shape, info.pictures) == ("uint8", (-1, 224, 224, 3), True)
    assert (served.task, len(served.labels), served.outputs[0].shape) == ("classifier", 1000, (-1, 1000))
    with Plane() as plane, concurrent.futures.ThreadPoolExecutor(8) as pool:
        plane.load(served)
        calls = [pool.submit(plane.infer, CLASSIFIER, {info.name: strings(jpeg)}) for jpeg in jpegs]
        whole = plane.infer(CLASSIFIER, {info.name: np.stack(prepared)})
        for row, call in zip(wanted, calls, strict=True):
            answer = call.result(WAIT_S)
            np.testing.assert_allclose(answer["probabilities"], row[None], rtol=1e-3, atol=1e-6)
            assert answer["label"].tolist() == [classifier.labels[row.argmax()].encode()]
        np.testing.assert_allclose(whole["probabilities"], wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_the_default_embedder_is_served(jpegs):
    """The other built-in model gives vectors of length 1 under a name of its own."""
    served = open_named(EMBEDDER)
    vectors = ask(served, {served.inputs[0].name: strings(*jpegs)})["embedding"]
    assert vectors.shape == (6, 1280)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_a_registered_classifier_is_served(classifier_model):
    """Scores and the best label, in bytes, of tensors as of pictures."""
    served = open_served(classifier_model, name="other", version="3")
    assert (served.name, served.version, served.platform) == ("other", "3", "onnxruntime_onnx")
    powers = np.exp(np.float32([1, 3, 2]))
    for rows in (np.zeros((2, 3, 8, 8), np.float32), strings(encode_png(photo(1)), encode_jpeg(photo(2)))):
        answer = ask(served, {"x": rows})
        np.testing.assert_allclose(answer["probabilities"], [powers / powers.sum()] * 2, rtol=1e-5)
        assert answer["label"].tolist() == [b"b", b"b"]


def test_a_registered_embedder_is_served(tmp_path, jpegs):
    """Vectors are those of the opened embedder."""
    model = mean_color(tmp_path)
    embedder, served = open_file_embedder(model), open_served(model)
    wanted = embedder.embed([embedder.prepare(decode_rgb(jpeg, embedder.min_side)) for jpeg in jpegs])
    assert served.outputs[0].shape == (-1, 3)
    np.testing.assert_allclose(ask(served, {"pixels": strings(*jpegs)})["embedding"], wanted, rtol=1e-5)


def test_a_registered_detector_is_served(tmp_path):
    """Boxes stand in [0, 1] of the picture, filled up with nothing; those of a tensor in [0, 1] of the tensor."""
    model = brighter_half(tmp_path)
    detector, served = open_detector(model), open_served(model)
    half = np.zeros((60, 100, 3), np.uint8)
    half[:, 50:] = 250
    pictures = [encode_png(half), encode_png(np.full((60, 100, 3), 250, np.uint8)), encode_png(np.zeros_like(half))]
    found = ask(served, {"pixels": strings(*pictures)})
    assert found["boxes"].shape == (3, 100, 4)
    assert found["count"].tolist() == [1, 2, 0]
    for place, encoded in enumerate(pictures):
        (wanted,) = detector.detect([detector.prepare(decode_rgb(encoded))])
        count = found["count"][place]
        np.testing.assert_allclose(found["boxes"][place, :count], wanted.boxes_xyxy, atol=1e-6)
        np.testing.assert_allclose(found["scores"][place, :count], wanted.scores, atol=1e-6)
        assert (found["class_ids"][place, count:] == -1).all()
    tensor = np.stack([detector.prepare(decode_rgb(encoded)).array for encoded in pictures])
    for name, array in ask(served, {"pixels": tensor}).items():
        np.testing.assert_allclose(array, found[name], atol=1e-6)


def test_no_pictures_give_no_answers(tmp_path):
    """0 pictures give 0 rows of every output."""
    answer = ask(open_served(brighter_half(tmp_path)), {"pixels": strings()})
    assert {name: len(array) for name, array in answer.items()} == {"boxes": 0, "scores": 0, "class_ids": 0, "count": 0}


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (b"", ImageError, "picture 1 cannot be used: the file is empty"),
        (b"hello", ImageError, "picture 1 cannot be used: this is .*, not a picture"),
        (encode_jpeg(scene(64, 64))[:200], ImageError, "picture 1 cannot be used"),
        (encode_png(scene(101, 100)), TooLargeError, "picture 1 has 101 x 100 pixels; give at most 10000"),
    ],
)
def test_a_bad_picture_is_told_by_its_place(tmp_path, bad, error, message):
    """A picture that is broken or too large fails its own request, by its place there, and no other."""
    served = open_served(mean_color(tmp_path), max_pixels=10_000)
    good = encode_png(scene(100, 100))
    with Plane() as plane:
        plane.load(served, BatchOptions(instances=1, max_delay_s=600, max_batch=4, preferred=(4,)), warm_up=False)
        first = plane.submit("mean-color", {"pixels": strings(good)})
        second = plane.submit("mean-color", {"pixels": strings(good, bad)})
        third = plane.submit("mean-color", {"pixels": strings(good)})
        with pytest.raises(error, match=message):
            second.result(WAIT_S)
        assert first.result(WAIT_S)["embedding"].tolist() == third.result(WAIT_S)["embedding"].tolist()


def test_names_are_looked_up(tmp_path, classifier_model):
    """A registered name opens its model; one that is not known is an error that lists what is."""
    registry = Registry(classifier_model.folder.parent)
    assert open_named("three", registry=registry).fingerprint == open_served(classifier_model).fingerprint
    with pytest.raises(ModelError, match=f"'four' is not known; use one of {BUILT_IN[0]}.*three"):
        open_named("four", registry=registry)


def test_a_bare_onnx_file_is_served(tmp_path):
    """A file without a manifest gives its own tensors by its own names, its rows put together since they may be."""
    served = open_bare(save_map(tmp_path / "map.onnx"))
    assert served.name == "map"
    assert served.inputs == (TensorInfo("x", "float32", (-1, 3, 8, 8)),)
    assert [(info.name, info.shape) for info in served.outputs] == [
        ("color", (-1, 3)),
        ("map", (-1, 3, 8, 8)),
        ("tokens", (-1, 64, 3)),
    ]
    assert served.max_batch > 1
    x = np.random.default_rng(1).random((3, 3, 8, 8), np.float32)
    answer = ask(served, {"x": x}, ["map", "color"])
    np.testing.assert_array_equal(answer["map"], x / 2)
    np.testing.assert_allclose(answer["color"], x.mean((2, 3)) / 2, rtol=1e-5)


def test_inputs_and_outputs_of_a_bare_file_are_chosen(tmp_path):
    """Only what is asked for is given; what is not in the file is an error that lists what is."""
    path = save_map(tmp_path / "map.onnx")
    served = open_bare(path, ["x"], ["color"], name="mine")
    assert (served.name, [info.name for info in served.outputs]) == ("mine", ["color"])
    for wrong in ({"inputs": ["z"]}, {"outputs": ["z"]}, {"value_inputs": {"z": [1, [1]]}}):
        with pytest.raises(ModelError, match=r"has no (in|out)put z; its"):
            open_bare(path, **wrong)


def test_value_inputs_say_what_a_file_leaves_open(tmp_path):
    """Open sides are as the value inputs say, but for the rows; a contradiction is an error."""
    nodes = [helper.make_node("ReduceMean", ["x", "sides"], ["color"], keepdims=0)]
    told = {"x": (TensorProto.FLOAT, ["n", 3, "h", "w"])}, {"color": (TensorProto.FLOAT, ["n", 3])}
    path = save_onnx(tmp_path / "mean.onnx", nodes, *told, {"sides": np.int64([2, 3])})
    assert open_bare(path).inputs[0].shape == (-1, 3, -1, -1)
    served = open_bare(path, value_inputs=json.loads('{"x": [1, [1, 3, 6, 5]]}'))
    assert served.inputs[0].shape == (-1, 3, 6, 5)
    assert ask(served, {"x": np.ones((2, 3, 6, 5), np.float32)}, ["color"])["color"].tolist() == [[1] * 3] * 2
    for wrong in ([1, [1, 4, 6, 5]], [1, [3, 6, 5]], [2, [1, 3, 6, 5]]):
        with pytest.raises(ModelError, match="the value inputs say"):
            open_bare(path, value_inputs={"x": wrong})
    for wrong in (1, [1], ["float", [1]], [1, ["a"]], [99, [1]], [True, [1]], [1, [0]], [1, [1, 3, 0, 5]]):
        with pytest.raises(ModelError):
            open_bare(path, value_inputs={"x": wrong})
    with pytest.raises(ModelError, match="give \\[type, shape\\]"):
        open_bare(path, value_inputs={"x": [1, [1, 3, -5, 5]]})
    huge = open_bare(path, value_inputs={"x": [1, [1, 3, 10**6, 10**6]]})  # not tried, for it would take all memory
    assert (huge.inputs[0].shape, huge.max_batch) == ((-1, 3, 10**6, 10**6), 0)


def test_rows_that_depend_on_each_other_are_kept_apart(tmp_path):
    """A file whose first side is no batch, though it is open, runs each request alone."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "first"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    told = {"x": (TensorProto.FLOAT, ["n", 2])}, {"y": (TensorProto.FLOAT, ["n", 2])}
    path = save_onnx(tmp_path / "centered.onnx", nodes, *told, {"first": np.int64([0])})
    served = open_bare(path)
    assert served.max_batch == 0
    x = np.float32([[1, 2], [3, 6]])
    assert ask(served, {"x": x})["y"].tolist() == [[-1, -2], [1, 2]]


def test_a_bare_file_with_fixed_rows_is_served(tmp_path):
    """A file that takes exactly two rows takes exactly two."""
    served = open_bare(save_map(tmp_path / "two.onnx", (2, 3, 8, 8)))
    assert (served.max_batch, served.inputs[0].shape) == (0, (2, 3, 8, 8))
    assert ask(served, {"x": np.ones((2, 3, 8, 8), np.float32)})["color"].shape == (2, 3)


@pytest.mark.parametrize("save", [save_caffe, save_tensorflow])
def test_bare_files_of_opencv_are_served(tmp_path, save):
    """A Caffe net with its description beside it, or a graph with value inputs, is served without a manifest."""
    path = save(tmp_path)[0]
    served = open_bare(path, value_inputs=None if save is save_caffe else {"input": [1, [1, 3, 8, 8]]})
    (info,) = served.inputs
    x = np.random.default_rng(2).random((2, 3, 8, 8), np.float32)
    (answer,) = ask(served, {info.name: x}).values()
    np.testing.assert_allclose(answer.reshape(2, 3), x.mean((2, 3)) / 2, rtol=1e-4)


def test_a_folder_or_a_name_is_served_with_its_manifest(tmp_path, classifier_model):
    """The folder of a registered model comes with its labels; with outputs chosen it is bare."""
    assert open_bare(classifier_model.folder).labels == ("a", "b", "é")
    bare = open_bare(classifier_model.folder, outputs=["scores"])
    assert ask(bare, {"x": np.zeros((1, 3, 8, 8), np.float32)})["scores"].tolist() == [[1, 3, 2]]
    registry = Registry(classifier_model.folder.parent)
    assert open_bare("three", registry=registry).task == "classifier"
    assert open_bare("three", ["x"], registry=registry).task == "tensors"
    with pytest.raises(ModelError, match="not known"):
        open_bare(tmp_path / "nowhere.onnx", registry=registry)


def test_a_broken_file_is_refused(tmp_path):
    """What no runtime reads is an error that says so."""
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    (tmp_path / "bad.txt").write_bytes(b"not a model")
    for name in ("bad.onnx", "bad.txt"):
        with pytest.raises(ModelError, match="bad"):
            open_bare(tmp_path / name)


def test_a_function_is_served():
    """A function gets its inputs in their order, and gives an array, several, or arrays by name."""
    a, b = TensorInfo("a", "float32", (-1,)), TensorInfo("b", "float32", (-1,), optional=True)
    total, words = TensorInfo("total", "float64", (-1,)), TensorInfo("words", "object", (-1,))

    def add(one, other):
        """Add two arrays.

        In detail.
        """
        return one if other is None else one + other

    served = serve_function(add, "add", [a, b], [total])
    assert (served.task, served.description) == ("function", "Add two arrays.")
    x = np.float32([1, 2])
    assert ask(served, {"a": x})["total"].tolist() == [1, 2]
    answer = ask(served, {"a": x, "b": x})["total"]
    assert (answer.tolist(), answer.dtype) == ([2, 4], np.float64)
    for returned in ((x, ["a", "é"]), {"words": ["a", b"\xc3\xa9"], "total": x, "more": x}):
        served = serve_function(lambda _a, r=returned: r, "both", [a], [total, words], max_batch=2)
        assert ask(served, {"a": x}, ["words"])["words"].tolist() == [b"a", "é".encode()]
    with pytest.raises(ModelError, match="returned 3 arrays for 2 outputs"):
        ask(serve_function(lambda _a: (x, x, x), "both", [a], [total, words]), {"a": x})
    for wrong in ([b"a", 5], [None, b"a"]):
        with pytest.raises(ModelError, match="where bytes or str are expected"):
            ask(serve_function(lambda _a, w=wrong: np.array(w, object), "words", [a], [words]), {"a": x})
    nul = serve_function(lambda _a: [b"a\0", b"\0"], "words", [a], [TensorInfo("any", "", ())])
    assert ask(nul, {"a": x})["any"].tolist() == [b"a\0", b"\0"]
    with pytest.raises(ModelError, match="name its outputs"):
        serve_function(add, "add", [a], [])


def test_a_function_is_not_called_twice_at_once():
    """A function that keeps state needs no lock: by default one thread calls it."""
    state = {"inside": 0, "most": 0}

    def count(x):
        state["inside"] += 1
        state["most"] = max(state["most"], state["inside"])
        answer = x + sum(range(2_000))
        state["inside"] -= 1
        return answer

    x = TensorInfo("x", "float64", (-1,))
    with Plane() as plane:
        plane.load(serve_function(count, "count", [x], [x]))
        futures = [plane.submit("count", {"x": np.ones(1)}) for _ in range(100)]
        assert not concurrent.futures.wait(futures, WAIT_S).not_done
    assert state["most"] == 1
