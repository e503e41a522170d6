"""How long work tells what it has done. The command line draws it; a library call stays silent."""

from __future__ import annotations

from typing import Protocol

from imagelake.steps.step import Batches


class Progress(Protocol):
    """Called from the thread that runs the work."""

    def start(self, task: str, total: int | None) -> None:
        """Work on `task` begins; `total` pictures are expected, None where nobody knows."""

    def advance(self, count: int) -> None:
        """`count` more pictures are done."""

    def reject(self, count: int) -> None:
        """`count` of those that are done were rejected."""

    def say(self, message: str) -> None:
        """One line for a person."""


class Silent:
    """Shows nothing."""

    def start(self, task: str, total: int | None) -> None:
        """Show nothing."""

    def advance(self, count: int) -> None:
        """Show nothing."""

    def reject(self, count: int) -> None:
        """Show nothing."""

    def say(self, message: str) -> None:
        """Show nothing."""


def counted(batches: Batches, progress: Progress) -> Batches:
    """The same batches; each is reported when the next is asked for."""
    for batch in batches:
        yield batch
        progress.advance(batch.num_rows)
