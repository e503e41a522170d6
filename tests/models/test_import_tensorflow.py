"""Models of TensorFlow and Keras become ONNX that gives the same; what could do more than compute is refused."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from imagelake.errors import ModelError
from imagelake.models.conversion import Comparison, Tolerance
from imagelake.models.import_tensorflow import import_tensorflow_file, is_tensorflow, load_tensorflow
from imagelake.models.keras_resnet50 import build_resnet50
from imagelake.models.onnx_runtime import open_session
from imagelake.models.tensorflow_files import require_safe_graph
from pictures import make_image

pytest.importorskip("tensorflow", reason="tensorflow is not installed: the extra `tensorflow`")
pytest.importorskip("tf2onnx", reason="tf2onnx is not installed: the extra `tensorflow`")
tf = load_tensorflow()
import keras  # noqa: E402  (after TensorFlow, whose greeting it would bring)

COMPARISON = Comparison([make_image(seed, 80, 60) for seed in range(3)])


# TensorFlow and Keras warn of their own parts while these tests make models. Importing is quiet by itself.
pytestmark = pytest.mark.filterwarnings("ignore")


def small_model(extra=None):
    keras.utils.set_random_seed(0)
    given = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(given)
    x = keras.layers.BatchNormalization()(x)
    if extra is not None:
        x = extra(x)
    vector = keras.layers.GlobalMaxPooling2D(name="vector")(x)
    classes = keras.layers.Dense(5, activation="softmax", name="classes")(vector)
    return keras.Model(given, [vector, classes])


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("tensorflow")
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.export(folder / "saved", verbose=False)
    write_graph(folder / "model.pb", lambda x: tf.nn.relu(x[:, ::2] - 0.5, name="result"))
    return folder


def write_graph(path, function):
    """A frozen GraphDef of a function of float32 [any, 32, 32, 3]."""
    with tf.Graph().as_default() as graph:
        function(tf.compat.v1.placeholder(tf.float32, (None, 32, 32, 3), name="picture"))
        path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "saved"])
def test_a_model_gives_what_it_gave(folder, model, tmp_path, name):
    """All outputs, for one picture and for several at once, from each of Keras's forms."""
    imported = import_tensorflow_file(folder / name, tmp_path / "model.onnx", COMPARISON)
    assert imported.outputs == ("output_0", "output_1")
    assert imported.inputs[0].shape == (-1, 32, 32, 3)
    assert all(agreement.calls == 4 and agreement.cosine > 0.9999 for agreement in imported.agreements)
    pictures = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    found = open_session(imported.onnx).run(imported.outputs, pictures)
    wanted = [tensor.numpy() for tensor in model(pictures, training=False)]
    shapes = sorted(array.shape for array in wanted)
    assert sorted(array.shape for array in found.values()) == shapes
    for array in found.values():
        (same,) = [other for other in wanted if other.shape == array.shape]
        np.testing.assert_allclose(array, same, atol=1e-5)


def test_a_frozen_graph_gives_what_it_gave(folder, tmp_path):
    """Its results are the nodes that no other uses, or those that are named."""
    imported = import_tensorflow_file(folder / "model.pb", tmp_path / "model.onnx", COMPARISON)
    assert imported.outputs == ("output",)
    import_tensorflow_file(folder / "model.pb", tmp_path / "model.onnx", COMPARISON, outputs=["result"])
    with pytest.raises(ModelError, match="no nodes"):
        import_tensorflow_file(folder / "model.pb", tmp_path / "model.onnx", COMPARISON, outputs=["nothing"])


def test_a_result_beyond_the_tolerance_is_refused(folder, tmp_path):
    """The message has the figures."""
    strict = Comparison(COMPARISON.images_rgb, tolerance=Tolerance(0.0, 1.1))
    with pytest.raises(ModelError, match=r"largest difference .*cosine.*allowed are"):
        import_tensorflow_file(folder / "model.keras", tmp_path / "model.onnx", strict)


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def with_config(source, target, change):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            new.writestr(name, content)
    return target


@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5"])
def test_python_in_a_layer_is_refused(tmp_path, name):
    """A Lambda layer is Python as bytes; the message says so and what to do."""
    witness = tmp_path / "witness"
    touch = keras.layers.Lambda(lambda x, w=str(witness): (Path(w).touch(), x)[1], output_shape=(15, 15, 8))
    small_model(touch).save(tmp_path / name)
    witness.unlink(missing_ok=True)
    with pytest.raises(ModelError, match="it holds a Lambda, which is Python"):
        import_tensorflow_file(tmp_path / name, tmp_path / "model.onnx", COMPARISON)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "function"),
        ("keras.utils", "get_file"),
        ("keras.layers", "TFSMLayer"),
        ("keras.src.utils.file_utils", "Thing"),
        ("subprocess", "Popen"),
        ("keras.layers", "__lambda__"),
    ],
)
def test_classes_that_are_not_keras_own_layers_are_refused(folder, tmp_path, module, name):
    """By the module and the name that the file gives."""
    evil = {"module": module, "class_name": name, "config": {"name": "x"}, "registered_name": None}
    path = with_config(
        folder / "model.keras", tmp_path / "evil.keras", lambda config: config["config"]["layers"].append(evil)
    )
    with pytest.raises(ModelError, match="is refused"):
        import_tensorflow_file(path, tmp_path / "model.onnx", COMPARISON)


def test_a_pickle_in_the_clothes_of_a_model_is_never_read(tmp_path):
    """Whatever it is called."""
    witness = tmp_path / "witness"
    for name in ("model.keras", "model.h5", "model.pb"):
        (tmp_path / name).write_bytes(pickle.dumps(Touch(witness)))
        with pytest.raises(ModelError):
            import_tensorflow_file(tmp_path / name, tmp_path / "model.onnx", COMPARISON)
    assert not witness.exists()


def test_further_parts_and_links_are_refused(folder, tmp_path):
    """An archive holds a description and weights; weights lie in the file itself."""
    path = with_config(folder / "model.keras", tmp_path / "more.keras", lambda _config: None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/../../outside", b"x")
    with pytest.raises(ModelError, match="which no model needs"):
        import_tensorflow_file(path, tmp_path / "model.onnx", COMPARISON)
    h5py = pytest.importorskip("h5py")
    linked = tmp_path / "linked.h5"
    linked.write_bytes((folder / "model.h5").read_bytes())
    with h5py.File(linked, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(ModelError, match="a link to elsewhere"):
        import_tensorflow_file(linked, tmp_path / "model.onnx", COMPARISON)


EVIL = {
    "PyFunc": lambda x: tf.compat.v1.py_func(lambda y: y, [x], tf.float32),
    "ReadFile": lambda _: tf.io.read_file("/etc/passwd"),
    "WriteFile": lambda _: tf.raw_ops.WriteFile(filename="/tmp/never-written", contents="x"),
    "MatchingFiles": lambda _: tf.io.matching_files("/etc/*"),
    "SaveV2": lambda x: tf.raw_ops.SaveV2(
        prefix="/tmp/never-written", tensor_names=["x"], shape_and_slices=[""], tensors=[x]
    ),
    "PrintV2": lambda _: tf.raw_ops.PrintV2(input="hello"),
}


@pytest.mark.parametrize("operator", EVIL)
def test_a_graph_that_does_more_than_compute_is_refused(tmp_path, operator):
    """By the name of the operator, before anything runs."""
    path = write_graph(tmp_path / "evil.pb", EVIL[operator])
    with pytest.raises(ModelError, match=f"is a {operator}, which has no equivalent"):
        import_tensorflow_file(path, tmp_path / "model.onnx", COMPARISON)
    assert not list(Path("/tmp").glob("never-written*"))


@pytest.mark.parametrize("operator", ["ReadFile", "WriteFile", "PrintV2"])
def test_a_saved_model_that_does_more_than_compute_is_refused(tmp_path, operator):
    """Wherever the operator stands: in the signature, or in a function that loading would call."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 32, 32, 3), tf.float32)])
        def serve(self, x):
            EVIL[operator](x)
            return {"result": x + 1.0}

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "evil"), signatures={"serving_default": module.serve})
    with pytest.raises(ModelError, match=f"is a {operator}"):
        import_tensorflow_file(tmp_path / "evil", tmp_path / "model.onnx", COMPARISON)
    assert not list(Path("/tmp").glob("never-written*"))


def test_a_function_that_saves_may_not_be_called(folder):
    """Every SavedModel has one; nothing that computes calls it."""
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((folder / "saved" / "saved_model.pb").read_bytes())
    graph = proto.meta_graphs[0].graph_def
    (saver,) = [f.signature.name for f in graph.library.function if "traced_save" in f.signature.name]
    require_safe_graph(graph, "it", [])
    node = graph.node.add(name="evil", op="StatefulPartitionedCall")
    node.attr["f"].func.name = saver
    with pytest.raises(ModelError, match="which writes or reads files"):
        require_safe_graph(graph, "it", ["evil"])


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.pb", "saved"])
def test_what_is_no_model_is_refused(tmp_path, name):
    """Empty files, weights alone, a folder of something else, a name of something else."""
    path = tmp_path / name
    if name == "saved":
        path.mkdir()
        assert not is_tensorflow(path)
    else:
        path.write_bytes(b"")
    with pytest.raises(ModelError, match=name):
        import_tensorflow_file(path, tmp_path / "model.onnx", COMPARISON)


def test_weights_alone_are_no_model(model, tmp_path):
    """The message says what is missing."""
    model.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ModelError, match="weights without the model"):
        import_tensorflow_file(tmp_path / "model.weights.h5", tmp_path / "model.onnx", COMPARISON)


@pytest.mark.slow
def test_the_demos_resnet50_is_built_around_its_weights(tmp_path):
    """2,048 numbers, the maximum over the map, from a file of weights as Keras publishes it (these are random)."""
    weights = tmp_path / "resnet50.weights.h5"
    original = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="max")
    original.save_weights(weights)
    imported = build_resnet50(weights, tmp_path / "resnet50.onnx", side=64)
    pictures = np.random.default_rng(0).uniform(-100, 100, (2, 64, 64, 3)).astype(np.float32)
    found = open_session(imported.onnx).run(["output"], pictures)["output"]
    assert found.shape == (2, 2048)
    np.testing.assert_allclose(found, original(pictures, training=False).numpy(), rtol=1e-3, atol=1e-3)
    small_model().save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ModelError, match="does not fit ResNet50"):
        build_resnet50(tmp_path / "other.weights.h5", tmp_path / "x.onnx", side=64)
