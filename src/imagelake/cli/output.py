"""What verbs print: one JSON object on stdout with `--json`, tables for people without; progress on stderr."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

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
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else str(_plain(value))) for value in row))
    wide = None if sys.stdout.isatty() else 200  # a file or a pipe has no width of its own
    Console(width=wide).print(table)


class _Rate(ProgressColumn):
    """Pictures a second."""

    def render(self, task: Task) -> Text:
        return Text("" if not task.finished_speed and not task.speed else f"{task.finished_speed or task.speed:,.0f}/s")


class Bar:
    """A progress bar with rate and time left, on stderr."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, visible=False)

    def start(self, task: str, total: int | None) -> None:
        """Show the bar."""
        self._progress.reset(self._task, description=task, total=total, visible=True)

    def advance(self, count: int) -> None:
        """Move the bar."""
        self._progress.advance(self._task, count)

    def say(self, message: str) -> None:
        """One line above the bar."""
        self._progress.console.print(message, markup=False, highlight=False)


@contextmanager
def progress_bar() -> Iterator[Bar]:
    """A bar that goes away when the work is done; nothing moves where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress)
