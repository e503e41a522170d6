"""Run a model file with ONNX Runtime on the processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from imagelake.errors import ModelError

_ERRORS_ONLY = 3


@dataclass(frozen=True)
class SessionSettings:
    """How a session uses the machine; the defaults are what `benchmarks/session_settings.py` found best.

    Attributes:
        threads: how many threads one call uses. A runner that calls from N threads gives 1.
        spinning: whether idle threads burn the core while they wait; they slow down everything beside them.
        arena: whether freed memory is kept for the next call, which saves page faults and holds the largest batch.
    """

    threads: int = 1
    spinning: bool = False
    arena: bool = True


@dataclass(frozen=True)
class OnnxRuntime:
    """A `Runtime` over one ONNX Runtime session, which is safe to call from several threads at once."""

    session: onnxruntime.InferenceSession
    outputs: tuple[str, ...]

    def run(self, outputs: Sequence[str], image_rgb: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """See `Runtime.run`."""
        unknown = sorted(set(outputs) - set(self.outputs))
        if unknown or not outputs:
            raise ModelError(f"outputs {unknown or outputs!r} are not in this model; use some of {self.outputs}")
        (given,) = self.session.get_inputs()
        wanted = given.shape[1:]
        if image_rgb.dtype != np.uint8 or list(image_rgb.shape[1:]) != wanted:
            raise ModelError(
                f"pictures of type {image_rgb.dtype} and shape {image_rgb.shape} do not fit this model; "
                f"give uint8 [batch, {', '.join(map(str, wanted))}]"
            )
        arrays = self.session.run(list(outputs), {given.name: np.ascontiguousarray(image_rgb)})
        return dict(zip(outputs, arrays, strict=True))


def open_session(model: Path | bytes, settings: SessionSettings | None = None) -> OnnxRuntime:
    """Load an ONNX model.

    Args:
        model: its file, or what the file holds.
        settings: how to use the machine; the default uses one thread a call.

    Raises:
        ModelError: the file cannot be read or is no ONNX model that this version of ONNX Runtime can run.
    """
    settings = settings or SessionSettings()
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
        content = model if isinstance(model, bytes) else model.read_bytes()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's own exceptions have no common base but this
        name = "in memory" if isinstance(model, bytes) else str(model)
        raise ModelError(f"cannot run the model {name} ({error}); build or fetch it again") from error
    return OnnxRuntime(session, tuple(output.name for output in session.get_outputs()))
