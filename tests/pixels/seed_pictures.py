"""Whole pictures to be damaged: one small file of every format and variant that the package reads, made by code.

It imports nothing of the other tests, for benchmarks use it too.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 61, 43
PNG_START = b"\x89PNG\r\n\x1a\n"
SHARED = Path(__file__).parents[3] / "shared" / "data"

_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 11: 4, 16: 8}
_TIFF_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 11: "f", 16: "Q"}
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def seed_pictures() -> dict[str, bytes]:
    """The files by names whose first word is the format, such as `"png interlaced"`."""
    return {**_jpegs(), **_pngs(), **_webps(), **_gifs(), **_tiffs(), **_bmps(), **_avifs(), **heics()}


def scene() -> np.ndarray:
    """A smooth picture with a little grain, (43, 61, 3) uint8."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    grain = np.random.default_rng(3).integers(0, 9, (HEIGHT, WIDTH, 3))
    return (np.stack([x * 4, y * 5, 255 - x * 2 - y * 2], axis=2) + grain).clip(0, 255).astype(np.uint8)


def save(image: Image.Image, form: str, **options: object) -> bytes:
    """The bytes of a file."""
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    """A chunk with its right length and checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_file(size: tuple[int, int], kind: tuple[int, int, int], pixels: bytes, *extra: bytes) -> bytes:
    """A PNG of (width, height) and (bits, color type, interlacing); `pixels` is a zlib stream, `extra` whole chunks."""
    bits, color, interlacing = kind
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, color, 0, 0, interlacing))
    return b"".join([PNG_START, head, *extra, png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b"")])


def tiff_file(tags: dict[int, tuple[int, list[int]]], data: bytes, *, big: bool = False) -> bytes:
    """A little-endian TIFF of one page; `tags` gives (kind, values) by number, offsets among them already right.

    `data` comes first, at byte 8 or, in a BigTIFF, 16.
    """
    start, slot = (16, 8) if big else (8, 4)
    body = bytearray(data)
    entries = []
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}{_TIFF_CODES[kind]}", *values)
        if len(packed) > slot:
            body += bytes(len(body) % 2)
            place = struct.pack("<Q" if big else "<I", start + len(body))
            body += packed
        else:
            place = packed.ljust(slot, b"\0")
        entries.append(struct.pack("<HHQ" if big else "<HHI", tag, kind, len(values)) + place)
    body += bytes(len(body) % 2)
    count = struct.pack("<Q" if big else "<H", len(entries))
    at = start + len(body)
    head = b"II+\0" + struct.pack("<HHQ", 8, 0, at) if big else b"II*\0" + struct.pack("<I", at)
    return head + bytes(body) + count + b"".join(entries) + bytes(slot)


def bmp_file(size: tuple[int, int], bits: int, pixels: bytes, *, method: int = 0, palette: bytes = b"") -> bytes:
    """A BMP with the 40-byte header; a negative height stores the top row first."""
    start = 14 + 40 + len(palette)
    head = struct.pack("<IiiHHIIiiII", 40, *size, 1, bits, method, len(pixels), 2835, 2835, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + palette + pixels


def heics() -> dict[str, bytes]:
    """A small HEIC file, where the shared camera files are: there is no encoder."""
    path = SHARED / "exif" / "heic" / "samplefilehub.heif"
    return {"heic photo": path.read_bytes()} if path.is_file() else {}


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a maker"
    exif[0x8769] = {0x9003: "2024:05:06 07:08:09", 0x829A: (1, 250), 0x8827: 200}
    exif[0x8825] = {1: "N", 2: (48.0, 12.0, 3.5), 3: "E", 4: (11.0, 3.0, 9.0)}
    return exif.tobytes()


def _rgb() -> Image.Image:
    return Image.fromarray(scene())


def _alpha() -> Image.Image:
    image = _rgb().convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))))
    return image


def _second() -> Image.Image:
    return Image.fromarray(255 - scene())


def _jpegs() -> dict[str, bytes]:
    rgb = _rgb()
    gray = rgb.convert("L")
    found = {f"jpeg subsampling {number}": save(rgb, "JPEG", subsampling=number) for number in range(3)}
    return found | {
        "jpeg progressive": save(rgb, "JPEG", progressive=True),
        "jpeg gray": save(gray, "JPEG"),
        "jpeg gray progressive": save(gray, "JPEG", progressive=True),
        "jpeg CMYK": save(rgb.convert("CMYK"), "JPEG"),
        "jpeg CMYK progressive": save(rgb.convert("CMYK"), "JPEG", progressive=True),
        "jpeg EXIF": save(rgb, "JPEG", exif=_exif(6)),
        "jpeg restarts": save(rgb, "JPEG", restart_marker_rows=1),
        "jpeg optimized": save(rgb, "JPEG", optimize=True, quality=20, comment="words"),
    }


def _pngs() -> dict[str, bytes]:
    rgb, alpha = _rgb(), _alpha()
    found = {f"png palette {bits}": save(rgb.quantize(1 << bits), "PNG", bits=bits) for bits in (1, 2, 4, 8)}
    wide = scene().astype(">u2") * 257
    lines = b"".join(b"\0" + row.tobytes() for row in wide)
    profile = png_chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(500)))
    text = png_chunk(b"zTXt", b"words\0\0" + zlib.compress(b"many words " * 50))
    return found | {
        "png gray": save(rgb.convert("L"), "PNG"),
        "png bilevel": save(rgb.convert("1"), "PNG"),
        "png RGB": save(rgb, "PNG", exif=_exif(3)),
        "png RGBA": save(alpha, "PNG"),
        "png gray alpha": save(alpha.convert("LA"), "PNG"),
        "png 16 bit gray": save(Image.fromarray(wide[:, :, 0].astype(np.uint16)), "PNG"),
        "png 16 bit": png_file((WIDTH, HEIGHT), (16, 2, 0), zlib.compress(lines), profile, text),
        "png palette tRNS": save(rgb.quantize(16), "PNG", transparency=bytes(range(16))),
        "png tRNS": save(rgb, "PNG", transparency=(255, 0, 0)),
        "png interlaced": png_file((WIDTH, HEIGHT), (8, 2, 1), zlib.compress(_interlaced(scene()))),
        "png animated": save(rgb, "PNG", save_all=True, append_images=[_second()]),
    }


def _interlaced(image: np.ndarray) -> bytes:
    """The lines of the seven passes of Adam7, without filters."""
    passes = (image[top::down, left::right] for top, left, down, right in _ADAM7)
    return b"".join(b"\0" + row.tobytes() for part in passes for row in part)


def _webps() -> dict[str, bytes]:
    rgb, alpha = _rgb(), _alpha()
    return {
        "webp lossy": save(rgb, "WEBP"),
        "webp lossless": save(rgb, "WEBP", lossless=True),
        "webp lossy alpha": save(alpha, "WEBP", exif=_exif(8)),
        "webp lossless alpha": save(alpha, "WEBP", lossless=True),
        "webp animated": save(rgb, "WEBP", save_all=True, append_images=[_second(), rgb]),
    }


def _gifs() -> dict[str, bytes]:
    first, second = _rgb().quantize(64), _second().quantize(64)
    return {
        "gif": save(first, "GIF", interlace=0),
        "gif interlaced": save(first, "GIF", interlace=1),
        "gif transparent": save(first, "GIF", transparency=0, comment=b"words"),
        "gif animated": save(first, "GIF", save_all=True, append_images=[second, first], loop=0, disposal=2),
    }


def _tiffs() -> dict[str, bytes]:
    rgb = _rgb()
    wide = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 20
    methods = ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "tiff_adobe_deflate")
    found = {f"tiff {method}": save(rgb, "TIFF", compression=method) for method in methods}
    faxes = {f"tiff {method}": save(rgb.convert("1"), "TIFF", compression=method) for method in ("group3", "group4")}
    pages = save(rgb, "TIFF", save_all=True, append_images=[_second(), rgb], compression="tiff_lzw")
    return found | faxes | {
        "tiff plain": save(rgb, "TIFF", exif=_exif(6)),
        "tiff strips": save(rgb, "TIFF", compression="tiff_lzw", strip_size=WIDTH * 3 * 8),
        "tiff tiles": _tiled(big=False),
        "tiff big tiles": _tiled(big=True),
        "tiff big": save(rgb, "TIFF", big_tiff=True),
        "tiff 16 bit": save(Image.fromarray(wide), "TIFF"),
        "tiff 16 bit color": _wide_tiff(),
        "tiff float": save(Image.fromarray(wide.astype(np.float32)), "TIFF"),
        "tiff CMYK": save(rgb.convert("CMYK"), "TIFF"),
        "tiff palette": save(rgb.quantize(16), "TIFF"),
        "tiff RGBA": save(_alpha(), "TIFF", compression="tiff_lzw"),
        "tiff YCbCr": save(rgb.convert("YCbCr"), "TIFF"),
        "tiff pages": pages,
    }  # fmt: skip


def _wide_tiff() -> bytes:
    data = zlib.compress((scene().astype("<u2") * 257).tobytes())
    start, counts = {273: (4, [8])}, {279: (4, [len(data)])}
    return tiff_file(tiff_tags((WIDTH, HEIGHT), bits=16, method=8) | start | counts, data)


def _tiled(*, big: bool) -> bytes:
    padded = np.pad(scene(), ((0, 64 - HEIGHT), (0, 64 - WIDTH), (0, 0)))
    quarters = [padded[top : top + 32, left : left + 32] for top in (0, 32) for left in (0, 32)]
    tiles = [zlib.compress(quarter.tobytes()) for quarter in quarters]
    sizes = [len(tile) for tile in tiles]
    starts = [(16 if big else 8) + sum(sizes[:number]) for number in range(4)]
    kind = 16 if big else 4
    layout = {322: (3, [32]), 323: (3, [32]), 324: (kind, starts), 325: (kind, sizes)}
    return tiff_file(tiff_tags((WIDTH, HEIGHT), method=8) | layout, b"".join(tiles), big=big)


def tiff_tags(size: tuple[int, int], *, bits: int = 8, method: int = 1, samples: int = 3) -> dict:
    """The tags that every page has, in one strip."""
    width, height = size
    return {
        256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * samples), 259: (3, [method]),
        262: (3, [2 if samples >= 3 else 1]), 277: (3, [samples]), 278: (4, [height]), 284: (3, [1]),
    }  # fmt: skip


def _bmps() -> dict[str, bytes]:
    rgb = _rgb()
    palette = rgb.quantize(16)
    colors = b"".join(bytes([*palette.getpalette()[i * 3 : i * 3 + 3], 0]) for i in range(16))
    indexes = np.asarray(palette)
    nibbles = np.pad(indexes, ((0, 0), (0, 3)))
    four = (nibbles[:, 0::2] << 4 | nibbles[:, 1::2]).tobytes()
    eight_rle = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in indexes) + b"\0\1"
    four_rle = b"".join(b"".join(bytes([1, value << 4]) for value in row) + b"\0\0" for row in indexes) + b"\0\1"
    wide = np.pad(scene()[:, :, 0].astype("<u2") * 128, ((0, 0), (0, 1))).tobytes()
    return {
        "bmp 1": save(rgb.convert("1"), "BMP"),
        "bmp 4": bmp_file((WIDTH, HEIGHT), 4, four, palette=colors),
        "bmp 8": save(rgb.quantize(64), "BMP"),
        "bmp 16": bmp_file((WIDTH, HEIGHT), 16, wide),
        "bmp 24": save(rgb, "BMP"),
        "bmp 32": save(_alpha(), "BMP"),
        "bmp top-down": bmp_file((WIDTH, -HEIGHT), 24, bytes((WIDTH * 3 + 1) * HEIGHT)),
        "bmp RLE 8": bmp_file((WIDTH, HEIGHT), 8, eight_rle, method=1, palette=colors),
        "bmp RLE 4": bmp_file((WIDTH, HEIGHT), 4, four_rle, method=2, palette=colors),
    }


def _avifs() -> dict[str, bytes]:
    rgb = _rgb()
    return {
        "avif": save(rgb, "AVIF", speed=10),
        "avif alpha": save(_alpha(), "AVIF", speed=10, exif=_exif(5)),
        "avif full color": save(rgb, "AVIF", speed=10, subsampling="4:4:4"),
        "avif animated": save(rgb, "AVIF", speed=10, save_all=True, append_images=[_second()]),
    }
