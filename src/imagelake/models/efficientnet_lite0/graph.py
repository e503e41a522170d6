"""The fp32 graph of EfficientNet-Lite0, from raw pixels to features and logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from imagelake.errors import ModelError
from imagelake.models.efficientnet_lite0.architecture import (
    CLASSES,
    FEATURE_CHANNELS,
    FEATURE_STRIDE,
    RELU6_MAX,
    Layer,
    layers,
    same_padding,
)
from imagelake.models.efficientnet_lite0.weights import Weights

INPUT = "image_rgb"
OUTPUTS = ("logits", "features_avg", "features_max", "feature_map")

# Old enough for every runtime that is still kept up.
_OPSET = 17
_IR_VERSION = 8


class GraphParts:
    """Nodes and constants on their way to a graph: a builder, so it has state."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Add a constant and give its name."""
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """Add a node with one output and give the name of that output."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output


def build_fp32(
    weights: Weights,
    size_wh: tuple[int, int],
    mean_rgb: tuple[float, float, float],
    std_rgb: tuple[float, float, float],
    outputs: Sequence[str] = ("features_avg",),
) -> bytes:
    """Build the fp32 graph.

    Normalisation and the change of layout are inside, so that training, batch and serving see the same numbers.

    Args:
        weights: with folded batch norms.
        size_wh: width and height of the pictures in pixels; any, odd ones too, since the padding is computed for it.
        mean_rgb: subtracted from each channel, in units of 0..255.
        std_rgb: each channel is then divided by it.
        outputs: which of `OUTPUTS` the graph gives, or names of inner tensors (see `architecture.layers`).

    Returns:
        An ONNX file. Input `image_rgb`: uint8 [batch, height, width, 3], any batch. Outputs, float32: `logits`
        [batch, 1000], `features_avg` and `features_max` [batch, 1280], `feature_map` [batch, 1280, h, w].

    Raises:
        ModelError: an output is not known.
    """
    parts = GraphParts()
    channels_first = parts.node("Transpose", [INPUT], "pixels", perm=[0, 3, 1, 2])
    pixels = parts.node("Cast", [channels_first], "pixels_float", to=TensorProto.FLOAT)
    mean = parts.constant("mean", np.array(mean_rgb, np.float32).reshape(1, 3, 1, 1))
    std = parts.constant("std", np.array(std_rgb, np.float32).reshape(1, 3, 1, 1))
    source = parts.node("Div", [parts.node("Sub", [pixels, mean], "centered"), std], "normalized")
    low = parts.constant("relu6_low", np.array(0, np.float32))
    high = parts.constant("relu6_high", np.array(RELU6_MAX, np.float32))
    width, height = size_wh
    for layer in layers():
        kernel = parts.constant(f"{layer.name}.kernel", weights.kernels[layer.name])
        bias = parts.constant(f"{layer.name}.bias", weights.biases[layer.name])
        raw = f"{layer.name}.raw" if layer.clipped else layer.name
        attributes, (width, height) = convolution_attributes(layer, (width, height))
        source = parts.node("Conv", [source, kernel, bias], raw, **attributes)
        if layer.clipped:
            source = parts.node("Clip", [source, low, high], layer.name)
        if layer.adds is not None:
            source = parts.node("Add", [source, layer.adds], layer.output)
    add_heads(parts, source, weights, outputs)
    return finish(parts, size_wh, outputs)


def convolution_attributes(layer: Layer, size_wh: tuple[int, int]) -> tuple[dict[str, object], tuple[int, int]]:
    """The attributes of a layer's convolution on an input of `size_wh`, and the size that comes out."""
    (left, right), (top, bottom) = (same_padding(side, layer.shape[2], layer.stride) for side in size_wh)
    attributes: dict[str, object] = {
        "kernel_shape": list(layer.shape[2:]),
        "strides": [layer.stride, layer.stride],
        "pads": [top, left, bottom, right],
        "group": layer.groups,
    }
    return attributes, (-(-size_wh[0] // layer.stride), -(-size_wh[1] // layer.stride))


def add_heads(parts: GraphParts, feature_map: str, weights: Weights, outputs: Sequence[str]) -> None:
    """Add what turns the float feature map into the wanted outputs, and nothing else.

    A run computes every output of a graph, whether it is asked for or not, so a graph has those that are needed.
    """
    if "feature_map" in outputs:
        parts.node("Identity", [feature_map], "feature_map")
    if "features_max" in outputs:
        parts.node("Flatten", [parts.node("GlobalMaxPool", [feature_map], "max_pool")], "features_max", axis=1)
    if "features_avg" in outputs or "logits" in outputs:
        parts.node("Flatten", [parts.node("GlobalAveragePool", [feature_map], "avg_pool")], "features_avg", axis=1)
    if "logits" in outputs:
        kernel = parts.constant("classifier", weights.classifier)
        bias = parts.constant("classifier_bias", weights.classifier_bias)
        parts.node("Gemm", ["features_avg", kernel, bias], "logits", transB=1)


def finish(parts: GraphParts, size_wh: tuple[int, int], outputs: Sequence[str]) -> bytes:
    """Close the graph over its input and outputs, check it, and give the bytes of the file."""
    known = {output for node in parts.nodes for output in node.output}
    unknown = sorted(set(outputs) - known)
    if unknown or not outputs:
        raise ModelError(f"outputs {unknown or outputs!r} are not in the graph; use some of {', '.join(OUTPUTS)}")
    width, height = size_wh
    map_shape: list[str | int] = ["batch", FEATURE_CHANNELS, -(-height // FEATURE_STRIDE), -(-width // FEATURE_STRIDE)]
    shapes: dict[str, list[str | int]] = {
        "logits": ["batch", CLASSES],
        "features_avg": ["batch", FEATURE_CHANNELS],
        "features_max": ["batch", FEATURE_CHANNELS],
        "feature_map": map_shape,
    }
    inner_shape = ["batch", "channels", "rows", "columns"]
    graph = helper.make_graph(
        parts.nodes,
        "efficientnet_lite0",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", height, width, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes.get(name, inner_shape)) for name in outputs],
        parts.constants,
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="imagelake")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
