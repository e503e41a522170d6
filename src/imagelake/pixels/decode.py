"""Bytes to upright RGB pixels."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import cv2
import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ImageError
from imagelake.pixels.color import to_rgb
from imagelake.pixels.jpeg_header import leave_out_notes
from imagelake.pixels.orientation import turn_upright
from imagelake.pixels.picture import MAX_PIXELS, Picture, open_picture
from imagelake.pixels.pillow_door import open_with_pillow
from imagelake.pixels.png_chunks import keep_pixels_only

__all__ = ["MAX_PIXELS", "PIXELS_AT_ONCE", "Picture", "decode", "decode_rgb", "open_picture", "reduction"]

PIXELS_AT_ONCE = 48_000_000
"""How many pixels all threads together decode at once; a picture with more is decoded alone."""

BYTES_PER_PIXEL = 20
"""How much memory describing or decoding a picture takes at most for each of its pixels, all copies counted: 3.6 GB for
the largest that is decoded. To that come its file four times, and what the libraries themselves need."""

HEAVY_PIXELS = 2_000_000
"""Pictures with fewer pixels than this do not count."""

_FULL = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_REDUCED = (
    (8, cv2.IMREAD_REDUCED_GRAYSCALE_8 | _FULL),
    (4, cv2.IMREAD_REDUCED_GRAYSCALE_4 | _FULL),
    (2, cv2.IMREAD_REDUCED_GRAYSCALE_2 | _FULL),
)
_light = nullcontext()


class _PixelBudget:
    """Room for `PIXELS_AT_ONCE` pixels among all threads; a picture larger than that has it alone."""

    def __init__(self) -> None:
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Wait for room, and give it back."""
        pixels = min(pixels, PIXELS_AT_ONCE)
        with self._changed:
            self._changed.wait_for(lambda: self._used + pixels <= PIXELS_AT_ONCE)
            self._used += pixels
        try:
            yield
        finally:
            with self._changed:
                self._used -= pixels
                self._changed.notify_all()


_budget = _PixelBudget()


def decode(picture: Picture, min_side: int | None = None) -> NDArray[np.uint8]:
    """Decode an opened picture into an array [h, w, 3], uint8, RGB, upright.

    With `min_side`, a JPEG may come at 1/2, 1/4 or 1/8 of its size, whichever is the smallest whose shorter side has
    at least `min_side` pixels; the decoder then skips the finer frequencies, which is both faster and free of aliasing.
    Other formats, and JPEGs that are CMYK, always come whole. Safe to call from many threads.

    Raises:
        ImageError: The pixels are cut off, broken or stored in a way that is not supported.
    """
    factor, flags = _choose_scale(picture, min_side)
    with _memory_turn(picture, factor):
        if picture.fast:
            image_rgb = _decode_with_opencv(picture, flags)
            if image_rgb is not None:
                return turn_upright(image_rgb, picture.pending_orientation)
        # Either a format that only Pillow reads right, or a broken file: Pillow knows the reason.
        data = leave_out_notes(picture.data) if picture.format == "jpeg" else picture.data
        with open_with_pillow(data, picture.format) as image:
            image_rgb = to_rgb(image, picture.format)
    return turn_upright(image_rgb, picture.pending_orientation)


def reduction(picture: Picture, min_side: int | None) -> int:
    """By what the sides are divided when a picture is decoded with this `min_side`: 1, 2, 4 or 8."""
    return _choose_scale(picture, min_side)[0]


def decode_rgb(data: bytes, min_side: int | None = None) -> NDArray[np.uint8]:
    """Open and decode bytes in one call: see `open_picture` and `decode`."""
    return decode(open_picture(data), min_side)


def _choose_scale(picture: Picture, min_side: int | None) -> tuple[int, int]:
    """Return by what the sides are divided, and OpenCV's flags for it."""
    if min_side is not None and picture.format == "jpeg" and picture.fast:
        shorter = min(picture.width, picture.height)
        for factor, flags in _REDUCED:
            if -(-shorter // factor) >= min_side:
                return factor, flags
    return 1, _FULL


def _memory_turn(picture: Picture, factor: int) -> AbstractContextManager[object]:
    """Make pictures wait for each other whose decoding needs much memory."""
    pixels = picture.width * picture.height
    if not picture.heavy:
        pixels //= factor * factor
    return _budget.take(pixels) if pixels > HEAVY_PIXELS else _light


def _decode_with_opencv(picture: Picture, flags: int) -> NDArray[np.uint8] | None:
    """Decode a plain JPEG, PNG or WebP; None where OpenCV does not get to the end of it."""
    data: bytes | None = picture.data
    if picture.format == "png":
        data = keep_pixels_only(picture.data)
        if data is None:
            return None
    try:
        image_rgb = cv2.imdecode(np.frombuffer(data or b"", np.uint8), flags)
    except cv2.error as error:
        if "memory" in str(error).lower():
            raise ImageError("the picture is too large for the memory that is free") from error
        return None
    return image_rgb  # type: ignore[return-value]
