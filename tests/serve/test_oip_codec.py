"""Bodies of the Open Inference Protocol: golden ones, all others there and back, hostile ones."""

import json
import math
import struct
import tracemalloc

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serve import oip_fuzz

from imagelake.errors import InputError, TooLargeError
from imagelake.serve import oip_fields
from imagelake.serve.oip_classes import top_classes
from imagelake.serve.oip_codec import (
    AskedOutput,
    InferRequest,
    header_length,
    read_raw_request,
    read_request,
    write_response,
)
from imagelake.serve.oip_types import DTYPES, datatype_of, to_raw
from imagelake.serve.tensor_info import TensorInfo

shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
numbers = st.sampled_from([name for name in DTYPES if name != "BYTES"]).flatmap(
    lambda name: arrays.arrays(DTYPES[name], shapes)
)
words = arrays.arrays(object, shapes, elements=st.binary(max_size=9))
texts = arrays.arrays(object, shapes, elements=st.text(st.characters(exclude_categories=["Cs"]), max_size=5))
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
tensors = st.dictionaries(names, st.one_of(numbers, words), min_size=0, max_size=4)


def tensor(name="x", shape=(2,), datatype="FP32", data=(1, 2), **parameters):
    about = {"name": name, "shape": list(shape), "datatype": datatype}
    if parameters:
        return about | {"parameters": parameters}
    return about | {"data": list(data)}


def body(*inputs, tail=b"", **fields):
    """The bytes of a request, and the length of its JSON."""
    head = json.dumps({"inputs": list(inputs), **fields}).encode()
    return head + tail, len(head)


def read(*inputs, **fields):
    return read_request(*body(*inputs, **fields))


def refused(words, *inputs, **fields):
    with pytest.raises(InputError, match=words):
        read(*inputs, **fields)


def written(outputs, request=None, **others):
    """The answer: its JSON, what lies behind it, and its headers."""
    parts, headers = write_response("m", "1", outputs, request or InferRequest({}), **others)
    return json.loads(bytes(parts[0])), b"".join(parts[1:]), headers


def same(found, expected):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


# ---- requests

GOLDEN = (
    b'{"id":"42","inputs":[{"name":"input0","shape":[2,2],"datatype":"UINT32","data":[1,2,3,4]},'
    b'{"name":"input1","shape":[3],"datatype":"BOOL","data":[true,false,true]}],"outputs":[{"name":"output0"}]}'
)
GOLDEN_BINARY = (
    b'{"model_name":"mymodel","inputs":[{"name":"input0","shape":[2,2],"datatype":"UINT32","parameters":'
    b'{"binary_data_size":16}},{"name":"input1","shape":[3],"datatype":"BOOL","parameters":{"binary_data_size":3}}],'
    b'"outputs":[{"name":"output0","parameters":{"binary_data":true}}]}'
)
TAIL = b"\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\1\0\1"


@pytest.mark.parametrize(
    ("sent", "length", "binary"), [(GOLDEN, None, None), (GOLDEN_BINARY + TAIL, len(GOLDEN_BINARY), True)]
)
def test_golden_requests_are_read(sent, length, binary):
    """The example of the specification, as JSON and with its tensors behind it, says the same."""
    request = read_request(sent, length)
    same(request.inputs["input0"], np.array([[1, 2], [3, 4]], np.uint32))
    same(request.inputs["input1"], np.array([True, False, True]))
    assert request.outputs == (AskedOutput("output0", binary),)
    assert request.id == (None if binary else "42")


@given(tensors, st.data())
def test_any_request_is_read_as_it_was_sent(given_tensors, data):
    """Some tensors as JSON, some behind it, flat or nested: the arrays come back bit by bit."""
    inputs, tail = [], b""
    for name, array in given_tensors.items():
        datatype = datatype_of(array.dtype)
        about = {"name": name, "shape": list(array.shape), "datatype": datatype}
        plain = datatype not in ("FP16", "BYTES") and (array.dtype.kind != "f" or np.isfinite(array).all())
        if plain and data.draw(st.booleans()):
            nested = array.ndim > 0 and data.draw(st.booleans())
            inputs.append(about | {"data": (array if nested else array.ravel()).tolist()})
        else:
            raw = bytes(to_raw(array))
            inputs.append(about | {"parameters": {"binary_data_size": len(raw)}})
            tail += raw
    found = read(*inputs, tail=tail).inputs
    assert list(found) == list(given_tensors)
    for name, array in given_tensors.items():
        same(found[name], array)


@given(texts)
def test_strings_of_json_are_utf_8(array):
    """BYTES in JSON are text, and become its UTF-8."""
    found = read(tensor("s", array.shape, "BYTES", array.ravel().tolist())).inputs["s"]
    assert found.ravel().tolist() == [text.encode() for text in array.ravel().tolist()]
    assert found.shape == array.shape


def test_what_is_left_out_or_null_is_as_if_it_were_not_there():
    """No outputs ask for all of them as JSON; null is nothing; unknown fields are passed over."""
    for request in read(tensor()), read(tensor(), id=None, outputs=None, parameters=None, model_name="m", more=[[1]]):
        same(request.inputs["x"], np.array([1, 2], np.float32))
        assert (request.outputs, request.binary, request.id, request.timeout_s) == ((), False, None, None)


def test_parameters_are_read():
    """How outputs come back, as what, and until when."""
    outputs = [{"name": "p", "parameters": {"classification": 3, "binary_data": False}}, {"name": "q"}]
    request = read(
        tensor(), outputs=outputs, parameters={"binary_data_output": True, "timeout": 2_500_000, "priority": 1}
    )
    assert request.outputs == (AskedOutput("p", False, 3), AskedOutput("q"))
    assert (request.binary, request.timeout_s) == (True, 2.5)


@pytest.mark.parametrize(
    "sent",
    [b"", b" ", b"{", b"[]", b"1", b'"x"', b"null", b"{}", b'{"inputs":{}}', b'{"inputs":null}', b'{"inputs":[1]}',
     b'{"inputs":[{}]}', b'{"inputs":[{"name":""}]}', b'{"inputs":[{"name":5}]}', b'{"inputs":[],"id":5}',
     b'{"inputs":[],"parameters":[]}', b'{"inputs":[],"parameters":{"timeout":-1}}', b'{"inputs":[]} x',
     b"\xff\xfe{\0}\0",
     b'\xef\xbb\xbf{"inputs":[]}', b'{"inputs":[NaN]}', b'{"inputs":' + b"[" * 100_000, b"[" * 250_000,
     b'{"a":' * 200_000, b'{"inputs":[],"x":' + b"9" * 5000 + b"}",
     b'{"inputs":[],"outputs":[{"name":"p"},{"name":"p"}]}',
     b'{"inputs":[],"id":"' + b"x" * 2000 + b'"}', b'{"inputs":[{"name":"\\ud800"}]}'],
)  # fmt: skip
def test_what_is_no_request_is_refused(sent):
    """Every other body is an error that says so, in few words."""
    with pytest.raises(InputError) as caught:
        read_request(sent)
    assert 10 < len(str(caught.value)) < 300


def test_no_inputs_are_a_request():
    """The codec takes them; the model says what it needs."""
    assert read().inputs == {}


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "null"])
def test_json_has_no_numbers_that_are_not_finite(text):
    """They are refused, and the message says that binary carries them."""
    sent = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":[%s]}]}' % text.encode()
    with pytest.raises(InputError, match="null" if text == "null" else "binary"):
        read_request(sent)


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        ("has 2 values.*has 3", tensor(shape=[3])),
        ("'FP8'", tensor(datatype="FP8")),
        ("NoneType", tensor(datatype=None)),
        ("BF16", tensor(datatype="BF16")),
        ("FP16.*binary", tensor(datatype="FP16")),
        ("side -1", tensor(shape=[-1])),
        ("2,147,483,648", tensor(shape=[2**4, 2**60 + 2])),
        ("2,147,483,648", tensor(shape=[2**4, 2**60 + 2], binary_data_size=0)),
        ("33 sides", tensor(shape=[1] * 33)),
        ("a list, and is missing", {"name": "x", "datatype": "INT8", "data": []}),
        ("a list, and is missing", {"name": "x", "datatype": "INT8", "shape": [0]}),
        ("a list, and is a string", {"name": "x", "datatype": "INT8", "shape": "[0]"}),
        ("a list, and is a number", {"name": "x", "datatype": "INT8", "shape": [1], "data": 1}),
        ("nested", tensor(shape=[2, 2], data=[[1, 2], [3]])),
        ("nested", tensor(shape=[2, 2], data=[[1, 2], 3])),
        ("nested", tensor(shape=[2, 2], data=[[1, 2]])),
        ("nested", tensor(shape=[2, 2], data=[[1, 2, 3, 4], []])),
        ("another type: list", tensor(shape=[1], data=[[1]])),
        ("another type: list", tensor(shape=[2], data=[1, [2]])),
        ("another type: str", tensor(data=["1", "2"])),
        ("another type: bool", tensor(data=[True, False])),
        ("range of UINT8", tensor(datatype="UINT8", data=[1, 300])),
        ("element of type int", tensor(datatype="BYTES", data=[1, 2])),
        ("8000000000", tensor(binary_data_size=8 * 10**9) | {"shape": [2 * 10**9]}),
        ("'binary_data_size' must|\"binary_data_size\" must", tensor(binary_data_size=-1)),
        ("integer", tensor(binary_data_size=True)),
        ("beyond 64 bits", tensor(binary_data_size=10**3000)),
        ("shared memory", tensor(shared_memory_region="r", shared_memory_byte_size=8)),
        ("Give one", tensor(binary_data_size=8) | {"data": [1, 2]}),
        ("must be a JSON object", tensor() | {"parameters": 3}),
    ],
)
def test_tensors_that_lie_are_refused(words, sent):
    """The message says what is wrong with which tensor."""
    refused(words, sent)


def test_names_stand_once():
    """Two inputs of one name are refused."""
    refused("'x' once more", tensor(), tensor())


def test_binary_sizes_must_be_the_body():
    """Too little behind the JSON, too much, or a size that is not the tensor's."""
    refused("8.*and 7 bytes are left", tensor(binary_data_size=8), tail=b"1234567")
    refused("1 bytes of the body belong", tensor(binary_data_size=8), tail=b"123456789")
    refused("has 9 bytes; FP32 of shape \\[2\\] has 8", tensor(binary_data_size=9), tail=b"123456789")
    refused("1 bytes of the body belong", tensor(), tail=b"1")


def test_the_length_of_the_json_must_be_right():
    """Beyond the body, in the middle of the JSON, missing, or no number."""
    sent, length = body(tensor(binary_data_size=8), tail=b"\0" * 8)
    assert read_request(sent, length).inputs["x"].tolist() == [0, 0]
    for wrong, words in (
        (len(sent) + 1, "the body has"),
        (length - 1, "no JSON"),
        (length + 1, "no JSON"),
        (None, "JSON"),
    ):
        with pytest.raises(InputError, match=words):
            read_request(sent, wrong)
    assert (header_length(None), header_length("0"), header_length("17")) == (None, 0, 17)
    for text in "", "-1", "1.0", "x", "1" * 19, "٣", " 1":
        with pytest.raises(InputError, match="number of bytes"):
            header_length(text)


def test_too_much_is_refused(monkeypatch):
    """Tensors, bytes of JSON, and parts of JSON are counted before they take memory."""
    with pytest.raises(TooLargeError, match="3 tensors; at most 2"):
        read_request(json.dumps({"inputs": [1, 2, 3]}).encode(), max_tensors=2)
    with pytest.raises(TooLargeError, match="3 tensors; at most 2"):
        read_request(json.dumps({"inputs": [], "outputs": [1, 2, 3]}).encode(), max_tensors=2)
    monkeypatch.setattr(oip_fields, "MAX_JSON_PARTS", 10)
    for part in "[],", "{},", '"ab","c",':
        with pytest.raises(TooLargeError, match="more than 10 lists"):
            read_request(f'{{"inputs":[{part * 30}1]}}'.encode())
    monkeypatch.setattr(oip_fields, "MAX_JSON", 20)
    with pytest.raises(TooLargeError, match="21 bytes of JSON"):
        read_request(b"x" * 21)


def test_hostile_bodies_get_errors_of_ours():
    """2,000 mutated bodies: every one is read or refused by name, in memory that its own size bounds."""
    assert 300 < oip_fuzz.run(2_000) < 1_900


# ---- raw bodies


def raw(data, *sides, dtype="float32", batched=True, **others):
    return read_raw_request(data, [TensorInfo("x", dtype, sides, **others)], batched=batched)


def test_a_raw_body_is_one_tensor():
    """The open side is what the bytes make it; all outputs are wanted as binary."""
    request = raw(np.arange(6, dtype="<f4").tobytes(), -1, 3)
    assert (request.binary, request.outputs) == (True, ())
    same(request.inputs["x"], np.arange(6, dtype=np.float32).reshape(2, 3))
    same(raw(bytes(24), -1, 2, -1).inputs["x"], np.zeros((1, 2, 3), np.float32))  # the batch is 1
    same(raw(bytes(8), 2).inputs["x"], np.zeros(2, np.float32))
    same(raw(b"", -1).inputs["x"], np.zeros(0, np.float32))


def test_a_raw_body_is_a_picture_or_a_string():
    """Without a length before it, whatever bytes it has."""
    for found in (
        raw(b"\xff\xd8", -1, 4, 4, 3, dtype="uint8", pictures=True),
        raw(b"\xff\xd8", -1, dtype="object"),
        raw(b"\xff\xd8", -1, dtype="object", optional=True),
    ):
        same(found.inputs["x"], np.array([b"\xff\xd8"], object))
    same(raw(b"", 1, 1, dtype="object").inputs["x"], np.array([[b""]], object))


def test_a_raw_body_is_for_the_one_input_that_is_needed():
    """Optional ones are left out; where all are optional the first is meant."""
    needed, other = TensorInfo("x", "uint8", (-1,)), TensorInfo("y", "uint8", (-1,), optional=True)
    assert list(read_raw_request(b"1", [other, needed], batched=True).inputs) == ["x"]
    assert list(read_raw_request(b"1", [other, other], batched=True).inputs) == ["y"]
    with pytest.raises(InputError, match="has 2: x, x"):
        read_raw_request(b"1", [needed, needed], batched=True)


@pytest.mark.parametrize(
    ("size", "sides", "others"),
    [
        (5, (-1, 2), {}),
        (4, (2,), {}),
        (4, (-1, 0), {}),
        (4, (-1, -1), {"batched": False}),
        (24, (-1, -1, -1), {}),
        (4, (2, 2), {"dtype": "object"}),
        (4, (), {"dtype": "uint8"}),
    ],
)
def test_raw_bodies_that_do_not_fit_are_refused(size, sides, others):
    """No division by zero, no guess between open sides."""
    with pytest.raises(InputError, match=r"\w"):
        raw(bytes(size), *sides, **others)


# ---- answers


def test_golden_answers_are_written():
    """As the specification shows them: JSON, or JSON and the tensors behind it."""
    outputs = {"output0": np.array([[1.0, 1.1], [2.0, 2.1], [3.0, 3.1]], np.float64)}
    answer, tail, headers = written(outputs, InferRequest({}, id="42"))
    assert answer == {
        "id": "42", "model_name": "m", "model_version": "1",
        "outputs": [{"name": "output0", "shape": [3, 2], "datatype": "FP64", "data": [1.0, 1.1, 2.0, 2.1, 3.0, 3.1]}],
    }  # fmt: skip
    assert (tail, headers) == (b"", {"Content-Type": "application/json"})
    answer, tail, headers = written({"output0": np.ones((3, 2), np.float32)}, InferRequest({}, binary=True))
    assert answer["outputs"] == [
        {"name": "output0", "shape": [3, 2], "datatype": "FP32", "parameters": {"binary_data_size": 24}}
    ]
    assert tail == struct.pack("<6f", *[1] * 6)
    assert headers["Content-Type"] == "application/octet-stream"
    assert "id" not in answer
    parts, headers = write_response("m", "1", {"y": np.zeros(0)}, InferRequest({}, binary=True))
    assert int(headers["Inference-Header-Content-Length"]) == len(parts[0])  # although nothing follows


@settings(deadline=None)
@given(tensors)
def test_a_binary_answer_read_as_a_request_is_the_same_tensors(outputs):
    """The two directions have one layout."""
    parts, headers = write_response("m", "1", outputs, InferRequest({}, binary=True))
    asked = json.loads(parts[0])
    head = json.dumps({"inputs": asked["outputs"]}).encode()
    found = read_request(head + b"".join(parts[1:]), len(head)).inputs
    assert len(parts[0]) == int(headers.get("Inference-Header-Content-Length", len(parts[0])))
    for name, array in outputs.items():
        same(found[name], array)


@given(st.one_of(numbers, texts))
def test_a_json_answer_holds_the_values(array):
    """Exactly, for every type that JSON can have; what is not finite is null; the text is JSON for every reader."""
    if array.dtype == np.float16:
        with pytest.raises(InputError, match="binary_data: true"):
            written({"y": array})
        return
    (output,) = written({"y": array})[0]["outputs"]
    assert output["shape"] == list(array.shape)
    if array.dtype == object:
        assert output["data"] == array.ravel().tolist()
        return
    values = np.array([np.nan if value is None else value for value in output["data"]], array.dtype)
    finite = np.where(np.isfinite(array), array, np.nan) if array.dtype.kind == "f" else array
    np.testing.assert_array_equal(values.reshape(array.shape), finite)


def test_bytes_that_are_no_text_are_not_json():
    """The message says how to get them."""
    with pytest.raises(InputError, match=r"no UTF-8.*binary_data: true"):
        written({"y": np.array([b"\xff"], object)})


def test_outputs_come_as_they_are_asked_for():
    """In that order, only those, each as JSON or binary as it says, else as the request says."""
    outputs = {"a": np.array([1], np.int8), "b": np.array([2], np.int8), "c": np.array([3], np.int8)}
    request = InferRequest({}, (AskedOutput("c"), AskedOutput("a", binary=False), AskedOutput("b")), binary=True)
    answer, tail, _ = written(outputs, request)
    assert [output["name"] for output in answer["outputs"]] == ["c", "a", "b"]
    assert (tail, answer["outputs"][1]["data"]) == (b"\3\2", [1])


def test_classes_are_the_highest_values():
    """value:index, with its label where there is one for each; in the answer they are BYTES."""
    scores = np.array([[1, 5, 10, 4], [0, 0, 0, 7]], np.int32)
    assert top_classes(scores, 2).tolist() == [[b"10:2", b"5:1"], [b"7:3", b"0:0"]]
    request = InferRequest({}, (AskedOutput("p", classes=9),))
    answer, _, _ = written({"p": scores[:1].astype(np.float32) / 10}, request, labels=("a", "b", "c", "dé"))
    assert answer["outputs"] == [
        {"name": "p", "shape": [1, 4], "datatype": "BYTES", "data": ["1.0:2:c", "0.5:1:b", "0.4:3:dé", "0.1:0:a"]}
    ]
    assert top_classes(scores, 1, ("only", "three", "labels")).tolist() == [[b"10:2"], [b"7:3"]]


@given(numbers, st.integers(1, 9), st.booleans())
def test_classes_of_any_numbers(array, most, batched):
    """Rows of at most so many, from high to low, what is no number last; truth values are refused."""
    if array.dtype == bool:
        with pytest.raises(InputError, match="numbers only"):
            top_classes(array, most)
        return
    found = top_classes(array, most, batched=batched)
    apart = batched and array.ndim > 0
    row = array.reshape(len(array) if apart else 1, math.prod(array.shape[1:] if apart else array.shape))
    assert found.shape == ((len(array),) if apart else ()) + (min(most, row.shape[1]),)
    for strings, values in zip(found.reshape(len(row), -1) if found.size else [], row, strict=False):
        picked = [values[int(text.split(b":")[1])] for text in strings]
        assert [str(value).encode() for value in picked] == [text.split(b":")[0] for text in strings]
        best = sorted((-np.inf if value != value else value for value in values), reverse=True)[: len(picked)]
        assert [-np.inf if value != value else value for value in picked] == best


def test_a_large_tensor_is_read_without_a_copy():
    """Binary numbers are views of the body, however large."""
    head, tail = body(tensor(shape=[1 << 20], binary_data_size=4 << 20))[0], bytes(4 << 20)
    sent = head + tail
    tracemalloc.start()
    try:
        request = read_request(sent, len(head))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert np.shares_memory(request.inputs["x"], np.frombuffer(sent, np.uint8))


def test_many_values_are_no_json(monkeypatch):
    """Reading and writing JSON stops all other threads; so there is a limit to its values, both ways."""
    monkeypatch.setattr(oip_fields, "MAX_JSON_VALUES", 100)
    sent = json.dumps({"inputs": [tensor(shape=[200], data=[1] * 200)]}).encode()
    with pytest.raises(TooLargeError, match="more than 100 values"):
        read_request(sent)
    with pytest.raises(InputError, match=r"1,048,577 values; .*binary_data"):
        write_response("m", "1", {"y": np.zeros((1 << 20) + 1, np.uint8)}, InferRequest({}))


@pytest.mark.parametrize("count", [0, 1, 8_191, 8_192, 8_193, 20_000])
def test_an_answer_in_json_has_every_value(count):
    """However many there are: they are written in pieces."""
    array = np.arange(count, dtype=np.int32)
    (head,), _ = write_response("m", "1", {"y": array}, InferRequest({}))
    assert json.loads(head)["outputs"][0]["data"] == array.tolist()
