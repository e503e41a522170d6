"""How two pictures differ: laid over each other where they show the same, then subtracted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.pixels.figures import to_luma
from imagelake.pixels.reduction import reduce_to

_LOOK_SIDE = 160  # at which the place of a part is looked for
_LEAST_PART = 0.6  # of each side; smaller parts are other pictures
_BETTER = 0.02  # in correlation; so much better must a part or a mirrored picture fit than the whole
_PEAK = 255.0
_SSIM_WINDOW = (11, 11)
_SSIM_SIGMA = 1.5
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2

_STOPS = np.array([[16, 18, 28], [70, 30, 120], [190, 50, 90], [250, 150, 40], [255, 250, 190]], np.float32)
"""What a difference looks like, from none to all: dark over violet, red and orange to light, RGB."""


@dataclass(frozen=True)
class Overlay:
    """Two pictures laid over each other.

    Attributes:
        one, other: uint8 [h, w, 3], RGB, of one size.
        part_of: `"one"` or `"other"` where a part of it was taken, since the other picture shows that alone; else None.
        part_xyxy: which part, in [0, 1] of its sides.
        mirrored: the other was mirrored, left to right.
        stretched: their sides have other proportions, and the other was stretched to those of the one.
    """

    one: NDArray[np.uint8]
    other: NDArray[np.uint8]
    part_of: str | None
    part_xyxy: tuple[float, float, float, float]
    mirrored: bool
    stretched: bool


@dataclass(frozen=True)
class Difference:
    """By how much two pictures of one size differ.

    Attributes:
        mean: mean absolute difference of the channels, 0 to 255.
        most: the largest.
        changed: share of the pixels of which a channel differs by more than 8 of 255.
        psnr_db: peak signal-to-noise ratio; None where nothing differs.
        ssim: structural similarity of luma, 1 for equal ones (Wang et al. 2004, Gaussian window, sigma 1.5).
    """

    mean: float
    most: int
    changed: float
    psnr_db: float | None
    ssim: float


def overlay(one_rgb: NDArray[np.uint8], other_rgb: NDArray[np.uint8], side: int = 1024) -> Overlay:
    """Lay two upright pictures over each other, at the size of the smaller, the longer side at most `side` pixels.

    Looked for is: the same picture in another size, a part of at least 60 % of the sides of one of them, and each of
    these mirrored. What fits best by far is taken; nothing is turned.
    """
    looks = [_look(each) for each in (one_rgb, other_rgb)]
    mirrored, part_of, part = _placed(*looks)
    if mirrored:
        other_rgb = np.ascontiguousarray(other_rgb[:, ::-1])
    if part_of == "one":
        one_rgb = _cut(one_rgb, part)
    elif part_of == "other":
        other_rgb = _cut(other_rgb, part)
    aspects = [each.shape[1] / each.shape[0] for each in (one_rgb, other_rgb)]
    stretched = abs(math.log(aspects[0] / aspects[1])) > 0.02
    smaller = min((one_rgb, other_rgb), key=lambda each: each.shape[0] * each.shape[1])
    target = reduce_to(smaller, side)
    size_wh = (target.shape[1], target.shape[0])
    return Overlay(_sized(one_rgb, size_wh), _sized(other_rgb, size_wh), part_of, part, mirrored, stretched)


def measure_difference(one_rgb: NDArray[np.uint8], other_rgb: NDArray[np.uint8]) -> Difference:
    """Compare two pictures of one size, uint8 [h, w, 3].

    Raises:
        InputError: their sizes differ.
    """
    _check_same(one_rgb, other_rgb)
    apart = cv2.absdiff(one_rgb, other_rgb)
    squared = float(np.mean(np.square(apart, dtype=np.float32)))
    return Difference(
        mean=float(apart.mean()),
        most=int(apart.max()),
        changed=float((apart.max(axis=2) > 8).mean()),
        psnr_db=None if squared == 0 else 10 * math.log10(_PEAK * _PEAK / squared),
        ssim=_ssim(to_luma(one_rgb), to_luma(other_rgb)),
    )


def draw_difference(one_rgb: NDArray[np.uint8], other_rgb: NDArray[np.uint8], gain: float) -> NDArray[np.uint8]:
    """Draw where two pictures of one size differ, uint8 [h, w, 3]: dark where not at all, light from 255 / `gain` on.

    Raises:
        InputError: their sizes differ, or the gain is not 1 to 64.
    """
    _check_same(one_rgb, other_rgb)
    if not 1 <= gain <= 64:
        raise InputError(f"The gain is {gain:g}; give 1 to 64.")
    apart = cv2.absdiff(one_rgb, other_rgb).max(axis=2)
    colored: NDArray[np.uint8] = difference_colors(gain)[apart]
    return colored


def difference_colors(gain: float) -> NDArray[np.uint8]:
    """The color of each difference from 0 to 255, uint8 [256, 3]."""
    share = np.minimum(np.arange(256) * gain / _PEAK, 1.0) * (len(_STOPS) - 1)
    places = np.arange(len(_STOPS))
    return np.stack([np.interp(share, places, _STOPS[:, each]) for each in range(3)], axis=1).round().astype(np.uint8)


def encode_png(image_rgb: NDArray[np.uint8]) -> bytes:
    """A picture, uint8 [h, w, 3], as PNG."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_PNG_COMPRESSION, 3))
    return encoded.tobytes()


def _check_same(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> None:
    if one.shape != other.shape:
        raise InputError(f"The pictures have shapes {one.shape} and {other.shape}; lay them over each other first.")


def _look(image_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A small gray copy, float32 [h, w]."""
    return to_luma(reduce_to(image_rgb, _LOOK_SIDE)).astype(np.float32)


def _placed(
    one: NDArray[np.float32], other: NDArray[np.float32]
) -> tuple[bool, str | None, tuple[float, float, float, float]]:
    """Whether the other is mirrored, whose part fits, and which."""
    whole = (0.0, 0.0, 1.0, 1.0)
    best: tuple[float, bool, str | None, tuple[float, float, float, float]] = (
        _alike(one, other) + _BETTER, False, None, whole,
    )  # fmt: skip
    for mirrored in (False, True):
        turned = np.ascontiguousarray(other[:, ::-1]) if mirrored else other
        found: list[tuple[float, bool, str | None, tuple[float, float, float, float]]] = []
        if mirrored:
            found.append((_alike(one, turned), True, None, whole))
        for name, large, small in (("one", one, turned), ("other", turned, one)):
            score, part = _best_part(large, small)
            found.append((score - _BETTER, mirrored, name, part))
        best = max([best, *found], key=lambda each: each[0])
    return best[1:]


def _alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The correlation of two pictures, brought to one size."""
    sized = cv2.resize(other, (one.shape[1], one.shape[0]), interpolation=cv2.INTER_AREA)
    return float(cv2.matchTemplate(one, sized.astype(np.float32), cv2.TM_CCOEFF_NORMED)[0, 0])


def _best_part(
    large: NDArray[np.float32], small: NDArray[np.float32]
) -> tuple[float, tuple[float, float, float, float]]:
    """Where in the large picture the small one fits best at any scale: the correlation, and the place in [0, 1]."""
    height, width = large.shape
    aspect = small.shape[1] / small.shape[0]
    best, place = -1.0, (0.0, 0.0, 1.0, 1.0)
    for share in np.arange(1.0, _LEAST_PART - 1e-9, -0.02):
        wide = width * share if aspect >= width / height else height * share * aspect
        size = max(8, min(width, round(wide))), max(8, min(height, round(wide / aspect)))
        if size[0] > width or size[1] > height or min(size[0] / width, size[1] / height) < _LEAST_PART:
            continue
        fits = cv2.matchTemplate(large, cv2.resize(small, size, interpolation=cv2.INTER_AREA), cv2.TM_CCOEFF_NORMED)
        _, score, _, (left, top) = cv2.minMaxLoc(fits)
        if math.isfinite(score) and score > best:
            best = score
            place = (left / width, top / height, (left + size[0]) / width, (top + size[1]) / height)
    return best, place


def _cut(image: NDArray[np.uint8], part: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    left, top, right, bottom = (round(each * side) for each, side in zip(part, (width, height) * 2, strict=True))
    return np.ascontiguousarray(image[top : max(bottom, top + 1), left : max(right, left + 1)])


def _sized(image: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    if (image.shape[1], image.shape[0]) == size_wh:
        return image
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def _ssim(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Structural similarity of two gray pictures, uint8 [h, w]."""
    a, b = one.astype(np.float32), other.astype(np.float32)

    def blurred(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(image, _SSIM_WINDOW, _SSIM_SIGMA), np.float32)

    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    both = blurred(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + _C1) * (2 * both + _C2)
    return float(np.mean(top / ((mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2))))
