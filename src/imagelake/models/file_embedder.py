"""Pictures in, vectors out, with a model of a registry: pooling, whitening, length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models.embedder import normalize
from imagelake.models.npz import read_npz
from imagelake.models.picture_model import PictureModel, open_picture_model
from imagelake.models.registry import RegisteredModel


@dataclass(frozen=True)
class Whitening:
    """What makes the dimensions of vectors alike: `(vector - mean) @ matrix`.

    Attributes:
        mean: float32 [d].
        matrix: float32 [d, k].
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]


@dataclass(frozen=True)
class FileEmbedder:
    """An opened embedder. It may be used from several threads at once.

    Attributes:
        model: the opened model.
        dimensions: the length of one vector.
        whitening: what is applied after pooling, if anything.
    """

    model: PictureModel
    dimensions: int
    whitening: Whitening | None = None

    @property
    def metric(self) -> Literal["cosine", "l2"]:
        """How vectors are compared; `"cosine"` also means that they come with length 1."""
        return cast("Literal['cosine', 'l2']", self.model.manifest.head["metric"])

    @property
    def batch(self) -> int:
        """How many pictures a call of the runtime takes well."""
        return self.model.batch

    @property
    def min_side(self) -> int:
        """The side that a picture should keep when it is decoded at a smaller scale, in pixels."""
        return self.model.min_side

    def prepare(self, image_rgb: NDArray[np.uint8]) -> NDArray[Any]:
        """Bring an upright picture, uint8 [h, w, 3], to what `embed` takes.

        Raises:
            InputError: it is not such a picture.
        """
        array: NDArray[Any] = self.model.prepare(image_rgb).array
        return array

    def embed(self, prepared: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Turn prepared pictures into vectors.

        Args:
            prepared: the arrays of `prepare`, stacked [n, ...] or one by one; n may be 0.

        Returns:
            float32 [n, dimensions]. With metric `"cosine"` each vector has length 1, but a vector of zeros stays one.

        Raises:
            ModelError: the arrays do not fit the model, or its outputs do not fit its head.
        """
        vectors = np.zeros((len(prepared), self.dimensions), np.float32)
        for positions, outputs in self.model.run(list(prepared)):
            pooled = pool(self.model, outputs[self.model.outputs[0]], len(positions))
            if self.whitening is not None:
                pooled = np.asarray((pooled - self.whitening.mean) @ self.whitening.matrix, np.float32)
            if pooled.shape[1] != self.dimensions:
                raise ModelError(
                    f"{self.model.manifest.name} gives vectors of {pooled.shape[1]} numbers for pictures of this shape "
                    f"and {self.dimensions} for others; end its transforms with one size, or pool with avg or max"
                )
            vectors[positions] = pooled
        if self.metric == "cosine":
            normalize(vectors)
        return vectors


def open_file_embedder(model: RegisteredModel, *, threads: int = 1, device: str = "cpu") -> FileEmbedder:
    """Open an embedder.

    Args:
        model: out of a registry, with the task `"embedder"`.
        threads: how many threads one call uses. A runner that calls from N threads gives 1.
        device: `"cpu"`, `"cuda"` or `"auto"`.

    Raises:
        ModelError: it is no embedder, its manifest does not fit its file, or a file was changed.
    """
    opened = open_picture_model(model, "embedder", threads=threads, device=device)
    probe = opened.prepare(np.full((48, 64, 3), 128, np.uint8)).array
    ((_, outputs),) = opened.run([probe])
    dimensions = pool(opened, outputs[opened.outputs[0]], 1).shape[1]
    whitening = read_whitening(model.path("whitening")) if "whitening" in model.manifest.files else None
    if whitening is not None:
        if len(whitening.mean) != dimensions:
            raise ModelError(
                f"the whitening of {model.manifest.name} is for vectors of {len(whitening.mean)} numbers, its vectors "
                f"have {dimensions}; give the one that was learned on them"
            )
        dimensions = whitening.matrix.shape[1]
    return FileEmbedder(opened, dimensions, whitening)


def read_whitening(path: Path) -> Whitening:
    """Read `mean` [d] and `matrix` [d, k] from an `.npz`; nothing in it is unpickled.

    Raises:
        ModelError: the file is not such a file.
    """
    try:
        arrays = read_npz(path, ("mean", "matrix"))
    except ValueError as error:
        raise ModelError(f"cannot read whitening from {path} ({error}); give an .npz with mean and matrix") from error
    with np.errstate(over="ignore"):  # what float32 cannot hold is not finite
        mean, matrix = arrays["mean"].astype(np.float32), arrays["matrix"].astype(np.float32)
    if mean.ndim != 1 or matrix.ndim != 2 or len(matrix) != len(mean) or not matrix.size:
        raise ModelError(
            f"{path} holds mean {mean.shape} and matrix {matrix.shape}; give mean [d] and matrix [d, k], d and k 1 or "
            "more"
        )
    if not (np.isfinite(mean).all() and np.isfinite(matrix).all()):
        raise ModelError(f"mean or matrix in {path} holds NaN or infinity; give finite numbers of float32")
    return Whitening(mean, matrix)


def pool(model: PictureModel, output: NDArray[Any], count: int) -> NDArray[np.float32]:
    """An output of a model as one vector a picture, the way that the head says.

    Args:
        model: what gave the output.
        output: of one call, with a row for each picture; where the model takes a batch of k exactly, k rows.
        count: how many pictures the call answers for.

    Returns:
        float32 [count, d]; d is 1 or more.

    Raises:
        ModelError: the output has not one row a picture, or the pooling does not fit the shape.
    """
    head, values = model.manifest.head, np.asarray(output, np.float32)
    rows = model.runtime.inputs[0].batch or count
    if values.ndim < 2 or len(values) != rows or not values.size:
        raise ModelError(
            f"an output of shape {values.shape} has not one vector for each of {rows} pictures, as an embedder's "
            f"[{rows}, d] or [{rows}, d, h, w]; choose another --output, or export the model with an axis of pictures"
        )
    values = values[:count]
    pooling, layout = head["pooling"], head["layout"]
    if pooling == "none" or values.ndim == 2:
        return values.reshape(len(values), -1)
    if layout == "auto":
        layout = "tokens" if values.ndim == 3 else "nhwc" if model.manifest.inputs[0].layout == "nhwc" else "nchw"
    if values.ndim != (3 if layout == "tokens" else 4) or (pooling == "cls" and layout != "tokens"):
        raise ModelError(
            f"pooling {pooling} with layout {layout} does not fit an output of shape {values.shape}; cls pools tokens "
            "[n, tokens, d], avg and max pool these or maps of features [n, d, h, w] or [n, h, w, d]"
        )
    if pooling == "cls":
        return values[:, 0]
    axes: tuple[int, ...] = {"tokens": (1,), "nchw": (2, 3), "nhwc": (1, 2)}[layout]
    if layout == "tokens":
        values = values[:, head["skip_tokens"] :]
    if 0 in values.shape:
        raise ModelError(f"skip_tokens {head['skip_tokens']} leaves no token of {output.shape[1]}; skip fewer")
    pooled = values.mean(axis=axes) if pooling == "avg" else values.max(axis=axes)
    return np.asarray(pooled, np.float32)
