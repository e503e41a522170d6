import asyncio
import contextlib
import io
import json
import queue
import socket
import subprocess
import threading
from concurrent.futures import Future

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from imagelake.errors import InputError
from imagelake.serve.api_keys import read_keys
from imagelake.serve.guard import GuardOptions
from imagelake.serve.oip_grpc import serving_grpc
from imagelake.serve.oip_grpc_intake import MAX_PARTS, MAX_TYPED
from imagelake.serve.oip_types import DTYPES, MAX_STRINGS
from imagelake.serve.plane import BatchOptions, Plane
from imagelake.serve.rate_limit import RateLimit
from imagelake.serve.request_log import LineWriter, RequestLog
from imagelake.serve.site import Limits, Site
from imagelake.serve.tensor_info import TensorInfo


class Model:
    """A model of one function, whose answer can be held back."""

    version, platform, description, fingerprint, labels, task = "1", "python", "", "f", (), "function"

    def __init__(self, name, function, inputs, outputs, *, labels=(), max_batch=0):
        self.name, self._function, self.inputs, self.outputs = name, function, inputs, outputs
        self.labels, self.max_batch = labels, max_batch
        self.started, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.closed = False

    def run(self, inputs, outputs):
        self.started.set()
        assert self.go_on.wait(30)
        answers = self._function(inputs)
        return {name: answers[name] for name in outputs}

    def close(self):
        self.closed = True


def echo(datatype):
    dtype = DTYPES[datatype].name
    info = (TensorInfo("x", dtype, (-1, 2)),)
    return Model(f"echo-{datatype}", lambda inputs: {"y": inputs["x"]}, info, (TensorInfo("y", dtype, (-1, 2)),))


def sizes():
    """Takes pictures, and gives the length of each in bytes and three scores."""

    def run(inputs):
        array = inputs["image"]
        lengths = [len(one) for one in array] if array.dtype == object else [-1] * len(array)
        scores = np.array([[0.25, 0.5, 0.125]] * len(array), np.float32)
        return {"size": np.array(lengths, np.int64), "scores": scores}

    takes = (TensorInfo("image", "uint8", (-1, 4, 4, 3), pictures=True),)
    gives = (TensorInfo("size", "int64", (-1,)), TensorInfo("scores", "float32", (-1, 3)))
    return Model("sizes", run, takes, gives, labels=("cat", "dog", "owl"), max_batch=8)


def breaks():
    def run(_):
        raise ZeroDivisionError("/home/somebody/secret")

    return Model("breaks", run, (TensorInfo("x", "float32", (-1,)),), (TensorInfo("y", "float32", (-1,)),))


@contextlib.contextmanager
def running(site, options=None, grace_s=10.0, tls=None):
    """A server on an event loop in a thread; gives its address and a function that begins to end it."""
    where, ending = Future(), Future()

    async def main():
        end = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with serving_grpc(site, "127.0.0.1", 0, options, grace_s=grace_s, tls=tls) as address:
            where.set_result(address)
            ending.set_result(lambda: loop.call_soon_threadsafe(end.set) if not loop.is_closed() else None)
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    stop = ending.result(timeout=30)
    try:
        yield where.result(timeout=30), stop
    finally:
        stop()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def site():
    with Plane() as plane:
        for datatype in DTYPES:
            plane.load(echo(datatype))
        plane.load(sizes())
        plane.load(breaks())
        plane.load(echo("FP32"))
        yield Site(plane, Limits(max_body=8 << 20))


@pytest.fixture(scope="module")
def address(site):
    with running(site) as (address, _):
        yield address


@pytest.fixture(scope="module")
def client(address):
    with triton.InferenceServerClient(address) as client:
        yield client


def given(name, array, datatype=None):
    tensor = triton.InferInput(name, array.shape, datatype or np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


VALUES = {
    "BOOL": np.array([[True, False]]),
    "FP16": np.array([[0.5, -np.inf]], np.float16),
    "FP32": np.array([[1.5, np.nan]], np.float32),
    "FP64": np.array([[1e300, 0.1]]),
    "BYTES": np.array([[b"", b"\x00\xffa"]], dtype=object),
}


@pytest.mark.parametrize("datatype", DTYPES)
def test_each_datatype_comes_back(client, datatype):
    """What a client sends to a model that gives it back, it gets back: every type, every bit."""
    array = VALUES.get(datatype)
    if array is None:
        limits = np.iinfo(DTYPES[datatype])
        array = np.array([[limits.min, limits.max]], DTYPES[datatype])
    answer = client.infer(f"echo-{datatype}", [given("x", array)], request_id="7").as_numpy("y")
    assert answer.dtype == array.dtype
    np.testing.assert_array_equal(answer, array)


@pytest.mark.parametrize("datatype", DTYPES)
def test_no_rows_come_back(client, datatype):
    """An empty tensor is a request like any other."""
    array = np.empty((0, 2), DTYPES[datatype])
    assert client.infer(f"echo-{datatype}", [given("x", array)]).as_numpy("y").shape == (0, 2)


def test_typed_contents_are_understood(address):
    """A request without raw bytes, as clients write that were made from the schema alone."""
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name="echo-INT32")
    request.inputs.add(name="x", datatype="INT32", shape=[1, 2]).contents.int_contents.extend([-1, 2**31 - 1])
    with grpc.insecure_channel(address) as channel:
        answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    assert np.frombuffer(answer.raw_output_contents[0], np.int32).tolist() == [-1, 2**31 - 1]


def test_a_message_larger_than_the_default_passes(client):
    """A message of more than 4 MiB is refused by gRPC itself; the limit is the server's."""
    array = np.zeros((900_000, 2), np.float32)
    assert client.infer("echo-FP32", [given("x", array)]).as_numpy("y").nbytes == array.nbytes


def test_pictures_are_bytes_of_shape_n(client):
    """A picture model takes its tensor, or n encoded pictures as n strings."""
    pictures = np.array([b"12345", b"\xff\xd8\x00\x00"], dtype=object)
    assert client.infer("sizes", [given("image", pictures)]).as_numpy("size").tolist() == [5, 4]
    tensor = np.zeros((2, 4, 4, 3), np.uint8)
    assert client.infer("sizes", [given("image", tensor)]).as_numpy("size").tolist() == [-1, -1]


def test_outputs_come_in_the_order_that_is_asked(client):
    """Only what is named, classes where they are asked for."""
    asked = [triton.InferRequestedOutput("scores", class_count=2), triton.InferRequestedOutput("size")]
    answer = client.infer("sizes", [given("image", np.array([b"1"], object))], outputs=asked, request_id="a-7")
    assert [output.name for output in answer.get_response().outputs] == ["scores", "size"]
    assert answer.as_numpy("scores").tolist() == [[b"0.5:1:dog", b"0.25:0:cat"]]
    assert answer.get_response().id == "a-7"


def test_the_server_tells_of_itself(client, site):
    """Health, metadata, configuration, index and statistics, as the client reads them."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sizes")
    assert client.is_model_ready("sizes", "1")
    assert not client.is_model_ready("sizes", "2")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata().name == "imagelake"
    metadata = client.get_model_metadata("sizes", as_json=True)
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": ["-1", "4", "4", "3"]}]
    assert client.get_model_config("sizes").config.max_batch_size == 8
    index = client.get_model_repository_index().models
    assert {(one.name, one.version, one.state) for one in index} == {
        (name, "1", "READY") for name in site.plane.names()
    }
    client.infer("echo-FP64", [given("x", np.zeros((1, 2)))])
    told = client.get_inference_statistics("echo-FP64").model_stats[0]
    assert told.inference_count >= 1
    assert told.inference_stats.success.ns > 0
    assert len(client.get_inference_statistics().model_stats) == len(site.plane.names())


@pytest.mark.parametrize(
    ("name", "version", "array", "code", "why"),
    [
        ("nothing", "", np.zeros((1, 2), np.float32), "NOT_FOUND", "not served"),
        ("echo-FP32", "9", np.zeros((1, 2), np.float32), "NOT_FOUND", "version"),
        ("echo-FP32", "", np.zeros((1, 3), np.float32), "INVALID_ARGUMENT", "[1, 3]"),
        ("echo-FP32", "", np.zeros((1, 2), np.int8), "INVALID_ARGUMENT", ""),
        ("breaks", "", np.zeros(1, np.float32), "INTERNAL", "internal error"),
        ("echo-FP32", "", np.zeros((9 << 20, 1), np.int8), "RESOURCE_EXHAUSTED", "max"),
    ],
)
def test_an_error_has_its_status(client, name, version, array, code, why):
    """Each kind of error has its code, a message for its caller, and nothing of this machine in it."""
    with pytest.raises(InferenceServerException) as refused:
        client.infer(name, [given("x", array)], model_version=version)
    assert refused.value.status() == f"StatusCode.{code}"
    assert why in refused.value.message()
    assert "/home" not in refused.value.message()


def test_a_lying_length_is_the_callers_error(address):
    """Raw bytes that are not what type and shape say are refused before anything is made of them."""
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name="echo-FP32", raw_input_contents=[b"1234"])
    request.inputs.add(name="x", datatype="FP32", shape=[2**40, 2**40])
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as refused:
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_stream_answers_each_request(client):
    """A stream is answered in its order; one that is wrong has an error as its answer, and ends nothing."""
    answers = queue.SimpleQueue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    try:
        for row in range(3):
            client.async_stream_infer("echo-FP32", [given("x", np.full((1, 3 if row == 1 else 2), row, np.float32))])
        found = [answers.get(timeout=30) for _ in range(3)]
    finally:
        client.stop_stream()
    assert [error is None for _, error in found] == [True, False, True]
    assert found[2][0].as_numpy("y").tolist() == [[2.0, 2.0]]


def test_the_async_client_works(address):
    """The client for asyncio sees the same server."""

    async def ask():
        async with triton_aio.InferenceServerClient(address) as client:
            answer = await client.infer("echo-INT8", [given("x", np.array([[1, -1]], np.int8))])
            return answer.as_numpy("y").tolist()

    assert asyncio.run(ask()) == [[1, -1]]


@pytest.fixture
def slow():
    """A model that holds its answer back, and a site with it."""
    model = echo("FP32")
    with Plane() as plane:
        plane.load(model, BatchOptions(max_queue=1), warm_up=False)
        model.started.clear()
        model.go_on.clear()
        yield model, Site(plane)
        model.go_on.set()


ONE = np.ones((1, 2), np.float32)


def test_the_callers_deadline_holds(slow):
    """Who sets a time limit is told when it has passed, by the transport or by the server."""
    model, site = slow
    with running(site) as (address, _), triton.InferenceServerClient(address) as client:
        for options in ({"client_timeout": 0.2}, {"timeout": 200_000}):
            with pytest.raises(InferenceServerException) as late:
                client.infer(model.name, [given("x", ONE)], **options)
            assert late.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        model.go_on.set()


def test_a_full_queue_is_unavailable(slow):
    """Where too many wait, the next is refused at once; who goes away makes room."""
    model, site = slow
    with running(site) as (address, _), triton.InferenceServerClient(address) as client:
        answers = queue.SimpleQueue()

        def ask():
            return client.async_infer(model.name, [given("x", ONE)], lambda result, error: answers.put((result, error)))

        ask()
        assert model.started.wait(30)
        waiting = ask()
        while site.plane.has_room(model.name):
            threading.Event().wait(0.01)
        with pytest.raises(InferenceServerException) as refused:
            client.infer(model.name, [given("x", ONE)])
        assert refused.value.status() == "StatusCode.UNAVAILABLE"
        waiting.cancel()
        while not site.plane.has_room(model.name):
            threading.Event().wait(0.01)
        model.go_on.set()
        results = [answers.get(timeout=30) for _ in range(2)]
        assert sorted(error is None for _, error in results) == [False, True]


def test_what_was_accepted_is_answered_at_the_end(slow):
    """A server that ends answers first what it has taken."""
    model, site = slow
    with running(site) as (address, stop), triton.InferenceServerClient(address) as client:
        answers = queue.SimpleQueue()
        client.async_infer(model.name, [given("x", ONE)], lambda result, error: answers.put((result, error)))
        assert model.started.wait(30)
        stop()
        with contextlib.suppress(InferenceServerException):
            while client.is_server_live():
                threading.Event().wait(0.01)
        model.go_on.set()
        result, error = answers.get(timeout=30)
        assert error is None
        assert result.as_numpy("y").tolist() == ONE.tolist()


def test_a_key_opens_all_but_the_health(site):
    """Without the key only live and ready are told; with it everything; and no key is ever in the log."""
    stream = io.StringIO()
    log = RequestLog(LineWriter(stream), "debug")
    keys = read_keys("phone:s3cret-key", "test")
    with (
        running(site, GuardOptions(keys=keys, log=log)) as (address, _),
        triton.InferenceServerClient(address) as client,
    ):
        assert client.is_server_ready()
        for headers in (None, {"authorization": "Bearer wrong-key"}, {"x-api-key": "s3cret"}):
            with pytest.raises(InferenceServerException) as refused:
                client.infer("echo-FP32", [given("x", ONE)], headers=headers)
            assert refused.value.status() == "StatusCode.UNAUTHENTICATED"
        for headers in ({"authorization": "Bearer s3cret-key"}, {"x-api-key": "s3cret-key"}):
            headers["x-request-id"] = "from-a-test"
            assert client.infer("echo-FP32", [given("x", ONE)], headers=headers)
    log.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    asked = [line for line in lines if line["path"].endswith("ModelInfer")]
    assert {line["key"] for line in asked if line["status"] == "OK"} == {"phone"}
    assert {line["request_id"] for line in asked if line["status"] == "OK"} == {"from-a-test"}
    assert "s3cret" not in stream.getvalue()
    assert "wrong-key" not in stream.getvalue()


def test_the_rate_limit_is_of_each_caller(site):
    """Who asks too often is told so, and after how long to ask again."""
    limit = RateLimit(0.001, 2)
    with running(site, GuardOptions(rate_limit=limit)) as (address, _), triton.InferenceServerClient(address) as client:
        for _ in range(2):
            client.infer("echo-FP32", [given("x", ONE)])
        with pytest.raises(InferenceServerException, match="requests a second") as refused:
            client.infer("echo-FP32", [given("x", ONE)])
        assert refused.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
        assert client.is_server_live()


def test_models_are_loaded_only_where_it_is_allowed(client):
    """Without permission, the repository is only looked at; with it, by name and from nowhere else."""
    for call in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException) as refused:
            call("echo-FP32")
        assert refused.value.status() == "StatusCode.PERMISSION_DENIED"
    with Plane() as plane:
        site = Site(plane, open_model=lambda name: echo(name.removeprefix("echo-")))
        with running(site) as (address, _), triton.InferenceServerClient(address) as other:
            other.load_model("echo-INT8")
            assert other.is_model_ready("echo-INT8")
            with pytest.raises(InferenceServerException, match="parameters"):
                other.load_model("echo-INT8", config="{}", files={"file:1/model.onnx": b"x"})
            other.unload_model("echo-INT8")
            assert not other.is_model_ready("echo-INT8")
            with pytest.raises(InferenceServerException) as refused:
                other.unload_model("echo-INT8")
            assert refused.value.status() == "StatusCode.NOT_FOUND"


def test_a_port_that_is_taken_is_an_error():
    """The address is had or not; two servers never share one."""

    async def serve(port):
        async with serving_grpc(Site(plane), "127.0.0.1", port):
            pass

    with (
        Plane() as plane,
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(InputError, match="Cannot listen"),
    ):
        asyncio.run(serve(taken.getsockname()[1]))


def varint(number):
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def ask_bytes(address, message, timeout=60):
    """Send bytes as the message of ModelInfer; gives the code and the message of the refusal."""
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(message, timeout=timeout)
    return refused.value.code().name, refused.value.details()


@pytest.mark.parametrize(
    ("message", "code", "why"),
    [
        (b"", "NOT_FOUND", "not served"),
        (b"\xff", "INVALID_ARGUMENT", "ModelInferRequest"),
        (b"\x0a\x7fx", "INVALID_ARGUMENT", "ModelInferRequest"),
        (b"\x0b\x0c", "INVALID_ARGUMENT", "group"),
        (b"\xff" * 11, "INVALID_ARGUMENT", "ModelInferRequest"),
        (field(1, b"\xff"), "INVALID_ARGUMENT", "ModelInferRequest"),
        (field(5, b"") * (MAX_PARTS + 1), "RESOURCE_EXHAUSTED", "parts"),
        (field(5, field(5, field(8, b"") * (MAX_PARTS + 1))), "RESOURCE_EXHAUSTED", "parts"),
        (field(6, field(2, b"") * (MAX_PARTS + 1)), "RESOURCE_EXHAUSTED", "parts"),
        (field(5, field(5, field(3, b"\x01" * (MAX_TYPED + 1)))), "RESOURCE_EXHAUSTED", "typed"),
        (field(5, field(3, b"\x01" * (MAX_TYPED + 1))), "RESOURCE_EXHAUSTED", "typed"),
    ],
)
def test_what_a_message_is_made_of_is_bounded(address, message, code, why):
    """A message whose parts would take far more memory than its bytes is refused before it is parsed."""
    found, told = ask_bytes(address, message)
    assert found == code
    assert why in told


def test_strings_are_bounded(client):
    """More strings than are taken at once are refused; each is an object, and takes the time of all callers."""
    with pytest.raises(InferenceServerException, match="65,536") as refused:
        client.infer("echo-BYTES", [given("x", np.full((MAX_STRINGS // 2 + 1, 2), b"", object))])
    assert refused.value.status() == "StatusCode.RESOURCE_EXHAUSTED"


def test_raw_tensors_keep_their_order(address):
    """Raw bytes may stand anywhere in a message, and are taken in their order."""
    from tritonclient.grpc import service_pb2

    one, two = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)
    asked = service_pb2.ModelInferRequest(model_name="add")
    for name in ("a", "b"):
        asked.inputs.add(name=name, datatype="FP32", shape=[1, 2])
    message = field(7, one.tobytes()) + asked.SerializeToString() + field(7, two.tobytes())
    infos = tuple(TensorInfo(name, "float32", (-1, 2)) for name in ("a", "b"))
    with Plane() as plane:
        plane.load(
            Model("add", lambda given: {"y": given["a"] - given["b"]}, infos, (TensorInfo("y", "float32", (-1, 2)),))
        )
        with running(Site(plane)) as (where, _), grpc.insecure_channel(where) as channel:
            answer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(message, timeout=60)
    raw = service_pb2.ModelInferResponse.FromString(answer).raw_output_contents[0]
    assert np.frombuffer(raw, np.float32).tolist() == [-2, -2]


def test_only_some_messages_arrive_at_once(site):
    """Who opens a call and sends nothing holds a place for a bounded time; the others wait for it, and are answered."""
    limits = Limits(max_body=1 << 20, body_budget=2 << 20, body_timeout_s=3)
    with running(Site(site.plane, limits)) as (address, _), grpc.insecure_channel(address) as channel:
        silent = threading.Event()

        def nothing():
            silent.wait(30)
            yield from ()

        idle = channel.stream_stream("/inference.GRPCInferenceService/ModelInfer")(nothing())
        with triton.InferenceServerClient(address) as client:
            assert client.infer("echo-FP32", [given("x", ONE)]).as_numpy("y").shape == (1, 2)
        with pytest.raises(grpc.RpcError) as late:
            next(idle)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        silent.set()


def test_the_budget_holds_for_what_has_arrived(slow):
    """What waits for a model is counted, and who would be too much is refused; an answer makes room again."""
    model, site = slow
    site = Site(site.plane, Limits(max_body=1 << 20, body_budget=1 << 20))
    array = np.zeros((80_000, 2), np.float32)
    with running(site) as (address, _), triton.InferenceServerClient(address) as client:
        answers = queue.SimpleQueue()
        client.async_infer(model.name, [given("x", array)], lambda result, error: answers.put((result, error)))
        assert model.started.wait(30)
        with pytest.raises(InferenceServerException, match="bodies of other requests") as refused:
            client.infer(model.name, [given("x", array)])
        assert refused.value.status() == "StatusCode.UNAVAILABLE"
        model.go_on.set()
        assert answers.get(timeout=30)[1] is None
        assert client.infer(model.name, [given("x", array)]).as_numpy("y").shape == array.shape


def test_while_models_open_nothing_is_missing(site):
    """A server that still opens its models says so, and not that there is no such model."""
    starting = Site(site.plane)
    starting.lifecycle.starting = True
    with running(starting) as (address, _), triton.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert not client.is_server_ready()
        assert not client.is_model_ready("not-yet")
        with pytest.raises(InferenceServerException, match="not open yet") as refused:
            client.infer("not-yet", [given("x", ONE)])
        assert refused.value.status() == "StatusCode.UNAVAILABLE"
        starting.lifecycle.starting = False
        assert client.is_server_ready()


def test_the_rate_of_a_key_holds_within_a_stream(site):
    """Each request of a stream counts, with keys as without."""
    options = GuardOptions(keys=read_keys("phone:s3cret-key", "test"), rate_limit=RateLimit(0.001, 2))
    with running(site, options) as (address, _), triton.InferenceServerClient(address) as client:
        answers = queue.SimpleQueue()
        client.start_stream(
            lambda result, error: answers.put((result, error)), headers={"authorization": "Bearer s3cret-key"}
        )
        try:
            for _ in range(3):
                client.async_stream_infer("echo-FP32", [given("x", ONE)])
            found = [answers.get(timeout=30)[1] for _ in range(3)]
        finally:
            client.stop_stream()
    assert [error is None for error in found] == [True, True, False]
    assert "requests a second" in str(found[2])


def test_streams_are_counted(site):
    """An idle stream may wait for ever; so only some are open at once."""
    limits = Limits(max_body=1 << 20, body_budget=3 << 20)
    with contextlib.ExitStack() as stack:
        address, _ = stack.enter_context(running(Site(site.plane, limits)))
        clients = [stack.enter_context(triton.InferenceServerClient(address)) for _ in range(3)]
        answers = queue.SimpleQueue()
        for client in clients:
            client.start_stream(lambda result, error: answers.put((result, error)))
            stack.callback(client.stop_stream)
            with contextlib.suppress(InferenceServerException):  # where the refusal was quicker
                client.async_stream_infer("echo-FP32", [given("x", ONE)])
            result, error = answers.get(timeout=30)
        assert result is None
        assert "streams are open" in str(error)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Files of a certificate of this machine, and of its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    return files


def test_tls_has_the_certificate_of_the_server(site, certificate):
    """Who trusts the certificate is answered over TLS, and who speaks plainly is not."""
    with running(site, tls=certificate) as (address, _):
        with triton.InferenceServerClient(address, ssl=True, root_certificates=str(certificate[0])) as client:
            assert client.infer("echo-FP32", [given("x", ONE)]).as_numpy("y").tolist() == ONE.tolist()
        with triton.InferenceServerClient(address) as plain, pytest.raises(InferenceServerException):
            plain.is_server_live(client_timeout=5)


def test_a_certificate_that_cannot_be_used_is_an_error(site, certificate, tmp_path):
    """What is no certificate, or is not there, is said before anything listens."""
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    for files in ((junk, junk), (certificate[0], tmp_path / "missing.pem")):

        async def serve(files=files):
            async with serving_grpc(site, "127.0.0.1", 0, tls=files):
                pass

        with pytest.raises(InputError, match=r"TLS cannot be used|Cannot listen"):
            asyncio.run(serve())
