"""An extraction into Parquet files instead of a lake: path, box and vector of each picture, and nothing else kept.

A folder of such files remembers what made it, and which pictures are in it, so that a run that was stopped goes on.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imagelake.errors import InputError
from imagelake.files import is_remote
from imagelake.lake.ids import IdSet
from imagelake.lake.tables import Tables
from imagelake.run.commits import CommitSize, gather
from imagelake.run.extract import ExtractReport, count_pictures, count_waiting, pending, report_of
from imagelake.run.local import run_local, worker_count
from imagelake.run.outcome import Done, Outcome, Tally
from imagelake.run.progress import Progress, Silent
from imagelake.run.receipts import Counts, new_run
from imagelake.sources.source import Source, complete
from imagelake.steps.extract import ExtractPictures
from imagelake.steps.identify import Identify
from imagelake.steps.pipeline import Pipeline
from imagelake.steps.step import Batches, Step

FINGERPRINT_KEY = b"imagelake:fingerprint"
_COMMIT = CommitSize()


def extract_to(
    given: Tables | Source, pipeline: Pipeline, to: str, progress: Progress | None = None, commit: CommitSize = _COMMIT
) -> ExtractReport:
    """Do with every picture what the pipeline says, and write the rows of `schema.extracted` as Parquet files.

    Args:
        given: a lake, or any source of pictures, which need not be in a lake.
        pipeline: the steps.
        to: a new or empty folder, or one that the same pipeline wrote to before: pictures that are there are left out.
        progress: told how far it is.
        commit: how much goes into one file.

    Raises:
        InputError: the folder holds something else.
    """
    progress = progress or Silent()
    began, run = time.monotonic(), new_run("local")
    folder = open_folder(to, pipeline)
    key = "image_id" if isinstance(given, Tables) else "uri"
    done = _done(folder, key)
    total = Tally()
    steps: list[Step] = [ExtractPictures(pipeline, on_progress=progress.say)]
    if isinstance(given, Tables):
        known = Done((IdSet([pa.array(sorted(done), pa.string())]),))
        total += Tally(Counts(known=count_waiting(given.images, known)[0]))
        progress.start("extract", given.images.count() - total.counts.known)
        batches = pending(given.images, known)
    else:
        progress.start("extract", given.estimate())
        steps.insert(0, Identify(IdSet([])))
        total += Tally(Counts(known=len(done)))
        batches = _not_done(given, done)
    outcome = Outcome(pipeline)
    for piece in gather(count_pictures(run_local(batches, steps, workers=worker_count()), progress, key), commit):
        since = time.monotonic()
        write_part(piece, folder, pipeline)
        total += outcome.tally(piece, time.monotonic() - since, key)
    return report_of(pipeline, run, total, time.monotonic() - began, to=os.fspath(folder))


def open_folder(to: str, pipeline: Pipeline) -> Path:
    """The folder of the files, made where it is missing.

    Raises:
        InputError: it holds something else, or is not on this machine.
    """
    if is_remote(to):
        raise InputError(f"--to is {to}; this engine writes to folders. For other places: --engine spark.")
    folder = Path(to.removeprefix("file://"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))
    except OSError as error:
        raise InputError(f"--to {to} cannot be used: {error.strerror}. Give a new or empty folder.") from error
    for path in entries:
        if path.suffix != ".parquet":
            raise InputError(f"{to} holds other files ({path.name!r}). Give a new or empty folder.")
        made_by = (pq.read_schema(path).metadata or {}).get(FINGERPRINT_KEY, b"?").decode()
        if made_by != pipeline.fingerprint:
            raise InputError(f"{to} was written by other steps or models ({path.name!r}). Give a new or empty folder.")
    return folder


def write_part(piece: pa.Table, folder: Path, pipeline: Pipeline) -> None:
    """Write one file, whole or not at all."""
    rows = piece.replace_schema_metadata({FINGERPRINT_KEY: pipeline.fingerprint.encode()})
    name = f"part-{uuid.uuid4().hex}.parquet"
    temporary = folder / f".{name}"
    try:
        pq.write_table(rows, temporary, compression="zstd")
        temporary.rename(folder / name)
    finally:
        temporary.unlink(missing_ok=True)


def _done(folder: Path, key: str) -> set[str]:
    """The pictures that are in the files, those with an error too."""
    found: set[str] = set()
    for path in sorted(folder.glob("*.parquet")):
        found.update(pc.unique(pq.read_table(path, columns=[key]).column(key)).to_pylist())
    return found


def _not_done(source: Source, done: set[str]) -> Batches:
    for batch in map(complete, source.batches()):
        fresh = _fresh(batch, done)
        if fresh.num_rows or not batch.num_rows:
            yield fresh


def _fresh(batch: pa.RecordBatch, done: set[str]) -> pa.RecordBatch:
    if not done:
        return batch
    return batch.filter(pa.array([uri not in done for uri in batch.column("uri").to_pylist()], pa.bool_()))
