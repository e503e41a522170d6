"""What learning a code gives: the arrays that turn a vector into bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["linear", "neighbors"]


@dataclass(frozen=True)
class LearnedCode:
    """A code as it is kept.

    Attributes:
        kind: how bits come from a vector: `"linear"` or `"neighbors"`, see `imagelake.models.coder`.
        arrays: what is kept in the `.npz`.
    """

    kind: Kind
    arrays: Mapping[str, NDArray[Any]]


def linear_code(mean: NDArray[np.float64], projection: NDArray[np.float64]) -> LearnedCode:
    """A bit for each column of `projection` [d, bits]: set where a vector's projection exceeds that of `mean` [d]."""
    kept = projection.astype(np.float32)
    return LearnedCode("linear", {"projection": kept, "threshold": mean @ kept.astype(np.float64)})
