"""What was done to a lake, what went wrong, which models made its vectors, and what it weighs on disk."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from imagelake.errors import InputError
from imagelake.files import is_remote
from imagelake.gallery.gallery import Gallery
from imagelake.lake.info import describe_lake
from imagelake.lake.sql import query
from imagelake.lake.tables import Tables
from imagelake.run.runs import RunInfo, list_runs

_COLUMNS = ("id", "uri", "content_id", "stage", "reason", "byte_size", "rejected_at")
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\b[0-9a-f]{16,64}\b|\d[\d,.]*")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # a spreadsheet runs a cell that begins so
_MOST_KINDS = 100
_LONGEST = 1_000
_EXPORT_ROWS = 4_096


@dataclass(frozen=True)
class Rejected:
    """Some of what was rejected.

    Attributes:
        kinds: `{"kind", "stage", "count"}`, the most first: reasons that differ only in names and numbers are one kind.
            Of all that have the text that was looked for, whatever kind was chosen.
        total: how many rows have that text and are of the kind chosen.
        rows: those of them that were asked for, the newest first.
    """

    kinds: list[dict[str, Any]]
    total: int
    rows: list[dict[str, Any]]


def runs_of(gallery: Gallery, most: int) -> tuple[int, list[RunInfo]]:
    """How many runs there were, and the newest of them."""
    found = list_runs(gallery.tables)
    return len(found), found[:most]


def kind_of(reason: str) -> str:
    """A reason without what varies from file to file: quoted names, ids and numbers become an ellipsis."""
    return _VARYING.sub("…", reason)


def rejections_of(gallery: Gallery, *, text: str = "", kind: str = "", offset: int = 0, limit: int = 50) -> Rejected:
    """What was rejected.

    Args:
        gallery: of the lake.
        text: what URI or reason must have, in any case; empty: all.
        kind: one of `Rejected.kinds`; empty: all.
        offset: of the first row.
        limit: how many rows.

    Raises:
        InputError: the text is too long.
    """
    found = _matching(gallery.tables, text)
    stages = found.column("stage").to_pylist()
    kinds = [kind_of(reason) for reason in found.column("reason").to_pylist()]
    counts = Counter(zip(kinds, stages, strict=True))
    if kind:
        found = found.filter(pa.array([each == kind for each in kinds], pa.bool_()))
    return Rejected(
        [{"kind": name, "stage": stage, "count": n} for (name, stage), n in counts.most_common(_MOST_KINDS)],
        found.num_rows,
        found.slice(offset, limit).to_pylist(),
    )


def rejections_csv(gallery: Gallery, *, text: str = "", kind: str = "") -> Iterator[str]:
    """The same rows as a table for a spreadsheet, in pieces; no cell is taken for a formula.

    Raises:
        InputError: the text is too long.
    """
    found = _matching(gallery.tables, text)

    def pieces() -> Iterator[str]:
        yield _csv_lines([list(_COLUMNS)])
        for batch in found.to_batches(max_chunksize=_EXPORT_ROWS):
            rows = batch.to_pylist()
            yield _csv_lines(
                [[_cell(row[name]) for name in _COLUMNS] for row in rows if not kind or kind_of(row["reason"]) == kind]
            )

    return pieces()


def _matching(tables: Tables, text: str) -> pa.Table:
    if len(text) > _LONGEST:
        raise InputError(f"The text has {len(text)} letters; give at most {_LONGEST}.")
    found = tables.rejections.read(list(_COLUMNS)).sort_by([("rejected_at", "descending"), ("id", "ascending")])
    for word in text.split():
        has = [pc.match_substring(found.column(name), word, ignore_case=True) for name in ("uri", "reason")]
        found = found.filter(pc.or_(*has))
    return found


def _cell(value: object) -> str:
    told = "" if value is None else str(value)
    return f"'{told}" if told.startswith(_FORMULA) else told


def _csv_lines(rows: list[list[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue()


def models_of(gallery: Gallery) -> dict[str, Any]:
    """Which models made what is in the lake, and how much of it.

    Returns:
        `images`: how many there are; `embeddings`: each set with `covered`, the images that have a vector in it;
        `codes`: each set with its bits, count and the embedding sets that it was made of; `regions` and `predictions`:
        by model, count and images.
    """
    tables, catalog = gallery.tables, gallery.catalog()
    sets = [
        {
            "name": each.name, "model": each.model, "of": each.of, "detector": each.detector,
            "dimensions": each.dimensions, "precision": each.precision, "metric": each.metric,
            "vectors": each.vectors, "covered": len(catalog.sets.get(each.name, ())),
        }
        for each in describe_lake(tables).embedding_sets
    ]  # fmt: skip
    return {
        "images": len(catalog),
        "embeddings": sets,
        "codes": [_codes(tables, name) for name in tables.code_sets()],
        "regions": _by_model(tables, "regions"),
        "predictions": _by_model(tables, "predictions"),
    }


def _codes(tables: Tables, name: str) -> dict[str, Any]:
    table = tables.codes(name)
    made_of = (table.schema.metadata or {}).get(b"imagelake:embeddings")
    of = [
        each
        for each in tables.embedding_sets()
        if (tables.embeddings(each).schema.metadata or {}).get(b"imagelake:fingerprint") == made_of
    ]
    return {"name": name, "bits": table.schema.field("code").type.byte_width * 8, "codes": table.count(), "of": of}


def _by_model(tables: Tables, name: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = query(
        tables,
        f"SELECT model, count(*) AS count, count(DISTINCT image_id) AS images FROM {name} "  # noqa: S608  (our words)
        "GROUP BY model ORDER BY count DESC, model",
    ).to_pylist()
    return told


def storage_of(gallery: Gallery) -> list[dict[str, Any]]:
    """Each table with its rows, versions and bytes on disk; bytes are None in a bucket, where counting costs money."""
    found = []
    for name, table in gallery.tables.all().items():
        size = None if is_remote(table.uri) else bytes_below(Path(table.uri))
        versions = len(table.versions())
        found.append({"name": name, "rows": table.count(), "versions": versions, "bytes": size})
    return sorted(found, key=lambda each: (-(each["bytes"] or 0), each["name"]))


def bytes_below(folder: Path) -> int:
    """The size of all files below a folder; what goes away meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).lstat().st_size
            except OSError:
                continue
    return total
