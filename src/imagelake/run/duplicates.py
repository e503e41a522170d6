"""Which images of a lake are copies of each other, and which one of each group to keep. Nothing is deleted.

A group is a star: its keeper, and images that are each near the keeper, by bytes, by hash or by embedding. So a group
never chains from one picture over similar ones to an unlike one; see `imagelake.search.groups.stars`. The keeper is the
image with the most pixels; of those the one taken first (a known time comes before an unknown one), then the one that
the lake has had for longest, then the largest file, then the smallest id.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from imagelake.errors import ImageError, InputError
from imagelake.files import display_name
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables, manifest_text
from imagelake.models.choice import metric_of, read_text
from imagelake.models.file_manifest import FileManifest
from imagelake.models.manifest import Manifest
from imagelake.models.zoo import default_manifest
from imagelake.pixels.decode import decode_rgb
from imagelake.pixels.grid import Cell, draw_grid, save_png
from imagelake.pixels.reduction import reduce_to
from imagelake.run import report_html
from imagelake.run.extract import set_name
from imagelake.run.progress import Progress, Silent
from imagelake.search.groups import Reach, Stars, code_reach, stars, vector_reach

Kind = Literal["exact", "hash", "embedding"]
KINDS: tuple[Kind, ...] = ("exact", "hash", "embedding")

HASH_DISTANCE = 4
"""Bits of 64. Of 21 sample photos, every copy at half the size or at JPEG quality 30 is within it; of the 233,586 pairs
of different photos (those and 663 of clothes) none is, and at 6 bits two are."""

EMBEDDING_DISTANCE = 0.10
"""Cosine, for the default model. Of 21 sample photos, 20 copies cropped to 95 % of each side and 21 mirrored ones are
within it; of 36,585 pairs of different photos none is: a stereo pair is at 0.115, the next at 0.158."""

_HASH_BITS = 64
_FEWEST_ONES = 12  # photos have 31 or 32, pictures that vary in one direction only at most 8
_FLAT = 2.0  # standard deviation of every channel, of 255: less is one color, whose vector says nothing
_COLUMNS = [
    "id", "uris", "width", "height", "byte_size", "taken_at", "added_at", "perceptual_hash", "std_r", "std_g", "std_b"
]  # fmt: skip
_BATCH_ROWS = 4096
_CELL_PIXELS = 448
_MEMBERS_DRAWN = 6


@dataclass(frozen=True)
class DuplicateOptions:
    """What counts as a duplicate.

    Attributes:
        by: kinds out of `"exact"` (the same bytes under several URIs), `"hash"` and `"embedding"`; None for all that
            the lake has what they need for.
        hash_distance: the most bits in which perceptual hashes of duplicates differ, 0 to 64.
        embedding_distance: the greatest distance of duplicates' vectors; None for `EMBEDDING_DISTANCE` where vectors
            are compared by cosine.
        embedding_set: which vectors; by default those of the default model, or the only set.
    """

    by: tuple[Kind, ...] | None = None
    hash_distance: int = HASH_DISTANCE
    embedding_distance: float | None = None
    embedding_set: str | None = None


@dataclass(frozen=True, slots=True)
class GroupedImage:
    """One image of a group.

    `kind` says what linked it to the keeper, `distance` how far it is from it by that kind (bits of 64 for a hash);
    they are None and 0 for the keeper itself. Further URIs of the keeper's own bytes are a member of kind `"exact"`.
    """

    id: str
    uris: list[str]
    width: int
    height: int
    byte_size: int
    taken_at: datetime | None
    kind: Kind | None
    distance: float


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """The image to keep, and those that could go: the nearest kind first, then by distance."""

    keeper: GroupedImage
    members: list[GroupedImage]

    @property
    def bytes_reclaimable(self) -> int:
        """The bytes of all files that could go."""
        return sum(member.byte_size * len(member.uris) for member in self.members)


@dataclass(frozen=True)
class DuplicateReport:
    """All groups, those that would free most bytes first.

    Attributes:
        groups: the groups, each of a keeper and one member or more.
        groups_count: how many groups.
        images: how many images were compared.
        duplicates: how many files could go, a file being one URI that was ingested.
        bytes_reclaimable: their bytes. The lake itself holds the bytes of exact duplicates once already.
        by: how many of the files each kind linked; only the kinds that were looked for.
        embedding_set: whose vectors were compared; None where none were.
        hash_distance: the greatest that counted; None where hashes were not compared.
        embedding_distance: the greatest that counted; None where vectors were not compared.
        notes: what was not compared, and why; for people.
    """

    groups: list[DuplicateGroup]
    groups_count: int
    images: int
    duplicates: int
    bytes_reclaimable: int
    by: dict[Kind, int]
    embedding_set: str | None
    hash_distance: int | None
    embedding_distance: float | None
    notes: list[str]

    def _repr_html_(self) -> str:
        return report_html.duplicates(self)


@dataclass(frozen=True)
class _Vectors:
    """An embedding set that is compared."""

    name: str
    table: Table
    manifest: Manifest | FileManifest
    distance: float


@dataclass
class _Plan:
    """What is compared; a class that changes, because images and notes come to light one after the other."""

    kinds: list[Kind]
    vectors: _Vectors | None = None
    notes: list[str] = field(default_factory=list)


_STANDARD = DuplicateOptions()


def duplicates(
    tables: Tables, options: DuplicateOptions = _STANDARD, progress: Progress | None = None
) -> DuplicateReport:
    """Find the groups of duplicates in a lake and suggest which image of each to keep. Nothing is deleted.

    Memory holds the small columns of the images table, the vectors of one embedding set, and the groups; never all
    near pairs.

    Raises:
        InputError: an option is out of range, or a kind was asked for that the lake has not what it needs for.
    """
    plan = _plan(tables, options)
    images = _from_best_to_worst(tables.images.read(_COLUMNS))
    reaches = _reaches(images, plan, options)
    progress = progress or Silent()
    progress.start("compare", images.num_rows)
    found = stars(images.num_rows, [reach for _, reach in reaches], progress.advance)
    groups = _groups(images, found, [kind for kind, _ in reaches], exact="exact" in plan.kinds)
    by: dict[Kind, int] = dict.fromkeys(plan.kinds, 0)
    for group in groups:
        for member in group.members:
            by[member.kind or "exact"] += len(member.uris)
    return DuplicateReport(
        groups=groups,
        groups_count=len(groups),
        images=images.num_rows,
        duplicates=sum(by.values()),
        bytes_reclaimable=sum(group.bytes_reclaimable for group in groups),
        by=by,
        embedding_set=plan.vectors.name if plan.vectors else None,
        hash_distance=options.hash_distance if "hash" in plan.kinds else None,
        embedding_distance=plan.vectors.distance if plan.vectors else None,
        notes=plan.notes,
    )


def _plan(tables: Tables, options: DuplicateOptions) -> _Plan:
    _check(options)
    asked = KINDS if options.by is None else options.by
    plan = _Plan([kind for kind in KINDS if kind in asked])
    if "embedding" in plan.kinds:
        try:
            plan.vectors = _choose_vectors(tables, options)
        except InputError as error:
            if options.by is not None or options.embedding_set is not None:
                raise
            plan.kinds.remove("embedding")
            plan.notes.append(f"Not compared by embedding. {error}")
    return plan


def _check(options: DuplicateOptions) -> None:
    unknown = [kind for kind in options.by or () if kind not in KINDS]
    if unknown or options.by == ():
        given = ", ".join(map(repr, unknown)) or "nothing"
        raise InputError(f"--by is {given}; give one or more of {', '.join(KINDS)}, with commas between.")
    if not 0 <= options.hash_distance <= _HASH_BITS:
        raise InputError(f"--hash-distance is {options.hash_distance}; it must be 0 to {_HASH_BITS} bits.")
    distance = options.embedding_distance
    if distance is not None and not (math.isfinite(distance) and distance >= 0):
        raise InputError(f"--embedding-distance is {distance}; it must be 0 or more.")
    if options.embedding_set is not None and options.by is not None and "embedding" not in options.by:
        raise InputError(f"--set {options.embedding_set} was given, but --by leaves embedding out. Drop one of them.")


def _choose_vectors(tables: Tables, options: DuplicateOptions) -> _Vectors:
    """The embedding set to compare.

    Raises:
        InputError: there is none, or several and no default among them, or nobody knows what near means for it.
    """
    name = options.embedding_set or _standard_set(tables)
    table = tables.embeddings(name)
    if table.count() == 0:
        raise InputError(f"No image has a vector in {name} yet. Run: imagelake extract --lake {tables.root}")
    if "image_id" in table.schema.names:
        raise InputError(f"{name} has vectors of regions, not of images. Choose another embedding set.")
    manifest = read_text(manifest_text(table))
    distance, metric = options.embedding_distance, metric_of(manifest)
    if distance is None and metric != "cosine":
        raise InputError(f"{name} compares by {metric}, where no distance is known. Give --embedding-distance.")
    return _Vectors(name, table, manifest, EMBEDDING_DISTANCE if distance is None else distance)


def _standard_set(tables: Tables) -> str:
    sets = tables.embedding_sets(of_regions=False)
    if not sets:
        raise InputError(f"No image has a vector yet. Run: imagelake extract --lake {tables.root}")
    default = [set_name(default_manifest(precision)) for precision in ("auto", "int8", "fp32")]
    known = [name for name in default if name in sets]
    if not known and len(sets) > 1:
        raise InputError(f"This lake has several embedding sets; choose one with --set: {', '.join(sets)}.")
    return (known or sets)[0]


def _from_best_to_worst(images: pa.Table) -> pa.Table:
    """The images ordered by how good a keeper each is; see the top of this file."""
    pixels = pc.multiply(images.column("width").cast(pa.int64()), images.column("height").cast(pa.int64()))
    order: list[tuple[str, Any]] = [
        ("pixels", "descending"),
        ("taken_at", "ascending"),
        ("added_at", "ascending"),
        ("byte_size", "descending"),
        ("id", "ascending"),
    ]
    keys = images.append_column("pixels", pixels).select([name for name, _ in order])
    return images.take(pc.sort_indices(keys, sort_keys=order))  # what is not known comes last


def _reaches(images: pa.Table, plan: _Plan, options: DuplicateOptions) -> list[tuple[Kind, Reach]]:
    """What near means, for each kind that compares images with each other."""
    reaches: list[tuple[Kind, Reach]] = []
    flat = _is_flat(images)
    if "hash" in plan.kinds:
        codes = pc.fill_null(images.column("perceptual_hash"), 0).to_numpy().astype(np.uint64)
        telling = (np.bitwise_count(codes) >= _FEWEST_ONES) & ~flat
        reaches.append(("hash", code_reach(codes, telling, options.hash_distance)))
        _note(plan, int((~telling).sum()), "too plain for a hash to tell them apart; they were not compared by hash.")
    if plan.vectors is not None:
        vectors, rows = _read_vectors(images, plan.vectors, flat)
        limit, metric = plan.vectors.distance, metric_of(plan.vectors.manifest)
        reaches.append(("embedding", vector_reach(vectors, rows, images.num_rows, limit, metric)))
        _note(plan, int(flat.sum()), "of one color; they were not compared by embedding.")
        missing = images.num_rows - len(rows) - int(flat.sum())
        _note(plan, missing, "without a vector and were not compared by embedding. Run: imagelake extract")
    return reaches


def _note(plan: _Plan, count: int, text: str) -> None:
    if count:
        plan.notes.append(f"{count:,} {'image is' if count == 1 else 'images are'} {text}")


def _is_flat(images: pa.Table) -> npt.NDArray[np.bool_]:
    """Which images are of one color. Shape (n,), bool."""
    channels = [pc.fill_null(images.column(f"std_{each}"), _FLAT).to_numpy() for each in "rgb"]
    return np.asarray(np.maximum.reduce(channels) < _FLAT)


def _read_vectors(
    images: pa.Table, chosen: _Vectors, flat: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The vectors of the images that are not flat, float32 (m, d), and the row of each, int64 (m,)."""
    ids = images.column("id").to_pylist()
    row_of = {name: row for row, name in enumerate(ids) if not flat[row]}
    dimensions = chosen.table.schema.field("vector").type.list_size
    vectors = np.empty((min(len(row_of), chosen.table.count()), dimensions), np.float32)
    rows = np.empty(len(vectors), np.int64)
    done = 0
    for batch in chosen.table.scan(["id", "vector"], batch_rows=_BATCH_ROWS):
        found = np.array([row_of.get(name, -1) for name in batch.column("id").to_pylist()], np.int64)
        there = np.flatnonzero(found >= 0)[: len(vectors) - done]  # not what came in since they were counted
        values = batch.column("vector").flatten().to_numpy(zero_copy_only=False).reshape(len(found), dimensions)
        vectors[done : done + len(there)], rows[done : done + len(there)] = values[there], found[there]
        done += len(there)
    return vectors[:done], rows[:done]


def _groups(images: pa.Table, found: Stars, kinds: Sequence[Kind], *, exact: bool) -> list[DuplicateGroup]:
    """The groups of two files or more."""
    files = pc.fill_null(pc.list_value_length(images.column("uris")), 0).to_numpy()
    member = np.flatnonzero(found.center != np.arange(len(found.center)))
    member = member[np.lexsort((member, found.distance[member], found.reach[member], found.center[member]))]
    center = found.center[member]
    keepers = np.union1d(center, np.flatnonzero((files > 1) & (found.reach < 0)) if exact else center)
    groups = []
    for keeper, start, stop in zip(
        keepers.tolist(),
        np.searchsorted(center, keepers, "left").tolist(),
        np.searchsorted(center, keepers, "right").tolist(),
        strict=True,
    ):
        own = _image(images, keeper, None, 0.0)
        members = [
            _image(images, row, kinds[found.reach[row]], float(found.distance[row]))
            for row in member[start:stop].tolist()
        ]
        if exact and len(own.uris) > 1:
            members.insert(0, _image(images, keeper, "exact", 0.0, slice(1, None)))
            own = _image(images, keeper, None, 0.0, slice(0, 1))
        groups.append(DuplicateGroup(own, members))
    return sorted(groups, key=lambda group: (-group.bytes_reclaimable, group.keeper.id))


def _image(images: pa.Table, row: int, kind: Kind | None, distance: float, uris: slice = slice(None)) -> GroupedImage:
    values = {name: images.column(name)[row].as_py() for name in ("id", "width", "height", "byte_size", "taken_at")}
    return GroupedImage(
        uris=(images.column("uris")[row].as_py() or [])[uris], kind=kind, distance=max(0.0, distance), **values
    )


def save_duplicates_grid(tables: Tables, report: DuplicateReport, out: str | os.PathLike[str], limit: int = 10) -> None:
    """Draw the first groups into a PNG, one a row: the keeper, then members, titled with what linked them and how far.

    Raises:
        InputError: `out` does not end in .png, or cannot be written.
    """
    path = Path(out)
    if path.suffix.lower() != ".png":
        raise InputError(f"--grid writes a PNG; {os.fspath(out)!r} does not end in .png.")
    rows = [_cells(tables, group) for group in report.groups[:limit]]
    shown = f"{len(rows)} of {report.groups_count:,}" if len(rows) < report.groups_count else f"{len(rows)}"
    heading = f"Duplicates: {shown} {'group' if report.groups_count == 1 else 'groups'}" if rows else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(draw_grid(rows, heading), path)
    except OSError as error:
        raise InputError(f"{os.fspath(out)!r} cannot be written: {error.strerror}. Give another --grid.") from error


def _cells(tables: Tables, group: DuplicateGroup) -> list[Cell]:
    drawn = [group.keeper, *group.members[:_MEMBERS_DRAWN]]
    stored = tables.images.bytes_of(sorted({image.id for image in drawn}))
    more = len(group.members) - _MEMBERS_DRAWN
    cells = []
    for image in drawn:
        title = f"keep ({more:,} more not drawn)" if image.kind is None and more > 0 else title_of(image)
        name = display_name(image.uris[0]) if image.uris else image.id[:12]
        cells.append(
            Cell(_decode_for_cell(stored.get(image.id, b"")), title, f"{name}, {image.width} x {image.height}")
        )
    return cells


def _decode_for_cell(data: bytes) -> npt.NDArray[np.uint8]:
    """No more pixels than a cell shows; a gray square for an image that is gone."""
    try:
        return reduce_to(decode_rgb(data, min_side=_CELL_PIXELS), _CELL_PIXELS)
    except ImageError:
        return np.full((_CELL_PIXELS, _CELL_PIXELS, 3), 200, np.uint8)


def title_of(image: GroupedImage) -> str:
    """What a person reads over an image of a group: `keep`, `exact, 2 files`, `hash, 3 bits`, `embedding, 0.0512`."""
    if image.kind is None:
        return "keep"
    if image.kind == "hash":
        return f"hash, {image.distance:.0f} bit{'' if image.distance == 1 else 's'}"
    if image.kind == "embedding":
        return f"embedding, {image.distance:.4f}"
    return f"exact, {len(image.uris)} file{'' if len(image.uris) == 1 else 's'}"
