"""GraphPipe over HTTP, with the original client, with http.client and with bare sockets."""

import asyncio
import contextlib
import http.client
import json
import socket
import struct
import threading
import time

import numpy as np
import pytest
import requests
from graphpipe import remote
from serve import graphpipe_messages as messages
from serve.graphpipe_server import MODELS, Model, served

from imagelake.serve import graphpipe
from imagelake.serve.batch_options import BatchOptions
from imagelake.serve.graphpipe_http import routes
from imagelake.serve.plane import Plane
from imagelake.serve.site import Limits, Site
from imagelake.serve.tensor_info import TensorInfo

X = np.arange(6, dtype="float32").reshape(2, 3)
pytestmark = pytest.mark.filterwarnings("ignore:numElems is deprecated")  # the original client is of 2018


@pytest.fixture(scope="module")
def server():
    with served() as running:
        yield running


def post(server, path, body, headers=None):
    """Status, headers and body of the answer to one request."""
    with contextlib.closing(http.client.HTTPConnection(*server.where, timeout=30)) as connection:
        connection.request("POST", path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def ask(server, path, inputs, *names):
    status, _, body = post(server, path, graphpipe.encode_request(inputs, *names).join())
    assert status == 200, body
    return graphpipe.decode_infer_response(body).outputs


def test_the_original_client_asks(server):
    """The client of 2018 runs the default model, and any model by its name, unchanged."""
    outputs = remote.execute(server.url, X)
    assert [each.tolist() for each in outputs] == [(2 * X).tolist(), (X > 0).astype("uint8").tolist()]
    assert remote.execute(f"{server.url}/graphpipe/multiply", X, "x", "y").tolist() == (2 * X).tolist()
    by = np.array([5.0])
    found = remote.execute_multi(f"{server.url}/graphpipe/multiply/7", [by, X], ["by", "x"], ["positive", "y"])
    assert found[1].tolist() == (5 * X).tolist()
    assert found[0].dtype == np.uint8
    words = remote.execute(f"{server.url}/graphpipe/shout", messages.strings(b"b\0r", b"foo"))
    assert words.tolist() == [b"B\0R", b"FOO"]


def test_the_original_client_asks_for_metadata(server):
    """The client of 2018 reads names, types and shapes."""
    assert remote.get_input_names(server.url) == ["x", "by"]
    assert remote.get_output_names(server.url) == ["y", "positive"]
    assert remote.get_input_types(server.url) == [np.float32, np.float64]
    assert remote.get_output_types(server.url) == [np.float32, np.uint8]
    assert remote.get_input_shapes(server.url) == [[None, 3], [1]]
    said = remote.metadata(server.url)
    assert (said.Name(), said.Version(), said.Description()) == (b"multiply", b"7", b"doubles")


def test_the_original_client_is_told_of_errors(server):
    """Every error is a status other than 200: the client of 2018 sees nothing else."""
    for path, status in [("/graphpipe/nothing", 404), ("/graphpipe/multiply/8", 404), ("/graphpipe/shout", 400)]:
        with pytest.raises(requests.HTTPError, match=f"^{status} "):
            remote.execute(server.url + path, X)


def test_get_gives_json(server):
    """GET gives metadata as JSON with the names and type numbers of the first servers."""
    with contextlib.closing(http.client.HTTPConnection(*server.where)) as connection:
        for path in ("/", "/graphpipe/multiply", "/graphpipe/multiply/7"):
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.headers["Content-Type"] == "application/json"
            found = json.loads(answer.read())
            assert found.pop("Server").startswith("imagelake ")
            assert found == {
                "Name": "multiply", "Version": "7", "Description": "doubles",
                "Inputs": [
                    {"Name": "x", "Description": "rows", "Shape": [-1, 3], "Type": 10},
                    {"Name": "by", "Description": "", "Shape": [1], "Type": 11},
                ],
                "Outputs": [
                    {"Name": "y", "Description": "twice", "Shape": [-1, 3], "Type": 10},
                    {"Name": "positive", "Description": "", "Shape": [-1, 3], "Type": 1},
                ],
            }  # fmt: skip
        connection.request("HEAD", "/")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
        connection.request("DELETE", "/")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, POST")
        answer.read()


def test_outputs_come_in_the_order_asked_for(server):
    """Outputs come as they were asked for, one of them twice where it was asked for twice; none asked for: all."""
    assert [each.dtype.name for each in ask(server, "/", [X])] == ["float32", "uint8"]
    found = ask(server, "/", [X], [], ["positive", "y", "positive"])
    assert [each.dtype.name for each in found] == ["uint8", "float32", "uint8"]


def test_inputs_of_bool_are_sent_as_uint8(server):
    """What a model takes as bool comes as uint8, and any number but 0 is true."""
    assert ask(server, "/graphpipe/flags", [np.array([0, 1, 2, 255], "uint8")])[0].tolist() == [3]


def test_arrays_reach_the_model_without_a_copy():
    """What a model gets looks into the buffer of the body, and cannot be written."""
    big = np.arange(30_000, dtype="float32").reshape(-1, 3)
    model = Model("m", lambda inputs: {"y": inputs["x"]}, MODELS[0].inputs[:1], MODELS[0].outputs[:1])
    with served(model) as server:
        assert ask(server, "/", [big])[0].tolist() == big.tolist()
    array = model.seen[0]["x"]
    assert not array.flags.writeable
    assert not array.flags.owndata


def test_onnx_runtime_takes_what_comes(tmp_path):
    """ONNX Runtime reads arrays that are read-only and lie at any alignment."""
    import onnxruntime
    from onnx import TensorProto, helper

    info = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "x"], ["y"])], "g", info[:1], info[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    written = bytes(graphpipe.encode_request([np.arange(300.0).reshape(100, 3)]).join())
    for shift in range(8):
        array = graphpipe.decode_request(memoryview(bytes(shift) + written)[shift:]).inputs[0]
        assert session.run(None, {"x": array})[0].tolist() == (array * array).tolist()


BAD = [
    ("", b"", 400, "too few"),
    ("", b"\0" * 100, 400, "outside"),
    ("", b'{"inputs": [1, 2]}', 400, "GraphPipe request"),
    ("", messages.other_request(0), 400, "neither"),
    ("", messages.other_request(9), 400, "neither"),
    ("graphpipe/refuse", graphpipe.encode_request([messages.strings(b"a")]).join(), 400, "cannot do that"),
    ("", graphpipe.encode_request([X.astype("float64")]).join(), 400, "float32"),
    ("", graphpipe.encode_request([X[:, :2]]).join(), 400, "float32"),
    ("", graphpipe.encode_request([X], ["z"]).join(), 400, "no input z"),
    ("", graphpipe.encode_request([X, X, X]).join(), 400, "which takes 2"),
    ("", graphpipe.encode_request([X, X], ["x", "x"]).join(), 400, "twice"),
    ("", graphpipe.encode_request([X], [], ["z"]).join(), 400, "no output z"),
    ("", graphpipe.encode_request([]).join(), 400, "lacks the input"),
    ("", graphpipe.encode_request([X] * 65).join(), 413, "in parts"),
    ("graphpipe/nothing", graphpipe.encode_metadata_request().join(), 404, "not served"),
    ("graphpipe/fail", graphpipe.encode_request([messages.strings(b"a")]).join(), 500, "internal error"),
]


@pytest.mark.parametrize(("path", "body", "status", "said"), BAD, ids=range(len(BAD)))
def test_what_cannot_be_answered(server, path, body, status, said):
    """A request that cannot be answered gets its status, and a line of text that says why, and no secret."""
    found, headers, text = post(server, f"/{path}", body)
    assert (found, headers["Content-Type"]) == (status, "text/plain; charset=utf-8")
    assert said in text.decode()
    assert b"secret" not in text


def test_any_content_type_is_taken(server):
    """The Content-Type of a message does not matter."""
    body = graphpipe.encode_request([X], [], ["y"]).join()
    for kind in ("application/x-www-form-urlencoded", "application/json", "x"):
        status, headers, answer = post(server, "/", body, {"Content-Type": kind})
        assert status == 200
        assert headers["Content-Type"] == "application/octet-stream"
        assert graphpipe.decode_infer_response(answer).outputs[0].tolist() == (2 * X).tolist()


def test_a_connection_is_kept(server):
    """Many requests, good and bad, are answered on one connection."""
    body = graphpipe.encode_request([X], [], ["y"]).join()
    with contextlib.closing(http.client.HTTPConnection(*server.where)) as connection:
        connection.connect()
        port = connection.sock.getsockname()[1]
        for wrong in (False, True, False):
            connection.request("POST", "/", b"wrong" if wrong else body)
            answer = connection.getresponse()
            assert answer.status == (400 if wrong else 200)
            answer.read()
            assert connection.sock.getsockname()[1] == port


@contextlib.contextmanager
def opened(server, head, *lines):
    """A socket on which the head of a request was sent, and a file to read the answer from."""
    with socket.create_connection(server.where, timeout=30) as sock, sock.makefile("rb") as answer:
        sock.sendall("\r\n".join([head, "Host: x", *lines, "", ""]).encode())
        yield sock, answer


def read_answer(answer):
    """Status and body of one answer on a socket."""
    status = int(answer.readline().split()[1])
    headers = http.client.parse_headers(answer)
    return status, answer.read(int(headers["Content-Length"]))


def test_expect_continue(server):
    """Who asks whether to go on is told to, once, and then answered; it is not told to where it is refused."""
    body = bytes(graphpipe.encode_request([X], [], ["y"]).join())
    lines = [f"Content-Length: {len(body)}", "Expect: 100-continue"]
    with opened(server, "POST / HTTP/1.1", *lines) as (sock, answer):
        assert answer.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert answer.readline() == b"\r\n"
        sock.sendall(body)
        status, found = read_answer(answer)
        assert status == 200
        assert graphpipe.decode_infer_response(found).outputs[0].tolist() == (2 * X).tolist()
    with opened(server, "POST /graphpipe/nothing HTTP/1.1", *lines) as (_, answer):
        assert read_answer(answer)[0] == 404


def test_a_chunked_body(server):
    """A body whose length is not told comes in chunks."""
    body = bytes(graphpipe.encode_request([X], [], ["y"]).join())
    with opened(server, "POST / HTTP/1.1", "Transfer-Encoding: chunked") as (sock, answer):
        for start in range(0, len(body), 50):
            chunk = body[start : start + 50]
            sock.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        sock.sendall(b"0\r\n\r\n")
        _, found = read_answer(answer)
        assert graphpipe.decode_infer_response(found).outputs[0].tolist() == (2 * X).tolist()


def test_pipelined_requests(server):
    """Requests that are sent before their answers are read are answered in their order."""
    one = bytes(graphpipe.encode_request([X], [], ["y"]).join())
    meta = bytes(graphpipe.encode_metadata_request().join())
    both = b"".join(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(b), b) for b in (one, meta, one)
    )
    with socket.create_connection(server.where, timeout=30) as sock, sock.makefile("rb") as answer:
        sock.sendall(both)
        assert len(graphpipe.decode_infer_response(read_answer(answer)[1]).outputs) == 1
        assert graphpipe.decode_metadata_response(read_answer(answer)[1]).name == "multiply"
        assert len(graphpipe.decode_infer_response(read_answer(answer)[1]).outputs) == 1


def test_lying_lengths():
    """A body that is announced too large is refused unread, and one that ends early harms nobody."""
    with served(limits=Limits(max_body=10_000, body_timeout_s=0.2)) as server:
        with opened(server, "POST / HTTP/1.1", "Content-Length: 20000") as (_, answer):
            assert read_answer(answer)[0] == 413
        with opened(server, "POST / HTTP/1.1", "Content-Length: 100000000000000000") as (_, answer):
            assert read_answer(answer)[0] == 413
        with opened(server, "POST / HTTP/1.1", "Content-Length: 500") as (sock, answer):
            sock.sendall(b"too little")
            assert read_answer(answer)[0] == 408
        with opened(server, "POST / HTTP/1.1", "Content-Length: 500") as (sock, answer):
            sock.sendall(b"too little")
            sock.shutdown(socket.SHUT_RDWR)
        with opened(server, "POST / HTTP/1.1", "Transfer-Encoding: chunked") as (sock, answer):
            for _ in range(3):
                sock.sendall(b"%x\r\n%b\r\n" % (4000, bytes(4000)))
            assert read_answer(answer)[0] == 413
        assert ask(server, "/", [X], [], ["y"])[0].tolist() == (2 * X).tolist()


def test_lengths_inside_lie(server):
    """A message whose vector is said to be larger than everything is refused."""
    body = bytearray(graphpipe.encode_request([X], [], ["y"]).join())
    at = body.index(struct.pack("<I", X.nbytes) + X.tobytes())
    for length in (X.nbytes + 4, 0xFFFFFFFF, 0x7FFFFFFF, 0):
        body[at : at + 4] = struct.pack("<I", length)
        assert post(server, "/", bytes(body))[0] == 400


def test_a_full_queue_and_a_deadline():
    """What waits too long is answered with 504, what finds no room with 503 and when to come again."""
    words = graphpipe.encode_request([messages.strings(b"a")], [], []).join()
    slow = MODELS[-1]
    with served(slow, limits=Limits(timeout_s=0.1), options=BatchOptions(instances=1, max_queue=1)) as server:
        assert post(server, "/", words)[0] == 504
    began, going = threading.Event(), threading.Event()

    def hold(inputs):
        began.set()
        going.wait(30)
        return inputs

    held = Model("held", hold, slow.inputs, slow.outputs)
    found = []
    with served(held, options=BatchOptions(instances=1, max_queue=1)) as server:
        callers = [threading.Thread(target=lambda: found.append(post(server, "/", words)[0])) for _ in range(2)]
        callers[0].start()
        began.wait(30)
        callers[1].start()
        while server.plane.has_room("held"):
            time.sleep(0.01)
        large = graphpipe.encode_request([messages.strings(b"a" * 2000)]).join()
        for body in (words, large):
            status, headers, _ = post(server, "/", body)
            assert (status, headers["Retry-After"]) == (503, "1")
        assert post(server, "/", graphpipe.encode_metadata_request().join())[0] == 200
        going.set()
        for caller in callers:
            caller.join()
    assert found == [200, 200]


def test_who_goes_away_waits_no_more():
    """The request of a client that hangs up leaves the queue."""
    began, going = threading.Event(), threading.Event()

    def hold(inputs):
        began.set()
        going.wait(30)
        return inputs

    held = Model("held", hold, MODELS[-1].inputs, MODELS[-1].outputs)
    body = bytes(graphpipe.encode_request([messages.strings(b"a")]).join())
    head = ["POST / HTTP/1.1", f"Content-Length: {len(body)}"]
    with served(held) as server, opened(server, *head) as (sock, _):
        sock.sendall(body)
        began.wait(30)
        with opened(server, *head) as (other, _):
            other.sendall(body)
            while server.plane.statistics("held")[0].queued == 0:
                time.sleep(0.01)
        while server.plane.statistics("held")[0].queued:
            time.sleep(0.01)
        going.set()
    assert len(held.seen) == 1


def test_there_is_no_model():
    """A server without models says so."""
    sent = []

    async def send(message):
        sent.append(message)

    with Plane() as plane:
        door = routes(Site(plane))[0].app
        asyncio.run(door({"method": "GET", "headers": []}, None, send))
    assert sent[0]["status"] == 404


def test_large_answers_are_sent_whole():
    """An answer of many megabytes, of several arrays, of any layout and with strings between, comes whole."""
    rng = np.random.default_rng(1)
    outputs = {
        "a": rng.random((1000, 1000)),
        "b": np.asfortranarray(rng.random((500, 700), dtype="float32")),
        "c": messages.strings(rng.bytes(200_000), b"", rng.bytes(40_000)),
        "d": np.zeros((0, 7), "int8"),
    }
    infos = tuple(TensorInfo(name, array.dtype.name, array.shape) for name, array in outputs.items())
    with served(Model("m", lambda _: outputs, MODELS[1].inputs, infos)) as server:
        found = ask(server, "/", [messages.strings(b"")])
    for one, other in zip(found, outputs.values(), strict=True):
        assert one.tolist() == other.tolist()
        assert one.shape == other.shape
