"""What `imagelake serve` says of its models: what they take and give, and a line to type."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from imagelake.serve.oip_types import datatype_of
from imagelake.serve.plane import ServedModel
from imagelake.serve.tensor_info import TensorInfo

_PICTURES = {"classifier": "classify", "detector": "detect", "search": "search", "embedder": "embed"}
_FEW = 16  # numbers that fit into a line
_KEY = ' -H "Authorization: Bearer $KEY"'


def tensors_of(model: ServedModel) -> str:
    """The inputs and outputs of a model in a line, such as `x float32 [any, 3] -> y float32 [any, 3]`."""
    return f"{_told(model.inputs)} -> {_told(model.outputs)}"


def example(models: Sequence[ServedModel], address: str, *, keyed: bool) -> str:
    """A line to type: a picture for a model that takes pictures, else the tensors of the first model.

    Args:
        models: all that are served, the one for callers who name none first.
        address: of the server.
        keyed: whether callers must show a key.
    """
    key = _KEY if keyed else ""
    tasks = {model.task for model in models}
    path = next((path for task, path in _PICTURES.items() if task in tasks), None)
    if path is not None:
        return f"curl{key} -H 'Content-Type: image/jpeg' --data-binary @photo.jpg {address}/api/{path}"
    needed = [info for info in models[0].inputs if not info.optional] if models else []
    name = quote(models[0].name, safe="") if models else ""
    if not needed or any(info.dtype == "object" for info in needed):
        return f"curl{key} {address}/"
    if sum(math.prod(_sides(info)) for info in needed) <= _FEW and all(info.dtype != "float16" for info in needed):
        body = json.dumps({"inputs": [_tensor(info) for info in needed]})
        return f"curl{key} -d {shlex.quote(body)} {address}/v2/models/{name}/infer"
    if keyed:
        return f"curl{key} {address}/graphpipe/{name}"
    arrays = ", ".join(f"np.zeros({_sides(info)}, '{info.dtype}')" for info in needed)
    names = [info.name for info in needed]
    call = f"print(graphpipe.execute_multi('{address}/graphpipe/{name}', [{arrays}], {names}))"
    return f"python -c {shlex.quote(f'import numpy as np; from imagelake import graphpipe; {call}')}"


def _told(infos: Iterable[TensorInfo]) -> str:
    return ", ".join(
        f"{info.name} {'strings' if info.dtype == 'object' else info.dtype} "
        f"[{', '.join('any' if side < 0 else str(side) for side in info.shape)}]"
        for info in infos
    )


def _sides(info: TensorInfo) -> list[int]:
    return [1 if side < 0 else side for side in info.shape]


def _tensor(info: TensorInfo) -> dict[str, Any]:
    zero: Any = {"bool": False}.get(info.dtype, 0)
    sides = _sides(info)
    datatype = datatype_of(info.dtype)
    return {"name": info.name, "datatype": datatype, "shape": sides, "data": [zero] * math.prod(sides)}
