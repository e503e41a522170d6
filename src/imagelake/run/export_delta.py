"""Export as a Delta Lake table, which Spark, Databricks, Polars and others read. Its extra is `delta`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from imagelake._optional import need
from imagelake.lake.tables import Tables
from imagelake.run.export_formats import Piece, read_images

_APPLICATION = "imagelake-export"


class Delta:
    """One table in `images/`, a commit for each piece.

    Each commit carries the number of its piece as Delta's own record of an application's progress (`txn`), by which a
    run that goes on knows what is there. Delta has no unsigned numbers: `perceptual_hash` has the same 64 bits, signed.
    """

    name = "delta"
    one_file_each = False

    def is_there(self, piece: Piece) -> bool:
        """Whether the table has a commit of the piece."""
        deltalake = need("delta", "deltalake")
        address = str(piece.folder / "images")
        if not deltalake.DeltaTable.is_deltatable(address):
            return False
        last = deltalake.DeltaTable(address).transaction_version(_APPLICATION)
        return last is not None and last >= piece.number

    def write(self, tables: Tables, piece: Piece) -> int:
        """One commit, streamed."""
        deltalake = need("delta", "deltalake")
        schema = _schema(tables)
        rows = _Counted(_batches(tables, piece, schema))
        progress = deltalake.Transaction(app_id=_APPLICATION, version=piece.number)
        deltalake.write_deltalake(
            str(piece.folder / "images"),
            pa.RecordBatchReader.from_batches(schema, rows),
            mode="append",
            name="images",
            description="Exported by imagelake",
            commit_properties=deltalake.CommitProperties(app_transactions=[progress]),
        )
        return rows.count

    def finish(self, tables: Tables, folder: Any, plan: pa.Table) -> None:
        """Nothing is left to do."""


class _Counted:
    """Batches on their way, counted. A class, because the writer consumes them."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self.count = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self.count += batch.num_rows
            yield batch


def _schema(tables: Tables) -> pa.Schema:
    """The images table as Delta can hold it, `bytes` last."""
    fields = [field for field in tables.images.schema if field.name != "bytes"]
    signed = [pa.field(f.name, pa.int64() if pa.types.is_uint64(f.type) else f.type, f.nullable) for f in fields]
    return pa.schema([*signed, pa.field("bytes", pa.binary())])


def _batches(tables: Tables, piece: Piece, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for rows in read_images(tables, piece.rows.column("id").to_pylist(), with_bytes=True):
        columns = [
            rows.column(field.name) if rows.column(field.name).type == field.type
            else pc.cast(rows.column(field.name), field.type, safe=not pa.types.is_int64(field.type))
            for field in schema
        ]  # fmt: skip
        yield from pa.table(columns, schema=schema).to_batches()
