"""What people wrote about a picture, from XMP, IPTC and EXIF together, and when it was taken by all three.

Where they differ, XMP comes before IPTC, as the Metadata Working Group has it (Guidelines for handling image metadata
2.0, section 3), unless the checksum of the IPTC block shows that it was changed after the XMP was written: then IPTC
comes first. EXIF comes last for words, since cameras fill its fields by themselves, and first for times.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from imagelake.pixels.exif import Exif
from imagelake.pixels.exif_time import Moment, TakenAt, offset_between, to_utc
from imagelake.pixels.iptc import Iptc, read_iptc
from imagelake.pixels.packets import find_packets
from imagelake.pixels.picture import Picture
from imagelake.pixels.words import Words, first_of
from imagelake.pixels.xmp import Xmp, read_xmp


@dataclass(frozen=True, slots=True)
class Captions:
    """The words about a picture, the moment it was taken, and all values of XMP and IPTC as JSON objects.

    `taken_at.source` is that of EXIF, or `"xmp"`, `"xmp+offset"`, `"xmp+gps"`, `"iptc"`, `"iptc+offset"`, `"iptc+gps"`
    where EXIF has no time; `"exif+xmp"` and `"exif+iptc"` mean that EXIF has the time, and the other the same time
    with its offset.
    """

    words: Words
    taken_at: TakenAt
    xmp_json: str | None
    iptc_json: str | None


def read_captions(picture: Picture, exif: Exif) -> Captions:
    """Read the XMP packet and the IPTC block of an opened picture, and put them together with its EXIF block.

    Broken metadata raises nothing: what can be read is kept, and the JSON says the rest under `"error"`.
    """
    packets = find_packets(picture)
    xmp = read_xmp(packets.xmp, packets.xmp_more, packets.xmp_fault)
    iptc = read_iptc(packets.iptc, packets.iptc_fault)
    written = [iptc.words, xmp.words] if packets.is_iptc_newer else [xmp.words, iptc.words]
    words = first_of([*written, exif.words]) if xmp.json or iptc.json else exif.words
    return Captions(words, settle_taken_at(exif, xmp, iptc), xmp.json, iptc.json)


def settle_taken_at(exif: Exif, xmp: Xmp, iptc: Iptc) -> TakenAt:
    """Say when a picture was taken, by the first of EXIF, XMP and IPTC that knows.

    A time from EXIF is kept unless it is that of the last change; where it has no offset, it takes one from XMP or
    IPTC that write the same time with an offset. No offset is ever guessed.
    """
    own = TakenAt(exif.taken_at, exif.utc_offset_minutes, exif.taken_at_utc, exif.taken_at_source)
    others = [("xmp", moment) for moment in xmp.moments] + [("iptc", moment) for moment in iptc.moments]
    if not others:
        return own
    if own.local is None:
        return _from_others(others, own)
    if exif.taken_at_is_change and not _is_same(own.local, others[0][1].local):
        return _from_others(others, TakenAt())
    return _with_offset(own, own.local, others) if own.offset_minutes is None else own


def _with_offset(own: TakenAt, local: datetime, others: list[tuple[str, Moment]]) -> TakenAt:
    """Add the offset of the first that tells the same time."""
    for source, moment in others:
        if moment.offset_minutes is not None and _is_same(moment.local, local):
            offset = moment.offset_minutes
            return replace(own, offset_minutes=offset, utc=to_utc(local, offset), source=f"exif+{source}")
    return own


def _from_others(others: list[tuple[str, Moment]], gps: TakenAt) -> TakenAt:
    """The first time of XMP or IPTC; its offset is the one written with this time, else the difference to GPS time."""
    source, first = others[0]
    local = first.local
    for other, moment in others:
        if other == source and moment.offset_minutes is not None and _is_same(moment.local, local):
            return TakenAt(local, moment.offset_minutes, to_utc(local, moment.offset_minutes), f"{source}+offset")
    if gps.utc is None:
        return TakenAt(local, source=source)
    offset = offset_between(local, gps.utc)  # where no zone is that far off, GPS time is the one that is sure
    return gps if offset is None else TakenAt(local, offset, to_utc(local, offset), f"{source}+gps")


def _is_same(one: datetime, other: datetime) -> bool:
    """Tell whether two clocks show the same second."""
    return one.replace(microsecond=0) == other.replace(microsecond=0)
