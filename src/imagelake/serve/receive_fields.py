"""What a request says besides the picture: when, where and with what it was taken. And how a request is refused."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

FIELDS = ("captured_at", "latitude", "longitude", "device")
_DEVICE_LETTERS = 200
_RANGES = {"latitude": 90.0, "longitude": 180.0}


@dataclass
class Refusal(Exception):  # noqa: N818  (it is an answer)
    """A request is answered with this status and not done.

    Attributes:
        status: of HTTP.
        reason: what is wrong.
        given: what was given.
        allowed: what is allowed.
        do: what to do.
        headers: of the answer.
    """

    status: int
    reason: str
    given: str
    allowed: str
    do: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, str]:
        """What the client reads."""
        return {"error": self.reason, "given": self.given, "allowed": self.allowed, "do": self.do}


def read_fields(
    form: Mapping[str, str], headers: Mapping[str, str], query: Mapping[str, str]
) -> dict[str, str | float]:
    """The fields of a request, checked. A field of the form comes before a header, a header before the query.

    Args:
        form: of a multipart body; empty for another.
        headers: of the request, by names in small letters.
        query: the parameters of the address.

    Raises:
        Refusal: 400, a field is not known or has no sensible value.
    """
    for name in (*form, *query):
        if name not in FIELDS:
            raise Refusal(
                400, "unknown field", name, ", ".join(FIELDS), "Leave it out, or give the picture as the file `image`."
            )
    given: dict[str, str] = {}
    for name in FIELDS:
        header = headers.get(f"x-{name.replace('_', '-')}")
        value = form.get(name) or (_utf8(header) if header else None) or query.get(name)
        if value and value.strip():
            given[name] = value.strip()
    if ("latitude" in given) != ("longitude" in given):
        missing = "longitude" if "latitude" in given else "latitude"
        raise Refusal(400, f"{missing} is missing", " and ".join(given), "both or neither", f"Give {missing} too.")
    return {name: _CHECKS[name](name, value) for name, value in given.items()}


def _utf8(header: str) -> str:
    """A header's text, which arrives as one letter a byte."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _time(name: str, value: str) -> str:
    # In a query, a "+" that is not encoded arrives as a space.
    text = value.replace(" ", "+") if "T" in value else value
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment.astimezone(UTC)  # at either end of the calendar there is none
        return moment.isoformat()
    except (ValueError, OverflowError):
        raise Refusal(
            400, f"{name} is no time", value[:100], "ISO 8601, such as 2026-05-17T14:03:00+02:00", "Write it so."
        ) from None


def _degrees(name: str, value: str) -> float:
    limit = _RANGES[name]
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not -limit <= number <= limit:
        raise Refusal(
            400, f"{name} is out of range", value[:100], f"-{limit:.0f} to {limit:.0f}", "Give decimal degrees, WGS 84."
        )
    return number


def _device(name: str, value: str) -> str:
    if len(value) > _DEVICE_LETTERS or any(unicodedata.category(letter)[0] == "C" for letter in value):
        raise Refusal(
            400, f"{name} is no name", ascii(value[:100]), f"at most {_DEVICE_LETTERS} letters, none that steer",
            "Give a short name.",
        )  # fmt: skip
    return value


_CHECKS: dict[str, Callable[[str, str], str | float]] = {
    "captured_at": _time,
    "latitude": _degrees,
    "longitude": _degrees,
    "device": _device,
}
