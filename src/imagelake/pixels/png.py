"""PNG bytes of an array, the same on every machine for good."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB_8_BIT = (8, 2, 0, 0, 0)  # bits a sample, color type RGB, and the only compression, filter and no interlacing
_BLOCK_BYTES = 65_535
_MAX_PIXELS = 1 << 28  # a chunk holds less than 2 GiB


def encode_png(image_rgb: NDArray[np.uint8]) -> bytes:
    """Encode an array [h, w, 3], uint8, RGB without loss.

    An image's id is the hash of its bytes, so equal pixels must give equal bytes whatever version of a compressor is
    installed. That leaves the stored form of deflate (RFC 1951, 3.2.4): almost twice as large as a
    compressed one, and ten times as fast to make.

    Raises:
        InputError: the array is none of that shape and type, has no pixels or more than 268,435,456.
    """
    if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8:
        raise InputError(f"an array {image_rgb.shape} of {image_rgb.dtype}; a PNG takes [height, width, 3] of uint8")
    height, width = image_rgb.shape[:2]
    if not 0 < height * width <= _MAX_PIXELS:
        raise InputError(f"a picture of {width} x {height}; a PNG takes 1 to {_MAX_PIXELS:,} pixels")
    lines = np.zeros((height, 1 + 3 * width), np.uint8)  # each begins with its filter, 0: none
    lines[:, 1:] = image_rgb.reshape(height, 3 * width)
    header = struct.pack(">II5B", width, height, *_RGB_8_BIT)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", _stored(lines.tobytes())) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return b"".join((struct.pack(">I", len(content)), name, content, struct.pack(">I", zlib.crc32(name + content))))


def _stored(data: bytes) -> bytes:
    """A zlib stream (RFC 1950) of uncompressed blocks."""
    pieces = [b"\x78\x01"]
    for start in range(0, len(data), _BLOCK_BYTES):
        block = data[start : start + _BLOCK_BYTES]
        is_last = start + _BLOCK_BYTES >= len(data)
        pieces += [struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block]
    return b"".join([*pieces, struct.pack(">I", zlib.adler32(data))])
