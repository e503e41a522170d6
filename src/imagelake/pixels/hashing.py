"""A hash that says whether two pictures look alike: near pictures differ in few bits."""

from __future__ import annotations

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
    small = cv2.resize(luma, (_HASH_SIDE, _HASH_SIDE), interpolation=cv2.INTER_AREA)
    lowest = cv2.dct(small.astype(np.float32))[:_KEPT, :_KEPT].ravel()
    ordered = np.partition(lowest, (31, 32))
    median = (ordered[31] + ordered[32]) / 2
    return int.from_bytes(np.packbits(lowest > median + _ROUNDING).tobytes(), "big")


def hamming_distance(first: int, second: int) -> int:
    """Count the bits in which two hashes differ, 0 to 64."""
    return (first ^ second).bit_count()
