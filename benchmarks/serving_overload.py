"""What happens at four times the capacity: who is refused and how fast, who is answered and when, and what it costs.

Sixteen callers tell the capacity. Then requests come at four times that rate whether or not earlier ones are answered
(an open loop), for a while; then the sixteen callers come back after two seconds. The server is `imagelake serve` with
the default model, the load comes from this process, and both share the cores.

    python benchmarks/serving_overload.py [--small] [--json PATH] [--seconds S] [--times N] [--timeout S]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvloop
from machine import report
from serving_peers import Server, free_port, load, raw, started

from pictures import pictures


@dataclass
class Tally:
    """What the open loop saw: seconds by kind of answer."""

    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    broken: int = 0
    peak_mb: float = 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """In milliseconds; 0 of nothing."""
    return 1000 * sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


async def one(
    port: int, data: bytes, idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]], tally: Tally
) -> None:
    """One request on a connection that is free, or a new one; the time counts from when the request was due."""
    path, body, headers = raw(data)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    began = time.perf_counter()
    try:
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        tally.broken += 1
        return
    try:
        writer.write(head.encode() + body)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        spent = time.perf_counter() - began
        fields = dict(line.split(": ", 1) for line in answer.decode().lower().split("\r\n")[1:] if ": " in line)
        await reader.readexactly(int(fields.get("content-length", 0)))
        status = int(answer.split()[1])
        {200: tally.answered, 503: tally.refused, 429: tally.refused, 504: tally.late}[status].append(spent)
        if fields.get("connection") == "close":
            writer.close()
        else:
            idle.append((reader, writer))
    except (OSError, asyncio.IncompleteReadError, KeyError, TimeoutError):
        tally.broken += 1
        writer.close()


async def flood(port: int, files: Sequence[bytes], rate: float, seconds: float, process: psutil.Process) -> Tally:
    """Requests at an even rate for so long, whatever becomes of them."""
    tally, idle, tasks = Tally(), [], set()
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        wait = began + number / rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(port, files[number % len(files)], idle, tally))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if number % 50 == 0:
            tally.peak_mb = max(tally.peak_mb, process.memory_info().rss / 2**20)
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    return tally


def server_process(port: int) -> psutil.Process:
    """Who listens there, of those that this process started."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(c.laddr and c.laddr.port == port and c.status == "LISTEN" for c in child.net_connections()):
                return child
    raise SystemExit(f"nobody listens on port {port}")


def measure(files: Sequence[bytes], seconds: float, times: float, timeout: float, queue: int) -> dict[str, object]:
    """Capacity, the flood, and the capacity afterwards."""
    port = free_port()
    command = [sys.executable, "-m", "imagelake", "serve", "--model", "efficientnet-lite0", "--timeout", str(timeout)]
    server = Server("imagelake", [*command, "--max-queue", str(queue), "--listen", f"127.0.0.1:{port}"], raw)
    with started(server, port, files[0]):
        load(port, server, files, min(2.0, seconds))
        before, _, _ = load(port, server, files, seconds)
        process = server_process(port)
        rss = process.memory_info().rss / 2**20
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            tally = runner.run(flood(port, files, times * before, 3 * seconds, process))
        time.sleep(2)
        after, _, _ = load(port, server, files, seconds)
        rss_after = process.memory_info().rss / 2**20
    return {
        "capacity/s": before,
        "times": times,
        "answered": len(tally.answered),
        "refused": len(tally.refused),
        "timed out": len(tally.late),
        "broken": tally.broken,
        "refused p50 ms": percentile(tally.refused, 0.5),
        "refused p99 ms": percentile(tally.refused, 0.99),
        "answered p99 ms": percentile(tally.answered, 0.99),
        "deadline ms": 1000 * timeout,
        "answered/s of capacity": len(tally.answered) / (3 * seconds) / before,
        "MB before": rss,
        "MB peak": tally.peak_mb,
        "MB after": rss_after,
        "after / before": after / before,
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="of a measurement; the flood takes three times that"
    )
    parser.add_argument("--times", type=float, default=4.0, help="how many times the capacity")
    parser.add_argument("--timeout", type=float, default=2.0, help="the server's deadline, in seconds")
    parser.add_argument("--queue", type=int, default=32, help="how many requests the server lets wait")
    options = parser.parse_args()
    seconds = 1.0 if options.small else options.seconds
    with tempfile.TemporaryDirectory() as name:
        files = [path.read_bytes() for path in sorted(pictures(16, Path(name) / "photos").iterdir())]
        row = measure(files, seconds, options.times, options.timeout, options.queue)
    report("serving_overload: an open loop beyond the capacity", [row], options.json)


if __name__ == "__main__":
    main()
