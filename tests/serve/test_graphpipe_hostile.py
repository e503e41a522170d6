"""Messages that lie: truncated, mutated, overlapping, endless."""

import os
import struct
import tracemalloc

import flatbuffers
import numpy as np
import pytest
from serve import graphpipe_messages as messages
from serve.graphpipe_fuzz import READERS, check, fuzz

from imagelake.errors import ImagelakeError, InputError, TooLargeError
from imagelake.serve import graphpipe
from imagelake.serve.graphpipe_schema import InferRequest, Tensor


def test_mutated_messages():
    """Whatever is wrong with a message, its reader gives arrays inside of it or our error, and takes little memory."""
    assert fuzz(2000) > 100  # some were still messages: the mutations reach deep


def test_every_truncation():
    """A message that is cut off anywhere is refused or is still whole."""
    for message in messages.seeds():
        if len(message) < 1000:
            for length in range(len(message)):
                for reader in READERS:
                    check(reader, message[:length])


def test_nothing_is_no_message():
    """Empty and tiny bodies are refused."""
    for length in range(8):
        for reader in READERS:
            with pytest.raises(InputError, match="too few"):
                reader(bytes(length))


def test_noise_is_no_message():
    """Random bytes are refused, or read as something that lies inside of them."""
    for length in (8, 50, 5000):
        for _ in range(200):
            for reader in READERS:
                check(reader, os.urandom(length))


def tensor_request(kind, shape, data=None, strings=None, times=1):
    """A request with one tensor, `times` over, whatever its parts say."""
    builder = flatbuffers.Builder(0)
    if strings is not None:
        places = [builder.CreateString(text) for text in strings]
        Tensor.StartStringValVector(builder, len(places))
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        string_val = builder.EndVector()
    data_at = None if data is None else builder.CreateByteVector(data)
    Tensor.StartShapeVector(builder, len(shape))
    for side in reversed(shape):
        builder.PrependInt64(side)
    shape_at = builder.EndVector()
    Tensor.Start(builder)
    Tensor.AddType(builder, kind)
    Tensor.AddShape(builder, shape_at)
    if data_at is not None:
        Tensor.AddData(builder, data_at)
    if strings is not None:
        Tensor.AddStringVal(builder, string_val)
    tensor = Tensor.End(builder)
    InferRequest.StartInputTensorsVector(builder, times)
    for _ in range(times):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    InferRequest.Start(builder)
    InferRequest.AddInputTensors(builder, tensors)
    return messages.finish_request(builder, 1, InferRequest.End(builder))


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (tensor_request(10, [1 << 62, 1 << 62], b""), "larger than any memory"),
        (tensor_request(10, [1 << 32, 1 << 32], b""), "larger than any memory"),
        (tensor_request(10, [1 << 62, 1 << 62, 0], b""), "larger than any memory"),
        (tensor_request(12, [1 << 40], strings=[]), "strings"),
        (tensor_request(10, [-1], b""), "0 or more"),
        (tensor_request(10, [-2, -2], bytes(16)), "0 or more"),
        (tensor_request(10, [3], bytes(8)), "not its size"),
        (tensor_request(10, [2], bytes(9)), "not its size"),
        (tensor_request(10, [], b""), "not its size"),
        (tensor_request(0, [0], b""), "the type 0"),
        (tensor_request(13, [0], b""), "the type 13"),
        (tensor_request(255, [0], b""), "the type 255"),
        (tensor_request(1, [1], b"a", ["b"]), "strings too"),
        (tensor_request(12, [1], b"a", ["b"]), "`data` too"),
        (tensor_request(12, [2], strings=["b"]), "one for each element"),
        (tensor_request(1, [1] * 33, b"a"), "at most 32"),
        (tensor_request(1, [1000], bytes(1000), times=5), "overlap"),
        (tensor_request(12, [1], strings=["a" * 1000], times=5), "overlap"),
    ],
)
def test_tensors_that_lie(request_, said):
    """A shape that its data do not have, a type that there is not, and parts that are used twice are refused."""
    with pytest.raises((InputError, TooLargeError), match=said):
        graphpipe.decode_request(request_)


def test_absent_fields_are_read():
    """A tensor without a shape is a scalar; an empty array may lack its data; a request may lack everything."""
    request = graphpipe.decode_request(tensor_request(10, [0, 7]))
    assert request.inputs[0].shape == (0, 7)
    builder = flatbuffers.Builder(0)
    InferRequest.Start(builder)
    request = graphpipe.decode_request(messages.finish_request(builder, 1, InferRequest.End(builder)))
    assert (request.inputs, request.input_names, request.output_names, request.config) == ((), (), (), b"")


def test_one_string_many_times_takes_no_memory():
    """A message of offsets that all point to one string is refused before memory is taken for each of them."""
    text = b"x" * 1000
    builder = flatbuffers.Builder(0)
    place = builder.CreateString(text)
    count = 60_000
    Tensor.StartStringValVector(builder, count)
    for _ in range(count):
        builder.PrependUOffsetTRelative(place)
    string_val = builder.EndVector()
    Tensor.StartShapeVector(builder, 1)
    builder.PrependInt64(count)
    shape = builder.EndVector()
    Tensor.Start(builder)
    Tensor.AddType(builder, 12)
    Tensor.AddShape(builder, shape)
    Tensor.AddStringVal(builder, string_val)
    tensor = Tensor.End(builder)
    InferRequest.StartInputTensorsVector(builder, 1)
    builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    InferRequest.Start(builder)
    InferRequest.AddInputTensors(builder, tensors)
    body = messages.finish_request(builder, 1, InferRequest.End(builder))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="overlap"):
            graphpipe.decode_request(body)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_table_that_is_its_own_layout():
    """Tables that point to themselves or to the end of the bytes are refused or read, and never walked for ever."""
    for offset in (0, 1, 2, 3, 4, 8, 12, 16):
        for layout in range(-8, 20):
            body = struct.pack("<Iii", offset, layout, layout) + bytes(12)
            for reader in READERS:
                try:
                    reader(body)
                except ImagelakeError:
                    continue


def test_other_buffers_are_read():
    """A message may come in bytes, a bytearray, or memory of any other type of elements."""
    written = graphpipe.encode_request([np.arange(6.0)]).join()
    padded = bytes(written) + bytes(-len(written) % 4)
    for body in (bytes(written), bytearray(written), memoryview(np.frombuffer(padded, np.uint32))):
        assert graphpipe.decode_request(body).inputs[0].tolist() == list(range(6))
