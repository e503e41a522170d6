"""A list of addresses in a file: text (one a line), CSV, TSV or Parquet, read piece by piece.

Further columns become the metadata of the picture. A row without an address is not lost: it has a URI of its own, the
list's with `#line=N` (text) or `#row=N` (the header is row 1; RFC 7111), and the reason.
"""

from __future__ import annotations

import codecs
import contextlib
import datetime as dt
import decimal
import gzip
import json
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from imagelake.errors import InputError
from imagelake.files import path_to_uri

COLUMN_NAMES = ("url", "uri", "image_url", "address", "link")
_LABEL_NAMES = ("labels", "label")
_BLOCK_BYTES = 1 << 20
_BATCH_ROWS = 1024
_ADDRESS = re.compile(r"\s*https?://\S", re.IGNORECASE)
_NUMBER_LETTERS = 300
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_FORMATS = "a text file with one address a line, or CSV, TSV or Parquet with a column of addresses"


@dataclass(frozen=True)
class Address:
    """Where a picture is, and what the list says of it.

    Attributes:
        url: the address, or a name for the row where there is none.
        metadata: a JSON object, as `schema.SOURCE` has it.
        error: why there is no address.
    """

    url: str
    metadata: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class UrlList:
    """Addresses in a file; each pass over it reads the file anew. Made by `read_url_list`."""

    path: str
    rows: Callable[[], Iterator[Address]]
    count: Callable[[], int | None]

    @property
    def name(self) -> str:
        """The list's URI."""
        return path_to_uri(self.path)

    def __iter__(self) -> Iterator[Address]:
        return self.rows()

    def estimate(self) -> int | None:
        """About how many addresses there are; None where only reading all would tell."""
        return self.count()


def read_url_list(path: str | os.PathLike[str], column: str | None = None) -> UrlList:
    """The addresses in a file; the suffix says which kind it is (`.gz` after it too, but for Parquet).

    Text has one address a line; empty lines and lines that begin with `#` are skipped. In a table the addresses are in
    `column`, or in the one named url, uri, image_url, address or link, or in the only one whose values look like
    addresses. The other columns become metadata: numbers stay numbers, times become ISO 8601, bytes are left out, and
    `label` or `labels` becomes the list `labels`.

    Raises:
        InputError: the file cannot be read, or it is not clear which column holds the addresses.
    """
    name = os.fspath(path)
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    kind = next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")
    try:
        if kind in (".parquet", ".pq"):
            return _parquet(name, column)
        _check_text(name)
        if kind in (".csv", ".tsv", ".tab"):
            return _csv(name, column, "\t" if kind != ".csv" else None)
    except FileNotFoundError as error:
        raise InputError(f"{name!r} does not exist. Give {_FORMATS}.") from error
    except OSError as error:
        raise InputError(f"The list {name!r} cannot be read: {error.strerror or error}.") from error
    except (EOFError, zlib.error, pa.ArrowException) as error:
        raise InputError(f"The list {name!r} cannot be read: {error}. Give {_FORMATS}.") from error
    if column is not None:
        raise InputError(f"{name!r} is read as text with one address a line; it has no column {column!r}.")
    return UrlList(name, lambda: _lines(name), lambda: sum(1 for _ in _lines(name)))


def _check_text(path: str) -> None:
    """Refuse what is not text in UTF-8 before the first address."""
    with _open(path) as file:
        head = file.read(4096)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{path!r} is UTF-16. Save it as UTF-8, or convert it: iconv -f UTF-16 -t UTF-8.")
    if b"\0" in head:
        raise InputError(f"{path!r} is no list of addresses: it holds binary data. Give {_FORMATS}.")


def _open(path: str) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path)) if path.lower().endswith(".gz") else Path(path).open("rb")


# Text


def _lines(path: str) -> Iterator[Address]:
    with _readable(path), _open(path) as file:
        for line in file:
            text = _text_of(line.removeprefix(codecs.BOM_UTF8)).strip()
            if text and not text.startswith("#"):
                yield Address(text)


def _text_of(data: bytes) -> str:
    """Text; bytes that are not UTF-8 are percent-encoded, which is what an address means by them."""
    text = data.decode("utf-8", "surrogateescape")
    return re.sub("[\udc80-\udcff]", lambda found: f"%{ord(found[0]) - 0xDC00:02X}", text)


# CSV and TSV


def _csv(path: str, column: str | None, delimiter: str | None) -> UrlList:
    if delimiter is None:
        with _open(path) as file:
            head = file.readline(_BLOCK_BYTES).decode("utf-8", "replace")
        delimiter = max(",;\t", key=head.count)  # the first of equals: the comma
    with pa.csv.open_csv(path, parse_options=_parse_options(delimiter, [])) as reader:
        names = list(reader.schema.names)
    if any(_ADDRESS.match(name) for name in names):
        raise InputError(f"{path!r} has an address where its header should be. Add a first line such as: url")
    first = next(_csv_batches(path, delimiter, names, []), {})
    chosen = _choose(
        path, names, {name: [v.decode("utf-8", "replace") for v in first.get(name, ())] for name in names}, column
    )
    numbers = {
        name
        for name in names
        if name.lower() not in _LABEL_NAMES
        and all(_NUMBER.fullmatch(value.decode("utf-8", "replace")) for value in first.get(name, ()) if value)
    }
    return UrlList(path, lambda: _csv_rows(path, delimiter, (chosen, names), numbers), lambda: None)


def _parse_options(delimiter: str, misfits: list[pa.csv.InvalidRow]) -> pa.csv.ParseOptions:
    def remember(row: pa.csv.InvalidRow) -> str:
        misfits.append(row)
        return "skip"

    return pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=remember)


def _csv_batches(
    path: str, delimiter: str, names: list[str], misfits: list[pa.csv.InvalidRow]
) -> Iterator[dict[str, list[bytes]]]:
    """Every column as bytes, so that no row far below can break a guess made from the first.

    Rows that do not fit the header are added to `misfits`.
    """
    read = pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES)
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=False)
    options = _parse_options(delimiter, misfits)
    with pa.csv.open_csv(path, read_options=read, parse_options=options, convert_options=convert) as reader:
        for batch in reader:
            yield batch.to_pydict()


def _csv_rows(path: str, delimiter: str, chosen_of: tuple[str, list[str]], numbers: set[str]) -> Iterator[Address]:
    chosen, names = chosen_of
    others = [name for name in names if name != chosen]
    misfits: list[pa.csv.InvalidRow] = []
    taken: set[int] = set()  # the numbers of rows that did not fit
    number = 1  # the header's
    with _readable(path):
        for columns in _csv_batches(path, delimiter, names, misfits):
            taken.update(row.number for row in misfits)
            yield from _misfits(path, misfits)
            for position, cell in enumerate(columns[chosen]):
                number += 1
                while number in taken:
                    taken.remove(number)
                    number += 1
                values = {name: _csv_value(columns[name][position], number_column=name in numbers) for name in others}
                yield _address(path, number, chosen, _text_of(cell), values)
        yield from _misfits(path, misfits)


def _misfits(path: str, misfits: list[pa.csv.InvalidRow]) -> Iterator[Address]:
    for row in misfits:
        reason = f"the row has {row.actual_columns} fields where the header has {row.expected_columns}"
        yield Address(f"{path_to_uri(path)}#row={row.number}", error=reason)
    misfits.clear()


def _csv_value(cell: bytes, *, number_column: bool) -> object:
    text = cell.decode("utf-8", "replace")
    if number_column and len(text) <= _NUMBER_LETTERS and _NUMBER.fullmatch(text):
        value = json.loads(text)
        if math.isfinite(value):
            return value
    return text or None


# Parquet


def _parquet(path: str, column: str | None) -> UrlList:
    with pa.parquet.ParquetFile(path) as file:
        fields = {field.name: field.type for field in file.schema_arrow}
        names = list(file.schema_arrow.names)
        texts = [name for name in names if _is_text(fields[name])]
        batch = next(file.iter_batches(_BATCH_ROWS, columns=texts), None) if texts else None
        first = {} if batch is None else batch.to_pydict()
        count = file.metadata.num_rows
    chosen = _choose(path, names, first, column)
    if not _is_text(fields[chosen]):
        raise InputError(f"The column {chosen!r} of {path!r} holds {fields[chosen]}, and addresses are text.")
    wanted = [name for name in names if not _is_bytes(fields[name])]
    return UrlList(path, lambda: _parquet_rows(path, chosen, wanted), lambda: count)


def _parquet_rows(path: str, chosen: str, wanted: list[str]) -> Iterator[Address]:
    number = 1  # as in a table with a header
    with _readable(path), pa.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=wanted):
            columns = {name: _values(batch.column(name)) for name in wanted}
            addresses = columns.pop(chosen)
            for position, address in enumerate(addresses):
                number += 1
                row = {name: _plain(values[position]) for name, values in columns.items()}
                yield _address(path, number, chosen, str(address or ""), row)


def _values(column: pa.Array) -> list[object]:
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":  # finer than Python's times
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    values: list[object] = column.to_pylist()
    return values


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_bytes(kind.value_type)
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def _plain(value: object) -> object:
    """What JSON can say of a value; None where it can say nothing."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case decimal.Decimal():
            return float(value) if value.is_finite() else None
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case dict():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case str() | int() | None:
            return value
        case bytes():
            return None
        case _:
            return str(value)


# What the kinds of table share


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    """Say which list it was that could not be read on."""
    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise InputError(f"The list {path!r} cannot be read to its end: {error}.") from error


def _choose(path: str, names: list[str], first: Mapping[str, Sequence[str | None]], column: str | None) -> str:
    """The column of addresses."""
    there = ", ".join(repr(name) for name in names)
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InputError(f"{path!r} has more than one column {twice[0]!r}. Give each column a name of its own.")
    if column is not None:
        if column not in names:
            raise InputError(f"{path!r} has no column {column!r}. Its columns: {there}.")
        return column
    named = [name for name in names if name.strip().lower() in COLUMN_NAMES]
    alike = [name for name, values in first.items() if _all_addresses(values)]
    for found in (named, alike):
        if len(found) == 1:
            return found[0]
        if found:
            both = ", ".join(repr(name) for name in found)
            raise InputError(f"Several columns of {path!r} may hold the addresses: {both}. Name one with --column.")
    raise InputError(
        f"No column of {path!r} is named {', '.join(COLUMN_NAMES[:-1])} or {COLUMN_NAMES[-1]}, and none holds "
        f"addresses (http://... or https://...) alone. Name one with --column; its columns: {there}."
    )


def _all_addresses(values: Sequence[str | None]) -> bool:
    told = [value for value in values if value]
    return bool(told) and all(_ADDRESS.match(value) for value in told)


def _address(path: str, number: int, column: str, url: str, others: Mapping[str, object]) -> Address:
    """One row of a table."""
    metadata = _metadata(others)
    if not url.strip():
        return Address(f"{path_to_uri(path)}#row={number}", metadata, f"the column {column!r} is empty")
    return Address(url.strip(), metadata)


def _metadata(others: Mapping[str, object]) -> str | None:
    """The other columns as a JSON object; None where they are all empty."""
    told = {name: value for name, value in others.items() if value is not None}
    labels: list[str] = []
    for name in [name for name in told if name.strip().lower() in _LABEL_NAMES]:
        value = told.pop(name)
        labels += [str(each) for each in (value if isinstance(value, list) else [value]) if each is not None]
    if labels:
        told["labels"] = list(dict.fromkeys(labels))
    return json.dumps(told, ensure_ascii=False) if told else None
