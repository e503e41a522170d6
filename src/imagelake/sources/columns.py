"""Pictures in the cells of tables: Parquet and Arrow files, and another lake."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imagelake.errors import InputError, LakeError
from imagelake.files import is_remote, path_to_uri
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables, open_tables
from imagelake.sources.annotated import MAX_VECTOR, to_metadata
from imagelake.sources.folder import BATCH_BYTES, BATCH_ROWS, MAX_FILE_BYTES
from imagelake.sources.rows import Row, to_batches

TABLE_SUFFIXES = frozenset({".parquet", ".pq", ".arrow", ".feather", ".ipc"})

_PICTURE_NAMES = ("image", "bytes", "picture", "content", "data", "jpeg", "img")
_READ_BYTES = 1 << 20
_MAX_BATCH_ROWS = 1024
_ARROW_ERRORS = (pa.ArrowException, OSError, ValueError)


@dataclass(frozen=True)
class Columns:
    """The pictures in a column of a Parquet or Arrow file (Feather, IPC file or stream), or of all of them in a folder.

    `column` holds the bytes of a picture or, as Hugging Face's data sets do, a struct of `bytes` and `path`; without it
    the column is found by name or by being the only one. The other columns become metadata; names of classes
    are taken from the file's Hugging Face features. `id_column` names pictures in their URIs, instead of the number of
    the row; its values must differ.

    Raises:
        InputError: `path` does not exist, is a folder without such files, or, on reading, one file that cannot be read
            or has no such column. In a folder such a file is a row with the reason.
    """

    path: str
    column: str | None = None
    id_column: str | None = None

    def __post_init__(self) -> None:
        if not os.path.exists(self.path):  # noqa: PTH110  (a str path survives names that are not UTF-8)
            raise InputError(f"{self.path!r} does not exist. Give a Parquet or Arrow file, or a folder of them.")
        if not self._files():
            known = ", ".join(sorted(TABLE_SUFFIXES))
            raise InputError(f"The folder {self.path!r} holds no table: no file ends in {known}.")

    @property
    def name(self) -> str:
        """The URI of the file or folder."""
        return path_to_uri(self.path)

    def estimate(self) -> int | None:
        """The number of rows; None where a file does not tell without being read."""
        counts = [_count(path) for path in self._files()]
        return None if None in counts else sum(count or 0 for count in counts)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`."""
        return to_batches(self._rows())

    def _files(self) -> list[str]:
        if not os.path.isdir(self.path):  # noqa: PTH112
            return [self.path]
        found = []
        for folder, below, names in os.walk(self.path):
            below[:] = sorted(name for name in below if not name.startswith((".", "_")))
            shown = sorted(name for name in names if not name.startswith((".", "_")))
            found += [f"{folder}/{name}" for name in shown if Path(name).suffix.lower() in TABLE_SUFFIXES]
        return found

    def _rows(self) -> Iterator[Row]:
        for path in self._files():
            try:
                yield from self._rows_of_file(path)
            except InputError as error:
                if path == self.path:
                    raise
                yield Row(path_to_uri(path), None, str(error))

    def _rows_of_file(self, path: str) -> Iterator[Row]:
        schema, read = _open(path)
        picture = _picture_column(schema, self.column, path)
        if self.id_column is not None and self.id_column not in schema.names:
            raise InputError(f"{path!r} has no column {self.id_column!r} for the ids. It has: {_listed(schema.names)}.")
        once = [field for field in schema if len(schema.get_all_field_indices(field.name)) == 1]
        others = [field.name for field in once if field.name != picture and _is_kept(field.type)]
        uri, class_names, row = path_to_uri(path), _class_names(schema), 0
        for found in read(list(dict.fromkeys([picture, *others, *([self.id_column] if self.id_column else [])]))):
            if isinstance(found, _Lost):
                for lost in range(row, row + found.rows):
                    yield Row(f"{uri}#row={lost}", None, found.reason)
                row += found.rows
                continue
            cells, ids = _cells(found.column(picture)), self._ids(found)
            for cell, known, own_id in zip(cells, _known(found, others, class_names), ids, strict=True):
                place = f"{uri}#row={row}" if own_id is None else f"{uri}#id={quote(own_id, safe='', errors='replace')}"
                yield _row(place, cell, known, picture)
                row += 1

    def _ids(self, batch: pa.RecordBatch) -> list[str | None]:
        if self.id_column is None:
            return [None] * batch.num_rows
        values = _values(batch.column(self.id_column))
        return [None if value is None else value.hex() if isinstance(value, bytes) else str(value) for value in values]


@dataclass(frozen=True)
class LakeSource:
    """The images of another lake, under the first URI that each was seen under, with its metadata.

    Raises:
        LakeNotFoundError: there is no lake at `root`.
    """

    root: str

    def __post_init__(self) -> None:
        self._tables()

    @property
    def name(self) -> str:
        """The lake's address."""
        return self.root if is_remote(self.root) else path_to_uri(self.root.removeprefix("file://"))

    def estimate(self) -> int:
        """How many images it has."""
        return self._tables().images.count()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`."""
        return to_batches(self._rows())

    def _tables(self) -> Tables:
        return open_tables(self.root)

    def _rows(self) -> Iterator[Row]:
        images = self._tables().images
        columns = [name for name in ("id", "uris", "byte_size", "metadata") if name in images.schema.names]
        for batch in images.scan(columns, row_ids=True):
            for part in _by_bytes(batch.to_pylist()):
                for row, (data, error) in zip(part, _read_bytes(images, [r["_rowid"] for r in part]), strict=True):
                    uri = (row["uris"] or [f"{self.name}#id={row['id']}"])[0]
                    yield Row(uri, data, error, row.get("metadata"))


@dataclass(frozen=True)
class _Lost:
    """Rows that cannot be read."""

    rows: int
    reason: str


_Reader = Callable[[list[str]], "Iterator[pa.RecordBatch | _Lost]"]


def _open(path: str) -> tuple[pa.Schema, _Reader]:
    """The schema of a file, and what reads some of its columns; the kind is told by the first bytes."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            head = file.read(6)
        if head.startswith(b"PAR1"):
            return _parquet(path).schema_arrow, lambda columns: _read_parquet(path, columns)
        if head == b"ARROW1":
            opened = pa.ipc.open_file
        elif head.startswith(b"\xff\xff\xff\xff"):
            opened = pa.ipc.open_stream
        else:
            old = " It is Feather version 1: write it again as version 2." if head.startswith(b"FEA1") else ""
            raise InputError(f"{path!r} is no Parquet or Arrow file by its first bytes.{old}")
        return opened(_mapped(path)).schema, lambda columns: _read_arrow(path, opened, columns)
    except _ARROW_ERRORS as error:
        raise InputError(f"{path!r} cannot be read: {_first_line(error)}. Get the file again.") from error


def _parquet(path: str) -> pq.ParquetFile:
    # With a buffer, a page is read at a time and not a row group. Arrow's writer puts up to 1,024 rows into a page.
    return pq.ParquetFile(pa.OSFile(os.fsencode(path)), buffer_size=_READ_BYTES, pre_buffer=False)


def _mapped(path: str) -> pa.MemoryMappedFile:
    return pa.memory_map(os.fsencode(path))


def _count(path: str) -> int | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            is_parquet = file.read(4) == b"PAR1"
        return int(_parquet(path).metadata.num_rows) if is_parquet else None
    except _ARROW_ERRORS:
        return 1  # the file itself, as a rejection


def _read_parquet(path: str, columns: list[str]) -> Iterator[pa.RecordBatch | _Lost]:
    file = _parquet(path)
    for group in range(file.metadata.num_row_groups):
        about = file.metadata.row_group(group)
        batch_rows = max(1, min(_MAX_BATCH_ROWS, BATCH_BYTES * about.num_rows // max(about.total_byte_size, 1)))
        chunks = [about.column(number) for number in range(about.num_columns)]
        if said_once := max((each.total_uncompressed_size for each in chunks if each.has_dictionary_page), default=0):
            # A row is an index into values that are stored once: a small file may say a large picture a million times.
            batch_rows = max(1, min(batch_rows, MAX_FILE_BYTES // said_once))
        done = 0
        try:
            for batch in file.iter_batches(batch_rows, row_groups=[group], columns=columns, use_threads=False):
                done += batch.num_rows
                yield batch
        except _ARROW_ERRORS as error:
            yield _Lost(about.num_rows - done, f"the Parquet file is damaged here: {_first_line(error)}")


def _read_arrow(path: str, opened: Callable[..., Any], columns: list[str]) -> Iterator[pa.RecordBatch | _Lost]:
    schema = opened(_mapped(path)).schema
    wanted = sorted(schema.get_field_index(name) for name in columns)
    reader = opened(_mapped(path), options=pa.ipc.IpcReadOptions(included_fields=wanted))
    try:
        if isinstance(reader, pa.ipc.RecordBatchFileReader):
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            batches = iter(reader)
        for batch in batches:
            batch.validate(full=True)  # the format itself checks no offsets
            for start in range(0, batch.num_rows, BATCH_ROWS):
                yield batch.slice(start, BATCH_ROWS)
    except _ARROW_ERRORS as error:  # nobody knows how many rows; the next ones would get wrong numbers
        yield _Lost(1, f"the Arrow file is damaged from this row on: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _storage(kind: pa.DataType) -> pa.DataType:
    """The type below an extension or a dictionary."""
    while isinstance(kind, pa.BaseExtensionType | pa.DictionaryType):
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    return kind


def _is_bytes(kind: pa.DataType) -> bool:
    kind = _storage(kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_picture(kind: pa.DataType) -> bool:
    kind = _storage(kind)
    if isinstance(kind, pa.StructType):
        return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)
    return _is_bytes(kind)


def _is_kept(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.UuidType):
        return True
    kind = _storage(kind)
    long = pa.types.is_fixed_size_list(kind) and kind.list_size > MAX_VECTOR
    return not (long or _is_bytes(kind) or pa.types.is_fixed_size_binary(kind))


def _picture_column(schema: pa.Schema, wanted: str | None, path: str) -> str:
    fields = [field for field in schema if len(schema.get_all_field_indices(field.name)) == 1]
    fit = [str(field.name) for field in fields if _is_picture(field.type)]
    if wanted is not None:
        if wanted in fit:
            return wanted
        kind = schema.field(wanted).type if schema.names.count(wanted) == 1 else "not there, or there twice"
        raise InputError(f"{path!r}: the column {wanted!r} is {kind}. Columns that hold bytes: {_listed(fit)}.")
    for name in _PICTURE_NAMES:
        named = [each for each in fit if each.lower() == name]
        if named:
            return named[0]
    if len(fit) == 1:
        return fit[0]
    raise InputError(f"{path!r}: which column holds the pictures? Name one. Columns that hold bytes: {_listed(fit)}.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") if names else "none"


def _cells(column: pa.Array) -> list[tuple[bytes | None, str | None]]:
    """The bytes of each picture, and the path where the struct beside them has one."""
    column = column.cast(_storage(column.type)) if isinstance(column.type, pa.DictionaryType) else column
    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    if not isinstance(column.type, pa.StructType):
        return [(data, None) for data in column.to_pylist()]
    at = column.type.get_field_index("path")
    paths = pc.struct_field(column, [at]) if at >= 0 and pa.types.is_string(column.type.field(at).type) else None
    data = _cells(pc.struct_field(column, "bytes"))
    return [
        (each, path) for (each, _), path in zip(data, paths.to_pylist() if paths else [None] * len(data), strict=True)
    ]


def _row(uri: str, cell: tuple[bytes | None, str | None], known: Mapping[str, Any], column: str) -> Row:
    data, path = cell
    metadata = to_metadata({"path": path, **known})
    if data is None:
        beside = f"; it names the file {path!r}, which is not read" if path else ""
        return Row(uri, None, f"the column {column!r} is null in this row{beside}", metadata)
    if len(data) > MAX_FILE_BYTES:
        return Row(uri, None, f"the picture has {len(data):,} bytes; the limit is {MAX_FILE_BYTES:,}", metadata)
    return Row(uri, data, None, metadata)


def _known(batch: pa.RecordBatch, columns: Sequence[str], class_names: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{} for _ in range(batch.num_rows)]
    for name in columns:
        for row, value in zip(rows, _values(batch.column(name)), strict=True):
            row[name] = _class_name(value, class_names[name]) if name in class_names else value
    return rows


def _values(column: pa.Array) -> list[Any]:
    """The values in Python's types; what has no Python value, such as the year 30000, is None."""
    if getattr(column.type, "unit", None) == "ns" and pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)  # as pandas, where it is there, would not
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return [_value(each) for each in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        if pa.types.is_timestamp(scalar.type) and scalar.type.unit == "ns":  # Python's own times end at microseconds
            scalar = scalar.cast(pa.timestamp("us", scalar.type.tz), safe=False)
        return scalar.as_py()
    except (ValueError, OverflowError):
        return None


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of classes by column, as Hugging Face's `datasets` writes its ClassLabel features into a schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: names for name, feature in features.items() if (names := _names(feature))}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _names(feature: Any) -> list[str] | None:
    """Of a ClassLabel, or of a list of them in one of its three spellings."""
    if isinstance(feature, list) and len(feature) == 1:
        return _names(feature[0])
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
        return [str(name) for name in feature["names"]]
    return _names(feature.get("feature"))


def _class_name(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_class_name(each, names) for each in value]
    if isinstance(value, int) and value < len(names):
        return names[value] if value >= 0 else None  # -1: nobody has labelled it
    return value


def _by_bytes(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows whose pictures are read at once: 32, or fewer where they are large."""
    part: list[dict[str, Any]] = []
    held = 0
    for row in rows:
        part.append(row)
        held += row["byte_size"] or 0
        if len(part) == BATCH_ROWS or held >= BATCH_BYTES:
            yield part
            part, held = [], 0
    if part:
        yield part


def _read_bytes(images: Table, row_ids: list[int]) -> list[tuple[bytes | None, str | None]]:
    """The pictures of some rows, each with a reason where it cannot be read."""
    try:
        found = images.read_bytes(row_ids)
    except (LakeError, *_ARROW_ERRORS) as error:
        if len(row_ids) == 1:
            return [(None, f"the lake cannot read it: {_first_line(error)}")]
        found = []
    if len(found) == len(row_ids):
        return [(data, None if data is not None else "the lake has no bytes of it") for data in found]
    if len(row_ids) == 1:
        return [(None, "it was deleted from the lake meanwhile")]
    return [_read_bytes(images, [each])[0] for each in row_ids]
