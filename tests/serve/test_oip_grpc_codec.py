import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf.message import DecodeError
from tritonclient.grpc import model_config_pb2, service_pb2

from imagelake.errors import InputError, TooLargeError
from imagelake.serve.oip_documents import model_config, model_metadata
from imagelake.serve.oip_grpc_codec import as_message, read_request, write_response
from imagelake.serve.oip_grpc_schema import SERVICE, messages, methods
from imagelake.serve.oip_types import DTYPES
from imagelake.serve.tensor_info import TensorInfo
from places import ROOT

TYPED = {
    "BOOL": ("bool_contents", [True, False]),
    "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-32_768, 32_767]),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1]),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1]),
    "UINT8": ("uint_contents", [0, 255]),
    "UINT16": ("uint_contents", [0, 65_535]),
    "UINT32": ("uint_contents", [0, 2**32 - 1]),
    "UINT64": ("uint64_contents", [0, 2**64 - 1]),
    "FP32": ("fp32_contents", [0.5, float("inf")]),
    "FP64": ("fp64_contents", [0.1, -1e300]),
    "BYTES": ("bytes_contents", [b"", b"\x00\xff"]),
}


def fields_of(descriptor):
    """Every field below a message: where it stands and how it is sent."""
    found, waiting, seen = {}, [descriptor], set()
    while waiting:
        one = waiting.pop()
        if one.full_name in seen:
            continue
        seen.add(one.full_name)
        for field in one.fields:
            kind = field.message_type or field.enum_type
            found[one.full_name, field.number] = (field.name, field.type, field.is_repeated, kind and kind.full_name)
        waiting += [*one.nested_types, *(field.message_type for field in one.fields if field.message_type)]
    return found


def test_the_schema_is_the_published_one():
    """Each message has the names, numbers and types that the clients of the protocol send."""
    theirs = {}
    for file in (service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR):
        for descriptor in file.message_types_by_name.values():
            theirs |= fields_of(descriptor)
    ours = {}
    for message in vars(messages()).values():
        ours |= fields_of(message.DESCRIPTOR)
    assert len(ours) > 100
    for place, field in ours.items():
        assert theirs[place] == field, place
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert service.full_name == SERVICE
    for method in methods():
        published = service.methods_by_name[method.name]
        for part in ("input_type", "output_type"):
            assert getattr(method, part).full_name == getattr(published, part).full_name
        assert (method.client_streaming, method.server_streaming) == (
            published.client_streaming,
            published.server_streaming,
        )


def test_the_types_of_a_configuration_have_the_published_numbers():
    """An enum is sent as a number, so the numbers are the protocol."""
    field = messages().ModelInput.DESCRIPTOR.fields_by_name["data_type"]
    ours = {value.name: value.number for value in field.enum_type.values}
    assert ours == dict(model_config_pb2.DataType.items())


@pytest.mark.parametrize("first", ["imagelake.serve.oip_grpc_schema", "tritonclient.grpc"])
def test_both_schemas_fit_in_one_process(first):
    """A process may import a client of the protocol and this server, in either order."""
    code = (
        f"import {first}; from imagelake.serve.oip_grpc_schema import messages;"
        "import tritonclient.grpc.service_pb2 as t;"
        "m = messages().ModelReadyRequest(name='a'); print(t.ModelReadyRequest.FromString(m.SerializeToString()).name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.stdout == "a\n", done.stderr


def test_the_descriptors_are_made_of_the_proto():
    """Every message, field and call of oip.proto stands in oip.binpb: nobody changed one alone."""
    text = (ROOT / "src" / "imagelake" / "serve" / "oip.proto").read_text()
    for message in vars(messages()).values():
        assert f"message {message.DESCRIPTOR.name} {{" in text
        for field in message.DESCRIPTOR.fields:
            assert f" {field.name} = {field.number};" in text, field.full_name
    assert text.count("  rpc ") == len(list(methods()))
    assert text.count("\nmessage ") == len(vars(messages()))


def request(*tensors, raw=()):
    """A request with inputs of (name, datatype, shape, contents)."""
    message = messages().ModelInferRequest(model_name="m")
    for name, datatype, shape, contents in tensors:
        message.inputs.add(name=name, datatype=datatype, shape=shape, contents=contents)
    message.raw_input_contents.extend(raw)
    return message


def test_a_request_without_inputs_has_none():
    """The empty request is one; the plane says what it lacks."""
    asked = read_request(request(), 4)
    assert (asked.inputs, asked.outputs, asked.version, asked.timeout_s) == ({}, (), None, None)


@pytest.mark.parametrize("datatype", TYPED)
def test_typed_contents_become_arrays(datatype):
    """Each datatype has its field, and the ends of its range come through."""
    field, values = TYPED[datatype]
    array = read_request(request(("x", datatype, [2, 1], {field: values})), 4).inputs["x"]
    assert array.dtype == DTYPES[datatype]
    assert array.shape == (2, 1)
    assert array.ravel().tolist() == values


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (request(("x", "FP32", [2], {"fp32_contents": [1]})), "1 values"),
        (request(("x", "FP32", [2], None)), "0 values"),
        (request(("x", "FP32", [-1], {"fp32_contents": [1]})), "0 or more"),
        (request(("x", "FP32", [2**62, 2**62], None)), "elements"),
        (request(("x", "FP16", [1], {"fp32_contents": [1]})), "no typed contents"),
        (request(("x", "FP32", [1], {"fp64_contents": [1]})), "fp32_contents"),
        (request(("x", "INT8", [1], {"int_contents": [128]})), "range"),
        (request(("x", "NONE", [1], None)), "datatype"),
        (request(("x", "BF16", [1], None), raw=[b"12"]), "BF16"),
        (request(("x", "FP32", [1], None), raw=[b"123"]), "3 bytes"),
        (request(("x", "FP32", [1], None), ("y", "FP32", [1], None), raw=[b"1234"]), "one of all"),
        (request(("x", "FP32", [1], {"fp32_contents": [1]}), raw=[b"1234"]), "one of them"),
        (request(("x", "FP32", [1], None), ("x", "FP32", [1], None), raw=[b"1234"] * 2), "twice"),
        (request(("x", "BYTES", [1], None), raw=[b"\xff\xff\xff\xffab"]), "beyond"),
    ],
)
def test_what_does_not_fit_together_is_refused(message, why):
    """A tensor whose type, shape and elements disagree is an error, before anything is made of it."""
    with pytest.raises(InputError, match=why):
        read_request(message, 4)


def test_too_many_tensors_are_too_large():
    """The limit of tensors holds before they are looked at."""
    with pytest.raises(TooLargeError, match="5 inputs"):
        read_request(request(*[(f"x{i}", "FP32", [0], None) for i in range(5)]), 4)


@pytest.mark.parametrize(("given", "seconds"), [(0, None), (1_500_000, 1.5), ("250000", 0.25)])
def test_the_time_limit_is_in_microseconds(given, seconds):
    """Triton's parameter `timeout`, also as the text that some clients send; 0 is none."""
    message = request()
    message.parameters["timeout"].CopyFrom(
        messages().InferParameter(**{"string_param" if isinstance(given, str) else "int64_param": given})
    )
    assert read_request(message, 4).timeout_s == seconds


def test_shared_memory_is_refused():
    """A tensor that is not in the message cannot be read."""
    message = request(("x", "FP32", [1], None))
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(InputError, match="shared memory"):
        read_request(message, 4)


def test_mutated_requests_are_refused_or_read():
    """Whatever bytes come, there is a message with arrays that fit it, or an error of whoever sent it."""
    seeds = [request(("x", kind, [2, 1], {field: values})) for kind, (field, values) in TYPED.items()]
    strings = b"\x01\0\0\0a\0\0\0\0"
    seeds.append(request(("x", "FP32", [2, 3], None), ("s", "BYTES", [2], None), raw=[bytes(24), strings]))
    random, read = np.random.default_rng(6), 0
    for number in range(2000):
        data = mutated(seeds[number % len(seeds)].SerializeToString(), random)
        try:
            asked = read_request(messages().ModelInferRequest.FromString(data), 4)
        except (DecodeError, InputError, TooLargeError):
            continue
        read += 1
        assert all(array.nbytes <= 64 * len(data) for array in asked.inputs.values())
    assert read > 20


def mutated(data, random):
    """Bytes of which some were changed, cut out or put in between."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 4)):
        place, size = int(random.integers(len(changed) + 1)), int(random.integers(1, 9))
        match random.integers(3):
            case 0:
                changed[place : place + 1] = random.bytes(1)
            case 1:
                del changed[place : place + size]
            case 2:
                changed[place:place] = random.bytes(size)
    return bytes(changed)


MODEL = SimpleNamespace(
    name="m",
    version="3",
    platform="python",
    max_batch=8,
    labels=("cat", "dog", "owl"),
    inputs=(TensorInfo("x", "float32", (-1, 4)), TensorInfo("s", "object", (-1,), optional=True)),
    outputs=(TensorInfo("p", "float32", (-1, 3)), TensorInfo("t", "object", (-1,))),
)


def test_the_client_reads_an_answer():
    """The outputs that were asked for, in that order, as arrays; the id comes back."""
    message = request()
    message.id = "7"
    for name in ("t", "p"):
        message.outputs.add(name=name)
    probabilities = np.array([[0.25, 0.5, 0.125]], np.float32)
    made = write_response(read_request(message, 4), MODEL, {"p": probabilities, "t": np.array([b"a\x00"], object)})
    result = triton.InferResult(service_pb2.ModelInferResponse.FromString(made.SerializeToString()))
    assert [output.name for output in result.get_response().outputs] == ["t", "p"]
    assert (result.get_response().id, result.get_response().model_version) == ("7", "3")
    np.testing.assert_array_equal(result.as_numpy("p"), probabilities)
    assert result.as_numpy("t").tolist() == [b"a\x00"]


def test_an_output_can_be_had_as_classes():
    """The classification extension: the best k as `value:index:label`."""
    message = request()
    message.outputs.add(name="p").parameters["classification"].int64_param = 2
    made = write_response(read_request(message, 4), MODEL, {"p": np.array([[0.25, 0.5, 0.125]], np.float32)})
    result = triton.InferResult(service_pb2.ModelInferResponse.FromString(made.SerializeToString()))
    assert result.as_numpy("p").tolist() == [[b"0.5:1:dog", b"0.25:0:cat"]]


def test_metadata_and_configuration_say_the_same():
    """The metadata has the batch as a first side of -1; the configuration leaves it out."""
    metadata = as_message("ModelMetadataResponse", model_metadata(MODEL, ["3"]))
    assert [(one.name, one.datatype, list(one.shape)) for one in metadata.inputs] == [
        ("x", "FP32", [-1, 4]),
        ("s", "BYTES", [-1]),
    ]
    config = model_config_pb2.ModelConfig.FromString(as_message("ModelConfig", model_config(MODEL)).SerializeToString())
    assert config.max_batch_size == 8
    assert [(one.name, one.data_type, list(one.dims), one.optional) for one in config.input] == [
        ("x", model_config_pb2.TYPE_FP32, [4], False),
        ("s", model_config_pb2.TYPE_STRING, [], True),
    ]
