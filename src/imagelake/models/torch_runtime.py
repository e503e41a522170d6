"""Run an exported program (`.pt2`) or a TorchScript archive with torch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake._optional import need
from imagelake.errors import ModelError
from imagelake.models.file_manifest import TensorSpec
from imagelake.models.registry import RegisteredModel
from imagelake.models.runtime import check_run
from imagelake.models.torch_files import require_safe


@dataclass(frozen=True)
class TorchRuntime:
    """A `Runtime` over a program of torch, which may be called from several threads at once.

    Outputs have the keys of the dictionary that the program returns; else they are `output`, or `output_0` and on for
    a tuple. How many threads a call uses is torch's own setting for the whole process (`torch.set_num_threads`), which
    this leaves as it is.

    Attributes:
        inputs: what it takes.
        outputs: what it gives.
        program: what is called with tensors.
        device: where it runs: `"cpu"` or `"cuda"`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    program: Any = field(repr=False)
    device: str = "cpu"

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]] | NDArray[Any]) -> dict[str, NDArray[Any]]:
        """See `Runtime.run`."""
        given = check_run(self.inputs, self.outputs, outputs, inputs)
        torch = need("torch", "torch")
        try:
            with torch.inference_mode():
                # Copies: a program may write into what it is given.
                found = self.program(*(torch.tensor(given[spec.name], device=self.device) for spec in self.inputs))
                arrays = dict(zip(self.outputs, _flat(found), strict=True))
                return {name: _array(torch, arrays[name]) for name in outputs}
        except (RuntimeError, ValueError, TypeError, AssertionError, KeyError) as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in given.items())
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"the model failed on {shapes} ({reason}); check its inputs") from error


def open_torch(model: RegisteredModel, *, threads: int = 1, device: str = "cpu") -> TorchRuntime:
    """Load a registered model of torch; see `open_runtime`. `threads` is left to torch.

    Raises:
        ModelError: the file is refused (see `torch_files.require_safe`), does not take and give plain tensors, or the
            device is not there.
        MissingExtraError: torch is not installed.
    """
    del threads
    return load_torch(model.path(model.manifest.model_role), model.manifest.inputs, device=device)


def load_torch(path: Path, inputs: Sequence[TensorSpec] = (), *, device: str = "cpu") -> TorchRuntime:
    """Load a file of torch once it is known to be safe.

    Args:
        path: an exported program or a TorchScript archive.
        inputs: what it takes. An exported program says that itself; a TorchScript archive names its inputs and leaves
            open their shapes and types.
        device: as `open_runtime` has it.

    Raises:
        ModelError: as `open_torch`.
        MissingExtraError: torch is not installed.
    """
    torch = need("torch", "torch")
    kind = require_safe(path)
    place = _device(torch, device)
    if kind == "exported":
        return _runtime_of_exported(torch, path, read_exported(path), place)
    script = read_torchscript(path, place)
    names, outputs = _interface_of_script(torch, path, script)
    if len(inputs) != len(names):
        raise ModelError(
            f"{path} is TorchScript, which does not tell the shapes of its inputs ({', '.join(names)}); give all of "
            'them in the manifest, such as {"name": "x", "shape": [-1, 3, 224, 224], "dtype": "float32"}'
        )
    return TorchRuntime(tuple(inputs), outputs, script, place)


def read_exported(path: Path) -> Any:
    """The `torch.export.ExportedProgram` of a file that `require_safe` has let through.

    Raises:
        ModelError: this version of torch cannot read it.
    """
    package = need("torch", "torch.export.pt2_archive._package")
    try:
        # `torch.export.load` would go on to an older format, whose weights are pickles, where this one fails.
        return package.load_pt2(str(path)).exported_programs["model"]
    except Exception as error:  # whatever torch meets in a file of another version
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"torch cannot read {path} ({type(error).__name__}: {reason}); export it again") from error


def read_torchscript(path: Path, device: str = "cpu") -> Any:
    """The `torch.jit.ScriptModule` of a file that `require_safe` has let through, in its mode for use.

    Raises:
        ModelError: this version of torch cannot read it.
    """
    torch = need("torch", "torch")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is; files of it are about for years to come
            return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"torch cannot read {path} ({reason}); write it again") from error


def _runtime_of_exported(torch: Any, path: Path, exported: Any, device: str) -> TorchRuntime:
    signature = exported.graph_signature
    if signature.buffers_to_mutate or signature.user_inputs_to_mutate or _trains(exported.graph):
        raise ModelError(f"{path} changes itself as it runs; export it in its mode for use: export(model.eval(), ...)")
    if device != "cpu":
        exported = need("torch", "torch.export.passes").move_to_device_pass(exported, device)
    examples = {node.name: node.meta.get("val") for node in exported.graph.nodes if node.op == "placeholder"}
    inputs = tuple(_spec(torch, path, name, examples.get(name)) for name in signature.user_inputs)
    tree = need("torch", "torch.utils._pytree")
    spec = exported.call_spec.out_spec
    outputs = _names(tree.tree_unflatten(list(range(spec.num_leaves)), spec))
    kinds = [str(output.arg) for output in signature.output_specs if output.kind.name == "USER_OUTPUT"]
    if any(not kind.startswith("TensorArgument") for kind in kinds):
        raise ModelError(f"{path} gives more than tensors ({', '.join(kinds)[:200]}); export a model that gives these")
    return TorchRuntime(inputs, outputs, exported.module(), device)


def _trains(graph: Any) -> bool:
    """Whether an operator is in its mode for training, as dropout and batch normalization have one."""
    for node in graph.nodes:
        for position, argument in enumerate(getattr(getattr(node.target, "_schema", None), "arguments", ())):
            value = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
            if argument.name in {"train", "training"} and value is True:
                return True
    return False


def _interface_of_script(torch: Any, path: Path, script: Any) -> tuple[list[str], tuple[str, ...]]:
    """The names of what a TorchScript model takes and gives."""
    schema = script.forward.schema
    arguments = [a for a in schema.arguments[1:] if not a.has_default_value()]
    wrong = [f"{a.name}: {a.type}" for a in arguments if not isinstance(a.type, torch._C.TensorType)]  # noqa: SLF001
    given = schema.returns[0].type
    if isinstance(given, torch._C.TensorType):  # noqa: SLF001
        outputs: tuple[str, ...] = ("output",)
    elif isinstance(given, torch._C.TupleType):  # noqa: SLF001
        elements = given.elements()
        wrong += [str(e) for e in elements if not isinstance(e, torch._C.TensorType)]  # noqa: SLF001
        outputs = tuple(f"output_{number}" for number in range(len(elements)))
    else:
        wrong, outputs = [*wrong, str(given)], ()
    if wrong:
        raise ModelError(
            f"{path} takes or gives {', '.join(wrong)}; a model here takes tensors and gives one or a tuple of them: "
            "trace one that does, or export it as .pt2, which may give a dictionary"
        )
    return [a.name for a in arguments], outputs


def _spec(torch: Any, path: Path, name: str, example: Any) -> TensorSpec:
    if not isinstance(example, torch.Tensor):
        raise ModelError(f"{path} takes {name}, which is no tensor; export a model that takes tensors")
    shape = tuple(side if type(side) is int else -1 for side in example.shape)
    return TensorSpec(name=name, shape=shape, dtype=str(example.dtype).removeprefix("torch."))


def _names(result: Any) -> tuple[str, ...]:
    """The names of outputs from how they are nested."""
    if isinstance(result, Mapping) and not any(isinstance(value, Mapping | tuple | list) for value in result.values()):
        return tuple(map(str, result))
    count = len(_flat(result))
    return ("output",) if count == 1 else tuple(f"output_{number}" for number in range(count))


def _flat(result: Any) -> list[Any]:
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, tuple | list):
        return [leaf for inner in result for leaf in _flat(inner)]
    return [result]


def _array(torch: Any, tensor: Any) -> NDArray[Any]:
    if tensor.dtype == torch.bfloat16:  # NumPy has none
        tensor = tensor.float()
    array: NDArray[Any] = np.ascontiguousarray(tensor.cpu().numpy())
    return array


def _device(torch: Any, device: str) -> str:
    there = bool(torch.cuda.is_available()) if device != "cpu" else False
    if device == "cuda" and not there:
        raise ModelError("torch finds no CUDA device here; use the device cpu")
    return "cuda" if there else "cpu"
