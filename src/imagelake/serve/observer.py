"""What the plane tells of itself as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from imagelake.serve.statistics import Outcome


class Observer(Protocol):
    """Whoever counts what happens. Called from any thread, also under locks: it is quick and raises nothing."""

    def finished(self, model: str, version: str, protocol: str, outcome: Outcome, seconds: float, /) -> None:
        """A request came to its end."""

    def batch(self, model: str, rows: int, queue_s: Sequence[float], compute_s: float, /) -> None:
        """The model ran: over so many rows, after the requests had waited so long."""

    def depth(self, model: str, requests: int, /) -> None:
        """So many requests wait now."""


class Nobody:
    """An observer that looks away."""

    def finished(self, model: str, version: str, protocol: str, outcome: Outcome, seconds: float, /) -> None:
        """See `Observer`."""

    def batch(self, model: str, rows: int, queue_s: Sequence[float], compute_s: float, /) -> None:
        """See `Observer`."""

    def depth(self, model: str, requests: int, /) -> None:
        """See `Observer`."""
