"""What a file of weights needs to be used right, as one frozen record with a fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, cast

from imagelake.errors import ModelError

Precision = Literal["fp32", "int8"]
Resize = Literal["squash", "crop", "letterbox"]
Pooling = Literal["avg", "max", "none"]
Metric = Literal["cosine", "l2"]

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
RESIZES: tuple[Resize, ...] = ("squash", "crop", "letterbox")
POOLINGS: tuple[Pooling, ...] = ("avg", "max", "none")
METRICS: tuple[Metric, ...] = ("cosine", "l2")

SMALLEST_INPUT = 32
LARGEST_INPUT = 1024

# Raise it when `imagelake.pixels.fit` or the pooling in `embedder` gives other numbers than before.
PREPARE_VERSION = 1

# What only tells where a model comes from or what it is called; the rest of the fields shapes the result.
_DESCRIPTIVE = frozenset({"name", "task", "source_package", "source_file", "licence", "size_bytes", "labels"})


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One model with one preprocessing. Change it with `dataclasses.replace`; a bad value is a `ModelError`.

    Attributes:
        name: what users call the model.
        task: what it is for, such as `"embedding"`.
        source_package: the distribution that ships the weights.
        source_file: the file of the weights, relative to where that distribution is installed.
        licence: the SPDX name of the licence of the weights.
        weights_sha256: the hash of the file of weights, 64 hex digits.
        size_bytes: the size of that file.
        architecture: which of our graph builders reads the weights.
        graph_version: the version of that builder; it rises when the graph gives other numbers.
        precision: `"fp32"` or `"int8"` arithmetic.
        input_size_wh: width and height in pixels of the picture that the graph takes.
        resize: how an upright RGB picture becomes that size: `"squash"` (both sides scaled on their own), `"crop"`
            (the largest centered part with the right aspect) or `"letterbox"` (all of it, with gray bars).
        mean_rgb: what is subtracted from each channel, in units of 0..255.
        std_rgb: what each channel is then divided by, in units of 0..255.
        pooling: how the feature map becomes a vector: `"avg"`, `"max"` or `"none"` (the whole map, flattened).
        metric: how vectors are compared; `"cosine"` also means that they come with length 1.
        feature_channels: the channels of the feature map.
        feature_stride: the pixels between two cells of the feature map.
        labels: the names of the classes in the order of the logits, or None when the package ships no list.
    """

    name: str
    task: str
    source_package: str
    source_file: str
    licence: str
    weights_sha256: str
    size_bytes: int
    architecture: str
    graph_version: int
    precision: Precision
    input_size_wh: tuple[int, int]
    resize: Resize
    mean_rgb: tuple[float, float, float]
    std_rgb: tuple[float, float, float]
    pooling: Pooling
    metric: Metric
    feature_channels: int
    feature_stride: int
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _require_one_of("precision", self.precision, PRECISIONS)
        _require_one_of("resize", self.resize, RESIZES)
        _require_one_of("pooling", self.pooling, POOLINGS)
        _require_one_of("metric", self.metric, METRICS)
        sides = self.input_size_wh
        if len(sides) != 2 or any(type(s) is not int or not SMALLEST_INPUT <= s <= LARGEST_INPUT for s in sides):
            raise ModelError(
                f"input size {sides!r} is not a width and a height between {SMALLEST_INPUT} and {LARGEST_INPUT} "
                "pixels; give two whole numbers such as (224, 224)"
            )
        if len(self.mean_rgb) != 3 or len(self.std_rgb) != 3 or min(self.std_rgb) <= 0:
            raise ModelError(
                f"mean {self.mean_rgb!r} and std {self.std_rgb!r} are not three numbers each with std above 0; "
                "give one number a channel, in units of 0..255"
            )

    @property
    def feature_map_wh(self) -> tuple[int, int]:
        """Width and height of the feature map, in cells."""
        width, height = self.input_size_wh
        return -(-width // self.feature_stride), -(-height // self.feature_stride)

    @property
    def dimensions(self) -> int:
        """The length of one embedding vector."""
        if self.pooling != "none":
            return self.feature_channels
        width, height = self.feature_map_wh
        return self.feature_channels * width * height


def fingerprint(manifest: Manifest) -> str:
    """Name the result of a manifest: two manifests that can give different vectors have different fingerprints.

    Returns:
        The SHA-256, 64 hex digits, of the canonical JSON (sorted keys, no spaces) of every field that shapes a
        vector, and of the version of the code that prepares pictures. Name, licence, source and labels do not count.
    """
    fields = {k: v for k, v in dataclasses.asdict(manifest).items() if k not in _DESCRIPTIVE}
    fields["prepare_version"] = PREPARE_VERSION
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def to_json(manifest: Manifest) -> str:
    """Write a manifest as one JSON object with sorted keys, which `from_json` reads."""
    return json.dumps(dataclasses.asdict(manifest), sort_keys=True)


def from_json(text: str) -> Manifest:
    """Read what `to_json` wrote.

    Raises:
        ModelError: the text is no JSON object, or a key is unknown, missing or holds a value that is not allowed.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"this manifest is not JSON ({error}); give what `to_json` wrote") from error
    if not isinstance(given, dict):
        raise ModelError(f"this manifest is a JSON {type(given).__name__}; give an object, as `to_json` writes it")
    known = {field.name: field for field in dataclasses.fields(Manifest)}
    unknown = sorted(given.keys() - known.keys())
    required = {name for name, field in known.items() if field.default is dataclasses.MISSING}
    missing = sorted(required - given.keys())
    if unknown or missing:
        raise ModelError(
            f"this manifest has unknown keys {unknown} and lacks {missing}; allowed are {sorted(known)}: "
            "use the version of imagelake that wrote it, or mend the keys"
        )
    typed: dict[str, Any] = {}
    try:
        for name, value in given.items():
            typed[name] = _typed(name, value)
        return Manifest(**typed)
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"this manifest holds a value of the wrong type ({error}); see `Manifest`") from error


def _typed(name: str, value: object) -> object:
    """Give a value of JSON the type of its field."""
    if name in {"input_size_wh", "mean_rgb", "std_rgb", "labels"}:
        if value is None and name == "labels":
            return None
        if not isinstance(value, list):
            raise TypeError(f"{name} is {value!r}, not a list")
        return tuple(cast("list[object]", value))
    expected = int if name in {"size_bytes", "graph_version", "feature_channels", "feature_stride"} else str
    if type(value) is not expected:
        raise TypeError(f"{name} is {value!r}, not a {expected.__name__}")
    return value


def _require_one_of(what: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise ModelError(f"{what} {given!r} is not known; use one of {', '.join(allowed)}")
