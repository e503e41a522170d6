"""What GraphPipe costs: the codec beside a bare copy, a served model beside a bare echo, and beside JSON.

The codec is measured with 19.3 million float32 (a batch of 128 pictures of 224 x 224), the server with one picture,
602,112 bytes, for a model that returns a constant. The callers of one row are one thread that keeps its connection; the
servers are processes of their own and take turns, run by run. "Bare" servers are uvicorn with an application of ten
lines: one sends back what it got, one answers with 100 bytes. GraphPipe answers through everything that `imagelake
serve` has before a model: the guard, the router, the queue. JSON goes through the same server to the same model, as a
caller sees it: from an array to an array, so that both ends write and read.

    python benchmarks/graphpipe.py [--small] [--json PATH]
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np
import urllib3
import uvicorn
from machine import report
from numpy.typing import NDArray
from starlette.routing import BaseRoute, Route

from imagelake.serve import graphpipe
from imagelake.serve.allocator import keep_freed_memory
from imagelake.serve.app import build_app
from imagelake.serve.body import read_body
from imagelake.serve.graphpipe_client import Client
from imagelake.serve.listening import address_of, listen
from imagelake.serve.plane import Plane
from imagelake.serve.served import Served
from imagelake.serve.server import HttpServer
from imagelake.serve.site import Site
from imagelake.serve.tensor_info import TensorInfo

SHAPE = (1, 3, 224, 224)
FLOATS = 19_300_000
ORJSON = importlib.util.find_spec("orjson") is not None


def row(what: str, times_s: Sequence[float], beside: str = "") -> dict[str, object]:
    """One line of the table."""
    p50, p99 = np.percentile(np.array(times_s) * 1000, [50, 99])
    return {"what": what, "p50 ms": float(p50), "p99 ms": float(p99), "a second": 1000 / float(p50), "beside": beside}


def timed(function: Callable[[], object], times: int) -> list[float]:
    """How long each of so many calls took; what they return is freed outside of the time."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        kept = function()
        found.append(time.perf_counter() - began)
        del kept
    return found


def measure_codec(floats: int, rounds: int) -> list[dict[str, object]]:
    """Encode and decode beside a bare copy, in turns."""
    array = np.random.default_rng(1).random(floats, dtype=np.float32)
    body = graphpipe.encode_request([array]).join()
    used = np.zeros(len(body), np.uint8)
    into = used[: array.nbytes].view(np.float32)
    work: dict[str, Callable[[], object]] = {
        "bare copy into fresh memory": array.copy,
        "encode into fresh memory": lambda: graphpipe.encode_request([array]).join(),
        "bare copy into memory in use": lambda: np.copyto(into, array),
        "encode into memory in use": lambda: graphpipe.encode_request([array]).join(used),
        "encode without joining": lambda: list(graphpipe.encode_request([array]).parts()),
        "decode": lambda: graphpipe.decode_request(body),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, function in work.items():
            times[name] += timed(function, 3)
    rows = []
    for name, found in times.items():
        bare = times.get(name.replace("encode into", "bare copy into"), found)
        share = statistics.median(bare) / statistics.median(found)
        rows.append(row(name, found, f"{share:.0%} of the copy's speed" if found is not bare else ""))
    return rows


def echo(answer: bytes | None) -> Any:
    """A bare ASGI application that reads a body and sends it back, or sends something else."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope
        chunks, more = [], True
        while more:
            message = await receive()
            chunks.append(message["body"])
            more = message["more_body"]
        body = b"".join(chunks) if answer is None else answer
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def json_routes(site: Site) -> list[BaseRoute]:
    """The same tensor as JSON: a list of floats through the library of that name, both ways."""

    class Door:
        def __init__(self, library: Any) -> None:
            self.library = library

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            body = await read_body(scope, receive, site.limits, site.budget)
            given = self.library.loads(bytes(body))
            x = np.array(given["data"], np.float32).reshape(given["shape"])
            answer = await asyncio.wrap_future(site.plane.submit("constant", {"x": x}))
            text = self.library.dumps({"data": answer["y"].tolist()})
            data = text if isinstance(text, bytes) else text.encode()
            headers = [(b"content-length", b"%d" % len(data))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": data})

    return [Route(f"/{name}", Door(importlib.import_module(name))) for name in json_libraries()]


def json_libraries() -> list[str]:
    """Those that are installed."""
    return ["json", "orjson"] if ORJSON else ["json"]


def constant() -> Served:
    """A model that looks at nothing."""
    answer = {"y": np.arange(10, dtype=np.float32).reshape(1, 10)}
    inputs, outputs = (TensorInfo("x", "float32", SHAPE),), (TensorInfo("y", "float32", (1, 10)),)
    return Served("constant", inputs, outputs, lambda _inputs, _outputs: answer, "constant")


def serve(kind: str) -> None:
    """Be a server until SIGTERM."""
    with listen("127.0.0.1", 0) as listening:
        where = address_of(listening)
        if kind != "graphpipe":
            app = echo(None if kind == "echo" else bytes(100))
            print(where, flush=True)
            config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off")
            uvicorn.Server(config).run([listening])
            return
        keep_freed_memory()  # as `imagelake serve` does
        with Plane() as plane:
            plane.load(constant())
            site = Site(plane)
            server = HttpServer(build_app(site, extra=json_routes(site)), listening, site.lifecycle)
            server.run(lambda _: print(where, flush=True))


@contextmanager
def served(kind: str) -> Iterator[str]:
    """A server in a process of its own."""
    command = [sys.executable, __file__, "--serve", kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            where = process.stdout.readline().strip() if process.stdout else ""
            if not where:
                raise ChildProcessError(f"the server {kind} did not start")
            yield where
        finally:
            process.terminate()


class Caller:
    """Posts the same bytes again and again over a bare socket."""

    def __init__(self, url: str, body: bytes) -> None:
        where = urlsplit(url)
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body
        self._sock = socket.create_connection((where.hostname, where.port or 80))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answer = memoryview(bytearray(2 << 20))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def post(self) -> None:
        """Send, and read the whole answer."""
        self._sock.sendall(self._request)
        filled, wanted = 0, None
        while wanted is None or filled < wanted:
            got = self._sock.recv_into(self._answer[filled:])
            if not got:
                raise ConnectionError
            filled += got
            if wanted is None:
                head, end, _ = bytes(self._answer[: min(filled, 4096)]).partition(b"\r\n\r\n")
                if end:
                    if not head.startswith(b"HTTP/1.1 200"):
                        raise ConnectionError(head)
                    length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
                    wanted = len(head) + 4 + int(length)


def measure_server(urls: Mapping[str, str], rounds: int, requests: int) -> list[dict[str, object]]:
    """One tensor at a time to a model that returns a constant, beside bare servers, in turns."""
    array = np.random.default_rng(1).random(SHAPE, dtype=np.float32)
    message = bytes(graphpipe.encode_request([array]).join())
    bodies = {"echo": array.tobytes(), "sink": array.tobytes(), "graphpipe": message}
    times: dict[str, list[list[float]]] = {kind: [] for kind in bodies}
    with ExitStack() as stack:
        callers = {kind: stack.enter_context(Caller(urls[kind], body)) for kind, body in bodies.items()}
        for caller in callers.values():
            timed(caller.post, 20)
        for _ in range(rounds):
            for kind, caller in callers.items():
                times[kind].append(timed(caller.post, requests))
    medians = {kind: [statistics.median(one) for one in found] for kind, found in times.items()}
    more_ms = {
        kind: 1000 * statistics.median(g - b for g, b in zip(medians["graphpipe"], medians[kind], strict=True))
        for kind in ("echo", "sink")
    }
    beside = f"p50 {more_ms['echo']:+.2f} ms to the echo, {more_ms['sink']:+.2f} ms to 100 bytes back"
    told = {
        "echo": ("bare uvicorn, 602,112 bytes there and back", ""),
        "sink": ("bare uvicorn, 602,112 bytes there and 100 back", ""),
        "graphpipe": ("GraphPipe, 602,112 bytes to a constant model", beside),
    }
    return [row(told[kind][0], [each for one in found for each in one], told[kind][1]) for kind, found in times.items()]


def measure_json(url: str, rounds: int, requests: int) -> list[dict[str, object]]:
    """The same tensor as GraphPipe and as JSON, as a caller sees it."""
    array = np.random.default_rng(1).random(SHAPE, dtype=np.float32)
    libraries = json_libraries()
    times: dict[str, list[float]] = {name: [] for name in ("graphpipe", *libraries)}
    with Client() as client, urllib3.PoolManager() as pool:

        def by_graphpipe() -> NDArray[Any]:
            return client.execute(url, [array])[0]

        def by_json(name: str) -> NDArray[Any]:
            library: Any = importlib.import_module(name)
            body = library.dumps({"shape": SHAPE, "data": array.ravel().tolist()})
            answer = pool.request("POST", f"{url}/{name}", body=body)
            return np.array(library.loads(answer.data)["data"], np.float32)

        for name in libraries:
            if not np.array_equal(by_graphpipe(), by_json(name)):
                raise ValueError("the answers differ")
        for _ in range(rounds):
            times["graphpipe"] += timed(by_graphpipe, 5 * requests)
            for name in libraries:
                times[name] += timed(lambda name=name: by_json(name), requests)  # type: ignore[misc]
    rows = [row("GraphPipe, from array to array", times["graphpipe"])]
    fast = sum(times["graphpipe"]) / len(times["graphpipe"])
    for name in libraries:
        ratio = sum(times[name]) / len(times[name]) / fast
        rows.append(row(f"JSON ({name}), from array to array", times[name], f"GraphPipe: {ratio:.1f} x the throughput"))
    if not ORJSON:
        rows[-1]["beside"] = f"{rows[-1]['beside']}; orjson is not installed"
    return rows


def main() -> None:
    """Measure, or be a server for the one who measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    floats, rounds, requests = (1_000_000, 2, 10) if options.small else (FLOATS, 9, 150)
    rows = measure_codec(floats, rounds)
    with ExitStack() as stack:
        urls = {kind: stack.enter_context(served(kind)) for kind in ("echo", "sink", "graphpipe")}
        rows += measure_server(urls, rounds, requests)
        rows += measure_json(urls["graphpipe"], min(rounds, 5), max(3, requests // 15))
    report(f"GraphPipe: {floats:,} float32 through the codec, 602,112 bytes through the server", rows, options.json)


if __name__ == "__main__":
    main()
