"""The chunks of a PNG, checked by their checksums, so that a fast decoder is only given what is whole.

Layout: PNG specification (third edition), section 5.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class PngChunks:
    """What the chunks of a PNG hold.

    `plain` says that the picture is 8-bit gray or RGB, not animated, without palette or transparency.
    `exif` is the TIFF block of the `eXIf` chunk, wherever it lies (empty if there is none).
    """

    plain: bool
    exif: bytes


def read_png_chunks(data: bytes) -> PngChunks:
    """Walk the chunks of a PNG without checking or decompressing them; stop where the file does."""
    depth_and_color = tuple(data[24:26])
    plain = depth_and_color in {(8, 0), (8, 2)}
    exif = b""
    for name, start, end in _walk(data):
        if name in {b"tRNS", b"acTL"}:
            plain = False
        elif name == b"eXIf" and not exif:
            exif = data[start:end]
    return PngChunks(plain=plain, exif=exif)


def keep_pixels_only(data: bytes) -> bytes | None:
    """Return the PNG with nothing but its header and pixels, or None where a chunk is broken or the file is cut.

    What is left out (color profiles, text) does not change the pixels and makes the C library print warnings.
    """
    kept = [_SIGNATURE]
    view = memoryview(data)
    name = b""
    for name, start, end in _walk(data):
        if name in {b"IHDR", b"IDAT", b"IEND"}:
            if zlib.crc32(view[start - 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
                return None
            kept.append(data[start - 8 : end + 4])
    return b"".join(kept) if name == b"IEND" else None


def _walk(data: bytes) -> list[tuple[bytes, int, int]]:
    """List the whole chunks up to `IEND`: name, start and end of the content."""
    chunks = []
    position = len(_SIGNATURE)
    while position + 12 <= len(data):
        start = position + 8
        end = start + int.from_bytes(data[position : position + 4], "big")
        if end + 4 > len(data):
            break
        name = data[position + 4 : position + 8]
        chunks.append((name, start, end))
        if name == b"IEND":
            break
        position = end + 4
    return chunks
