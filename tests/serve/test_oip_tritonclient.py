"""Triton's own HTTP client, unchanged, against our server."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tritonclient.http as triton
from serve.oip_site import add, colors, echo, serving
from tritonclient.utils import InferenceServerException

from imagelake.serve.oip_types import DTYPES
from pictures import encode
from small_models import SIDE

VALUES = {
    "BOOL": [[True, False], [False, True]],
    "FP16": [[1.5, -2], [0, 65504]],
    "FP32": [[1.5, -2], [0, 1e-30]],
    "FP64": [[1.5, -2], [0, 1e-300]],
    "BYTES": [[b"", b"a\0b\0"], ["é".encode(), b"\xff"]],
}


def values(datatype):
    """Four values of a type, with its ends."""
    dtype = DTYPES[datatype]
    if datatype in VALUES:
        return np.array(VALUES[datatype], dtype)
    ends = np.iinfo(dtype)
    return np.array([[ends.min, ends.max], [0, 1]], dtype)


def tensor(name, array, datatype, *, binary=True):
    found = triton.InferInput(name, list(array.shape), datatype)
    return found.set_data_from_numpy(array, binary_data=binary)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    models = [echo(datatype) for datatype in DTYPES]
    with serving(*models, add(), colors(tmp_path_factory.mktemp("models"))) as server:
        yield server


@pytest.fixture(scope="module")
def client(served):
    with triton.InferenceServerClient(served.address) as found:
        yield found


def test_health_and_what_there_is(client):
    """Live, ready, metadata, configuration, index."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("add")
    assert client.is_model_ready("add", "1")
    assert not client.is_model_ready("none")
    assert not client.is_model_ready("add", "2")
    assert client.get_server_metadata()["name"] == "imagelake"
    assert client.get_model_metadata("add")["outputs"][1]["name"] == "difference"
    assert client.get_model_config("add", "1")["input"][0]["data_type"] == "TYPE_INT32"
    assert {"name": "add", "version": "1", "state": "READY", "reason": ""} in client.get_model_repository_index()


@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("datatype", DTYPES)
def test_every_type_goes_there_and_back(client, datatype, binary_in, binary_out):
    """As binary and as JSON, in every combination that the client has; None is what it asks for by itself."""
    array = values(datatype)
    if datatype == "BYTES" and (not binary_in or binary_out is False):
        array = np.array([[b"", b"a"], ["é".encode(), b"b:c"]], object)  # JSON has text only
    outputs = None if binary_out is None else [triton.InferRequestedOutput("y", binary_data=binary_out)]
    given = [tensor("x", array, datatype, binary=binary_in)]
    if datatype == "FP16" and (not binary_in or binary_out is False):
        with pytest.raises(InferenceServerException, match="FP16"):
            client.infer("echo-FP16", given, outputs=outputs)
        return
    found = client.infer(f"echo-{datatype}", given, outputs=outputs).as_numpy("y")
    if datatype == "BYTES":  # of JSON, the client makes str
        found = np.array([[v if isinstance(v, bytes) else v.encode() for v in row] for row in found], object)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_empty_tensors(client):
    """0 rows are 0 rows, and no bytes."""
    for given in (
        tensor("x", np.zeros((0, 3, SIDE, SIDE), np.float32), "FP32"),
        tensor("x", np.zeros(0, object), "BYTES"),
    ):
        found = client.infer("colors", [given])
        assert found.as_numpy("probabilities").shape == (0, 3)
        assert found.as_numpy("label").shape == (0,)


def test_several_inputs_and_outputs_keep_apart(client):
    """By name, whatever the order, some binary and some not, with the id back."""
    a, b = np.array([5, 6], np.int32), np.array([1, 2], np.int32)
    given = [tensor("b", b, "INT32"), tensor("a", a, "INT32", binary=False)]
    outputs = [triton.InferRequestedOutput(name, binary_data=name == "sum") for name in ("difference", "sum")]
    found = client.infer("add", given, outputs=outputs, request_id="my id", model_version="1", timeout=10_000_000)
    assert found.as_numpy("sum").tolist() == [6, 8]
    assert found.as_numpy("difference").tolist() == [4, 4]
    response = found.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("my id", "add", "1")
    assert [output["name"] for output in response["outputs"]] == ["difference", "sum"]


def test_pictures_and_their_classes(client):
    """BYTES [n] are n encoded pictures; class_count gives value:index:label."""
    shown = [encode(np.full((9, 40, 3), color, np.uint8)) for color in ((250, 0, 0), (0, 0, 250), (0, 250, 0))]
    given = [tensor("x", np.array(shown, object), "BYTES")]
    found = client.infer("colors", given, outputs=[triton.InferRequestedOutput("probabilities", class_count=2)])
    best = [row[0].decode().split(":") for row in found.as_numpy("probabilities")]
    assert [(index, label) for _, index, label in best] == [("0", "red"), ("2", "blue"), ("1", "green")]
    whole = client.infer("colors", given)
    assert whole.as_numpy("label").tolist() == [b"red", b"blue", b"green"]
    scores = whole.as_numpy("probabilities")
    assert [float(value) for value, _, _ in best] == [float(str(row.max())) for row in scores]
    pixels = np.zeros((1, 3, SIDE, SIDE), np.float32)
    pixels[:, 1] = 250
    assert client.infer("colors", [tensor("x", pixels, "FP32")]).as_numpy("label").tolist() == [b"green"]


@pytest.mark.parametrize("request_coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_coding", [None, "gzip", "deflate"])
def test_compression(client, request_coding, response_coding):
    """Both ways, in both codings of the client, binary and JSON."""
    array = np.arange(40_000, dtype=np.float32).reshape(2, -1)
    for binary in True, False:
        found = client.infer(
            "echo-FP32",
            [tensor("x", array, "FP32", binary=binary)],
            outputs=[triton.InferRequestedOutput("y", binary_data=binary)],
            request_compression_algorithm=request_coding,
            response_compression_algorithm=response_coding,
        )
        np.testing.assert_array_equal(found.as_numpy("y"), array)


def test_several_at_once(client):
    """async_infer, over one connection after another."""
    arrays = [np.full((1, 3), number, np.int64) for number in range(20)]
    waiting = [client.async_infer("echo-INT64", [tensor("x", array, "INT64")]) for array in arrays]
    for array, each in zip(arrays, waiting, strict=True):
        np.testing.assert_array_equal(each.get_result().as_numpy("y"), array)


def test_errors_reach_the_caller(client):
    """Unknown names, versions and shapes are InferenceServerException with status and message."""
    one = [tensor("x", np.zeros((1, 2), np.float32), "FP32")]
    cases = [
        ("none", one, {}, "404", "'none' is not served"),
        ("echo-FP32", one, {"model_version": "7"}, "404", "'7'"),
        ("echo-INT8", one, {}, "400", "float32.*give int8"),
        ("add", one, {}, "400", "no input x"),
        ("echo-FP32", [tensor("x", np.zeros(2, np.float32), "FP32")], {}, "400", "any, any"),
        ("echo-FP32", one, {"outputs": [triton.InferRequestedOutput("z")]}, "400", "no output z"),
        ("colors", [tensor("x", np.array([b"no picture"], object), "BYTES")], {}, "400", "picture 0"),
    ]
    for model, given, others, status, words in cases:
        with pytest.raises(InferenceServerException, match=words) as caught:
            client.infer(model, given, **others)
        assert caught.value.status() == status
    for ask in client.get_model_metadata, client.get_model_config, client.get_inference_statistics:
        with pytest.raises(InferenceServerException, match="'none'"):
            ask("none")
    for ask in client.get_system_shared_memory_status, client.get_trace_settings, client.get_log_settings:
        with pytest.raises(InferenceServerException, match="not offered"):
            ask()


def test_statistics(client):
    """They grow with what is asked."""
    before = client.get_inference_statistics("echo-UINT8")["model_stats"][0]
    client.infer("echo-UINT8", [tensor("x", np.zeros((3, 2), np.uint8), "UINT8")])
    (after,) = client.get_inference_statistics("echo-UINT8", "1")["model_stats"]
    assert after["inference_count"] == before["inference_count"] + 3
    assert after["inference_stats"]["success"]["count"] == before["inference_stats"]["success"]["count"] + 1
    assert len(client.get_inference_statistics()["model_stats"]) == len(DTYPES) + 2


def test_models_are_loaded_and_unloaded(client):
    """By name; configurations and files of the caller are refused."""
    assert not client.is_model_ready("late")
    client.load_model("late")
    assert client.is_model_ready("late")
    client.unload_model("late")
    assert not client.is_model_ready("late")
    with pytest.raises(InferenceServerException, match="no model 'other' to load"):
        client.load_model("other")
    with pytest.raises(InferenceServerException, match="Leave the parameters"):
        client.load_model("late", config=json.dumps({"name": "late"}), files={"file:1/model.onnx": b"x"})


AIO = """
import asyncio, sys
import numpy as np
import tritonclient.http.aio as triton

async def main():
    async with triton.InferenceServerClient(sys.argv[1]) as client:
        array = np.arange(6, dtype=np.float32).reshape(2, 3)
        given = triton.InferInput("x", [2, 3], "FP32").set_data_from_numpy(array)
        found = await asyncio.gather(*(client.infer("echo-FP32", [given]) for _ in range(20)))
        assert all((each.as_numpy("y") == array).all() for each in found)
        print(await client.is_server_ready())

asyncio.run(main())
"""


def test_the_client_of_asyncio(served):
    """It works too; in a process of its own, for it leaves warnings behind."""
    done = subprocess.run([sys.executable, "-c", AIO, served.address], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
