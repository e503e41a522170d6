"""The first runs of a model, before anybody asks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.serve.served_model import ServedModel, Warmable
from imagelake.serve.tensor_info import TensorInfo, Tensors


def warm(model: ServedModel, rows: int) -> None:
    """Run a model over its examples, or over zeros, of one row and of as many as a call takes.

    Raises:
        ModelError: it failed.
    """
    try:
        for example in _examples(model):
            model.run(example, [info.name for info in model.outputs])
            if model.max_batch and rows > 1:
                repeated = {name: np.repeat(array, rows, axis=0) for name, array in example.items()}
                model.run(repeated, [info.name for info in model.outputs])
    except Exception as error:
        raise ModelError(f"{model.name} failed when it was warmed up ({error}); it is not served") from error


def _examples(model: ServedModel) -> Sequence[Tensors]:
    """What a model can be warmed up with: none where that is not known."""
    if isinstance(model, Warmable):
        return model.examples()
    needed = [info for info in model.inputs if not info.optional]
    known = all(min(info.shape[1:], default=0) >= 0 and info.dtype != "object" for info in needed)
    if model.task != "tensors" or not needed or not known:
        return []
    return [{info.name: _zeros(info) for info in needed}]


def _zeros(info: TensorInfo) -> NDArray[Any]:
    return np.zeros([1 if side < 0 else side for side in info.shape], info.dtype)
