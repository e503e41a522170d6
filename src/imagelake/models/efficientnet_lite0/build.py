"""From the installed weights to a graph that may be used: built, and in int8 compared with fp32 first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imagelake.errors import ModelError
from imagelake.models.efficientnet_lite0.agreement import LOWEST_MEAN_COSINE, measure
from imagelake.models.efficientnet_lite0.graph import build_fp32
from imagelake.models.efficientnet_lite0.quantize import build_int8
from imagelake.models.efficientnet_lite0.weights import read_weights
from imagelake.models.manifest import Manifest
from imagelake.models.onnx_runtime import open_session


def build(manifest: Manifest, weights_file: Path, outputs: Sequence[str]) -> bytes:
    """Build the graph that a manifest asks for; takes a second or two.

    Args:
        manifest: precision, size, mean, std and the hash of the weights count here.
        weights_file: the checkpoint.
        outputs: which of `graph.OUTPUTS` it gives.

    Returns:
        An ONNX file, as `graph.build_fp32` describes it.

    Raises:
        ModelError: the weights are not those of the manifest, an output is not known, or the int8 graph disagrees
            with fp32 on this processor.
    """
    weights = read_weights(weights_file, manifest.weights_sha256)
    size, mean, std = manifest.input_size_wh, manifest.mean_rgb, manifest.std_rgb
    exact = build_fp32(weights, size, mean, std, outputs)
    if manifest.precision == "fp32":
        return exact
    rounded = build_int8(weights, size, mean, std, outputs)
    require_agreement(exact, rounded, outputs, size)
    return rounded


def require_agreement(exact: bytes, rounded: bytes, outputs: Sequence[str], size_wh: tuple[int, int]) -> None:
    """Refuse an int8 graph whose outputs have another direction than those of fp32 on the probe pictures.

    Raises:
        ModelError: the mean cosine of an output is below `LOWEST_MEAN_COSINE`.
    """
    one, other = open_session(exact), open_session(rounded)
    for output in outputs:
        cosine = measure(one, other, output, size_wh)
        if not cosine >= LOWEST_MEAN_COSINE:
            raise ModelError(
                f"on this processor int8 agrees with fp32 to a mean cosine of {cosine:.4f} in {output}, required is "
                f"{LOWEST_MEAN_COSINE}; use precision fp32"
            )
