"""One way to name, open and compare models, wherever they come from: built from installed weights, or registered."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models import embedder as built_in
from imagelake.models import file_manifest, manifest, zoo
from imagelake.models.detector import Detector, open_detector
from imagelake.models.file_manifest import FileManifest
from imagelake.models.graph_cache import OnProgress
from imagelake.models.manifest import Manifest, Metric
from imagelake.models.registry import RegisteredModel, Registry, default_registry, open_folder

SUBJECT = "subject"

EmbedderModel = Manifest | RegisteredModel


class AnyEmbedder(Protocol):
    """An opened model that turns pictures into vectors. It may be used from several threads at once."""

    @property
    def dimensions(self) -> int:
        """The length of one vector."""

    @property
    def metric(self) -> Metric:
        """How vectors are compared."""

    @property
    def batch(self) -> int:
        """How many pictures one call takes well."""

    @property
    def min_side(self) -> int:
        """The shorter side that a picture should keep when it is decoded, in pixels."""

    def prepare(self, image_rgb: NDArray[np.uint8]) -> NDArray[Any]:
        """Bring an upright picture, uint8 [h, w, 3], to the form that `embed` takes, all of one shape."""

    def embed(self, prepared: NDArray[Any]) -> NDArray[np.float32]:
        """Turn prepared pictures [n, ...] into vectors [n, dimensions]."""


@dataclass(frozen=True)
class SubjectModel:
    """The detector that needs no file: the class activation map of the default model, in this precision."""

    precision: manifest.Precision = "fp32"


DetectorModel = RegisteredModel | SubjectModel


def choose_embedder(
    name: str | None = None,
    *,
    precision: manifest.Precision | Literal["auto"] = "auto",
    input_size: int | None = None,
    pooling: manifest.Pooling | None = None,
    registry: Registry | None = None,
    on_progress: OnProgress | None = None,
) -> EmbedderModel:
    """Find a model that embeds by its name, in the precision that is right here where that is `"auto"`.

    Args:
        name: as `imagelake models` lists it; None for the default model.
        precision: `"auto"`, `"fp32"` or `"int8"`.
        input_size: a side in pixels, of a model that is built here.
        pooling: how a feature map becomes a vector, of a model that is built here.
        registry: where other models are; None for the user's.
        on_progress: told in one line when something takes seconds.

    Raises:
        ModelError: there is no such model, it does not embed, or a value is not allowed.
    """
    if name is None or name in {model.name for model in zoo.models()}:
        chosen = zoo.manifest(
            name or zoo.models()[0].name,
            precision=precision,
            input_size=input_size,
            pooling=pooling,
        )
        return built_in.settle(chosen, on_progress) if precision == "auto" else chosen
    if input_size is not None or pooling is not None:
        raise ModelError(
            f"input size and pooling of {name} stand in its manifest; leave --input-size and --pooling out"
        )
    return _find(name, "embedder", precision, registry)


def choose_detector(
    name: str,
    *,
    precision: manifest.Precision | Literal["auto"] = "auto",
    registry: Registry | None = None,
    on_progress: OnProgress | None = None,
) -> DetectorModel:
    """Find a detector by its name; `"subject"` is always there.

    Raises:
        ModelError: there is no such model, or it does not detect.
    """
    if name != SUBJECT:
        return _find(name, "detector", precision, registry)
    settled = choose_embedder(precision=precision, on_progress=on_progress)
    return SubjectModel(settled.precision if isinstance(settled, Manifest) else "fp32")


def choose_coder(name: str, *, registry: Registry | None = None) -> RegisteredModel:
    """Find what makes binary codes of vectors.

    Raises:
        ModelError: there is no such model, or it makes no codes.
    """
    return _find(name, "coder", "auto", registry)


def _find(
    name: str, task: str, precision: manifest.Precision | Literal["auto"], registry: Registry | None
) -> RegisteredModel:
    registry = registry or default_registry()
    if name not in registry.names():
        there = [each for each in registry.names() if _task_of(registry, each) == task]
        own = {"embedder": [model.name for model in zoo.models()], "detector": [SUBJECT]}.get(task, [])
        raise ModelError(f"model {name!r} is not known; use one of {', '.join([*own, *there]) or 'none yet'}")
    model = registry.get(name)
    if model.manifest.task != task:
        is_a, wanted = (f"an {each}" if each == "embedder" else f"a {each}" for each in (model.manifest.task, task))
        raise ModelError(f"{name} is {is_a}; {wanted} is needed here")
    if precision != "auto":
        chosen = dataclasses.replace(model.manifest, precision=precision)
        return dataclasses.replace(model, manifest=chosen)
    return dataclasses.replace(model, manifest=file_manifest.settle_file(model.manifest))


def _task_of(registry: Registry, name: str) -> str | None:
    """What a model is for; None where its manifest is broken, which is told to whoever asks for that model."""
    try:
        return registry.get(name).manifest.task
    except ModelError:
        return None


def open_any_embedder(model: EmbedderModel, *, threads: int = 1, on_progress: OnProgress | None = None) -> AnyEmbedder:
    """Load a model that embeds.

    Raises:
        ModelError: its files are missing or not the right ones.
    """
    if isinstance(model, Manifest):
        return built_in.open_embedder(model, threads=threads, on_progress=on_progress)
    from imagelake.models.file_embedder import open_file_embedder  # late: only where it is needed

    return open_file_embedder(model, threads=threads)


def open_any_detector(
    model: DetectorModel,
    *,
    threads: int = 1,
    min_score: float | None = None,
    wanted: tuple[str, ...] = (),
    most: int | None = None,
    on_progress: OnProgress | None = None,
) -> Detector:
    """Load a detector.

    Args:
        model: which.
        threads: how many threads one call uses.
        min_score: boxes below it may be left out; None for the detector's own threshold.
        wanted: boxes of other labels may be left out; empty for the detector's own choice.
        most: so many boxes of a picture must be possible; None for the detector's own limit.
        on_progress: told in one line when something takes seconds.

    Raises:
        ModelError: its files are missing or not the right ones.
    """
    if isinstance(model, SubjectModel):
        from imagelake.models.subject import open_subject  # late: only where it is needed

        return open_subject(precision=model.precision, threads=threads, on_progress=on_progress)
    if min_score is not None or wanted or most:
        head = dict(model.manifest.head)
        head |= {"limit": max(head["limit"], most or 0)}
        head |= {"score_threshold": min_score} if min_score is not None else {}
        head |= {"wanted": wanted} if wanted else {}
        model = dataclasses.replace(model, manifest=dataclasses.replace(model.manifest, head=head))
    return open_detector(model, threads=threads)


def name_of(model: EmbedderModel | DetectorModel) -> str:
    """What users call the model."""
    if isinstance(model, SubjectModel):
        return SUBJECT
    return model.name if isinstance(model, Manifest) else model.manifest.name


def fingerprint_of(model: EmbedderModel | DetectorModel) -> str:
    """Names the results of the model: 64 hex digits."""
    if isinstance(model, Manifest):
        return manifest.fingerprint(model)
    if isinstance(model, RegisteredModel):
        return file_manifest.file_fingerprint(model.manifest)
    from imagelake.models.subject import SUBJECT_VERSION

    shape = [SUBJECT, SUBJECT_VERSION, manifest.fingerprint(zoo.default_manifest(model.precision))]
    return hashlib.sha256(json.dumps(shape).encode()).hexdigest()


@functools.lru_cache(maxsize=64)
def _measured(fingerprint: str, folder: str) -> int:  # noqa: ARG001  (the fingerprint is the key)

    return open_any_embedder(open_folder(Path(folder))).dimensions


def dimensions_of(model: EmbedderModel) -> int:
    """The length of one vector; a registered model is opened to find out, once a process."""
    if isinstance(model, Manifest):
        return model.dimensions
    return _measured(fingerprint_of(model), str(model.folder))


def text_of(model: EmbedderModel | DetectorModel) -> str:
    """The manifest as JSON, which an embedding set keeps."""
    if isinstance(model, SubjectModel):
        return json.dumps({SUBJECT: model.precision})
    return manifest.to_json(model) if isinstance(model, Manifest) else file_manifest.to_json(model.manifest)


def read_text(text: str) -> Manifest | FileManifest:
    """The manifest that an embedding set keeps.

    Raises:
        ModelError: it is none that this imagelake reads.
    """
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, dict) and "runtime" in told:
        return file_manifest.from_json(text)
    return manifest.from_json(text)


def metric_of(told: Manifest | FileManifest | RegisteredModel) -> Metric:
    """How vectors are compared."""
    if isinstance(told, Manifest):
        return told.metric
    head = told.manifest.head if isinstance(told, RegisteredModel) else told.head
    return "l2" if head["metric"] == "l2" else "cosine"


def find_embedder(told: Manifest | FileManifest, registry: Registry | None = None) -> EmbedderModel:
    """The model that a kept manifest tells of, to embed a query as the set was.

    Raises:
        ModelError: it is registered no more, or the one of this name gives other vectors.
    """
    return told if isinstance(told, Manifest) else _find_again(told, "embedder", registry)


def find_detector(text: str, registry: Registry | None = None) -> DetectorModel:
    """The detector that `text_of` told of.

    Raises:
        ModelError: it is registered no more, or the one of this name gives other boxes.
    """
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None  # said below
    if isinstance(told, dict) and told.get(SUBJECT) in manifest.PRECISIONS:
        return SubjectModel(told[SUBJECT])
    return _find_again(file_manifest.from_json(text), "detector", registry)


def _find_again(told: FileManifest, task: str, registry: Registry | None) -> RegisteredModel:
    found = _find(told.name, task, told.precision, registry)
    if fingerprint_of(found) != file_manifest.file_fingerprint(told):
        raise ModelError(
            f"the model {told.name} that is registered now is not the one that the lake was extracted with; add that "
            "one again, or extract with this one"
        )
    return found
