"""The points of the embedding map as a file: a list of images for a script, or a table for another program."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.gallery.atlas import Points
from imagelake.gallery.catalog import Catalog

FORMATS = {"parquet": "application/vnd.apache.parquet", "csv": "text/csv", "json": "application/json"}
"""The kinds of files, and their media types."""


def table_of(points: Points, catalog: Catalog, numbers: NDArray[np.int64] | None = None) -> pa.Table:
    """Some points, or all, with x, y, id, uri and what the catalog knows of their images.

    The table opens in Embedding Atlas: `embedding-atlas FILE.parquet --x x --y y`.
    """
    rows = catalog.rows_of_keys(points.keys)
    chosen = np.arange(len(rows), dtype=np.int64) if numbers is None else numbers
    chosen = chosen[rows[chosen] >= 0]
    images = catalog.columns.take(pa.array(rows[chosen]))
    uris = images.column("uris")
    lists = pc.if_else(pc.equal(pc.fill_null(pc.list_value_length(uris), 0), 0), pa.scalar([None], uris.type), uris)
    front = {
        "id": images.column("id"),
        "uri": pc.list_element(lists, 0),
        "x": pa.array(points.xy[chosen, 0]),
        "y": pa.array(points.xy[chosen, 1]),
    }
    rest = {name: images.column(name) for name in images.column_names if name not in {"id", "_rowid", *front}}
    return pa.table(front | rest)


def file_of(table: pa.Table, kind: str) -> bytes:
    """The table as Parquet, CSV or JSON (a list of `{"id", "uri", "x", "y"}`).

    Raises:
        InputError: there is no such format.
    """
    out = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, out, compression="zstd")
    elif kind == "csv":
        pa_csv.write_csv(_spelled(table), out)
    elif kind == "json":
        return _json(table)
    else:
        raise InputError(f"No format is called {kind[:40]!r}. There are: {', '.join(FORMATS)}.")
    return out.getvalue()


def _spelled(table: pa.Table) -> pa.Table:
    """Lists as one text each, and no text that a spreadsheet takes for a formula."""
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_list(column.type):
            column = pc.binary_join(column, " | ")
        if pa.types.is_string(column.type):
            column = pc.replace_substring_regex(column, r"^([=+\-@\t\r])", r"'\1")
        columns[name] = column
    return pa.table(columns)


def _json(table: pa.Table) -> bytes:
    rows = table.select(["id", "uri", "x", "y"]).to_pylist()
    return json.dumps(rows, ensure_ascii=False).encode()
