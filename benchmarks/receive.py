"""How `imagelake receive` holds up under a load that does not wait for it.

A process of its own posts pictures of about 30 KB, no two alike, at a fixed rate over connections that stay open; each
is sent when its time has come, whatever became of those before, and its latency counts from that time. The load shares
the processors with the receiver. After each run the receiver ends, and every id that it answered with must be in the
lake. The last row kills the receiver in the middle of it with SIGKILL and starts it again.

    python benchmarks/receive.py [--small] [--json PATH]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from machine import report
from PIL import Image

import imagelake

CONNECTIONS = 64
ORIGINALS = 100


def photos(count: int) -> list[bytes]:
    """JPEG files of soft blobs with grain, 480 x 360, about 30 KB each."""
    random = np.random.default_rng(1)
    files = []
    for _ in range(count):
        blobs = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((480, 360))
        grain = random.normal(0, 5, (360, 480, 1))
        out = io.BytesIO()
        Image.fromarray(np.clip(np.asarray(blobs) + grain, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=82)
        files.append(out.getvalue())
    return files


@dataclass
class Load:
    """Posts at a rate, and what came of it. A few bytes after the end of each picture make it one of its own."""

    address: str
    files: list[bytes]
    rate: float
    seconds: float
    statuses: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    done_at: float = 0.0

    async def run(self) -> None:
        """Send everything at its time."""
        waiting: asyncio.Queue[tuple[float, int] | None] = asyncio.Queue()
        senders = [asyncio.create_task(self._send_all(waiting)) for _ in range(CONNECTIONS)]
        began = time.perf_counter()
        for number in range(int(self.rate * self.seconds)):
            due = began + number / self.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            waiting.put_nowait((due, number))
        for _ in senders:
            waiting.put_nowait(None)
        await asyncio.gather(*senders)
        self.done_at = time.perf_counter() - began

    async def _send_all(self, waiting: asyncio.Queue[tuple[float, int] | None]) -> None:
        where = urlsplit(self.address)
        streams = None
        while (job := await waiting.get()) is not None:
            due, number = job
            try:
                streams = streams or await asyncio.open_connection(where.hostname, where.port)
                status, answer = await self._send(streams, number)
            except (OSError, asyncio.IncompleteReadError):
                streams = None
                self.statuses["cut off"] += 1
                continue
            self.statuses[status] += 1
            if status in {"200", "201"}:
                self.latencies_s.append(time.perf_counter() - due)
                self.ids.append(json.loads(answer)["id"])
        if streams is not None:
            streams[1].close()

    async def _send(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], number: int) -> tuple[str, bytes]:
        reader, writer = streams
        body = self.files[number % len(self.files)] + f"{number:010}".encode()
        writer.write(
            b"POST /images HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nX-Device: load\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line.split(":")[1] for line in head.splitlines() if line.lower().startswith("content-length"))
        return head.split()[1], await reader.readexactly(int(length))


@contextmanager
def receiver(lake: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A receiver for that lake, and its address; it ends well, unless it has ended."""
    command = [sys.executable, "-m", "imagelake", "receive", "--lake", str(lake), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield process, json.loads(line)["listening"]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def processor_s() -> float:
    """Processor seconds of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(rate: float, seconds: float, folder: Path, *, kill: bool = False) -> dict[str, object]:
    """One run into a new lake."""
    folder.mkdir()
    out = folder / "load.json"
    with receiver(folder / "t.lake") as (process, address):
        command = [sys.executable, __file__, "--load", address, str(rate), str(seconds), str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as load:
            if load.stdout:
                load.stdout.readline()  # it begins
            if kill:
                time.sleep(seconds / 2)
                process.kill()
            load.wait()
        before_s = processor_s()
    used_s = processor_s() - before_s
    if kill:
        with receiver(folder / "t.lake"):
            pass  # what was left is brought in before the first line
    found = json.loads(out.read_text())
    ids = set(imagelake.open(folder / "t.lake").sql("SELECT id FROM images").column("id").to_pylist())
    latencies_ms = np.array(found["latencies_s"]) * 1000
    p50, p99 = np.percentile(latencies_ms, [50, 99]) if len(latencies_ms) else (float("nan"), float("nan"))
    return {
        "asked/s": rate,
        "seconds": seconds,
        "killed": kill,
        "kept": len(found["ids"]),
        "kept/s": len(found["ids"]) / found["done_at"],
        "processor ms each": used_s * 1000 / max(1, len(found["ids"])),
        "p50 ms": float(p50),
        "p99 ms": float(p99),
        "max ms": float(latencies_ms.max(initial=0.0)),
        "refused 429": found["statuses"].get("429", 0),
        "other": sum(count for status, count in found["statuses"].items() if status not in {"200", "201", "429"}),
        "lost": len(set(found["ids"]) - ids),
    }


def main() -> None:
    """Measure, or be the load for the one who measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    parser.add_argument("--load", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        address, rate, seconds, out = options.load
        load = Load(address, photos(ORIGINALS), float(rate), float(seconds))
        print("begins", flush=True)
        asyncio.run(load.run())
        Path(out).write_text(json.dumps(vars(load) | {"files": None}))
        return
    runs = [(20.0, 2.0, False), (20.0, 2.0, True)] if options.small else [(200.0, 60.0, False)] * 3 + [
        (100.0, 60.0, False), (400.0, 30.0, False), (200.0, 20.0, True)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        rows = [
            measure(rate, seconds, Path(name) / str(number), kill=kill)
            for number, (rate, seconds, kill) in enumerate(runs)
        ]
    report("receive: pictures posted at a fixed rate, two processors shared with the load", rows, options.json)


if __name__ == "__main__":
    main()
