"""Read a state dict from torch's legacy file format, without torch and without running anything in the file.

The format (torch/serialization.py, `_legacy_save`): five pickles one after the other (magic number, protocol version,
description of the writing system, the state dict, the list of storage keys), then for each key a little-endian int64
count and the raw elements. The state dict refers to its storages by persistent ids
`("storage", type, key, location, count)`. A pickle is a program; here it may name four things and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001

_PICKLE_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def read_checkpoint(path: Path, sha256: str) -> dict[str, NDArray[np.generic]]:
    """Read every tensor of a legacy torch checkpoint whose hash is known.

    Args:
        path: the file.
        sha256: the hash that the file must have, 64 hex digits; nothing is parsed before it agrees.

    Returns:
        Name to array, float32 or int64, C-contiguous, each owning its memory, in the order of the file.

    Raises:
        ModelError: the file is not there, has another hash, is no such checkpoint, is cut short, asks for anything
            but tensors, or describes a tensor that reaches outside its storage.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the weights {path} ({error}); install the package that ships them") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ModelError(
            f"the weights {path} have SHA-256 {found}, expected {sha256}; reinstall the package that ships them"
        )
    try:
        return _parse(io.BytesIO(content))
    except _PICKLE_ERRORS as error:
        raise ModelError(
            f"{path} is not a whole legacy torch checkpoint ({type(error).__name__}: {error}); fetch it again"
        ) from error


# A pickle may set the state of any object that it can reach (the instruction BUILD). Named tuples have no state that
# could be set; a frozen dataclass has, through the `__setstate__` that Python adds to it.
class _StorageType(NamedTuple):
    """Stands in for `torch.FloatStorage` and its like; nobody can call it."""

    type_code: str


class _Storage(NamedTuple):
    """A promise of `length` elements, kept when the raw data at the end of the file are read."""

    kind: _StorageType
    key: str
    length: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _RebuildTensor:
    """Stands in for `torch._utils._rebuild_tensor_v2`; an object without a dict, so a pickle cannot alter it."""

    __slots__ = ()

    def __call__(
        self, storage: object, offset: object, shape: object, strides: object, _gradient: object, _hooks: object
    ) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise ModelError(f"a tensor stands on {type(storage).__name__}, not on a storage; the file is refused")
        shape, strides = _counts(shape), _counts(strides)
        (offset,) = _counts((offset,))
        if len(shape) != len(strides):
            raise ModelError(f"a tensor has shape {shape} and strides {strides}; the file is refused")
        return _Tensor(storage, offset, shape, strides)


_ALLOWED: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch", "FloatStorage"): _StorageType("<f4"),
    ("torch", "LongStorage"): _StorageType("<i8"),
}


class _PlainUnpickler(pickle.Unpickler):
    """Numbers, strings, lists, tuples and dicts; no names at all."""

    def find_class(self, module: str, name: str) -> object:
        raise ModelError(f"the file asks for {module}.{name} where only plain values belong; it is refused")


class _StateUnpickler(pickle.Unpickler):
    """Plain values, and the four names that a state dict needs."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> object:
        allowed = _ALLOWED.get((module, name))
        if allowed is None:
            names = ", ".join(f"{m}.{n}" for m, n in _ALLOWED)
            raise ModelError(f"the file asks for {module}.{name}; allowed are {names}: it is refused, do not trust it")
        return allowed

    def persistent_load(self, pid: object) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) in {5, 6} and pid[0] == "storage"):
            raise ModelError(f"the file refers to {pid!r}, which is not a storage; it is refused")
        kind, key, count = pid[1], pid[2], pid[4]
        if not isinstance(kind, _StorageType) or not isinstance(key, str):
            raise ModelError(f"the file describes its storage as {pid!r}; it is refused")
        if len(pid) == 6 and pid[5] is not None:
            raise ModelError(f"storage {key!r} is a view of another, which is not supported; save the model again")
        (count,) = _counts((count,))
        storage = _Storage(kind, key, count)
        if self.storages.setdefault(key, storage) != storage:
            raise ModelError(f"storage {key!r} is described in two ways; the file is refused")
        return storage


def _parse(file: io.BytesIO) -> dict[str, NDArray[np.generic]]:
    magic, version, _system = (_PlainUnpickler(file).load() for _ in range(3))
    if magic != MAGIC_NUMBER or version != PROTOCOL_VERSION:
        raise ModelError(
            f"magic number {magic!r} and version {version!r} are not those of a legacy torch checkpoint "
            f"({MAGIC_NUMBER} and {PROTOCOL_VERSION}); save the state dict with "
            "torch.save(..., _use_new_zipfile_serialization=False)"
        )
    unpickler = _StateUnpickler(file)
    state = unpickler.load()
    if not isinstance(state, dict):
        raise ModelError(f"the file holds a {type(state).__name__}; only a state dict of tensors can be read")
    keys = _PlainUnpickler(file).load()
    storages = _read_storages(file, keys, unpickler.storages)
    # `dict.items` itself: a pickle may have set an attribute `items` on its OrderedDict.
    tensors = {}
    for name, tensor in dict.items(state):
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise ModelError(f"entry {name!r} is a {type(tensor).__name__}; only named tensors can be read")
        tensors[name] = _view(name, tensor, storages[tensor.storage.key])
    return tensors


def _read_storages(file: io.BytesIO, keys: object, promised: dict[str, _Storage]) -> dict[str, NDArray[np.generic]]:
    """Read the raw elements that follow the pickles, in the order of `keys`."""
    if not isinstance(keys, list) or len(keys) != len(promised) or set(keys) != promised.keys():
        raise ModelError("the list of storages is not that of the tensors; the file is refused")
    storages: dict[str, NDArray[np.generic]] = {}
    for key in keys:
        storage = promised[key]
        dtype = np.dtype(storage.kind.type_code)
        count = int.from_bytes(file.read(8), "little", signed=True)
        if count != storage.length:
            raise ModelError(f"storage {key!r} holds {count} elements, promised were {storage.length}; it is refused")
        raw = file.read(count * dtype.itemsize)
        if len(raw) != count * dtype.itemsize:
            raise ModelError(f"the file ends inside storage {key!r}; fetch it again")
        storages[key] = np.frombuffer(raw, dtype)
    return storages


def _view(name: str, tensor: _Tensor, storage: NDArray[np.generic]) -> NDArray[np.generic]:
    """Copy a tensor out of its storage once its shape and strides are known to stay inside."""
    size = math.prod(tensor.shape)
    if size == 0:
        return np.empty(tensor.shape, storage.dtype)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    if size > storage.size or last >= storage.size:
        raise ModelError(
            f"tensor {name!r} of shape {tensor.shape}, strides {tensor.strides}, offset {tensor.offset} reaches "
            f"outside its storage of {storage.size} elements; the file is refused"
        )
    strides = tuple(s * storage.itemsize for s in tensor.strides)
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.array(view, order="C")


def _counts(values: object) -> tuple[int, ...]:
    """Whole numbers of 0 or more, or a refusal."""
    if not isinstance(values, tuple) or any(type(v) is not int or v < 0 for v in values):
        raise ModelError(f"{values!r} should be whole numbers of 0 or more; the file is refused")
    return values
