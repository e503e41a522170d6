"""Pictures as large as a screen shows them: upright, in a form that every browser reads, without metadata."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass

from imagelake.errors import InputError, TooLargeError
from imagelake.files import display_name
from imagelake.gallery.gallery import Gallery
from imagelake.pixels.decode import decode, open_picture, reduction
from imagelake.pixels.picture import Picture
from imagelake.pixels.thumbnail import encode_jpeg, thumbnail

STEPS = (512, 1024, 1600, 2400, 3600, 5400, 8192)
"""Longer sides in pixels; one that is asked for becomes the next of these, so that few are made."""

MAX_PIXELS = 64_000_000
"""A picture that takes more pixels to be shown, after what its decoder skips, is not."""

_QUALITY = 88
_KEPT_BYTES = 64 << 20
_MEDIA_TYPES = {
    "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif", "tiff": "image/tiff",
    "bmp": "image/bmp", "avif": "image/avif", "heic": "image/heic",
}  # fmt: skip
_ENDINGS = {
    "jpeg": ("jpg", "jpeg", "jpe", "jfif"), "tiff": ("tif", "tiff"), "heic": ("heic", "heif", "hif"),
    "bmp": ("bmp", "dib"), "png": ("png", "apng"),
}  # fmt: skip
_LONGEST_NAME = 120
# No control character, nothing that turns the direction of text, nothing that some system's file names cannot have.
_NOT_IN_NAMES = re.compile('[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffd<>:"/\\\\|?*]')


@dataclass(frozen=True)
class Original:
    """The bytes of an image as they came, and what to call them."""

    data: bytes
    media_type: str
    name: str


def step_of(side: int) -> int:
    """The side that is made for one that is asked for.

    Raises:
        InputError: it is below 1.
    """
    if side < 1:
        raise InputError(f"side is {side}; give the longer side in pixels, 1 to {STEPS[-1]}.")
    return next((step for step in STEPS if step >= side), STEPS[-1])


class LargePictures:
    """Makes them, and keeps the last ones. A class because of what it keeps: at most 64 MiB.

    Args:
        gallery: of the lake.
        max_pixels: more are not decoded for one.
    """

    def __init__(self, gallery: Gallery, max_pixels: int = MAX_PIXELS) -> None:
        self._gallery = gallery
        self._max_pixels = max_pixels
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def jpeg(self, image_id: str, side: int) -> bytes | None:
        """A JPEG of an image, its longer side at most `step_of(side)` and never enlarged; None where there is none.

        Raises:
            ImageError: its pixels cannot be decoded.
            TooLargeError: they are too many.
            InputError: `side` is below 1.
        """
        key = (image_id, step_of(side))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        data = self._bytes(image_id)
        if data is None:
            return None
        made = make_large(data, key[1], self._max_pixels)
        self._keep(key, made)
        return made

    def original(self, image_id: str) -> Original | None:
        """An image as it came; None where there is none."""
        row = int(self._gallery.catalog().rows_of([image_id])[0])
        data = self._bytes(image_id)
        if row < 0 or data is None:
            return None
        told = self._gallery.tables.images.take([int(self._gallery.catalog().row_ids[row])], ["id", "uris", "format"])
        found = told.to_pylist()[0]
        form = str(found["format"])
        uri = (found["uris"] or [""])[0]
        return Original(data, _MEDIA_TYPES.get(form, "application/octet-stream"), safe_name(uri, found["id"], form))

    def _bytes(self, image_id: str) -> bytes | None:
        catalog = self._gallery.catalog()
        row = int(catalog.rows_of([image_id])[0])
        if row < 0:
            return None
        there = self._gallery.tables.images.take([int(catalog.row_ids[row])], ["_rowid"])
        found = self._gallery.tables.images.read_bytes(there.column("_rowid").to_pylist()) if len(there) else []
        return found[0] if found else None

    def _keep(self, key: tuple[str, int], made: bytes) -> None:
        with self._lock:
            if key in self._kept or len(made) > _KEPT_BYTES:
                return
            self._kept[key] = made
            self._size += len(made)
            while self._size > _KEPT_BYTES:
                self._size -= len(self._kept.popitem(last=False)[1])


def make_large(data: bytes, side: int, max_pixels: int = MAX_PIXELS) -> bytes:
    """A JPEG without metadata of the bytes of an image file, upright, its longer side at most `side` pixels.

    Raises:
        ImageError: the pixels cannot be decoded.
        TooLargeError: they are too many.
    """
    picture = open_picture(data)
    least = _least_side(picture, side)
    factor = 1 if picture.heavy else reduction(picture, least)
    pixels = picture.width * picture.height // factor**2
    if pixels > max_pixels:
        raise TooLargeError(
            f"The picture has {picture.width} x {picture.height} pixels; {max_pixels:,} are decoded to show one. "
            "Download it to see it."
        )
    return encode_jpeg(thumbnail(decode(picture, least), side), _QUALITY)


def _least_side(picture: Picture, side: int) -> int:
    """How long the shorter side has to be, so that the longer one has `side` pixels."""
    longer, shorter = max(picture.width, picture.height), min(picture.width, picture.height)
    return max(1, -(-shorter * min(side, longer) // longer))


def safe_name(uri: str, image_id: str, form: str) -> str:
    """What to call a download: the name the image was seen under, without what is dangerous in one.

    It ends as its format does, so that a picture called `a.exe` is not taken for a program.
    """
    name = _NOT_IN_NAMES.sub("_", display_name(uri)).strip(" .")[-_LONGEST_NAME:] or image_id[:12]
    endings = _ENDINGS.get(form, (form,))
    return name if name.lower().rpartition(".")[2] in endings and "." in name else f"{name}.{endings[0]}"
