"""The log of the server: one line a request, and what else there is to tell, to a stream that may be slow.

Lines are JSON or text. A request is told by its id, method, path without query, status, time and size: no header, no
query and no body is ever written, so that no key is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any

_MOST_LINES = 10_000  # that wait for the stream; more are dropped, and counted
_GATHER_S = 0.02  # for lines to be written together: waking a thread for each costs more than the line
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class LineWriter:
    """Writes lines on a thread of its own: who does not read the log never stops the server."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._something = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="imagelake-log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Write a line, soon; without a line break at its end."""
        if len(self._lines) >= _MOST_LINES:
            self._dropped += 1
            return
        self._lines.append(line)
        if not self._something.is_set():
            self._something.set()

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what waits, but no longer than `timeout_s`."""
        self._ended.set()
        self._something.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        ended = False
        while not ended:
            self._something.wait()
            ended = self._ended.wait(_GATHER_S)
            self._something.clear()
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                lines.append(json.dumps({"time": _now(), "level": "warning", "message": f"{dropped} lines dropped"}))
            if lines:
                self._write(lines)

    def _write(self, lines: list[str]) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it, or it is closed
            self._stream.write("\n".join([*lines, ""]))
            self._stream.flush()


class RequestLog:
    """Formats what is told and writes it.

    Args:
        writer: where to.
        level: the least that is told: `debug`, `info`, `warning` or `error`.
        as_json: JSON, else text.
    """

    def __init__(self, writer: LineWriter, level: str = "info", *, as_json: bool = True) -> None:
        self._writer = writer
        self.level = LEVELS[level]
        self._as_json = as_json

    def tell(self, level: int, message: str, facts: Mapping[str, Any]) -> None:
        """Write one line, where the level is high enough. Facts that are None are left out."""
        if level < self.level:
            return
        named = {"time": _now(), "level": logging.getLevelName(level).lower(), "message": message}
        named |= {name: value for name, value in facts.items() if value is not None}
        self._writer.write(json.dumps(named) if self._as_json else _text(named))

    def close(self) -> None:
        """Write what waits."""
        self._writer.close()


class LogHandler(logging.Handler):
    """Takes the records of `logging` into the same log: of this package's server, and of uvicorn."""

    def __init__(self, log: RequestLog) -> None:
        super().__init__(log.level)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, with its traceback and the id of the request where there are any."""
        error = record.exc_info[1] if record.exc_info else None
        facts = {
            "logger": record.name,
            "request_id": getattr(record, "request_id", None) or None,
            "traceback": "".join(traceback.format_exception(error)) if error is not None else None,
        }
        self._log.tell(record.levelno, record.getMessage(), facts)


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")


def _text(facts: dict[str, Any]) -> str:
    """One line for people; a traceback follows on lines that are set in, so that none looks like another entry."""
    trace = facts.pop("traceback", None)
    head = f"{facts.pop('time')} {facts.pop('level')} {_line(facts.pop('message'))}"
    line = " ".join([head, *(f"{name}={_word(value)}" for name, value in facts.items())])
    return "\n    ".join([line, *trace.rstrip().splitlines()]) if trace else line


def _line(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)


def _word(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text else json.dumps(text)
