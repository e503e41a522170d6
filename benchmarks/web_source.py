"""How fast ingest is from a web server that takes its time, beside ingest of the same files from a folder.

The server runs on this machine in a process of its own and delays each answer by 50 ms. Both ingests do the same work
on the same pictures, A B A B; the ratio is that of each pair, the median of all. The server shares the processors with
the ingest.

    python benchmarks/web_source.py [--small] [--json PATH]
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine import report

import imagelake
from imagelake.sources.web import Web, WebOptions
from imagelake.sources.web_guard import Guard
from pictures import pictures

DELAY_S = 0.05


class SlowAnswers(asyncio.Protocol):
    """The files of a folder over HTTP/1.1 with connections that stay, each a while after it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to write."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """A request; here it always comes in one piece."""
        name = data.split(b" ", 2)[1].decode().lstrip("/")
        asyncio.get_running_loop().call_later(DELAY_S, self.answer, name)

    def answer(self, name: str) -> None:
        """Send the file."""
        body = (self.folder / name).read_bytes()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def serve(folder: Path) -> None:
    """Serve until the process is ended; the first line of output is the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SlowAnswers(folder), "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def server_of(folder: Path) -> Iterator[str]:
    """A server of that folder, and its address."""
    command = [sys.executable, __file__, "--serve", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip() if process.stdout else ''}"
        finally:
            process.terminate()


def compare(files: list[Path], folder: Path, repeats: int) -> list[dict[str, object]]:
    """Both ingests in turn, and the fetching alone."""
    rates: dict[str, list[float]] = {"folder": [], "web": [], "fetch": []}
    with server_of(files[0].parent) as address:
        web = Web([f"{address}/{file.name}" for file in files], WebOptions(guard=Guard(allow_private=True)))
        for turn in range(repeats):
            for name, source in (("folder", files[0].parent), ("web", web)):
                lake = imagelake.open(folder / f"{turn}-{name}.lake", create=True)
                done = lake.ingest(source)
                if done.added != len(files):
                    raise SystemExit(f"{name}: {done.added} of {len(files)} pictures were added")
                rates[name].append(done.images_per_s)
                shutil.rmtree(lake.root)
            began = time.perf_counter()
            fetched = sum(batch.num_rows for batch in web.batches())
            rates["fetch"].append(fetched / (time.perf_counter() - began))
    return [
        {
            "images": len(files),
            "delay ms": DELAY_S * 1000,
            "in flight": min(web.options.in_flight, web.options.per_host),
            "folder images/s": statistics.median(rates["folder"]),
            "web images/s": statistics.median(rates["web"]),
            "fetching alone images/s": statistics.median(rates["fetch"]),
            "ratio": statistics.median(b / a for a, b in zip(rates["folder"], rates["web"], strict=True)),
        }
    ]


def main() -> None:
    """Measure, or serve for the one who measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve))
        return
    count, repeats = (64, 1) if options.small else (1989, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = sorted(pictures(count, folder / "photos").iterdir())
        rows = compare(files, folder, repeats)
        report("web_source: ingest from a slow server beside ingest from a folder", rows, options.json)


if __name__ == "__main__":
    main()
