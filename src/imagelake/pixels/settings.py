"""The settings of a transform: a field says what it may hold, and a wrong value says what is allowed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from imagelake.errors import InputError

_LARGEST = 1e30  # far from where the arithmetic of float32 ends; also a comparison that no whole number breaks

Check = Callable[[str, Any], Any]
"""Takes a setting's name and what was given, and returns what is kept; raises InputError."""


@dataclass(frozen=True)
class Settings:
    """A frozen dataclass whose fields, marked by `allow`, are checked as it is made.

    Attributes:
        random: whether the transform draws from a generator of random numbers.
        shorthand: the setting that `{"name": value}` sets where the value is no table; None where there is none.
    """

    random: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            check = each.metadata.get("check")
            if check is not None:
                object.__setattr__(self, each.name, check(each.name, getattr(self, each.name)))


def allow(check: Check) -> dict[str, Check]:
    """The metadata of a field of `Settings`: `field(default=1, metadata=allow(whole(1)))`."""
    return {"check": check}


def one_of(*allowed: str) -> Check:
    """One of some words."""

    def check(name: str, value: Any) -> Any:
        if value not in allowed:
            raise InputError(f"{name} {value!r} is not known; use one of {', '.join(allowed)}")
        return value

    return check


def number(low: float = -math.inf, high: float = math.inf, *, above: float | None = None) -> Check:
    """A finite number from `low` to `high`, or above `above`."""

    def check(name: str, value: Any) -> Any:
        if not _is_number(value) or not low <= value <= high or (above is not None and value <= above):
            if above is not None:
                allowed = f"above {above:g}"
            elif low == -math.inf and high == math.inf:
                allowed = "that is finite"
            else:
                allowed = f"from {low:g} to {high:g}" if high < math.inf else f"of {low:g} or more"
            raise InputError(f"{name} {value!r} is not allowed; give a number {allowed}")
        return float(value)

    return check


def whole(low: int) -> Check:
    """A whole number of at least `low`."""

    def check(name: str, value: Any) -> Any:
        if not _is_whole(value) or value < low:
            raise InputError(f"{name} {value!r} is not allowed; give a whole number of {low} or more")
        return int(value)

    return check


def optional(inner: Check) -> Check:
    """What `inner` allows, or nothing (null)."""
    return lambda name, value: None if value is None else inner(name, value)


def truth(name: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InputError(f"{name} {value!r} is not allowed; give true or false")
    return value


def text(name: str, value: Any) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value:
        raise InputError(f"{name} {value!r} is not allowed; give text")
    return value


def size(name: str, value: Any) -> tuple[int, int]:
    """A width and a height in pixels, 1 to 32,766 each."""
    if not _is_list(value, 2) or not all(_is_whole(side) and 1 <= side <= 32_766 for side in value):
        raise InputError(f"{name} {value!r} is not allowed; give a width and a height in pixels, such as [300, 300]")
    return int(value[0]), int(value[1])


def interval(low: float = -math.inf) -> Check:
    """Two finite numbers, the lower first, of which a value between is drawn."""

    def check(name: str, value: Any) -> Any:
        if not _is_list(value, 2) or not all(map(_is_number, value)) or not low <= value[0] <= value[1]:
            least = "" if low == -math.inf else f", of {low:g} or more"
            raise InputError(f"{name} {value!r} is not allowed; give the lowest and the highest number{least}")
        return float(value[0]), float(value[1])

    return check


def interval_above_zero(name: str, value: Any) -> tuple[float, float]:
    """Two finite numbers above 0, the lower first."""
    if not _is_list(value, 2) or not all(map(_is_number, value)) or not 0 < value[0] <= value[1]:
        raise InputError(f"{name} {value!r} is not allowed; give the lowest and the highest number, both above 0")
    return float(value[0]), float(value[1])


def channels(low: float = -math.inf, *, above: float | None = None) -> Check:
    """One number for all channels, or a list with one for each, in the order that the channels then have."""
    inner = number(low, above=above)

    def check(name: str, value: Any) -> Any:
        if _is_number(value):
            return inner(name, value)
        if not isinstance(value, (list, tuple)) or not value:
            raise InputError(f"{name} {value!r} is not allowed; give a number, or a list with one for each channel")
        return tuple(inner(name, each) for each in value)

    return check


def box(name: str, value: Any) -> tuple[float, float, float, float]:
    """The left, top, right and bottom edge of a box with an area."""
    if not _is_list(value, 4) or not all(map(_is_number, value)) or value[0] >= value[2] or value[1] >= value[3]:
        raise InputError(
            f"{name} {value!r} is not allowed; give left, top, right, bottom with left < right, top < bottom"
        )
    return float(value[0]), float(value[1]), float(value[2]), float(value[3])


def many(inner: Check) -> Check:
    """A list, not empty, of what `inner` allows."""

    def check(name: str, value: Any) -> Any:
        if not isinstance(value, (list, tuple)) or not value:
            raise InputError(f"{name} {value!r} is not allowed; give a list that is not empty")
        return tuple(inner(name, each) for each in value)

    return check


def _is_list(value: Any, length: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == length


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
