"""Bring a model over from torch: write it as ONNX, and see on pictures that it still is the same."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagelake._optional import need
from imagelake.errors import ModelError
from imagelake.models.conversion import Comparison, Imported, check_conversion, model_inputs
from imagelake.models.file_manifest import TensorSpec
from imagelake.models.torch_files import require_safe
from imagelake.models.torch_runtime import TorchRuntime, load_torch, read_exported

if TYPE_CHECKING:
    import torch


def import_torch_file(
    path: Path, target: Path, comparison: Comparison, *, inputs: Sequence[TensorSpec] = ()
) -> Imported:
    """Write an exported program (`.pt2`) or a TorchScript archive as ONNX.

    Args:
        path: the file; see `torch_files.require_safe` for what is refused.
        target: the ONNX file to write.
        comparison: the pictures to compare on.
        inputs: for TorchScript: the shape of its input, which the archive leaves open.

    Raises:
        ModelError: it is refused, cannot be written as ONNX, or is not the same any more.
        MissingExtraError: torch or onnxscript is not installed.
    """
    runtime = load_torch(path, inputs)
    if require_safe(path) == "exported":
        _write_onnx(read_exported(path), runtime, target)
    else:
        _write_script(runtime, target, comparison)

    def original(array: NDArray[Any]) -> list[NDArray[Any]]:
        return list(runtime.run(runtime.outputs, array).values())

    return check_conversion(original, target, comparison, f"made with torch from {path.name}")


def import_torch_module(
    module: torch.nn.Module, example: NDArray[Any], target: Path, comparison: Comparison
) -> Imported:
    """Write a model that lives in this process as ONNX, taking any number of pictures in one call.

    Args:
        module: the model; it is used in its mode for use (`eval`), and left in the mode that it had.
        example: an input, [batch, ...] with a batch of 2 or more.
        target: the ONNX file to write.
        comparison: the pictures to compare on.

    Raises:
        ModelError: torch cannot export it, or the result is not the same.
        MissingExtraError: torch or onnxscript is not installed.
    """
    torch_ = need("torch", "torch")
    training = module.training
    try:
        exported = torch_.export.export(
            module.eval(), (torch_.tensor(example),), dynamic_shapes=({0: torch_.export.Dim.DYNAMIC},)
        )
        path = target.with_suffix(".pt2")
        torch_.export.save(exported, path)
        try:
            imported = import_torch_file(path, target, comparison)
        finally:
            path.unlink(missing_ok=True)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"torch cannot export this model ({type(error).__name__}: {reason})") from error
    finally:
        module.train(training)
    return dataclasses.replace(imported, source=f"made with torch from {type(module).__name__}")


def _write_onnx(exported: Any, runtime: TorchRuntime, target: Path) -> None:
    torch_ = need("torch", "torch")
    need("torch", "onnxscript")
    with _quiet(), _as_model_error("ONNX"):
        program = torch_.onnx.export(
            exported,
            dynamo=True,
            input_names=[spec.name for spec in runtime.inputs],
            output_names=list(runtime.outputs),
            external_data=False,
            verbose=False,
        )
        program.save(str(target))


def _write_script(runtime: TorchRuntime, target: Path, comparison: Comparison) -> None:
    """TorchScript has an exporter of its own, which needs an input to follow."""
    torch_ = need("torch", "torch")
    array = model_inputs(runtime.inputs, comparison)[0][:1]
    size = runtime.inputs[0].batch
    name = runtime.inputs[0].name
    example = torch_.tensor(np.repeat(array, size or 2, axis=0))
    axes = None if size else {each: {0: "batch"} for each in (name, *runtime.outputs)}
    with _quiet(), _as_model_error("ONNX"):
        torch_.onnx.export(
            runtime.program,
            (example,),
            str(target),
            dynamo=False,
            input_names=[name],
            output_names=list(runtime.outputs),
            dynamic_axes=axes,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters of torch warn of their own parts, and log what they do not find; errors are raised all the same."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _as_model_error(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the exporters' errors have no common base but this
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"torch cannot write this model as {what} ({type(error).__name__}: {reason})") from error
