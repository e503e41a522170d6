"""A whole server of `imagelake.serve` in a thread, with raw sockets to it."""

import contextlib
import io
import json
import socket
import threading
from dataclasses import dataclass, field

import numpy as np
from starlette.responses import Response
from starlette.routing import Route

from imagelake.serve.app import build_app
from imagelake.serve.body import read_body
from imagelake.serve.guard import GuardOptions
from imagelake.serve.listening import listen
from imagelake.serve.metrics import Metrics
from imagelake.serve.plane import Plane
from imagelake.serve.request_log import LineWriter, LogHandler, RequestLog
from imagelake.serve.server import HttpServer, ServerOptions
from imagelake.serve.site import Limits, Site
from imagelake.serve.tensor_info import TensorInfo


class Doubler:
    """A model that doubles numbers; with a gate, once the gate is open."""

    version, platform, description, task = "1", "test", "", "tensors"
    labels = ()
    inputs = (TensorInfo("x", "float32", (-1, 2)),)
    outputs = (TensorInfo("y", "float32", (-1, 2)),)

    def __init__(self, name="double", gate=None, max_batch=8):
        self.name, self.fingerprint, self.gate, self.max_batch = name, name, gate, max_batch

    def run(self, inputs, _):
        assert self.gate is None or self.gate.wait(60)
        return {"y": inputs["x"] * np.float32(2)}

    def close(self):
        pass


@dataclass
class Answer:
    """Status, headers (lower case) and body."""

    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


def read_answer(stream):
    """One answer with a Content-Length or chunks from a socket's file; None where the other side closed."""
    line = stream.readline()
    if not line:
        return None
    headers = {}
    while (header := stream.readline()) not in {b"\r\n", b""}:
        name, _, value = header.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    status = int(line.split()[1])
    if status in {100, 204}:
        return Answer(status, headers, b"")
    if headers.get("transfer-encoding") != "chunked":
        return Answer(status, headers, stream.read(int(headers.get("content-length", 0))))
    body = b""
    while size := int(stream.readline(), 16):
        body += stream.read(size)
        stream.readline()
    stream.readline()
    return Answer(status, headers, body)


@dataclass
class Running:
    """A server that runs."""

    site: Site
    server: HttpServer
    where: tuple
    log: io.StringIO
    threads: list = field(default_factory=list)

    def connect(self):
        return socket.create_connection(self.where, timeout=30)

    def accepts(self):
        """Whether it still takes connections."""
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def raw(self, data, answers=1):
        """What comes back, as answers, for bytes that are sent as they are."""
        with self.connect() as connection, connection.makefile("rb") as stream:
            connection.sendall(data)
            found = [read_answer(stream) for _ in range(answers)]
        return found[0] if answers == 1 else found

    def ask(self, method, path, body=b"", **headers):
        """One request on a connection of its own."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in named.items()]
        return self.raw("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def lines(self):
        """The log so far, each line as an object."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


def echo_routes(made):
    """POST /api/echo sends back the body; POST /api/unread answers without reading; GET /api/fail has a defect."""

    async def echo(request):
        return Response(bytes(await read_body(request.scope, request.receive, made.limits, made.budget)))

    async def unread(request):
        return Response(b"no")

    async def fail(request):
        raise RuntimeError("secret /etc/passwd of this machine")

    return [
        Route("/api/echo", echo, methods=["POST"]),
        Route("/api/unread", unread, methods=["POST"]),
        Route("/api/fail", fail),
    ]


@contextlib.contextmanager
def serving(models=None, limits=None, server_options=None, extra=(), level="debug", **options):
    """A server with those models; `options` are of its guard, `extra` makes more routes from the site."""
    import logging

    metrics = Metrics()
    stream = io.StringIO()
    log = RequestLog(LineWriter(stream), level)
    handler = LogHandler(log)
    logger = logging.getLogger("imagelake.serve")
    logger.addHandler(handler)
    with Plane(metrics) as plane:
        for model in models if models is not None else [Doubler()]:
            plane.load(model, warm_up=False)
        site = Site(plane, limits or Limits(), metrics=metrics)
        routes = [*echo_routes(site), *(route for make in extra for route in make(site))]
        app = build_app(site, GuardOptions(log=log, **options), routes)
        listening = listen("127.0.0.1", 0)
        server = HttpServer(app, listening, site.lifecycle, server_options or ServerOptions(drain_s=0))
        started = threading.Event()
        thread = threading.Thread(target=server.run, args=[lambda _: started.set()])
        running = Running(site, server, listening.getsockname(), stream)
        thread.start()
        try:
            assert started.wait(30)
            yield running
        finally:
            server.stop()
            thread.join(60)
            log.close()
            logger.removeHandler(handler)
            assert not thread.is_alive()
