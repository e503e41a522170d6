"""All tags of an EXIF block under their standard names, as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping

from PIL.ExifTags import GPSTAGS, TAGS

from imagelake.pixels.tiff_directory import EXIF_POINTER, GPS_POINTER, INTEROP_POINTER, Value

MAX_HEX_BYTES = 256
"""Binary values longer than this (maker notes, thumbnails) are left out."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_INTEROP_NAMES = {1: "InteropIndex", 2: "InteropVersion", **TAGS}
_POINTERS = frozenset({EXIF_POINTER, GPS_POINTER, INTEROP_POINTER})
_TEXT_TAGS = frozenset({0x9000, 0xA000, 0x0002})  # ExifVersion, FlashpixVersion, InteroperabilityVersion
_WINDOWS_TEXT_TAGS = frozenset(range(0x9C9B, 0x9CA0))  # XPTitle and its kin: UTF-16
_USER_COMMENT = 0x9286
_GPS_TEXTS = frozenset({27, 28})  # GPSProcessingMethod, GPSAreaInformation
_CHARSETS = {b"ASCII\x00\x00\x00": "utf-8", b"UNICODE\x00": "utf-16", b"JIS\x00\x00\x00\x00\x00": "iso2022_jp"}


def write_tags(
    tags: Mapping[int, Value], gps: Mapping[int, Value], interop: Mapping[int, Value], byte_order: str
) -> str | None:
    """Write tags as JSON: numbers, text, lists; bytes as hex, rationals as numbers, what is not finite as null.

    GPS tags are nested under `"GPSInfo"`, the interoperability ones under `"Interoperability"`. A tag without a
    standard name is named by its number, as in `"0xc4a5"`. Returns None if there is no tag at all.
    """
    named = _name_all(tags, TAGS, byte_order)
    if gps:
        named["GPSInfo"] = _name_all(gps, GPSTAGS, byte_order, _GPS_TEXTS, frozenset())
    if interop:
        named["Interoperability"] = _name_all(interop, _INTEROP_NAMES, byte_order)
    return _ENCODER.encode(named) if named else None


def _name_all(
    tags: Mapping[int, Value],
    names: Mapping[int, str],
    byte_order: str,
    charset_tags: frozenset[int] = frozenset({_USER_COMMENT}),
    text_tags: frozenset[int] = _TEXT_TAGS,
) -> dict[str, object]:
    """Give tags their names and make their values plain."""
    named: dict[str, object] = {}
    for tag, value in tags.items():
        if tag in _POINTERS:
            continue
        name = names.get(tag) or f"0x{tag:04x}"
        if not isinstance(value, bytes):
            named[name] = value
        elif tag in _WINDOWS_TEXT_TAGS:
            named[name] = value.decode("utf-16-le", errors="replace").split("\x00", 1)[0]
        elif tag in charset_tags:
            named[name] = _decode_by_charset(value, byte_order)
        elif len(value) > MAX_HEX_BYTES:
            continue
        elif tag in text_tags and value.isascii():
            named[name] = value.decode("ascii").rstrip("\x00 ")
        else:
            named[name] = value.hex()
    return named


def _decode_by_charset(value: bytes, byte_order: str) -> str:
    """Decode text that starts with the eight bytes of its character set (EXIF, UserComment)."""
    charset, text = _CHARSETS.get(value[:8]), value[8:]
    if charset is None:
        charset, text = "utf-8", value[8:] if value[:8] == bytes(8) else value
    if charset == "utf-16" and text[:2] not in {b"\xff\xfe", b"\xfe\xff"}:
        charset = "utf-16-le" if byte_order == "<" else "utf-16-be"
    return text.decode(charset, errors="replace").strip("\x00 ")
