"""Where the rows of an extraction go: regions, vectors, codes, rejections, counts. The same on every engine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from imagelake import schema
from imagelake.lake.ids import IdSet
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables, id_set
from imagelake.models.choice import text_of
from imagelake.run.codes import create_code_set
from imagelake.run.receipts import Counts
from imagelake.steps.pipeline import Pipeline


@dataclass(frozen=True)
class Refused:
    """A picture that could not become what was asked, by its id in the lake."""

    image_id: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Tally:
    """What a piece of work came to.

    Attributes:
        counts: of pictures: a picture is rejected where none of its rows is good.
        regions: how many regions were kept.
        fallbacks: how many of them are whole pictures, since nothing was found in them.
        seconds: spent in each stage, all threads added up.
    """

    counts: Counts = field(default_factory=Counts)
    regions: int = 0
    fallbacks: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.counts + other.counts,
            self.regions + other.regions,
            self.fallbacks + other.fallbacks,
            add_seconds(self.seconds, other.seconds),
        )

    def to_json(self) -> str:
        """As one JSON object, which `from_json` reads."""
        return json.dumps({**vars(self), "counts": vars(self.counts), "seconds": dict(self.seconds)})

    @staticmethod
    def from_json(text: str) -> Tally:
        """Read what `to_json` wrote."""
        given = json.loads(text)
        return Tally(Counts(**given["counts"]), given["regions"], given["fallbacks"], given["seconds"])


def add_seconds(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Seconds by stage, added up."""
    return {stage: one.get(stage, 0.0) + other.get(stage, 0.0) for stage in {**one, **other}}


@dataclass(frozen=True)
class Outcome:
    """Cuts the rows of a pipeline's extraction into the rows of tables. Small, frozen, picklable."""

    pipeline: Pipeline

    def prepare(self, tables: Tables) -> dict[str, Table]:
        """Make the tables that are missing, and give all that are written to, by name, in the order of writing.

        The last one's rows say that a picture is done.
        """
        pipeline = self.pipeline
        out: dict[str, Table] = {}
        if pipeline.detect is not None:
            tables.regions.add_columns(schema.REGIONS)  # an older version made the lake
            out["regions"] = tables.regions
        if pipeline.embed is not None and pipeline.set_name is not None and pipeline.dimensions is not None:
            told = (pipeline.dimensions, text_of(pipeline.embed), pipeline.fingerprint)
            columns = (
                schema.region_embeddings(*told, pipeline.to_json()) if pipeline.of_regions else schema.embeddings(*told)
            )
            if pipeline.code is not None:
                out["codes"] = create_code_set(tables, pipeline.code)
            out["embeddings"] = tables.create_embeddings(pipeline.set_name, columns)
        return out

    def split(self, rows: pa.Table) -> dict[str, pa.Table]:
        """The rows of each table of `prepare`, each key once."""
        out = {}
        if self.pipeline.detect is not None:
            out["regions"] = self._regions(rows.filter(pc.is_valid(rows.column("region_id"))))
        if self.pipeline.embed is not None:
            good = rows.filter(pc.is_valid(rows.column("vector")))
            if self.pipeline.of_regions:
                good = good.select(["region_id", "vector", "image_id"])
                out["embeddings"] = _each_once(good.rename_columns(["id", "vector", "image_id"]))
            else:
                good = good.select(["image_id", "vector"])
                out["embeddings"] = _each_once(good.rename_columns(["id", "vector"]))
        if self.pipeline.code is not None:
            coded = rows.filter(pc.is_valid(rows.column("code")))
            coded = coded.select(["region_id" if self.pipeline.of_regions else "image_id", "code"])
            out["codes"] = _each_once(coded.rename_columns(["id", "code"]))
        return out

    def _regions(self, rows: pa.Table) -> pa.Table:
        model = f"{self.pipeline.detector_name}"
        columns = {
            "id": rows.column("region_id"),
            **{name: rows.column(name) for name in ("image_id", "box_xyxy", "label", "score")},
            "model": pa.array([model] * rows.num_rows, pa.string()),
            "fingerprint": pa.array([self.pipeline.detection_fingerprint] * rows.num_rows, pa.string()),
            "fallback": rows.column("fallback"),
        }
        return _each_once(pa.table(columns).select(schema.REGIONS.names).cast(_unkeyed(schema.REGIONS)))

    def refused(self, rows: pa.Table) -> list[Refused]:
        """Each picture and reason once."""
        bad = rows.filter(pc.is_valid(rows.column("error"))).select(["image_id", "stage", "error"])
        return list(dict.fromkeys(Refused(each["image_id"], each["stage"], each["error"]) for each in bad.to_pylist()))

    def tally(self, rows: pa.Table, write_s: float = 0.0, key: str = "image_id") -> Tally:
        """What the rows come to, with every good picture counted as added; `key` is the column that tells pictures."""
        good = pc.is_null(rows.column("error"))
        ids = rows.column(key)
        found, added = pc.count_distinct(ids).as_py(), pc.count_distinct(ids.filter(good)).as_py()
        regions = rows.filter(pc.is_valid(rows.column("region_id")))
        seconds = {stage: float(pc.sum(rows.column(f"{stage}_s")).as_py() or 0.0) for stage in schema.STAGES}
        return Tally(
            Counts(added=added, rejected=found - added),
            regions=regions.num_rows,
            fallbacks=int(pc.sum(regions.column("fallback")).as_py() or 0),
            seconds=seconds | {"write": write_s},
        )

    def done(self, tables: Tables) -> Done:
        """Which images of a lake need nothing more."""
        pipeline, sets = self.pipeline, []
        if pipeline.detect is not None:
            where = f"fingerprint = '{pipeline.detection_fingerprint}'"
            sets.append(_images_of(tables.regions, where) if not pipeline.of_regions else None)
        if pipeline.set_name is not None:
            vectors = tables.embeddings(pipeline.set_name)
            sets.append(_images_of(vectors, None) if pipeline.of_regions else id_set(vectors))
        return Done(tuple(each for each in sets if each is not None))


@dataclass(frozen=True)
class Done:
    """Images that are done: those that are in each of some sets."""

    sets: tuple[IdSet, ...]

    def contains(self, ids: pa.Array) -> pa.Array:
        """Which of `ids` are done, as booleans."""
        found = self.sets[0].contains(ids)
        for each in self.sets[1:]:
            found &= each.contains(ids)
        return found


def _images_of(table: Table, where: str | None) -> IdSet:
    return IdSet(_distinct(table.scan(["image_id"], where, batch_rows=65536)))


def _distinct(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.Array]:
    return (pc.unique(batch.column("image_id")) for batch in batches)


def _each_once(rows: pa.Table) -> pa.Table:
    """The first row of each id."""
    if rows.num_rows == pc.count_distinct(rows.column("id")).as_py():
        return rows
    first = (
        pa.table({"id": rows.column("id"), "row": pa.array(range(rows.num_rows))})
        .group_by("id")
        .aggregate([("row", "min")])
    )
    return rows.take(first.column("row_min").sort())


def _unkeyed(columns: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(each.name, each.type) for each in columns])
