"""Pictures that somebody searches with, kept for a while: so a search can be changed, gone back to and reloaded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from imagelake.errors import TooLargeError
from imagelake.pixels.picture import open_picture
from imagelake.steps.identify import content_id

LARGEST = 32 << 20
"""Bytes of one picture."""

_KEPT_BYTES = 64 << 20


@dataclass(frozen=True)
class QueryPicture:
    """A picture.

    Attributes:
        id: SHA-256 of its bytes: nobody can guess it, so who knows it has seen the picture.
        data: its bytes.
        width: of the upright picture, in pixels.
        height: of the upright picture, in pixels.
        format: such as `"jpeg"`.
    """

    id: str
    data: bytes
    width: int
    height: int
    format: str


class QueryPictures:
    """The last ones, at most 64 MiB together. A class because it keeps them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, QueryPicture] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def keep(self, data: bytes, max_pixels: int) -> QueryPicture:
        """Keep a picture.

        Raises:
            ImageError: it is no picture.
            TooLargeError: it has too many bytes or pixels.
        """
        if len(data) > LARGEST:
            raise TooLargeError(f"The picture has {len(data):,} bytes; at most {LARGEST:,} are searched with.")
        opened = open_picture(data)
        if opened.width * opened.height > max_pixels:
            raise TooLargeError(
                f"The picture has {opened.width} x {opened.height} pixels, and at most {max_pixels:,} are looked at. "
                "Take a smaller one."
            )
        picture = QueryPicture(content_id(data), data, opened.width, opened.height, opened.format)
        with self._lock:
            if picture.id not in self._kept:
                self._bytes += len(data)
            self._kept[picture.id] = picture
            self._kept.move_to_end(picture.id)
            while self._bytes > _KEPT_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1].data)
        return picture

    def get(self, picture_id: str) -> QueryPicture | None:
        """The picture of this id; None where it is not kept any more."""
        with self._lock:
            if picture_id in self._kept:
                self._kept.move_to_end(picture_id)
            return self._kept.get(picture_id)
