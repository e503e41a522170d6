"""All that is known of one picture, from one decode."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imagelake.pixels.captions import Captions, read_captions
from imagelake.pixels.decode import decode
from imagelake.pixels.exif import Exif, read_exif
from imagelake.pixels.figures import WORKING_SIDE, Figures, measure_working, to_luma
from imagelake.pixels.hashing import hash_luma
from imagelake.pixels.picture import Picture, open_picture
from imagelake.pixels.reduction import reduce_to
from imagelake.pixels.thumbnail import THUMBNAIL_SIDE, encode_jpeg, thumbnail


@dataclass(frozen=True, slots=True)
class Description:
    """What `describe` finds.

    `format` to `has_alpha` are those of `Picture`; `width` and `height` are pixels of the upright picture.
    `perceptual_hash` is 64 bits, `thumbnail_jpeg` an upright JPEG whose longer side is at most `THUMBNAIL_SIDE`.
    """

    format: str
    width: int
    height: int
    orientation: int
    mode: str
    frames: int
    has_alpha: bool
    exif: Exif
    captions: Captions
    figures: Figures
    perceptual_hash: int
    thumbnail_jpeg: bytes = field(repr=False)


def describe(data: bytes) -> Description:
    """Describe the bytes of an image file: header, EXIF, XMP, IPTC, quality figures, perceptual hash and thumbnail.

    The picture is decoded once, and a JPEG only at the scale that figures and thumbnail need; its data are read to the
    end all the same, so a file that is cut off is found out.

    Raises:
        ImageError: The bytes cannot become pixels.
    """
    picture = open_picture(data)
    exif = read_exif(picture)
    image_rgb = _decode_enough(picture)
    working = reduce_to(image_rgb, WORKING_SIDE)
    luma = to_luma(working)
    small = working if THUMBNAIL_SIDE == WORKING_SIDE else thumbnail(image_rgb, THUMBNAIL_SIDE)
    return Description(
        format=picture.format,
        width=picture.width,
        height=picture.height,
        orientation=picture.orientation,
        mode=picture.mode,
        frames=picture.frames,
        has_alpha=picture.has_alpha,
        exif=exif,
        captions=read_captions(picture, exif),
        figures=measure_working(working, luma),
        perceptual_hash=hash_luma(luma),
        thumbnail_jpeg=encode_jpeg(small),
    )


def measure_file(data: bytes) -> tuple[int, int, Figures]:
    """Only width, height and quality figures of the bytes of an image file, equal to those of `describe`.

    Raises:
        ImageError: The bytes cannot become pixels.
    """
    picture = open_picture(data)
    working = reduce_to(_decode_enough(picture), WORKING_SIDE)
    return picture.width, picture.height, measure_working(working, to_luma(working))


def _decode_enough(picture: Picture) -> NDArray[np.uint8]:
    """Decode [h, w, 3], uint8, RGB, with as many pixels as figures and thumbnail need."""
    longer, shorter = max(picture.width, picture.height), min(picture.width, picture.height)
    needed = max(WORKING_SIDE, THUMBNAIL_SIDE)
    return decode(picture, min_side=-(-shorter * needed // longer))
