"""Moving out: pictures and all that is known of them, in formats that others read.

An export is planned first: which images, under which names, in which pieces. The plan is written beside the pieces, and
each piece is written under another name and renamed when it is whole. So a run that was stopped goes on with the first
piece that is missing, and its result is that of an undisturbed one.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imagelake.errors import InputError
from imagelake.lake.sql import matching_ids
from imagelake.lake.tables import Tables
from imagelake.run import report_html
from imagelake.run.export_delta import Delta
from imagelake.run.export_formats import Coco, Csv, Files, Format, Parquet, Piece, WebDataset
from imagelake.run.export_names import file_names
from imagelake.run.progress import Progress, Silent

_PLAN, _ABOUT = "export-plan.parquet", "export.json"
_PIECE_BYTES = 256 << 20
_PIECE_ROWS = 10_000
_ALL: tuple[Format, ...] = (Files(), Parquet(), WebDataset(), Coco(), Delta(), Csv())
FORMATS: dict[str, Format] = {each.name: each for each in _ALL}
_PLANNED = ["id", "uris", "format", "byte_size"]


@dataclass(frozen=True)
class ExportReport:
    """What an export did; images = written + there + gone.

    Attributes:
        format: the format's name.
        to: the folder.
        images: how many were planned.
        written: how many were written now.
        there: how many an earlier run had written.
        gone: how many were deleted from the lake since the plan was made.
        newer: how many came into the lake since then; they are in no file. Another folder takes them.
        files: how many files the export has, with those that describe it.
        seconds: how long it took.
    """

    format: str
    to: str
    images: int
    written: int
    there: int
    gone: int
    newer: int
    files: int
    seconds: float

    def _repr_html_(self) -> str:
        return report_html.report(self)


def export(
    tables: Tables,
    to: str | os.PathLike[str],
    format: str,  # noqa: A002  (the word that users know)
    where: str | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write the images of a lake, all or those for which an SQL predicate holds, to a folder.

    Raises:
        InputError: the format is not known, the predicate is wrong, or the folder holds something else.
    """
    if format not in FORMATS:
        raise InputError(f"--format {format!r} is not known; use one of {', '.join(FORMATS)}.")
    began, progress = time.monotonic(), progress or Silent()
    folder, form = Path(to), FORMATS[format]
    plan = _resume(folder, tables.root, format, where)
    newer = 0 if plan is None else _not_in(plan, _chosen(tables, where, ["id"]))
    if plan is None:
        plan = _plan(tables, where, form)
        _begin(folder, tables.root, plan, format, where)
    progress.start("export", plan.num_rows)
    counts = {"written": 0, "there": 0, "gone": 0}
    for number, rows in enumerate(_pieces(plan)):
        piece = Piece(folder, number, rows)
        if form.is_there(piece):
            counts["there"] += rows.num_rows
        else:
            written = form.write(tables, piece)
            counts["written"] += written
            counts["gone"] += rows.num_rows - written
        progress.advance(rows.num_rows)
    form.finish(tables, folder, plan)
    files = sum(path.is_file() for path in folder.rglob("*"))
    seconds = round(time.monotonic() - began, 3)
    return ExportReport(
        form.name, os.fspath(folder), plan.num_rows, **counts, newer=newer, files=files, seconds=seconds
    )


def _plan(tables: Tables, where: str | None, form: Format) -> pa.Table:
    """Which images, in which piece, under which name; ordered by piece and id."""
    images = _chosen(tables, where, _PLANNED).sort_by("id")
    names = file_names(images) if form.one_file_each else [None] * images.num_rows
    sizes = pc.fill_null(images.column("byte_size"), 0).to_pylist()
    return pa.table({
        "id": images.column("id"),
        "name": pa.array(names, pa.string()),
        "piece": pa.array(_cut(sizes), pa.int64()),
    })  # fmt: skip


def _chosen(tables: Tables, where: str | None, columns: list[str]) -> pa.Table:
    images = tables.images.read(columns)
    return images if where is None else images.filter(pc.is_in(images.column("id"), matching_ids(tables, where)))


def _not_in(plan: pa.Table, images: pa.Table) -> int:
    return (
        int(images.num_rows - pc.sum(pc.is_in(images.column("id"), plan.column("id"))).as_py())
        if images.num_rows
        else 0
    )


def _cut(sizes: list[int]) -> list[int]:
    """The number of the piece of each picture: pieces of about as many bytes."""
    out, piece, held, rows = [], 0, 0, 0
    for size in sizes:
        if rows and (held + size > _PIECE_BYTES or rows == _PIECE_ROWS):
            piece, held, rows = piece + 1, 0, 0
        out.append(piece)
        held, rows = held + size, rows + 1
    return out


def _pieces(plan: pa.Table) -> list[pa.Table]:
    pieces = plan.column("piece").to_numpy()
    count = int(pieces[-1]) + 1 if len(pieces) else 0
    starts = [*pieces.searchsorted(range(count)).tolist(), len(pieces)]
    return [plan.slice(start, stop - start) for start, stop in itertools.pairwise(starts)]


def _begin(folder: Path, root: str, plan: pa.Table, form: str, where: str | None) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(plan, folder / (_PLAN + ".part"))
        (folder / (_PLAN + ".part")).replace(folder / _PLAN)
        _write_json(folder / _ABOUT, {"lake": root, "format": form, "where": where, "images": plan.num_rows})
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}. Give another --to.") from error


def _resume(folder: Path, root: str, form: str, where: str | None) -> pa.Table | None:
    """The plan of a run that was stopped, or of one that is done; None for a new or empty folder."""
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; --to takes a new or an empty folder.")
    try:
        about = json.loads((folder / _ABOUT).read_text())
        plan = pq.read_table(folder / _PLAN)
    except (OSError, ValueError, pa.ArrowException):
        left = {_PLAN, _PLAN + ".part", _ABOUT}  # stopped while the plan was written: begin again
        if any(path.name not in left for path in folder.iterdir()):
            raise InputError(
                f"{folder} holds something that is no export; --to takes a new or an empty folder."
            ) from None
        return None
    if about.get("lake", root) != root:
        raise InputError(f"{folder} holds an export of {about['lake']}, not of {root}. Give another --to.")
    if (about.get("format"), about.get("where")) != (form, where):
        raise InputError(
            f"{folder} holds an export with --format {about.get('format')} and --where {about.get('where')!r}. Give "
            "the same to go on with it, or another --to."
        )
    return plan


def _write_json(path: Path, value: Any) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")
    part.replace(path)
