"""The default model as a classifier: pictures in, the classes of ImageNet out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models import manifest as manifests
from imagelake.models import zoo
from imagelake.models.classifier import Guess, activate
from imagelake.models.efficientnet_lite0.labels import LABELS
from imagelake.models.graph_cache import OnProgress, load_graph
from imagelake.models.manifest import Manifest
from imagelake.models.runtime import Runtime, run_in_batches
from imagelake.pixels.fit import fit

SIDE = 224
"""The side that the classes were learned with, in pixels."""

BATCH = 4

_LOGITS = "logits"


@dataclass(frozen=True)
class DefaultClassifier:
    """An opened default model with its classes. It may be used from several threads at once.

    Attributes:
        manifest: the weights and the preprocessing; pooling and metric do not count here.
        runtime: what runs the graph.
        labels: the names of the classes.
        batch: how many pictures a call takes well.
    """

    manifest: Manifest
    runtime: Runtime
    labels: tuple[str, ...] = LABELS
    batch: int = BATCH

    @property
    def min_side(self) -> int:
        """The side that a picture should keep when it is decoded at a smaller scale, in pixels."""
        return max(self.manifest.input_size_wh)

    @property
    def fingerprint(self) -> str:
        """Names the scores: 64 hex digits."""
        shape = [
            "classifier",
            manifests.fingerprint(self.manifest),
            hashlib.sha256("\n".join(self.labels).encode()).hexdigest(),
        ]
        return hashlib.sha256(json.dumps(shape).encode()).hexdigest()

    def prepare(self, image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring an upright picture, uint8 [h, w, 3], to what `scores` takes, uint8 [H, W, 3].

        Raises:
            InputError: it is not such a picture.
        """
        return fit(image_rgb, self.manifest.input_size_wh, self.manifest.resize)

    def scores(self, prepared: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """The probability of every class.

        Args:
            prepared: the arrays of `prepare`, stacked [n, H, W, 3] or one by one; n may be 0.

        Returns:
            float32 [n, classes]; each row makes 1 together.

        Raises:
            ModelError: the arrays do not fit the model.
        """
        found = np.zeros((len(prepared), len(self.labels)), np.float32)
        if not len(prepared):
            return found
        stacked = prepared if isinstance(prepared, np.ndarray) else np.stack(prepared)
        start = 0
        for count, outputs in run_in_batches(self.runtime, [_LOGITS], stacked, self.batch):
            found[start : start + count] = activate(outputs[_LOGITS][:count], "softmax")
            start += count
        return found

    def top_k(self, prepared: NDArray[Any] | Sequence[NDArray[Any]], k: int | None = None) -> list[list[Guess]]:
        """The likeliest classes of each picture, the best first; ties go to the lower number.

        Args:
            prepared: as `scores` takes it.
            k: how many; None for 5. At most as many as there are classes come back.

        Raises:
            ModelError: as `scores`; or k is below 1.
        """
        count = 5 if k is None else k
        if count < 1:
            raise ModelError(f"the top {count} classes cannot be given; ask for 1 or more")
        scores = self.scores(prepared)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        return [
            [Guess(self.labels[place], int(place), float(row[place])) for place in best]
            for row, best in zip(scores, order, strict=True)
        ]


def open_default_classifier(
    *,
    precision: Literal["auto", "fp32", "int8"] = "auto",
    threads: int = 1,
    cache_dir: Path | None = None,
    on_progress: OnProgress | None = None,
) -> DefaultClassifier:
    """Open the default model as a classifier.

    Args:
        precision: `"auto"` takes int8 where it answers right on this processor, and fp32 elsewhere.
        threads: how many threads one call uses. A runner that calls from N threads gives 1.
        cache_dir: where built graphs are kept; None for the user's cache folder.
        on_progress: told in one line when something takes seconds.

    Raises:
        ModelError: the weights are not installed or not the right ones, or int8 answers wrong on this processor.
    """
    if threads < 1:
        raise ModelError(f"{threads} threads cannot run a model; give 1 or more")
    manifest = zoo.manifest(zoo.models()[0].name, precision=precision, input_size=SIDE, resize="crop", pooling="avg")
    try:
        graph = load_graph(manifest, (_LOGITS,), cache_dir, on_progress)
    except ModelError:
        if precision != "auto" or manifest.precision == "fp32":
            raise
        manifest = dataclasses.replace(manifest, precision="fp32")
        graph = load_graph(manifest, (_LOGITS,), cache_dir, on_progress)
    # Late: whoever only reads manifests need not load the runtime.
    from imagelake.models.onnx_runtime import SessionSettings, open_session

    return DefaultClassifier(manifest, open_session(graph, SessionSettings(threads=threads)))
