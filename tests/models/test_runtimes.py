"""One suite of laws for whatever runs a model file."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imagelake.errors import ModelError
from imagelake.models.file_facts import sort_files
from imagelake.models.file_manifest import FileManifest, TensorSpec
from imagelake.models.onnx_runtime import SessionSettings, open_session
from imagelake.models.registry import Registry
from imagelake.models.runtime import open_runtime, run_in_batches
from small_models import SIDE, save_caffe, save_fixed, save_map, save_tensorflow, save_tflite

TOLERANCE = 1e-6
FACTOR = {"tflite": 1.0}  # the others halve the mean color


def write(kind, folder):
    """The files of the model `mean color` in one format."""
    if kind == "onnx":
        return [save_map(folder / "mean.onnx")]
    if kind == "caffe":
        return save_caffe(folder)
    if kind == "tensorflow":
        return save_tensorflow(folder)
    if kind == "tflite":
        return save_tflite(folder)
    return write_torch(kind, folder)


def write_torch(kind, folder):
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")

    class MeanColor(torch.nn.Module):
        def forward(self, x):
            return 0.5 * x.mean(dim=(2, 3))

    example = (torch.zeros(2, 3, SIDE, SIDE),)
    if kind == "torchscript":
        path = folder / "mean.pt"
        torch.jit.save(torch.jit.trace(MeanColor(), example), path)
    else:
        path = folder / "mean.pt2"
        shapes = {"x": {0: torch.export.Dim("n", min=1, max=64)}}
        torch.export.save(torch.export.export(MeanColor(), example, dynamic_shapes=shapes), path)
    return [path]


NAMES = {"onnx": "x", "caffe": "data", "pt2": "x", "torchscript": "x"}
RUNTIMES = {"onnx": "onnx", "pt2": "torch", "torchscript": "torch"}


@pytest.fixture(
    scope="module",
    params=[
        "onnx",
        "caffe",
        "tensorflow",
        "tflite",
        pytest.param("pt2", marks=pytest.mark.filterwarnings("ignore::DeprecationWarning")),
        pytest.param("torchscript", marks=pytest.mark.filterwarnings("ignore::DeprecationWarning")),
    ],
)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def model(kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    files = sort_files(write(kind, folder))
    manifest = FileManifest(
        name="mean",
        task="tensor",
        runtime=RUNTIMES.get(kind, "opencv"),
        files={role: path.name for role, path in files.items()},
        inputs=(TensorSpec(name=NAMES.get(kind, "input"), shape=(-1, 3, SIDE, SIDE), layout="nchw"),),
    )
    return Registry(tmp_path_factory.mktemp("models")).add(manifest, files)


@pytest.fixture(scope="module")
def runtime(model):
    return open_runtime(model)


def pictures(count, seed=0):
    return np.random.default_rng(seed).random((count, 3, SIDE, SIDE), np.float32)


def expected(kind, array):
    return FACTOR.get(kind, 0.5) * array.mean(axis=(2, 3), dtype=np.float64)


def run(runtime, array):
    name = runtime.outputs[0]
    return runtime.run([name], array)[name].reshape(len(array), 3)


@pytest.mark.parametrize("count", [1, 2, 5, 3])
def test_every_runtime_gives_the_same_answer(runtime, kind, count):
    """The same model and input give the same output in every runtime, to 1e-6, whatever the batch."""
    array = pictures(count, seed=count)
    np.testing.assert_allclose(run(runtime, array), expected(kind, array), atol=TOLERANCE)


def test_an_answer_stays_as_it_is(runtime, kind):
    """A later run does not change what an earlier one gave."""
    first = run(runtime, pictures(2, seed=1))
    run(runtime, pictures(2, seed=2))
    np.testing.assert_allclose(first, expected(kind, pictures(2, seed=1)), atol=TOLERANCE)


def test_threads_may_share_a_runtime(runtime, kind):
    """Calls from many threads at once, with batches of several sizes, give what one thread gives."""

    def one(seed):
        array = pictures(1 + seed % 3, seed)
        return np.abs(run(runtime, array) - expected(kind, array)).max()

    with ThreadPoolExecutor(6) as pool:
        assert max(pool.map(one, range(60))) < TOLERANCE


def test_inputs_by_name_or_alone(runtime):
    """A model with one input takes its array with or without its name, and from any memory order."""
    array = pictures(2)
    (spec,) = runtime.inputs
    output = runtime.outputs[0]
    named = runtime.run([output], {spec.name: np.asfortranarray(array)})[output]
    np.testing.assert_array_equal(named, runtime.run([output], array)[output])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3, SIDE, SIDE), np.float32),
        np.zeros((1, 3, SIDE, SIDE + 1), np.float32),
        np.zeros((1, 4, SIDE, SIDE), np.float32),
        np.zeros((3, SIDE, SIDE), np.float32),
        np.zeros((1, 3, SIDE, SIDE), np.float64),
        np.zeros((1, 3, SIDE, SIDE), np.uint8),
    ],
    ids=["empty", "size", "channels", "axes", "float64", "uint8"],
)
def test_wrong_arrays_are_refused(runtime, array):
    """An empty batch, another shape or another type is a ModelError that says what fits; the runtime goes on."""
    with pytest.raises(ModelError, match=r"give float32 \[any, 3, 8, 8\]"):
        runtime.run(runtime.outputs[:1], array)
    assert run(runtime, pictures(1)).shape == (1, 3)


def test_wrong_names_are_refused(runtime):
    """An unknown output, no output, and an unknown, missing or further input are ModelErrors that say what there is."""
    array = pictures(1)
    for outputs in ([], ["nowhere"]):
        with pytest.raises(ModelError, match=runtime.outputs[0]):
            runtime.run(outputs, array)
    name = runtime.inputs[0].name
    for inputs in ({}, {"nobody": array}, {name: array, "nobody": array}):
        with pytest.raises(ModelError, match=name):
            runtime.run(runtime.outputs[:1], inputs)


def test_any_number_of_pictures_in_batches(runtime, kind):
    """`run_in_batches` answers for each picture once, in order, and for none where there are none."""
    assert list(run_in_batches(runtime, runtime.outputs[:1], pictures(0), 4)) == []
    array = pictures(7)
    name = runtime.outputs[0]
    parts = list(run_in_batches(runtime, [name], array, 3))
    assert [count for count, _ in parts] == [3, 3, 1]
    found = np.concatenate([outputs[name][:count].reshape(count, 3) for count, outputs in parts])
    np.testing.assert_allclose(found, expected(kind, array), atol=TOLERANCE)


def test_a_pickled_model_opens_elsewhere(model, kind):
    """A registered model is small, survives pickling, and opens to the same."""
    sent = pickle.dumps(model)
    assert len(sent) < 10_000
    again = pickle.loads(sent)
    assert again == model
    np.testing.assert_allclose(run(open_runtime(again), pictures(2)), expected(kind, pictures(2)), atol=TOLERANCE)


def test_a_file_that_is_no_model(model, tmp_path):
    """Bytes that are no model are a ModelError when they are opened, not a crash."""
    files = {role: model.path(role) for role in model.manifest.files}
    broken = tmp_path / model.manifest.files["model"]
    broken.write_bytes(b"\xff" * 99)
    manifest = FileManifest(
        name="broken",
        task="tensor",
        runtime=model.manifest.runtime,
        files=model.manifest.files,
        inputs=model.manifest.inputs,
    )
    added = Registry(tmp_path / "models").add(manifest, files | {"model": broken})
    with pytest.raises(ModelError):
        open_runtime(added)


@pytest.mark.parametrize(("threads", "device"), [(0, "cpu"), (1, "tpu")])
def test_how_a_model_runs_is_checked(model, threads, device):
    """No threads, or a device that nobody knows, is a ModelError."""
    with pytest.raises(ModelError, match=r"0 threads|tpu"):
        open_runtime(model, threads=threads, device=device)


def test_a_device_that_is_not_there(model):
    """Asking for CUDA is an error where there is none, never silently the processor; `auto` goes on."""
    np.testing.assert_array_equal(run(open_runtime(model, device="auto"), pictures(1)).shape, (1, 3))
    try:
        opened = open_runtime(model, device="cuda")
    except ModelError as error:
        assert "cpu" in str(error)  # noqa: PT017
    else:
        assert run(opened, pictures(1)).shape == (1, 3)


def test_a_fixed_batch_is_filled_up(tmp_path):
    """A model that takes three pictures exactly answers for any number of them."""
    runtime = open_session(save_map(tmp_path / "three.onnx", (3, 3, SIDE, SIDE)))
    assert runtime.inputs[0].batch == 3
    array = pictures(4)
    parts = list(run_in_batches(runtime, ["color"], array, 8))
    assert [count for count, _ in parts] == [3, 1]
    found = np.concatenate([outputs["color"][:count] for count, outputs in parts])
    np.testing.assert_allclose(found, 0.5 * array.mean(axis=(2, 3)), atol=TOLERANCE)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.int64, np.float64, np.bool_])
def test_onnx_takes_arrays_of_any_type(tmp_path, dtype):
    """The type of an input is what the file says, and no other is taken."""
    runtime = open_session(save_fixed(tmp_path / "any.onnx", {"y": np.float32([1, 2])}, dtype=dtype))
    (spec,) = runtime.inputs
    assert np.dtype(spec.dtype) == dtype
    assert spec.batch is None
    np.testing.assert_array_equal(runtime.run(["y"], np.ones((2, 3, SIDE, SIDE), dtype))["y"], [[1, 2], [1, 2]])
    other = np.float32 if dtype != np.float32 else np.uint8
    with pytest.raises(ModelError, match=spec.dtype):
        runtime.run(["y"], np.ones((2, 3, SIDE, SIDE), other))


def test_settings_of_a_session_change_no_answer(tmp_path):
    """Threads, spinning and the arena cost or save time only."""
    path = save_map(tmp_path / "map.onnx")
    array = pictures(3)
    answers = [
        open_session(path, SessionSettings(threads=threads, spinning=spinning, arena=arena)).run(["color"], array)[
            "color"
        ]
        for threads, spinning, arena in [(1, False, True), (2, True, False), (2, False, True)]
    ]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=TOLERANCE)
