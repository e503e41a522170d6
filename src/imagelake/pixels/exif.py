"""What the camera wrote about a picture. Broken metadata never fails a picture: what cannot be read is None."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from imagelake.pixels.exif_json import write_tags
from imagelake.pixels.exif_place import find_place
from imagelake.pixels.exif_time import find_taken_at
from imagelake.pixels.exif_words import find_words
from imagelake.pixels.picture import Picture, open_picture
from imagelake.pixels.tiff_directory import (
    EXIF_POINTER,
    GPS_POINTER,
    INTEROP_POINTER,
    TiffBlock,
    Value,
)
from imagelake.pixels.words import NO_WORDS, Words

_MAKE, _MODEL, _LENS_MODEL = 0x010F, 0x0110, 0xA434
_EXPOSURE, _F_NUMBER, _FOCAL_LENGTH = 0x829A, 0x829D, 0x920A
_ISO, _ISO_WIDE = 0x8827, (0x8833, 0x8832, 0x8831)
_ISO_OVERFLOW = 65_535


@dataclass(frozen=True, slots=True)
class Exif:
    """The EXIF block of a picture.

    `taken_at` is local time without a zone. `taken_at_source` says what makes the moment known: `"exif+offset"`
    (a written offset), `"exif+gps"` (the offset follows from GPS time), `"exif"` (local time only: there is no
    `taken_at_utc`), `"gps"` (UTC only: there is no `taken_at`), or None. `latitude` and `longitude` are WGS84 degrees,
    north and east positive. `tags_json` holds all tags by their standard names. `words` is what people wrote into the
    block. `taken_at_is_change` says that the time is that of the last change: no other is there. `warnings` says what
    could not be read.
    """

    orientation: int = 1
    taken_at: datetime | None = None
    utc_offset_minutes: int | None = None
    taken_at_utc: datetime | None = None
    taken_at_source: str | None = None
    camera_make: str | None = None
    camera_model: str | None = None
    lens: str | None = None
    exposure_s: float | None = None
    f_number: float | None = None
    iso: int | None = None
    focal_length_mm: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    tags_json: str | None = None
    words: Words = NO_WORDS
    taken_at_is_change: bool = False
    warnings: tuple[str, ...] = ()


_NOTHING = Exif()


def read_exif(picture: Picture | bytes) -> Exif:
    """Read the EXIF block of an opened picture or of the bytes of an image file.

    Works for JPEG, TIFF, PNG, WebP, HEIC and AVIF; a picture without EXIF gives an `Exif` of Nones.

    Raises:
        ImageError: Bytes were given that are no picture. Broken metadata raises nothing.
    """
    if isinstance(picture, bytes):
        picture = open_picture(picture)
    if not picture.exif:
        return _NOTHING if picture.orientation == 1 else Exif(orientation=picture.orientation)
    try:
        return _read_block(picture.exif, picture.orientation)
    except (ValueError, struct.error, OverflowError) as error:
        return Exif(orientation=picture.orientation, warnings=(f"the EXIF block cannot be read: {error}",))


def _read_block(block: bytes, orientation: int) -> Exif:
    """Read the directories, then find the fields in them."""
    tiff = TiffBlock(block)
    base, broken = tiff.read_directory(tiff.first)
    exif, exif_broken = _follow(tiff, base, EXIF_POINTER)
    gps, gps_broken = _follow(tiff, base, GPS_POINTER)
    interop, interop_broken = _follow(tiff, exif, INTEROP_POINTER)
    broken += exif_broken + gps_broken + interop_broken
    tags = {**base, **exif}
    moment = find_taken_at(tags, gps)
    place = find_place(gps)
    warnings = [f"{broken} EXIF tags cannot be read"] if broken else []
    if place.fault:
        warnings.append(place.fault)
    return Exif(
        orientation=orientation,
        taken_at=moment.local,
        utc_offset_minutes=moment.offset_minutes,
        taken_at_utc=moment.utc,
        taken_at_source=moment.source,
        camera_make=_text(tags.get(_MAKE)),
        camera_model=_text(tags.get(_MODEL)),
        lens=_text(tags.get(_LENS_MODEL)),
        exposure_s=_positive(tags.get(_EXPOSURE)),
        f_number=_positive(tags.get(_F_NUMBER)),
        iso=_find_iso(tags),
        focal_length_mm=_positive(tags.get(_FOCAL_LENGTH)),
        latitude=place.latitude,
        longitude=place.longitude,
        altitude_m=place.altitude_m,
        tags_json=write_tags(tags, gps, interop, tiff.byte_order),
        words=find_words(tags),
        taken_at_is_change=moment.is_change,
        warnings=tuple(warnings),
    )


def _follow(tiff: TiffBlock, tags: Mapping[int, Value], pointer: int) -> tuple[dict[int, Value], int]:
    """Read the directory that a tag points to."""
    offset = tags.get(pointer)
    if pointer not in tags:
        return {}, 0
    return tiff.read_directory(offset) if isinstance(offset, int) else ({}, 1)


def _text(value: Value) -> str | None:
    """Return text that says something."""
    return value.strip() or None if isinstance(value, str) else None


def _positive(value: Value) -> float | None:
    """Return a number above zero; zero stands for unknown."""
    if isinstance(value, tuple) and value:
        value = value[0]
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _find_iso(tags: Mapping[int, Value]) -> int | None:
    """Return the sensitivity; where 16 bits are too few, the wide tags of EXIF 2.3 hold it."""
    iso = _positive(tags.get(_ISO))
    if iso is None or iso == _ISO_OVERFLOW:
        iso = next((wide for wide in map(_positive, map(tags.get, _ISO_WIDE)) if wide is not None), iso)
    return int(iso) if iso is not None else None
