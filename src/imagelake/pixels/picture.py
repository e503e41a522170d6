"""A picture before it is decoded: what its header says, and where its pixels are."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass, field

from PIL import ImageFile

from imagelake.errors import ImageError
from imagelake.pixels.gif_blocks import count_gif_frames
from imagelake.pixels.jpeg_header import read_jpeg_header
from imagelake.pixels.media_boxes import check_item_lists
from imagelake.pixels.pillow_door import open_with_pillow
from imagelake.pixels.png_chunks import read_png_chunks
from imagelake.pixels.sniff import name_other, sniff
from imagelake.pixels.tiff_directory import (
    DNG_VERSION,
    MAX_PAGE_TAGS,
    TiffBlock,
    count_inner_tags,
    count_page_tags,
    read_orientation,
)

MAX_PIXELS = 178_956_970
"""The largest picture that is decoded, in pixels: twice Pillow's warning level, where Pillow refuses as well."""

MAX_SIDE = 1_000_000
"""The longest side that is decoded: libpng's limit. Decoders keep hundreds of bytes for each line."""

MAX_FRAMES = 100_000
"""Up to so many frames or pages are counted."""

_MAX_RLE_PIXELS = 1 << 23  # Pillow expands a run-length BMP in Python, a code in a microsecond
_MAX_TILE_SIDE = 4096  # of a TIFF, where the picture itself is smaller

_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_SUBFILE_TYPE, _SUB_DIRECTORIES = 0x00FE, 0x014A
_TILE_WIDTH, _TILE_LENGTH = 0x0142, 0x0143
_SWAPPING = frozenset({5, 6, 7, 8})


@dataclass(frozen=True, slots=True)
class Picture:
    """The header of a picture, and its bytes.

    `width` and `height` are pixels of the upright picture. `orientation` (1 to 8) is what the file's EXIF block says,
    1 where it says nothing valid. `mode` is Pillow's word for the stored pixels ("RGB", "L", "P", "CMYK", "I;16", ...).
    `frames` counts animation frames or pages up to `MAX_FRAMES` (the extra pictures inside a camera's JPEG are not
    counted).
    `data` is the whole file and `exif` its TIFF block (empty if none). `pending_orientation` is what decoding still
    has to apply: 1 where the decoder turns the picture by itself (HEIC, TIFF). `fast` says that OpenCV gives the same
    pixels as Pillow; `heavy` that a decoder needs memory for the whole picture even to decode it at a smaller scale.
    """

    format: str
    width: int
    height: int
    orientation: int
    mode: str
    frames: int
    has_alpha: bool
    data: bytes = field(repr=False)
    exif: bytes = field(repr=False)
    pending_orientation: int = field(repr=False)
    fast: bool = field(repr=False)
    heavy: bool = field(repr=False)


def open_picture(data: bytes) -> Picture:
    """Read the header of an image file; the format is decided by its content, the pixels are not decoded.

    Raises:
        ImageError: The bytes are no picture, or one that is empty, cut off, broken, unsupported, larger than
            `MAX_PIXELS` by its header, or made to keep its reader busy. The message is a reason that a person
            understands.
    """
    if not data:
        raise ImageError("the file is empty")
    image_format = sniff(data[:64])
    if image_format is None:
        raise ImageError(f"this is {name_other(data[:64])}, not a picture")
    picture = _open_jpeg(data) if image_format == "jpeg" else _open_other(data, image_format)
    _check_size(picture.width, picture.height)
    return picture


def _check_size(width: int, height: int) -> None:
    """Refuse pictures without pixels and those with too many.

    Raises:
        ImageError: In both cases.
    """
    if width <= 0 or height <= 0:
        raise ImageError(f"the picture has no pixels: its size is {width} x {height}")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"the picture is too large: {width} x {height} is {width * height:,} pixels by its header, "
            f"at most {MAX_PIXELS:,} are decoded"
        )
    if max(width, height) > MAX_SIDE:
        raise ImageError(
            f"the picture is too large: {width} x {height} by its header, a side has at most {MAX_SIDE:,} pixels"
        )


def _open_jpeg(data: bytes) -> Picture:
    """Read a JPEG's header by walking its segments."""
    header = read_jpeg_header(data)
    mode = _JPEG_MODES.get(header.components)
    if mode is None:
        raise ImageError(f"the picture is not supported: a JPEG with {header.components} components; 1, 3 or 4 are")
    orientation = read_orientation(header.exif) if header.exif else 1
    swapped = orientation in _SWAPPING
    return Picture(
        format="jpeg",
        width=header.height if swapped else header.width,
        height=header.width if swapped else header.height,
        orientation=orientation,
        mode=mode,
        frames=1,
        has_alpha=False,
        data=data,
        exif=header.exif,
        pending_orientation=orientation,
        fast=header.precision == 8 and header.components != 4,
        heavy=header.progressive,
    )


def _open_other(data: bytes, image_format: str) -> Picture:
    """Read any other header with Pillow."""
    _check_size(*_stated_size(data, image_format))  # Pillow does not know a picture without pixels for one
    chunks = read_png_chunks(data) if image_format == "png" else None
    frames = None  # where it is not left to Pillow, which takes hours for some files
    if image_format == "tiff":
        _refuse_raw(data)
        frames = _count_pages(data)
    elif image_format in {"avif", "heic"}:
        check_item_lists(data)
    elif image_format == "gif":
        frames = count_gif_frames(data, MAX_FRAMES)
    with open_with_pillow(data, image_format) as image:
        width, height = image.size
        _check_size(width, height)  # before the frames are counted
        _check_coding(image)
        mode = image.mode
        fast = image_format == "webp" and mode == "RGB"
        exif = _as_bytes(image.info.get("exif"))
        if chunks is not None:
            exif = exif or chunks.exif
            fast = chunks.plain and mode in {"RGB", "L"} and "transparency" not in image.info
        elif image_format == "tiff":
            exif = data
        orientation = read_orientation(exif) if exif else 1
        pending = orientation
        if image_format == "heic":
            orientation, pending = _valid_orientation(image.info.get("original_orientation")), 1
        elif image_format == "tiff":
            pending = 1
        frames = min(frames or _count_frames(image), MAX_FRAMES)
        swapped = pending in _SWAPPING
        return Picture(
            format=image_format,
            width=height if swapped else width,
            height=width if swapped else height,
            orientation=orientation,
            mode=mode,
            frames=frames,
            has_alpha=mode in _ALPHA_MODES or "transparency" in image.info,
            data=data,
            exif=exif,
            pending_orientation=pending,
            fast=fast and frames == 1,
            heavy=True,
        )


def _stated_size(data: bytes, image_format: str) -> tuple[int, int]:
    """Width and height where the header has them at a fixed place; (1, 1) where only Pillow can tell."""
    if image_format == "png" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if image_format == "bmp" and len(data) >= 26 and data[14] >= 40:
        return int.from_bytes(data[18:22], "little"), abs(int.from_bytes(data[22:26], "little", signed=True))
    if image_format == "webp" and len(data) >= 30:
        return _stated_webp_size(data)
    return 1, 1


def _stated_webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of the canvas, which is made when the file is opened."""
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return 1, 1


def _check_coding(image: ImageFile.ImageFile) -> None:
    """Refuse what takes far more time or memory than the size of the picture tells.

    Raises:
        ImageError: It is a run-length BMP of many pixels or of far more codes than pixels, or a TIFF of huge tiles.
    """
    width, height = image.size
    tile = image.tile[0] if image.tile else None
    if tile is not None and tile.codec_name == "bmp_rle":
        if width * height > _MAX_RLE_PIXELS:
            raise ImageError(
                f"the picture is too large: {width} x {height}, of a run-length BMP at most {_MAX_RLE_PIXELS:,} pixels "
                "are decoded"
            )
        if image.fp is not None and len(image.fp.getbuffer()) > 3 * width * height + 65_536:  # type: ignore[attr-defined]
            raise ImageError("the picture is broken: the run-length BMP has far more codes than pixels")
    tags = getattr(image, "tag_v2", {})
    for side, tag in ((width, _TILE_WIDTH), (height, _TILE_LENGTH)):
        stated = tags.get(tag)
        if isinstance(stated, int) and stated > max(side, _MAX_TILE_SIDE):
            raise ImageError(f"the picture is broken: a tile of the TIFF has a side of {stated:,} pixels")


def _count_pages(data: bytes) -> int:
    """Count the pages of a TIFF.

    Raises:
        ImageError: A directory of its first page has more than `MAX_PAGE_TAGS` tags.
    """
    pages = count_page_tags(data, MAX_FRAMES)
    tags = max(*pages[:1], 0, count_inner_tags(data)) if pages else 0
    if tags > MAX_PAGE_TAGS:
        raise ImageError(f"the picture is broken: the TIFF has {tags:,} tags, at most {MAX_PAGE_TAGS:,} are read")
    return max(1, len(pages))


def _as_bytes(exif: object) -> bytes:
    """Return the TIFF block of what Pillow keeps as EXIF, whose prefix differs between formats."""
    if not isinstance(exif, bytes):
        return b""
    while exif.startswith(b"Exif\x00\x00"):
        exif = exif[6:]
    return exif


def _valid_orientation(value: object) -> int:
    """Return an orientation that makes sense, else 1."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _refuse_raw(data: bytes) -> None:
    """Refuse camera raw files that look like TIFF: what they hold as a TIFF is a tiny preview.

    CR2 has its own mark and DNG its own tag; NEF, ARW and PEF start with a reduced picture and keep the raw one below.

    Raises:
        ImageError: It is one.
    """
    is_raw = data[8:10] == b"CR"
    with contextlib.suppress(ValueError, struct.error):  # no directory to be read: no raw file either
        block = TiffBlock(data)
        tags, _broken = block.read_directory(block.first)
        kind = tags.get(_SUBFILE_TYPE)
        is_preview = isinstance(kind, int) and kind & 1 == 1
        is_raw = is_raw or DNG_VERSION in tags or (is_preview and _SUB_DIRECTORIES in tags)
    if is_raw:
        raise ImageError("this is a camera raw file, not a picture: develop it to JPEG or TIFF first")


def _count_frames(image: ImageFile.ImageFile) -> int:
    """Count animation frames or pages; a chain of frames that breaks off counts as one picture."""
    try:
        return max(1, int(getattr(image, "n_frames", 1)))
    except Exception:  # noqa: BLE001 - later frames are not decoded, so their faults do not matter
        return 1
