"""What a PostgreSQL database tells of a table or a query, and which of its columns are meant."""

# ruff: noqa: S608  (SQL is put together here: names by `identifier`, values by `literal`)

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from imagelake.errors import InputError
from imagelake.sources.postgres_server import Connection, identifier, literal
from imagelake.sources.url_list import COLUMN_NAMES

BYTES = "bytea"
_TEXTS = frozenset({"text", "character varying", "character", "name"})
KEY_TYPES = {
    "smallint": "smallint",
    "integer": "integer",
    "bigint": "bigint",
    "numeric": "numeric",
    "text": "text",
    "character varying": "varchar",
    "character": "bpchar",  # as a cast, `character` means one letter
    "name": "name",
    "uuid": "uuid",
    "date": "date",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
}
"""The types that a key may have, and how a cast names them."""

_SCALARS = frozenset(KEY_TYPES) | {"boolean", "real", "double precision"}
_LABELS = frozenset({"label", "labels", "class"})
_SPECIAL = frozenset({"metadata", "regions"})

_ADDRESS = re.compile(r"\s*https?://\S", re.IGNORECASE)
_LOOKED_AT = 100  # rows, to tell which column holds addresses
_SHOWN = 40  # columns or tables in a message


@dataclass(frozen=True)
class Relation:
    """A table, a view or a query.

    Attributes:
        sql: what comes after FROM.
        label: what it is called in messages.
        place: database and name as the end of a URI has them, percent-encoded.
        columns: their types by name; of a domain the type below it.
        primary_key: the columns of the primary key.
        never_null: columns that are declared so.
        sorted_by: columns that an index begins with.
    """

    sql: str
    label: str
    place: str
    columns: Mapping[str, str]
    primary_key: tuple[str, ...] = ()
    never_null: frozenset[str] = frozenset()
    sorted_by: frozenset[str] = frozenset()

    @property
    def is_query(self) -> bool:
        """Whether it is neither table nor view."""
        return self.sql.startswith("(")

    def column_list(self) -> str:
        """The columns with their types, as a message has them."""
        shown = [f"{name} ({kind})" for name, kind in list(self.columns.items())[:_SHOWN]]
        return ", ".join(shown + ["..."] * (len(self.columns) > _SHOWN)) or "none"


def look_up_query(connection: Connection, query: str) -> Relation:
    """What a SELECT gives. It is not run.

    Raises:
        InputError: it is no SELECT, or two of its columns have the same name.
    """
    text = query.strip().rstrip(";").strip()
    if not text or "\0" in text:
        raise InputError("The query is empty or holds a NUL character. Give a SELECT.")
    sql = f"(\n{text}\n)"  # the last line may be a comment
    database = quote(connection.rows("SELECT current_database()::text AS name")[0]["name"], safe="")
    name = f"query-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return Relation(sql, "the query", f"{database}/{name}", _columns(connection, sql, "the query"))


def look_up_table(connection: Connection, table: str) -> Relation:
    """A table or view by its name, with or without its schema; a name counts as it is written, then as SQL reads it.

    Raises:
        InputError: there is none.
    """
    found = _find(connection, table)
    if found is None:
        there = ", ".join(tables(connection)) or "none"
        raise InputError(f"There is no table {table!r}. Tables and views there: {there}.")
    sql = f"{identifier(found['schema'])}.{identifier(found['name'])}"
    names = [found["name"]] if found["schema"] == "public" else [found["schema"], found["name"]]
    place = ".".join(quote(name, safe="").replace(".", "%2E") for name in names)
    indexes = connection.rows(
        "SELECT i.indisprimary AS is_primary, (SELECT array_agg(a.attname::text ORDER BY k.place)"
        " FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(number, place)"
        " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number) AS names"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam"
        f" WHERE i.indrelid = {found['oid']} AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] <> 0"
        " AND m.amname = 'btree'"
    )
    filled = connection.rows(
        f"SELECT attname::text AS name FROM pg_attribute WHERE attrelid = {found['oid']} AND attnotnull AND attnum > 0"
    )
    return Relation(
        sql,
        f"the table {'.'.join(names)!r}",
        f"{quote(found['database'], safe='')}/{place}",
        _columns(connection, sql, f"the table {'.'.join(names)!r}"),
        next((tuple(row["names"]) for row in indexes if row["is_primary"]), ()),
        frozenset(row["name"] for row in filled),
        frozenset(row["names"][0] for row in indexes if row["names"]),
    )


def tables(connection: Connection) -> list[str]:
    """The names of tables and views, as `look_up_table` takes them; of very many, the first and `...`."""
    rows = connection.rows(
        "SELECT CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || c.relname AS name"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition"
        " AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'"
        f" ORDER BY 1 LIMIT {_SHOWN + 1}"
    )
    return [row["name"] for row in rows[:_SHOWN]] + ["..."] * (len(rows) > _SHOWN)


def _find(connection: Connection, table: str) -> dict[str, str] | None:
    """Schema, name, number and database of a table; None where there is none."""
    as_written = ".".join(identifier(part) for part in table.split("."))
    for name in dict.fromkeys([as_written, identifier(table), table]):
        try:
            rows = connection.rows(
                "SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name,"
                " current_database()::text AS database"
                " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                f" WHERE c.oid = to_regclass({literal(name)}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
            )
        except InputError:  # not even a name
            continue
        if rows:
            return rows[0]
    return None


def _columns(connection: Connection, sql: str, label: str) -> dict[str, str]:
    """The type of each column."""
    names = connection.columns(sql)
    twice = sorted(name for name in set(names) if names.count(name) > 1)
    if twice:
        raise InputError(f"Two columns of {label} are called {twice[0]!r}. Give each a name of its own: ... AS name.")
    if not names:
        return {}
    types = ", ".join(
        "(SELECT format_type(CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END, NULL)"
        f" FROM pg_type t WHERE t.oid = pg_typeof(q.{identifier(name)})) AS c{number}"
        for number, name in enumerate(names)
    )
    # The join with nothing gives one row of nulls, whose types are known, and the query is never run.
    row = connection.rows(f"SELECT {types} FROM (SELECT 1) AS one LEFT JOIN {sql} AS q ON false")[0]
    return {name: row[f"c{number}"] for number, name in enumerate(names)}


def metadata_sql(relation: Relation) -> tuple[str, bool]:
    """What gives all columns of a row `q` but those of bytes as the text of a JSON object, and whether that is what
    `to_metadata` would make of it: so it is where each is a plain value, and one at most a label.
    """
    kept = {name: kind for name, kind in relation.columns.items() if kind.removesuffix("[]") != BYTES}
    labels = [name for name in kept if name.lower() in _LABELS]
    is_final = len(labels) < 2 and _SCALARS.issuperset(kept.values()) and not any(n.lower() in _SPECIAL for n in kept)
    cells = [f"q.{identifier(name)}" for name in kept if not (is_final and name in labels)]
    if is_final and labels:
        label = f"q.{identifier(labels[0])}"
        cells.append(f"CASE WHEN {label} IS NOT NULL THEN ARRAY[{label}::text] END AS labels")
    whole = "json_strip_nulls(to_json(o.*))" if is_final else "to_json(o.*)"
    return f"(SELECT {whole}::text FROM (SELECT {', '.join(cells)}) AS o)", is_final


def choose_key(relation: Relation, wanted: str | None) -> str:
    """The column that names a row: the one that is wanted, the primary key, or of a query the one called id.

    Raises:
        InputError: there is none, or its type has no order that a text can say.
    """
    own = "Name one whose values differ with --id-column, or make one with --query: SELECT a || '/' || b AS id, ..."
    name = wanted
    if name is None and len(relation.primary_key) == 1:
        name = relation.primary_key[0]
    if name is None and relation.is_query and "id" in relation.columns:
        name = "id"
    if name is None:
        key = ", ".join(relation.primary_key)
        why = f"has a primary key of several columns ({key})" if key else "has no primary key"
        why = "does not say which column names a row" if relation.is_query else why
        raise InputError(f"{relation.label[0].upper()}{relation.label[1:]} {why}. {own} Columns: {_all(relation)}")
    kind = _type_of(relation, name, "the ids")
    if kind not in KEY_TYPES:
        raise InputError(f"The column {name!r} is {kind}; ids may be {', '.join(KEY_TYPES)}. {own}")
    return name


def choose_picture(connection: Connection, relation: Relation, wanted: str | None) -> str:
    """The column of pictures or of addresses.

    Raises:
        InputError: it is not clear which.
    """
    if wanted is not None:
        kind = _type_of(relation, wanted, "the pictures")
        if kind != BYTES and kind not in _TEXTS:
            raise InputError(f"The column {wanted!r} is {kind}; pictures are {BYTES}, and addresses are text.")
        return wanted
    pictures = _of_type(relation, {BYTES})
    texts = _of_type(relation, _TEXTS)
    named = [name for name in texts if name.lower() in COLUMN_NAMES]
    found = pictures or named or _addresses(connection, relation, texts)
    if len(found) == 1:
        return found[0]
    why = f"Several columns may hold the pictures: {', '.join(found)}" if found else "No column holds pictures"
    raise InputError(
        f"{why}. Name one of type {BYTES}, or one of addresses (http://...), with --column. Columns: {_all(relation)}"
    )


def _addresses(connection: Connection, relation: Relation, texts: Sequence[str]) -> list[str]:
    """The columns whose first values are all addresses."""
    if not texts:
        return []
    wanted = ", ".join(f"q.{identifier(name)}::text AS c{number}" for number, name in enumerate(texts))
    rows = connection.rows(f"SELECT {wanted} FROM {relation.sql} AS q LIMIT {_LOOKED_AT}")
    told = [[row[f"c{number}"] for row in rows if row[f"c{number}"]] for number in range(len(texts))]
    return [name for name, values in zip(texts, told, strict=True) if values and all(map(_ADDRESS.match, values))]


def _of_type(relation: Relation, kinds: set[str] | frozenset[str]) -> list[str]:
    return [name for name, kind in relation.columns.items() if kind in kinds]


def _type_of(relation: Relation, name: str, what: str) -> str:
    if name not in relation.columns:
        there = _all(relation)
        raise InputError(f"{relation.label[0].upper()}{relation.label[1:]} has no column {name!r} for {what}: {there}")
    return relation.columns[name]


def _all(relation: Relation) -> str:
    return f"{relation.column_list()}."
