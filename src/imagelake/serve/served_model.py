"""What stands behind a name: a model that takes named arrays and gives named arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from imagelake.serve.tensor_info import TensorInfo, Tensors

Answer = dict[str, NDArray[Any]]
"""Arrays by name, as a model gives them."""

TASKS = ("tensors", "classifier", "detector", "embedder", "search", "function")


class ServedModel(Protocol):
    """A model that is ready to run. `run` may be called from several threads at once."""

    @property
    def name(self) -> str:
        """As requests call it."""

    @property
    def version(self) -> str:
        """Such as `"1"`."""

    @property
    def platform(self) -> str:
        """What runs it, such as `"onnxruntime_onnx"`."""

    @property
    def description(self) -> str:
        """For people."""

    @property
    def fingerprint(self) -> str:
        """Models with the same fingerprint give the same answers."""

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """What it takes. With `max_batch` above 0 the first side of each is the batch, -1."""

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """What it gives. With `max_batch` above 0 the first side of each is the batch, -1."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes of a classifier or detector; of others none."""

    @property
    def task(self) -> str:
        """What it is for, one of `TASKS`."""

    @property
    def max_batch(self) -> int:
        """How many rows a call of `run` takes well; 0 where rows of different requests must not be put together."""

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Give the outputs that are asked for, a row for each row of the inputs, the same whatever stands beside it.

        Raises:
            ImagelakeError: the inputs cannot be used; the message is for whoever sent them.
        """

    def close(self) -> None:
        """Free what it holds; nothing calls it after that."""


@runtime_checkable
class Warmable(Protocol):
    """A model that is slow the first time."""

    def examples(self) -> Sequence[Tensors]:
        """Inputs to run before it is called ready."""
