"""Pictures in, names out: a classifier with its preprocessing, its scores and its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models.picture_model import PictureModel, open_picture_model
from imagelake.models.registry import RegisteredModel


@dataclass(frozen=True)
class Guess:
    """One class that a picture may be of.

    Attributes:
        label: its name.
        class_id: its place in the labels.
        score: as the head makes it: of all classes 1 together with softmax.
    """

    label: str
    class_id: int
    score: float


@dataclass(frozen=True)
class FileClassifier:
    """An opened classifier. It may be used from several threads at once."""

    model: PictureModel

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.model.manifest.labels

    @property
    def batch(self) -> int:
        """How many pictures a call of the runtime takes well."""
        return self.model.batch

    @property
    def min_side(self) -> int:
        """The side that a picture should keep when it is decoded at a smaller scale, in pixels."""
        return self.model.min_side

    def prepare(self, image_rgb: NDArray[np.uint8]) -> NDArray[Any]:
        """Bring an upright picture, uint8 [h, w, 3], to what `scores` takes.

        Raises:
            InputError: it is not such a picture.
        """
        array: NDArray[Any] = self.model.prepare(image_rgb).array
        return array

    def scores(self, prepared: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """The score of every class.

        Args:
            prepared: the arrays of `prepare`, stacked [n, ...] or one by one; n may be 0.

        Returns:
            float32 [n, classes].

        Raises:
            ModelError: the arrays do not fit the model, or it has another number of classes than labels.
        """
        found = np.zeros((len(prepared), len(self.labels)), np.float32)
        for positions, outputs in self.model.run(list(prepared)):
            values = np.asarray(outputs[self.model.outputs[0]], np.float32)[: len(positions)]
            values = values.reshape(len(values), -1)
            if values.shape != (len(positions), len(self.labels)):
                raise ModelError(
                    f"{self.model.manifest.name} has {len(self.labels)} labels and gives {values.shape[1]} scores a "
                    "picture; give as many labels as classes, in their order"
                )
            found[positions] = activate(values, self.model.manifest.head["activation"])
        return found

    def top_k(self, prepared: NDArray[Any] | Sequence[NDArray[Any]], k: int | None = None) -> list[list[Guess]]:
        """The likeliest classes of each picture, the best first; ties go to the lower number.

        Args:
            prepared: as `scores` takes it.
            k: how many; None for what the manifest says. At most as many as there are classes come back.

        Raises:
            ModelError: as `scores`; or k is below 1.
        """
        count = self.model.manifest.head["top_k"] if k is None else k
        if count < 1:
            raise ModelError(f"the top {count} classes cannot be given; ask for 1 or more")
        scores = self.scores(prepared)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        return [
            [Guess(self.labels[i], int(i), float(row[i])) for i in best]
            for row, best in zip(scores, order, strict=True)
        ]


def open_classifier(model: RegisteredModel, *, threads: int = 1, device: str = "cpu") -> FileClassifier:
    """Open a classifier.

    Args:
        model: out of a registry, with the task `"classifier"`.
        threads: how many threads one call uses. A runner that calls from N threads gives 1.
        device: `"cpu"`, `"cuda"` or `"auto"`.

    Raises:
        ModelError: it is no classifier, its manifest does not fit its file, or a file was changed.
    """
    return FileClassifier(open_picture_model(model, "classifier", threads=threads, device=device))


def activate(values: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """Logits [n, classes] as scores: `"softmax"`, `"sigmoid"` or `"none"`."""
    if activation == "softmax":
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
    if activation == "sigmoid":
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-values)), np.float32)
    return values
