"""The datatypes of the Open Inference Protocol v2 as NumPy arrays, and its raw bytes. HTTP and gRPC share this.

Raw tensors are little-endian and row-major; a BOOL is one byte, 0 or 1; an element of BYTES is its length as four
bytes, then itself. Every size is checked before anything is made from it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError, TooLargeError

Raw = bytes | bytearray | memoryview

MAX_RANK = 32  # sides of a tensor
MAX_ELEMENTS = 1 << 31  # of a tensor; no body holds more
MAX_STRINGS = 1 << 16  # of a tensor: each is an object, and takes far more time and memory than its bytes

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
"""Every datatype that is spoken here."""

_NAMES = {dtype.newbyteorder("="): name for name, dtype in DTYPES.items()}
_LENGTH = struct.Struct("<I")


def datatype_of(dtype: str | np.dtype[Any]) -> str:
    """The protocol's name of a NumPy type: `"FP32"` of `"float32"`, `"BYTES"` of strings and bytes.

    Raises:
        InputError: the protocol has no such type.
    """
    found = np.dtype(dtype)
    if found.kind in "SU":
        return "BYTES"
    name = _NAMES.get(found.newbyteorder("="))
    if name is None:
        raise InputError(f"The Open Inference Protocol has no datatype for {found}. It has {', '.join(DTYPES)}.")
    return name


def dtype_of(datatype: object, name: str = "") -> np.dtype[Any]:
    """The NumPy type of one of the protocol's, little-endian; object for BYTES.

    Args:
        datatype: such as `"FP32"`, as a request gave it.
        name: of the tensor, for the message.

    Raises:
        InputError: it is not one that is spoken here.
    """
    if isinstance(datatype, str) and datatype in DTYPES:
        return DTYPES[datatype]
    if datatype == "BF16":
        raise InputError(f"The tensor {named(name)} is BF16, which no model here takes. Send it as FP32 or FP16.")
    given = shown(datatype) if isinstance(datatype, str) else f"of type {type(datatype).__name__}"
    raise InputError(f"The datatype of the tensor {named(name)} is {given}. Allowed are {', '.join(DTYPES)}.")


def checked_shape(shape: Sequence[object], name: str = "") -> tuple[int, ...]:
    """The sides of a tensor as a request gave them, checked so that their product never overflows.

    Args:
        shape: integers of 0 or more, at most 32 of them; () is a scalar.
        name: of the tensor, for the message.

    Raises:
        InputError: too many sides, one that is no integer or negative, or more than 2**31 elements.
    """
    if len(shape) > MAX_RANK:
        raise InputError(f"The shape of the tensor {named(name)} has {len(shape)} sides; at most {MAX_RANK} can be.")
    sides: list[int] = []
    for side in shape:
        if not isinstance(side, int) or isinstance(side, bool) or side < 0:
            raise InputError(
                f"The shape of the tensor {named(name)} has the side {shown(side)}; sides are integers of 0 or more."
            )
        sides.append(side)
    if math.prod(min(side, MAX_ELEMENTS + 1) for side in sides if side) > MAX_ELEMENTS:
        raise InputError(f"The shape of the tensor {named(name)} has more than {MAX_ELEMENTS:,} elements.")
    return tuple(sides)


def from_raw(data: Raw, datatype: str, shape: Sequence[object], name: str = "") -> NDArray[Any]:
    """The tensor that raw bytes hold: a view of them for numbers, an object array of `bytes` for BYTES.

    The view has whatever alignment the bytes have, and may be read-only.

    Raises:
        InputError: datatype or shape are not allowed, or the bytes are not exactly as many as they say.
        TooLargeError: there are too many strings.
    """
    dtype, sides = dtype_of(datatype, name), checked_shape(shape, name)
    if datatype == "BYTES":
        return _from_raw_strings(memoryview(data).cast("B"), sides, name)
    needed = math.prod(sides) * dtype.itemsize
    size = memoryview(data).nbytes
    if size != needed:
        raise InputError(
            f"The tensor {named(name)} has {size:,} bytes; {datatype} of shape {list(sides)} has {needed:,}. "
            "Send exactly those."
        )
    if datatype == "BOOL" and size and np.frombuffer(data, np.uint8).max() > 1:
        raise InputError(f"The tensor {named(name)} of BOOL has bytes other than 0 and 1.")
    return np.frombuffer(data, dtype).reshape(sides)


def _from_raw_strings(data: memoryview, sides: tuple[int, ...], name: str) -> NDArray[Any]:
    count, size = math.prod(sides), len(data)
    if count * _LENGTH.size > size:
        raise InputError(
            f"The tensor {named(name)} of BYTES and shape {list(sides)} has {size:,} bytes; each of its {count:,} "
            "elements needs 4 for its length alone."
        )
    array = np.empty(checked_strings(count, name), dtype=object)
    at = 0
    for index in range(count):
        if at + _LENGTH.size > size:
            raise _short(name, index, size)
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > size:
            raise _short(name, index, size)
        array[index] = bytes(data[at : at + length])
        at += length
    if at != size:
        raise InputError(f"The tensor {named(name)} has {size - at:,} bytes after its {count:,} elements. Leave them.")
    return array.reshape(sides)


def checked_strings(count: int, name: str = "") -> int:
    """How many strings a tensor has.

    Raises:
        TooLargeError: that is too many.
    """
    if count > MAX_STRINGS:
        raise TooLargeError(
            f"The tensor {named(name)} of BYTES has {count:,} elements; at most {MAX_STRINGS:,} are taken at once."
        )
    return count


def _short(name: str, index: int, size: int) -> InputError:
    return InputError(
        f"Element {index} of the tensor {named(name)} of BYTES ends beyond its {size:,} bytes. Before each element "
        "stands its length as four bytes, little-endian."
    )


def to_raw(array: NDArray[Any]) -> bytes | memoryview:
    """A tensor as raw bytes: numbers without a copy where they lie right, strings with their lengths.

    Args:
        array: of a type that the protocol has; the elements of strings are `bytes` or `str`.

    Raises:
        InputError: the protocol has no such type, or an element is no string.
    """
    if datatype_of(array.dtype) == "BYTES":
        return _to_raw_strings(array)
    if not array.size:
        return b""
    flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return flat.reshape(-1).view(np.uint8).data


def _to_raw_strings(array: NDArray[Any]) -> bytes:
    parts: list[bytes] = []
    for element in array.ravel().tolist():
        value = as_bytes(element)
        parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)


def as_bytes(element: object, name: str = "") -> bytes:
    """One element of a BYTES tensor: bytes as they are, text as UTF-8.

    Raises:
        InputError: it is neither, or no text that UTF-8 has.
    """
    if isinstance(element, bytes):
        return element
    if not isinstance(element, str):
        raise InputError(f"The tensor {named(name)} of BYTES has an element of type {type(element).__name__}.")
    try:
        return element.encode()
    except UnicodeEncodeError:
        raise InputError(f"The tensor {named(name)} of BYTES has text that is no Unicode. Send it as binary.") from None


def from_values(values: Sequence[Any], datatype: str, shape: Sequence[object], name: str = "") -> NDArray[Any]:
    """The tensor of a flat, row-major list of Python values, as JSON and the typed contents of gRPC have them.

    Args:
        values: `bool` (or 0 and 1) for BOOL, `int` for integers, `int` or `float` for FP16 to FP64 (not-finite ones
            too), `bytes` or `str` for BYTES.
        datatype: as in `DTYPES`.
        shape: as `checked_shape` takes it.
        name: of the tensor, for the message.

    Raises:
        InputError: datatype or shape are not allowed, or a value is missing, too many, of another type or out of range.
        TooLargeError: there are too many strings.
    """
    dtype, sides = dtype_of(datatype, name), checked_shape(shape, name)
    if len(values) != math.prod(sides):
        raise InputError(
            f"The tensor {named(name)} has {len(values):,} values; the shape {list(sides)} has {math.prod(sides):,}."
        )
    if dtype.kind == "O":
        strings = np.empty(checked_strings(len(values), name), dtype=object)
        strings[:] = [as_bytes(value, name) for value in values]
        return strings.reshape(sides)
    others = set(map(type, values)) - _ALLOWED[dtype.kind]
    if others:
        given = ", ".join(sorted("null" if kind is type(None) else kind.__name__ for kind in others))
        raise InputError(f"The tensor {named(name)} of {datatype} has values of another type: {given}.")
    if dtype.kind == "b" and not set(values) <= {0, 1}:
        raise InputError(f"The tensor {named(name)} of BOOL has numbers other than 0 and 1.")
    try:
        with np.errstate(over="raise"):
            return np.array(values, dtype).reshape(sides)
    except (OverflowError, FloatingPointError):
        raise InputError(f"The tensor {named(name)} has values beyond the range of {datatype}.") from None


_ALLOWED: Mapping[str, set[type]] = {"b": {bool, int}, "u": {int}, "i": {int}, "f": {int, float}}


def named(name: str) -> str:
    """A name as a message shows it: quoted, and cut where it is long."""
    return shown(name) if name else "given"


def shown(value: object) -> str:
    """What a request gave, as a message shows it; never long."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "beyond 64 bits"
    text = repr(value) if isinstance(value, (str, int, float, bool, bytes, type(None))) else type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."
