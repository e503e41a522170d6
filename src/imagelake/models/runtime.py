"""What runs a model file: one small interface, one file per library behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Runtime(Protocol):
    """A loaded model. It may be called from several threads at once."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names that `run` can be asked for."""

    def run(self, outputs: Sequence[str], image_rgb: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Run the model on a batch.

        Args:
            outputs: names out of `self.outputs`.
            image_rgb: uint8 [batch, height, width, 3], upright, of the size that the model takes.

        Returns:
            Each name with its float32 array, whose first axis is the batch.

        Raises:
            ModelError: an output is not known, or the pictures have another type or size.
        """
