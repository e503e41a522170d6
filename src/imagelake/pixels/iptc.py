"""What an IPTC block says of a picture (IPTC-IIM 4.2): every value, the words among them, and when it was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from imagelake.pixels.exif_time import Moment, read_moment
from imagelake.pixels.words import NO_WORDS, Words, clean_keywords, clean_text, join_names

MAX_BYTES = 1 << 20
"""Blocks longer than this are read up to here."""

MAX_SETS = 2000
"""Data sets that are read."""

MAX_TEXT_BYTES = 32_767
"""Longer values are left out: the standard allows no longer text."""

MAX_HEX_BYTES = 256
"""Binary values longer than this (previews) are left out, as in `exif_json`."""

ERROR = "error"
"""The name under which the JSON says what could not be read."""

Value: TypeAlias = "str | int | list[str | int]"

_MARKER = 0x1C
_UTF_8 = b"\x1b%G"
_LATIN_1 = (b"\x1b.A", b"\x1b-A")
_ENVELOPE, _APPLICATION = 1, 2
_CHARSET = (_ENVELOPE, 90)
_NUMBERS = frozenset({(1, 0), (1, 20), (1, 22), (2, 0), (2, 200), (2, 201)})  # versions and formats of files

# Names as photographers know them, those that may come several times first.
_LISTS = {
    (2, 4): "ObjectAttributeReference",
    (2, 12): "SubjectReference",
    (2, 20): "SupplementalCategories",
    (2, 25): "Keywords",
    (2, 26): "ContentLocationCode",
    (2, 27): "ContentLocationName",
    (2, 80): "By-line",
    (2, 85): "By-lineTitle",
    (2, 118): "Contact",
    (2, 122): "Writer-Editor",
}
_NAMES = _LISTS | {
    (1, 0): "EnvelopeRecordVersion",
    (1, 5): "Destination",
    (1, 20): "FileFormat",
    (1, 22): "FileVersion",
    (1, 30): "ServiceIdentifier",
    (1, 40): "EnvelopeNumber",
    (1, 50): "ProductID",
    (1, 60): "EnvelopePriority",
    (1, 70): "DateSent",
    (1, 80): "TimeSent",
    (1, 90): "CodedCharacterSet",
    (1, 100): "UniqueObjectName",
    (2, 0): "ApplicationRecordVersion",
    (2, 3): "ObjectTypeReference",
    (2, 5): "ObjectName",
    (2, 7): "EditStatus",
    (2, 10): "Urgency",
    (2, 15): "Category",
    (2, 22): "FixtureIdentifier",
    (2, 30): "ReleaseDate",
    (2, 35): "ReleaseTime",
    (2, 37): "ExpirationDate",
    (2, 38): "ExpirationTime",
    (2, 40): "SpecialInstructions",
    (2, 42): "ActionAdvised",
    (2, 55): "DateCreated",
    (2, 60): "TimeCreated",
    (2, 62): "DigitalCreationDate",
    (2, 63): "DigitalCreationTime",
    (2, 65): "OriginatingProgram",
    (2, 70): "ProgramVersion",
    (2, 75): "ObjectCycle",
    (2, 90): "City",
    (2, 92): "Sub-location",
    (2, 95): "Province-State",
    (2, 100): "Country-PrimaryLocationCode",
    (2, 101): "Country-PrimaryLocationName",
    (2, 103): "OriginalTransmissionReference",
    (2, 105): "Headline",
    (2, 110): "Credit",
    (2, 115): "Source",
    (2, 116): "CopyrightNotice",
    (2, 120): "Caption-Abstract",
    (2, 130): "ImageType",
    (2, 131): "ImageOrientation",
    (2, 135): "LanguageIdentifier",
}


@dataclass(frozen=True, slots=True)
class Iptc:
    """An IPTC block.

    `moments` says when the picture was taken, then when it was digitized; a date without a time of day is not among
    them. `json` holds every value under its name, as in `"Keywords"`, one without a name as `"2:221"`, and what could
    not be read under `"error"`; it is None where there is no block.
    """

    words: Words = NO_WORDS
    moments: tuple[Moment, ...] = ()
    json: str | None = None


_NOTHING = Iptc()
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def read_iptc(block: bytes, fault: str | None = None) -> Iptc:
    """Read an IPTC block, a chain of data sets. It raises nothing; `fault` is what is known already to be missing.

    Text is UTF-8 where the block says so (1:90); where it does not, what is UTF-8 is read as such, else as Latin-1.
    """
    if not block and fault is None:
        return _NOTHING
    sets, broken = _split(block[:MAX_BYTES])
    charset = next((value for key, value in sets if key == _CHARSET), b"")
    is_latin_1 = charset.startswith(_LATIN_1)
    named: dict[str, Value] = {}
    for key, raw in sets:
        value = _decode(key, raw, is_latin_1=is_latin_1)
        if value is not None:
            _put(named, key, value)
    faults = [each for each in (fault, broken) if each]
    if len(block) > MAX_BYTES:
        faults.append(f"the IPTC block has {len(block):,} bytes; {MAX_BYTES:,} were read")
    found = _Found(named)
    moments = tuple(
        moment
        for moment in (
            found.moment("DateCreated", "TimeCreated"),
            found.moment("DigitalCreationDate", "DigitalCreationTime"),
        )
        if moment
    )
    words = Words(
        title=found.text("ObjectName"),
        caption=found.text("Caption-Abstract"),
        keywords=clean_keywords(found.several("Keywords")),
        creator=join_names(found.several("By-line")),
        copyright=found.text("CopyrightNotice"),
    )
    whole = {**named, **({ERROR: "; ".join(faults)} if faults else {})}
    return Iptc(words, moments, _ENCODER.encode(whole) if whole else None)


@dataclass(frozen=True)
class _Found:
    """The values by name, as text."""

    named: Mapping[str, Value]

    def text(self, name: str) -> str | None:
        return next((text for text in map(clean_text, self.several(name)) if text), None)

    def several(self, name: str) -> list[str | int]:
        value = self.named.get(name, [])
        return value if isinstance(value, list) else [value]

    def moment(self, date: str, time: str) -> Moment | None:
        """A date `CCYYMMDD` and a time `HHMMSS` with an offset `+HHMM`, which is often left out."""
        day, clock = self.text(date), self.text(time)
        if day is None or clock is None:
            return None
        day, clock = day.replace("-", ""), clock.replace(":", "")
        return read_moment(f"{day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4]}:{clock[4:6]}{clock[6:]}")


def _split(block: bytes) -> tuple[list[tuple[tuple[int, int], bytes]], str | None]:
    """The data sets, and why the rest could not be read. Zero bytes at the end are padding."""
    sets: list[tuple[tuple[int, int], bytes]] = []
    position, end = 0, len(block)
    while position < end:
        if block[position] != _MARKER:
            is_padding = not block[position:].strip(b"\x00")
            return (
                sets,
                None if is_padding else f"the IPTC block is broken at byte {position}: no data set begins there",
            )
        if len(sets) == MAX_SETS:
            return sets, f"the IPTC block has more than {MAX_SETS:,} data sets, and the rest was not read"
        key = (
            int.from_bytes(block[position + 1 : position + 2], "big"),
            int.from_bytes(block[position + 2 : position + 3], "big"),
        )
        length, start = int.from_bytes(block[position + 3 : position + 5], "big"), position + 5
        if length & 0x8000:  # the length of a length
            start += length & 0x7FFF
            length = int.from_bytes(block[position + 5 : start], "big") if start - position <= 9 else end
        if start + length > end:
            return sets, f"the IPTC block is cut off inside data set {key[0]}:{key[1]:02d}"
        sets.append((key, block[start : start + length]))
        position = start + length
    return sets, None


def _decode(key: tuple[int, int], raw: bytes, *, is_latin_1: bool) -> str | int | None:
    """The value of a data set; None where it is binary and long."""
    if key in _NUMBERS:
        return int.from_bytes(raw, "big") if len(raw) <= 4 else raw[:MAX_HEX_BYTES].hex()
    if key == _CHARSET:
        return "UTF-8" if raw.startswith(_UTF_8) else raw[:MAX_HEX_BYTES].hex()
    if len(raw) > MAX_TEXT_BYTES:
        return None
    if key in _NAMES or (key[0] in {_ENVELOPE, _APPLICATION} and b"\x00" not in raw.rstrip(b"\x00")):
        return _decode_text(raw, is_latin_1=is_latin_1)
    return raw.hex() if len(raw) <= MAX_HEX_BYTES else None


def _decode_text(raw: bytes, *, is_latin_1: bool) -> str:
    raw = raw.rstrip(b"\x00")
    if not is_latin_1:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return raw.decode("latin-1")


def _put(named: dict[str, Value], key: tuple[int, int], value: str | int) -> None:
    """Store a value; one that comes again makes a list."""
    name = _NAMES.get(key) or f"{key[0]}:{key[1]:02d}"
    before = named.get(name)
    if before is None:
        named[name] = [value] if key in _LISTS else value
    elif isinstance(before, list):
        before.append(value)
    else:
        named[name] = [before, value]
