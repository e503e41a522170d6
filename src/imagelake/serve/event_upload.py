"""One upload, whatever the envelope that told of it; and how texts, times and places of strangers are read."""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from imagelake.errors import InputError

ID_LETTERS = 2048
KEY_LETTERS = 4096
_DEVICE_LETTERS = 200
_LARGEST = 1 << 62
_LEAP = re.compile(r"(T\d\d:\d\d:)60")  # RFC 3339 has a second 60, our calendar has not


@dataclass(frozen=True)
class About:
    """What an event tells besides the object.

    Attributes:
        latitude: degrees, WGS 84; both or neither.
        longitude: as `latitude`.
        device: what took the picture.
    """

    latitude: float | None = None
    longitude: float | None = None
    device: str | None = None


@dataclass(frozen=True)
class UploadEvent:
    """An object was stored.

    Attributes:
        id: of the event; with `source` it names one event, however often that is delivered.
        source: who tells, such as `aws:s3.eu-central-1.photos`.
        kind: as the sender calls it, such as `ObjectCreated:Put`.
        uri: the object: `s3://BUCKET/KEY`, `gs://BUCKET/NAME`, `az://CONTAINER/NAME`, `oci://BUCKET@NAMESPACE/NAME`,
            or an address of http or https. Names are written as they are, never percent-encoded.
        bucket: the name of the bucket or container; None for an address.
        happened_at: when, UTC.
        size: of the object, in bytes.
        etag: of the object.
        version: of the object, in a bucket that keeps versions.
        sequencer: puts the events of one object in order: hexadecimal digits.
        about: what else it tells.
    """

    id: str
    source: str
    kind: str
    uri: str
    bucket: str | None = None
    happened_at: datetime | None = None
    size: int | None = None
    etag: str | None = None
    version: str | None = None
    sequencer: str | None = None
    about: About = field(default_factory=About)

    @property
    def key(self) -> str:
        """One name for the event and its object, 64 hexadecimal letters: equal however often it is delivered."""
        told = json.dumps([self.source, self.id, self.uri], ensure_ascii=True)
        return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True)
class Ignored:
    """An event that is understood, and that nothing is done about; `reason` says why."""

    reason: str
    uri: str | None = None


def to_json(event: UploadEvent) -> str:
    """Write an event as a JSON object, which `from_json` reads."""
    told = asdict(event) | {"happened_at": event.happened_at and event.happened_at.isoformat()}
    return json.dumps(told, ensure_ascii=True)


def from_json(text: str) -> UploadEvent:
    """Read what `to_json` wrote."""
    told = json.loads(text)
    moment = told["happened_at"]
    return UploadEvent(**told | {
        "happened_at": datetime.fromisoformat(moment) if moment else None, "about": About(**told["about"]),
    })  # fmt: skip


def read_object(value: object, what: str) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, dict):
        raise InputError(f"{what} is {_kind(value)}; it must be a JSON object.")
    return value


def read_text(holder: Mapping[str, Any], name: str, what: str, most: int = ID_LETTERS) -> str:
    """A text that must be there.

    Raises:
        InputError: it is not there, empty, too long, or has letters that no name has.
    """
    found = read_text_if(holder, name, what, most)
    if found is None:
        raise InputError(f"{what} has no `{name}`; give it as a text that is not empty.")
    return found


def read_text_if(holder: Mapping[str, Any], name: str, what: str, most: int = ID_LETTERS) -> str | None:
    """A text, None where there is none or an empty one.

    Raises:
        InputError: it is no text, too long, or has letters that no name has.
    """
    value = holder.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InputError(f"`{name}` of {what} is {_kind(value)}; it must be a text.")
    if len(value) > most:
        raise InputError(f"`{name}` of {what} has {len(value):,} letters; the limit is {most:,}.")
    if not is_clean(value):
        raise InputError(f"`{name}` of {what} is {value[:60]!a}, with letters that steer; write it without them.")
    return value


def is_clean(text: str) -> bool:
    """Whether a text can be written down: no control characters, no halves of letters."""
    return not any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in text)


def read_size(holder: Mapping[str, Any], name: str) -> int | None:
    """A number of bytes, also written as a text; None where it is none."""
    value = holder.get(name)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST else None


def read_moment(holder: Mapping[str, Any], name: str, what: str) -> datetime | None:
    """A time of RFC 3339, in UTC; None where there is none.

    Raises:
        InputError: it is no such time.
    """
    text = read_text_if(holder, name, what, 64)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(_LEAP.sub(r"\g<1>59", text.upper()))
        if moment.tzinfo is not None and "T" in text.upper():
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InputError(f"`{name}` of {what} is {text!a}, and no time; write it as in RFC 3339: 2026-05-17T14:03:00Z.")


def read_about(*holders: object) -> About:
    """Place and device, each from the first of some objects that tells it. What makes no sense is not told.

    The names are `latitude`, `longitude`, `device` (or `X-Amz-Meta-Latitude` and so on), in any case.
    """
    place: tuple[float, float] | None = None
    device: str | None = None
    for holder in holders:
        if not isinstance(holder, dict):
            continue
        told = {name.lower().removeprefix("x-amz-meta-"): value for name, value in holder.items()}
        latitude, longitude = _degrees(told.get("latitude"), 90), _degrees(told.get("longitude"), 180)
        if place is None and latitude is not None and longitude is not None:
            place = (latitude, longitude)
        named = told.get("device")
        if device is None and isinstance(named, str) and 0 < len(named) <= _DEVICE_LETTERS and is_clean(named):
            device = named
    latitude, longitude = place or (None, None)
    return About(latitude, longitude, device)


def _degrees(value: object, limit: int) -> float | None:
    """A number, also written as a text, that is on the globe."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and -limit <= number <= limit else None


def parse_json(data: bytes | memoryview, what: str) -> Any:
    """Read JSON as RFC 8259 has it.

    Raises:
        InputError: it is none, not UTF-8, or nested too deep.
    """
    try:
        return json.loads(bytes(data).decode("utf-8"), parse_constant=_no_number)
    except UnicodeDecodeError:
        raise InputError(f"{what} is not UTF-8; send it so.") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)[:100]
        raise InputError(f"{what} is not JSON ({reason}); send a JSON object.") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _kind(value: object) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
