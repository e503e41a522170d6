"""What becomes of an event: how often it is tried, when it is given up, which of two came first."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from imagelake.errors import InputError
from imagelake.files import is_remote
from imagelake.serve.event_upload import UploadEvent

FOLDER = "events"


@dataclass(frozen=True)
class RetryOptions:
    """How often an event is tried.

    Attributes:
        attempts: after so many it is dead.
        few: after so many it is dead where the reason looks as if it stays: no such object, no right to read it, no
            picture. Another try may do better within seconds, while the object is still being written, not hours.
        first_pause_s: about the wait after the first; it doubles with each, and a random part of up to a half is
            taken from it.
        longest_pause_s: the longest wait.
    """

    attempts: int = 10
    first_pause_s: float = 2.0
    longest_pause_s: float = 600.0
    few: int = 4

    def __post_init__(self) -> None:
        if min(self.attempts, self.few) < 1 or not 0 < self.first_pause_s <= self.longest_pause_s < float("inf"):
            raise InputError(
                f"{self} makes no sense: give 1 attempt or more, and pauses above 0 s of which the first is shortest."
            )

    def is_last(self, attempt: int, *, lasting: bool) -> bool:
        """Whether there is none after this attempt, which failed for a reason that stays (`lasting`) or may pass."""
        return attempt >= (min(self.few, self.attempts) if lasting else self.attempts)

    def pause_s(self, attempts: int) -> float:
        """The wait after so many attempts."""
        full = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(attempts - 1, 60))
        return full * random.uniform(0.5, 1.0)  # noqa: S311  (spreads tries, guards no secret)


@dataclass(frozen=True)
class Claimed:
    """An event to work on, and the number of this attempt, from 1."""

    event: UploadEvent
    attempt: int


@dataclass(frozen=True)
class DeadLetter:
    """An event that was given up.

    Attributes:
        key: names it, 64 hexadecimal letters.
        event: as it came.
        attempts: how often it was tried.
        reason: what failed last.
        died_at: when it was given up, UTC.
    """

    key: str
    event: UploadEvent
    attempts: int
    reason: str
    died_at: datetime


def events_folder(root: str, given: str | os.PathLike[str] | None = None) -> Path:
    """Where the journal of the lake at `root` is: the folder that was given, else `events` in the lake's own.

    Raises:
        InputError: the lake is in a bucket, and no folder was given.
    """
    if given is not None:
        return Path(given).absolute()
    if is_remote(root):
        raise InputError(
            f"{root} is in a bucket, where an event cannot be kept safe before it is done. Give --state a folder on "
            "this machine's disk, the same at each start."
        )
    return Path(root) / FOLDER


def is_before(event: UploadEvent, sequencer: str | None, happened_at: datetime | None) -> bool:
    """Whether an event is older than one of the same object. Sequencers are compared with zeros before the shorter."""
    if event.sequencer is not None and sequencer is not None:
        width = max(len(event.sequencer), len(sequencer))
        return event.sequencer.lower().rjust(width, "0") < sequencer.lower().rjust(width, "0")
    if event.happened_at is not None and happened_at is not None:
        return event.happened_at < happened_at
    return False
