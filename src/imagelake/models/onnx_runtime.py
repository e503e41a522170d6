"""Run a model file with ONNX Runtime, on the processor or on a CUDA device."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models.file_manifest import TensorSpec
from imagelake.models.registry import RegisteredModel
from imagelake.models.runtime import check_run

_ERRORS_ONLY = 3
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_TYPES = {"float": "float32", "double": "float64", "string": "object"}


@dataclass(frozen=True)
class SessionSettings:
    """How a session uses the machine; the defaults are what `benchmarks/session_settings.py` found best.

    Attributes:
        threads: how many threads one call uses. A runner that calls from N threads gives 1.
        spinning: whether idle threads burn the core while they wait; they slow down everything beside them.
        arena: whether freed memory is kept for the next call, which saves page faults and holds the largest batch.
        device: `"cpu"`; `"cuda"`, an error where there is none; or `"auto"`, which takes it where it is there.
    """

    threads: int = 1
    spinning: bool = False
    arena: bool = True
    device: str = "cpu"


@dataclass(frozen=True)
class OnnxRuntime:
    """A `Runtime` over one ONNX Runtime session, which is safe to call from several threads at once."""

    session: onnxruntime.InferenceSession
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """What `run` gives, as the file says it.

        Raises:
            ModelError: an output is of a type that NumPy has not.
        """
        return tuple(_spec(node.name, node.type, node.shape) for node in self.session.get_outputs())

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]] | NDArray[Any]) -> dict[str, NDArray[Any]]:
        """See `Runtime.run`."""
        given = check_run(self.inputs, self.outputs, outputs, inputs)
        try:
            arrays = self.session.run(list(outputs), given)
        except Exception as error:  # the library's own exceptions have no common base but this
            shapes = ", ".join(f"{name} {array.shape}" for name, array in given.items())
            raise ModelError(f"the model failed on {shapes} ({error}); check its inputs") from error
        return {name: np.asarray(array) for name, array in zip(outputs, arrays, strict=True)}


def open_onnx(model: RegisteredModel, *, threads: int = 1, device: str = "cpu") -> OnnxRuntime:
    """Load the ONNX file of a registered model, int8 where its manifest says so; see `open_runtime`."""
    for role in model.manifest.roles_used:
        model.path(role)  # external data too is verified before it is read
    return open_session(model.path(model.manifest.model_role), SessionSettings(threads=threads, device=device))


def open_session(model: Path | bytes, settings: SessionSettings | None = None) -> OnnxRuntime:
    """Load an ONNX model.

    Args:
        model: its file, beside which its external data lies if it has any; or what the file holds.
        settings: how to use the machine; the default uses one thread a call.

    Raises:
        ModelError: the file cannot be read or is no ONNX model that this version of ONNX Runtime can run.
    """
    settings = settings or SessionSettings()
    providers = _providers(settings.device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.enable_cpu_mem_arena = settings.arena
    options.enable_mem_pattern = settings.arena
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(settings.spinning)))
    # Without int8 dot products u8 x s8 kernels of x86 saturate at 16 bits and answer wrong; this takes exact ones
    # there and changes nothing elsewhere.
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        content = model if isinstance(model, bytes) else str(model)
        session = onnxruntime.InferenceSession(content, options, providers=providers)
        if providers[0] != _CPU:
            session.disable_fallback()
    except Exception as error:  # the library's own exceptions have no common base but this
        name = "in memory" if isinstance(model, bytes) else str(model)
        raise ModelError(f"cannot run the model {name} ({error}); build or fetch it again") from error
    inputs = tuple(_spec(node.name, node.type, node.shape) for node in session.get_inputs())
    return OnnxRuntime(session, inputs, tuple(output.name for output in session.get_outputs()))


def _providers(device: str) -> list[str]:
    """What ONNX Runtime may compute with, best first."""
    there = onnxruntime.get_available_providers()
    if device == "cuda" and _CUDA not in there:
        raise ModelError(
            f"this ONNX Runtime has no CUDA (it has {', '.join(there)}); use the device cpu, or install "
            "onnxruntime-gpu in place of onnxruntime"
        )
    return [_CUDA, _CPU] if device != "cpu" and _CUDA in there else [_CPU]


def _spec(name: str, kind: str, shape: Sequence[int | str | None]) -> TensorSpec:
    """An input as ONNX Runtime describes it: `tensor(float)`, sides that are numbers, names or None."""
    found = re.fullmatch(r"tensor\((\w+)\)", kind)
    word = found[1] if found else kind
    dtype = _TYPES.get(word, word)
    sides = tuple(side if isinstance(side, int) and side > 0 else -1 for side in shape)
    try:
        return TensorSpec(name=name, shape=sides, dtype=dtype)
    except ModelError as error:
        raise ModelError(
            f"the tensor {name} has the type {kind}, which NumPy has not; export the model again"
        ) from error
