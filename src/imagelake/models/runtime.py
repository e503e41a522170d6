"""What runs a model file: one small interface over named arrays, one file per library behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models.file_manifest import TensorSpec

if TYPE_CHECKING:
    from imagelake.models.registry import RegisteredModel


class Runtime(Protocol):
    """A loaded model. It may be called from several threads at once."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `run` takes."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names that `run` can be asked for."""

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]] | NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run the model.

        Args:
            outputs: names out of `self.outputs`, at least one.
            inputs: name to array for every input; of a model with one input, its array alone will do.

        Returns:
            Each name that was asked for with its array.

        Raises:
            ModelError: an output is not known, or an input is missing, empty or has another type or shape.
        """


def open_runtime(model: RegisteredModel, *, threads: int = 1, device: str = "cpu") -> Runtime:
    """Load a model out of a registry into the runtime that its manifest names.

    Args:
        model: the model; its files are verified first.
        threads: how many threads one call uses. A runner that calls from N threads gives 1.
        device: `"cpu"`; `"cuda"`, an error where there is none; or `"auto"`, which takes it where it is there.

    Raises:
        ModelError: a file is missing or was changed, or the library cannot read it.
        MissingExtraError: the library is not installed.
    """
    if threads < 1:
        raise ModelError(f"{threads} threads cannot run a model; give 1 or more")
    if device not in {"cpu", "cuda", "auto"}:
        raise ModelError(f"device {device!r} is not known; use one of cpu, cuda, auto")
    runtime = model.manifest.runtime
    # Late: each library is heavy, and a model needs one of them.
    if runtime == "onnx":
        from imagelake.models.onnx_runtime import open_onnx

        return open_onnx(model, threads=threads, device=device)
    if runtime == "opencv":
        from imagelake.models.opencv_runtime import open_opencv

        return open_opencv(model, device=device)  # its threads are those of the process
    if runtime == "torch":
        from imagelake.models.torch_runtime import open_torch

        opened: Runtime = open_torch(model, threads=threads, device=device)
        return opened
    raise ModelError(f"{model.manifest.name} has the runtime {runtime!r}, which takes no pictures; use it as a coder")


def check_run(
    specs: Sequence[TensorSpec],
    known: Sequence[str],
    outputs: Sequence[str],
    inputs: Mapping[str, NDArray[Any]] | NDArray[Any],
) -> dict[str, NDArray[Any]]:
    """What every runtime checks before it runs: give the inputs by name, C-contiguous, of the right types and shapes.

    Raises:
        ModelError: as `Runtime.run`.
    """
    unknown = sorted(set(outputs) - set(known))
    if unknown or not outputs:
        raise ModelError(f"outputs {unknown or outputs!r} are not in this model; use some of {tuple(known)}")
    if not isinstance(inputs, Mapping):
        if len(specs) != 1:
            raise ModelError(f"this model has {len(specs)} inputs; give {', '.join(s.name for s in specs)} by name")
        inputs = {specs[0].name: inputs}
    names = [spec.name for spec in specs]
    if set(inputs) != set(names):
        raise ModelError(f"inputs {sorted(inputs)} are given; this model takes {names}: give exactly these")
    for spec in specs:
        _check_input(spec, inputs[spec.name])
    return {name: np.ascontiguousarray(inputs[name]) for name in names}


def run_in_batches(
    runtime: Runtime, outputs: Sequence[str], array: NDArray[Any], batch: int
) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    """Run a model with one input over any number of pictures, 0 too.

    Args:
        runtime: the loaded model.
        outputs: what to ask for.
        array: [n, ...], the pictures.
        batch: how many go into one call where the model takes any number; where it takes k exactly, that holds, and
            the last call repeats its last picture to fill up.

    Yields:
        How many pictures a call answers for, and its outputs, which may hold more at their end.
    """
    exact = runtime.inputs[0].batch
    size = exact or batch
    for start in range(0, len(array), size):
        part = array[start : start + size]
        count = len(part)
        if exact is not None and count < exact:
            part = np.concatenate([part, np.repeat(part[-1:], exact - count, axis=0)])
        yield count, runtime.run(outputs, part)


def _check_input(spec: TensorSpec, array: NDArray[Any]) -> None:
    fits = len(array.shape) == len(spec.shape) and all(
        wanted in (-1, given) for wanted, given in zip(spec.shape, array.shape, strict=True)
    )
    if not fits or array.dtype.name != spec.dtype or array.size == 0:
        sides = ", ".join("any" if side == -1 else str(side) for side in spec.shape)
        raise ModelError(
            f"an array of type {array.dtype} and shape {array.shape} does not fit the input {spec.name} of this model; "
            f"give {spec.dtype} [{sides}], with at least one element"
        )
