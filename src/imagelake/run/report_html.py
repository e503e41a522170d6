"""Facts and reports as HTML for notebooks: every text escaped, no script, no style sheet, nothing fetched.

Colors are those around it, with half-clear lines, so that it is readable on light and on dark pages.
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from imagelake.files import display_name

if TYPE_CHECKING:
    from imagelake.run.duplicates import DuplicateReport
    from imagelake.run.quality import QualityReport

MOST_ROWS = 20
"""Rows of a table that are shown; the rest is counted."""

_MOST_LETTERS = 300
_ONE_LINE = 32
_LINE = "1px solid rgba(128,128,128,.35)"
_CELL = f"padding:.15em .7em .15em 0;border:0;border-bottom:{_LINE};background:none;color:inherit;vertical-align:top"
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")  # and what turns text
_UNITS = ("B", "kB", "MB", "GB", "TB")


def text(value: object) -> str:
    """A value for people, escaped: numbers with commas, times to the second, what steers a page or a line replaced."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        shown = "yes" if value else "no"
    elif isinstance(value, int):
        shown = f"{value:,}"
    elif isinstance(value, float):
        shown = f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    elif isinstance(value, datetime):
        shown = f"{value:%Y-%m-%d %H:%M:%S}"
    elif isinstance(value, Mapping):
        shown = ", ".join(f"{key}: {item}" for key, item in value.items())
    elif isinstance(value, list | tuple):
        shown = ", ".join(map(str, value))
    else:
        shown = str(value)
    shown = _UNSEEN.sub("\ufffd", shown)
    return html.escape(shown if len(shown) <= _MOST_LETTERS else f"{shown[: _MOST_LETTERS - 1]}…")


def size(count: int) -> str:
    """A number of bytes in the unit that fits."""
    amount, unit = float(count), 0
    while amount >= 1000 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{count:,} B" if unit == 0 else f"{amount:.3g} {_UNITS[unit]}"


def facts(title: str, rows: Mapping[str, object], *parts: str) -> str:
    """A heading, names and values below, and what else there is, which is HTML already."""
    cells = "".join(
        f'<tr style="background:none"><td style="{_CELL};text-align:left;opacity:.75">{text(name)}</td>'
        f'<td style="{_CELL};text-align:left;overflow-wrap:anywhere">{text(value)}</td></tr>'
        for name, value in rows.items()
    )
    listed = f'<table style="border-collapse:collapse;color:inherit;margin:.3em 0">{cells}</table>' if rows else ""
    return (
        f'<div style="margin:.4em 0;max-width:70em"><div style="font-weight:600">{text(title)}</div>'
        f"{listed}{''.join(parts)}</div>"
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], count: int) -> str:
    """A table of `count` rows, of which the first are shown; numbers are flush right."""
    head = "".join(f'<th style="{_CELL};text-align:left;font-weight:600">{text(name)}</th>' for name in columns)
    shown = [row for _, row in zip(range(MOST_ROWS), rows, strict=False)]
    body = "".join(f'<tr style="background:none">{"".join(map(_cell, row))}</tr>' for row in shown)
    more = f'<div style="opacity:.75">and {count - len(shown):,} more</div>' if count > len(shown) else ""
    return f'<table style="border-collapse:collapse;color:inherit;margin:.3em 0"><tr>{head}</tr>{body}</table>{more}'


def _cell(value: object) -> str:
    side = "right" if isinstance(value, int | float) and not isinstance(value, bool) else "left"
    shown = text(value)
    lines = "white-space:nowrap" if len(shown) <= _ONE_LINE else "max-width:40em;overflow-wrap:break-word"
    return f'<td style="{_CELL};text-align:{side};{lines}">{shown}</td>'


def report(of: Any) -> str:
    """A frozen dataclass that says what a run did: what is known of it, one line a field, inner reports below."""
    rows: dict[str, object] = {}
    below: list[str] = []
    for field in dataclasses.fields(of):
        value = getattr(of, field.name)
        if dataclasses.is_dataclass(value):
            below.append(report(value))
        elif field.name.endswith("seconds"):
            rows["took"] = f"{value:,.3g} s"
        elif field.name in {"fingerprint", "stages"} or value is None:
            continue  # long, and for programs
        elif field.name in {"regions", "fallbacks"} and not value:
            continue  # no detector was asked
        else:
            rows[field.name.replace("_", " ").replace("per s", "a second")] = value
    return facts(_words(type(of).__name__), rows, *below)


def _words(name: str) -> str:
    """`IngestReport` as a heading."""
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def duplicates(found: DuplicateReport) -> str:
    """The groups of a `DuplicateReport`: what to keep, what could go and why."""
    rows = {
        "groups": found.groups_count,
        "images compared": found.images,
        "files that could go": found.duplicates,
        "their bytes": size(found.bytes_reclaimable),
        "by": found.by,
        **{f"note {number}": note for number, note in enumerate(found.notes, 1)},
    }
    lines = (
        (
            _name(group.keeper.uris),
            f"{group.keeper.width} x {group.keeper.height}",
            ", ".join(f"{_name(member.uris)} ({member.kind}, {member.distance:.3g})" for member in group.members),
            size(group.bytes_reclaimable),
        )
        for group in found.groups
    )
    shown = table(("keep", "size", "could go (kind, distance)", "frees"), lines, found.groups_count)
    return facts("Duplicate report", rows, shown if found.groups else "")


def _name(uris: Sequence[str]) -> str:
    return display_name(uris[0]) if uris else "?"


def quality(found: QualityReport) -> str:
    """The flags of a `QualityReport`: how many images have each, and by which rule."""
    rows: dict[str, object] = {"images": found.images, "with a flag": found.flagged}
    rows |= {"cannot be decoded": found.unreadable} if found.unreadable else {}
    rows |= {"other flags are written": found.differing} if found.differing else {}
    lines = ((flag.name, flag.count, f"{flag.share:.1%}", flag.rule) for flag in found.flags)
    shown = table(("flag", "images", "share", "rule"), lines, len(found.flags))
    return facts("Quality report", rows, shown)
