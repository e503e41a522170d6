"""Whether a request fits a model, before it waits for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.serve.served_model import ServedModel
from imagelake.serve.tensor_info import TensorInfo, Tensors


@dataclass(frozen=True)
class Checked:
    """A request that fits.

    Attributes:
        inputs: C-contiguous arrays by name.
        outputs: what is asked for, each once.
        rows: the first side of every input; None of a model without a batch axis.
    """

    inputs: dict[str, NDArray[Any]]
    outputs: tuple[str, ...]
    rows: int | None

    @property
    def group(self) -> object:
        """Requests of equal groups can be run together."""
        return self.outputs, tuple((name, each.dtype, each.shape[1:]) for name, each in self.inputs.items())


def check_request(model: ServedModel, inputs: Tensors, outputs: Sequence[str]) -> Checked:
    """Check names, types, sides and rows; nothing is copied unless it has to be made contiguous.

    Raises:
        InputError: it does not fit.
    """
    infos = {info.name: info for info in model.inputs}
    unknown = [name for name in inputs if name not in infos]
    if unknown:
        raise InputError(f"{model.name} has no input {_names(unknown)}; its inputs are {_names(infos)}")
    missing = [name for name, info in infos.items() if name not in inputs and not info.optional]
    if missing:
        raise InputError(f"{model.name} lacks the input {_names(missing)}; give {_names(infos)}")
    if not inputs:
        raise InputError(f"no input is given to {model.name}; give some of {_names(infos)}")
    # In the order of the model, so that the order of the sender does not keep requests apart.
    given = {name: _fit(model, infos[name], inputs[name]) for name in infos if name in inputs}
    return Checked(given, _check_outputs(model, outputs), _count_rows(given) if model.max_batch else None)


def empty_answer(model: ServedModel, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The answer to a request of 0 rows.

    Raises:
        InputError: its shape is not known without running the model.
    """
    infos = {info.name: info for info in model.outputs}
    open_sides = [name for name in outputs if not infos[name].dtype or min(infos[name].shape[1:], default=0) < 0]
    if open_sides:
        raise InputError(
            f"0 rows are given to {model.name}, whose {_names(open_sides)} has no fixed sides; give 1 row or more"
        )
    return {name: np.empty((0, *infos[name].shape[1:]), infos[name].dtype) for name in outputs}


def _check_outputs(model: ServedModel, outputs: Sequence[str]) -> tuple[str, ...]:
    known = [info.name for info in model.outputs]
    unknown = [name for name in outputs if name not in known]
    if unknown:
        raise InputError(f"{model.name} has no output {_names(unknown)}; its outputs are {_names(known)}")
    return tuple(dict.fromkeys(outputs)) or tuple(known)


def _fit(model: ServedModel, info: TensorInfo, array: NDArray[Any]) -> NDArray[Any]:
    """The array, contiguous, if it is what the input takes."""
    if not isinstance(array, np.ndarray):
        raise InputError(f"the input {info.name} of {model.name} is a {type(array).__name__}; give a NumPy array")
    strings = array.dtype.kind == "O"
    anything = not info.dtype
    if anything and model.max_batch and array.ndim == 0:
        raise InputError(f"the input {info.name} of {model.name} is a single value; give an array of rows")
    if anything or (info.pictures and strings and array.ndim == 1):
        if strings:
            _check_strings(model, info, array)
    elif array.dtype != np.dtype(info.dtype) or not _same_sides(info.shape, array.shape):
        also = ", or encoded pictures as strings [any]" if info.pictures else ""
        raise InputError(
            f"the input {info.name} of {model.name} is {_told(array.dtype)} {_sides(array.shape)}; "
            f"give {_told(np.dtype(info.dtype))} {_sides(info.shape)}{also}"
        )
    elif strings:
        _check_strings(model, info, array)
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _same_sides(wanted: tuple[int, ...], given: tuple[int, ...]) -> bool:
    return len(wanted) == len(given) and all(w in (-1, g) for w, g in zip(wanted, given, strict=True))


def _check_strings(model: ServedModel, info: TensorInfo, array: NDArray[Any]) -> None:
    for place, each in enumerate(array.flat):
        if type(each) is not bytes:
            raise InputError(
                f"element {place} of the input {info.name} of {model.name} is a {type(each).__name__}; "
                "strings are arrays of dtype object that hold bytes"
            )


def _count_rows(given: dict[str, NDArray[Any]]) -> int:
    rows = {name: len(array) for name, array in given.items()}
    if len(set(rows.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise InputError(f"the inputs differ in their rows ({told}); give as many rows of each")
    return next(iter(rows.values()))


def _told(dtype: np.dtype[Any]) -> str:
    return "strings" if dtype.kind == "O" else dtype.name if dtype.isnative else f"{dtype.name} in foreign byte order"


def _sides(shape: Sequence[int]) -> str:
    return f"[{', '.join('any' if side == -1 else str(side) for side in shape)}]"


def _names(names: object) -> str:
    listed = [str(name)[:80] for name in names]  # type: ignore[attr-defined]
    return ", ".join(listed[:20]) + (f" and {len(listed) - 20} more" if len(listed) > 20 else "")
