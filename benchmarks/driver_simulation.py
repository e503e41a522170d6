"""Whether the driver's part of a run over a huge lake grows faster than linearly: synthetic receipts and fragments.

Three things that only the driver does, each at several sizes, in real tables: planning (which images are not done, cut
into pieces), committing the fragments that workers staged, wave by wave, and writing receipts. `exponent` is the slope
between a line and the line before it, of the logarithm of seconds over the logarithm of the size: 1 is linear. Seconds
are the processor's, so that other work on the machine does not count.

    python benchmarks/driver_simulation.py [--small] [--json PATH]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from lance.fragment import write_fragments
from machine import report

from imagelake import schema
from imagelake.lake import table
from imagelake.lake.staged import commit_staged, mark_of, stage
from imagelake.lake.tables import Tables, id_set, open_tables
from imagelake.run.outcome import Done
from imagelake.run.pieces import PieceSize, lake_pieces
from imagelake.run.receipts import Counts, new_run, write_receipt

DIMENSIONS = 8
FRAGMENT_ROWS = 8
WAVE = 64  # fragments of a commit
TIDY_WAVES = 16  # as `run.waves` folds
PAGE = 100_000


def ids(first: int, count: int) -> pa.Array:
    """Ids that look like those of pictures."""
    return pa.array([hashlib.sha256(b"%d" % number).hexdigest() for number in range(first, first + count)])


def images(root: Path, rows: int) -> Tables:
    """A lake whose images table has so many rows, of the columns that planning reads."""
    tables = Tables(str(root))
    columns = pa.schema([schema.IMAGES.field("id"), schema.IMAGES.field("byte_size")])
    made = table.create(tables.images.uri, columns)
    mark = mark_of(made)
    for first in range(0, rows, PAGE):
        count = min(PAGE, rows - first)
        page = pa.table({"id": ids(first, count), "byte_size": pa.array([100_000] * count, pa.int64())}, schema=columns)
        mark = commit_staged(made, [stage(made, page)], mark).mark
    return tables


def plan(rows: int, root: Path) -> dict[str, object]:
    """Half of the images are done: read which, compare, cut the rest into pieces."""
    tables = images(root, rows)
    vectors = tables.create_embeddings("simulated", schema.embeddings(DIMENSIONS, "{}", ""))
    mark = mark_of(vectors)
    for first in range(0, rows // 2, PAGE):
        count = min(PAGE, rows // 2 - first)
        mark = commit_staged(vectors, [stage(vectors, embedded(first, count))], mark).mark
    began = time.process_time()
    done = Done((id_set(vectors),))
    pieces = sum(1 for _ in lake_pieces(tables, done, "simulated", PieceSize()))
    return line("plan", "images", rows, time.process_time() - began, f"{pieces} pieces")


def embedded(first: int, count: int) -> pa.Table:
    """Rows of an embedding set."""
    values = np.zeros(count * DIMENSIONS, np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values), DIMENSIONS)
    return pa.table({"id": ids(first, count), "vector": vectors})


def stage_apart(vectors: table.Table, rows: pa.Table) -> list[str]:
    """Stage rows as so many workers would, a fragment each, but in one call, since workers are not what is measured."""
    told = json.loads(stage(vectors, rows.slice(0, 1)))
    options = {"mode": "append", "max_rows_per_file": FRAGMENT_ROWS, "data_storage_version": table.STORAGE_VERSION}
    dataset = vectors.arrow()
    made = write_fragments(rows.cast(dataset.schema), dataset, schema=dataset.schema, **options)
    return [json.dumps({**told, "rows": FRAGMENT_ROWS, "fragments": [each.to_json()]}) for each in made]


def commit(fragments: int, root: Path, *, fold: bool) -> dict[str, object]:
    """Fragments come in; each wave is committed, and with `fold` each sixteenth time small ones are folded."""
    vectors = open_tables(root, create=True).create_embeddings("simulated", schema.embeddings(DIMENSIONS, "{}", ""))
    mark, seconds, last = mark_of(vectors), 0.0, 0.0
    for wave, first in enumerate(range(0, fragments, WAVE), start=1):
        numbers = range(first, min(first + WAVE, fragments))
        staged = stage_apart(vectors, embedded(first * FRAGMENT_ROWS, len(numbers) * FRAGMENT_ROWS))
        began = time.process_time()
        mark = commit_staged(vectors, staged, mark).mark
        last = time.process_time() - began
        if fold and wave % TIDY_WAVES == 0:
            vectors.tidy()
        seconds += time.process_time() - began
    assert vectors.count() == fragments * FRAGMENT_ROWS  # noqa: S101  (else the figure means nothing)
    what = "commit and fold" if fold else "commit, no folding"
    return line(what, "fragments", fragments, seconds, f"last wave {1000 * last:.0f} ms")


def receipts(rows: int, root: Path, more: int) -> dict[str, object]:
    """There are so many receipts; write a few more."""
    tables = open_tables(root, create=True)
    tables.receipts.add_columns(schema.RECEIPTS)
    for first in range(0, rows, PAGE):
        count = min(PAGE, rows - first)
        page = pa.table({"id": ids(first, count), "work": pa.array(["extract"] * count)})
        commit_staged(tables.receipts, [stage(tables.receipts, page)], mark_of(tables.receipts))
    run, began = new_run("simulated"), time.process_time()
    for _ in range(more):
        write_receipt(tables, "extract", "simulated", "", Counts(added=16384), 1.0, run)
    seconds = (time.process_time() - began) / more
    return line("write one receipt", "receipts there", rows, seconds, "")


def line(what: str, of: str, size: int, seconds: float, note: str) -> dict[str, object]:
    """One line of the table."""
    per = f"{1e6 * seconds / size:.2f}"
    return {"part": what, "size": size, "of": of, "seconds": f"{seconds:.3f}", "us each": per, "note": note}


def with_exponents(rows: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    """The same lines, each with the slope to the one before it."""
    before: dict[str, object] = {}
    for row in rows:
        exponent = ""
        if before and before["part"] == row["part"]:
            rise = math.log(float(str(row["seconds"])) / max(float(str(before["seconds"])), 1e-3))
            exponent = f"{rise / math.log(float(str(row['size'])) / float(str(before['size']))):.2f}"
        yield {**row, "exponent": exponent}
        before = row


def measure(sizes: list[int], fragments: list[int], there: list[int], folder: Path) -> list[dict[str, object]]:
    """Every part at every size, each in a lake of its own."""
    rows = [plan(size, folder / f"plan-{size}") for size in sizes]
    rows += [commit(count, folder / f"plain-{count}", fold=False) for count in fragments]
    rows += [commit(count, folder / f"fold-{count}", fold=True) for count in fragments]
    rows += [receipts(count, folder / f"receipts-{count}", 10) for count in there]
    return list(with_exponents(rows))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    options = parser.parse_args()
    if options.small:
        sizes = ([2000, 20_000], [20, 60], [1000, 10_000])
    else:
        sizes = ([10_000, 100_000, 1_000_000], [1000, 3000, 10_000], [10_000, 100_000, 1_000_000])
    with tempfile.TemporaryDirectory() as name:
        report("driver_simulation: what grows with the lake", measure(*sizes, Path(name)), options.json)


if __name__ == "__main__":
    main()
