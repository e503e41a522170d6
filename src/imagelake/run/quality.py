"""Quality flags of a whole lake: how many images have each, by which thresholds, and what such images look like."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from imagelake import schema
from imagelake.errors import ImageError, InputError, LakeError
from imagelake.files import display_name
from imagelake.lake.ids import IdSet
from imagelake.lake.sql import matching_ids
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables
from imagelake.pixels.decode import decode_rgb
from imagelake.pixels.describe import measure_file
from imagelake.pixels.grid import Cell, draw_grid, save_png
from imagelake.pixels.quality import (
    COLUMNS,
    DEFAULTS,
    FLAGS,
    NEW_COLUMNS,
    Flag,
    Thresholds,
    figures_of,
    flag_lists,
    flags_of,
    passes,
)
from imagelake.pixels.reduction import reduce_to
from imagelake.run import report_html
from imagelake.run.commits import CommitSize, gather
from imagelake.run.local import run_local, worker_count
from imagelake.run.progress import Progress, Silent, counted
from imagelake.steps.step import Function

_BATCH_ROWS = 64  # pictures that a worker measures at once
_BATCH_BYTES = 8 << 20
_PAGE_ROWS = 65_536
_COMMIT = CommitSize()
_NOT_MEASURED = "fineness IS NULL OR flags IS NULL"
_PATCHED = pa.schema([schema.IMAGES.field(name) for name in ("id", *NEW_COLUMNS, "flags")])
_CELL_PIXELS = 448
_COLUMNS, _FLAGGED, _NEAR = 6, 12, 6  # of a grid: cells a row, flagged cells, cells that are near the threshold

Floats = npt.NDArray[np.float32]
RowIds = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class QualityOptions:
    """What to count and what to do with it.

    Attributes:
        thresholds: where images get their flags.
        where: an SQL predicate over the images table; None for all.
        out: a folder for one sample grid a flag; None draws nothing.
        save: write the flags by these thresholds to the column `flags`.
    """

    thresholds: Thresholds = DEFAULTS
    where: str | None = None
    out: str | os.PathLike[str] | None = None
    save: bool = False


@dataclass(frozen=True)
class FlagCount:
    """How many images have a flag: their share of all, 0 to 1, the rule in words, and the grid if it was drawn."""

    name: str
    count: int
    share: float
    rule: str
    grid: str | None
    flagged_samples: list[str]
    near_samples: list[str]


@dataclass(frozen=True)
class QualityReport:
    """What `quality` found.

    Attributes:
        images: how many were looked at.
        measured: of them, those whose figures were missing and were measured now.
        unreadable: of them, those that cannot be decoded any more; they have no flags.
        flagged: how many have one flag or more.
        differing: how many have other flags in the column `flags` than these thresholds give.
        saved: whether these were written.
        thresholds: the thresholds by name.
        flags: each flag.
        seconds: how long it took.
    """

    images: int
    measured: int
    unreadable: int
    flagged: int
    differing: int
    saved: bool
    thresholds: dict[str, float]
    flags: list[FlagCount]
    seconds: float

    def _repr_html_(self) -> str:
        return report_html.quality(self)


def quality(
    tables: Tables,
    options: QualityOptions | None = None,
    progress: Progress | None = None,
    commit: CommitSize = _COMMIT,
) -> QualityReport:
    """Count the images that have each flag, and draw or save them if asked.

    Images without figures, from a lake that an older version made, are measured first from their stored bytes, a commit
    at a time: a run that was stopped goes on where it was. Of other images only figures are read.

    Raises:
        InputError: the predicate is wrong, or the folder cannot be written.
    """
    options, progress = options or QualityOptions(), progress or Silent()
    began = time.monotonic()
    out = _make_folder(options.out)
    tables.images.add_columns(schema.IMAGES)
    allowed = None if options.where is None else IdSet([matching_ids(tables, options.where)])
    measured, unreadable = _measure_missing(tables.images, allowed, progress, commit)
    tally = _count(tables.images, allowed, options)
    if measured or (options.save and tally.differing):
        tables.images.tidy()
    return QualityReport(
        images=tally.images + unreadable,
        measured=measured,
        unreadable=unreadable,
        flagged=tally.flagged,
        differing=0 if options.save else tally.differing,
        saved=options.save,
        thresholds=dataclasses.asdict(options.thresholds),
        flags=_draw(tables.images, tally, options.thresholds, out),
        seconds=round(time.monotonic() - began, 3),
    )


def _make_folder(out: str | os.PathLike[str] | None) -> Path | None:
    """The folder for grids, made before any work."""
    if out is None:
        return None
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{os.fspath(out)!r} is no folder to write in: {error.strerror}. Give another --out."
        ) from error
    return Path(out)


# -- figures of images that have none


@dataclass(frozen=True)
class _Measure:
    """A step: id and bytes in, id, figures and flags by the default thresholds out; nulls where it is no picture."""

    def output_schema(self, schema: pa.Schema) -> pa.Schema:  # noqa: ARG002  (the same for any)
        return _PATCHED

    def open(self) -> Function:
        return self._measure

    def _measure(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = []
        for name, data in zip(batch.column("id").to_pylist(), batch.column("bytes"), strict=True):
            row: dict[str, object] = {"id": name}
            try:
                width, height, figures = measure_file(data.as_py() or b"")
            except ImageError:
                pass
            else:
                row |= {column: getattr(figures, column) for column in NEW_COLUMNS}
                row["flags"] = flags_of(figures, width, height)
            rows.append(row)
        return pa.RecordBatch.from_pylist(rows, schema=_PATCHED)


def _measure_missing(images: Table, allowed: IdSet | None, progress: Progress, commit: CommitSize) -> tuple[int, int]:
    """Measure the images without figures. Returns how many were, and how many are no pictures any more."""
    missing = sum(page.num_rows for page in _pages(images, ["id"], _NOT_MEASURED, allowed))
    if not missing:
        return 0, 0
    progress.start("measure", missing)
    progress.say(f"{missing:,} images have no figures for flags yet; they are measured from their stored bytes.")
    measured = unreadable = 0
    batches = counted(run_local(_stored(images, allowed), [_Measure()], workers=worker_count()), progress)
    for piece in gather(batches, commit):
        good = piece.filter(pc.is_valid(piece.column("flags")))
        images.patch(lambda good=good: good)  # type: ignore[misc]  # figures depend on nothing that changes
        measured, unreadable = measured + good.num_rows, unreadable + piece.num_rows - good.num_rows
    return measured, unreadable


def _stored(images: Table, allowed: IdSet | None) -> Iterator[pa.RecordBatch]:
    """Id and bytes of the images without figures, in batches bounded by bytes."""
    for page in _pages(images, ["id", "byte_size"], _NOT_MEASURED, allowed):
        ids, row_ids = page.column("id"), page.column("_rowid").to_pylist()
        sizes = pc.fill_null(page.column("byte_size"), 0).to_pylist()
        start = held = 0
        for stop, size in enumerate(sizes, start=1):
            held += size
            if stop - start == _BATCH_ROWS or held >= _BATCH_BYTES or stop == len(sizes):
                found = _bytes(images, ids.slice(start, stop - start).to_pylist(), row_ids[start:stop])
                data = pa.array(list(found.values()), pa.large_binary())
                yield pa.record_batch({"id": pa.array(list(found), pa.string()), "bytes": data})
                start, held = stop, 0


def _bytes(images: Table, ids: list[str], row_ids: list[int]) -> dict[str, bytes | None]:
    """Bytes by id, without images that were deleted meanwhile. Looking ids up takes longer, so only those few times."""
    try:
        return dict(zip(ids, images.read_bytes(row_ids), strict=True))
    except LakeError:
        return dict(images.bytes_of(ids))


def _pages(images: Table, columns: Sequence[str], where: str, allowed: IdSet | None) -> Iterator[pa.RecordBatch]:
    """Pages of the images that are allowed, with their row ids; never their bytes."""
    for page in images.scan(columns, where, batch_rows=_PAGE_ROWS, row_ids=True):
        yield page if allowed is None else page.filter(pa.array(allowed.contains(page.column("id"))))


# -- counting


@dataclass
class _Samples:
    """Figures and row ids of the images with a flag, and of those next to its threshold on the other side."""

    flag: Flag
    limit: float
    values: list[Floats] = field(default_factory=list)
    row_ids: list[RowIds] = field(default_factory=list)
    near_values: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    near_row_ids: RowIds = field(default_factory=lambda: np.empty(0, np.uint64))

    def add(self, values: Floats, row_ids: RowIds, held: npt.NDArray[np.bool_]) -> None:
        """Take in a page."""
        self.values.append(values[held])
        self.row_ids.append(row_ids[held])
        other_side = values >= self.limit if self.flag.below else values <= self.limit
        near_values = np.concatenate([self.near_values, values[other_side]])
        near_row_ids = np.concatenate([self.near_row_ids, row_ids[other_side]])
        nearest = np.lexsort((near_row_ids, np.abs(near_values - self.limit)))[:_NEAR]
        self.near_values, self.near_row_ids = near_values[nearest], near_row_ids[nearest]

    def flagged(self) -> list[tuple[int, float]]:
        """Row ids and figures of some, evenly from the most extreme to the one nearest to the threshold."""
        values, row_ids = np.concatenate([*self.values, ()]), np.concatenate([*self.row_ids, self.near_row_ids[:0]])
        order = np.lexsort((row_ids, values if self.flag.below else -values))
        picked = order[np.unique(np.linspace(0, len(order) - 1, _FLAGGED).astype(int))] if len(order) else order
        return list(zip(row_ids[picked].tolist(), values[picked].tolist(), strict=True))

    def near(self) -> list[tuple[int, float]]:
        """Row ids and figures of the nearest that have not the flag."""
        return list(zip(self.near_row_ids.tolist(), self.near_values.tolist(), strict=True))


@dataclass
class _Tally:
    """What is counted, page after page."""

    samples: dict[str, _Samples]
    images: int = 0
    flagged: int = 0
    differing: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((flag.name for flag in FLAGS), 0))


def _count(images: Table, allowed: IdSet | None, options: QualityOptions) -> _Tally:
    """Count by the thresholds; keep samples where grids are drawn; write the flags that differ where they are saved."""
    limits = dataclasses.asdict(options.thresholds)
    tally = _Tally({flag.name: _Samples(flag, limits[flag.name]) for flag in FLAGS} if options.out is not None else {})
    for page in _pages(images, ["id", "flags", *COLUMNS], f"NOT ({_NOT_MEASURED})", allowed):
        columns = {name: _to_numpy(page.column(name)) for name in COLUMNS}
        held = passes(columns, options.thresholds)
        tally.images += page.num_rows
        tally.flagged += int(np.logical_or.reduce(list(held.values())).sum())
        for name, those in held.items():
            tally.counts[name] += int(those.sum())
        figures = figures_of(columns) if tally.samples else {}
        for name, samples in tally.samples.items():
            row_ids = page.column("_rowid").to_numpy(zero_copy_only=False)
            samples.add(figures[name].astype(np.float32), row_ids, held[name])
        tally.differing += _compare(images, page, flag_lists(columns, options.thresholds), save=options.save)
    return tally


def _to_numpy(column: pa.Array) -> npt.NDArray[np.float64]:
    """Shape (n,); a null becomes NaN, which no flag holds for."""
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _compare(images: Table, page: pa.RecordBatch, flags: list[list[str]], *, save: bool) -> int:
    """How many images of a page have other flags than these; with `save` they get these."""
    stored = page.column("flags").to_pylist()
    rows = [row for row, (one, other) in enumerate(zip(stored, flags, strict=True)) if one != other]
    if rows and save:
        lists = pa.array([flags[row] for row in rows], _PATCHED.field("flags").type)
        changed = pa.table({"id": page.column("id").take(pa.array(rows)), "flags": lists})
        images.patch(lambda: changed)
    return len(rows)


# -- grids


def _draw(images: Table, tally: _Tally, thresholds: Thresholds, out: Path | None) -> list[FlagCount]:
    """The counts by flag, each with its grid in the folder `out`."""
    flagged = {name: samples.flagged() for name, samples in tally.samples.items()}
    near = {name: samples.near() for name, samples in tally.samples.items()}
    names = _look_up(images, {row_id for each in (*flagged.values(), *near.values()) for row_id, _ in each})
    counts = []
    for flag in FLAGS:
        count = tally.counts[flag.name]
        rule, grid = flag.rule(thresholds), None
        if out is not None:
            grid = os.fspath(out / f"{flag.name}.png")
            heading = f"{flag.name}: {count:,} of {tally.images:,} images; {rule}"
            _save(_rows(images, names, flagged[flag.name], near[flag.name]), heading, grid)
        counts.append(
            FlagCount(
                name=flag.name,
                count=count,
                share=round(count / tally.images, 6) if tally.images else 0.0,
                rule=rule,
                grid=grid,
                flagged_samples=[names[row_id][0] for row_id, _ in flagged.get(flag.name, []) if row_id in names],
                near_samples=[names[row_id][0] for row_id, _ in near.get(flag.name, []) if row_id in names],
            )
        )
    return counts


def _look_up(images: Table, row_ids: set[int]) -> dict[int, tuple[str, str]]:
    """Id and file name by row id; one that was deleted meanwhile is missing."""
    if not row_ids:
        return {}
    wanted, found = pa.array(sorted(row_ids), pa.uint64()), {}
    for page in images.scan(["id", "uris"], batch_rows=_PAGE_ROWS, row_ids=True):
        for row in page.filter(pc.is_in(page.column("_rowid"), wanted)).to_pylist():
            found[row["_rowid"]] = (row["id"], display_name(row["uris"][0]) if row["uris"] else row["id"][:12])
    return found


def _rows(
    images: Table, names: dict[int, tuple[str, str]], flagged: list[tuple[int, float]], near: list[tuple[int, float]]
) -> list[list[Cell]]:
    """Rows of flagged images, then one of those near the threshold; the first of each row says which they are."""
    rows = []
    for words, samples in (("flagged", flagged[:_COLUMNS]), ("flagged", flagged[_COLUMNS:]), ("not flagged", near)):
        there = [(*names[row_id], f"{value:.4g}") for row_id, value in samples if row_id in names]
        stored = images.bytes_of([image_id for image_id, _, _ in there])
        row = [Cell(_decode_for_cell(stored.get(image_id, b"")), value, name) for image_id, name, value in there]
        rows.append([*(dataclasses.replace(cell, title=f"{words}: {cell.title}") for cell in row[:1]), *row[1:]])
    return rows


def _save(rows: list[list[Cell]], heading: str, path: str) -> None:
    try:
        save_png(draw_grid(rows, heading), path)
    except OSError as error:
        raise InputError(f"{path!r} cannot be written: {error.strerror or error}. Give another --out.") from error


def _decode_for_cell(data: bytes) -> npt.NDArray[np.uint8]:
    """No more pixels than a cell shows; a gray square for an image that is gone or broken."""
    try:
        return reduce_to(decode_rgb(data, min_side=_CELL_PIXELS), _CELL_PIXELS)
    except ImageError:
        return np.full((_CELL_PIXELS, _CELL_PIXELS, 3), 200, np.uint8)
