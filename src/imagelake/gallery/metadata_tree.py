"""What files say of themselves, a tree of JSON, as lines of name and text: short enough to show, whatever it is."""

from __future__ import annotations

import json
from typing import Any

_MOST_LINES = 2_000
_MOST_LETTERS = 2_000


def flatten(text: str) -> list[tuple[str, str]]:
    """The values of a JSON text by their paths, such as `("GPSInfo.GPSLatitude[0]", "53")`.

    A list of plain values is one line. A text that is no JSON is one line without a name. At most 2,000 lines, of
    2,000 letters each; a last line `("…", "")` says that there are more.
    """
    try:
        tree = json.loads(text)
        lines: list[tuple[str, str]] = []
        waiting: list[tuple[str, Any]] = [("", tree)]  # no recursion: it may be deep
        while waiting and len(lines) < _MOST_LINES:
            name, value = waiting.pop()
            children = _children(name, value)
            if children is None:
                lines.append((_cut(name), _cut(_word(value))))
            waiting += reversed(children or [])
    except (ValueError, RecursionError):
        return [("", _cut(text))]
    return lines + ([("…", "")] if waiting else [])


def _children(name: str, value: Any) -> list[tuple[str, Any]] | None:
    """What is below a value; None where it is a line of its own."""
    if isinstance(value, dict):
        before = f"{_cut(name)}." if name else ""
        return [(f"{before}{key}", each) for key, each in list(value.items())[: _MOST_LINES + 1]]
    if isinstance(value, list) and any(isinstance(each, dict | list) for each in value[:_MOST_LINES]):
        return [(f"{_cut(name)}[{number}]", each) for number, each in enumerate(value[: _MOST_LINES + 1])]
    return None


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_word(each) for each in value[:_MOST_LINES])
    if isinstance(value, str):
        return value
    return json.dumps(value)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS] + "…"
