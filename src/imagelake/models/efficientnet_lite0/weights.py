"""The weights of EfficientNet-Lite0, with each batch norm folded into the convolution before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models.efficientnet_lite0.architecture import (
    BATCH_NORM_EPSILON,
    CLASSES,
    FEATURE_CHANNELS,
    layers,
)
from imagelake.models.torch_checkpoint import read_checkpoint

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """What the graphs are built from.

    Attributes:
        kernels: layer name to float32 [out, in, height, width].
        biases: layer name to float32 [out].
        classifier: float32 [1000, 1280].
        classifier_bias: float32 [1000].
    """

    kernels: Mapping[str, Floats]
    biases: Mapping[str, Floats]
    classifier: Floats
    classifier_bias: Floats


def read_weights(path: Path, sha256: str) -> Weights:
    """Read the checkpoint and fold `y = (conv(x) - mean) / sqrt(variance + 1e-3) * weight + bias` into `conv`.

    Raises:
        ModelError: as `read_checkpoint`, or a tensor that the architecture needs is missing or has another shape.
    """
    tensors = read_checkpoint(path, sha256)
    kernels: dict[str, Floats] = {}
    biases: dict[str, Floats] = {}
    for layer in layers():
        channels = (layer.shape[0],)
        kernel = _take(tensors, layer.weight, layer.shape)
        gain, bias, mean, variance = (
            _take(tensors, f"{layer.norm}.{part}", channels).astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gain / np.sqrt(variance + BATCH_NORM_EPSILON)
        kernels[layer.name] = (kernel * factor[:, None, None, None]).astype(np.float32)
        biases[layer.name] = (bias - mean * factor).astype(np.float32)
    return Weights(
        kernels,
        biases,
        _take(tensors, "_fc.weight", (CLASSES, FEATURE_CHANNELS)),
        _take(tensors, "_fc.bias", (CLASSES,)),
    )


def _take(tensors: Mapping[str, NDArray[np.generic]], name: str, shape: tuple[int, ...]) -> Floats:
    tensor = tensors.get(name)
    if tensor is None or tensor.shape != shape or tensor.dtype != np.float32:
        found = "no such tensor" if tensor is None else f"{tensor.dtype} {tensor.shape}"
        raise ModelError(
            f"the checkpoint has {found} for {name!r}, expected float32 {shape}; it is not EfficientNet-Lite0"
        )
    return np.asarray(tensor, dtype=np.float32)
