"""Requests and answers of the Open Inference Protocol v2 over HTTP, as bytes: JSON, binary tensors, raw bodies.

No sockets here. JSON has no NaN and no infinity: a request with them is refused and can be sent as binary; an answer
has null in their place, which every JSON reader takes, and the exact values are in the binary form. FP16 is never JSON.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.serve.oip_classes import top_classes
from imagelake.serve.oip_fields import (
    HEADER_LENGTH,
    MAX_JSON_VALUES,
    count_of,
    flag_of,
    kind_of,
    list_of,
    load_json,
    object_of,
    parameters_of,
)
from imagelake.serve.oip_types import (
    Raw,
    as_bytes,
    checked_shape,
    datatype_of,
    dtype_of,
    from_raw,
    from_values,
    named,
    shown,
    to_raw,
)
from imagelake.serve.tensor_info import TensorInfo, Tensors

MAX_ID = 1024  # characters
_AT_ONCE = 8_192  # values that are written as JSON before other threads may run


@dataclass(frozen=True)
class AskedOutput:
    """An output that a request names.

    Attributes:
        name: of the output.
        binary: whether it goes behind the JSON; None: as the request says for all.
        classes: how many best classes to give as strings instead of the tensor; 0: the tensor.
    """

    name: str
    binary: bool | None = None
    classes: int = 0


@dataclass(frozen=True)
class InferRequest:
    """What a request asks.

    Attributes:
        inputs: by name; numbers are views of the body where they came as binary.
        outputs: those it names; () asks for all.
        binary: whether outputs go behind the JSON, where they do not say it themselves.
        id: to be echoed; None where it has none.
        timeout_s: after which the answer is of no use; None where it does not say.
    """

    inputs: dict[str, NDArray[Any]]
    outputs: tuple[AskedOutput, ...] = ()
    binary: bool = False
    id: str | None = None
    timeout_s: float | None = None


def header_length(value: str | None) -> int | None:
    """The bytes of JSON that come first in the body, as the header says; None where the body is JSON alone.

    Raises:
        InputError: it is no number of bytes.
    """
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise InputError(f"{HEADER_LENGTH} is {shown(value)}; it is the number of bytes of JSON before the tensors.")
    return int(value)


def read_request(body: Raw, json_length: int | None = None, *, max_tensors: int = 64) -> InferRequest:
    """The request of a body of JSON, with or without binary tensors behind it.

    Args:
        body: JSON, then the binary tensors in the order of the inputs.
        json_length: of the JSON, as `header_length` gives it; None: the body is JSON alone.
        max_tensors: inputs, and outputs that it names.

    Raises:
        InputError: it is no such request.
        TooLargeError: too much JSON, or too many tensors.
    """
    data = memoryview(body).cast("B")
    if json_length is not None and json_length > len(data):
        raise InputError(f"{HEADER_LENGTH} is {json_length:,}, and the body has {len(data):,} bytes.")
    asked = object_of(load_json(data[:json_length]), "The request")
    about = parameters_of(asked, "The request")
    tail = data[len(data) if json_length is None else json_length :]
    return InferRequest(
        inputs=_inputs(list_of(asked, "inputs", max_tensors), tail, split=json_length is not None),
        outputs=_outputs(list_of(asked, "outputs", max_tensors) if asked.get("outputs") is not None else []),
        binary=flag_of(about, "binary_data_output") or False,
        id=_id(asked),
        timeout_s=_timeout(about),
    )


def read_raw_request(body: Raw, inputs: Sequence[TensorInfo], *, batched: bool) -> InferRequest:
    """The request of a body that is one tensor's bytes and no JSON; all outputs are asked for as binary.

    Args:
        body: one encoded picture, or one element of BYTES without its length, or the numbers.
        inputs: of the model; it must have one that is needed, or else its first may be left out as all others.
        batched: whether the first side is the batch, which is 1 where another side is open too.

    Raises:
        InputError: the model takes more than one tensor, or one with several open sides, or the bytes do not fit.
    """
    needed = [info for info in inputs if not info.optional] or list(inputs[:1])
    if len(needed) != 1:
        names = ", ".join(info.name for info in needed) or "none"
        raise InputError(f"A raw body is for a model with one input; this one has {len(needed)}: {names}. Send JSON.")
    info = needed[0]
    data = memoryview(body).cast("B")
    if info.pictures or info.dtype == "object":
        if not info.pictures and math.prod(max(side, 1) for side in info.shape) != 1:
            raise InputError(
                f"A raw body is one string; the input {named(info.name)} is {list(info.shape)}. Send JSON."
            )
        array = np.empty(1, dtype=object)
        array[0] = bytes(data)
        shape: tuple[int, ...] = (1,) if info.pictures else (1,) * len(info.shape)
        return InferRequest({info.name: array.reshape(shape)}, binary=True)
    datatype = datatype_of(info.dtype)
    shape = _solved(info, len(data), dtype_of(datatype).itemsize, batched=batched)
    return InferRequest({info.name: from_raw(data, datatype, shape, info.name)}, binary=True)


def _solved(info: TensorInfo, size: int, itemsize: int, *, batched: bool) -> tuple[int, ...]:
    """The shape whose one open side makes the bytes fit."""
    sides = list(info.shape)
    if batched and sides[:1] == [-1] and sum(side < 0 for side in sides) > 1:
        sides[0] = 1
    open_sides = [index for index, side in enumerate(sides) if side < 0]
    if len(open_sides) > 1:
        raise InputError(
            f"A raw body is for an input with at most one open side; {named(info.name)} is {sides}. Send JSON."
        )
    row = math.prod(side for side in sides if side >= 0) * itemsize
    for index in open_sides:
        if not row or size % row:
            raise InputError(
                f"The body has {size:,} bytes; the input {named(info.name)} of {info.dtype} and shape "
                f"{list(info.shape)} takes a multiple of {row:,}."
            )
        sides[index] = size // row
    return tuple(sides)


def write_response(
    model: str,
    version: str,
    outputs: Tensors,
    request: InferRequest,
    *,
    labels: Sequence[str] = (),
    batched: bool = True,
) -> tuple[list[bytes | memoryview], dict[str, str]]:
    """The body of an answer in parts, JSON first, and its headers.

    Args:
        model: its name.
        version: of the model.
        outputs: what the model gave; of these, what the request names, or all.
        request: what was asked.
        labels: of the model, for classes.
        batched: whether the first side of an output is the batch.

    Raises:
        InputError: JSON was asked for what JSON cannot hold, or classes of what is no number.
    """
    tail: list[bytes | memoryview] = []
    described: list[str] = []
    for asked in request.outputs or tuple(AskedOutput(name) for name in outputs):
        array = outputs[asked.name]
        if asked.classes:
            array = top_classes(array, asked.classes, labels, batched=batched, name=asked.name)
        about: dict[str, Any] = {"name": asked.name, "datatype": datatype_of(array.dtype), "shape": list(array.shape)}
        if request.binary if asked.binary is None else asked.binary:
            raw = to_raw(array)
            tail.append(raw)
            described.append(_json(about | {"parameters": {"binary_data_size": len(raw)}}))
        else:
            described.append(f'{_json(about)[:-1]},"data":[{_json_values(array, asked.name)}]}}')
    named_id = "" if request.id is None else f',"id":{_json(request.id)}'
    head = (
        f'{{"model_name":{_json(model)},"model_version":{_json(version)},"outputs":[{",".join(described)}]{named_id}}}'
    ).encode()
    if not tail:
        return [head], {"Content-Type": "application/json"}
    return [head, *tail], {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _json_values(array: NDArray[Any], name: str) -> str:
    """The elements, row-major, as JSON has them, with commas between; written in pieces, for other threads' sake."""
    if array.dtype == np.float16:
        raise InputError(f"The output {named(name)} is FP16, which has no JSON. Ask for it with binary_data: true.")
    if array.size > MAX_JSON_VALUES:
        raise InputError(
            f"The output {named(name)} has {array.size:,} values; at most {MAX_JSON_VALUES:,} are given as JSON. Ask "
            "for it with binary_data: true."
        )
    flat = array.reshape(-1)
    pieces = (flat[start : start + _AT_ONCE] for start in range(0, flat.size, _AT_ONCE))
    return ",".join(_json(_plain_values(piece, name))[1:-1] for piece in pieces)


def _plain_values(flat: NDArray[Any], name: str) -> list[Any]:
    if flat.dtype.kind in "OSU":
        try:
            return [as_bytes(element, name).decode() for element in flat.tolist()]
        except UnicodeDecodeError:
            raise InputError(
                f"The output {named(name)} has bytes that are no UTF-8 text. Ask for it with binary_data: true."
            ) from None
    values: list[Any] = flat.tolist()
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        return [value if math.isfinite(value) else None for value in values]
    return values


def _name(tensor: Mapping[str, Any], where: str, known: Mapping[str, object]) -> str:
    name = tensor.get("name")
    if not isinstance(name, str) or not name:
        raise InputError(f'{where} has no "name", a string.')
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise InputError(f'The "name" of {where[0].lower()}{where[1:]} is no Unicode.')
    if name in known:
        raise InputError(f"{where} has the name {shown(name)} once more. Give each tensor once.")
    return name


def _id(asked: Mapping[str, Any]) -> str | None:
    value = asked.get("id")
    if value is not None and (not isinstance(value, str) or len(value) > MAX_ID):
        raise InputError(f'"id" of the request must be a string of at most {MAX_ID} characters.')
    return value


def _timeout(about: Mapping[str, Any]) -> float | None:
    micros = count_of(about, "timeout")
    return min(micros, 1 << 62) / 1e6 if micros else None


def _outputs(listed: list[Any]) -> tuple[AskedOutput, ...]:
    found: dict[str, AskedOutput] = {}
    for index, given in enumerate(listed):
        where = f"Output {index} of the request"
        tensor = object_of(given, where)
        name = _name(tensor, where, found)
        about = parameters_of(tensor, where)
        _no_shared_memory(about, name)
        classes = count_of(about, "classification") or 0
        found[name] = AskedOutput(name, flag_of(about, "binary_data"), classes)
    return tuple(found.values())


def _inputs(listed: list[Any], tail: memoryview, *, split: bool) -> dict[str, NDArray[Any]]:
    """The inputs, in their order; `tail` is the binary tensors one after another."""
    found: dict[str, NDArray[Any]] = {}
    at = 0
    for index, given in enumerate(listed):
        where = f"Input {index} of the request"
        tensor = object_of(given, where)
        name = _name(tensor, where, found)
        about = parameters_of(tensor, where)
        _no_shared_memory(about, name)
        dtype_of(tensor.get("datatype"), name)
        shape = tensor.get("shape")
        if not isinstance(shape, list):
            raise InputError(f'"shape" of the tensor {named(name)} must be a list, and is {kind_of(shape)}.')
        size = count_of(about, "binary_data_size")
        if size is None:
            found[name] = _from_json(tensor, checked_shape(shape, name), name)
            continue
        if "data" in tensor:
            raise InputError(f'The tensor {named(name)} has both "data" and binary_data_size. Give one.')
        if size > len(tail) - at:
            hint = "" if split else f" Say with {HEADER_LENGTH} where the JSON ends."
            raise InputError(
                f"The tensor {named(name)} has a binary_data_size of {shown(size)}, and {len(tail) - at:,} bytes are "
                f"left behind the JSON.{hint}"
            )
        found[name] = from_raw(tail[at : at + size], tensor["datatype"], shape, name)
        at += size
    if at != len(tail):
        raise InputError(f"{len(tail) - at:,} bytes of the body belong to no tensor. Check each binary_data_size.")
    return found


def _no_shared_memory(about: Mapping[str, Any], name: str) -> None:
    if "shared_memory_region" in about:
        raise InputError(f"The tensor {named(name)} is in shared memory, which is not served. Send it in the body.")


def _from_json(tensor: Mapping[str, Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    datatype, values = tensor["datatype"], tensor.get("data")
    if datatype == "FP16":
        raise InputError(f"The tensor {named(name)} is FP16, which has no JSON. Send it as binary.")
    if not isinstance(values, list):
        raise InputError(f'"data" of the tensor {named(name)} must be a list, and is {kind_of(values)}.')
    array = from_values(_flat(values, shape, name), datatype, shape, name)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"The tensor {named(name)} has numbers beyond the range of {datatype}. Send it as binary.")
    return array


def _flat(values: list[Any], shape: tuple[int, ...], name: str) -> list[Any]:
    """Values that are nested as the shape is, or flat already, flat."""
    if not values or not isinstance(values[0], list):
        return values
    level = [values]
    for side in shape:
        if set(map(type, level)) - {list} or set(map(len, level)) - {side}:
            raise InputError(
                f'"data" of the tensor {named(name)} is nested, and not as the shape {list(shape)} says. Send it flat.'
            )
        level = list(itertools.chain.from_iterable(level))
    return level
