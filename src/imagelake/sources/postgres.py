"""Pictures in a PostgreSQL database: in a column of bytes, or at the addresses in a column."""

# ruff: noqa: S608  (SQL is put together here: names by `identifier`, values by `literal`)

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc

from imagelake import schema
from imagelake.errors import InputError
from imagelake.sources.annotated import to_metadata
from imagelake.sources.folder import BATCH_ROWS, MAX_FILE_BYTES
from imagelake.sources.many import Many
from imagelake.sources.postgres_relation import (
    BYTES,
    KEY_TYPES,
    Relation,
    choose_key,
    choose_picture,
    look_up_query,
    look_up_table,
    metadata_sql,
    tables,
)
from imagelake.sources.postgres_server import Connection, Server, connected, identifier, literal, parse_server
from imagelake.sources.source import Source
from imagelake.sources.url_list import Address
from imagelake.sources.web import Web, WebOptions
from imagelake.sources.web_guard import Guard, without_user

PAGE_ROWS = 16_384
_FETCHED_TOGETHER = 16_384  # addresses; an ingest that is resumed fetches as many again at most
_MAX_PARTS = 100_000
_COUNTED_ROWS = 100_000
_SAFE_IN_URIS = frozenset({"smallint", "integer", "bigint", "uuid"})
_PART = re.compile(r"([0-9]+)/([0-9]+)")


@dataclass(frozen=True)
class Postgres:
    """The rows of a table, a view or a query, in the order of a key. Made by `open_postgres`.

    The URI of a row is `postgresql://host:port/database/table?id=KEY`. All other columns become metadata but those
    of bytes. A row without a picture, or with one over the limit, comes with the reason. Pictures at addresses come
    in the order in which they are fetched, some thousand keys at a time.

    A table with an index on the key is read in pages, each in a transaction of its own; all else in one transaction.
    The object holds no connection, so it can be pickled; what is pickled holds the password.

    Attributes:
        key: the column whose values differ and are never null.
        column: the pictures or their addresses.
        low: the first key, as text; None: from the first row on.
        high: the key before which it ends; None: to the last row.
        done: the key after which it goes on.
        web: how addresses are fetched.
    """

    server: Server
    relation: Relation
    key: str
    column: str
    low: str | None = None
    high: str | None = None
    done: str | None = None
    web: WebOptions = field(default_factory=WebOptions)

    @property
    def name(self) -> str:
        """The address of table and database, without user and password, and the keys of a part."""
        bounds = [("from", self.low), ("to", self.high)]
        told = "&".join(f"{name}={quote(key, safe='')}" for name, key in bounds if key is not None)
        return f"{self._base}?{told}" if told else self._base

    @property
    def position_name(self) -> str:
        """The name under which it is remembered how far this was read: of these rows, in this order, this column."""
        return f"{self.name} by {self.key}, {self.column}"

    @property
    def has_addresses(self) -> bool:
        """Whether the column holds addresses and not pictures."""
        return self.relation.columns[self.column] != BYTES

    def estimate(self) -> int:
        """How many rows the server expects; of a small table, how many there are."""
        with connected(self.server) as connection:
            planned = connection.planned_rows(self._select("1", done=self.done))
            if planned > _COUNTED_ROWS or self.relation.is_query:
                return planned
            return int(connection.rows(self._select("count(*) AS n", done=self.done))[0]["n"])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`.

        Raises:
            InputError: the database cannot be read to the end, or a key is null or there twice.
        """
        if self.has_addresses:
            yield from self._fetched()
            return
        for found in self._found():
            batch = self._pictures(found)
            for start in range(0, batch.num_rows, BATCH_ROWS):
                yield batch.slice(start, BATCH_ROWS)

    def resume_after(self, uri: str) -> Postgres:
        """The same rows from the one after `uri` on, the last that was taken.

        Where pictures are at addresses, some that were taken come again: those that were fetched together with it.

        Raises:
            InputError: the URI is of no row of this table.
        """
        if not uri.startswith(self._row_prefix):
            raise InputError(f"{uri!r} is of no row of {self._base}: its rows begin with {self._row_prefix}")
        return replace(self, done=unquote(uri[len(self._row_prefix) :]))

    def parts(self, count: int) -> list[Postgres]:
        """At most `count` sources that together have each row once, about equally many each; fewer of fewer rows.

        The keys that divide them are looked up now: rows that are added later still are in exactly one of them.

        Raises:
            InputError: the count is not at least 1, or the database cannot be read.
        """
        if not 1 <= count <= _MAX_PARTS:
            raise InputError(f"{count} parts: give a number from 1 to {_MAX_PARTS:,}.")
        shares = ", ".join(repr(number / count) for number in range(1, count))
        bounds: list[str] = []
        if shares:
            sought = f"unnest(percentile_disc(ARRAY[{shares}]::float8[]) WITHIN GROUP (ORDER BY {self._key}))"
            with connected(self.server) as connection:
                keys = self._select(f"{sought} AS key", done=self.done)
                rows = connection.rows(f"SELECT key::text AS key FROM ({keys}) AS keys")
            bounds = [key for key in dict.fromkeys(row["key"] for row in rows) if key is not None]
        edges = [self.low, *(key for key in bounds if key != self.low), self.high]
        return [replace(self, low=low, high=high) for low, high in itertools.pairwise(edges)]

    @property
    def _base(self) -> str:
        return f"{self.server.shown}/{self.relation.place}"

    @property
    def _row_prefix(self) -> str:
        alike = [name for name, kind in self.relation.columns.items() if kind == BYTES]
        which = f"column={quote(self.column, safe='')}&" if len(alike) > 1 and not self.has_addresses else ""
        return f"{self._base}?{which}id="

    @property
    def _key(self) -> str:
        return f"q.{identifier(self.key)}"

    # SQL

    def _select(self, wanted: str, conditions: tuple[str, ...] = (), *, done: str | None = None) -> str:
        """A SELECT over the rows of this part, from the key `done` on."""
        bounds = [(">=", self.low), ("<", self.high), (">=", done)]
        known = [f"{self._key} {sign} {self._constant(key)}" for sign, key in bounds if key is not None]
        where = " AND ".join([*known, *conditions])
        return f"SELECT {wanted} FROM {self.relation.sql} AS q" + (f" WHERE {where}" if where else "")

    def _constant(self, key: str) -> str:
        return f"{literal(key)}::{KEY_TYPES[self.relation.columns[self.key]]}"

    def _wanted(self) -> str:
        """Of each row the key, what else is known as JSON, and the picture where it is not too large to travel."""
        known, _ = metadata_sql(self.relation)
        cell = f"q.{identifier(self.column)}"
        if self.has_addresses:
            cells = f"{cell}::text AS address"
        else:
            fits = (
                f"CASE WHEN octet_length({cell}) <= {MAX_FILE_BYTES} THEN {cell}::bytea END"  # read without its bytes
            )
            cells = f"octet_length({cell})::bigint AS byte_size, {fits} AS picture"
        return f"{self._key}::text AS key, {known} AS known, {cells}"

    # Rows

    def _found(self) -> Iterator[pa.RecordBatch]:
        """Batches of what `_wanted` says, in the order of the key, each row once."""
        last = self.done
        page_rows = PAGE_ROWS if self.key in self.relation.sorted_by else None
        with connected(self.server) as connection:
            self._refuse_null_keys(connection)
            while True:
                rows = 0
                limit = "" if page_rows is None else f" LIMIT {page_rows}"
                select = f"{self._select(self._wanted(), done=last)} ORDER BY {self._key}{limit}"
                try:
                    for batch in connection.stream(select):
                        keys = batch.column("key").to_pylist()
                        again = int(rows == 0 and keys[:1] == [last])  # the row that a page begins with was the last
                        self._check_keys(keys if again or last is None else [last, *keys])
                        rows += len(keys)
                        last = keys[-1] if keys else last
                        if len(keys) > again:
                            yield batch.slice(again)
                except InputError as error:
                    raise InputError(self._stopped(error, last)) from error
                if page_rows is None or rows < page_rows:
                    return

    def _stopped(self, error: InputError, last: str | None) -> str:
        where = f" Read up to {self._row_prefix}{quote(last, safe='')}." if last is not None else ""
        return f"{error}{where}"

    def _refuse_null_keys(self, connection: Connection) -> None:
        if self.key in self.relation.never_null or (self.low, self.done) != (None, None):
            return
        if connection.rows(f"SELECT 1 AS one FROM {self.relation.sql} AS q WHERE {self._key} IS NULL LIMIT 1"):
            raise self._null_key()

    def _null_key(self) -> InputError:
        return InputError(
            f"The column {self.key!r} is null in some row of {self.relation.label}, and it names the rows. "
            "Leave those rows out, or name another column with --id-column."
        )

    def _check_keys(self, keys: list[str | None]) -> None:
        if None in keys:
            raise self._null_key()
        for one, other in itertools.pairwise(keys):
            if one == other:
                raise InputError(
                    f"The column {self.key!r} of {self.relation.label} is {one!r} in more than one row. Name one whose "
                    "values differ with --id-column, or make one with --query: SELECT a || '/' || b AS id, ..."
                )

    # Pictures

    def _pictures(self, found: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of `schema.SOURCE`; the bytes of the pictures are not copied."""
        pictures = found.column("picture").cast(pa.large_binary())
        errors = pa.nulls(found.num_rows, pa.string())
        if pictures.null_count:
            missing = zip(pictures.is_null().to_pylist(), found.column("byte_size").to_pylist(), strict=True)
            errors = pa.array([self._refusal(size) if is_null else None for is_null, size in missing], pa.string())
        known = found.column("known")
        if not metadata_sql(self.relation)[1]:
            known = pa.array(map(_metadata, known.to_pylist()), pa.string())
        return pa.record_batch([self._uris(found), pictures, errors, known], schema=schema.SOURCE)

    def _uris(self, found: pa.RecordBatch) -> pa.Array:
        keys = found.column("key")
        if self.relation.columns[self.key] not in _SAFE_IN_URIS:
            keys = pa.array([quote(key, safe="") for key in keys.to_pylist()], pa.string())
        return pc.binary_join_element_wise(self._row_prefix, keys, "")

    def _refusal(self, byte_size: int | None) -> str:
        if byte_size is None:
            return f"the column {self.column!r} is null in this row"
        return f"the picture has {byte_size:,} bytes; the limit is {MAX_FILE_BYTES:,}"

    # Addresses

    def _fetched(self) -> Iterator[pa.RecordBatch]:
        """The pictures at the addresses. Of some thousand all are fetched before the next are asked for."""
        rows = self._from_before_done()._addressed()  # noqa: SLF001
        while together := list(itertools.islice(rows, _FETCHED_TOGETHER)):
            addresses = [_address(number, row, self.column) for number, row in enumerate(together)]
            for batch in Web(addresses, self.web).batches():
                numbers = [int(number) for number in batch.column("metadata").to_pylist()]
                columns = [
                    pa.array([together[number].uri for number in numbers], pa.string()),
                    batch.column("bytes"),
                    batch.column("error"),
                    pa.array([together[number].metadata for number in numbers], pa.string()),
                ]
                yield pa.record_batch(columns, schema=schema.SOURCE)

    def _addressed(self) -> Iterator[_Addressed]:
        for found in self._found():
            cells = (found.column(name).to_pylist() for name in ("known", "address"))
            for uri, known, address in zip(self._uris(found).to_pylist(), *cells, strict=True):
                told = {} if address is None else {self.column: without_user(address.strip())}
                yield _Addressed(uri, address, _metadata(known, told))

    def _from_before_done(self) -> Postgres:
        """The source from where all that may have been fetched together with the last row comes again."""
        if self.done is None:
            return self
        before = self._select(f"{self._key} AS key", (f"{self._key} < {self._constant(self.done)}",))
        back = f"{before} ORDER BY {self._key} DESC LIMIT {_FETCHED_TOGETHER}"
        with connected(self.server) as connection:
            rows = connection.rows(f"SELECT key::text AS key FROM ({back}) AS back ORDER BY back.key LIMIT 1")
        return replace(self, low=rows[0]["key"] if rows else self.done, done=None)


@dataclass(frozen=True)
class _Addressed:
    """A row whose picture is elsewhere."""

    uri: str
    address: str | None
    metadata: str | None


def _address(number: int, row: _Addressed, column: str) -> Address:
    """What `Web` is given; where metadata would be, it carries the number of the row."""
    if row.address is None:
        return Address(row.uri, str(number), f"the column {column!r} is null in this row")
    return Address(row.address, str(number))


def _metadata(known: str | None, told: dict[str, Any] | None = None) -> str | None:
    try:
        return to_metadata(json.loads(known or "{}") | (told or {}))
    except (ValueError, RecursionError) as error:
        return json.dumps({"metadata_error": f"the columns cannot be used: {error}"})


def open_postgres(
    address: str,
    *,
    table: str | None = None,
    query: str | None = None,
    id_column: str | None = None,
    column: str | None = None,
    part: str | None = None,
    allow_private: bool = False,
) -> Source:
    """The pictures in a table or in what a query gives.

    Args:
        address: `postgresql://USER@HOST:PORT/DATABASE`.
        table: a table or view, with its schema where that is not the usual one.
        query: a SELECT, in place of the table.
        id_column: the column that names a row; without it the primary key, or of a query the column `id`.
        column: the column of pictures (bytea) or of addresses; without it the only one.
        part: `2/8`, the second of eight parts of a table that does not change meanwhile, or the keys `FROM..TO`, the
            last not included; either may be left out.
        allow_private: let addresses be fetched that are not of the open internet.

    Raises:
        InputError: the database cannot be read, or it is not clear what is meant.
        MissingExtraError: the driver is not installed.
    """
    server = parse_server(address)
    with connected(server) as connection:
        if (table is None) == (query is None):
            there = ", ".join(tables(connection)) or "none"
            raise InputError(f"Give either --table or --query of {server.shown}. Tables and views there: {there}.")
        relation = look_up_query(connection, query) if query is not None else look_up_table(connection, table or "")
        key = choose_key(relation, id_column)
        picture = choose_picture(connection, relation, column)
        web = WebOptions(guard=Guard(allow_private=allow_private))
        source = Postgres(server, relation, key, picture, web=web)
        return source if part is None else _part(connection, source, part)


def _part(connection: Connection, source: Postgres, part: str) -> Source:
    numbered = _PART.fullmatch(part)
    if numbered is not None and 1 <= int(numbered[1]) <= int(numbered[2]):
        parts = source.parts(int(numbered[2]))
        number = int(numbered[1])
        return parts[number - 1] if number <= len(parts) else Many(())
    low, dots, high = part.partition("..")
    if numbered is not None or not dots or not (low or high):
        raise InputError(f"{part!r} is no part. Write 2/8 for the second of eight, or keys as FROM..TO.")
    cast = KEY_TYPES[source.relation.columns[source.key]]
    for key in filter(None, (low, high)):
        connection.rows(f"SELECT {literal(key)}::{cast}::text AS key")  # the server says where it is no key
    return replace(source, low=low or None, high=high or None)
