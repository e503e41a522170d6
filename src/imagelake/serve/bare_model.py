"""A model file without a manifest, as the plane serves it: raw tensors by name."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ImagelakeError, ModelError
from imagelake.models.file_facts import caffe_input, sort_files
from imagelake.models.file_manifest import TensorSpec
from imagelake.models.registry import hash_file
from imagelake.models.runtime import Runtime
from imagelake.serve.served import Served
from imagelake.serve.served_model import Answer
from imagelake.serve.tensor_info import TensorInfo, Tensors

PLATFORMS = {"onnx": "onnxruntime_onnx", "opencv": "opencv_dnn", "torch": "pytorch_libtorch"}
"""Runtimes in the words of the open inference protocol."""

MAX_BATCH = 8
"""Rows of one call, of a model whose rows are independent: more are no faster on a processor."""

_MOST_TRIED = 50_000_000  # elements of a made-up row: what has more is not tried

_CAFFE2_TYPES = {
    1: "float32",
    2: "int32",
    3: "uint8",
    4: "object",
    5: "bool",
    6: "uint8",
    7: "int8",
    8: "uint16",
    9: "int16",
    10: "int64",
    12: "float16",
    13: "float64",
}


@dataclass(frozen=True)
class RawChoice:
    """What is wanted of a file; see `open_bare`."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    value_inputs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def given(self) -> bool:
        """Whether anything is."""
        return bool(self.inputs or self.outputs or self.value_inputs)


def open_bare_file(path: Path, choice: RawChoice, *, name: str | None = None, threads: int = 1) -> Served:
    """Open a model file; see `open_bare`.

    Raises:
        ModelError: as `open_bare`.
    """
    files = sort_files([path, *_beside(path)])
    specs = read_value_inputs(choice.value_inputs)
    runtime, platform = _open(files, specs, choice.outputs, threads)
    digest = hashlib.sha256("".join(hash_file(file) for _, file in sorted(files.items())).encode())
    digest.update(json.dumps([choice.outputs, {key: str(spec) for key, spec in specs.items()}]).encode())
    served = serve_runtime(runtime, name or path.stem, digest.hexdigest(), choice)
    return Served(**{**vars(served), "platform": PLATFORMS[platform]})


def serve_runtime(runtime: Runtime, name: str, fingerprint: str, choice: RawChoice | None = None) -> Served:
    """Serve what a runtime has loaded.

    Requests are put together only where a trial shows that its rows do not depend on each other.

    Args:
        runtime: loaded.
        name: as requests call it.
        fingerprint: of its answers.
        choice: which inputs and outputs are wanted, and what is known of them besides.

    Raises:
        ModelError: the choice does not fit.
    """
    choice = choice or RawChoice()
    inputs = _settle_inputs(name, runtime.inputs, read_value_inputs(choice.value_inputs), choice.inputs)
    outputs = _settle_outputs(name, runtime.outputs, choice.outputs)
    tried = _try(runtime, inputs, outputs)
    told = _output_infos(runtime, outputs, tried)
    batched = tried is not None and tried.independent

    def compute(given: Tensors, wanted: Sequence[str]) -> Answer:
        return runtime.run(wanted, given)

    return Served(
        name,
        tuple(TensorInfo(spec.name, spec.dtype, spec.shape) for spec in inputs),
        tuple(_with_rows(info, batched=batched) for info in told),
        compute,
        fingerprint,
        max_batch=MAX_BATCH if batched else 0,
        tried=(tried.example,) if tried is not None else (),
    )


def read_value_inputs(told: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """Input to `[type, shape]` as specs: the type as Caffe2 counts it.

    Raises:
        ModelError: it is not so.
    """
    specs = {}
    for name, value in told.items():
        fits = isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[1], list | tuple)
        sides = tuple(value[1]) if fits else ()
        if (
            not fits
            or type(value[0]) is not int
            or any(type(side) is not int or (side < 1 and side != -1) for side in sides)
        ):
            raise ModelError(
                f"the value input {name!r} is {str(value)[:100]}; give [type, shape] such as [1, [1, 3, 227, 227]]"
            )
        if value[0] not in _CAFFE2_TYPES:
            known = ", ".join(f"{number} {word}" for number, word in _CAFFE2_TYPES.items())
            raise ModelError(f"the value input {name!r} has the type {value[0]}, which is none of {known}")
        specs[name] = TensorSpec(name=name, shape=sides, dtype=_CAFFE2_TYPES[value[0]])
    return specs


@dataclass(frozen=True)
class _Trial:
    """What came of running a model over made-up rows.

    Attributes:
        example: one row, or what the model takes at once.
        answer: to it.
        independent: whether rows give the same beside others as alone.
    """

    example: dict[str, NDArray[Any]]
    answer: Answer
    independent: bool


def _beside(path: Path) -> list[Path]:
    """The description of a Caffe net beside its weights."""
    likely = path.with_suffix(".prototxt")
    return [likely] if path.suffix.lower() == ".caffemodel" and likely.is_file() else []


def _open(
    files: Mapping[str, Path], specs: Mapping[str, TensorSpec], outputs: tuple[str, ...], threads: int
) -> tuple[Runtime, str]:
    model = files["model"]
    # Late: each library is heavy, and a model needs one of them.
    if model.suffix.lower() == ".onnx":
        from imagelake.models.onnx_runtime import SessionSettings, open_session

        return open_session(model, SessionSettings(threads=threads)), "onnx"
    if model.suffix.lower() in {".caffemodel", ".pb", ".tflite"}:
        from imagelake.models.opencv_runtime import load_opencv

        if "config" in files and model.suffix.lower() == ".caffemodel":
            given: tuple[TensorSpec, ...] = (caffe_input(files["config"]),)
        elif specs:
            given = tuple(_free_rows(spec) for spec in specs.values())
        else:
            raise ModelError(f"{model.name} does not tell its inputs; say them with value inputs")
        return load_opencv(model, files.get("config"), given, outputs), "opencv"
    from imagelake.models.torch_runtime import load_torch

    opened: Runtime = load_torch(model, tuple(_free_rows(spec) for spec in specs.values()))
    return opened, "torch"


def _free_rows(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(name=spec.name, shape=(-1, *spec.shape[1:]), dtype=spec.dtype)


def _settle_inputs(
    name: str, found: Sequence[TensorSpec], told: Mapping[str, TensorSpec], wanted: Sequence[str]
) -> list[TensorSpec]:
    """The inputs of a file, with the sides that it leaves open, but for the first, as they are told."""
    names = [spec.name for spec in found]
    unknown = [each for each in (*told, *wanted) if each not in names]
    if unknown:
        raise ModelError(f"{name} has no input {', '.join(unknown)}; its inputs are {', '.join(names)}")
    left = [each for each in names if wanted and each not in wanted]
    if left:
        raise ModelError(f"{name} cannot run without the input {', '.join(left)}; give all of {', '.join(names)}")
    order = wanted or names
    by_name = {spec.name: _completed(name, spec, told.get(spec.name)) for spec in found}
    return [by_name[each] for each in order]


def _completed(name: str, spec: TensorSpec, told: TensorSpec | None) -> TensorSpec:
    if told is None:
        return spec
    fits = len(told.shape) == len(spec.shape) and all(
        own in (-1, side) or side == -1 for own, side in zip(spec.shape, told.shape, strict=True)
    )
    if not fits or told.dtype != spec.dtype:
        raise ModelError(
            f"the input {spec.name} of {name} is {spec.dtype} {list(spec.shape)}, the value inputs say {told.dtype} "
            f"{list(told.shape)}; mend them"
        )
    sides = [
        side if own == -1 and place else own
        for place, (own, side) in enumerate(zip(spec.shape, told.shape, strict=True))
    ]
    return TensorSpec(name=spec.name, shape=tuple(sides), dtype=spec.dtype, layout=spec.layout)


def _settle_outputs(name: str, found: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    unknown = [each for each in wanted if each not in found]
    if unknown:
        raise ModelError(f"{name} has no output {', '.join(unknown)}; its outputs are {', '.join(found)}")
    return tuple(wanted or found)


def _try(runtime: Runtime, inputs: Sequence[TensorSpec], outputs: tuple[str, ...]) -> _Trial | None:
    """Run a model over made-up rows, together and alone; None where its sides are open or very large, or it
    refuses them.
    """
    if any(min(spec.shape[1:], default=0) < 0 or spec.dtype == "object" for spec in inputs):
        return None
    free = all(spec.shape[:1] == (-1,) for spec in inputs)
    if sum(math.prod(abs(side) for side in spec.shape) for spec in inputs) > _MOST_TRIED:
        return None
    rows = {spec.name: _made_up(spec, 3 if free else 1) for spec in inputs}
    try:
        if not free:
            return _Trial(rows, runtime.run(outputs, rows), independent=False)
        alone = [runtime.run(outputs, {k: each[n : n + 1] for k, each in rows.items()}) for n in range(3)]
    except ImagelakeError:
        return None
    example = {key: each[:1] for key, each in rows.items()}
    try:
        together = runtime.run(outputs, rows)
    except ImagelakeError:  # it takes one row after all
        return _Trial(example, alone[0], independent=False)
    return _Trial(example, alone[0], all(_same(together[each], [one[each] for one in alone]) for each in outputs))


def _made_up(spec: TensorSpec, rows: int) -> NDArray[Any]:
    sides = (rows, *spec.shape[1:]) if spec.shape[:1] == (-1,) else spec.shape
    rng = np.random.default_rng(7)
    if np.dtype(spec.dtype).kind == "f":
        return rng.random(sides).astype(spec.dtype)
    return rng.integers(0, 2, sides).astype(spec.dtype)


def _same(together: NDArray[Any], alone: Sequence[NDArray[Any]]) -> bool:
    """Whether an output of three rows is those of each, but for rounding."""
    if any(each.shape[:1] != (1,) for each in alone) or together.shape[:1] != (3,):
        return False
    if any(each.shape[1:] != together.shape[1:] for each in alone):
        return False
    joined = np.concatenate(alone)
    if together.dtype.kind in "OUSb":
        return bool((joined == together).all())
    return bool(
        np.allclose(together.astype(np.float64), joined.astype(np.float64), rtol=1e-3, atol=1e-5, equal_nan=True)
    )


def _output_infos(runtime: Runtime, outputs: Sequence[str], tried: _Trial | None) -> list[TensorInfo]:
    """What is known of the outputs: by the file, else by the trial."""
    from imagelake.models.onnx_runtime import OnnxRuntime  # late: it is heavy

    if isinstance(runtime, OnnxRuntime):
        specs = {spec.name: spec for spec in runtime.output_specs}
        return [TensorInfo(each, specs[each].dtype, specs[each].shape) for each in outputs]
    if tried is None:
        raise ModelError("the outputs of this file are not known without trying it; say the sides of its inputs")
    return [TensorInfo(each, tried.answer[each].dtype.name, tried.answer[each].shape) for each in outputs]


def _with_rows(info: TensorInfo, *, batched: bool) -> TensorInfo:
    return TensorInfo(info.name, info.dtype, (-1, *info.shape[1:])) if batched else info
