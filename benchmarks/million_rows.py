"""How a lake takes a million rows: commits of metadata without pictures of any size, then `info` and a count by SQL.

Every row is a row of the images table as ingest commits it, with a picture of some bytes, described once and given
another id each time: what is measured is the lake, not the decoders. After each part it prints how fast the part was,
how long `info` and `SELECT count(*) ... WHERE` take then (the median of three, in a process that is warm), and the
process's peak memory so far.

    python benchmarks/million_rows.py [--small] [--json PATH] [--rows N]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from machine import report
from PIL import Image

from imagelake import schema
from imagelake.lake.ids import IdSet
from imagelake.lake.info import describe_lake
from imagelake.lake.sql import query
from imagelake.lake.tables import open_tables
from imagelake.run.ingest import commit_piece
from imagelake.steps.describe import Describe
from imagelake.steps.identify import Identify

COMMIT_ROWS = 16_384
QUESTION = "SELECT count(*) FROM images WHERE width > 3 AND brightness < 120"


def described(rows: int) -> pa.Table:
    """One tiny picture, described, so many times."""
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)).save(out, "PNG")
    row = {"uri": "synthetic://0", "bytes": out.getvalue(), "error": None, "metadata": None}
    batch = pa.RecordBatch.from_pylist([row], schema=schema.SOURCE)
    one = pa.Table.from_batches([Describe().open()(Identify(IdSet([])).open()(batch))])
    return pa.concat_tables([one] * rows).combine_chunks()


def piece(pattern: pa.Table, first: int, rng: np.random.Generator) -> pa.Table:
    """The same rows under other ids and URIs, of other brightness."""
    numbers = range(first, first + pattern.num_rows)
    columns = {
        "id": pa.array([hashlib.sha256(b"%d" % number).hexdigest() for number in numbers]),
        "uri": pa.array([f"synthetic://{number}" for number in numbers]),
        "brightness": pa.array(rng.uniform(0, 255, pattern.num_rows), pa.float32()),
    }
    for name, values in columns.items():
        pattern = pattern.set_column(pattern.schema.get_field_index(name), name, values)
    return pattern


def median_ms(work: Callable[[], object]) -> float:
    """The median of three."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return round(statistics.median(times) * 1000, 1)


def peak_mb() -> int:
    """The most memory that this process had so far."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def fill(root: Path, rows: int, part: int) -> list[dict[str, object]]:
    """Commit so many rows, and look after each part."""
    tables = open_tables(root, create=True)
    rng = np.random.default_rng(0)
    pattern = described(min(COMMIT_ROWS, part))
    out: list[dict[str, object]] = []
    for first in range(0, rows, part):
        making, began = 0.0, time.perf_counter()
        for start in range(first, first + part, pattern.num_rows):
            since = time.perf_counter()
            made = piece(pattern, start, rng)
            making += time.perf_counter() - since
            commit_piece(tables, made)
        tables.images.tidy()
        seconds = time.perf_counter() - began - making
        out.append({
            "rows": first + part,
            "rows/s": round(part / seconds),
            "info ms": median_ms(lambda: describe_lake(tables)),
            "count ms": median_ms(lambda: query(tables, QUESTION)),
            "peak MB": peak_mb(),
        })  # fmt: skip
    return out


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    parser.add_argument("--rows", type=int, default=10 * 6 * COMMIT_ROWS + 6 * COMMIT_ROWS, help="how many in all")
    options = parser.parse_args()
    rows, part = (4096, 2048) if options.small else (options.rows, 6 * COMMIT_ROWS)
    with tempfile.TemporaryDirectory() as name:
        report("million_rows: a lake that grows", fill(Path(name) / "lake", rows, part), options.json)


if __name__ == "__main__":
    main()
