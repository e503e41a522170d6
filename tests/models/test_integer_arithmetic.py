"""The int8 graph beside integer arithmetic written out: what a right processor answers, whatever its instructions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from imagelake.models.efficientnet_lite0.agreement import probe_pictures
from imagelake.models.efficientnet_lite0.quantize import build_int8
from imagelake.models.onnx_runtime import open_session

MEAN, STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)


def convolve(pixels, kernel, stride, pads):
    """Sums of products, exact in float64: they stay far below 2**53. A kernel with one input channel is depthwise."""
    top, left, bottom, right = pads
    padded = np.pad(pixels.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    if kernel.shape[1] == 1:
        return np.einsum("nchwij,cij->nchw", windows, kernel[:, 0].astype(np.float64))
    return np.einsum("nchwij,ocij->nohw", windows, kernel.astype(np.float64), optimize=True)


def to_u8(values, zero):
    return np.clip(np.rint(values) + zero, 0, 255).astype(np.uint8)


def qlinear_conv(attributes, x, x_scale, x_zero, kernel, kernel_scale, kernel_zero, y_scale, y_zero, bias):
    assert not kernel_zero.any()
    sums = convolve(x.astype(np.int32) - x_zero, kernel, attributes["strides"][0], attributes["pads"])
    factor = (x_scale * kernel_scale / y_scale).astype(np.float32)
    return to_u8((sums + bias[:, None, None]).astype(np.float32) * factor[:, None, None], y_zero)


def qlinear_add(_attributes, a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero):
    total = (a.astype(np.float32) - a_zero) * a_scale + (b.astype(np.float32) - b_zero) * b_scale
    return to_u8(total / y_scale, y_zero)


OPERATORS = {
    "Transpose": lambda attributes, x: x.transpose(attributes["perm"]),
    "QLinearConv": qlinear_conv,
    "QLinearAdd": qlinear_add,
    "DequantizeLinear": lambda _attributes, x, scale, zero: (x.astype(np.float32) - zero) * scale,
    "Identity": lambda _attributes, x: x,
}


def run_in_numpy(content, pixels):
    graph = onnx.load_from_string(content).graph
    values = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    values["image_rgb"] = pixels
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        values[node.output[0]] = OPERATORS[node.op_type](attributes, *(values[name] for name in node.input))
    return values["feature_map"]


@pytest.mark.parametrize("size_wh", [(64, 64), (65, 40)])
def test_int8_is_integer_arithmetic(weights, size_wh):
    """The feature map is that of exact integer arithmetic, so vectors from one processor fit those from another.

    A step of u8 may differ here and there where a product lies on the edge between two steps; the saturating kernels
    of processors without int8 dot products would change a quarter of the map, by up to 200 steps.
    """
    content = build_int8(weights, size_wh, MEAN, STD, ("feature_map",))
    pixels = probe_pictures(size_wh, 2)
    found = open_session(content).run(["feature_map"], pixels)["feature_map"]
    steps = np.abs(found - run_in_numpy(content, pixels)) / (6 / 255)
    assert np.mean(steps < 0.5) > 0.99
    assert steps.max() < 3.5
