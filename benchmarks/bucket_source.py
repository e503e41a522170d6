"""How fast a bucket is read from a store that takes its time, by how many objects are asked for at a time.

The store is a small HTTP server on this machine, in a process of its own, that lists and hands out the same pictures as
S3 does, each answer 50 ms late. The same bucket is read with 1, 8 and 32 objects in flight, in turn, and the files from
a folder beside it. The server shares the processors with the reader.

    python benchmarks/bucket_source.py [--small] [--json PATH]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from machine import report

from imagelake.sources.bucket import Bucket
from imagelake.sources.bucket_store import BucketOptions
from imagelake.sources.folder import Folder
from imagelake.sources.source import Source
from pictures import pictures

DELAY_S = 0.05
PAGE = 1000
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


class SlowStore(asyncio.Protocol):
    """The files of a folder as the objects of any bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = sorted(path.name for path in folder.iterdir())
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to write."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """A request; here it always comes in one piece."""
        target = urlsplit(data.split(b" ", 2)[1].decode())
        asyncio.get_running_loop().call_later(DELAY_S, self.answer, target.path, parse_qs(target.query))

    def answer(self, path: str, query: dict[str, list[str]]) -> None:
        """Send an object, or a page of the listing."""
        if "list-type" in query:
            body = self.page(int(query.get("continuation-token", ["0"])[0]))
        else:
            body = (self.folder / path.rsplit("/", 1)[1]).read_bytes()
        head = f'HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nLast-Modified: {DATE}\r\nETag: "1"\r\n\r\n'
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(head.encode() + body)

    def page(self, start: int) -> bytes:
        """The XML of up to 1,000 keys."""
        more = start + PAGE < len(self.names)
        rows = "".join(
            f"<Contents><Key>{name}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>1</ETag>"
            f"<Size>{(self.folder / name).stat().st_size}</Size></Contents>"
            for name in self.names[start : start + PAGE]
        )
        token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if more else ""
        return (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{rows}</ListBucketResult>".encode()
        )


async def serve(folder: Path) -> None:
    """Serve until the process is ended; the first line of output is the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SlowStore(folder), "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def store_of(folder: Path) -> Iterator[None]:
    """A store of that folder, and the variables that lead there."""
    command = [sys.executable, __file__, "--serve", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        port = process.stdout.readline().strip() if process.stdout else ""
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
        try:
            yield
        finally:
            process.terminate()


def rate(source: Source, count: int) -> float:
    """Pictures a second."""
    began = time.perf_counter()
    read = sum(batch.num_rows for batch in source.batches())
    if read != count:
        raise SystemExit(f"{source.name}: {read} of {count} pictures were read")
    return count / (time.perf_counter() - began)


def compare(folder: Path, count: int, repeats: int) -> list[dict[str, object]]:
    """Each number of objects in flight in turn; the medians."""
    sources: dict[str, Source] = {"folder": Folder(str(folder))}
    for in_flight in (1, 8, 32):
        sources[f"{in_flight} in flight"] = Bucket("s3://bench", True, BucketOptions(in_flight=in_flight))  # noqa: FBT003
    rates: dict[str, list[float]] = {name: [] for name in sources}
    with store_of(folder):
        for _ in range(repeats):
            for name, source in sources.items():
                rates[name].append(rate(source, count))
    return [
        {"read": name, "images": count, "delay ms": 0 if name == "folder" else DELAY_S * 1000, "images/s": median}
        for name, median in ((name, statistics.median(each)) for name, each in rates.items())
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
        folder = pictures(count, Path(name) / "photos")
        rows = compare(folder, count, repeats)
        report("bucket_source: reading a slow store, by objects in flight", rows, options.json)


if __name__ == "__main__":
    main()
