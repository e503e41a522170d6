"""Pictures a second that 16 callers get, beside other servers with the same model, and beside the bare session.

Callers post JPEGs over connections that stay open, from a process of their own. All servers run the same file with the
same settings of ONNX Runtime and prepare pictures alike. Each takes its turn, A B C A B C, alone at work; medians.
Processor time is that of the server and its children.

    python benchmarks/serving_peers.py [--small] [--json PATH] [--peers FOLDER] [--seconds S] [--turns N]

`--peers FOLDER` names a folder with virtual environments `litserve`, `kserve` and `mlserver`, made like this:

    for peer in litserve kserve mlserver; do
      python -m venv FOLDER/$peer
      FOLDER/$peer/bin/pip install $peer onnxruntime opencv-python-headless python-multipart "uvloop<0.22"
    done
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import multiprocessing
import os
import queue
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from machine import report

from imagelake.models.default_classifier import open_default_classifier
from imagelake.models.graph_cache import load_graph
from imagelake.models.onnx_runtime import SessionSettings, open_session
from imagelake.pixels.decode import decode_rgb
from pictures import pictures

CALLERS = 16
PEERS = Path(__file__).parent / "peers"
Request = tuple[str, bytes, dict[str, str]]


@dataclass(frozen=True)
class Server:
    """A server as it is started, and what a request to it looks like."""

    name: str
    command: Sequence[str]
    request: Callable[[bytes], Request]
    settings: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


def raw(data: bytes) -> Request:
    """The file itself, to imagelake."""
    return "/api/classify?top_k=1", data, {"Content-Type": "image/jpeg"}


def form(data: bytes) -> Request:
    """The file in a form, to LitServe."""
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return "/predict", head + data + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def binary(data: bytes) -> Request:
    """The file as a binary tensor, to KServe."""
    size = len(data)
    tensor = {"name": "image", "shape": [size], "datatype": "UINT8", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return "/v2/models/peer/infer", head + data, headers


def text(data: bytes) -> Request:
    """The file as base64, to MLServer."""
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(data).decode()]}
    return "/v2/models/peer/infer", json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"}


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def servers(model: Path, folder: Path, peers: Path | None) -> Iterator[tuple[Server, int]]:
    """Ours, and those of the peers that are installed, each in several settings, with a port each."""
    port = free_port()
    ours = [
        sys.executable,
        "-m",
        "imagelake",
        "serve",
        "--model",
        "efficientnet-lite0",
        "--listen",
        f"127.0.0.1:{port}",
    ]
    yield Server("imagelake", ours, raw), port
    if peers is None:
        return
    common = {"MODEL": str(model)}
    for name, request, choices in (
        ("litserve", form, ({"WORKERS": "2"}, {"WORKERS": "2", "BATCH": "4", "DELAY": "0.005"})),
        ("kserve", binary, ({"WORKERS": "1"}, {"WORKERS": "2"})),
    ):
        python = peers / name / "bin" / "python"
        for settings in choices if python.exists() else ():
            port = free_port()
            told = common | settings | {"PORT": str(port)}
            said = " ".join(f"{key.lower()}={value}" for key, value in settings.items())
            yield Server(f"{name} {said}", [str(python), str(PEERS / f"{name}_peer.py")], request, told), port
    start = peers / "mlserver" / "bin" / "mlserver"
    for workers, batch in ((0, 0), (2, 0), (2, 4)) if start.exists() else ():
        port = free_port()
        place = folder / f"mlserver-{workers}-{batch}"
        place.mkdir()
        ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
        (place / "settings.json").write_text(
            json.dumps({"host": "127.0.0.1", "parallel_workers": workers, "debug": False, **ports})
        )
        batching = {"max_batch_size": batch, "max_batch_time": 0.005} if batch else {}
        (place / "model-settings.json").write_text(
            json.dumps({"name": "peer", "implementation": "mlserver_peer.Peer", **batching})
        )
        told = common | {"PYTHONPATH": str(PEERS)}
        name = f"mlserver workers={workers} batch={batch or 1}"
        yield Server(name, [str(start), "start", "."], text, told, place), port


@contextlib.contextmanager
def started(server: Server, port: int, probe: bytes) -> Iterator[psutil.Process]:
    """Start it, wait until it answers a picture, and stop it at the end."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            server.command, env={**os.environ, **server.settings}, cwd=server.folder, stdout=log, stderr=log
        )
        try:
            if not answers(process, server, port, probe):
                log.seek(0)
                raise SystemExit(f"{server.name} does not start:\n{log.read().decode()[-3000:]}")
            yield psutil.Process(process.pid)
        finally:
            family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            for left in (process, *family):  # some leave their workers behind
                with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                    left.kill()
            process.wait()


def answers(process: subprocess.Popen[bytes], server: Server, port: int, probe: bytes) -> bool:
    """Wait until a server answers a picture; whether it does within two minutes."""
    for _ in range(1200):
        if process.poll() is not None:
            return False
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            if post(connection, server.request(probe)) == 200:
                return True
        time.sleep(0.1)
    return False


def post(connection: http.client.HTTPConnection, request: Request) -> int:
    """One request; its status."""
    path, body, headers = request
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def call(port: int, requests: Sequence[Request], seconds: float, told: Any) -> None:
    """In a process of its own: 16 callers for so long; tells answers a second and the median and p99 in ms."""
    took: queue.SimpleQueue[float] = queue.SimpleQueue()
    end = time.perf_counter() + seconds

    def caller(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while (began := time.perf_counter()) < end:
            status = post(connection, requests[number % len(requests)])
            if status != 200:
                raise SystemExit(f"status {status}")
            took.put(time.perf_counter() - began)
            number += CALLERS
        connection.close()

    began = time.perf_counter()
    threads = [threading.Thread(target=caller, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - began
    times = sorted(took.get() for _ in range(took.qsize()))
    told.put((len(times) / spent, 1000 * times[len(times) // 2], 1000 * times[int(len(times) * 0.99)]))


def load(port: int, server: Server, files: Sequence[bytes], seconds: float) -> tuple[float, float, float]:
    """What `call` tells."""
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    requests = [server.request(data) for data in files]
    process = context.Process(target=call, args=(port, requests, seconds, told))
    process.start()
    found: tuple[float, float, float] = told.get(timeout=seconds + 120)
    process.join()
    return found


def cpu_s(process: psutil.Process) -> float:
    """Seconds of processor time of a process and its children."""
    spent = 0.0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = each.cpu_times()
            spent += times.user + times.system
    return spent


def bare(model: bytes, prepared: np.ndarray, batch: int, threads: int, seconds: float) -> tuple[float, float]:
    """The session alone on prepared pictures, called from as many threads as there are cores.

    Returns:
        Pictures a second, and milliseconds of processor time for each.
    """
    callers = max(1, len(os.sched_getaffinity(0)) // threads)
    runtime = open_session(model, SessionSettings(threads=threads))
    parts = [prepared[start : start + batch] for start in range(0, len(prepared) - batch + 1, batch)]
    end = time.perf_counter() + seconds

    def work(offset: int) -> int:
        count = 0
        while time.perf_counter() < end:
            count += len(runtime.run(["logits"], parts[(offset + count) % len(parts)])["logits"])
        return count

    began, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(callers) as pool:
        total = sum(pool.map(work, range(callers)))
    return total / (time.perf_counter() - began), 1000 * (time.process_time() - used) / total


def measure(
    files: Sequence[bytes], folder: Path, peers: Path | None, seconds: float, turns: int
) -> list[dict[str, object]]:
    """Each server in its turns, and the bare session."""
    classifier = open_default_classifier()
    graph = load_graph(classifier.manifest, ("logits",), None, None)
    model = graph if isinstance(graph, bytes) else Path(graph).read_bytes()
    path = folder / "model.onnx"
    path.write_bytes(model)
    prepared = np.stack([classifier.prepare(decode_rgb(data)) for data in files])
    shapes = [(batch, threads) for batch in (1, 4, 8) for threads in (1, 2)] if turns > 1 else [(4, 1)]
    rates: dict[str, list[tuple[float, float, float]]] = {}
    cpu: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        running = []
        for server, port in servers(path, folder, peers):
            process = stack.enter_context(started(server, port, files[0]))
            running.append((server, port, process))
            load(port, server, files, min(seconds, 2))  # warm
        for _ in range(turns):
            best = max(bare(model, prepared, batch, threads, seconds / 2) for batch, threads in shapes)
            rates.setdefault("bare session", []).append((best[0], 0.0, 0.0))
            cpu.setdefault("bare session", []).append(best[1])
            for server, port, process in running:
                before = cpu_s(process)
                found = load(port, server, files, seconds)
                rates.setdefault(server.name, []).append(found)
                cpu.setdefault(server.name, []).append(1000 * (cpu_s(process) - before) / (found[0] * seconds))
    ours = [rate for rate, _, _ in rates["imagelake"]]
    return [
        {
            "server": name,
            "images/s": statistics.median(rate for rate, _, _ in found),
            "CPU ms/image": statistics.median(cpu[name]),
            "p50 ms": statistics.median(p50 for _, p50, _ in found),
            "p99 ms": statistics.median(p99 for _, _, p99 in found),
            "ours / it": statistics.median(a / b for a, (b, _, _) in zip(ours, found, strict=True)),
        }
        for name, found in rates.items()
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    parser.add_argument("--peers", type=Path, help="folder with the environments of the peers")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one turn")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    seconds, turns = (1.0, 1) if options.small else (options.seconds, options.turns)
    peers = options.peers.absolute() if options.peers else None
    with tempfile.TemporaryDirectory() as name:
        files = [
            path.read_bytes() for path in sorted(pictures(8 if options.small else 64, Path(name) / "photos").iterdir())
        ]
        rows = measure(files, Path(name), peers, seconds, turns)
    report(f"serving_peers: {CALLERS} callers post JPEGs", rows, options.json)


if __name__ == "__main__":
    main()
