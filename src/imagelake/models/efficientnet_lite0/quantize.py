"""The int8 graph of EfficientNet-Lite0: integers from the pixels to the feature map.

QOperator format, unsigned 8-bit activations with one scale a tensor, signed 8-bit weights with one scale a channel:
of the formats that ONNX Runtime runs, the fastest by a factor of three. The scheme `real = scale * (q - zero_point)` is
that of B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018. ReLU6 costs nothing: a tensor that starts at zero point 0 and ends at 6 or less clips itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models.efficientnet_lite0.architecture import RELU6_MAX, Layer, layers
from imagelake.models.efficientnet_lite0.graph import (
    INPUT,
    GraphParts,
    add_heads,
    convolution_attributes,
    finish,
)
from imagelake.models.efficientnet_lite0.weights import Weights

Ranges = Mapping[str, tuple[float, float]]

_LARGEST_WEIGHT = 127
_LARGEST_ACTIVATION = 255
_LARGEST_BIAS = 2**30
_SMALLEST_SCALE = 1e-12
_MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Quantized:
    """A tensor of u8 in the graph, with the names of its scale and zero point and their values."""

    name: str
    scale_name: str
    zero_name: str
    scale: float


def read_ranges() -> dict[str, tuple[float, float]]:
    """The smallest and largest value of each tensor, as `measure_activation_ranges.py` found them."""
    text = resources.files(__package__).joinpath("activation_ranges.json").read_text(encoding="utf-8")
    return {name: (float(low), float(high)) for name, (low, high) in json.loads(text)["ranges"].items()}


def build_int8(
    weights: Weights,
    size_wh: tuple[int, int],
    mean_rgb: tuple[float, float, float],
    std_rgb: tuple[float, float, float],
    outputs: Sequence[str] = ("features_avg",),
    ranges: Ranges | None = None,
) -> bytes:
    """Build the int8 graph; arguments, inputs and outputs as `graph.build_fp32`.

    The pixels are the first quantised tensor as they are (scale 1/std, zero point mean), so nothing is converted
    before the first convolution; pooling and the classifier work on floats again.

    Args:
        weights: with folded batch norms.
        size_wh: width and height of the pictures in pixels.
        mean_rgb: one whole number for all channels, in 0..255.
        std_rgb: one number for all channels.
        outputs: which of `graph.OUTPUTS` the graph gives.
        ranges: the smallest and largest value of each tensor; None for those that come with the package.

    Raises:
        ModelError: an output is not known, or mean and std differ between channels.
    """
    if len(set(mean_rgb)) != 1 or len(set(std_rgb)) != 1 or mean_rgb[0] not in range(_LARGEST_ACTIVATION + 1):
        raise ModelError(
            f"mean {mean_rgb} and std {std_rgb} cannot be the zero point and scale of the pixels; give one whole mean "
            "in 0..255 and one std for all channels, or use precision fp32"
        )
    ranges = read_ranges() if ranges is None else ranges
    parts = GraphParts()
    parts.node("Transpose", [INPUT], "pixels", perm=[0, 3, 1, 2])
    source = _declare(parts, "pixels", 1.0 / std_rgb[0], int(mean_rgb[0]))
    sums: dict[str, Quantized] = {}
    width, height = size_wh
    for layer in layers():
        attributes, (width, height) = convolution_attributes(layer, (width, height))
        target = _declare(parts, layer.name, *_scale_and_zero(layer.name, ranges, clipped=layer.clipped))
        _convolve(parts, layer, weights, source, target, attributes)
        source = target
        if layer.adds is not None:
            source = _declare(parts, layer.output, *_scale_and_zero(layer.output, ranges, clipped=False))
            _add(parts, target, sums[layer.adds], source)
        sums[layer.output] = source
    dequantize_inputs = [source.name, source.scale_name, source.zero_name]
    feature_map = parts.node("DequantizeLinear", dequantize_inputs, "feature_map_float")
    add_heads(parts, feature_map, weights, outputs)
    return finish(parts, size_wh, outputs)


def quantize_kernel(
    kernel: NDArray[np.float32], bias: NDArray[np.float32], source_scale: float
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int32]]:
    """Round a kernel to int8 with one scale for each channel that goes out, and its bias to int32.

    Args:
        kernel: float32 [out, in, height, width].
        bias: float32 [out].
        source_scale: the scale of the tensor that goes in; a bias counts in (that scale x the channel's scale).

    Returns:
        The int8 kernel in -127..127, the float32 scales [out] and the int32 bias [out]. A channel whose weights are
        (almost) zero gets a scale that lets its bias fit.
    """
    largest = np.abs(kernel).max(axis=(1, 2, 3)) / _LARGEST_WEIGHT
    lowest = np.abs(bias) / (source_scale * _LARGEST_BIAS)
    scales = np.maximum(np.maximum(largest, lowest), _SMALLEST_SCALE).astype(np.float32)
    rounded = np.rint(kernel / scales[:, None, None, None]).clip(-_LARGEST_WEIGHT, _LARGEST_WEIGHT)
    whole_bias = np.rint(bias.astype(np.float64) / (scales.astype(np.float64) * source_scale))
    return rounded.astype(np.int8), scales, whole_bias.astype(np.int32)


def _scale_and_zero(name: str, ranges: Ranges, *, clipped: bool) -> tuple[float, int]:
    """The scale and zero point that cover a range, which always holds 0 so that padding is exact."""
    if name not in ranges:
        raise ModelError(f"no range is known for tensor {name!r}; run measure_activation_ranges.py again")
    low, high = min(ranges[name][0], 0.0), max(ranges[name][1], 1e-6)
    if clipped:
        low, high = 0.0, min(high, RELU6_MAX)
    scale = (high - low) / _LARGEST_ACTIVATION
    return scale, round(-low / scale)


def _declare(parts: GraphParts, name: str, scale: float, zero: int) -> Quantized:
    """Add the constants of a u8 tensor."""
    rounded = np.float32(scale)
    scale_name = parts.constant(f"{name}.scale", np.array(rounded, np.float32))
    zero_name = parts.constant(f"{name}.zero", np.array(zero, np.uint8))
    return Quantized(name, scale_name, zero_name, float(rounded))


def _convolve(
    parts: GraphParts,
    layer: Layer,
    weights: Weights,
    source: Quantized,
    target: Quantized,
    attributes: dict[str, object],
) -> None:
    """Add one QLinearConv; its bias is int32 in units of (input scale x weight scale)."""
    kernel, scales, bias = quantize_kernel(weights.kernels[layer.name], weights.biases[layer.name], source.scale)
    inputs = [
        source.name,
        source.scale_name,
        source.zero_name,
        parts.constant(f"{layer.name}.kernel", kernel),
        parts.constant(f"{layer.name}.kernel_scale", scales),
        parts.constant(f"{layer.name}.kernel_zero", np.zeros(len(scales), np.int8)),
        target.scale_name,
        target.zero_name,
        parts.constant(f"{layer.name}.bias", bias),
    ]
    parts.node("QLinearConv", inputs, target.name, **attributes)


def _add(parts: GraphParts, one: Quantized, other: Quantized, target: Quantized) -> None:
    inputs = [
        *(one.name, one.scale_name, one.zero_name),
        *(other.name, other.scale_name, other.zero_name),
        *(target.scale_name, target.zero_name),
    ]
    parts.node("QLinearAdd", inputs, target.name, domain=_MICROSOFT)
