"""SQL over every table of a lake, through DuckDB: `images`, `regions`, `"embeddings/NAME"`, ...

Read only and fenced in: a query sees the tables and nothing else, no files and no network.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads

from imagelake.errors import InputError
from imagelake.lake.failures import our_errors
from imagelake.lake.predicate import check_predicate
from imagelake.lake.table import BLOB
from imagelake.lake.tables import Tables

_SETTINGS = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "1GB",
    "TimeZone": "UTC",
}

_JSON = frozenset({"exif", "iptc", "xmp", "metadata"})


class _Stored(pads.Dataset):  # type: ignore[misc]
    """A stored table as DuckDB reads it best. A class, because DuckDB takes only Arrow's own kinds of things.

    Its narrowest column comes first, for that is the one that DuckDB reads to count rows (else it is the id: 8 times as
    long). Columns are read together with those of the predicate, only the wide ones afterwards, for the rows that are
    left: fetching each narrow value by its row takes 3 to 10 times as long.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    @property
    def schema(self) -> pa.Schema:
        """All columns, the narrowest first."""
        return pa.schema(sorted(self._dataset.schema, key=_bits))

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None) -> Any:  # noqa: A002  (Arrow's name)
        """What DuckDB asks for: some columns of the rows for which a filter holds."""
        wanted = list(columns or self.schema.names)
        wide = [name for name in wanted if name in _JSON or _bits(self._dataset.schema.field(name)) == _UNKNOWN]
        return self._dataset.scanner(columns=wanted, filter=filter, late_materialization=wide or False)


_UNKNOWN = 1 << 30


def _bits(field: pa.Field) -> int:
    """About how many bits a value has: of texts and lists a guess, of anything that may be large `_UNKNOWN`."""
    if pa.types.is_string(field.type) or pa.types.is_list(field.type):
        return 1024
    return int(field.type.bit_width) if pa.types.is_primitive(field.type) else _UNKNOWN


@contextmanager
def _connection(tables: Tables, *, spills: bool = True) -> Iterator[Any]:
    """Of one query.

    Args:
        tables: that it sees.
        spills: whether what does not fit into memory may go to a folder of the disk.
    """
    with duckdb.connect(":memory:") as connection:
        if not spills:
            connection.execute("SET temp_directory = ''")
        for name, table in tables.all().items():
            dataset = table.arrow()
            columns = [f'"{column}"' for column in dataset.schema.names if column != BLOB]
            connection.register(f"stored {name}", _Stored(dataset))
            connection.execute(f'CREATE VIEW "{name}" AS SELECT {", ".join(columns)} FROM "stored {name}"')  # noqa: S608
        for setting, value in _SETTINGS.items():
            connection.execute(f"SET {setting} = '{value}'")
        connection.execute("SET lock_configuration = true")
        yield connection


@contextmanager
def _at_most(connection: Any, time_limit_s: float | None) -> Iterator[None]:
    """Interrupt what runs inside when its time is up.

    Raises:
        InputError: it was.
    """
    if time_limit_s is None:
        yield
        return
    timer = threading.Timer(time_limit_s, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except duckdb.InterruptException as error:
        raise InputError(f"The SQL takes longer than {time_limit_s:g} s. Ask for less.") from error
    finally:
        timer.cancel()
        timer.join()


def query(tables: Tables, statement: str, *, time_limit_s: float | None = None) -> pa.Table:
    """The answer to one SQL query, over all tables, without the column `bytes`.

    Args:
        tables: of the lake.
        statement: one SELECT.
        time_limit_s: a query that takes longer is ended, and writes nothing to the disk; None: however long it takes.

    Raises:
        InputError: the query is wrong, takes too long, or is more than a query.
    """
    _check_text(statement)
    with our_errors(tables.root), _connection(tables, spills=time_limit_s is None) as connection:
        try:
            parsed = connection.extract_statements(statement)
            if len(parsed) != 1 or parsed[0].type not in {
                duckdb.StatementType.SELECT,
                duckdb.StatementType.EXPLAIN,
            }:
                raise InputError("Give one SELECT: `imagelake sql` reads, it does not change the lake.")
            with _at_most(connection, time_limit_s):
                answer = connection.sql(statement).to_arrow_table()
            return answer.rename_columns(_distinct(answer.column_names))
        except duckdb.Error as error:
            names = ", ".join(f'"{name}"' if "/" in name else name for name in tables.all())
            raise InputError(f"SQL: {error}\nTables: {names}.") from error


def _check_text(statement: str) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in statement):  # bytes of the command line that are not UTF-8
        raise InputError("The SQL has bytes that are not UTF-8. Give it in UTF-8.")


def _distinct(names: list[str]) -> list[str]:
    """Number the names that come again, as in a join: id, id_1, ..."""
    taken: set[str] = set()
    for position, name in enumerate(names):
        number, candidate = 0, name
        while candidate in taken or (number and candidate in names):
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        names[position] = candidate
    return names


def matching_ids(tables: Tables, predicate: str, *, time_limit_s: float | None = None) -> pa.Array:
    """The ids of the images for which an SQL predicate over the images table holds.

    Args:
        tables: of the lake.
        predicate: what may stand after WHERE.
        time_limit_s: for a predicate of somebody else, which is ended then, and may hold what `check_predicate` allows;
            None: it is our own.

    Raises:
        InputError: the predicate is wrong, is more than a predicate, has what is not allowed, or takes too long.
    """
    _check_text(predicate)
    statement = f"SELECT id FROM images WHERE ({predicate}\n)"  # noqa: S608  (fenced in, read only)
    # What closes a parenthesis of ours is not run: it could make an answer of any size. What is no SQL, query explains.
    if _statements(statement) and _statements(f"SELECT [{predicate}\n]") != 1:
        raise InputError(
            "The predicate is more than a condition. Give what may stand after WHERE, such as width > 1000."
        )
    if time_limit_s is not None:
        check_predicate(_tree(statement))
    return query(tables, statement, time_limit_s=time_limit_s).column(0).combine_chunks()


def _tree(statement: str) -> Any:
    """What DuckDB's parser makes of one SELECT.

    Raises:
        InputError: it is none.
    """
    with duckdb.connect(":memory:") as connection:
        try:
            found = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [statement]).fetchone()
            tree = json.loads(found[0] if found else "{}")
        except (duckdb.Error, ValueError, RecursionError) as error:
            raise InputError(f"SQL: {error}") from error
    if tree.get("error", True) or len(tree.get("statements", ())) != 1:
        raise InputError(f"SQL: {tree.get('error_message', 'this is no predicate')}")
    return tree


def _statements(text: str) -> int:
    """How many statements a text of SQL has; 0 where it is none."""
    with duckdb.connect(":memory:") as connection:
        try:
            return len(connection.extract_statements(text))
        except duckdb.Error:
            return 0
