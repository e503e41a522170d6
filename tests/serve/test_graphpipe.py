"""The codec: golden messages, the original implementation, the generated code, and everything there and back."""

import json

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from graphpipe import convert
from hypothesis import given, settings
from hypothesis import strategies as st
from serve import graphpipe_messages as messages

from imagelake.errors import InputError, TooLargeError
from imagelake.serve import graphpipe
from imagelake.serve.flatbuffer_writer import Message
from imagelake.serve.tensor_info import TensorInfo
from places import SHARED

GOLDEN = SHARED / "graphpipe"
written_by_the_original = pytest.mark.filterwarnings("ignore:numElems is deprecated")  # it is of 2018

numbers = st.sampled_from(messages.NUMBERS).flatmap(
    lambda name: arrays.arrays(name, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)
words = arrays.arrays(object, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3), elements=st.binary())
tensors = st.lists(st.one_of(numbers, words), max_size=4)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == np.shape(other)
        assert one.dtype == np.asarray(other).dtype.newbyteorder("=")
        if one.dtype == object:
            assert one.ravel().tolist() == np.asarray(other).ravel().tolist()
        else:
            assert one.tobytes() == np.ascontiguousarray(other, one.dtype).tobytes()  # NaN and -0.0 too


def golden(name):
    if not GOLDEN.exists():
        pytest.skip("the golden messages are not here")
    return (GOLDEN / f"{name}.bin").read_bytes()


def test_every_golden_message_is_known():
    """There are 28 golden messages, and each is read by a test of this file."""
    if not GOLDEN.exists():
        pytest.skip("the golden messages are not here")
    told = {entry["file"] for entry in json.loads((GOLDEN / "MANIFEST.json").read_text())}
    kinds = [f"infer_{kind}_{name}.bin" for kind in ("request", "response") for name in messages.NUMBERS]
    others = [f"infer_request_{name}.bin" for name in ("string", "multi", "scalar", "empty")]
    assert told == {*kinds, *others, "metadata_request.bin", "metadata_response.bin"}
    assert len(told) == 28


@pytest.mark.parametrize("name", messages.NUMBERS)
def test_golden_numbers(name):
    """A message of the original client has the array that it was given, of each type."""
    expected = [np.arange(6, dtype=name).reshape(2, 3)]
    request = graphpipe.decode_request(golden(f"infer_request_{name}"))
    same(request.inputs, expected)
    assert (request.config, request.input_names, request.output_names) == (b"", (), ())
    response = graphpipe.decode_infer_response(golden(f"infer_response_{name}"))
    same(response.outputs, expected)
    assert response.errors == ()


def test_golden_metadata():
    """Metadata of the original implementation says what it was given."""
    assert graphpipe.decode_request(golden("metadata_request")) == graphpipe.MetadataRequest()
    said = graphpipe.decode_metadata_response(golden("metadata_response"))
    assert said == graphpipe.Metadata(
        "mymodel", "1.2", "python server", "",
        (TensorInfo("input0", "float32", (-1, 3, 3), "the input"),),
        (TensorInfo("output0", "float32", (-1, 3, 3), "the output"),),
    )  # fmt: skip


def test_golden_shapes():
    """Strings keep their NULs, a scalar has no side, an empty array has its shape, and names and config come along."""
    request = graphpipe.decode_request(golden("infer_request_string"))
    same(request.inputs, [messages.strings(b"foo", b"b\0r", b"")])
    assert (request.config, request.input_names, request.output_names) == (b'{"k":1}', ("in0",), ("out0",))
    request = graphpipe.decode_request(golden("infer_request_multi"))
    same(request.inputs, [np.zeros((1, 2), "float32"), np.ones(3, "int64")])
    assert (request.config, request.input_names, request.output_names) == (b"cfg", ("a", "b"), ("y", "z"))
    same(graphpipe.decode_request(golden("infer_request_scalar")).inputs, [np.float32(3.5)])
    same(graphpipe.decode_request(golden("infer_request_empty")).inputs, [np.zeros((0, 3), "float32")])


@settings(max_examples=150, deadline=None)
@given(tensors, st.data())
def test_a_request_comes_back(inputs, data):
    """What is written is read again, by us and by the generated code."""
    input_names = data.draw(st.one_of(st.just([]), st.lists(names, min_size=len(inputs), max_size=len(inputs))))
    output_names, config = data.draw(st.lists(names, max_size=3)), data.draw(st.binary())
    message = graphpipe.encode_request(inputs, input_names, output_names, config)
    written = message.join()
    assert b"".join(message.parts()) == written
    assert len(written) == message.size
    request = graphpipe.decode_request(written)
    same(request.inputs, inputs)
    assert request.input_names == tuple(input_names)
    assert (request.output_names, request.config) == (tuple(output_names), config)
    found = messages.read_request(bytes(written))
    same(found[0], inputs)
    assert found[1:] == (input_names, output_names, config)


@settings(max_examples=150, deadline=None)
@given(tensors)
def test_a_response_comes_back(outputs):
    """The same for what a server answers."""
    written = bytes(graphpipe.encode_infer_response(outputs).join())
    same(graphpipe.decode_infer_response(written).outputs, outputs)
    same(messages.read_response(written), outputs)


infos = st.builds(
    TensorInfo,
    names,
    st.sampled_from(list(graphpipe.DTYPES.values())),
    st.lists(st.integers(-1, 2**63 - 1), max_size=4).map(tuple),
    names,
)


@settings(max_examples=100, deadline=None)
@given(st.builds(graphpipe.Metadata, names, names, names, names, *[st.lists(infos, max_size=4).map(tuple)] * 2))
def test_metadata_comes_back(metadata):
    """The same for what a server says of a model."""
    written = bytes(graphpipe.encode_metadata_response(metadata).join())
    assert graphpipe.decode_metadata_response(written) == metadata
    assert messages.read_metadata(written) == metadata


@pytest.mark.parametrize("shape", [(0, 3), (), (2, 3), (1, 300, 200)])
@pytest.mark.parametrize("name", messages.NUMBERS)
def test_the_original_reads_ours(name, shape):
    """The original implementation reads what we write, small and large."""
    array = np.random.default_rng(1).integers(0, 100, shape).astype(name)
    request = convert.deserialize_request(bytearray(graphpipe.encode_request([array], ["x"], ["y"], "c").join()))
    same(request.input_tensors, [array])
    assert (request.input_names, request.output_names, request.config) == ([b"x"], [b"y"], b"c")
    outputs, errors = convert.deserialize_infer_response(graphpipe.encode_infer_response([array, array]).join())
    same(outputs, [array, array])
    assert errors == []


def test_the_original_reads_our_strings_and_metadata():
    """The original implementation reads our strings, and what we say of a model."""
    written = graphpipe.encode_request([messages.strings(b"foo", b"b\0r", b"")]).join()
    assert convert.deserialize_request(bytearray(written)).input_tensors[0].tolist() == [b"foo", b"b\0r", b""]
    assert convert.deserialize_request(bytearray(graphpipe.encode_metadata_request().join())) is None
    said = convert.deserialize_metadata_response(bytes(graphpipe.encode_metadata_response(messages.METADATA).join()))
    assert (said.Name(), said.Version(), said.InputsLength(), said.OutputsLength()) == (b"mean", b"3", 2, 1)
    assert said.Inputs(0).ShapeAsNumpy().tolist() == [-1, 3, 224]


@written_by_the_original
def test_ours_reads_the_original():
    """What the original client writes today, on the FlatBuffers of today, is read."""
    inputs = [np.arange(6.0).reshape(2, 3), messages.strings(b"a", b"b\0")]
    written = convert.serialize_infer_request(convert.InferReq("c", inputs, ["x", "y"], ["z"]))
    request = graphpipe.decode_request(written)
    same(request.inputs, inputs)
    assert (request.input_names, request.output_names, request.config) == (("x", "y"), ("z",), b"c")


def test_arrays_are_views():
    """Numbers are read without a copy, and cannot be written."""
    written = graphpipe.encode_request([np.zeros(100, "float32"), np.zeros((3, 50_000))]).join()
    for array in graphpipe.decode_request(written).inputs:
        assert np.shares_memory(array, np.frombuffer(written, np.uint8))
        assert not array.flags.writeable
        assert array.flags.c_contiguous
        assert array.flags.aligned  # we write so that they are, though nobody may rely on it


@pytest.mark.parametrize("shift", range(1, 8))
def test_any_alignment_is_read(shift):
    """It does not matter where in memory a message lies, nor where in it an array."""
    body = memoryview(bytes(shift) + messages.unaligned_request())[shift:]
    request = graphpipe.decode_request(body)
    same(request.inputs, [np.arange(3.0), messages.strings(b"abcd")])
    assert (request.input_names, request.output_names, request.config) == ((), (), b"")


def test_large_arrays_are_sent_where_they_are():
    """The parts of a message hold a large array itself, and the joined message a copy of it."""
    array = np.arange(50_000, dtype="float32")
    message = graphpipe.encode_request([array])
    assert any(np.shares_memory(np.frombuffer(part, np.uint8), array) for part in message.parts())
    assert not np.shares_memory(np.frombuffer(message.join(), np.uint8), array)


@pytest.mark.parametrize("size", [10, 60_000])
@pytest.mark.parametrize("form", [">f4", "transposed", "strided", "fortran"])
def test_any_layout_is_written(form, size):
    """Big-endian, transposed and strided arrays are written as their values."""
    array = np.arange(2 * size, dtype=">f4" if form == ">f4" else "<f4").reshape(2, size)
    array = {"transposed": array.T, "strided": array[:, ::2], "fortran": np.asfortranarray(array)}.get(form, array)
    message = graphpipe.encode_request([array])
    same(graphpipe.decode_request(message.join()).inputs, [array])
    same(graphpipe.decode_request(b"".join(message.parts())).inputs, [array])


def test_a_buffer_is_used_again():
    """A message is written into a buffer that is given, and refused one that is too short."""
    buffer = np.empty(300_000, np.uint8)
    message = graphpipe.encode_request([np.arange(60_000, dtype="float32")])
    written = message.join(buffer)
    assert np.shares_memory(np.frombuffer(written, np.uint8), buffer)
    assert written == message.join()
    with pytest.raises(InputError, match="Give a longer one"):
        message.join(buffer[:1000])


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(2, bool), "uint8"),
        (np.zeros(2, complex), "complex128"),
        (np.zeros(2, np.longdouble), "one of those"),
        (np.zeros(2, "datetime64[s]"), "datetime64"),
        (np.array([1, None], object), "an element of the type int"),
        (np.array(["\ud800"]), "UTF-8"),
        (np.zeros((1,) * 33), "33 dimensions"),
    ],
)
def test_what_has_no_type_is_refused(array, said):
    """An array that the protocol has no type for is refused with what to do."""
    with pytest.raises(InputError, match=said):
        graphpipe.encode_request([array])


def test_strings_of_any_kind_are_written():
    """Text, bytes and NumPy's own strings are written as bytes."""
    for array in (np.array(["é", "b"]), np.array(["é".encode(), b"b"]), messages.strings("é", bytearray(b"b"))):
        found = graphpipe.decode_request(graphpipe.encode_request([array]).join()).inputs[0]
        assert found.tolist() == ["é".encode(), b"b"]


@written_by_the_original
def test_names_match_tensors():
    """Names are as many as tensors, both when written and when read."""
    with pytest.raises(InputError, match="one for each"):
        graphpipe.encode_request([np.zeros(1)], ["a", "b"])
    written = convert.serialize_infer_request(convert.InferReq("", [np.zeros(1)], ["a", "b"], []))
    with pytest.raises(InputError, match="one name for each"):
        graphpipe.decode_request(written)


def test_a_message_of_two_gigabytes_is_refused():
    """What no reader could address is not written, and is refused before it is copied."""
    zeros = np.broadcast_to(np.zeros(1, "float64"), (1 << 14, 1 << 14))
    with pytest.raises(InputError, match="in parts"):
        graphpipe.encode_request([zeros, zeros])
    assert isinstance(graphpipe.encode_request([zeros[:1000]]), Message)


def test_limits_are_kept():
    """More tensors, names or strings than allowed are refused as too large."""
    many = [np.zeros(1, "uint8")] * 65
    with pytest.raises(TooLargeError):
        graphpipe.decode_request(graphpipe.encode_request(many).join())
    with pytest.raises(TooLargeError):
        graphpipe.decode_request(graphpipe.encode_request([], [], ["y"] * 65).join())
    words = graphpipe.encode_request([messages.strings(*[b""] * 11)]).join()
    with pytest.raises(TooLargeError):
        graphpipe.decode_request(words, graphpipe.MessageLimits(max_strings=10))
    assert graphpipe.decode_request(words).inputs[0].size == 11


def test_errors_of_a_server_are_read():
    """An answer with an error says its code and its message."""
    response = graphpipe.decode_infer_response(messages.failed_response(-7, b"no such output \xff"))
    assert response.outputs == ()
    assert response.errors == (graphpipe.RemoteError(-7, "no such output �"),)
