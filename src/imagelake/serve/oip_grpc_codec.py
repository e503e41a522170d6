"""The messages of the Open Inference Protocol's gRPC side as arrays, and back. No sockets here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from imagelake._optional import need
from imagelake.errors import InputError, TooLargeError
from imagelake.serve.oip_classes import top_classes
from imagelake.serve.oip_grpc_schema import messages
from imagelake.serve.oip_types import Raw, checked_shape, datatype_of, dtype_of, from_raw, from_values, named, to_raw
from imagelake.serve.served_model import ServedModel

_FIELDS = {  # where the elements of a datatype stand when they are not raw
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Asked:
    """A request to run a model.

    Attributes:
        model: its name.
        version: None for the one that is served.
        id: comes back in the answer.
        inputs: the arrays, by name.
        outputs: the names that are asked for; none for all.
        top_k: of outputs that are asked for as classes, how many.
        timeout_s: how long the caller waits; None where the request does not say.
    """

    model: str
    version: str | None
    id: str
    inputs: dict[str, NDArray[Any]]
    outputs: tuple[str, ...]
    top_k: Mapping[str, int]
    timeout_s: float | None


def read_message(kind: str, data: bytes) -> Any:
    """The message that bytes are.

    Args:
        kind: such as `"ModelInferRequest"`.
        data: as they came.

    Raises:
        InputError: they are no such message.
    """
    try:
        return getattr(messages(), kind).FromString(data)
    except need("grpc", "google.protobuf.message").DecodeError:
        raise InputError(f"The message is no {kind}.") from None


def read_request(message: Any, max_tensors: int, raw: Sequence[Raw] | None = None) -> Asked:
    """What a `ModelInferRequest` asks for.

    Args:
        message: as it came.
        max_tensors: how many inputs, and outputs, it may have.
        raw: its `raw_input_contents`, where they were taken out of it; the arrays are views of them.

    Raises:
        InputError: a tensor's type, shape and elements do not fit together, or a name stands twice.
        TooLargeError: it has too many tensors.
    """
    for what, tensors in (("inputs", message.inputs), ("outputs", message.outputs)):
        if len(tensors) > max_tensors:
            raise TooLargeError(f"The request has {len(tensors):,} {what}; at most {max_tensors} are taken.")
        names = [tensor.name for tensor in tensors]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"The {what} of the request have the name {named(name)} twice. Send each once.")
    raw = message.raw_input_contents if raw is None else raw
    if len(raw) not in (0, len(message.inputs)):
        raise InputError(
            f"The request has {len(message.inputs)} inputs and {len(raw)} raw_input_contents; give one of all inputs, "
            "or none."
        )
    inputs = {
        tensor.name: _read_tensor(tensor, raw[index] if raw else None) for index, tensor in enumerate(message.inputs)
    }
    top_k = {output.name: _top_k(output) for output in message.outputs if "classification" in output.parameters}
    for output in message.outputs:
        _refuse_shared_memory(output)
    return Asked(
        message.model_name,
        message.model_version or None,
        message.id,
        inputs,
        tuple(output.name for output in message.outputs),
        top_k,
        _timeout_s(message.parameters),
    )


def _read_tensor(tensor: Any, raw: Raw | None) -> NDArray[Any]:
    _refuse_shared_memory(tensor)
    name, datatype, shape = tensor.name, tensor.datatype, list(tensor.shape)
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    if raw is not None:
        if filled:
            raise InputError(f"The tensor {named(name)} has contents and raw_input_contents. Send one of them.")
        return from_raw(raw, datatype, shape, name)
    dtype_of(datatype, name)
    checked_shape(shape, name)
    field = _FIELDS.get(datatype)
    if field is None:
        raise InputError(f"The tensor {named(name)} is {datatype}, which has no typed contents. Send it raw.")
    if filled not in ([], [field]):
        raise InputError(f"The tensor {named(name)} of {datatype} has {', '.join(filled)}; its elements go to {field}.")
    values: list[Any] = list(getattr(tensor.contents, field))
    return from_values(values, datatype, shape, name)


def _refuse_shared_memory(tensor: Any) -> None:
    if "shared_memory_region" in tensor.parameters:
        raise InputError(f"The tensor {named(tensor.name)} is in shared memory, which is not served. Send its bytes.")


def _top_k(output: Any) -> int:
    count = output.parameters["classification"].int64_param
    if count < 0:
        raise InputError(f"The output {named(output.name)} asks for {count} classes; ask for 1 or more.")
    return int(count)


def _timeout_s(parameters: Any) -> float | None:
    """Triton's parameter, in microseconds."""
    if "timeout" not in parameters:
        return None
    value = parameters["timeout"]
    given = getattr(value, value.WhichOneof("parameter_choice") or "int64_param")
    try:
        microseconds = int(given)
    except (ValueError, OverflowError):
        raise InputError("The parameter timeout is no number. Give it in microseconds.") from None
    return microseconds / _MICROSECONDS if microseconds > 0 else None


def write_response(asked: Asked, model: ServedModel, results: Mapping[str, NDArray[Any]]) -> Any:
    """The `ModelInferResponse` of a request; all tensors are raw."""
    message = messages().ModelInferResponse(model_name=model.name, model_version=model.version, id=asked.id)
    for name in asked.outputs or tuple(info.name for info in model.outputs):
        array = results[name]
        if asked.top_k.get(name):
            array = top_classes(array, asked.top_k[name], model.labels, batched=model.max_batch > 0, name=name)
        message.outputs.add(name=name, datatype=datatype_of(array.dtype), shape=array.shape)
        message.raw_output_contents.append(bytes(to_raw(array)))
    return message


def as_message(kind: str, document: Mapping[str, Any]) -> Any:
    """A message of what the protocol tells as JSON: the names are the same; what the schema has no field for goes.

    Args:
        kind: such as `"ModelMetadataResponse"`.
        document: as `oip_documents` makes it.
    """
    message = getattr(messages(), kind)()
    return need("grpc", "google.protobuf.json_format").ParseDict(document, message, ignore_unknown_fields=True)
