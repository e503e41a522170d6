"""The header of a JPEG: size, components and the EXIF block, found by walking its segments.

Ten times faster than opening it with a library, and without a warning. Markers are those of ITU-T T.81, table B.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from imagelake.errors import ImageError

_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_PROGRESSIVE_MARKERS = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD9), 0xFF})
_AFTER_THE_FRAME = frozenset({0xD9, 0xDA})
_EXIF = b"Exif\x00\x00"
_NO_LENGTH = "the picture is broken: a segment of the JPEG has no length"
_TRUNCATED = "the file is truncated: it ends inside the header of the JPEG"


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What the segments before the first scan say.

    `width` and `height` are pixels as stored, `components` is 1 (gray), 3 (color) or 4 (CMYK), `precision` is bits a
    sample, `exif` the TIFF block of the EXIF segment (empty if there is none).
    """

    width: int
    height: int
    components: int
    precision: int
    progressive: bool
    exif: bytes


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Walk the segments of a JPEG up to its first scan.

    Raises:
        ImageError: The file ends too early, or holds no frame header.
    """
    exif = b""
    position = 2
    end = len(data)
    while True:
        if position + 4 > end:
            raise ImageError(_TRUNCATED)
        if data[position] != 0xFF:  # bytes between segments, which decoders skip too
            position = data.find(b"\xff", position)
            if position < 0:
                raise ImageError(_TRUNCATED)
            continue
        marker = data[position + 1]
        if marker in _WITHOUT_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        length = (data[position + 2] << 8) | data[position + 3]
        if marker in _FRAME_MARKERS:
            break
        if marker in _AFTER_THE_FRAME:
            raise ImageError("the picture is broken: the JPEG has no frame header before its data")
        if length < 2:
            raise ImageError(_NO_LENGTH)
        if marker == 0xE1 and not exif and data.startswith(_EXIF, position + 4):
            exif = data[position + 10 : position + 2 + length]
        position += 2 + length
    if position + 2 + length > end:
        raise ImageError(_TRUNCATED)
    if length < 8:
        raise ImageError("the picture is broken: the frame header of the JPEG is too short")
    return JpegHeader(
        width=(data[position + 7] << 8) | data[position + 8],
        height=(data[position + 5] << 8) | data[position + 6],
        components=data[position + 9],
        precision=data[position + 4],
        progressive=marker in _PROGRESSIVE_MARKERS,
        exif=exif or _find_late_exif(data, position + 2 + length),
    )


def _find_late_exif(data: bytes, position: int) -> bytes:
    """Find an EXIF segment between the frame header and the scan, where a few writers put it."""
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA or marker == 0xD9:  # no set: this runs for every segment of every file
            break
        length = (data[position + 2] << 8) | data[position + 3]
        if marker == 0xE1 and data.startswith(_EXIF, position + 4):
            return data[position + 10 : position + 2 + length]
        position += 2 + length if length > 2 else 4
    return b""
