"""What verbs print: one JSON object on stdout with `--json`, tables for people without."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

# What steers a terminal; a file name or an EXIF field may hold it.
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")

LakeOption = Annotated[str, typer.Option("--lake", "-l", help="The lake: a folder.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]


def write_json(value: object) -> None:
    """One JSON value on stdout. Dataclasses become objects, times become ISO 8601, bytes their length."""
    sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, float) and not math.isfinite(value):  # NaN or infinite: JSON has no word for it
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def write_line(text: str) -> None:
    """One line on stdout, as it is."""
    sys.stdout.write(text + "\n")


def write_note(text: str) -> None:
    """One line on stderr, for a person."""
    sys.stderr.write(text + "\n")


def write_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A table on stdout; the columns named in `right` are set flush right."""
    from rich.console import Console  # late: --help draws no table
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else _CONTROL.sub("\ufffd", str(_plain(value)))) for value in row))
    wide = None if sys.stdout.isatty() else 200  # a file or a pipe has no width of its own
    Console(width=wide).print(table)
