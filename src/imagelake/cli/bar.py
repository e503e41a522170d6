"""The progress bar of long work, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from imagelake.cli.output import write_note

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class _Rate(ProgressColumn):
    """Pictures a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "")


class _Rejected(ProgressColumn):
    """How many were rejected so far; nothing where none was."""

    def render(self, task: Task) -> Text:
        rejected = task.fields.get("rejected", 0)
        return Text(f"{rejected:,} rejected" if rejected else "")


class Bar:
    """A progress bar with rate and time left. A `Progress` of imagelake, drawn by rich's."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, visible=False)
        self._rejected = 0

    def start(self, task: str, total: int | None) -> None:
        """Show the bar."""
        self._progress.reset(self._task, description=task, total=total, visible=True, rejected=0)
        self._rejected = 0

    def advance(self, count: int) -> None:
        """Move the bar."""
        self._progress.advance(self._task, count)

    def reject(self, count: int) -> None:
        """Show how many were rejected so far."""
        self._rejected += count
        self._progress.update(self._task, rejected=self._rejected)

    def say(self, message: str) -> None:
        """One line above the bar."""
        self._progress.console.print(message, markup=False, highlight=False)


@contextmanager
def progress_bar() -> Iterator[Bar]:
    """A bar that goes away when the work is done; nothing moves where stderr is no terminal.

    Ctrl-C ends the work with one line and the exit code of an interrupted program.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(compact=True),
        _Rejected(),
    )
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            yield Bar(progress)
    except KeyboardInterrupt:
        write_note("imagelake: interrupted. The lake is whole; run the same command again and it goes on from there.")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def download_bar() -> Iterator[Callable[[int, int | None], None]]:
    """A bar in bytes; what it gives is called with those that are here and those that there will be.

    Ctrl-C ends the work with one line and the exit code of an interrupted program.
    """
    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(compact=True))
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("", total=None)
            yield lambda here, total: progress.update(task, completed=here, total=total)
    except KeyboardInterrupt:
        write_note("imagelake: interrupted. What has arrived is kept; run the same command again and it goes on.")
        raise typer.Exit(INTERRUPTED) from None
