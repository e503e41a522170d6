"""A hash that says whether two pictures look alike: near pictures differ in few bits."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from imagelake.pixels.figures import WORKING_SIDE, to_luma
from imagelake.pixels.reduction import reduce_to

_HASH_SIDE = 32
_KEPT = 8
_ROUNDING = 0.01  # a coefficient this near the median is only rounding: flat pictures hash to few stable bits


def perceptual_hash(image_rgb: NDArray[np.uint8]) -> int:
    """Return the 64-bit pHash of an array [h, w, 3], uint8, RGB, as an integer from 0 to 2**64 - 1.

    Luma is reduced to 32 x 32, its cosine transform taken, and each of the lowest 8 x 8 coefficients gives one bit:
    whether it is above their median. Row by row, the first bit is the highest. Copies in another size or quality
    differ in few of the 64 bits, strangers in about 32. The method is Zauner's, "Implementation and Benchmarking of
    Perceptual Image Hash Functions" (2010); the bits are not those of other programs, whose reductions differ.
    """
    return hash_luma(to_luma(reduce_to(image_rgb, WORKING_SIDE)))


def hash_luma(luma: NDArray[np.uint8]) -> int:
    """Return the pHash of the luma [h, w], uint8, of a reduced picture: see `perceptual_hash`."""
    small: cv2.typing.MatLike = luma
    while max(small.shape[:2]) > 4 * _HASH_SIDE and min(small.shape[:2]) >= 2:  # else the products take threads
        rows, columns = small.shape[0] // 2, small.shape[1] // 2
        small = cv2.resize(small[: rows * 2, : columns * 2], (columns, rows), interpolation=cv2.INTER_AREA)
    height, width = small.shape[:2]
    lowest = (_basis(height) @ small.astype(np.float32) @ _basis(width).T).ravel()
    ordered = np.partition(lowest, (31, 32))
    median = (ordered[31] + ordered[32]) / 2
    return int.from_bytes(np.packbits(lowest > median + _ROUNDING).tobytes(), "big")


@lru_cache(maxsize=1024)
def _basis(side: int) -> NDArray[np.float32]:
    """Return the matrix [8, side] that averages `side` pixels into 32 and takes the lowest 8 cosine coefficients."""
    # Pixel p covers p/side to (p+1)/side, area a covers a/32 to (a+1)/32: each weight is the length of their overlap.
    area, pixel = np.arange(_HASH_SIDE)[:, np.newaxis] / _HASH_SIDE, np.arange(side)[np.newaxis] / side
    overlap = np.minimum(area + 1 / _HASH_SIDE, pixel + 1 / side) - np.maximum(area, pixel)
    averages = np.maximum(overlap, 0) * _HASH_SIDE
    cosines = cv2.dct(np.eye(_HASH_SIDE), flags=cv2.DCT_ROWS).T[:_KEPT]  # of rows: of the whole it would be itself
    return np.asarray(cosines @ averages, np.float32)


def hamming_distance(first: int, second: int) -> int:
    """Count the bits in which two hashes differ, 0 to 64."""
    return (first ^ second).bit_count()
