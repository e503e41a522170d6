"""What the table format raises, turned into our errors; and the bounded patience with other writers."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from imagelake.errors import LakeConflictError, LakeError, LakeFullError, LakeReadOnlyError

T = TypeVar("T")

PATIENCE_S = 120.0
_FULL = re.compile(r"os error (28|122|27)\b|no space left|quota exceeded|file too large", re.IGNORECASE)
_READ_ONLY = re.compile(r"os error (13|30|1)\b|permission denied|read-only file system", re.IGNORECASE)
_SOURCE_PLACE = re.compile(r",? /\S+\.rs:\d+:\d+")  # where in the format's own code
_CONFLICT = re.compile(
    r"commit conflict|too many concurrent writers|concurrent modification|please retry", re.IGNORECASE
)


def is_conflict(error: Exception) -> bool:
    """Whether another writer came first, so that the same operation on the newest version may pass."""
    return bool(_CONFLICT.search(str(error)))


@contextmanager
def our_errors(uri: str) -> Iterator[None]:
    """Raise the errors of the table format as ours.

    The format tells a full disk from a forbidden one only in the text of an `OSError`; so that is read.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        text = str(error)
        if _FULL.search(text):
            raise LakeFullError(
                f"No space is left for {uri}. What was committed before is whole; free some space and run again."
            ) from error
        if _READ_ONLY.search(text):
            raise LakeReadOnlyError(
                f"{uri} may not be written by this user. Nothing was changed; allow writing or use another lake."
            ) from error
        if is_conflict(error):
            raise LakeConflictError(f"Other writers kept {uri} busy; nothing was lost, run again.") from error
        reason = _SOURCE_PLACE.sub("", text.splitlines()[0]) if text else type(error).__name__
        raise LakeError(f"{uri}: {reason}") from error


def patiently(operation: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """Repeat `operation` while other writers come first, with growing random pauses, for at most `patience_s`."""
    deadline = time.monotonic() + patience_s
    pause_s = 0.01
    while True:
        try:
            return operation()
        except (OSError, RuntimeError, ValueError) as error:
            if not is_conflict(error) or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0, pause_s))  # noqa: S311  (spreads writers, guards no secret)
        pause_s = min(pause_s * 2, 1.0)
