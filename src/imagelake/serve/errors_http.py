"""What becomes of an error at the edge: a status, and a message that tells nothing of this machine."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import math
import re
import sys
import tempfile
from contextvars import ContextVar
from pathlib import Path

from imagelake.errors import (
    BusyError,
    ImagelakeError,
    LakeError,
    LakeFullError,
    MissingExtraError,
    NotServedError,
    ServingError,
    TimeLimitError,
    TooLargeError,
)
from imagelake.serve.body import NoMemoryError, SlowBodyError

REQUEST_ID: ContextVar[str] = ContextVar("imagelake_request_id", default="")
"""Of the request at work; set at the edge, read by the log."""

INTERNAL = "internal error"
RETRY_AFTER_S = 1


class NoKeyError(ServingError):
    """The API key is missing or wrong."""


class TooOftenError(BusyError):
    """The caller asks more often than is allowed.

    Attributes:
        wait_s: after how many seconds the next request is taken.
    """

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


_LOG = logging.getLogger("imagelake.serve")
_LONGEST = 2_000  # characters of a message
_PATH = re.compile(r"(?<![\w/.:\\])(?:/[^\s/'\"`:;,()<>|]+){2,}/?|\b[A-Za-z]:\\[^\s'\"`;,()<>|]+")
# What stands first in the paths of machines. A tensor's name, /layer1/Conv, and an address of ours, /v2/models, do not.
_ROOTS = frozenset(
    [
        *("Applications", "Users", "Volumes", "app", "boot", "content", "data", "dev", "etc", "home", "lib", "media"),
        *("mnt", "models", "opt", "private", "proc", "root", "run", "srv", "storage", "sys", "tmp", "usr", "var"),
        *("work", "workspace", "workspaces"),
    ]
)
_STATUS: tuple[tuple[type[BaseException], int], ...] = (  # the first that fits
    (SlowBodyError, 408),
    (NoKeyError, 401),
    (TooOftenError, 429),
    (TooLargeError, 413),
    (BusyError, 503),
    (TimeLimitError, 504),
    (NotServedError, 404),
    (MissingExtraError, 501),
    (LakeFullError, 507),
    (LakeError, 503),
    (ImagelakeError, 400),
    (asyncio.CancelledError, 503),
    (concurrent.futures.CancelledError, 503),
)


_REASONS: tuple[tuple[type[BaseException], str], ...] = (  # the first that fits
    (NoKeyError, "key"),
    (TooOftenError, "rate"),
    (NoMemoryError, "memory"),
    (BusyError, "queue"),
)


def status_of(error: BaseException) -> int:
    """The HTTP status of an error; 500 for what is a defect of ours."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def message_of(error: BaseException) -> str:
    """What the caller is told. Of a defect of ours, "internal error"; its traceback goes to the log: call it once."""
    if isinstance(error, LakeError):
        _LOG.warning("the lake: %s", error, extra={"request_id": REQUEST_ID.get()})
        return "The lake cannot be read at present. Send it again later."
    if isinstance(error, ImagelakeError):
        return plain(str(error)) or type(error).__name__
    if isinstance(error, asyncio.CancelledError | concurrent.futures.CancelledError):
        return "The request was dropped before it was answered. Send it again."
    log_defect(error)
    return INTERNAL


def headers_of(error: BaseException) -> dict[str, str]:
    """The headers that go with the status: when to come again, and whether to leave."""
    if isinstance(error, NoKeyError):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, TooOftenError):
        return {"Retry-After": str(math.ceil(error.wait_s))}
    if isinstance(error, BusyError):
        return {"Retry-After": str(RETRY_AFTER_S)}
    if isinstance(error, SlowBodyError):
        return {"Connection": "close"}
    return {}


def reason_of(error: BaseException) -> str | None:
    """Why a request was turned away, in the word that metrics have for it; None where it was not, but failed."""
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), None)


def log_defect(error: BaseException) -> None:
    """Write a traceback to the log, with the id of the request."""
    _LOG.error("internal error", exc_info=error, extra={"request_id": REQUEST_ID.get()})


def plain(text: str) -> str:
    """A message without paths of this machine, which become file names, and of a bounded length."""
    cut = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    if "/" in cut or "\\" in cut:
        cut = _PATH.sub(_name_only, cut)
    return cut


def _name_only(match: re.Match[str]) -> str:
    path = match[0]
    if path.startswith("/") and path.split("/")[1] not in _roots():
        return path
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


@functools.cache
def _roots() -> frozenset[str]:
    own = [sys.prefix, sys.base_prefix, tempfile.gettempdir(), str(Path.cwd()), str(Path.home()), __file__]
    return _ROOTS | {Path(path).parts[1] for path in own if len(Path(path).parts) > 1}
