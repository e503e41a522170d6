"""A PostgreSQL server: its address without the password, and statements that only read."""

# ruff: noqa: S608  (SQL is put together here: names by `identifier`, values by `literal`)

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa

from imagelake._optional import need
from imagelake.errors import InputError
from imagelake.sources.folder import BATCH_BYTES

_FORM = "postgresql://USER@HOST:PORT/DATABASE"
_SCHEME = re.compile(r"postgres(ql)?://")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:@\[\]]*)(?::([0-9]*))?")
_PORT = "5432"
_DEFAULTS = {"connect_timeout": "15", "fallback_application_name": "imagelake"}
_SECRET = ("password", "sslpassword")
_SETTINGS = {
    "default_transaction_read_only": "on",
    "TimeZone": "UTC",  # the text of a time is a key: it must not depend on who reads
    "DateStyle": "ISO, YMD",
    "client_encoding": "UTF8",
    "jit": "off",  # it compiles for longer than a page takes to read
}
_BATCH_HINT = "adbc.postgresql.batch_size_hint_bytes"
_USE_COPY = "adbc.postgresql.use_copy"
_SERVER_SAYS = re.compile(r"\b(?:ERROR|FATAL|PANIC):\s*(.+)")
_DRIVER_SAYS = re.compile(r"^([A-Z_]+: )?(\[libpq\] )?(Failed to connect: )?")


@dataclass(frozen=True)
class Server:
    """Where a database is.

    Attributes:
        shown: the address without user, password, database and parameters: `postgresql://host:port`.
        connection: what the driver is given, password included.
        secrets: what no message may hold.
    """

    shown: str
    connection: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def redact(self, text: str) -> str:
        """The text with `***` in the place of every password."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def parse_server(address: str) -> Server:
    """Take `postgresql://user:password@host:port/database?parameters` apart.

    Raises:
        InputError: it is none. The message does not hold the address, which may hold a password.
    """
    scheme = _SCHEME.match(address)
    if scheme is None:
        raise InputError(f"This is no address of a PostgreSQL database. Write {_FORM}")
    place, _, query = address[scheme.end() :].partition("?")
    authority, _, database = place.partition("/")
    if "@" in database or "@" in query or "#" in address or "\0" in address:
        raise _unreadable("it has one of @ / ? # where that cannot be")
    known, at, hosts = authority.rpartition("@")
    user, colon, password = known.partition(":")
    given = dict(_parameter(each) for each in query.split("&") if each)
    ports = given["port"].split(",") if given.get("port") else []
    host_list = given["host"] if given.get("host") else hosts
    shown = ",".join(_shown_host(each, ports, number) for number, each in enumerate(host_list.split(",")))
    who = f"{quote(unquote(user), safe='')}{colon}{quote(unquote(password), safe='')}{at}"
    words = "&".join(f"{name}={quote(value, safe='')}" for name, value in (_DEFAULTS | given).items())
    secrets = {password, unquote(password), quote(unquote(password), safe="")}
    secrets |= {given.get(name, "") for name in _SECRET}
    return Server(f"postgresql://{shown}", f"postgresql://{who}{hosts}/{database}?{words}", tuple(secrets - {""}))


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise _unreadable("a parameter after the ? has no value")
    return unquote(name), unquote(value)


def _shown_host(text: str, ports: list[str], number: int) -> str:
    """One host as every address of it writes it; empty where the driver's own default is meant."""
    found = re.fullmatch("(/.*)()", text) or _HOST.fullmatch(text)
    if found is None:
        raise _unreadable("the part between // and / is not [USER[:PASSWORD]@]HOST[:PORT]")
    host, port = unquote(found[1]), found[2] or ""
    host = quote(host, safe="") if host.startswith("/") else host.lower()  # the folder of a socket, or a name
    if ports:
        port = ports[min(number, len(ports) - 1)]
    if not host:
        return f":{port}" if port else ""
    return f"{host}:{port or _PORT}"


def _unreadable(why: str) -> InputError:
    return InputError(
        f"The address of the database cannot be read: {why}. Write {_FORM}, and in a password "
        "%40 for @, %3A for :, %2F for /, %3F for ?, %23 for # and %25 for %."
    )


class Connection:
    """A connection that only reads. Every error is an `InputError` that begins with the server's address."""

    def __init__(self, server: Server, opened: Any, errors: tuple[type[Exception], ...]) -> None:
        self._server = server
        self._opened = opened
        self._errors = errors

    def rows(self, statement: str, *, copy: bool = True) -> list[dict[str, Any]]:
        """The answer to a statement, which must be small; `copy` is False where the statement is no SELECT."""
        with self._telling(), self._opened.cursor() as cursor:
            cursor.adbc_statement.set_options(**{_USE_COPY: "true" if copy else "false"})
            cursor.execute(statement)
            return [row for batch in cursor.fetch_record_batch() for row in batch.to_pylist()]

    def stream(self, statement: str) -> Iterator[pa.RecordBatch]:
        """The answer to a SELECT in batches of about 4 MB, or one row."""
        with self._telling(), self._opened.cursor() as cursor:
            cursor.adbc_statement.set_options(**{_BATCH_HINT: str(BATCH_BYTES)})
            cursor.execute(statement)
            yield from _one_ahead(iter(cursor.fetch_record_batch()))

    def columns(self, relation: str) -> list[str]:
        """The names of the columns of a relation."""
        with self._telling(), self._opened.cursor() as cursor:
            return list(cursor.adbc_execute_schema(f"SELECT * FROM {relation} AS q").names)

    def planned_rows(self, statement: str) -> int:
        """About how many rows the server expects."""
        (row,) = self.rows(f"EXPLAIN (FORMAT JSON) {statement}", copy=False)
        found = re.search(r'"Plan Rows": ([0-9]+)', str(*row.values()))
        return int(found[1]) if found else 0

    def set_up(self) -> None:
        """Let nothing be written, and times be told in one way."""
        self.rows("SELECT " + ", ".join(f"set_config('{name}', '{to}', false)" for name, to in _SETTINGS.items()))

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise InputError(f"{self._server.shown}: {_reason(self._server, error)}.") from None


@contextmanager
def connected(server: Server) -> Iterator[Connection]:
    """A connection, closed at the end.

    Raises:
        InputError: the server cannot be reached, or it lets nobody in.
        MissingExtraError: the driver is not installed.
    """
    driver = need("postgres", "adbc_driver_postgresql.dbapi")
    errors = (driver.Error, pa.ArrowException, OSError, UnicodeError)
    try:
        opened = driver.connect(server.connection, autocommit=True)  # each statement has a snapshot of its own
    except errors as error:
        raise InputError(
            f"{server.shown} cannot be connected to: {_reason(server, error)}. Check host, port, database and user; "
            "a password may stand in the file ~/.pgpass."
        ) from None  # the driver's own message may hold parts of the address
    with opened:
        connection = Connection(server, opened, errors)
        connection.set_up()
        yield connection


def _one_ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches; while one is used, the next is read, so that the server does not wait."""
    with ThreadPoolExecutor(1, thread_name_prefix="imagelake-postgres") as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch


def _reason(server: Server, error: Exception) -> str:
    """What the server said, else what the driver said, in one line; never the statement, which may be long."""
    text = str(error).split("\n\nQuery was:")[0]
    said = _SERVER_SAYS.search(text)
    line = said[1] if said else _DRIVER_SAYS.sub("", text.strip()).splitlines()[0] if text.strip() else repr(error)
    return server.redact(line.strip().rstrip("."))


def identifier(name: str) -> str:
    """A name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL takes it, whatever is in it.

    Raises:
        InputError: it holds a NUL, which no text of PostgreSQL can.
    """
    if "\0" in text:
        raise InputError("A text for the database holds a NUL character. Leave it out.")
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in text else f"'{quoted}'"
