"""Models of the registry, and those that are built in, as the plane serves them: tensors or encoded pictures in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imagelake.errors import ModelError
from imagelake.models import file_manifest, zoo
from imagelake.models import manifest as manifests
from imagelake.models.choice import SUBJECT, SubjectModel, choose_detector, choose_embedder, fingerprint_of
from imagelake.models.classifier import open_classifier
from imagelake.models.default_classifier import open_default_classifier
from imagelake.models.detector import FileDetector, open_detector
from imagelake.models.embedder import open_embedder
from imagelake.models.file_embedder import open_file_embedder
from imagelake.models.graph_cache import OnProgress
from imagelake.models.manifest import Manifest
from imagelake.models.registry import RegisteredModel, Registry, default_registry, open_folder
from imagelake.models.runtime import open_runtime
from imagelake.models.subject import open_subject
from imagelake.serve.bare_model import PLATFORMS, RawChoice, open_bare_file, serve_runtime
from imagelake.serve.function_model import serve_function
from imagelake.serve.picture_input import MAX_PIXELS
from imagelake.serve.picture_model import serve_classifier, serve_detector, serve_embedder
from imagelake.serve.served import Served

__all__ = ["BUILT_IN", "CLASSIFIER", "EMBEDDER", "open_bare", "open_named", "open_served", "serve_function"]

CLASSIFIER = zoo.models()[0].name
EMBEDDER = f"{CLASSIFIER}-embedder"
BUILT_IN = (CLASSIFIER, EMBEDDER, SUBJECT)
"""The models that are served without being registered."""


def open_named(
    name: str,
    *,
    registry: Registry | None = None,
    threads: int = 1,
    max_pixels: int = MAX_PIXELS,
    on_progress: OnProgress | None = None,
) -> Served:
    """Open a model by its name: one of `BUILT_IN`, or one of a registry.

    Args:
        name: of the model.
        registry: where others are; None for the user's.
        threads: how many threads one call uses.
        max_pixels: of one picture.
        on_progress: told in one line when something takes seconds.

    Raises:
        ModelError: there is no such model, or its files are missing or not the right ones.
    """
    if name == CLASSIFIER:
        classifier = open_default_classifier(threads=threads, on_progress=on_progress)
        served = serve_classifier(
            classifier, classifier.runtime.inputs[0], CLASSIFIER, classifier.fingerprint, max_pixels
        )
        told = "EfficientNet-Lite0: which of the 1,000 classes of ImageNet a picture shows"
        return dataclasses.replace(served, description=told, platform=PLATFORMS["onnx"])
    if name in {EMBEDDER, SUBJECT}:
        chosen: Manifest | RegisteredModel | SubjectModel = (
            choose_embedder(on_progress=on_progress) if name == EMBEDDER else choose_detector(SUBJECT)
        )
        return open_served(chosen, threads=threads, max_pixels=max_pixels, on_progress=on_progress)
    registry = registry or default_registry()
    if name not in registry.names():
        known = ", ".join([*BUILT_IN, *registry.names()])
        raise ModelError(f"model {name[:200]!r} is not known; use one of {known}")
    return open_served(registry.get(name), threads=threads, max_pixels=max_pixels)


def open_served(
    model: RegisteredModel | Manifest | SubjectModel,
    *,
    name: str | None = None,
    version: str = "1",
    threads: int = 1,
    device: str = "cpu",
    max_pixels: int = MAX_PIXELS,
    on_progress: OnProgress | None = None,
) -> Served:
    """Open a model to serve it.

    Args:
        model: a registered model of any task but codes; the manifest of an embedder; or the detector of subjects.
        name: as requests call it; None for its own, which for a built-in embedder is `EMBEDDER`.
        version: of it.
        threads: how many threads one call uses: 1 where several threads call.
        device: as `open_runtime` has it, for a registered model.
        max_pixels: of one picture.
        on_progress: told in one line when something takes seconds.

    Raises:
        ModelError: its files are missing or not the right ones, or it makes codes.
    """
    if isinstance(model, Manifest):
        embedder = open_embedder(model, threads=threads, on_progress=on_progress)
        told = (f"{model.name}-embedder", manifests.fingerprint(model), max_pixels)
        served = serve_embedder(embedder, embedder.runtime.inputs[0], *told)
        served = dataclasses.replace(served, platform=PLATFORMS["onnx"])
    elif isinstance(model, SubjectModel):
        served = dataclasses.replace(_open_subject(model, threads, max_pixels, on_progress), platform=PLATFORMS["onnx"])
    else:
        settled = dataclasses.replace(model, manifest=file_manifest.settle_file(model.manifest))
        served = _open_registered(settled, threads, device, max_pixels)
    return dataclasses.replace(served, name=name or served.name, version=version)


def open_bare(
    path: Path | str,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    value_inputs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    registry: Registry | None = None,
    threads: int = 1,
    max_pixels: int = MAX_PIXELS,
) -> Served:
    """Open a model file as it is: named tensors in, named tensors out.

    Args:
        path: a file that a runtime reads, such as an ONNX file; the folder of a registered model; or a name as
            `open_named` takes it. The latter two come with their preprocessing, unless one of the next three is given.
        inputs: the inputs that requests give; None for all. The file must need no other.
        outputs: the outputs that are given; None for all.
        value_inputs: input to `[type, shape]`, as the servers of old had it in a JSON file, such as
            `{"data_0": [1, [1, 3, 227, 227]]}`: the type as Caffe2 counts it, 1 for float32. It says what the file
            leaves open, and must not contradict it.
        name: as requests call it; None for the name of the file or model.
        registry: where names are looked up; None for the user's.
        threads: how many threads one call uses.
        max_pixels: of one picture.

    Raises:
        ModelError: the file cannot be run, or an input or output is not in it, or `value_inputs` contradict it.
    """
    raw = RawChoice(tuple(inputs or ()), tuple(outputs or ()), dict(value_inputs or {}))
    place = Path(path)
    if place.is_file():
        return open_bare_file(place, raw, name=name, threads=threads)
    if place.is_dir():
        model = open_folder(place)
    elif not raw.given:
        served = open_named(str(path), registry=registry, threads=threads, max_pixels=max_pixels)
        return dataclasses.replace(served, name=name or served.name)
    else:
        model = (registry or default_registry()).get(str(path))
    if not raw.given:
        return open_served(model, name=name, threads=threads, max_pixels=max_pixels)
    runtime = open_runtime(model, threads=threads)
    fingerprint = file_manifest.file_fingerprint(model.manifest)
    served = serve_runtime(runtime, name or model.manifest.name, fingerprint, raw)
    return dataclasses.replace(served, platform=PLATFORMS.get(model.manifest.runtime, model.manifest.runtime))


def _open_registered(model: RegisteredModel, threads: int, device: str, max_pixels: int) -> Served:
    manifest = model.manifest
    fingerprint = file_manifest.file_fingerprint(manifest)
    told = (manifest.name, fingerprint, max_pixels)
    if manifest.task == "classifier":
        classifier = open_classifier(model, threads=threads, device=device)
        served = serve_classifier(classifier, classifier.model.runtime.inputs[0], *told)
    elif manifest.task == "embedder":
        embedder = open_file_embedder(model, threads=threads, device=device)
        served = serve_embedder(embedder, embedder.model.runtime.inputs[0], *told)
    elif manifest.task == "detector":
        served = _open_detector(model, threads, device, told)
    else:
        served = serve_runtime(open_runtime(model, threads=threads, device=device), manifest.name, fingerprint)
    return dataclasses.replace(served, platform=PLATFORMS.get(manifest.runtime, manifest.runtime))


def _open_detector(model: RegisteredModel, threads: int, device: str, told: tuple[str, str, int]) -> Served:
    detector = open_detector(model, threads=threads, device=device)
    if not isinstance(detector, FileDetector):
        raise ModelError(f"{model.manifest.name} is no detector out of a file, which alone can be served")
    opened, most = detector.model, int(model.manifest.head["limit"])
    return serve_detector(detector, opened.runtime.inputs[0], *told, most=most, size_wh=opened.size_wh)


def _open_subject(model: SubjectModel, threads: int, max_pixels: int, on_progress: OnProgress | None) -> Served:
    detector = open_subject(precision=model.precision, threads=threads, on_progress=on_progress)
    told = (detector.runtime.inputs[0], SUBJECT, fingerprint_of(model), max_pixels)
    return serve_detector(detector, *told, most=1, size_wh=lambda row: (row.shape[1], row.shape[0]))
