"""`imagelake serve`, the real command in a process of its own: how it starts, what it refuses, how it ends."""

import contextlib
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from urllib.parse import urlsplit

import numpy as np
import pytest
from onnx import TensorProto, helper

from pictures import encode, make_image
from small_models import save_onnx

SECRET = "s3cret-0123456789"
OURS = ("IMAGELAKE_API_KEY", "GP_MODEL", "GP_INPUTS", "GP_OUTPUTS", "GP_VALUE_INPUTS", "GP_CACHE")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A file that doubles rows of three numbers."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    shape = (TensorProto.FLOAT, ["n", 3])
    return save_onnx(tmp_path_factory.mktemp("model") / "double.onnx", nodes, {"x": shape}, {"y": shape})


def command(*words, environment=None):
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    line = [sys.executable, "-m", "imagelake", "serve", "--listen", "127.0.0.1:0", *map(str, words)]
    return {"args": line, "env": clean | (environment or {}), "text": True}


@contextlib.contextmanager
def serving(*words, environment=None):
    """The process, and what it said when it was ready."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(**command("--json", *words, environment=environment), **pipes) as process:
        try:
            line = process.stdout.readline()
            assert line, process.communicate(timeout=60)[1]
            yield process, json.loads(line)
        finally:
            process.kill()


def refused(*words, environment=None):
    """The one line with which it does not start."""
    done = subprocess.run(**command(*words, environment=environment), capture_output=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def end(process, number=signal.SIGTERM):
    """Exit code, and the log as objects."""
    process.send_signal(number)
    _, log = process.communicate(timeout=120)
    return process.returncode, [json.loads(line) for line in log.splitlines()]


def ask(address, method, path, body=None, **headers):
    where = urlsplit(address)
    with contextlib.closing(http.client.HTTPConnection(where.hostname, where.port, timeout=60)) as connection:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()


def request(rows):
    tensor = {"name": "x", "shape": [len(rows), 3], "datatype": "FP32", "data": np.ravel(rows).tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def test_a_file_is_served_by_every_protocol(model):
    """It answers over the open protocol and GraphPipe, is ready, counts, and ends with 0."""
    with serving("--model", model) as (process, said):
        address = said["listening"]
        assert said["models"] == ["double"]
        assert said["default"] == "double"
        status, body = ask(address, "POST", "/v2/models/double/infer", request([[1, 2, 3]]))
        assert (status, json.loads(body)["outputs"][0]["data"]) == (200, [2.0, 4.0, 6.0])
        assert json.loads(ask(address, "GET", "/")[1])["Inputs"][0]["Name"] == "x"
        assert json.loads(ask(address, "GET", "/graphpipe/double")[1])["Name"] == "double"
        assert ask(address, "GET", "/health/ready")[0] == 200
        numbers = ask(address, "GET", "/metrics")[1].decode()
        assert 'imagelake_requests_total{model="double",outcome="ok",protocol="oip-http"} 1.0' in numbers
        assert 400 <= ask(address, "POST", "/v2/repository/models/double/unload", b"{}")[0] < 500
        code, log = end(process)
        assert code == 0
        told = [line for line in log if line.get("path") == "/v2/models/double/infer"]
        assert (told[0]["model"], told[0]["status"], told[0]["protocol"]) == ("double", 200, "oip-http")


def test_grpc_beside_it(model):
    """On a second port, with the same keys; both end together."""
    grpc = pytest.importorskip("grpc")
    words = ["--model", model, "--grpc", "127.0.0.1:0"]
    with serving(*words, environment={"IMAGELAKE_API_KEY": SECRET}) as (process, said):
        with grpc.insecure_channel(said["grpc"]) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ServerMetadata")
            assert b"imagelake" in call(b"", metadata=[("x-api-key", SECRET)], timeout=60)
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                call(b"", timeout=60)
        assert end(process)[0] == 0


def test_variables_of_the_first_servers_count(model, tmp_path):
    """GP_MODEL, GP_INPUTS, GP_OUTPUTS, GP_VALUE_INPUTS, GP_CACHE; options go before them."""
    (tmp_path / "values.json").write_text('{"x": [1, [1, 3]]}')
    variables = {
        "GP_MODEL": str(model), "GP_INPUTS": "x", "GP_OUTPUTS": "y", "GP_CACHE": "true",
        "GP_VALUE_INPUTS": str(tmp_path / "values.json"),
    }  # fmt: skip
    with serving(environment=variables) as (process, said):
        assert said["models"] == ["double"]
        for _ in range(2):
            assert ask(said["listening"], "POST", "/v2/models/double/infer", request([[1, 2, 3]]))[0] == 200
        statistics = json.loads(ask(said["listening"], "GET", "/v2/models/double/stats")[1])
        assert statistics["model_stats"][0]["inference_stats"]["cache_hit"]["count"] == 1
        assert end(process)[0] == 0
    assert "nothing" in refused(environment=variables | {"GP_OUTPUTS": "nothing"})


def test_keys_and_no_secret_in_the_log(model, tmp_path):
    """A key from the file, or the variable; the log has its name and never the key."""
    (tmp_path / "keys").write_text(f"alice:{SECRET}\n")
    with serving("--model", model, "--api-key-file", tmp_path / "keys", "--log-level", "debug") as (process, said):
        address = said["listening"]
        assert ask(address, "GET", "/v2", X_API_Key=SECRET)[0] == 200
        assert ask(address, "GET", f"/v2?key={SECRET}")[0] == 401
        assert ask(address, "GET", "/v2", Authorization="Bearer wr0ng-987654")[0] == 401
        assert ask(address, "POST", "/", SECRET.encode(), Authorization=f"Bearer {SECRET}")[0] == 400
        assert ask(address, "GET", "/health/ready")[0] == 200
        code, log = end(process)
        assert code == 0
        assert SECRET not in json.dumps(log)
        assert "wr0ng" not in json.dumps(log)
        assert any(line.get("key") == "alice" for line in log)
    with serving("--model", model, environment={"IMAGELAKE_API_KEY": SECRET}) as (process, said):
        assert ask(said["listening"], "GET", "/v2")[0] == 401
        assert ask(said["listening"], "GET", "/v2", X_API_Key=SECRET)[0] == 200


def test_terminated_under_load_answers_all_that_it_accepted(model):
    """Eight callers without a pause: after SIGTERM each is answered until it is asked to leave; exit code 0."""
    with serving("--model", model, "--max-queue", "10000", "--log-level", "error") as (process, said):
        where = urlsplit(said["listening"])
        body = request([[1, 2, 3]])
        answered, failed = [0] * 8, []

        def load(number):
            connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
            try:
                leaving = False
                while not leaving:
                    connection.request("POST", "/v2/models/double/infer", body)
                    answer = connection.getresponse()
                    good = answer.status == 200 and json.loads(answer.read())["outputs"][0]["data"] == [2.0, 4.0, 6.0]
                    if not good:
                        failed.append(answer.status)
                    answered[number] += 1
                    leaving = answer.getheader("Connection") == "close"
            except (OSError, http.client.HTTPException, ValueError) as error:
                failed.append(repr(error))
            finally:
                connection.close()

        threads = [threading.Thread(target=load, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        while min(answered) < 20:
            pass
        code, log = end(process)
        for thread in threads:
            thread.join()
        assert (failed, code, log) == ([], 0, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(model, number):
    """Even while a caller holds a request open."""
    with serving("--model", model, "--drain", "50") as (process, said):
        where = urlsplit(said["listening"])
        with socket.create_connection((where.hostname, where.port)) as connection:
            connection.sendall(b"POST /v2/models/double/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
            while b"imagelake_in_flight_requests 2.0" not in ask(said["listening"], "GET", "/metrics")[1]:
                pass
            process.send_signal(number)
            while (draining := ready(said["listening"])) == 200:
                pass
            assert draining in {503, None}
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == -signal.SIGTERM


def ready(address):
    """The status; None where nobody listens any more."""
    try:
        return ask(address, "GET", "/health/ready")[0]
    except OSError:
        return None


def test_what_it_says_to_people(model):
    """On stderr: where it listens, what it serves, a line to type; the log follows as text."""
    words = command("--model", model)
    with subprocess.Popen(**words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            lines = [process.stderr.readline() for _ in range(4)]
            address = lines[0].split()[2].rstrip(".")
            assert lines[0].startswith("Listening on http://127.0.0.1:")
            assert lines[1] == "Serving double.\n"
            assert lines[2] == "  double: x float32 [any, 3] -> y float32 [any, 3]\n"
            assert lines[3].startswith("Try: curl ")
            done = subprocess.run(shlex.split(lines[3])[1:], capture_output=True, timeout=60)
            assert json.loads(done.stdout)["outputs"][0]["data"] == [0.0, 0.0, 0.0]
            assert ask(address, "GET", "/v2")[0] == 200
            process.send_signal(signal.SIGINT)
            out, rest = process.communicate(timeout=60)
        finally:
            process.kill()
        assert (out, process.returncode) == ("", 0)
        assert "path=/v2 status=200" in rest


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "example.com", ""])
def test_other_machines_need_a_key(host):
    """Without one it does not start on an address that others can reach, for either protocol, and says how it would."""
    assert "--no-key" in refused("--listen", f"{host}:0")
    assert "--no-key" in refused("--grpc", f"{host}:0")


def test_what_it_does_not_start_with(model, tmp_path):
    """One line each."""
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    assert "not known" in refused("--model", "no-such-model")
    assert "bad.onnx" in refused("--model", tmp_path / "bad.onnx")
    assert "There is no model at" in refused("--model", tmp_path / "none.onnx")
    (tmp_path / "double.onnx").write_bytes(model.read_bytes())
    assert "Two models are called 'double'" in refused("--model", model, "--model", tmp_path / "double.onnx")
    assert "HOST:PORT" in refused("--listen", "9000")
    assert "--tls-key" in refused("--tls-cert", "a.pem")
    assert "TLS" in refused("--tls-cert", "a.pem", "--tls-key", "b.pem")
    assert "origin" in refused("--allow-origin", "example.com")
    assert "at least 128" in refused("--memory-mb", "64")
    assert "cannot be read" in refused("--api-key-file", tmp_path / "none")
    assert "JSON" in refused("--model", model, "--value-inputs", tmp_path / "bad.onnx")
    assert "empty" in refused(environment={"IMAGELAKE_API_KEY": ""})
    assert "no lake" in refused("--lake", tmp_path / "none.lake").lower()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert ": Address already in use. Give another port" in refused(
            "--listen", f"127.0.0.1:{taken.getsockname()[1]}"
        )


def test_the_default_models_and_a_lake(lake, photos):
    """Without --model a picture is classified and embedded; with --lake the search is served too."""
    lake.ingest(photos)
    lake.extract()
    with serving("--lake", lake.tables.root) as (process, said):
        assert said["models"] == ["efficientnet-lite0", "efficientnet-lite0-embedder", "search"]
        assert said["default"] == "efficientnet-lite0"
        status, body = ask(said["listening"], "POST", "/api/classify", encode(make_image(1)), Content_Type="image/jpeg")
        assert status == 200, body
        status, body = ask(said["listening"], "POST", "/api/search", encode(make_image(1)), Content_Type="image/jpeg")
        assert status == 200, body
        assert end(process)[0] == 0
