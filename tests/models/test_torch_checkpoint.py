from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagelake.errors import ModelError
from imagelake.models import zoo
from imagelake.models.torch_checkpoint import MAGIC_NUMBER, PROTOCOL_VERSION, read_checkpoint


class FakeStorage:
    def __init__(self, key, kind, count, view=None):
        self.pid = ("storage", kind, key, "cpu", count, view)


class Tensor:
    """Pickles as torch pickles a tensor."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


@pytest.fixture
def torch_names(monkeypatch):
    """Modules with torch's names, so that a test can write what torch writes."""
    torch, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    torch.LongStorage = type("LongStorage", (), {"__module__": "torch"})
    torch.HalfStorage = type("HalfStorage", (), {"__module__": "torch"})

    def rebuild(*_arguments):
        raise AssertionError

    rebuild.__name__ = rebuild.__qualname__ = "_rebuild_tensor_v2"
    rebuild.__module__ = "torch._utils"
    inner._rebuild_tensor_v2 = rebuild
    torch._utils = inner
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", inner)
    return torch


class Writer(pickle._Pickler):
    """Python's own pickler: it asks for persistent ids."""

    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, FakeStorage) else None


def checkpoint(state, storages=(), magic=MAGIC_NUMBER, keys=None):
    """The bytes of a legacy checkpoint."""
    file = io.BytesIO()
    for plain in (magic, PROTOCOL_VERSION, {"little_endian": True}):
        pickle.dump(plain, file, protocol=2)
    Writer(file, protocol=2).dump(state)
    pickle.dump([k for k, _ in storages] if keys is None else keys, file, protocol=2)
    for _, values in storages:
        file.write(len(values).to_bytes(8, "little") + values.tobytes())
    return file.getvalue()


def read(tmp_path, content):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    return read_checkpoint(path, hashlib.sha256(content).hexdigest())


def test_an_empty_state_dict_has_no_tensors(tmp_path):
    """Nothing in, nothing out."""
    assert read(tmp_path, checkpoint(OrderedDict())) == {}


def test_tensors_come_back_with_shape_stride_and_offset(tmp_path, torch_names):
    """Views of one storage are copied out of it as torch would show them."""
    values = np.arange(12, dtype="<f4")
    storage = FakeStorage("1", torch_names.FloatStorage, 12)
    state = OrderedDict(
        whole=Tensor(storage, 0, (3, 4), (4, 1)),
        turned=Tensor(storage, 0, (4, 3), (1, 4)),
        part=Tensor(storage, 5, (2, 2), (4, 1)),
        none=Tensor(storage, 0, (0, 4), (4, 1)),
        count=Tensor(FakeStorage("2", torch_names.LongStorage, 1), 0, (), ()),
    )
    found = read(tmp_path, checkpoint(state, [("1", values), ("2", np.array([7], "<i8"))]))
    grid = values.reshape(3, 4)
    np.testing.assert_array_equal(found["whole"], grid)
    np.testing.assert_array_equal(found["turned"], grid.T)
    np.testing.assert_array_equal(found["part"], grid[1:3, 1:3])
    assert found["none"].shape == (0, 4)
    assert found["count"] == 7
    assert found["count"].dtype == np.int64
    assert all(a.flags.owndata and a.flags.c_contiguous for a in found.values())


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def evil_states():
    mark = "import pathlib; pathlib.Path('executed').touch()"
    system = Evil(os.system, "touch executed")
    return {
        "os.system": system,
        "eval": Evil(eval, f"exec({mark!r})"),
        "exec": Evil(exec, mark),
        "getattr": Evil(getattr, Evil(__import__, "builtins"), "eval"),
        "import": Evil(__import__, "os"),
        "nested in a dict": OrderedDict(weight=[1, {"a": (system,)}]),
        "argument of an allowed name": Evil(OrderedDict, [("a", system)]),
        "dotted name": b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.",
        "numpy": Evil(np.load, "x.npy", None, True),
    }


@pytest.mark.parametrize("name", evil_states())
def test_a_pickle_that_calls_anything_is_refused_unexecuted(tmp_path, monkeypatch, name):
    """No name outside the list is even looked up, wherever in the file it stands."""
    monkeypatch.chdir(tmp_path)
    state = evil_states()[name]
    content = checkpoint(OrderedDict())
    empty = pickle.dumps(OrderedDict(), protocol=2)
    replacement = state if isinstance(state, bytes) else pickle.dumps(state, protocol=2)
    with pytest.raises(ModelError, match="allowed are"):
        read(tmp_path, content.replace(empty, replacement))
    for position in range(4):
        plain = [pickle.dumps(v, protocol=2) for v in (MAGIC_NUMBER, PROTOCOL_VERSION, {}, [])]
        parts = [*plain[:3], empty, plain[3]]
        parts[position if position < 3 else 4] = replacement
        with pytest.raises(ModelError, match="only plain values"):
            read(tmp_path, b"".join(parts))
    assert not (tmp_path / "executed").exists()


STATES = {
    "dict": b"}X\x09\x00\x00\x00type_codeX\x03\x00\x00\x00<u1sb.",
    "list": b"]X\x03\x00\x00\x00<u1ab.",
    "slots": b"N}X\x09\x00\x00\x00type_codeX\x03\x00\x00\x00<u1s\x86b.",
    "defaults": b"N}X\x0c\x00\x00\x00__defaults__)s\x86b.",
}


@pytest.mark.parametrize("state", STATES)
def test_no_pickle_can_alter_what_it_reaches(tmp_path, torch_names, state):
    """A BUILD instruction on a type, a function, a storage or a tensor is refused and outlives no file."""
    storage = b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x001X\x03\x00\x00\x00cpuK\x01"
    storage = b"(" + storage + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00K\x01\x85K\x01\x85\x89NtR"
    names = (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n")
    empty = pickle.dumps(OrderedDict(), protocol=2)
    head = checkpoint(OrderedDict()).split(empty)[0]
    tail = pickle.dumps(["1"]) + (1).to_bytes(8, "little") + np.ones(1, "<f4").tobytes()
    whole = b"\x80\x02}X\x01\x00\x00\x00a" + tensor + b"s."
    assert list(read(tmp_path, head + whole + tail)) == ["a"]
    for reached in (*names, storage, tensor):
        with pytest.raises(ModelError, match="not a whole"):
            read(tmp_path, head + b"\x80\x02" + reached + STATES[state] + tail)
    assert read(tmp_path, head + whole + tail)["a"].dtype == np.float32


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (13,), (1,)),
        (1, (12,), (1,)),
        (0, (3, 4), (5, 1)),
        (0, (2, 2), (1, 99)),
        (99, (1,), (1,)),
        (0, (1000, 1000), (0, 0)),
        (0, (2**62, 2**62), (1, 1)),
        (-1, (1,), (1,)),
        (0, (-1,), (1,)),
        (0, (4,), (-1,)),
        (0, (4,), (1, 1)),
        (0, (True,), (1,)),
        (0, [4], (1,)),
        (0.0, (4,), (1,)),
    ],
)
def test_a_tensor_that_reaches_outside_its_storage_is_refused(tmp_path, torch_names, offset, shape, strides):
    """A lying file raises and never reads memory that is not its own."""
    storage = FakeStorage("1", torch_names.FloatStorage, 12)
    state = OrderedDict(a=Tensor(storage, offset, shape, strides))
    with pytest.raises(ModelError):
        read(tmp_path, checkpoint(state, [("1", np.zeros(12, "<f4"))]))


def test_storages_that_lie_are_refused(tmp_path, torch_names):
    """Counts, keys, kinds and views must be what the tensors promised."""
    float_kind = torch_names.FloatStorage

    def state(*arguments):
        return OrderedDict(a=Tensor(FakeStorage(*arguments), 0, (1,), (1,)))

    ones = [("1", np.ones(4, "<f4"))]
    cases = [
        checkpoint(state("1", float_kind, 5), ones),
        checkpoint(state("1", float_kind, 4), ones, keys=["2"]),
        checkpoint(state("1", float_kind, 4), ones, keys=[]),
        checkpoint(state("1", float_kind, 4), ones, keys=["1", "1"]),
        checkpoint(state("1", float_kind, 4), ones, keys="1"),
        checkpoint(state("1", float_kind, 4), ones, keys=[["1"]]),
        checkpoint(state("1", float_kind, 4, ("2", 0, 4)), ones),
        checkpoint(state("1", torch_names.HalfStorage, 4), ones),
        checkpoint(state(1, float_kind, 4), ones),
        checkpoint(OrderedDict(a=1)),
        checkpoint([1]),
        checkpoint(OrderedDict(), magic=1),
    ]
    for content in cases:
        with pytest.raises(ModelError):
            read(tmp_path, content)


def test_a_file_cut_short_anywhere_is_refused(tmp_path, torch_names):
    """Every proper prefix of a checkpoint is a ModelError."""
    storage = FakeStorage("1", torch_names.FloatStorage, 4)
    content = checkpoint(OrderedDict(a=Tensor(storage, 0, (4,), (1,))), [("1", np.ones(4, "<f4"))])
    assert read(tmp_path, content)
    for length in range(len(content)):
        with pytest.raises(ModelError):
            read(tmp_path, content[:length])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_after_a_right_head_are_refused_or_read(tmp_path_factory, tail):
    """Nothing but ModelError leaves the reader."""
    head = b"".join(pickle.dumps(v, protocol=2) for v in (MAGIC_NUMBER, PROTOCOL_VERSION, {}))
    with contextlib.suppress(ModelError):
        read(tmp_path_factory.mktemp("bytes"), head + tail)


def test_a_wrong_hash_is_refused_before_anything_is_parsed(tmp_path):
    """The message has both hashes."""
    path = tmp_path / "model.pth"
    path.write_bytes(b"anything")
    with pytest.raises(ModelError, match=hashlib.sha256(b"anything").hexdigest()):
        read_checkpoint(path, "0" * 64)
    with pytest.raises(ModelError, match="cannot read"):
        read_checkpoint(tmp_path / "absent.pth", "0" * 64)


def test_the_real_checkpoint_is_read_whole():
    """The weights of the default model: 4.65 million parameters, all finite."""
    model = zoo.models()[0]
    tensors = read_checkpoint(zoo.find_weights(model), model.weights_sha256)
    learned = [n for n in tensors if n.endswith((".weight", ".bias"))]
    assert sum(tensors[n].size for n in learned) == 4_652_008
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
