"""What people wrote about a picture: title, caption, keywords, rating, creator, copyright."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

REJECTED = -1
MOST_STARS = 5


@dataclass(frozen=True, slots=True)
class Words:
    """What one part of a file says, or all of them together.

    `rating` is 0 (none given) to 5, and -1 for a picture that was rejected, as in XMP. Several creators are joined
    with `"; "`. What a file does not say is None, or no keyword.
    """

    title: str | None = None
    caption: str | None = None
    keywords: tuple[str, ...] = ()
    rating: int | None = None
    creator: str | None = None
    copyright: str | None = None


NO_WORDS = Words()


def first_of(several: Sequence[Words]) -> Words:
    """Take each field from the first that has it."""
    chosen = {}
    for field in fields(Words):
        values = (getattr(words, field.name) for words in several)
        chosen[field.name] = next((value for value in values if value not in {None, ()}), field.default)
    return Words(**chosen)  # type: ignore[arg-type]  # the fields are those of Words


def clean_text(value: object) -> str | None:
    """Return text that says something: without zero bytes and blanks around it; None for anything else."""
    return value.replace("\x00", "").strip() or None if isinstance(value, str) else None


def clean_keywords(values: Iterable[object]) -> tuple[str, ...]:
    """Return the keywords in their order, each once, empty ones left out."""
    texts = (clean_text(value) for value in values)
    return tuple(dict.fromkeys(text for text in texts if text is not None))


def join_names(values: Iterable[object]) -> str | None:
    """Return names as one text, each once."""
    return "; ".join(clean_keywords(values)) or None


def read_rating(value: object) -> int | None:
    """Read a rating, a number or its text, -1 to 5 to the nearest whole; None for what is none."""
    number = _number(value)
    if number is None or not REJECTED <= number <= MOST_STARS:
        return None
    return math.floor(number + 0.5)


def read_percent(value: object) -> int | None:
    """Read the rating that Windows keeps in percent: 1, 25, 50, 75 and 99 are one to five stars."""
    number = _number(value)
    if number is None or not 0 <= number <= 100:
        return None
    return 0 if number == 0 else min(MOST_STARS, 1 + math.floor((number + 12) / 25))


def _number(value: object) -> float | None:
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value[:32])
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
