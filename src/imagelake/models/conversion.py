"""Whether a converted model still is the model: the same numbers for the same pictures, within a stated tolerance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models.file_manifest import TensorSpec
from imagelake.models.onnx_runtime import open_session
from imagelake.pixels.chain import parse

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Tolerance:
    """How far a converted model may be from its original; the defaults leave room for another order of sums.

    Attributes:
        relative: the largest difference of two numbers, as a part of the largest number of that output (1 at least).
        cosine: the least cosine of the two outputs of one picture.
    """

    relative: float = 1e-3
    cosine: float = 0.9999


@dataclass(frozen=True)
class Agreement:
    """What a comparison found for one output, over all calls.

    Attributes:
        output: its name in the converted model.
        calls: how many calls of the two were compared.
        largest_difference: between two numbers, as they are.
        relative_difference: the same, as a part of the largest number of the original (1 at least).
        cosine: the least cosine of the two outputs of one picture.
    """

    output: str
    calls: int
    largest_difference: float
    relative_difference: float
    cosine: float

    def holds(self, tolerance: Tolerance) -> bool:
        """Whether it is within a tolerance."""
        return self.relative_difference <= tolerance.relative and self.cosine >= tolerance.cosine

    def __str__(self) -> str:
        return (
            f"{self.output}: largest difference {self.largest_difference:.3g} "
            f"(relative {self.relative_difference:.3g}), least cosine {self.cosine:.6f}, over {self.calls} calls"
        )


@dataclass(frozen=True)
class Comparison:
    """What an importer compares the two models on, and how strictly.

    Attributes:
        images_rgb: pictures, uint8 [h, w, 3]; at least one.
        transforms: what makes an input of a picture, as a manifest has it; empty for the plainest.
        tolerance: how far the two may be apart.
    """

    images_rgb: Sequence[NDArray[np.uint8]]
    transforms: Sequence[Mapping[str, Any]] = ()
    tolerance: Tolerance = field(default_factory=Tolerance)


@dataclass(frozen=True)
class Imported:
    """A model as ONNX.

    Attributes:
        onnx: its file.
        inputs: what it takes.
        outputs: what it gives, in the order of the original.
        agreements: how near it is to the original, for each output.
        source: what it was made of, in words.
    """

    onnx: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    agreements: tuple[Agreement, ...]
    source: str


def check_conversion(
    original: Callable[[NDArray[Any]], Sequence[NDArray[Any]]],
    target: Path,
    comparison: Comparison,
    source: str,
) -> Imported:
    """Compare an ONNX file with the model that it was made of: picture by picture, and all in one call where it can.

    Args:
        original: gives the outputs of the original for one input.
        target: the ONNX file, with one input.
        comparison: the pictures and the tolerance.
        source: what it was made of, in words.

    Raises:
        ModelError: the file cannot be run, or is not the original within the tolerance.
    """
    session = open_session(target)
    inputs = model_inputs(session.inputs, comparison)
    agreements = require_agreement(
        original, lambda array: session.run(session.outputs, array), inputs, comparison.tolerance
    )
    return Imported(target, session.inputs, session.outputs, agreements, source)


def model_inputs(specs: Sequence[TensorSpec], comparison: Comparison) -> list[NDArray[Any]]:
    """The inputs of a comparison: one for each picture, and a batch of all where the model takes any number.

    Raises:
        ModelError: the model takes more than one input, or no picture.
    """
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise ModelError(f"the model takes {names}; a model for pictures takes one input: export a part that does")
    spec = specs[0]
    arrays = picture_inputs(comparison.images_rgb, spec, comparison.transforms)
    if spec.batch:
        return [np.repeat(array, spec.batch, axis=0) for array in arrays]
    alike = len(arrays) > 1 and len({array.shape for array in arrays}) == 1
    return [*arrays, np.concatenate(arrays)] if alike else arrays


def picture_inputs(
    images_rgb: Sequence[NDArray[np.uint8]], spec: TensorSpec, transforms: Sequence[Mapping[str, Any]] = ()
) -> list[NDArray[Any]]:
    """Make inputs of a model out of pictures, a batch of one each.

    Args:
        images_rgb: uint8 [h, w, 3].
        spec: what the model takes: one input of four sides, with 1 or 3 channels, first or last.
        transforms: as a manifest has them; empty for the picture squashed to the input's size (224 where that is open),
            in 0..1 where the input is of floats.

    Raises:
        ModelError: there is no picture, or the input takes none.
    """
    if not images_rgb:
        raise ModelError("no picture was given to compare the models on; give some with --pictures")
    if transforms:
        return [parse(list(transforms)).apply(image).array[None] for image in images_rgb]
    sides = spec.shape
    first = len(sides) == 4 and sides[1] in (1, 3)
    if not first and not (len(sides) == 4 and sides[3] in (1, 3)):
        raise ModelError(
            f"input {spec.name} has the shape {list(sides)}, which is none of a picture (batch, channels, height, "
            "width or batch, height, width, channels); give the manifest with its transforms"
        )
    height, width = (side if side > 0 else 224 for side in (sides[2:] if first else sides[1:3]))
    return [
        _squashed(image, height, width, spec.dtype, gray=1 in (sides[1], sides[3]), first=first) for image in images_rgb
    ]


def _squashed(
    image: NDArray[np.uint8], height: int, width: int, dtype: str, *, gray: bool, first: bool
) -> NDArray[Any]:
    """The nearest pixels: what a picture looks like does not matter here, only that it is one."""
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    array = image[rows][:, columns]
    if gray:
        array = array.mean(axis=2, keepdims=True).astype(np.uint8)
    if first:
        array = array.transpose(2, 0, 1)
    scaled = array / np.float32(255) if np.issubdtype(np.dtype(dtype), np.floating) else array
    return np.ascontiguousarray(scaled[None].astype(dtype))


def require_agreement(
    original: Callable[[NDArray[Any]], Sequence[NDArray[Any]]],
    converted: Callable[[NDArray[Any]], Arrays],
    inputs: Sequence[NDArray[Any]],
    tolerance: Tolerance | None = None,
) -> tuple[Agreement, ...]:
    """Run both models on every input and compare all outputs, in their order.

    Raises:
        ModelError: they differ in the number or shape of their outputs, or by more than the tolerance.
    """
    tolerance = tolerance or Tolerance()
    pairs: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {}
    for array in inputs:
        expected, found = original(array), converted(array)
        if len(expected) != len(found):
            raise ModelError(f"the original gives {len(expected)} outputs, the converted model {len(found)}; not added")
        for wanted, (name, given) in zip(expected, found.items(), strict=True):
            if wanted.shape != given.shape:
                raise ModelError(
                    f"output {name} of the original has the shape {wanted.shape}, of the converted model "
                    f"{given.shape}; it is not added"
                )
            pairs.setdefault(name, []).append((wanted.astype(np.float64), given.astype(np.float64)))
    agreements = tuple(_compare(name, found_pairs) for name, found_pairs in pairs.items())
    wrong = [agreement for agreement in agreements if not agreement.holds(tolerance)]
    if wrong:
        raise ModelError(
            f"the converted model is not the original: {'; '.join(map(str, wrong))}; allowed are a relative difference "
            f"of {tolerance.relative:g} and a cosine of {tolerance.cosine:g}: it is not added"
        )
    return agreements


def _compare(name: str, pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> Agreement:
    difference, largest, cosine = 0.0, 1.0, 1.0
    for wanted, given in pairs:
        if not (np.isfinite(wanted).all() and np.isfinite(given).all()):
            same = np.array_equal(wanted, given, equal_nan=True)
            difference, cosine = (difference, cosine) if same else (float("inf"), -1.0)
            continue
        difference = max(difference, float(np.abs(wanted - given).max(initial=0)))
        largest = max(largest, float(np.abs(wanted).max(initial=0)))
        lengths = float(np.linalg.norm(wanted) * np.linalg.norm(given))
        if lengths:
            cosine = min(cosine, float(np.vdot(wanted, given)) / lengths)
        elif np.any(wanted) or np.any(given):
            cosine = min(cosine, 0.0)
    return Agreement(name, len(pairs), difference, difference / largest, cosine)
