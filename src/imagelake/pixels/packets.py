"""Where a picture's file keeps its XMP packet and its IPTC block. Nothing here is interpreted, and nothing raises.

JPEG and TIFF: ISO 16684-3 (XMP, part 3) and the Photoshop file format; PNG: `iTXt`; WebP: `XMP `; GIF: an application
block. Walking a file costs microseconds. HEIC and AVIF are read through Pillow, and only where a packet is in them.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from imagelake.errors import ImageError
from imagelake.pixels.picture import Picture
from imagelake.pixels.pillow_door import open_with_pillow

MAX_BYTES = 4 << 20
"""Of an extension spread over segments, or of text when decompressed."""

MAX_SEGMENTS = 4096
"""Steps from segment to segment of a JPEG."""

MAX_CHUNKS = 100_000
"""Chunks of a PNG or a WebP that are passed."""

_XMP = b"http://ns.adobe.com/xap/1.0/\x00"
_XMP_MORE = b"http://ns.adobe.com/xmp/extension/\x00"
_PHOTOSHOP = b"Photoshop 3.0\x00"
_PNG_XMP = b"XML:com.adobe.xmp\x00"
_GIF_XMP, _GIF_XMP_END = b"\x21\xff\x0bXMP DataXMP", b"\x01\xff\xfe\xfd"
_MEDIA_XMP = b"application/rdf+xml"  # the type of an item that is a packet
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD9), 0xFF})
_TIFF_XMP, _TIFF_IPTC, _TIFF_RESOURCES = 700, 33_723, 34_377
_IPTC_RESOURCE, _DIGEST_RESOURCE = 0x0404, 0x0425
_TIFF_SIZES = {1: 1, 2: 1, 4: 4, 7: 1}


@dataclass(frozen=True, slots=True)
class Packets:
    """The bytes of the XMP packet, of its extension and of the IPTC block, each empty where there is none.

    `xmp_fault` and `iptc_fault` say what is missing. `is_iptc_newer` says that a program which knows no XMP changed
    the IPTC block: the checksum that was stored beside it is no longer right.
    """

    xmp: bytes = b""
    xmp_more: bytes = b""
    iptc: bytes = b""
    xmp_fault: str | None = None
    iptc_fault: str | None = None
    is_iptc_newer: bool = False


_NOTHING = Packets()


def find_packets(picture: Picture) -> Packets:
    """Find the packets of a picture's file."""
    data = picture.data
    if picture.format == "jpeg":
        return _in_jpeg(data)
    if picture.format == "tiff":
        return _in_tiff(data)
    if picture.format == "png":
        xmp, fault = _in_png(data)
        return Packets(xmp=xmp, xmp_fault=fault) if xmp or fault else _NOTHING
    if picture.format == "webp":
        return Packets(xmp=_in_webp(data))
    if picture.format == "gif":
        return Packets(xmp=_in_gif(data))
    is_media = picture.format in {"heic", "avif"} and _MEDIA_XMP in data
    return Packets(xmp=_ask_pillow(picture)) if is_media else _NOTHING


def _in_jpeg(data: bytes) -> Packets:
    """Collect from the segments before the first scan."""
    xmp, more, resources = b"", [], []
    for marker, start, end in _segments(data):
        if marker == 0xE1 and data.startswith(_XMP, start):
            xmp = xmp or data[start + len(_XMP) : end]
        elif marker == 0xE1 and data.startswith(_XMP_MORE, start):
            more.append(data[start + len(_XMP_MORE) : end])
        elif marker == 0xED and data.startswith(_PHOTOSHOP, start):
            resources.append(data[start + len(_PHOTOSHOP) : end])
    if not xmp and not resources:
        return _NOTHING
    xmp_more, xmp_fault = _join_extension(xmp, more) if more else (b"", None)
    iptc, iptc_fault, is_newer = _in_resources(b"".join(resources))
    return Packets(xmp, xmp_more, iptc, xmp_fault, iptc_fault, is_newer)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the content of each segment up to the first scan."""
    position, end = 2, len(data)
    for _ in range(MAX_SEGMENTS):
        if position + 4 > end:
            return
        marker = data[position + 1]
        if data[position] != 0xFF:
            position = data.find(b"\xff", position)
            if position < 0:
                return
        elif marker in _WITHOUT_LENGTH:
            position += 1 if marker == 0xFF else 2
        elif marker == 0xDA or marker == 0xD9:  # no set: this runs for every segment
            return
        else:
            length = (data[position + 2] << 8) | data[position + 3]
            if marker == 0xE1 or marker == 0xED:
                yield marker, position + 4, min(position + 2 + length, end)
            position += 2 + max(length, 2)


def _join_extension(xmp: bytes, more: list[bytes]) -> tuple[bytes, str | None]:
    """Put the extension together whose checksum the packet names: 32 letters, full length, offset, bytes."""
    parts: dict[int, bytes] = {}
    whole = 0
    for content in more:
        name = content[:32]
        if len(content) < 40 or name not in xmp:
            continue
        whole, offset = struct.unpack_from(">II", content, 32)
        parts.setdefault(offset, content[40:])
    if not parts:
        return b"", "there is extended XMP that the packet does not name"
    if whole > MAX_BYTES:
        return b"", f"the extended XMP has {whole:,} bytes; at most {MAX_BYTES:,} are read"
    in_order, size = [], 0
    for offset, part in sorted(parts.items()):
        if offset != size or size >= whole:
            break
        in_order.append(part)
        size += len(part)
    return b"".join(in_order)[:whole], None if size >= whole else "a part of the extended XMP is missing"


def _in_resources(data: bytes) -> tuple[bytes, str | None, bool]:
    """The IPTC block among the resources of Photoshop, what is broken, and whether its checksum is wrong."""
    iptc, digest, fault = b"", b"", None
    position = 0
    while position + 12 <= len(data):
        if data[position : position + 4] not in {b"8BIM", b"MeSa", b"PHUT", b"AgHg", b"DCSR"}:
            if data[position:].strip(b"\x00"):
                fault = f"the Photoshop resources are broken at byte {position}"
            break
        kind = int.from_bytes(data[position + 4 : position + 6], "big")
        start = position + 6 + (data[position + 6] + 2) // 2 * 2 + 4  # after a name that is padded, and a length
        size = int.from_bytes(data[start - 4 : start], "big")
        content = data[start : start + size]
        if len(content) < size:
            fault = "the Photoshop resources are cut off"
        if kind == _IPTC_RESOURCE:
            iptc = iptc or content
        elif kind == _DIGEST_RESOURCE:
            digest = content
        position = start + size + size % 2
    is_newer = len(digest) == 16 and any(digest) and bool(iptc) and digest != _checksum(iptc)
    return iptc, fault, is_newer


def _checksum(block: bytes) -> bytes:
    return hashlib.md5(block, usedforsecurity=False).digest()


def _in_tiff(data: bytes) -> Packets:
    """Collect from the first directory."""
    with contextlib.suppress(struct.error, OverflowError):
        found = _tiff_values(data)
        resources = found.get(_TIFF_RESOURCES, b"")
        iptc, fault, is_newer = _in_resources(resources) if resources else (b"", None, False)
        iptc = found.get(_TIFF_IPTC) or iptc
        return Packets(found.get(_TIFF_XMP, b""), b"", iptc, None, fault, is_newer)
    return _NOTHING


def _tiff_values(data: bytes) -> dict[int, bytes]:
    """The raw values of the tags that hold packets, of a classic TIFF or a BigTIFF."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = struct.unpack_from(order + "H", data, 2)[0] == 43
    first = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)[0]
    count = struct.unpack_from(order + ("Q" if is_big else "H"), data, first)[0]
    entry = struct.Struct(order + ("HHQQ" if is_big else "HHII"))
    position = first + (8 if is_big else 2)
    found = {}
    for at in range(position, position + entry.size * min(count, 4096), entry.size):
        if at + entry.size > len(data):
            break
        tag, kind, length, start = entry.unpack_from(data, at)
        if tag in {_TIFF_XMP, _TIFF_IPTC, _TIFF_RESOURCES}:
            found[tag] = data[start : start + length * _TIFF_SIZES.get(kind, 0)]
    return found


def _in_png(data: bytes) -> tuple[bytes, str | None]:
    """The packet of an `iTXt` chunk: keyword, compressed or not, two language fields, text."""
    position = 8
    for _ in range(MAX_CHUNKS):
        if position + 12 > len(data):
            break
        length = int.from_bytes(data[position : position + 4], "big")
        if data.startswith(_PNG_XMP, position + 8) and data.startswith(b"iTXt", position + 4):
            content = data[position + 8 + len(_PNG_XMP) : position + 8 + length]
            parts = content[2:].split(b"\x00", 2)
            if len(parts) < 3:
                return b"", "the XMP chunk is broken"
            return _inflate(parts[2]) if content[:1] == b"\x01" else (parts[2], None)
        position += 12 + length
    return b"", None


def _inflate(data: bytes) -> tuple[bytes, str | None]:
    """Decompress, `MAX_BYTES` at most."""
    try:
        return zlib.decompressobj().decompress(data, MAX_BYTES), None
    except zlib.error as error:
        return b"", f"the XMP packet cannot be decompressed: {error}"


def _in_webp(data: bytes) -> bytes:
    """The content of the chunk `XMP `."""
    position = 12
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            break
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if data.startswith(b"XMP ", position):
            return data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
    return b""


def _in_gif(data: bytes) -> bytes:
    """The packet of an application block: it is not cut into sub-blocks, and a magic trailer follows."""
    start = data.find(_GIF_XMP)
    end = data.find(_GIF_XMP_END, start)
    return data[start + len(_GIF_XMP) : end] if 0 <= start < end else b""


def _ask_pillow(picture: Picture) -> bytes:
    """What the library gives that reads this format."""
    with contextlib.suppress(ImageError), open_with_pillow(picture.data, picture.format) as image:
        found = image.info.get("xmp")
        return found if isinstance(found, bytes) else b""
    return b""
