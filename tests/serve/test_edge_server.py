"""How the server begins and ends: draining, TLS, traces; with real sockets."""

import contextlib
import http.server
import shutil
import signal
import socket
import ssl
import subprocess
import threading

import numpy as np
import pytest
from starlette.responses import Response
from starlette.routing import Route

from edge_server import Doubler, read_answer, serving
from imagelake.errors import InputError
from imagelake.serve.listening import listen, read_address
from imagelake.serve.server import HttpServer, ServerOptions, tls_context
from imagelake.serve.site import Lifecycle
from imagelake.serve.tracing import Tracing

ECHO = b"POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nok"


def test_draining_says_so_and_goes_on_answering():
    """Not ready at once; what comes is answered and asked to leave; what was accepted is finished; then it ends."""
    gate = threading.Event()
    gated = Doubler(gate=gate)

    def waiting(site):
        async def wait(request):
            import asyncio

            found = await asyncio.wrap_future(site.plane.submit("double", {"x": np.ones((1, 2), np.float32)}))
            return Response(str(found["y"].tolist()))

        return [Route("/api/wait", wait)]

    options = ServerOptions(drain_s=2.0)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(serving([gated], server_options=options, extra=[waiting]))
        idle, kept, slow = (stack.enter_context(running.connect()) for _ in range(3))
        with kept.makefile("rb") as answers:
            kept.sendall(ECHO)
            assert "connection" not in read_answer(answers).headers
            slow.sendall(b"GET /api/wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while running.site.metrics.registry.get_sample_value("imagelake_in_flight_requests") < 1:
                pass
            running.server.stop()
            assert running.ask("GET", "/health/ready").json() == {"status": "draining"}
            assert running.ask("GET", "/health/live").status == 200
            kept.sendall(ECHO)
            answer = read_answer(answers)
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert answers.read() == b""
            while running.accepts():
                pass
            gate.set()
            with slow.makefile("rb") as stream:
                assert read_answer(stream).body == b"[[2.0, 2.0]]"
            assert idle.recv(10) == b""


def test_what_runs_beside_starts_and_ends_with_it():
    """It is entered before requests are taken and left after the last answer, on the same event loop."""
    import asyncio
    from contextlib import asynccontextmanager

    seen = []

    @asynccontextmanager
    async def beside():
        seen.append(("in", asyncio.get_running_loop()))
        try:
            yield "given"
        finally:
            seen.append(("out", asyncio.get_running_loop()))

    async def app(scope, receive, send):
        seen.append(("asked", asyncio.get_running_loop()))
        await Response("a")(scope, receive, send)

    server = HttpServer(app, listening := listen("127.0.0.1", 0), Lifecycle(), ServerOptions(drain_s=0), [beside()])

    def ask(given):
        assert given == ["given"]

        def one():
            with socket.create_connection(where) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                connection.recv(100)
            server.stop()

        threading.Thread(target=one).start()

    where = listening.getsockname()
    server.run(ask)
    assert [word for word, _ in seen] == ["in", "asked", "out"]
    assert len({loop for _, loop in seen}) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("the command openssl is not here")
    folder = tmp_path_factory.mktemp("tls")
    words = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command = ["openssl", "req", "-x509", *words, "subjectAltName=DNS:localhost", *files]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


def test_tls(certificate):
    """Who trusts the certificate is answered; plain HTTP and TLS before 1.2 are not; it ends while somebody idles."""
    with serving(server_options=ServerOptions(tls=tls_context(*certificate), drain_s=0)) as running:
        context = ssl.create_default_context(cafile=certificate[0])
        with (
            running.connect() as bare,
            context.wrap_socket(bare, server_hostname="localhost") as secure,
            secure.makefile("rb") as answers,
        ):
            body = np.random.default_rng(0).bytes(2 << 20)
            secure.sendall(
                b"POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            assert read_answer(answers).body == body
            with running.connect() as plain:
                plain.sendall(ECHO)
                assert b"200" not in plain.recv(100)
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                old.maximum_version = ssl.TLSVersion.TLSv1_1
            with running.connect() as other, pytest.raises(OSError, match=r"(?i)ssl|reset"):
                old.wrap_socket(other)
            running.server.stop()  # and `secure` neither asks nor goes


def test_tls_files_that_cannot_be_used(certificate, tmp_path):
    """No file, no PEM, another key, a key with a password: one line, and no question at the terminal."""
    (tmp_path / "no.pem").write_text("hello")
    locked = tmp_path / "locked.pem"
    command = ["openssl", "rsa", "-aes128", "-passout", "pass:abcd", "-in", str(certificate[1]), "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(other), "2048"], check=True, capture_output=True)
    for key in (tmp_path / "none.pem", tmp_path / "no.pem", locked, other):
        with pytest.raises(InputError, match="TLS cannot be used"):
            tls_context(certificate[0], key)


@pytest.fixture
def collector():
    """A collector of traces that keeps what it is sent."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/traces"
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                data = gzip.decompress(data)
            for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()
        thread.join()


def test_a_request_is_a_span_in_the_trace_of_its_caller(collector):
    """Over real OTLP: parent and trace are the caller's, attributes have status and id, and no key."""
    pytest.importorskip("opentelemetry.sdk")
    address, spans = collector
    trace_id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    tracing = Tracing(address)
    with serving(tracing=tracing) as running:
        running.ask(
            "POST", "/api/echo?key=s3cret", b"a", traceparent=f"00-{trace_id}-{parent}-01", X_Request_ID="r1",
            X_API_Key="s3cret",
        )  # fmt: skip
        running.ask("GET", "/api/fail", traceparent="nonsense")
    tracing.close()
    assert len(spans) == 2
    one, two = sorted(spans, key=lambda span: span.trace_id != bytes.fromhex(trace_id))
    assert (one.trace_id.hex(), one.parent_span_id.hex(), one.name) == (trace_id, parent, "rest")
    attributes = {each.key: each.value for each in one.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["imagelake.request_id"].string_value == "r1"
    assert attributes["url.path"].string_value == "/api/echo"
    assert (two.parent_span_id, two.status.code) == (b"", 2)
    assert b"s3cret" not in one.SerializeToString()


def test_the_time_in_a_model_is_in_the_trace(collector):
    """A request to a model has spans of its waiting and its computing inside its own; one refused has none."""
    pytest.importorskip("opentelemetry.sdk")
    address, spans = collector
    tracing = Tracing(address)
    body = b'{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}'
    with serving(tracing=tracing) as running:
        assert running.ask("POST", "/v2/models/double/infer", body).status == 200
        assert running.ask("POST", "/v2/models/made-up/infer", body).status == 404
    tracing.close()
    by_name = {span.name: span for span in spans}
    assert sorted(by_name) == ["compute", "oip-http", "oip-http double", "queue"]
    whole, queue, compute = (by_name[name] for name in ("oip-http double", "queue", "compute"))
    assert {queue.parent_span_id, compute.parent_span_id} == {whole.span_id}
    slack = 1_000_000  # two clocks
    times = [whole.start_time_unix_nano - slack, queue.start_time_unix_nano, queue.end_time_unix_nano]
    times += [compute.end_time_unix_nano, whole.end_time_unix_nano + slack]
    assert times == sorted(times)
    assert {each.key: each.value.int_value for each in compute.attributes}["imagelake.rows"] == 2


def test_a_collector_that_is_not_there_stops_nothing():
    """Requests are answered, and the server ends."""
    pytest.importorskip("opentelemetry.sdk")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    tracing = Tracing(address)
    with serving(tracing=tracing) as running:
        assert running.ask("POST", "/api/echo", b"a").status == 200
    tracing.close()
    for wrong in ("", "localhost:4318", "ftp://a", "http://"):
        with pytest.raises(InputError, match="collector"):
            Tracing(wrong)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("[::1]:0", ("::1", 0)),
        (":80", ("0.0.0.0", 80)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_addresses(text, found):
    """HOST:PORT, with IPv6 in brackets; without a host, all addresses."""
    assert read_address(text) == found


@pytest.mark.parametrize("text", ["", "9000", "a:", "a:b", "a:65536", "::1:80", "a:-1", "a:٣"])
def test_addresses_that_are_none(text):
    """It is said what one looks like."""
    with pytest.raises(InputError, match="HOST:PORT"):
        read_address(text)
