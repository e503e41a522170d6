"""Models of a few nodes, whose answers can be worked out by hand."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from imagelake.models.file_manifest import FileManifest, TensorSpec
from imagelake.models.registry import Registry

SIDE = 32
HALVES = ("left", "right")


class _Graph:
    """Nodes and constants on their way to a model."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, operator, inputs, output, **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def model(self, shape, outputs):
        given = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)]
        taken = [helper.make_tensor_value_info(name, kind, sides) for name, kind, sides in outputs]
        graph = helper.make_graph(self.nodes, "tiny", given, taken, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model.SerializeToString()


def brighter_half(folder, *, throws_when_dark=False):
    """A detector of two boxes a picture, the left and the right half, whose scores are how bright they are, 0 to 1.

    With `throws_when_dark` it fails on a batch that has a picture of mean brightness below 8.
    """
    graph = _Graph()
    means = []
    for name, start, stop in (("left", 0, SIDE // 2), ("right", SIDE // 2, SIDE)):
        bounds = [
            graph.constant(f"{name}_{key}", np.array([v])) for key, v in (("from", start), ("to", stop), ("axis", 3))
        ]
        half = graph.node("Slice", ["pixels", *bounds], f"{name}_half")
        means.append(graph.node("ReduceMean", [half], f"{name}_mean", axes=[1, 2, 3], keepdims=0))
    columns = [
        graph.node("Unsqueeze", [mean, graph.constant(f"{mean}_at", np.array([1]))], f"{mean}_column") for mean in means
    ]
    both = graph.node("Concat", columns, "both", axis=1)
    scores = graph.node("Div", [both, graph.constant("white", np.float32(255))], "bright")
    if throws_when_dark:
        darkest = graph.node(
            "ReduceMin", [graph.node("ReduceMean", ["both"], "means", axes=[1], keepdims=0)], "darkest", keepdims=0
        )
        dark = graph.node(
            "Cast",
            [graph.node("Less", [darkest, graph.constant("eight", np.float32(8))], "is_dark")],
            "index",
            to=TensorProto.INT64,
        )
        one = graph.node(
            "Gather", [graph.constant("ones", np.ones(1, np.float32)), dark], "one"
        )  # index 1 is out of range
        scores = graph.node("Mul", [scores, one], "checked")
    graph.node("Identity", [scores], "scores")
    count = graph.node("Shape", [both], "count", start=0, end=1)
    halves = np.array([[[0, 0, 0.5, 1], [0.5, 0, 1, 1]]], np.float32)
    wanted = graph.node("Concat", [count, graph.constant("halves_shape", np.array([2, 4]))], "boxes_shape", axis=0)
    graph.node("Expand", [graph.constant("halves", halves), wanted], "boxes")
    outputs = [("boxes", TensorProto.FLOAT, ["n", 2, 4]), ("scores", TensorProto.FLOAT, ["n", 2])]
    wanted = graph.node("Concat", [count, graph.constant("classes_shape", np.array([2]))], "wanted_classes", axis=0)
    graph.node("Expand", [graph.constant("class_ids", np.array([[0, 1]], np.float32)), wanted], "classes")
    outputs.append(("classes", TensorProto.FLOAT, ["n", 2]))
    manifest = FileManifest(
        name="brighter-half",
        task="detector",
        runtime="onnx",
        files={"model": "brighter-half.onnx"},
        inputs=(TensorSpec(name="pixels", shape=(-1, 3, SIDE, SIDE), layout="nchw"),),
        transforms=({"resize": {"size_wh": [SIDE, SIDE]}}, {"dtype": "float32"}, {"layout": "chw"}),
        head={"kind": "boxes", "boxes": "boxes", "scores": "scores", "classes": "classes", "normalized": True},
        labels=HALVES,
    )
    return _add(folder, manifest, graph.model(["n", 3, SIDE, SIDE], outputs))


def mean_color(folder):
    """An embedder: the mean of each channel of a picture made 8 x 8, 0 to 255, compared by `l2`."""
    graph = _Graph()
    graph.node("ReduceMean", ["pixels"], "color", axes=[2, 3], keepdims=0)
    manifest = FileManifest(
        name="mean-color",
        task="embedder",
        runtime="onnx",
        files={"model": "mean-color.onnx"},
        inputs=(TensorSpec(name="pixels", shape=(-1, 3, 8, 8), layout="nchw"),),
        transforms=({"resize": {"size_wh": [8, 8]}}, {"dtype": "float32"}, {"layout": "chw"}),
        head={"kind": "embedder", "metric": "l2"},
    )
    return _add(folder, manifest, graph.model(["n", 3, 8, 8], [("color", TensorProto.FLOAT, ["n", 3])]))


def _add(folder, manifest, content):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{manifest.name}.onnx"
    path.write_bytes(content)
    return Registry(folder / "registry").add(manifest, {"model": path}, replace=True)
