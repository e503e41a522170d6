"""What is in a lake, in a few numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from imagelake.lake.sql import query
from imagelake.lake.tables import Tables, manifest_text


@dataclass(frozen=True)
class EmbeddingSetInfo:
    """One embedding set: whose vectors, how many, how long.

    Attributes:
        name: of the set.
        model: what made the vectors.
        of: `"images"` or `"regions"`.
        detector: what found the regions; None for whole pictures.
        precision: of the model's arithmetic.
        pooling: how a feature map became a vector.
        metric: how vectors are compared.
        input_size_wh: what the model takes, in pixels; None where its manifest says it in other words.
        dimensions: the length of a vector.
        vectors: how many there are.
    """

    name: str
    model: str
    of: str
    detector: str | None
    precision: str
    pooling: str
    metric: str
    input_size_wh: tuple[int, int] | None
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
    told = manifest.get("head", manifest)  # of a registered model, these stand with its head
    size = manifest.get("input_size_wh")
    pipeline = (columns.metadata or {}).get(b"imagelake:pipeline")
    return EmbeddingSetInfo(
        name=name,
        model=manifest["name"],
        of="images" if pipeline is None else "regions",
        detector=None if pipeline is None else _detector(json.loads(pipeline)),
        precision=manifest["precision"],
        pooling=told["pooling"],
        metric=told["metric"],
        input_size_wh=None if size is None else (size[0], size[1]),
        dimensions=columns.field("vector").type.list_size,
        vectors=table.count(),
    )


def _detector(pipeline: dict[str, Any]) -> str:
    return str(json.loads(pipeline["detect"]["model"]).get("name", "subject"))
