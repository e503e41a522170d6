"""Tiny models made by code, for tests: the mean color in every format, and ONNX models of fixed outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 8
PROTOTXT = """name: "mean"
layer { name: "data" type: "Input" top: "data"  # the pictures
        input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "half" type: "Power" bottom: "data" top: "half" power_param { scale: 0.5 } }
layer { name: "color" type: "Pooling" bottom: "half" top: "color" pooling_param { pool: AVE global_pooling: true } }
"""


def save_onnx(path: Path, nodes, inputs, outputs, constants=None, *, external: bool = False) -> Path:
    """Save a graph: inputs and outputs are name to (element type, shape); constants are name to array."""

    def values(table):
        return [helper.make_tensor_value_info(name, *spec) for name, spec in table.items()]

    stored = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "small", values(inputs), values(outputs), stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if external:
        onnx.save(model, str(path), save_as_external_data=True, location=path.name + ".data", size_threshold=100)
    else:
        onnx.save(model, str(path))
    return path


def save_fixed(path: Path, outputs: dict[str, np.ndarray], shape=("n", 3, SIDE, SIDE), *, dtype=np.float32) -> Path:
    """A model that gives the same float32 arrays for every picture of a batch, whatever is in it."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Cast", ["x"], ["xf"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["xf", "rest"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["zeros"]),
    ]
    constants = {"rest": np.arange(1, len(shape), dtype=np.int64), "zero": np.float32([0])}
    for name, array in outputs.items():
        constants |= {
            f"{name}_value": array[None].astype(np.float32),
            f"{name}_shape": np.int64([-1] + [1] * array.ndim),
        }
        nodes += [
            helper.make_node("Reshape", ["zeros", f"{name}_shape"], [f"{name}_zeros"]),
            helper.make_node("Add", [f"{name}_zeros", f"{name}_value"], [name]),
        ]
    told = {name: (TensorProto.FLOAT, [shape[0], *array.shape]) for name, array in outputs.items()}
    return save_onnx(path, nodes, {"x": (kind, list(shape))}, told, constants)


def save_map(path: Path, shape=("n", 3, SIDE, SIDE), *, external: bool = False) -> Path:
    """A model that halves each pixel: as a map [n, 3, h, w], as tokens [n, h * w, 3], and the mean color [n, 3]."""
    nodes = [
        helper.make_node("Mul", ["x", "half"], ["map"]),
        helper.make_node("Reshape", ["map", "flat"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["tokens"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["map", "sides"], ["color"], keepdims=0),
    ]
    outputs = {
        "color": (TensorProto.FLOAT, [shape[0], 3]),
        "map": (TensorProto.FLOAT, list(shape)),
        "tokens": (TensorProto.FLOAT, [shape[0], "t", 3]),
    }
    half = np.full((1, 3, SIDE, SIDE), 0.5, np.float32)
    constants = {"half": half, "flat": np.int64([0, 3, -1]), "sides": np.int64([2, 3])}
    return save_onnx(path, nodes, {"x": (TensorProto.FLOAT, list(shape))}, outputs, constants, external=external)


def save_caffe(folder: Path) -> list[Path]:
    """Half of the mean color as a Caffe net, of which only the name has to be stored."""
    (folder / "mean.prototxt").write_text(PROTOTXT)
    (folder / "mean.caffemodel").write_bytes(_bytes(1, b"mean"))
    return [folder / "mean.caffemodel", folder / "mean.prototxt"]


def save_tensorflow(folder: Path) -> list[Path]:
    """Half of the mean color as a frozen TensorFlow graph (a GraphDef, written field by field)."""

    def attribute(key: str, value: bytes) -> bytes:
        return _bytes(5, _bytes(1, key.encode()) + _bytes(2, value))

    def node(name: str, kind: str, inputs: list[str], *attributes: bytes) -> bytes:
        heads = _bytes(1, name.encode()) + _bytes(2, kind.encode())
        return _bytes(1, heads + b"".join(_bytes(3, each.encode()) for each in inputs) + b"".join(attributes))

    def whole(*numbers: int) -> bytes:
        return _bytes(1, b"".join(_whole(3, number) for number in numbers))

    real = _whole(6, 1)
    half = _whole(1, 1) + _bytes(2, b"") + _bytes(4, np.float32(0.5).tobytes())  # a TensorProto: type, shape, content
    pool = [attribute("ksize", whole(1, SIDE, SIDE, 1)), attribute("strides", whole(1, 1, 1, 1))]
    form = [attribute("padding", _bytes(2, b"VALID")), attribute("data_format", _bytes(2, b"NHWC"))]
    graph = node("input", "Placeholder", [], attribute("dtype", real))
    graph += node("factor", "Const", [], attribute("dtype", real), attribute("value", _bytes(8, half)))
    graph += node("half", "Mul", ["input", "factor"], attribute("T", real))
    graph += node("color", "AvgPool", ["half"], attribute("T", real), *pool, *form)
    (folder / "mean.pb").write_bytes(graph)
    return [folder / "mean.pb"]


def save_tflite(folder: Path) -> list[Path]:
    """The mean color as a TFLite file, an average pooling over the whole picture, built table by table."""
    from flatbuffers import Builder

    builder = Builder(512)

    def vector(numbers):
        builder.StartVector(4, len(numbers), 4)
        for number in reversed(numbers):
            builder.PrependInt32(number)
        return builder.EndVector()

    def offsets(tables):
        builder.StartVector(4, len(tables), 4)
        for each in reversed(tables):
            builder.PrependUOffsetTRelative(each)
        return builder.EndVector()

    def table(fields: int, **slots):
        builder.StartObject(fields)
        for key, value in slots.items():
            kind, slot = key.rsplit("_", 1)
            getattr(builder, f"Prepend{kind}Slot")(int(slot), value, 0)
        return builder.EndObject()

    def tensor(name: str, shape, buffer: int):
        word, sides = builder.CreateString(name), vector(shape)
        return table(8, UOffsetTRelative_0=sides, Uint32_2=buffer, UOffsetTRelative_3=word)

    tensors = offsets([tensor("input", [1, SIDE, SIDE, 3], 1), tensor("color", [1, 1, 1, 3], 2)])
    valid_once_over_all = table(6, Int8_0=1, Int32_1=1, Int32_2=1, Int32_3=SIDE, Int32_4=SIDE)
    takes, gives = vector([0]), vector([1])
    pool = table(
        9, UOffsetTRelative_1=takes, UOffsetTRelative_2=gives, Uint8_3=5, UOffsetTRelative_4=valid_once_over_all
    )
    takes, gives, operators = vector([0]), vector([1]), offsets([pool])
    slots = {"UOffsetTRelative_0": tensors, "UOffsetTRelative_1": takes, "UOffsetTRelative_2": gives}
    graphs = offsets([table(5, **slots, UOffsetTRelative_3=operators)])
    codes = offsets([table(4, Int8_0=1, Int32_2=1, Int32_3=1)])
    buffers = offsets([table(1) for _ in range(3)])
    slots = {"Uint32_0": 3, "UOffsetTRelative_1": codes, "UOffsetTRelative_2": graphs, "UOffsetTRelative_4": buffers}
    builder.Finish(table(8, **slots), b"TFL3")
    (folder / "mean.tflite").write_bytes(bytes(builder.Output()))
    return [folder / "mean.tflite"]


def _bytes(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def _whole(number: int, value: int) -> bytes:
    """A protobuf field of a small whole number."""
    return bytes([number << 3, value])
