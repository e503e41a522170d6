import contextlib
import datetime as dt
import http.client
import json
import os
import signal
import socket
import stat
import threading
import time
from concurrent.futures import Future

import pytest
from serve.service_processes import run_verb, started, web_files

from imagelake.errors import InputError, ModelError
from imagelake.serve.downloads import DownloadOptions
from imagelake.serve.fn_calls import fn_app
from imagelake.serve.fn_listener import fn_listener
from imagelake.serve.function import FunctionOptions, classify_function
from imagelake.serve.function_files import write_function_files
from imagelake.serve.server import HttpServer, ServerOptions
from imagelake.serve.site import Lifecycle
from pictures import encode, make_image


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket, as the platform speaks it."""

    def __init__(self, path):
        super().__init__("function", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self.path))


def call(connection, body, method="POST", path="/call", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body if isinstance(body, bytes) else json.dumps(body), named)
    answer = connection.getresponse()
    return answer.status, answer.headers, json.loads(answer.read())


def after(seconds):
    """A deadline as the platform writes it."""
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


@contextlib.contextmanager
def function_at(listener, *words):
    environment = os.environ | {"FN_FORMAT": "http-stream", "FN_LISTENER": f"unix:{listener}", "FN_APP_ID": "app"}
    with started("function", *words, env=environment) as process:
        until = time.monotonic() + 60
        while not listener.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.01)
        yield process


@pytest.fixture(scope="module")
def web():
    files = {"/a.jpg": encode(make_image(1, 300, 200)), "/b.txt": b"no picture", "/slow": threading.Event()}
    with web_files(files) as address:
        yield address


@pytest.fixture(scope="module")
def function(tmp_path_factory):
    listener = tmp_path_factory.mktemp("iofs") / "lsnr.sock"
    with function_at(listener, "--allow-private"):
        yield listener


@pytest.fixture
def connection(function):
    with contextlib.closing(Connection(function)) as connection:
        yield connection


def test_a_call_classifies_a_picture(connection, web):
    """An address in, class and probability out, with the headers that the platform wants; the connection stays."""
    for call_id in ("01HX", "01HY"):
        status, headers, answer = call(connection, {"name": f"{web}/a.jpg"}, Fn_Call_Id=call_id, Fn_Deadline=after(60))
        assert status == 200
        assert answer["id"] == call_id
        label, _, probability = answer["message"].removeprefix("result_class=").rpartition(", probability=")
        assert label
        assert 0 < float(probability) <= 1
        assert headers["Fn-Http-Status"] == "200"
        assert headers["Content-Type"] == headers["Fn-Http-H-Content-Type"] == "application/json; charset=utf-8"
        assert headers["Fn-Fdk-Version"].startswith("imagelake/")
        assert headers["Fn-Fdk-Runtime"].startswith("python/3.")


@pytest.mark.parametrize("deadline", ["", "soon", "9999999999999-01-01T00:00:00Z", "2999-01-01T00:00:00.123456789Z"])
def test_a_deadline_that_is_none_is_the_usual_one(connection, web, deadline):
    """Whatever stands in Fn-Deadline, a call is answered."""
    assert call(connection, {"name": f"{web}/a.jpg"}, Fn_Deadline=deadline)[0] == 200


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff", "no JSON"),
        ({}, "names no picture"),
        ([], "names no picture"),
        ({"name": 3}, "names no picture"),
        ({"name": "file:///etc/passwd"}, "http"),
        ({"name": "WEB/missing.jpg"}, "404"),
        ({"name": "WEB/b.txt"}, "picture 0"),
    ],
)
def test_a_call_that_cannot_be_answered_is_the_callers_error(connection, web, body, why):
    """The platform is told 200, for the function works, and the caller 400 with the reason."""
    given = body if isinstance(body, bytes) else json.dumps(body).replace("WEB", web).encode()
    status, headers, answer = call(connection, given)
    assert (status, headers["Fn-Http-Status"]) == (200, "400")
    assert why in answer["error"]


def test_the_deadline_of_a_call_holds(connection, web):
    """A call that would be late is answered 504 at its deadline, also where a server holds the picture back."""
    for deadline in (after(-1), after(0.4)):
        status, headers, answer = call(connection, {"name": f"{web}/slow"}, Fn_Deadline=deadline)
        assert (status, headers["Fn-Http-Status"]) == (504, "504")
        assert "error" in answer
    assert call(connection, {"name": f"{web}/a.jpg"})[0] == 200


def test_there_is_only_the_call(connection):
    """Other paths and methods are not the function's."""
    assert call(connection, {}, path="/")[0] == 404
    assert call(connection, b"", method="GET")[0] == 404


def test_a_body_that_is_too_large_is_refused(connection):
    """An address needs no megabyte."""
    status, headers, _ = call(connection, b"x" * (2 << 20))
    assert (status, headers["Fn-Http-Status"]) == (200, "413")


def test_private_addresses_are_refused_unless_allowed(tmp_path, web):
    """A function fetches from the open internet only; it leaves nothing behind when it is told to end."""
    listener = tmp_path / "f.sock"
    with function_at(listener, "--model", "no-such-model") as process:
        with contextlib.closing(Connection(listener)) as connection:
            _, headers, answer = call(connection, {"name": f"{web}/a.jpg"})
        assert headers["Fn-Http-Status"] == "400"
        assert "this machine itself" in answer["error"]
        mode = listener.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o666
        assert listener.is_symlink()
        assert str(listener.readlink()) == "phonyf.sock"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def serving_function(path, function):
    """A function in a thread of this process, on a socket at a path."""
    with fn_listener(f"unix:{path}") as (listening, show):
        shown = threading.Event()
        server = HttpServer(fn_app(function), listening, Lifecycle(), ServerOptions(drain_s=0.0))
        thread = threading.Thread(target=server.run, args=(lambda _: (show(), shown.set()),))
        thread.start()
        try:
            assert shown.wait(30)
            yield
        finally:
            server.stop(at_once=True)
            thread.join(30)
            assert not thread.is_alive()


def test_a_model_that_cannot_be_opened_is_a_failure(tmp_path, web):
    """The platform is told 502, and the caller nothing of this machine."""
    opening = Future()
    opening.set_exception(ModelError("/home/somebody/model.onnx is broken"))
    function = classify_function(opening, FunctionOptions(download=DownloadOptions(allow_private=True)))
    path = tmp_path / "f.sock"
    with serving_function(path, function), contextlib.closing(Connection(path)) as connection:
        status, headers, answer = call(connection, {"name": f"{web}/a.jpg"})
    assert (status, headers["Fn-Http-Status"], answer) == (502, "502", {"error": "internal error"})


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "FN_LISTENER is not set"),
        ({"FN_LISTENER": "/tmp/x.sock"}, "unix:"),
        ({"FN_LISTENER": "unix:/nowhere/at/all.sock"}, "Cannot listen"),
        ({"FN_LISTENER": "unix:/tmp/" + "x" * 100}, "bytes"),
        ({"FN_LISTENER": "unix:/tmp/x.sock", "FN_FORMAT": "json"}, "http-stream"),
    ],
)
def test_what_the_platform_must_say_is_asked_for(monkeypatch, environment, why):
    """Without the contract's variables the function ends with a line that says what is missing."""
    for name in ("FN_LISTENER", "FN_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = run_verb("function")
    assert done.returncode == 1
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_the_socket_is_shown_only_when_it_is_served(tmp_path):
    """The path appears last; what a function before left there goes, and nothing else does."""
    path = tmp_path / "a.sock"
    path.symlink_to("phonya.sock")
    with fn_listener(f"unix:{path}") as (_, show):
        assert not path.exists()
        show()
        assert path.exists()
    assert list(tmp_path.iterdir()) == []
    path.write_text("mine")
    with pytest.raises(InputError, match="is no socket"), fn_listener(f"unix:{path}"):
        pass
    assert path.read_text() == "mine"


def test_the_files_of_the_function_are_written_once(tmp_path):
    """func.yaml and Dockerfile; files that are there are kept."""
    done = run_verb("function", "init", tmp_path / "f")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "f").iterdir()} == {"func.yaml", "Dockerfile"}
    assert "schema_version: 20180708" in (tmp_path / "f" / "func.yaml").read_text()
    assert 'ENTRYPOINT ["imagelake", "function"]' in (tmp_path / "f" / "Dockerfile").read_text()
    with pytest.raises(InputError, match="is there already"):
        write_function_files(tmp_path / "f")
