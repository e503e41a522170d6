"""`imagelake.graphpipe`: the client against our server and against servers that misbehave, and functions served."""

import contextlib
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from graphpipe import remote
from serve import graphpipe_messages as messages
from serve.graphpipe_server import Model, served

from imagelake import graphpipe
from imagelake.errors import (
    BusyError,
    ImagelakeError,
    InputError,
    NotServedError,
    ServingError,
    TimeLimitError,
    TooLargeError,
)
from imagelake.serve import graphpipe as codec
from imagelake.serve.graphpipe_client import AskOptions, Client
from imagelake.serve.graphpipe_function import function_model, run_function
from imagelake.serve.tensor_info import TensorInfo

X = np.arange(6, dtype="float32").reshape(2, 3)
QUICK = AskOptions(timeout_s=0.3)


@pytest.fixture(autouse=True)
def _close_connections():
    """The module keeps connections; a test leaves none."""
    yield
    graphpipe._client.cache_clear()


@pytest.fixture(scope="module")
def server():
    with served() as running_:
        yield running_


def test_it_asks(server):
    """One output comes as an array, several as a list; names choose, positions do without."""
    y, positive = graphpipe.remote(server.url, X)
    assert y.tolist() == (2 * X).tolist()
    assert positive.tolist() == (X > 0).astype("uint8").tolist()
    assert graphpipe.execute(server.url, X, "x", "y").tolist() == (2 * X).tolist()
    assert graphpipe.execute(f"{server.url}/graphpipe/multiply", X, output_name="y").tolist() == (2 * X).tolist()
    by = np.array([3.0])
    assert graphpipe.execute_multi(server.url, [by, X], ["by", "x"], ["y"], "{}")[0].tolist() == (3 * X).tolist()
    assert not y.flags.writeable


def test_it_asks_with_anything(server):
    """Lists, text and bytes become arrays; strings keep the NULs at their end."""
    url = f"{server.url}/graphpipe/shout"
    assert graphpipe.execute(url, ["ab", "é"]).tolist() == [b"AB", "é".encode().upper()]
    assert graphpipe.execute(url, [b"ab\0", b""]).tolist() == [b"AB\0", b""]
    assert graphpipe.execute(server.url, X.astype(">f4").T.copy().T, output_name="y").tolist() == (2 * X).tolist()


def test_it_reads_metadata(server):
    """What the server says of a model is read."""
    found = graphpipe.metadata(f"{server.url}/graphpipe/multiply")
    assert (found.name, found.version, found.description) == ("multiply", "7", "doubles")
    assert found.inputs[0] == TensorInfo("x", "float32", (-1, 3), "rows")
    assert found.outputs[1].dtype == "uint8"


def test_a_connection_is_used_again():
    """Requests one after the other share a connection, those that fail too."""
    peers = set()

    def note(app):
        async def noted(scope, receive, send):
            peers.add(scope["client"])
            await app(scope, receive, send)

        return noted

    with served(wrap=note) as server, Client() as client:
        for _ in range(3):
            client.execute(server.url, [X])
            client.metadata(server.url)
            with pytest.raises(InputError):
                client.execute(server.url, [X.astype("int8")])
    assert len(peers) == 1


def test_threads_share_a_client(server):
    """Many threads ask at once and each gets its own answer."""
    found = {}

    def ask(number):
        found[number] = graphpipe.execute(server.url, np.full((50, 3), number, "float32"), output_name="y")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((array == 2 * number).all() for number, array in found.items())
    assert len(found) == 16


@pytest.mark.parametrize(
    ("path", "array", "kind", "said"),
    [
        ("/graphpipe/nothing", X, NotServedError, "answered 404: model 'nothing' is not served"),
        ("/", X[:, :1], InputError, "answered 400: .*float32"),
        ("/graphpipe/fail", ["a"], ServingError, "answered 500: internal error"),
        ("/graphpipe/refuse", ["a"], InputError, "cannot do that"),
    ],
)
def test_errors_say_what_the_server_says(server, path, array, kind, said):
    """The status chooses the error, and the server's text is in it."""
    with pytest.raises(kind, match=said) as caught:
        graphpipe.execute(server.url + path, array)
    assert caught.type is kind


def test_what_cannot_be_sent():
    """A wrong address, a type that the protocol lacks, names that do not match: told before anything is sent."""
    for url in ("", "127.0.0.1:9000", "ftp://x/", "http://", "file:///etc/passwd", "http://[::1"):
        with pytest.raises(InputError, match="no address of a server"):
            graphpipe.remote(url, X)
    with pytest.raises(InputError, match="uint8"):
        graphpipe.remote("http://127.0.0.1:1", X > 0)
    with pytest.raises(InputError, match="one for each"):
        graphpipe.execute_multi("http://127.0.0.1:1", [X], ["a", "b"])
    for wrong in ({"timeout_s": 0}, {"timeout_s": float("nan")}, {"max_bytes": -1}, {"api_key": "a\r\nb"}):
        with pytest.raises(InputError):
            AskOptions(**wrong)


def test_nobody_is_there():
    """A server that is not there is an error of ours, without the password of the address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ServingError, match=f"127.0.0.1:{port}/a could not be asked") as caught:
        graphpipe.remote(f"http://me:secret@127.0.0.1:{port}/a?key=secret", X)
    assert "secret" not in str(caught.value)


@contextlib.contextmanager
def answering(*answers, hold=False):
    """A server that reads a request and sends bytes, and then hangs up or holds the line."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def work():
            with contextlib.suppress(OSError):
                for answer in answers:
                    connection, _ = listening.accept()
                    with connection:
                        connection.settimeout(0.1)
                        with contextlib.suppress(TimeoutError):
                            while connection.recv(1 << 20):
                                pass
                        connection.settimeout(10)
                        for piece in answer if isinstance(answer, list) else [answer]:
                            connection.sendall(piece)
                            time.sleep(0.02 if isinstance(answer, list) else 0)
                        if hold:
                            done.wait(30)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            done.set()
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def ok(body, *headers):
    lines = "".join(f"{line}\r\n" for line in (headers or [f"Content-Length: {len(body)}"]))
    return b"HTTP/1.1 200 OK\r\n" + lines.encode() + b"\r\n" + body


ANSWER = bytes(codec.encode_infer_response([X]).join())


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (b"", ServingError, "could not be asked"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ServingError, "could not be asked"),
        (ok(b""), ServingError, "too few"),
        (ok(b"<html>hello, who are you?</html>"), ServingError, "something else"),
        (ok(ANSWER[:-1]), ServingError, "something else"),
        (ok(ANSWER, f"Content-Length: {len(ANSWER) + 1}"), ServingError, "of the|could not be asked"),
        (ok(ANSWER, "Content-Length: 100000000000"), TooLargeError, "100,000,000,000 bytes"),
        (ok(ANSWER, "Content-Encoding: gzip"), ServingError, "packed"),
        (ok(b"%x\r\n%b\r\n" % (9000, bytes(9000)), "Transfer-Encoding: chunked"), TooLargeError, "more than 8,000"),
        (ok(bytes(9000), "Connection: close"), TooLargeError, "more than 8,000"),
        (ok(messages.failed_response(-7, b"no such output")), ServingError, r"no such output \(code -7\)"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n",
            ServingError,
            "answered 302: Found",
        ),
        (b"HTTP/1.1 504 X\r\nContent-Length: 4\r\n\r\nlate", TimeLimitError, "answered 504: late"),
        (b"HTTP/1.1 503 X\r\nContent-Length: 90000\r\n\r\n" + b"full " * 18_000, BusyError, "answered 503: full"),
    ],
)
def test_servers_that_misbehave(answer, kind, said):
    """Whatever a server answers, the caller gets an error of ours, in bounded memory."""
    with answering(answer) as url, pytest.raises(kind, match=said) as caught:
        graphpipe.remote(url, X, options=AskOptions(timeout_s=5, max_bytes=8000))
    assert caught.type is kind
    assert len(str(caught.value)) < 3000


def test_answers_of_unknown_length_are_read():
    """An answer in chunks, or one that ends with the connection, is read whole."""
    chunked = b"".join(b"%x\r\n%b\r\n" % (1, ANSWER[i : i + 1]) for i in range(len(ANSWER))) + b"0\r\n\r\n"
    answers = (ok(chunked, "Transfer-Encoding: chunked", "Connection: close"), ok(ANSWER, "Connection: close"))
    with answering(*answers) as url:
        for _ in answers:
            assert graphpipe.remote(url, X).tolist() == X.tolist()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", ok(b"a" * 20, "Content-Length: 100")])
def test_servers_that_stand_still(answer):
    """A server that stops anywhere costs the time limit and no more."""
    with answering(answer, hold=True) as url, pytest.raises(TimeLimitError, match=r"within 0\.3 s"):
        graphpipe.remote(url, X, options=QUICK)


def test_servers_that_drip():
    """A server that sends a byte now and then is left at the time limit, though it never stands still."""
    drops = [ok(b"", "Content-Length: 1000"), *[b"a"] * 100]
    with answering(drops) as url, pytest.raises(TimeLimitError, match=r"within 0\.3 s"):
        graphpipe.remote(url, X, options=QUICK)


def double(x, by=None):
    """Twice as much.

    Or more.
    """
    return x * (2 if by is None else by)


@contextlib.contextmanager
def function_served(function, **options):
    """A function served in a thread of this process; gives the address."""
    started, found = threading.Event(), []

    def on_start(server, where):
        found.extend((server, where))
        started.set()

    options = {"inputs": None, "outputs": None} | options
    thread = threading.Thread(target=lambda: run_function(function, "127.0.0.1:0", on_start=on_start, **options))
    thread.start()
    try:
        assert started.wait(30)
        yield found[1]
    finally:
        if found:
            found[0].stop()
        thread.join()


TYPED = {"inputs": [TensorInfo("x", "float32", (-1, 3))], "outputs": [TensorInfo("y", "float32", (-1, 3))]}


@pytest.mark.filterwarnings("ignore:numElems is deprecated")
def test_a_function_is_served():
    """The inputs that were described are checked; the original client asks it too."""
    with function_served(double, **TYPED) as url:
        assert graphpipe.remote(url, X).tolist() == (2 * X).tolist()
        assert graphpipe.execute(f"{url}/graphpipe/double", X, "x", "y").tolist() == (2 * X).tolist()
        assert remote.execute(url, X).tolist() == (2 * X).tolist()
        assert remote.get_output_names(url) == ["y"]
        assert graphpipe.metadata(url).description == "Twice as much."
        with pytest.raises(InputError, match="float32"):
            graphpipe.remote(url, X.astype("int8"))


def test_a_function_takes_anything():
    """A function of which nothing is said takes arrays of any type and shape, by the names of its parameters."""
    with function_served(double) as url:
        assert graphpipe.remote(url, 4).tolist() == 8
        assert graphpipe.remote(url, X).tolist() == (2 * X).tolist()
        assert graphpipe.execute_multi(url, [np.int16(7), X], ["by", "x"])[0].tolist() == (7 * X).tolist()
        with pytest.raises(InputError, match="lacks the input"):
            graphpipe.execute(url, X, "by")
        assert [info.name for info in graphpipe.metadata(url).inputs] == ["x", "by"]
    with function_served(lambda x: (x[0], "é"), outputs=["a", "b"]) as url:
        found = graphpipe.remote(url, X)
        assert (found[0].tolist(), found[1].tolist()) == (X[0].tolist(), "é".encode())


def test_rows_of_a_function_are_put_together():
    """A function of which nothing is said may be called with the rows of several requests; a row is needed for that."""
    with function_served(double, max_batch=8) as url:
        assert graphpipe.remote(url, X).tolist() == (2 * X).tolist()
        with pytest.raises(InputError, match="single value"):
            graphpipe.remote(url, 4)
        with pytest.raises(InputError, match="0 rows"):
            graphpipe.remote(url, X[:0])


def test_a_key_is_asked_for():
    """A function with a key answers who shows it."""
    odd = "name:hunter2,#3"  # no list of keys
    with function_served(double, api_key=odd, **TYPED) as url:
        assert graphpipe.remote(url, X, options=AskOptions(api_key=odd)).tolist() == (2 * X).tolist()
    with pytest.raises(InputError, match="api_key cannot be used"):
        graphpipe.serve(double, "127.0.0.1:0", api_key="a b")
    with function_served(double, api_key="hunter2", **TYPED) as url:
        with pytest.raises(ServingError, match="answered 401") as caught:
            graphpipe.remote(url, X)
        assert "hunter2" not in str(caught.value)
        options = AskOptions(api_key="hunter2")
        assert "hunter2" not in repr(options)
        assert graphpipe.remote(url, X, options=options).tolist() == (2 * X).tolist()


def test_what_cannot_be_served():
    """An open address without a key, a function without known inputs, a function that returns nonsense."""
    with pytest.raises(InputError, match="no API key"):
        graphpipe.serve(double, "0.0.0.0:0")
    with pytest.raises(InputError, match="HOST:PORT"):
        graphpipe.serve(double, "nowhere")
    for function in (lambda *x: x, lambda: 1, dict.get):
        with pytest.raises(InputError, match="which inputs"):
            graphpipe.serve(function if function is not dict.get else min)
    one = {"_": np.zeros(1), "x": np.zeros(1)}
    with pytest.raises(ImagelakeError, match="returned 3 arrays for 2"):
        function_model(lambda _: [1, 2, 3], outputs=["a", "b"]).run(one, ["a", "b"])
    with pytest.raises(ImagelakeError, match="holds a int"):
        function_model(lambda _: np.array([5], object)).run(one, ["output0"])
    by_name = function_model(lambda x: {"b": x, "a": 1, "c": 2}, outputs=["a", "b"]).run(one, ["b", "a"])
    assert by_name["a"] == 1


def test_serving_as_a_program(tmp_path):
    """`graphpipe.serve` says where it listens, and SIGTERM ends it well."""
    program = tmp_path / "program.py"
    program.write_text(
        "from imagelake import graphpipe\n"
        "from imagelake.serve.tensor_info import TensorInfo\n"
        "graphpipe.serve(lambda x: x + 1, '127.0.0.1:0', name='plus', inputs=[TensorInfo('x', 'float32', (-1, 3))])\n"
    )
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().split()[-1]
            assert graphpipe.remote(f"{url}/graphpipe/plus", X).tolist() == (X + 1).tolist()
        finally:
            process.terminate()
        assert process.wait(30) == 0


def test_importing_loads_nothing_heavy():
    """`import imagelake.graphpipe` loads neither NumPy nor anything that opens sockets."""
    said = subprocess.run(
        [sys.executable, "-c", "import sys, imagelake.graphpipe; print(*sys.modules)"], capture_output=True, text=True
    )
    loaded = set(said.stdout.split())
    assert "imagelake.graphpipe" in loaded
    assert not loaded & {"numpy", "urllib3", "uvicorn", "starlette", "flatbuffers", "socket"}


def test_it_forgets_connections_that_were_closed():
    """A server that was started anew is asked on a new connection."""
    model = Model(
        "m", lambda inputs: inputs, (TensorInfo("x", "float32", (-1, 3)),), (TensorInfo("x", "float32", (-1, 3)),)
    )

    def closes(app):
        async def closing(scope, receive, send):
            async def send_close(message):
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
                await send(message)

            await app(scope, receive, send_close)

        return closing

    with served(model, wrap=closes) as server:
        for _ in range(3):
            assert graphpipe.remote(server.url, X).tolist() == X.tolist()
