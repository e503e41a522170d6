"""Every way that Pillow stores pixels, brought to 8-bit RGB without losing what can be seen."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

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


def _gray_to_rgb(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat [h, w] into [h, w, 3]."""
    return np.repeat(gray[:, :, np.newaxis], 3, axis=2)


def _scale_16_bit(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Bring 0..65535 to 0..255."""
    clipped = np.clip(values.astype(np.int64, copy=False), 0, 65_535).astype(np.uint32)
    return _gray_to_rgb(((clipped + 128) // 257).astype(np.uint8))


def _stretch(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Bring the smallest..largest finite value to 0..255."""
    numbers = values.astype(np.float64)
    finite = np.isfinite(numbers)
    if not finite.any():
        return _gray_to_rgb(np.zeros(numbers.shape, np.uint8))
    numbers[~finite] = low = numbers[finite].min()
    high = numbers.max()
    if high == low:
        return _gray_to_rgb(np.zeros(numbers.shape, np.uint8))
    # Halves first: the difference of two huge floats would be infinite.
    scaled = (numbers / 2 - low / 2) / (high / 2 - low / 2)
    return _gray_to_rgb(np.rint(scaled * 255).astype(np.uint8))


def _lay_on_white(image: Image.Image) -> NDArray[np.uint8]:
    """Composite on a white ground."""
    if image.mode in {"La", "RGBa"}:
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    with_alpha = image.convert("RGBA")
    ground = Image.new("RGBA", with_alpha.size, "white")
    return np.array(Image.alpha_composite(ground, with_alpha).convert("RGB"))


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
