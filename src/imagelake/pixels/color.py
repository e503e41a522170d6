"""Every way that Pillow stores pixels, brought to 8-bit RGB without losing what can be seen."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_BAND_ROWS = 256
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def to_rgb(image: Image.Image, image_format: str) -> NDArray[np.uint8]:
    """Decode a Pillow image into an array [h, w, 3], uint8, RGB.

    - Transparency of any kind is laid on white, so that colors hidden under it stay hidden.
    - 16-bit gray is divided by 257 and rounded; it is never clipped. 16-bit color keeps its high bytes.
    - 32-bit integers and floats are stretched linearly from their own smallest to their own largest finite value;
      what is not finite, and a picture of one single value, becomes black.
    - CMYK goes through its embedded ICC profile to sRGB where it has one, else by the plain formula. The profiles of
      RGB and gray pictures are not applied.
    - Only the first frame or page is read.

    Raises:
        Exception: Whatever Pillow raises; the caller turns it into an `ImageError`.
    """
    image.load()
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image_format == "png"):
        return _scale_16_bit(np.asarray(image))
    if mode in {"I", "F"}:
        return _stretch(np.asarray(image))
    if mode in _ALPHA_MODES or "transparency" in image.info:
        return _lay_on_white(image)
    if mode == "CMYK":
        return np.array(_convert_cmyk(image))
    if mode == "LAB":
        return np.array(ImageCms.profileToProfile(image, _lab_profile(), _srgb_profile(), outputMode="RGB"))
    return np.array(image if mode == "RGB" else image.convert("RGB"))


def _in_bands(height: int, width: int, convert: Callable[[int, int], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Fill [h, w, 3] by bands of rows, so that what a conversion needs in between stays small.

    `convert(top, bottom)` gives the rows from `top` to `bottom`, [rows, w] gray or [rows, w, 3].
    """
    image_rgb = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, height)
        band = convert(top, bottom)
        image_rgb[top:bottom] = band[:, :, np.newaxis] if band.ndim == 2 else band
    return image_rgb


def _scale_16_bit(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Bring 0..65535 to 0..255."""

    def convert(top: int, bottom: int) -> NDArray[np.uint8]:
        clipped = np.clip(values[top:bottom].astype(np.int64), 0, 65_535)
        return ((clipped + 128) // 257).astype(np.uint8)

    return _in_bands(values.shape[0], values.shape[1], convert)


def _stretch(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Bring the smallest..largest finite value to 0..255."""
    bands = [values[top : top + _BAND_ROWS] for top in range(0, len(values), _BAND_ROWS)]
    finite = [band[np.isfinite(band)] for band in bands]
    lows = [float(band.min()) for band in finite if band.size]
    highs = [float(band.max()) for band in finite if band.size]
    del finite
    low, high = min(lows, default=0.0), max(highs, default=0.0)
    if high == low:
        return np.zeros((*values.shape, 3), np.uint8)

    def convert(top: int, bottom: int) -> NDArray[np.uint8]:
        numbers = values[top:bottom].astype(np.float64)
        numbers[~np.isfinite(numbers)] = low
        # Halves first: the difference of two huge floats would be infinite.
        return np.rint((numbers / 2 - low / 2) / (high / 2 - low / 2) * 255).astype(np.uint8)

    return _in_bands(values.shape[0], values.shape[1], convert)


def _lay_on_white(image: Image.Image) -> NDArray[np.uint8]:
    """Composite on a white ground."""
    if image.mode in {"La", "RGBa"}:
        image = image.convert("LA" if image.mode == "La" else "RGBA")

    def convert(top: int, bottom: int) -> NDArray[np.uint8]:
        with_alpha = image.crop((0, top, image.width, bottom)).convert("RGBA")
        ground = Image.new("RGBA", with_alpha.size, "white")
        return np.asarray(Image.alpha_composite(ground, with_alpha).convert("RGB"))

    return _in_bands(image.height, image.width, convert)


def _convert_cmyk(image: Image.Image) -> Image.Image:
    """Convert by the embedded profile if it can be used, else plainly."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, _srgb_profile(), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")


@cache
def _srgb_profile() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _lab_profile() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
