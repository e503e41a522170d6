"""Pictures in, vectors out: a model with its preprocessing, pooling and metric."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models import zoo
from imagelake.models.graph_cache import OnProgress, load_graph
from imagelake.models.manifest import Manifest, Metric
from imagelake.models.runtime import Runtime
from imagelake.pixels.fit import fit

# The pictures of one call of the runtime: more are no faster and hold more memory (benchmarks/session_settings.py).
BATCH = 4

_OUTPUT_OF_POOLING = {"avg": "features_avg", "max": "features_max", "none": "feature_map"}


@dataclass(frozen=True)
class Embedder:
    """An opened model. It may be used from several threads at once.

    Attributes:
        manifest: what was opened; `fingerprint(manifest)` names its vectors.
        runtime: what runs the graph.
    """

    manifest: Manifest
    runtime: Runtime

    @property
    def dimensions(self) -> int:
        """The length of one vector."""
        return self.manifest.dimensions

    @property
    def metric(self) -> Metric:
        """How vectors are compared: `"cosine"` or `"l2"`."""
        return self.manifest.metric

    @property
    def batch(self) -> int:
        """How many pictures one call of the runtime takes well."""
        return BATCH

    @property
    def min_side(self) -> int:
        """The shorter side that a picture should keep when it is decoded at a smaller scale, in pixels."""
        return max(self.manifest.input_size_wh)

    def prepare(self, image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring an upright picture, uint8 [h, w, 3], to the size that `embed` takes, uint8 [H, W, 3].

        Raises:
            InputError: it is not such a picture.
        """
        return fit(image_rgb, self.manifest.input_size_wh, self.manifest.resize)

    def embed(self, images_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn prepared pictures into vectors.

        Args:
            images_rgb: uint8 [n, height, width, 3] of the manifest's input size; n may be 0.

        Returns:
            float32 [n, manifest.dimensions]. With metric `"cosine"` each vector has length 1, but a vector of zeros
            stays one. The same picture gives the same vector in any batch, to 1e-5 of its length in fp32.

        Raises:
            ModelError: the pictures have another type or size.
        """
        width, height = self.manifest.input_size_wh
        if images_rgb.dtype != np.uint8 or images_rgb.shape[1:] != (height, width, 3):
            raise ModelError(
                f"pictures of type {images_rgb.dtype} and shape {images_rgb.shape} do not fit {self.manifest.name}; "
                f"give uint8 [n, {height}, {width}, 3], as `prepare` makes them"
            )
        output = _OUTPUT_OF_POOLING[self.manifest.pooling]
        vectors = np.empty((len(images_rgb), self.manifest.dimensions), np.float32)
        for start in range(0, len(images_rgb), BATCH):
            batch = images_rgb[start : start + BATCH]
            vectors[start : start + BATCH] = self.runtime.run([output], batch)[output].reshape(len(batch), -1)
        if self.manifest.metric == "cosine":
            normalize(vectors)
        return vectors


def open_embedder(
    manifest: Manifest,
    *,
    threads: int = 1,
    cache_dir: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Embedder:
    """Open a model for embedding.

    Args:
        manifest: the model and its preprocessing.
        threads: how many threads one call of `embed` uses. A runner that calls from N threads gives 1.
        cache_dir: where built graphs are kept; None for the user's cache folder.
        on_progress: told in one line when something takes seconds.

    Raises:
        ModelError: the weights are not installed or not the right ones, or int8 answers wrong on this processor.
    """
    if threads < 1:
        raise ModelError(f"{threads} threads cannot run a model; give 1 or more")
    graph = load_graph(manifest, (_OUTPUT_OF_POOLING[manifest.pooling],), cache_dir, on_progress)
    # Late: whoever only reads manifests need not load the runtime.
    from imagelake.models.onnx_runtime import SessionSettings, open_session

    return Embedder(manifest, open_session(graph, SessionSettings(threads=threads)))


def settle(manifest: Manifest, on_progress: OnProgress | None = None, cache_dir: Path | None = None) -> Manifest:
    """The manifest in the precision that is right here: what precision `auto` means.

    A manifest in int8 stays so where the check against fp32 passes; where it fails, the same in fp32 comes back.

    Raises:
        ModelError: the weights are not installed or not the right ones.
    """
    if manifest.precision == "fp32":
        return manifest
    try:
        load_graph(manifest, (_OUTPUT_OF_POOLING[manifest.pooling],), cache_dir, on_progress)
    except ModelError as error:
        if on_progress is not None:
            on_progress(f"going on in fp32: {error}")
        return dataclasses.replace(manifest, precision="fp32")
    return manifest


def settle_default(on_progress: OnProgress | None = None) -> Manifest:
    """The default model in the precision that is right here: see `settle`."""
    return settle(zoo.default_manifest(), on_progress)


def normalize(vectors: NDArray[np.float32]) -> None:
    """Scale each row of float32 [n, d] to length 1 in place; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.divide(vectors, lengths, out=vectors, where=lengths > 0)
