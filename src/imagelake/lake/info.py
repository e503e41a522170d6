"""What is in a lake, in a few numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass

from imagelake.lake.sql import query
from imagelake.lake.tables import Tables, manifest_text


@dataclass(frozen=True)
class EmbeddingSetInfo:
    """One embedding set: whose vectors, how many, how long."""

    name: str
    model: str
    precision: str
    pooling: str
    metric: str
    input_size_wh: tuple[int, int]
    dimensions: int
    vectors: int


@dataclass(frozen=True)
class LakeInfo:
    """A lake at a glance. Sizes in bytes; `taken_from` and `taken_to` are wall-clock times in ISO form."""

    root: str
    images: int
    uris: int
    image_bytes: int
    formats: dict[str, int]
    with_gps: int
    taken_from: str | None
    taken_to: str | None
    regions: int
    predictions: int
    rejections: int
    embedding_sets: list[EmbeddingSetInfo]
    versions: dict[str, int]


def describe_lake(tables: Tables) -> LakeInfo:
    """Count what is in the lake."""
    rows = query(
        tables,
        """SELECT format, count(*) AS images, coalesce(sum(len(uris)), 0)::BIGINT AS uris,
                  coalesce(sum(byte_size), 0)::BIGINT AS image_bytes, count(latitude) AS with_gps,
                  strftime(min(taken_at), '%Y-%m-%dT%H:%M:%S') AS taken_from,
                  strftime(max(taken_at), '%Y-%m-%dT%H:%M:%S') AS taken_to
           FROM images GROUP BY format ORDER BY images DESC, format""",
    ).to_pylist()
    totals = {name: sum(row[name] for row in rows) for name in ("images", "uris", "image_bytes", "with_gps")}
    return LakeInfo(
        root=tables.root,
        **totals,
        taken_from=min((row["taken_from"] for row in rows if row["taken_from"]), default=None),
        taken_to=max((row["taken_to"] for row in rows if row["taken_to"]), default=None),
        formats={row["format"]: row["images"] for row in rows},
        regions=tables.regions.count(),
        predictions=tables.predictions.count(),
        rejections=tables.rejections.count(),
        embedding_sets=[_set_info(tables, name) for name in tables.embedding_sets()],
        versions={name: table.version() for name, table in tables.all().items()},
    )


def _set_info(tables: Tables, name: str) -> EmbeddingSetInfo:
    table = tables.embeddings(name)
    columns = table.schema
    manifest = json.loads(manifest_text(table))
    return EmbeddingSetInfo(
        name=name,
        model=manifest["name"],
        precision=manifest["precision"],
        pooling=manifest["pooling"],
        metric=manifest["metric"],
        input_size_wh=tuple(manifest["input_size_wh"]),
        dimensions=columns.field("vector").type.list_size,
        vectors=table.count(),
    )
