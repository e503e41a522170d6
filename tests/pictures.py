"""Pictures made by code: one file of each format in each mode that Pillow can write."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, ImageCms

WIDTH, HEIGHT = 60, 40


def scene(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A smooth picture [h, w, 3] without any symmetry: red corner top left, green to the right, blue downwards."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    red = 255 * (1 - x / width) * (1 - y / height)
    return np.stack([red, 255 * x / width, 255 * y / height], axis=2).round().astype(np.uint8)


def save(image: Image.Image, image_format: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format, **options)
    return out.getvalue()


def orientation_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def ramp_16() -> np.ndarray:
    """[40, 60] uint16 from 0 to 65535."""
    return np.linspace(0, 65_535, WIDTH * HEIGHT).round().astype(np.uint16).reshape(HEIGHT, WIDTH)


def every_picture() -> dict[str, bytes]:
    """One file for each format and mode, by a name like "png RGBA"."""
    rgb = Image.fromarray(scene())
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))))
    palette = rgb.quantize(16)
    gray_float = Image.fromarray(np.linspace(-3, 7, WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH))
    gray_int = Image.fromarray((np.arange(WIDTH * HEIGHT, dtype=np.int32) * 100_000).reshape(HEIGHT, WIDTH))
    lab = ImageCms.profileToProfile(
        rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    second = Image.fromarray(255 - scene())
    return {
        "jpeg RGB": save(rgb, "JPEG", quality=92),
        "jpeg L": save(rgb.convert("L"), "JPEG", quality=92),
        "jpeg CMYK": save(rgb.convert("CMYK"), "JPEG", quality=95),
        "jpeg progressive": save(rgb, "JPEG", progressive=True, quality=92),
        "jpeg exif": save(rgb, "JPEG", exif=orientation_exif(6)),
        "png RGB": save(rgb, "PNG"),
        "png L": save(rgb.convert("L"), "PNG"),
        "png 1": save(rgb.convert("1"), "PNG"),
        "png P": save(palette, "PNG"),
        "png P transparent": save(palette, "PNG", transparency=0),
        "png LA": save(alpha.convert("LA"), "PNG"),
        "png RGBA": save(alpha, "PNG"),
        "png RGB transparent": save(rgb, "PNG", transparency=(255, 0, 0)),
        "png I;16": save(Image.fromarray(ramp_16()), "PNG"),
        "png RGB16": png_16_bit_rgb(),
        "png animated": save(rgb, "PNG", save_all=True, append_images=[second]),
        "gif P": save(palette, "GIF"),
        "gif animated": save(rgb.quantize(64), "GIF", save_all=True, append_images=[second.quantize(64)]),
        "webp RGB": save(rgb, "WEBP", quality=90),
        "webp RGBA": save(alpha, "WEBP", lossless=True),
        "webp animated": save(rgb, "WEBP", lossless=True, save_all=True, append_images=[second]),
        "tiff RGB": save(rgb, "TIFF"),
        "tiff lzw": save(rgb, "TIFF", compression="tiff_lzw"),
        "tiff CMYK": save(rgb.convert("CMYK"), "TIFF"),
        "tiff YCbCr": save(rgb.convert("YCbCr"), "TIFF"),
        "tiff LAB": save(lab, "TIFF"),
        "tiff 1": save(rgb.convert("1"), "TIFF"),
        "tiff I;16": save(Image.fromarray(ramp_16()), "TIFF"),
        "tiff I": save(gray_int, "TIFF"),
        "tiff F": save(gray_float, "TIFF"),
        "tiff pages": save(rgb, "TIFF", save_all=True, append_images=[second, second]),
        "bmp RGB": save(rgb, "BMP"),
        "bmp P": save(palette, "BMP"),
        "avif RGB": save(rgb, "AVIF", quality=90),
        "avif RGBA": save(alpha, "AVIF", quality=90),
    }


def png_chunk(name: bytes, content: bytes) -> bytes:
    import zlib

    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_16_bit_rgb() -> bytes:
    """A 16-bit RGB PNG, which Pillow cannot write: each sample is 257 times that of `scene`."""
    import zlib

    wide = scene().astype(">u2") * 257
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in wide)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def mean_difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(np.int16) - second.astype(np.int16)).mean())


def make_image(seed: int, width: int = 160, height: int = 120) -> np.ndarray:
    """A picture unlike any other seed's: soft blobs of color. Shape (height, width, 3), uint8."""
    blobs = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC))


def encode(image_rgb: np.ndarray, form: str = "JPEG", **options: object) -> bytes:
    """The bytes of an image file."""
    out = io.BytesIO()
    Image.fromarray(image_rgb).save(out, form, **options)
    return out.getvalue()
