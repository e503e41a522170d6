"""A served model made of its description and one function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imagelake.serve.served_model import Answer
from imagelake.serve.tensor_info import TensorInfo, Tensors


def _nothing() -> None:
    """There is nothing to free."""


@dataclass(frozen=True)
class Served:
    """A `ServedModel` that calls a function; its other attributes are those of `ServedModel`.

    Attributes:
        compute: what `run` does; may be called from several threads at once.
        tried: what the model is warmed up with.
        on_close: frees what it holds.
    """

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    compute: Callable[[Tensors, Sequence[str]], Answer]
    fingerprint: str
    version: str = "1"
    platform: str = "python"
    description: str = ""
    labels: tuple[str, ...] = ()
    task: str = "tensors"
    max_batch: int = 0
    tried: tuple[Tensors, ...] = ()
    on_close: Callable[[], None] = _nothing

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Answer:
        """See `ServedModel.run`."""
        return self.compute(inputs, outputs)

    def examples(self) -> Sequence[Tensors]:
        """See `Warmable`."""
        return self.tried

    def close(self) -> None:
        """See `ServedModel.close`."""
        self.on_close()
