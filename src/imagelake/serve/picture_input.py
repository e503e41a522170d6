"""Encoded pictures of a request, decoded and prepared for a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ImageError, InputError, TooLargeError
from imagelake.pixels.decode import decode, open_picture
from imagelake.pixels.thumbnail import encode_jpeg

MAX_PIXELS = 64_000_000
"""The largest picture that is decoded for a request, unless the server says otherwise."""

T = TypeVar("T")


@dataclass(frozen=True)
class PictureReader(Generic[T]):
    """From the bytes of a picture to what a model takes; runs on the thread that calls it.

    Attributes:
        prepare: an upright picture, uint8 [h, w, 3], to what the model takes.
        min_side: the shorter side that a picture should keep when it is decoded at a smaller scale, in pixels.
        max_pixels: a picture with more is refused before it is decoded.
    """

    prepare: Callable[[NDArray[np.uint8]], T]
    min_side: int
    max_pixels: int = MAX_PIXELS

    def read(self, pictures: Iterable[bytes]) -> list[T]:
        """Decode and prepare pictures.

        Raises:
            ImageError: one is no picture, or broken; says which.
            TooLargeError: one has too many pixels.
        """
        return [self._read_one(place, each) for place, each in enumerate(pictures)]

    def _read_one(self, place: int, encoded: bytes) -> T:
        try:
            picture = open_picture(encoded)
            if picture.width * picture.height > self.max_pixels:
                raise TooLargeError(
                    f"picture {place} has {picture.width} x {picture.height} pixels; give at most {self.max_pixels}"
                )
            return self.prepare(decode(picture, self.min_side))
        except ImageError as error:
            raise ImageError(f"picture {place} cannot be used: {error}") from error
        except InputError as error:
            raise InputError(f"picture {place} cannot be used: {error}") from error


def gray_picture() -> bytes:
    """A small JPEG, to try a model with."""
    return encode_jpeg(np.full((48, 64, 3), 128, np.uint8))
