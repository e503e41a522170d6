"""How fast pictures are read from PostgreSQL, beside a bare `COPY` of the same bytes to /dev/null.

A server of its own runs on this machine. Its table holds random bytes of one size, as incompressible as JPEG, stored
out of line and not compressed (STORAGE EXTERNAL), which is what PostgreSQL's compression leaves of JPEGs too. Both read
the same rows in turn, A B A B: `psql` copies the column of pictures in binary form, and the source is drained, keys and
metadata included. The ratio is that of each pair, the median of all. The server shares the processors with the reader.
Apart from that, a whole ingest of JPEGs, folder and database in turn.

    python benchmarks/postgres_source.py [--small] [--json PATH]
"""

# ruff: noqa: S608  (the SQL is of this file alone)

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import report

import imagelake
from imagelake.sources.postgres import open_postgres
from pictures import pictures

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from sources.postgres_server import PostgresServer, find_binaries, running_server

PICTURE_BYTES = 30_000
LOAD_ROWS = 500


def make_tables(server: PostgresServer, count: int, files: list[Path]) -> None:
    """`noise` has random bytes, `photos` the files."""
    for table in ("noise", "photos"):
        server.psql(
            f"CREATE TABLE {table} (id bigint PRIMARY KEY, picture bytea NOT NULL, label text)",
            f"ALTER TABLE {table} ALTER picture SET STORAGE EXTERNAL",
        )
    words = -(-PICTURE_BYTES // 16)
    noise = f"(SELECT string_agg(uuid_send(gen_random_uuid()), '') FROM generate_series(1, {words}) WHERE i > 0)"
    server.psql(
        f"INSERT INTO noise SELECT i, substr({noise}, 1, {PICTURE_BYTES}), 'x' FROM generate_series(1, {count}) i"
    )
    for start in range(0, len(files), LOAD_ROWS):
        rows = (
            f"INSERT INTO photos VALUES ({start + number}, '\\x{file.read_bytes().hex()}', 'x');"
            for number, file in enumerate(files[start : start + LOAD_ROWS])
        )
        server.script("\n".join(rows))
    server.psql("VACUUM ANALYZE noise", "VACUUM ANALYZE photos", "CHECKPOINT")


def copy_s(server: PostgresServer) -> float:
    """Seconds of the bare copy."""
    command = [str(server.binaries / "psql"), "-Xq", "-d", server.address()]
    began = time.perf_counter()
    subprocess.run(
        [*command, "-c", "COPY (SELECT picture FROM noise) TO STDOUT (FORMAT binary)"],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def read_s(server: PostgresServer, count: int) -> float:
    """Seconds to drain the source, opening included."""
    began = time.perf_counter()
    found = held = 0
    for batch in open_postgres(server.address(), table="noise").batches():
        found += batch.num_rows
        held += sum(len(each.as_buffer()) for each in batch.column("bytes"))
    if (found, held) != (count, count * PICTURE_BYTES):
        raise SystemExit(f"{found} of {count} rows with {held:,} bytes were read")
    return time.perf_counter() - began


def compare_reading(server: PostgresServer, count: int, repeats: int) -> dict[str, object]:
    """Both in turn, after one round that fills the caches."""
    copy_s(server)
    pairs = [(copy_s(server), read_s(server, count)) for _ in range(repeats)]
    megabytes = count * PICTURE_BYTES / 1e6
    ratios = sorted(copied / read for copied, read in pairs)
    return {
        "what": "read",
        "images": count,
        "bytes each": PICTURE_BYTES,
        "baseline": "COPY to /dev/null",
        "baseline images/s": count / statistics.median(copied for copied, _ in pairs),
        "baseline MB/s": megabytes / statistics.median(copied for copied, _ in pairs),
        "source images/s": count / statistics.median(read for _, read in pairs),
        "source MB/s": megabytes / statistics.median(read for _, read in pairs),
        "ratio": statistics.median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
    }


def compare_ingest(server: PostgresServer, files: list[Path], folder: Path, repeats: int) -> dict[str, object]:
    """The same JPEGs from a folder and from the database, into new lakes."""
    sources = (("folder", files[0].parent), ("database", open_postgres(server.address(), table="photos")))
    rates: dict[str, list[float]] = {name: [] for name, _ in sources}
    for turn in range(repeats):
        for name, source in sources:
            lake = imagelake.open(folder / f"{turn}-{name}.lake", create=True)
            done = lake.ingest(source)
            if done.added != len(files):
                raise SystemExit(f"{name}: {done.added} of {len(files)} pictures were added")
            rates[name].append(done.images_per_s)
            shutil.rmtree(lake.root)
    mean_bytes = sum(file.stat().st_size for file in files) / len(files)
    ratios = sorted(b / a for a, b in zip(rates["folder"], rates["database"], strict=True))
    baseline, own = (statistics.median(rates[name]) for name in ("folder", "database"))
    return {
        "what": "ingest",
        "images": len(files),
        "bytes each": round(mean_bytes),
        "baseline": "ingest of a folder",
        "baseline images/s": baseline,
        "baseline MB/s": baseline * mean_bytes / 1e6,
        "source images/s": own,
        "source MB/s": own * mean_bytes / 1e6,
        "ratio": statistics.median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    options = parser.parse_args()
    count, jpegs, repeats = (200, 40, 1) if options.small else (20_000, 1989, 7)
    binaries = find_binaries()
    if binaries is None:
        raise SystemExit("No PostgreSQL server is installed: there is no initdb on PATH or in /usr/lib/postgresql.")
    with tempfile.TemporaryDirectory() as name, running_server(binaries) as server:
        folder = Path(name)
        files = sorted(pictures(jpegs, folder / "photos").iterdir())
        make_tables(server, count, files)
        version = server.psql("SHOW server_version").split()[0]
        rows = [compare_reading(server, count, repeats), compare_ingest(server, files, folder, max(1, repeats // 2))]
        rows = [row | {"PostgreSQL": version} for row in rows]
        report("postgres_source: pictures from PostgreSQL beside a bare COPY, and ingest", rows, options.json)


if __name__ == "__main__":
    main()
