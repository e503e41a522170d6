"""Learn a binary code from vectors: which methods there are, and what each asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models.coder import check_bits
from imagelake.models.codes_bihalf import learn_bihalf
from imagelake.models.codes_deepbit import Turned, learn_deepbit
from imagelake.models.codes_itq import learn_itq
from imagelake.models.codes_neighbors import learn_neighbors
from imagelake.models.codes_pca import learn_pca
from imagelake.models.learned_code import LearnedCode

Method = Literal["neighbors", "itq", "pca", "bihalf", "deepbit"]
_Learn = Callable[[NDArray[np.float32], int, np.random.Generator], LearnedCode]

_PLAIN: Mapping[str, _Learn] = MappingProxyType(
    {"neighbors": learn_neighbors, "itq": learn_itq, "pca": learn_pca, "bihalf": learn_bihalf}
)
METHODS: tuple[Method, ...] = ("neighbors", "itq", "pca", "bihalf", "deepbit")
_AT_MOST_DIMENSIONS = frozenset({"itq", "pca"})  # they have a principal component for each bit


def learn_code(
    vectors: NDArray[np.float32], bits: int, method: str, *, seed: int = 0, turned: Turned | None = None
) -> LearnedCode:
    """Learn a code.

    Args:
        vectors: float32 [n, d].
        bits: the length of a code: a multiple of 8 from 16 to 512.
        method: one of `METHODS`.
        seed: another gives another code of the same kind; the same gives the same.
        turned: for `deepbit`: vectors of turned pictures.

    Raises:
        ModelError: the method or the number of bits is not known or does not fit, or there are too few vectors.
    """
    if method not in METHODS:
        raise ModelError(f"method {method!r} is not known; use one of {', '.join(METHODS)}")
    check_bits(bits)
    rows, dimensions = vectors.shape
    if rows < least_vectors(method, bits):
        raise ModelError(
            f"{rows:,} vectors are too few to learn {bits} bits by {method}; it takes {least_vectors(method, bits):,}"
        )
    if method in _AT_MOST_DIMENSIONS and bits > dimensions:
        raise ModelError(f"{method} makes at most one bit for each of the {dimensions} numbers of a vector, not {bits}")
    random = np.random.default_rng(seed)
    if method != "deepbit":
        return _PLAIN[method](vectors, bits, random)
    if turned is None:
        raise ModelError("deepbit learns from turned pictures too; give their vectors")
    return learn_deepbit(vectors, bits, random, turned)


def least_vectors(method: str, bits: int) -> int:
    """How many vectors a method needs to learn so many bits."""
    return bits + 2 if method == "neighbors" else max(bits, 2)
