"""GraphPipe messages: bytes to arrays and back. No sockets here; `graphpipe_http` has them.

A message is read without trust (see `flatbuffer_reader`) and without copies: arrays of numbers are read-only views of
the bytes, which may lie at any alignment. Strings are `bytes`, NULs and all, in arrays of dtype object. The schema is
in graphpipe.fbs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.serve.flatbuffer_reader import Reader, Table
from imagelake.serve.flatbuffer_writer import Message, Writer
from imagelake.serve.graphpipe_schema.Req import Req
from imagelake.serve.graphpipe_schema.Type import Type
from imagelake.serve.tensor_info import TensorInfo

Body = bytes | bytearray | memoryview
Array = NDArray[Any]

DTYPES: dict[int, str] = {
    Type.Uint8: "uint8",
    Type.Int8: "int8",
    Type.Uint16: "uint16",
    Type.Int16: "int16",
    Type.Uint32: "uint32",
    Type.Int32: "int32",
    Type.Uint64: "uint64",
    Type.Int64: "int64",
    Type.Float16: "float16",
    Type.Float32: "float32",
    Type.Float64: "float64",
    Type.String: "object",
}
"""NumPy's name of each type of the protocol."""

_WIRE = {number: np.dtype(name).newbyteorder("<") for number, name in DTYPES.items() if name != "object"}
_NUMBERS = {(dtype.kind, dtype.itemsize): number for number, dtype in _WIRE.items()}
_MAX_RANK = 32
_MAX_BYTES = 1 << 62


@dataclass(frozen=True)
class MessageLimits:
    """What one message may hold, besides its length, which whoever reads it from the network bounds.

    Attributes:
        max_tensors: tensors, and names of outputs.
        max_strings: names and elements of tensors of strings, together.
    """

    max_tensors: int = 64
    max_strings: int = 65_536


@dataclass(frozen=True, eq=False)
class InferRequest:
    """A model is to be run.

    Attributes:
        inputs: the arrays.
        input_names: as many as arrays, in their order, or none: by position. An empty one is by position too.
        output_names: what is asked for; none: all.
        config: for the model, as it likes.
    """

    inputs: tuple[Array, ...]
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    config: bytes = b""


@dataclass(frozen=True)
class MetadataRequest:
    """A model is to be described."""


@dataclass(frozen=True)
class RemoteError:
    """An error that a server put into its answer."""

    code: int
    message: str


@dataclass(frozen=True, eq=False)
class InferResponse:
    """What a model gave: arrays in the order in which they were asked for, or errors."""

    outputs: tuple[Array, ...]
    errors: tuple[RemoteError, ...] = ()


@dataclass(frozen=True)
class Metadata:
    """What a server says of a model; a dtype is empty where the server does not know it."""

    name: str = ""
    version: str = ""
    server: str = ""
    description: str = ""
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()


def decode_request(body: Body, limits: MessageLimits | None = None) -> InferRequest | MetadataRequest:
    """Read what a client sends.

    Args:
        body: the message, whole and alone; the arrays look into it.
        limits: of the message.

    Raises:
        InputError: it is no request.
        TooLargeError: it is beyond the limits.
    """
    limits = limits or MessageLimits()
    reader = _reader(body, limits, "GraphPipe request")
    root = reader.root()
    kind = root.byte(0)
    if kind == Req.MetadataRequest:
        return MetadataRequest()
    request = root.table(1) if kind == Req.InferRequest else None
    if request is None:
        reader.fail("it asks neither for an inference nor for metadata")
    inputs = tuple(_read_tensor(table) for table in request.tables(2, limits.max_tensors))
    names = request.texts(1, limits.max_tensors)
    if names and len(names) != len(inputs):
        raise InputError(
            f"{len(names)} input names are given for {len(inputs)} tensors. Give one name for each tensor, or none."
        )
    return InferRequest(inputs, names, request.texts(3, limits.max_tensors), request.string(0))


def decode_infer_response(body: Body, limits: MessageLimits | None = None) -> InferResponse:
    """Read what a server answers to an `InferRequest`; the arrays look into the body.

    Raises:
        InputError: it is no such answer.
        TooLargeError: it is beyond the limits.
    """
    limits = limits or MessageLimits()
    root = _reader(body, limits, "GraphPipe answer").root()
    outputs = tuple(_read_tensor(table) for table in root.tables(0, limits.max_tensors))
    errors = root.tables(1, limits.max_tensors)
    said = tuple(RemoteError(each.int64(0), each.string(1).decode(errors="replace")) for each in errors)
    return InferResponse(outputs, said)


def decode_metadata_response(body: Body, limits: MessageLimits | None = None) -> Metadata:
    """Read what a server answers to a `MetadataRequest`.

    Raises:
        InputError: it is no such answer.
        TooLargeError: it is beyond the limits.
    """
    limits = limits or MessageLimits()
    root = _reader(body, limits, "GraphPipe metadata").root()
    inputs, outputs = (tuple(map(_read_info, root.tables(slot, 16 * limits.max_tensors))) for slot in (4, 5))
    return Metadata(root.text(0), root.text(1), root.text(2), root.text(3), inputs, outputs)


def encode_request(
    inputs: Sequence[Array],
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    config: str | bytes = b"",
) -> Message:
    """Write a request to run a model; see `InferRequest`. `Message.join()` gives its bytes, in one copy.

    Raises:
        InputError: an array has a type that the protocol lacks, or the names are not as many as the arrays.
    """
    if input_names and len(input_names) != len(inputs):
        raise InputError(
            f"{len(input_names)} input names are given for {len(inputs)} arrays. Give one for each array, or none."
        )
    writer = Writer()
    kind, request = writer.table(0, [1, 4])
    writer.byte(kind, Req.InferRequest)
    fields = writer.table(request, [4, 4, 4, 4])
    writer.string(fields[0], _utf8(config) if isinstance(config, str) else config)
    _write_texts(writer, fields[1], input_names)
    _write_texts(writer, fields[3], output_names)
    _write_tensors(writer, fields[2], inputs)
    return writer.finish()


def encode_metadata_request() -> Message:
    """Write a request for the description of a model."""
    writer = Writer()
    kind, request = writer.table(0, [1, 4])
    writer.byte(kind, Req.MetadataRequest)
    writer.table(request, [])
    return writer.finish()


def encode_infer_response(outputs: Sequence[Array]) -> Message:
    """Write what a model gave. Errors are not written: old clients see only the status of HTTP.

    Raises:
        InputError: an array has a type that the protocol lacks.
    """
    writer = Writer()
    _write_tensors(writer, writer.table(0, [4])[0], outputs)
    return writer.finish()


def encode_metadata_response(metadata: Metadata) -> Message:
    """Write what a model is."""
    writer = Writer()
    fields = writer.table(0, [4, 4, 4, 4, 4, 4])
    for at, text in zip(fields, (metadata.name, metadata.version, metadata.server, metadata.description), strict=False):
        writer.string(at, _utf8(text))
    for at, infos in zip(fields[4:], (metadata.inputs, metadata.outputs), strict=True):
        for place, info in zip(writer.offsets(at, len(infos)), infos, strict=True):
            name, description, shape, number = writer.table(place, [4, 4, 4, 1])
            writer.string(name, _utf8(info.name))
            writer.string(description, _utf8(info.description))
            writer.int64s(shape, info.shape)
            writer.byte(number, type_number(info.dtype))
    return writer.finish()


def type_number(dtype: str) -> int:
    """The number of a type that has a name of NumPy's; 0 where the protocol lacks it.

    `bool` counts as uint8, which is how such values travel.
    """
    if dtype in {"", "object"}:
        return Type.String if dtype else Type.Null
    try:
        known = np.dtype("uint8" if dtype == "bool" else dtype)
    except TypeError:  # such as bfloat16
        return Type.Null
    return _NUMBERS.get((known.kind, known.itemsize), Type.Null)


def _reader(body: Body, limits: MessageLimits, name: str) -> Reader:
    return Reader(body, name, max_strings=limits.max_strings)


def _read_info(table: Table) -> TensorInfo:
    number = table.byte(3)
    if number not in DTYPES and number != Type.Null:
        table.reader.fail(f"it has a tensor of the type {number}, and the types go from 0 to {Type.String}")
    return TensorInfo(table.text(0), DTYPES.get(number, ""), table.int64s(2, _MAX_RANK), table.text(1))


def _read_tensor(table: Table) -> Array:
    number = table.byte(0)
    shape = table.int64s(1, _MAX_RANK)
    if any(side < 0 for side in shape):
        raise InputError(f"A tensor has the shape {list(shape)}. The sides of a tensor that is sent are 0 or more.")
    if number == Type.String:
        return _read_strings(table, shape)
    dtype = _WIRE.get(number)
    if dtype is None:
        raise InputError(
            f"A tensor has the type {number}, and the types go from 1 to {Type.String}: {', '.join(DTYPES.values())}. "
            "Send one of those."
        )
    start, length = table.vector(2, 1)
    if table.vector(3, 4)[1]:
        raise InputError(f"A tensor of {dtype.name} has strings too. Send numbers in `data`, strings in `string_val`.")
    if _length(shape, dtype.itemsize) != length:
        raise InputError(
            f"A tensor of {dtype.name} of the shape {list(shape)} has {length:,} bytes, which is not its size. Send "
            "all its numbers, in row-major order."
        )
    if length == 0:
        return np.empty(shape, dtype)
    table.reader.spend(length)
    return np.frombuffer(table.reader.view, dtype, length // dtype.itemsize, start).reshape(shape)


def _read_strings(table: Table, shape: tuple[int, ...]) -> Array:
    if table.vector(2, 1)[1]:
        raise InputError("A tensor of strings has `data` too. Send strings in `string_val`, numbers in `data`.")
    count = table.vector(3, 4)[1]
    if _length(shape, 1) != count:
        raise InputError(f"A tensor of the shape {list(shape)} has {count:,} strings. Send one for each element.")
    array = np.empty(count, object)
    array[:] = table.strings(3, count)
    return array.reshape(shape)


def _length(shape: tuple[int, ...], item_size: int) -> int:
    """Bytes of an array; the sides must be such that NumPy can hold it even without its sides of 0."""
    if math.prod(side for side in shape if side) * item_size > _MAX_BYTES:
        raise InputError(f"A tensor has the shape {list(shape)}, larger than any memory. Send the array's own shape.")
    return math.prod(shape) * item_size


def _write_texts(writer: Writer, at: int, texts: Sequence[str]) -> None:
    for place, text in zip(writer.offsets(at, len(texts)), texts, strict=True):
        writer.string(place, _utf8(text))


def _write_tensors(writer: Writer, at: int, arrays: Sequence[Array]) -> None:
    for place, given in zip(writer.offsets(at, len(arrays)), arrays, strict=True):
        array = np.asarray(given)
        if array.ndim > _MAX_RANK:
            raise InputError(f"An array has {array.ndim} dimensions, and at most {_MAX_RANK} are allowed. Reshape it.")
        strings = array.dtype.kind in "OSU"
        number, shape, data, string_val = writer.table(place, [1, 4, 0 if strings else 4, 4 if strings else 0])
        writer.byte(number, Type.String if strings else _type_number(array.dtype))
        writer.int64s(shape, array.shape)
        if strings:
            for element_at, element in zip(writer.offsets(string_val, array.size), array.flat, strict=True):
                writer.string(element_at, _string(element))
        else:
            writer.array(data, array, _WIRE[_type_number(array.dtype)])


def _type_number(dtype: np.dtype[Any]) -> int:
    number = _NUMBERS.get((dtype.kind, dtype.itemsize))
    if number is None:
        hint = 'array.astype("uint8")' if dtype.kind == "b" else "one of those"
        raise InputError(
            f"An array has the type {dtype.name}, and GraphPipe has {', '.join(DTYPES.values())}. Send {hint}."
        )
    return number


def _string(element: object) -> bytes:
    if isinstance(element, str):
        return _utf8(element)
    if isinstance(element, bytes | bytearray | memoryview):
        return bytes(element)
    raise InputError(
        f"An array of objects has an element of the type {type(element).__name__}. Give strings as bytes or str, and "
        "numbers in an array of numbers."
    )


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"The text {text[:40]!r} cannot be sent as UTF-8: {error.reason}. Give bytes, or mend it."
        ) from None
