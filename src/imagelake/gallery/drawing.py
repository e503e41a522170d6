"""The map of a lake made ahead of time, and written to a file, as the command line does it."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from imagelake.errors import InputError
from imagelake.gallery.atlas import points_of
from imagelake.gallery.atlas_export import FORMATS, file_of, table_of
from imagelake.gallery.catalog import read_catalog
from imagelake.gallery.projecting import find, make, outgrown, place, sets_of
from imagelake.lake.tables import Tables
from imagelake.run.progress import Progress, Silent
from imagelake.run.search import no_vectors

_STEPS = 100  # of a bar


@dataclass(frozen=True)
class DrawOptions:
    """What to draw.

    Attributes:
        embedding_set: which vectors; None: the only set of whole images.
        method: `"pca"` or `"umap"`.
        again: make it also where the lake keeps one.
        export: the file to write the points to; its ending says how: `.parquet`, `.csv`, `.json`.
    """

    embedding_set: str | None = None
    method: str = "pca"
    again: bool = False
    export: Path | None = None


@dataclass(frozen=True)
class DrawReport:
    """What was drawn.

    Attributes:
        embedding_set: of which vectors.
        method: how.
        made: whether it was made now; false: the lake kept it.
        kept: whether the lake keeps it.
        placed: how many images have a point.
        total: how many images have a vector.
        seconds: what making it took, now or then.
        exported: the file that was written.
    """

    embedding_set: str
    method: str
    made: bool
    kept: bool
    placed: int
    total: int
    seconds: float
    exported: str | None


def draw_map(tables: Tables, options: DrawOptions, progress: Progress | None = None) -> DrawReport:
    """Make the map of an embedding set where the lake keeps none, place new images in it, and write it to a file.

    Raises:
        InputError: there is no such set, or no one chosen among several; the file cannot be written.
        MissingExtraError: the extra of the method is not installed.
    """
    kind = _check_file(options.export)
    embedding_set = _choose(tables, options.embedding_set)
    catalog = read_catalog(tables)
    rows = catalog.sets.get(embedding_set, catalog.order[:0])
    kept = None if options.again else find(tables, embedding_set, options.method)
    made = kept is None or outgrown(kept, len(rows))
    if kept is None or made:
        kept = make(tables, embedding_set, options.method, _Teller(progress or Silent()))
    kept = place(tables, embedding_set, kept, catalog.ids_of(rows))
    points = points_of(kept, catalog, rows)
    if options.export is not None:
        _write(options.export, file_of(table_of(points, catalog), kind))
    return DrawReport(
        embedding_set,
        options.method,
        made,
        kept.kept,
        len(points.keys),
        len(rows),
        kept.told.seconds,
        None if options.export is None else os.fspath(options.export),
    )


class _Teller:
    """Draws shares as steps of one bar after the other. A class because it counts."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task, self._done = "", 0

    def __call__(self, task: str, share: float) -> None:
        if task != self._task:
            self._task, self._done = task, 0
            self._progress.start(task, _STEPS)
        steps = int(share * _STEPS)
        if steps > self._done:
            self._progress.advance(steps - self._done)
            self._done = steps


def _choose(tables: Tables, asked: str | None) -> str:
    known = sets_of(tables)
    if asked is not None and asked in known:
        return asked
    if not known:
        raise no_vectors(tables)
    if asked is None and len(known) == 1:
        return known[0]
    given = "several embedding sets" if asked is None else f"no embedding set {asked[:80]!r} of whole images"
    raise InputError(f"This lake has {given}; choose one with --set: {', '.join(known)}.")


def _check_file(path: Path | None) -> str:
    if path is None:
        return "parquet"
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError(f"--export {path} does not end in one of {', '.join('.' + each for each in FORMATS)}.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--export {path}: there is no folder {path.absolute().parent}. Make it first.")
    return kind


def _write(path: Path, data: bytes) -> None:
    """The file whole, or as it was before."""
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.absolute().parent, prefix=f".{path.name[:80]}.", delete=False
        ) as file:
            file.write(data)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise InputError(f"--export {path} cannot be written: {error.strerror}. Give another path.") from error
