"""What an XMP packet says of a picture (ISO 16684-1): every value, the words among them, and when it was made."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from imagelake.pixels.exif_time import Moment, read_moment
from imagelake.pixels.words import NO_WORDS, Words, clean_keywords, clean_text, join_names, read_percent, read_rating
from imagelake.pixels.xmp_tree import Value, read_rdf

MAX_BYTES = 4 << 20
"""Packets larger than this are not read: they hold pictures, not words."""

ERROR = "error"
"""The name under which the JSON says what could not be read."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_TIMES = ("exif:DateTimeOriginal", "photoshop:DateCreated", "xmp:CreateDate", "exif:DateTimeDigitized")
_DATE_ALONE = re.compile(r"[12]\d{3}(-\d\d){0,2}", re.ASCII)
_UTF_16_32 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff", b"<\x00", b"\x00<", b"\x00\x00\x00<")


@dataclass(frozen=True, slots=True)
class Xmp:
    """An XMP packet.

    `words` are those of the Dublin Core and of the rating. `moments` says when the picture was taken, the most
    trustworthy first; a date without a time of day is not among them. `json` holds every value under its name, as in
    `"dc:title"`, and what could not be read under `"error"`; it is None where there is no packet.
    """

    words: Words = NO_WORDS
    moments: tuple[Moment, ...] = ()
    json: str | None = None


_NOTHING = Xmp()


def read_xmp(packet: bytes, extension: bytes = b"", fault: str | None = None) -> Xmp:
    """Read an XMP packet, and the extension that a JPEG may have beside it. It raises nothing.

    Args:
        packet: the packet, in UTF-8, UTF-16 or UTF-32.
        extension: a second packet, whose values are added.
        fault: what is known already to be missing.
    """
    if not packet.strip(b"\x00 \t\r\n") and not extension and fault is None:
        return _NOTHING
    properties: dict[str, Value] = {}
    faults = [fault] if fault else []
    for part in (packet, extension):
        found, part_fault = _read_part(part)
        properties = found | properties
        faults += [part_fault] if part_fault else []
    words = _find_words(properties)
    named: dict[str, Value] = {**properties, **({ERROR: "; ".join(faults)} if faults else {})}
    return Xmp(words, _find_moments(properties), _ENCODER.encode(named) if named else None)


def _read_part(packet: bytes) -> tuple[dict[str, Value], str | None]:
    """Read one packet, whatever its text is encoded in."""
    packet = packet.strip(b"\x00 \t\r\n") if not packet.startswith(_UTF_16_32) else packet
    if not packet:
        return {}, None
    if len(packet) > MAX_BYTES:
        return {}, f"the XMP packet has {len(packet):,} bytes; at most {MAX_BYTES:,} are read"
    fault = None
    if not packet.startswith(_UTF_16_32):
        try:
            packet.decode("utf-8")
        except UnicodeDecodeError:
            packet = packet.decode("utf-8", errors="replace").encode()
            fault = "some letters of the XMP packet are not UTF-8"
    properties, broken = read_rdf(packet)
    if broken:
        return properties, f"the XMP packet is broken: {broken}"
    return properties, fault


def _find_words(properties: Mapping[str, Value]) -> Words:
    rating = read_rating(properties.get("xmp:Rating"))
    if rating is None:
        rating = read_percent(properties.get("MicrosoftPhoto:Rating"))
    return Words(
        title=_text(properties.get("dc:title")),
        caption=_text(properties.get("dc:description")),
        keywords=clean_keywords(_several(properties.get("dc:subject"))),
        rating=rating,
        creator=join_names(_several(properties.get("dc:creator"))),
        copyright=_text(properties.get("dc:rights")),
    )


def _find_moments(properties: Mapping[str, Value]) -> tuple[Moment, ...]:
    """The times; where a better one is a date alone, those of another day are not believed."""
    found, date = [], ""
    for name in _TIMES:
        text = _text(properties.get(name)) or ""
        moment = read_moment(text)
        if moment is not None and moment.local.isoformat().startswith(date):
            found.append(moment)
        elif not date and _DATE_ALONE.fullmatch(text):
            date = text
    return tuple(found)


def _text(value: Value | None) -> str | None:
    """One text: in the default language where there are several, otherwise the first."""
    if isinstance(value, dict):
        value = value.get("x-default") or next(iter(value.values()), None)
    if isinstance(value, list):
        value = value[0] if value else None
    return clean_text(value)


def _several(value: Value | None) -> list[Value]:
    """The items of a list; a single text is a list of one."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else [value] if value else []
