"""An extraction into Parquet files instead of a lake: path, box and vector of each picture, and nothing else kept.

A folder of such files remembers what made it, and which pictures are in it, so that a run that was stopped goes on.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imagelake import schema
from imagelake.errors import InputError, LakeError
from imagelake.files import is_remote
from imagelake.lake.ids import IdSet
from imagelake.lake.tables import Tables
from imagelake.run.commits import CommitSize, gather
from imagelake.run.extract import ExtractReport, count_pictures, count_waiting, pending, report_of
from imagelake.run.local import run_local, worker_count
from imagelake.run.outcome import Done, Outcome, Tally
from imagelake.run.progress import Progress, Silent
from imagelake.run.receipts import Counts, RunOf, new_run, write_receipt
from imagelake.sources.source import Source, complete
from imagelake.steps.extract import ExtractPictures
from imagelake.steps.identify import Identify
from imagelake.steps.pipeline import Pipeline
from imagelake.steps.step import Batches, Step

_MADE_BY, _KEY = "imagelake:fingerprint", "imagelake:key"  # in the metadata of each file
_LOCK = ".lock"
_COMMIT = CommitSize()


@dataclass(frozen=True)
class _Files:
    """The Parquet files of a folder that is ours alone, and which pictures are in them.

    Attributes:
        folder: where they are.
        fingerprint: of what made them.
        key: the column that tells pictures from one another.
        done: the pictures that have a good row.
        failed: those that only have rows with an error, by the file that these are in.
    """

    folder: Path
    fingerprint: str
    key: str
    done: frozenset[str] = frozenset()
    failed: Mapping[Path, frozenset[str]] = field(default_factory=dict)


def extract_to(
    given: Tables | Source, pipeline: Pipeline, to: str, progress: Progress | None = None, commit: CommitSize = _COMMIT
) -> ExtractReport:
    """Do with every picture what the pipeline says, and write the rows of `schema.extracted` as Parquet files.

    Args:
        given: a lake, whose runs then list this one, or any source of pictures, which need not be in a lake.
        pipeline: the steps.
        to: a new or empty folder, or one that the same pipeline wrote to before: pictures that are there are left out,
            those that were rejected are tried again.
        progress: told how far it is.
        commit: how much goes into one file.

    Raises:
        InputError: the folder holds something else, or another run writes there.
    """
    progress = progress or Silent()
    began, run = time.monotonic(), new_run("local")
    key = "image_id" if isinstance(given, Tables) else "uri"
    outcome, total = Outcome(pipeline), Tally()
    with _open(to, pipeline.result_fingerprint, key) as files:
        counts, batches = _left(given, files, progress)
        total += Tally(counts)
        steps: list[Step] = [ExtractPictures(pipeline, on_progress=progress.say)]
        if not isinstance(given, Tables):
            steps.insert(0, Identify(IdSet([])))
        extracted = run_local(batches, steps, workers=worker_count())
        for piece in gather(count_pictures(extracted, progress, key), commit):
            since = time.monotonic()
            _forget_failed(piece, files)
            _write(piece.replace_schema_metadata(_marks(files)), files.folder / f"part-{uuid.uuid4().hex}.parquet")
            tally = outcome.tally(piece, time.monotonic() - since, key)
            list_run(given, pipeline, os.fspath(files.folder), tally, time.monotonic() - since, run, progress)
            total += tally
    return report_of(pipeline, run, total, time.monotonic() - began, to=os.fspath(files.folder))


def list_run(
    given: Tables | Source, pipeline: Pipeline, to: str, tally: Tally, seconds: float, run: RunOf, progress: Progress
) -> None:
    """Leave a receipt in the lake that the pictures came from; a lake that cannot be written is told of."""
    if not isinstance(given, Tables) or not tally.counts.found:
        return
    try:
        given.receipts.add_columns(schema.RECEIPTS)  # an older version made the lake
        made_by, stages = pipeline.result_fingerprint, tally.seconds
        write_receipt(given, "extract", to, made_by, tally.counts, seconds, run, stages=stages)
    except LakeError as error:
        progress.say(f"This run will not be listed by `imagelake runs`: {error}")


def _left(given: Tables | Source, files: _Files, progress: Progress) -> tuple[Counts, Batches]:
    """How many pictures are done, and the others."""
    if not isinstance(given, Tables):
        progress.start("extract", given.estimate())
        return Counts(known=len(files.done)), _not_done(given, files.done)
    done = Done((IdSet([pa.array(sorted(files.done), pa.string())]),))
    known, waiting = count_waiting(given.images, done)
    progress.start("extract", waiting)
    return Counts(known=known), pending(given.images, done)


@contextmanager
def _open(to: str, fingerprint: str, key: str) -> Iterator[_Files]:
    """The files in a folder, made where it is missing, for this run alone."""
    if is_remote(to):
        raise InputError(f"--to is {to}; this engine writes to folders. For other places: --engine spark.")
    files = _Files(Path(to.removeprefix("file://")), fingerprint, key)
    try:
        files.folder.mkdir(parents=True, exist_ok=True)
        if not (files.folder / _LOCK).exists():
            _names(files)  # a folder of something else stays as it is
        lock = (files.folder / _LOCK).open("w")
    except OSError as error:
        raise InputError(f"--to {to} cannot be used: {error.strerror}. Give a new or empty folder.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"Another run is writing to {to}. Wait for it, or give another folder.") from error
        for leftover in files.folder.glob(".part-*.parquet"):
            leftover.unlink(missing_ok=True)  # of a run that was killed
        yield _look(files)


def _look(files: _Files) -> _Files:
    """The same with the pictures that are there."""
    good: set[str] = set()
    bad: dict[Path, set[str]] = {}
    for path in _names(files):
        rows = _read(path, [files.key, "error"])
        ids, is_good = rows.column(0).combine_chunks(), pc.is_null(rows.column(1)).combine_chunks()
        good.update(ids.filter(is_good).to_pylist())
        bad[path] = set(ids.filter(pc.invert(is_good)).to_pylist())
    failed = {path: frozenset(each - good) for path, each in bad.items() if each - good}
    return replace(files, done=frozenset(good), failed=failed)


def _names(files: _Files) -> list[Path]:
    """The files, of which each is ours.

    Raises:
        InputError: one is not.
    """
    found = sorted(path for path in files.folder.iterdir() if not path.name.startswith((".", "_")))
    for path in found:
        made = _metadata(path)
        if made[_MADE_BY] != files.fingerprint:
            raise InputError(
                f"{files.folder} was written by other steps or models ({path.name!r}). Give a new or empty folder."
            )
        if made.get(_KEY, files.key) != files.key:
            raise InputError(
                f"{files.folder} holds pictures by their {made[_KEY]}, and this run has them by their {files.key}: "
                "fill a folder either from a lake or from sources. Give a new or empty folder."
            )
    return found


def _metadata(path: Path) -> dict[str, str]:
    if path.suffix != ".parquet":
        raise _of_others(path)
    try:
        told = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise _of_others(path) from error
    if _MADE_BY.encode() not in told:
        raise _of_others(path)
    return {name.decode(): text.decode() for name, text in told.items()}


def _of_others(path: Path) -> InputError:
    return InputError(f"{path.parent} holds other files ({path.name!r}). Give a new or empty folder.")


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}. Delete it, so that its pictures are done again.") from error


def _marks(files: _Files) -> dict[str, str]:
    return {_MADE_BY: files.fingerprint, _KEY: files.key}


def _forget_failed(piece: pa.Table, files: _Files) -> None:
    """Take out the old rows of pictures that were tried again: each was without a good row.

    A run that is killed right after that tries them once more.
    """
    tried = set(piece.column(files.key).to_pylist())
    for path, failed in files.failed.items():
        if tried.isdisjoint(failed) or not path.exists():
            continue
        rows = _read(path)
        gone = pc.is_in(rows.column(files.key), pa.array(sorted(tried & failed), pa.string()))
        left = rows.filter(pc.invert(gone))
        if left.num_rows == 0:
            path.unlink()
        elif left.num_rows < rows.num_rows:
            _write(left, path)


def _write(rows: pa.Table, path: Path) -> None:
    """Write one file, whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    try:
        pq.write_table(rows, temporary, compression="zstd")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _not_done(source: Source, done: frozenset[str]) -> Batches:
    """The pictures that are not done, with the seconds that reading each took."""
    began = time.perf_counter()
    for batch in map(complete, source.batches()):
        each_s = (time.perf_counter() - began) / max(1, batch.num_rows)
        fresh = _fresh(batch, done)
        if fresh.num_rows or not batch.num_rows:
            yield fresh.append_column("read_s", pa.array([each_s] * fresh.num_rows, pa.float32()))
        began = time.perf_counter()


def _fresh(batch: pa.RecordBatch, done: frozenset[str]) -> pa.RecordBatch:
    if not done:
        return batch
    return batch.filter(pa.array([uri not in done for uri in batch.column("uri").to_pylist()], pa.bool_()))
