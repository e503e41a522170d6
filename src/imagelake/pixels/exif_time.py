"""When a picture was taken, as far as its EXIF block says.

EXIF (CIPA DC-008) keeps local time without a zone; version 2.31 added the offset; GPS time is UTC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from imagelake.pixels.tiff_directory import Value

_MOMENT = re.compile(
    r"(\d{4})[:\-/.](\d{1,2})[:\-/.](\d{1,2})[ T]+(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:[.,](\d+))?)?"
    r"\s*(Z|z|[+-]\d{1,2}(?::?\d{2})?)?$",
    re.ASCII,
)
_OFFSET = re.compile(r"([+-])(\d{1,2})(?::?(\d{2}))?$", re.ASCII)
_MAX_OFFSET_MINUTES = 14 * 60
_EARLIEST_GPS_YEAR = 1981  # GPS counts from 1980-01-06, which receivers without a fix write

_FIELDS = (  # time, its subseconds, its offset: in the order in which they are believed
    (0x9003, 0x9291, 0x9011),  # DateTimeOriginal
    (0x9004, 0x9292, 0x9012),  # DateTimeDigitized
    (0x0132, 0x9290, 0x9010),  # DateTime: the last change, but the only time that many scanners and old phones write
)
_CHANGED = 0x0132
_GPS_TIME = 7
_GPS_DATE = 29


@dataclass(frozen=True, slots=True)
class TakenAt:
    """A moment. `local` is naive; `source` says what makes it known, as in `Exif.taken_at_source`.

    `is_change` says that the time is that of the last change, which a file may be given long after it was taken.
    """

    local: datetime | None = None
    offset_minutes: int | None = None
    utc: datetime | None = None
    source: str | None = None
    is_change: bool = False


@dataclass(frozen=True, slots=True)
class Moment:
    """A naive local time as it is written, and its offset from UTC where that is written with it."""

    local: datetime
    offset_minutes: int | None = None


def find_taken_at(tags: Mapping[int, Value], gps: Mapping[int, Value]) -> TakenAt:
    """Find when a picture was taken from its tags (IFD0 and Exif together) and its GPS tags.

    The offset is the written one, else the difference to GPS time, rounded to 15 minutes, if it is within 14 hours.
    Placeholders (year 0, 1970-01-01, blanks) are no times.
    """
    gps_utc = _read_gps_moment(gps)
    for time_tag, subsecond_tag, offset_tag in _FIELDS:
        local, offset = _read_moment(tags.get(time_tag), tags.get(subsecond_tag))
        if local is None:
            continue
        if offset is None:
            offsets = (read_offset(tags.get(tag)) for tag in (offset_tag, 0x9011, 0x9010, 0x9012))
            offset = next((minutes for minutes in offsets if minutes is not None), None)
        source = "exif" if offset is None else "exif+offset"
        if offset is None and gps_utc is not None:
            offset = offset_between(local, gps_utc)
            source = "exif" if offset is None else "exif+gps"
        return TakenAt(local, offset, to_utc(local, offset), source, is_change=time_tag == _CHANGED)
    if gps_utc is not None:
        return TakenAt(utc=gps_utc, source="gps")
    return TakenAt()


def read_offset(value: Value) -> int | None:
    """Read an offset from UTC in minutes: `"+05:30"`, `"-5:00"`, `"+0200"`, `"+2"`, `"Z"`; None for others."""
    if not isinstance(value, str):
        return None
    text = value.strip().upper().replace("\N{MINUS SIGN}", "-").replace(" ", "")
    if text in {"Z", "UTC", "GMT"}:
        return 0
    match = _OFFSET.match(text)
    if match is None or int(match[3] or 0) > 59:
        return None
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    if minutes > _MAX_OFFSET_MINUTES:
        return None
    return -minutes if match[1] == "-" else minutes


def read_moment(value: str | None) -> Moment | None:
    """Read a time as EXIF, XMP (ISO 8601) and their imitators write it; None for a date alone and for placeholders."""
    local, offset = _read_moment(value, None)
    return None if local is None else Moment(local, offset)


def _read_moment(value: Value, subseconds: Value) -> tuple[datetime | None, int | None]:
    """Read a naive moment and the offset that a few writers append to it."""
    match = _MOMENT.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None, None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    if year == 0 or (year, month, day) == (1970, 1, 1):
        return None, None
    fraction = match[7] or (subseconds.strip() if isinstance(subseconds, str) else "")
    micros = int(fraction[:6].ljust(6, "0")) if fraction.isascii() and fraction.isdigit() else 0
    try:
        # Naive on purpose: the zone is not known here.
        local = datetime(year, month, day, hour, minute, min(second, 59), micros)  # noqa: DTZ001
    except ValueError:
        return None, None
    return local, read_offset(match[8])


def _read_gps_moment(gps: Mapping[int, Value]) -> datetime | None:
    """Read GPS date and time, which are UTC."""
    date, time = gps.get(_GPS_DATE), gps.get(_GPS_TIME)
    match = re.match(r"(\d{4})[:\-/.](\d{1,2})[:\-/.](\d{1,2})", date) if isinstance(date, str) else None
    if match is None or not isinstance(time, tuple) or len(time) != 3:
        return None
    hour, minute, second = time
    if (
        hour is None
        or minute is None
        or second is None
        or not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 61)
    ):
        return None
    if int(match[1]) < _EARLIEST_GPS_YEAR:
        return None
    try:
        day = datetime(int(match[1]), int(match[2]), int(match[3]), tzinfo=UTC)
        return day + timedelta(hours=hour, minutes=minute, seconds=second)
    except (ValueError, OverflowError):
        return None


def offset_between(local: datetime, utc: datetime) -> int | None:
    """Return local minus UTC in minutes, to the next quarter of an hour; None if no zone on earth is that far off."""
    minutes = round((local - utc.replace(tzinfo=None)).total_seconds() / 900) * 15
    return minutes if abs(minutes) <= _MAX_OFFSET_MINUTES else None


def to_utc(local: datetime, offset_minutes: int | None) -> datetime | None:
    """Return the aware moment, None where the offset is not known."""
    if offset_minutes is None:
        return None
    try:
        return (local - timedelta(minutes=offset_minutes)).replace(tzinfo=UTC)
    except OverflowError:
        return None
