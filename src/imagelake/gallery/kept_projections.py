"""Projections of a lake's embedding sets, kept in the lake: read, written, and forgotten when a newer one is there.

They lie in the table `projections/SET`: one row a point, and one that tells of the map, which has no image. A map is
complete when that row is there, for it is committed last; of several the newest counts.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imagelake.errors import LakeError
from imagelake.lake.table import Table, one_of
from imagelake.lake.tables import Tables, manifest_text
from imagelake.schema import PROJECTION

FORMAT = 1
"""Of what is told; a map of another format is made again."""


@dataclass(frozen=True)
class Told:
    """What is known of a map.

    Attributes:
        projection: its name, random.
        method: `"pca"` or `"umap"`.
        settings: of the method.
        made_of: which vectors: differs for another model, and for a set that was made again.
        rows: how many points it was made of; others were placed among them later.
        seconds: what it took.
        made_at: when, ISO 8601, UTC.
        basis: what `projection.read_basis` reads; None where the method has none.
    """

    projection: str
    method: str
    settings: dict[str, Any]
    made_of: str
    rows: int
    seconds: float
    made_at: str
    basis: dict[str, Any] | None = field(default=None, repr=False)
    format: int = FORMAT


@dataclass(frozen=True)
class Kept:
    """A map: ids of images, and their points, float32 [n, 2]. `kept` is false where the lake could not be written."""

    told: Told
    ids: list[str]
    points: NDArray[np.float32]
    kept: bool = True


def made_of(vectors: Table) -> str:
    """Which vectors these are: see `Told`."""
    made = (vectors.schema.metadata or {}).get(b"imagelake:made", b"")
    return hashlib.sha256(manifest_text(vectors).encode() + made).hexdigest()


def new_told(
    method: str,
    settings: dict[str, Any],
    vectors: Table,
    rows: int,
    seconds: float,
    basis: dict[str, Any] | None = None,
) -> Told:
    """What is told of a map that was made now."""
    made_at = datetime.now(UTC).isoformat(timespec="microseconds")
    return Told(uuid.uuid4().hex, method, settings, made_of(vectors), rows, round(seconds, 3), made_at, basis)


def read_all_told(tables: Tables, embedding_set: str) -> dict[str, Told]:
    """The newest map of each method that was made of the vectors as they are now, by its method."""
    table = tables.projections(embedding_set)
    if not table.exists():
        return {}
    wanted = made_of(tables.embeddings(embedding_set))
    found: dict[str, Told] = {}
    for text in table.read(["told"], "image_id IS NULL").column("told").to_pylist():
        told = _told(text)
        if told and told.made_of == wanted and (told.method not in found or told.made_at > found[told.method].made_at):
            found[told.method] = told
    return found


def read_kept(tables: Tables, embedding_set: str, method: str, settings: dict[str, Any]) -> Kept | None:
    """The map of an embedding set that the lake keeps; None where there is none of these settings."""
    told = read_all_told(tables, embedding_set).get(method)
    if told is None or told.settings != settings:
        return None
    where = f"projection = '{told.projection}' AND image_id IS NOT NULL"
    rows = tables.projections(embedding_set).read(["image_id", "x", "y"], where)
    points = np.stack([rows.column(name).to_numpy() for name in ("x", "y")], axis=1).astype(np.float32)
    return Kept(told, rows.column("image_id").to_pylist(), points)


def keep(tables: Tables, embedding_set: str, made: Kept) -> bool:
    """Keep a map in the lake, in place of earlier ones by its method.

    Returns:
        Whether it was kept: not where the lake cannot be written.
    """
    told = made.told
    try:
        table = tables.create_projections(embedding_set, PROJECTION)
        others = _others(table, told)
        table.append(_rows(told.projection, made.ids, made.points, told=json.dumps(asdict(told))))
        for name in others:
            table.delete(f"projection = '{name}'")
    except LakeError:  # read-only, full, or busy: the map is right all the same, it is made again next time
        return False
    return True


def add(tables: Tables, embedding_set: str, projection: str, ids: Sequence[str], points: NDArray[np.float32]) -> bool:
    """Keep more points of a map; whether they were kept."""
    try:
        table = tables.projections(embedding_set)
        known = set(table.read(["image_id"], f"projection = '{projection}'").column("image_id").to_pylist())
        if not known:
            return False  # somebody made a newer one
        fresh = [number for number, name in enumerate(ids) if name not in known]
        table.append(_rows(projection, [ids[number] for number in fresh], points[fresh]))
    except LakeError:
        return False
    return True


def forget(tables: Tables, embedding_set: str, projections: Sequence[str]) -> None:
    """Remove maps by their names."""
    tables.projections(embedding_set).delete(one_of("projection", projections))


def _others(table: Table, told: Told) -> list[str]:
    """Earlier maps by the same method, and those that nobody can read."""
    rows = table.read(["projection", "told"], "image_id IS NULL").to_pylist()
    found = [(row["projection"], _told(row["told"])) for row in rows]
    return [name for name, each in found if each is None or each.method == told.method or each.made_of != told.made_of]


def _told(text: str | None) -> Told | None:
    try:
        told = Told(**json.loads(text or ""))
    except (ValueError, TypeError):
        return None  # of a later imagelake
    return told if told.format == FORMAT else None


def _rows(projection: str, ids: Sequence[str], points: NDArray[np.float32], told: str | None = None) -> pa.Table:
    more = told is not None
    unique = uuid.uuid4().hex[:12]
    count = len(ids) + more
    return pa.table(
        {
            "id": [f"{projection}-{unique}-{number}" for number in range(count)],
            "projection": [projection] * count,
            "image_id": pa.array([*ids, *([None] if more else [])], pa.string()),
            "x": pa.array([*points[:, 0].tolist(), *([None] if more else [])], pa.float32()),
            "y": pa.array([*points[:, 1].tolist(), *([None] if more else [])], pa.float32()),
            "told": pa.array([None] * len(ids) + ([told] if more else []), pa.string()),
        },
        schema=PROJECTION,
    )
