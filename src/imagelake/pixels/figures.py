"""Quality figures of a picture: bright or dark, flat or rich in contrast, sharp or blurred."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imagelake.pixels.reduction import reduce_to

WORKING_SIDE = 256
"""Figures are measured on the picture reduced so that its longer side has at most this many pixels.

So the figures of a picture and of its larger copy are comparable, and a JPEG need only be decoded at a smaller scale.
Describing photos of 400 x 533 (with a thumbnail of the same side) takes 1.3 times as long as decoding them; at 160 it
is 1.5 times, at 192 1.6 times, at 256 1.9 times. Blur narrower than a pixel of the reduced picture is not seen.
"""

BRIGHT = 250
"""Luma from which a pixel counts as burnt out: a little below 255, since JPEG and reduction soften the brightest."""

_LEAST_FLAT = 0.2  # with fewer even pixels, as in most photos, the time to look for jumps beside them is saved
_JUMP = 24  # a change of luma from one row to the next that is an edge and no shading
_CHANGE = 3  # one that is more than rounding and the noise of JPEG
_FEWEST_CHANGES = 0.01  # of all pixels: a share of fewer says little, so it is counted as a share of that many
_LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32)
_LEVELS = np.array([0.01, 0.95, 0.99], np.float32)
_TINY_SHARE = np.float32(1e-9)  # stands for zero, so that an empty bin has a logarithm; its product is zero


@dataclass(frozen=True, slots=True)
class Figures:
    """What `measure` finds. All are of 8-bit values, 0 to 255, unless said otherwise.

    `mean_rgb`, `std_rgb`: mean and standard deviation of red, green, blue. `brightness`, `contrast`: mean and standard
    deviation of luma. `sharpness`: variance of the Laplacian of luma. `entropy`: bits a pixel, 0 to 8.

    `fineness`: `sharpness` over the mean squared gradient of luma, 0 to about 8; it does not depend on contrast.
    `luma_p95`: 95 % of the pixels are at most as bright. `luma_range`: from the darkest 1 % to the brightest 1 %.
    Shares, 0 to 1: `bright_share` of pixels with luma of `BRIGHT` or more; `flat_share` of pixels that equal the one
    below; `crisp_share` of changes from row to row that are jumps with such an even pixel beside, 0 where
    `flat_share` is below 0.2.
    """

    mean_rgb: tuple[float, float, float]
    std_rgb: tuple[float, float, float]
    brightness: float
    contrast: float
    sharpness: float
    entropy: float
    fineness: float
    luma_p95: float
    luma_range: float
    bright_share: float
    flat_share: float
    crisp_share: float


def measure(image_rgb: NDArray[np.uint8]) -> Figures:
    """Measure a picture, an array [h, w, 3], uint8, RGB, after reducing its longer side to `WORKING_SIDE`.

    Luma is ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B). Sharpness is the variance of the 3 x 3 Laplacian, the focus
    measure of Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (ICPR 2000). Entropy is Shannon's,
    of the 256-bin histogram of luma.
    """
    working = reduce_to(image_rgb, WORKING_SIDE)
    return measure_working(working, to_luma(working))


def to_luma(image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the luma [h, w], uint8, of an array [h, w, 3], by ITU-R BT.601."""
    return cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)  # type: ignore[return-value]


def measure_working(working_rgb: NDArray[np.uint8], luma: NDArray[np.uint8]) -> Figures:
    """Measure a picture that is already reduced, [h, w, 3], with its luma, [h, w]: see `measure`."""
    mean_rgb, std_rgb = (moment.ravel().tolist() for moment in cv2.meanStdDev(working_rgb))
    brightness, contrast = (moment.item() for moment in cv2.meanStdDev(luma))
    laplacian = cv2.filter2D(luma, cv2.CV_16S, _LAPLACIAN)  # faster than cv2.Laplacian
    mean_square, mean = cv2.norm(laplacian, cv2.NORM_L2SQR) / luma.size, cv2.sumElems(laplacian)[0] / luma.size
    sharpness = max(mean_square - mean**2, 0.0)
    shares = cv2.calcHist([luma], [0], None, [256], [0, 256]).ravel() / luma.size
    p1, p95, p99 = np.searchsorted(np.cumsum(shares), _LEVELS).tolist()
    squared_gradient = _squared_steps(luma[:, 1:], luma[:, :-1]) + _squared_steps(luma[1:], luma[:-1])
    flat_share, crisp_share = _evenness(luma)
    return Figures(
        mean_rgb=(mean_rgb[0], mean_rgb[1], mean_rgb[2]),
        std_rgb=(std_rgb[0], std_rgb[1], std_rgb[2]),
        brightness=brightness,
        contrast=contrast,
        sharpness=sharpness,
        entropy=abs(float(shares @ np.log2(np.maximum(shares, _TINY_SHARE)))),
        fineness=sharpness / max(squared_gradient, 1.0),  # below 1 there is nothing but rounding
        luma_p95=p95,
        luma_range=p99 - p1,
        bright_share=float(shares[BRIGHT:].sum()),
        flat_share=flat_share,
        crisp_share=crisp_share,
    )


def _squared_steps(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """The mean squared difference of two arrays; 0 where they are empty."""
    return cv2.norm(one, other, cv2.NORM_L2SQR) / one.size if one.size else 0.0


def _evenness(luma: NDArray[np.uint8]) -> tuple[float, float]:
    """`flat_share` and `crisp_share`; 0 where there are too few rows to tell."""
    if luma.shape[0] < 4:  # a jump has a step above it and one below
        return 0.0, 0.0
    steps = cv2.absdiff(luma[1:], luma[:-1])
    flat_share = 1 - cv2.countNonZero(steps) / steps.size
    if flat_share < _LEAST_FLAT:
        return flat_share, 0.0
    changes = cv2.countNonZero(cv2.threshold(steps[1:-1], _CHANGE, 255, cv2.THRESH_BINARY)[1])
    _, jumps = cv2.threshold(steps[1:-1], _JUMP, 255, cv2.THRESH_BINARY)
    least = cv2.min(steps[:-2], steps[2:])  # 0 where the step above or the one below is even
    crisp = cv2.countNonZero(jumps) - cv2.countNonZero(cv2.bitwise_and(jumps, least, dst=least))
    return flat_share, crisp / max(changes, _FEWEST_CHANGES * luma.size)
