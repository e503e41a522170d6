"""Any Python function over arrays, as the plane serves it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.serve.served import Served
from imagelake.serve.served_model import Answer
from imagelake.serve.tensor_info import TensorInfo, Tensors


def serve_function(
    function: Callable[..., Any],
    name: str,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    *,
    version: str = "1",
    description: str | None = None,
    max_batch: int = 0,
) -> Served:
    """Serve a function.

    Args:
        function: called with the arrays of the inputs in their order, None for an optional one that was left out. It
            returns the array of the one output; or a tuple or list of arrays in the order of the outputs; or arrays by
            name. What it raises goes to whoever asked: an `ImagelakeError` with its message, all else as a defect.
        name: as requests call it.
        inputs: what it takes.
        outputs: what it gives. An input or output whose dtype is empty is of any type and shape.
        version: of it.
        description: for people; None for the first line of its docstring.
        max_batch: 0 calls it once a request. Above 0 it gets the rows of several requests at once, up to so many, one
            below the other, and gives a row for each; the first side of every input and output is then -1.

    Raises:
        ModelError: no output is named.
    """
    if not outputs:
        raise ModelError(f"{name} gives nothing; name its outputs")
    names = [info.name for info in inputs]
    told = (function.__doc__ or "").strip().partition("\n")[0] if description is None else description

    def compute(given: Tensors, wanted: Sequence[str]) -> Answer:
        found = _by_name(name, function(*(given.get(each) for each in names)), outputs)
        return {each: found[each] for each in wanted if each in found}

    return Served(
        name,
        tuple(inputs),
        tuple(outputs),
        compute,
        uuid.uuid4().hex,  # nobody knows what it computes: answers are kept for this very one only
        version=version,
        description=told,
        task="function",
        max_batch=max_batch,
    )


def _by_name(name: str, returned: Any, outputs: Sequence[TensorInfo]) -> dict[str, NDArray[Any]]:
    """What a function returned, as arrays by the names of the outputs, in their types."""
    if isinstance(returned, Mapping):
        arrays = dict(returned)
    else:
        several = returned if isinstance(returned, tuple | list) and len(outputs) > 1 else (returned,)
        if len(several) != len(outputs):
            raise ModelError(f"{name} returned {len(several)} arrays for {len(outputs)} outputs; it is served wrong")
        arrays = {info.name: array for info, array in zip(outputs, several, strict=True)}
    return {info.name: _typed(arrays[info.name], info) for info in outputs if info.name in arrays}


def _typed(value: Any, info: TensorInfo) -> NDArray[Any]:
    """An array of the type of the output, or of its own; strings become bytes."""
    array: NDArray[Any] = np.asarray(value, info.dtype or None)
    if array.dtype.kind not in "OSU":
        return array if array.flags.c_contiguous else np.ascontiguousarray(array)
    if not isinstance(value, np.ndarray):
        array = np.array(value, object)  # NumPy's own strings lose the NULs at their end
    made = np.empty(array.shape, object)
    for place, each in np.ndenumerate(array):
        if not isinstance(each, str | bytes):
            raise ModelError(f"the output {info.name} holds a {type(each).__name__} where bytes or str are expected")
        made[place] = each.encode() if isinstance(each, str) else bytes(each)
    return made
