"""The Open Inference Protocol over real HTTP, as anybody's client may speak it."""

import asyncio
import concurrent.futures
import gzip
import http.client
import json
import random
import socket
import threading
import zlib

import numpy as np
import pytest
from serve import oip_fuzz
from serve.oip_site import COLORS, Model, add, colors, echo, serving
from starlette.requests import ClientDisconnect

from imagelake.errors import InputError, TooLargeError
from imagelake.serve.body import BodyBudget
from imagelake.serve.compression import deflate, inflate
from imagelake.serve.site import Limits
from imagelake.serve.tensor_info import TensorInfo
from imagelake.serve.waiting import answer_of
from pictures import encode
from small_models import SIDE

RAW = {"Inference-Header-Content-Length": "0"}
ONE = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
INFER = "/v2/models/echo-FP32/infer"


def plain(color):
    """A PNG of one color."""
    return encode(np.full((20, 30, 3), color, np.uint8), "PNG")


def fails():
    def run(_inputs):
        raise ZeroDivisionError("secret")

    return Model(
        "fails", [TensorInfo("x", "float32", (-1, 2))], [TensorInfo("y", "float32", (-1, 2))], run, task="function"
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server that no test changes."""
    models = [echo("FP32"), echo("FP16"), echo("BYTES"), add(), colors(tmp_path_factory.mktemp("models")), fails()]
    with serving(*models, limits=Limits(max_body=1 << 20, max_tensors=3), may_load=False) as server:
        yield server


def test_health_is_json_and_a_status(served):
    """A body for KServe's clients, a status for Triton's."""
    assert served.json("GET", "/v2/health/live") == (200, {"live": True})
    assert served.json("GET", "/v2/health/ready") == (200, {"ready": True})
    assert served.json("GET", "/v2/models/add/ready") == (200, {"name": "add", "ready": True})
    assert served.json("GET", "/v2/models/add/versions/1/ready") == (200, {"name": "add", "ready": True})


def test_the_server_and_its_models_say_what_they_are(served):
    """Names, versions, extensions, tensors; an image model tells its tensor."""
    status, server = served.json("GET", "/v2")
    assert (status, server["name"]) == (200, "imagelake")
    assert "binary_tensor_data" in server["extensions"]
    assert "model_repository" not in server["extensions"]
    assert served.json("GET", "/v2/models")[1]["models"] == [
        "echo-FP32", "echo-FP16", "echo-BYTES", "add", "colors", "fails",
    ]  # fmt: skip
    status, model = served.json("GET", "/v2/models/colors")
    assert (status, model["name"], model["versions"]) == (200, "colors", ["1"])
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3, SIDE, SIDE]}]
    assert model["outputs"][0] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}
    assert served.json("GET", "/v2/models/colors/versions/1")[1] == model
    config = served.json("GET", "/v2/models/colors/config")[1]
    assert config["max_batch_size"] > 0
    assert config["input"][0] == {"name": "x", "data_type": "TYPE_FP32", "dims": [3, SIDE, SIDE], "optional": False}
    assert config["output"][1]["data_type"] == "TYPE_STRING"
    unbatched = served.json("GET", "/v2/models/add/config")[1]
    assert (unbatched["max_batch_size"], unbatched["input"][0]["dims"]) == (0, [-1])


def test_json_in_json_out(served):
    """What curl sends, with its id back."""
    status, answer = served.json("POST", INFER, ONE | {"id": "é7"})
    assert (status, answer["id"], answer["model_name"], answer["model_version"]) == (200, "é7", "echo-FP32", "1")
    assert answer["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]
    text = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": [["a", "é"]]}]}
    assert served.json("POST", "/v2/models/echo-BYTES/infer", text)[1]["outputs"][0]["data"] == ["a", "é"]
    one, two = ({"name": name, "shape": [2], "datatype": "INT32", "data": [5, 6]} for name in "ab")
    asked = {"inputs": [two, one], "outputs": [{"name": "difference"}]}
    answer = served.json("POST", "/v2/models/add/versions/1/infer", asked)[1]
    assert answer["outputs"] == [{"name": "difference", "datatype": "INT32", "shape": [2], "data": [0, 0]}]


def test_a_picture_is_posted_as_it_is(served):
    """A raw body is one picture; every output comes back as binary."""
    status, headers, body = served.request("POST", "/v2/models/colors/infer", plain((0, 250, 0)), RAW)
    head = int(headers["inference-header-content-length"])
    answer = json.loads(body[:head])
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert [output["shape"] for output in answer["outputs"]] == [[1, 3], [1]]
    assert np.frombuffer(body[head : head + 12], "<f4").argmax() == 1
    assert body[head + 12 :] == b"\5\0\0\0green"


def test_pictures_are_strings_of_shape_n(served):
    """BYTES [n] given to a model of pictures are n pictures, as large as each is."""
    tail = b"".join(len(data).to_bytes(4, "little") + data for data in map(plain, [(0, 0, 9), (200, 0, 0)]))
    asked = {
        "inputs": [
            {"name": "x", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(tail)}}
        ],
        "outputs": [{"name": "label"}, {"name": "probabilities", "parameters": {"classification": 1}}],
    }  # fmt: skip
    head = json.dumps(asked).encode()
    status, answer = served.json(
        "POST", "/v2/models/colors/infer", head + tail, {"Inference-Header-Content-Length": str(len(head))}
    )
    assert (status, answer["outputs"][0]["data"]) == (200, ["blue", "red"])
    assert [text.split(":")[1:] for text in answer["outputs"][1]["data"]] == [["2", "blue"], ["0", "red"]]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "words"),
    [
        ("GET", "/v2/models/none", None, {}, 404, "'none' is not served"),
        ("GET", "/v2/models/none/ready", None, {}, 404, "'none'"),
        ("GET", "/v2/models/none/stats", None, {}, 404, "'none'"),
        ("GET", "/v2/models/add/versions/2", None, {}, 404, "'2'"),
        ("POST", "/v2/models/add/versions/2/infer", b"{}", {}, 404, "'2'"),
        ("GET", "/v2/nothing", None, {}, 404, "nothing at"),
        ("GET", "/v2/systemsharedmemory/status", None, {}, 501, "not offered"),
        ("GET", "/v2/trace/setting", None, {}, 501, "not offered"),
        ("POST", INFER, b"", {}, 400, "no JSON"),
        ("POST", INFER, b"{}", {}, 400, '"inputs"'),
        ("POST", INFER, b'{"inputs":[]}', {}, 400, "lacks the input x"),
        ("POST", INFER, b"[" * 200_000, {}, 400, "nested too deeply"),
        ("POST", INFER, b"{}", {"Inference-Header-Content-Length": "x"}, 400, "number of bytes"),
        ("POST", INFER, b"{}", {"Inference-Header-Content-Length": "99"}, 400, "has 2 bytes"),
        ("POST", INFER, ONE | {"outputs": [{"name": "z"}]}, {}, 400, "no output z"),
        ("POST", INFER, {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}, {}, 400, "any"),
        ("POST", INFER, {"inputs": [1, 2, 3, 4]}, {}, 413, "at most 3"),
        ("POST", INFER, b" " * ((1 << 20) + 1), {}, 413, "at most 1,048,576"),
        ("POST", INFER, ONE, {"Content-Encoding": "br"}, 400, "gzip, deflate"),
        ("POST", INFER, ONE, {"Content-Encoding": "gzip"}, 400, "no gzip"),
        ("POST", INFER, gzip.compress(b"{}", mtime=0)[:-1], {"Content-Encoding": "gzip"}, 400, "ends before"),
        ("POST", INFER, gzip.compress(b" " * (1 << 22), mtime=0), {"Content-Encoding": "gzip"}, 413, "becomes more"),
        ("POST", INFER, bytes(8), RAW, 400, "at most one open side|multiple of"),
        ("POST", "/v2/models/add/infer", bytes(8), RAW, 400, "has 2: a, b"),
        ("POST", "/v2/models/colors/infer", b"no picture", RAW, 400, "picture 0"),
        ("POST", "/v2/models/colors/infer", b"", RAW, 400, "picture 0"),
        ("POST", "/v2/models/fails/infer", ONE, {}, 500, "^internal error$"),
        ("POST", "/v2/repository/models/late/load", b"", {}, 403, "not loaded"),
        ("POST", "/v2/repository/models/add/unload", b"", {}, 403, "not loaded"),
        ("POST", "/v2/repository/index", b"[]", {}, 400, "object"),
        ("POST", "/v2/repository/index", b'{"ready":1}', {}, 400, '"ready"'),
    ],
)
def test_errors_are_a_status_and_a_message(served, method, path, body, headers, status, words):
    """Always JSON, {"error": message}; a defect tells nothing of itself."""
    if path == INFER and body == bytes(8) and headers == RAW:
        body = bytes(7)
    found, answer = served.json(method, path, body, headers)
    assert found == status
    assert list(answer) == ["error"]
    with pytest.raises(InputError, match=words):
        raise InputError(answer["error"])


def test_wrong_methods_are_refused(served):
    """405 tells which is right."""
    status, headers, _ = served.request("GET", INFER)
    assert (status, headers["allow"]) == (405, "POST")


def test_fp16_is_binary_only(served):
    """JSON with FP16 is refused both ways, and the message says what to do; binary works."""
    path = "/v2/models/echo-FP16/infer"
    about = {"name": "x", "shape": [1, 1], "datatype": "FP16"}
    assert served.json("POST", path, {"inputs": [about | {"data": [1]}]})[0] == 400
    head = json.dumps({"inputs": [about | {"parameters": {"binary_data_size": 2}}]}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    status, answer = served.json("POST", path, head + b"\0\x3c", length)
    assert (status, "binary_data: true" in answer["error"]) == (400, True)
    status, _, body = served.request("POST", path, b"\0\x3c", RAW)
    assert (status, body[-2:]) == (200, b"\0\x3c")


def test_numbers_that_are_not_finite_are_null_in_json(served):
    """The answer is JSON for every reader; the binary one has the bits."""
    data = np.array([[np.nan, np.inf]], "<f4").tobytes()
    status, headers, body = served.request("POST", INFER, data, RAW)
    assert status == 200
    assert body[int(headers["inference-header-content-length"]) :] == data
    about = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [about]}).encode()
    answer = served.json("POST", INFER, head + data, {"Inference-Header-Content-Length": str(len(head))})[1]
    assert answer["outputs"][0]["data"] == [None, None]


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies(served, coding, pack):
    """A body may come compressed, in any chunks; the answer is, where that coding alone is asked for."""
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress}[coding]
    sent = pack(json.dumps(ONE).encode())
    status, headers, body = served.request("POST", INFER, sent, {"Content-Encoding": coding, "Accept-Encoding": coding})
    assert (status, headers["content-encoding"]) == (200, coding)
    assert json.loads(unpack(body))["outputs"][0]["data"] == [1, 2]
    status, headers, _ = served.request("POST", INFER, iter([sent[:9], sent[9:]]), {
        "Content-Encoding": coding, "Accept-Encoding": "gzip, deflate",
    })  # fmt: skip
    assert (status, "content-encoding" in headers) == (200, False)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compression_is_undone_whatever_the_size(coding):
    """Bytes that shrink much, little or not at all come back; a limit holds to the byte; two streams are refused."""
    rng = random.Random(0)
    for size in 0, 1, 262_143, 262_144, 262_145, 600_000:
        for data in bytes(size), rng.randbytes(size):
            packed = memoryview(deflate([data[:5], memoryview(data)[5:]], coding))
            found = inflate(packed, coding, Limits(max_body=max(size, 1)), BodyBudget(1 << 24))
            assert bytes(found) == data
            if size > 1:
                with pytest.raises(TooLargeError):
                    inflate(packed, coding, Limits(max_body=size - 1), BodyBudget(1 << 24))
            with pytest.raises(InputError, match="behind the end"):
                inflate(memoryview(bytes(packed) + b"x"), coding, Limits(), BodyBudget(1 << 24))


def test_the_memory_of_unpacked_bodies_goes_back():
    """A body that becomes too large leaves nothing in the budget."""
    budget = BodyBudget(1 << 20)
    packed = memoryview(gzip.compress(bytes(1 << 22)))
    for _ in range(3):
        with pytest.raises(TooLargeError):
            inflate(packed, "gzip", Limits(max_body=400_000), budget)
    assert budget.held == 0


def test_statistics_count_what_was_done(served):
    """Per model, or all of them."""
    before = served.json("GET", "/v2/models/echo-FP32/stats")[1]["model_stats"][0]
    served.json("POST", INFER, ONE)
    (after,) = served.json("GET", "/v2/models/echo-FP32/versions/1/stats")[1]["model_stats"]
    assert after["inference_count"] == before["inference_count"] + 1
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
    assert [each["name"] for each in served.json("GET", "/v2/models/stats")[1]["model_stats"]][:2] == [
        "echo-FP32", "echo-FP16",
    ]  # fmt: skip


def test_hostile_bodies_never_break_the_server(served):
    """400 mutated bodies over one connection and more: each is answered, never with 500, and the next one is fine."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    try:
        for body, length in oip_fuzz.cases(400, seed=1):
            headers = {} if length is None else {"Inference-Header-Content-Length": str(length)}
            connection.request("POST", INFER, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status in {200, 400, 413}, text
            assert answer.status == 200 or list(json.loads(text)) == ["error"]
    finally:
        connection.close()
    assert served.json("POST", INFER, ONE)[0] == 200


def waits(started, go, name="waits"):
    """A model that says that it has begun, and ends when it may."""

    def run(inputs):
        started.set()
        go.wait(60)
        return {"y": inputs["x"]}

    tensors = [TensorInfo("x", "float32", (-1, 2))], [TensorInfo("y", "float32", (-1, 2))]
    return Model(name, *tensors, run, task="function", max_batch=1)


def test_a_deadline_in_the_request_holds():
    """The parameter `timeout`, in microseconds, ends the waiting with 504."""
    started, go = threading.Event(), threading.Event()
    with serving(waits(started, go)) as server:
        status, answer = server.json("POST", "/v2/models/waits/infer", ONE | {"parameters": {"timeout": 50_000}})
        go.set()
        assert (status, list(answer)) == (504, ["error"])


def test_who_goes_away_is_forgotten():
    """A request whose caller closes the connection leaves the queue."""
    started, go = threading.Event(), threading.Event()
    with serving(waits(started, go)) as server, concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(server.json, "POST", "/v2/models/waits/infer", ONE)
        assert started.wait(60)
        body = json.dumps(ONE).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            head = f"POST /v2/models/waits/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            while not server.plane.statistics("waits")[0].queued:
                pass
        while server.plane.statistics("waits")[0].queued:
            pass
        go.set()
        assert first.result()[0] == 200
        assert server.plane.statistics("waits")[0].outcomes == {"ok": 1, "cancelled": 1}


def test_models_come_and_go_by_name():
    """Only those that the site opens; nothing that a request brings is loaded."""
    with serving(echo("FP32")) as server:
        assert "model_repository" in server.json("GET", "/v2")[1]["extensions"]
        for parameters in {"config": "{}"}, {"file:1/model.onnx": "AAAA"}:
            status, answer = server.json("POST", "/v2/repository/models/late/load", {"parameters": parameters})
            assert (status, "away" in answer["error"]) == (400, True)
        index = server.json("POST", "/v2/repository/index", b"")[1]
        assert index[1:] == [{"name": "late", "version": "", "state": "UNAVAILABLE", "reason": "not loaded"}]
        assert len(server.json("POST", "/v2/repository/index", {"ready": True})[1]) == 1
        assert server.json("POST", "/v2/repository/models/other/load", b"")[0] == 404
        assert server.json("POST", "/v2/repository/models/late/load", b"")[0] == 200
        index = server.json("POST", "/v2/repository/index", {"ready": True})[1]
        assert [(each["name"], each["version"], each["state"]) for each in index] == [
            ("echo-FP32", "1", "READY"), ("late", "1", "READY"),
        ]  # fmt: skip
        assert server.json("POST", "/v2/models/late/infer", ONE)[0] == 200
        parameters = {"parameters": {"unload_dependents": False}}
        assert server.json("POST", "/v2/repository/models/late/unload", parameters)[0] == 200
        assert server.json("POST", "/v2/models/late/infer", ONE)[0] == 404
        assert server.json("POST", "/v2/repository/models/late/unload", b"")[0] == 404


def test_waiting_ends_with_the_first_of_answer_and_departure():
    """The answer where it comes, an error as it is; who leaves cancels the future; a dropped request says so."""

    async def never():
        await asyncio.Event().wait()

    async def gone():
        return {"type": "http.disconnect"}

    async def check():
        done, failed, open_, dropped = (concurrent.futures.Future() for _ in range(4))
        done.set_result(5)
        assert await answer_of(done, never) == 5
        failed.set_exception(InputError("no"))
        with pytest.raises(InputError):
            await answer_of(failed, never)
        with pytest.raises(ClientDisconnect):
            await answer_of(open_, gone)
        assert open_.cancelled()
        dropped.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            await answer_of(dropped, never)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1  # nothing keeps watching

    asyncio.run(check())


def test_labels_are_those_of_the_model(served):
    """More classes than there are give all of them."""
    x = {"name": "x", "shape": [1], "datatype": "BYTES", "data": ["no picture"]}
    outputs = [{"name": "probabilities", "parameters": {"classification": 99}}]
    assert served.json("POST", "/v2/models/colors/infer", {"inputs": [x], "outputs": outputs})[0] == 400
    x = {"name": "x", "shape": [1, 3, SIDE, SIDE], "datatype": "FP32", "data": [0.5] * (3 * SIDE * SIDE)}
    answer = served.json("POST", "/v2/models/colors/infer", {"inputs": [x], "outputs": outputs})[1]
    assert sorted(text.split(":")[2] for text in answer["outputs"][0]["data"]) == sorted(COLORS)


def test_what_takes_the_time_of_all_callers_is_refused(served):
    """Many strings, many classes, many numbers as JSON: each is refused before it is read or written."""
    strings = {"name": "x", "shape": [70_000, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 280_000}}
    head = json.dumps({"inputs": [strings]}).encode()
    sent = {"Inference-Header-Content-Length": str(len(head))}
    status, answer = served.json("POST", "/v2/models/echo-BYTES/infer", head + bytes(280_000), sent)
    assert (status, "65,536" in answer["error"]) == (413, True)

    numbers = {"name": "x", "shape": [1, 70_000], "datatype": "FP32", "parameters": {"binary_data_size": 280_000}}
    classes = [{"name": "y", "parameters": {"classification": 70_000}}]
    head = json.dumps({"inputs": [numbers], "outputs": classes}).encode()
    sent = {"Inference-Header-Content-Length": str(len(head))}
    status, answer = served.json("POST", INFER, head + bytes(280_000), sent)
    assert (status, "70,000 classes" in answer["error"]) == (413, True)

    head = json.dumps({"inputs": [numbers]}).encode()
    sent = {"Inference-Header-Content-Length": str(len(head))}
    status, answer = served.json("POST", INFER, head + bytes(280_000), sent)
    assert (status, len(answer["outputs"][0]["data"])) == (200, 70_000)
