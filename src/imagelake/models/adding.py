"""Bring files into a registry: with what the files say and a person adds, or with a manifest that says all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from imagelake.errors import ImagelakeError, ModelError
from imagelake.models.classifier import open_classifier
from imagelake.models.detector import open_detector
from imagelake.models.file_embedder import open_file_embedder
from imagelake.models.file_facts import unlisted_data
from imagelake.models.file_manifest import from_json
from imagelake.models.guess import Answers, draft
from imagelake.models.registry import RegisteredModel, Registry
from imagelake.models.runtime import open_runtime


def add_files(
    registry: Registry, paths: Sequence[Path], answers: Answers, *, said: Sequence[str] = (), replace: bool = False
) -> RegisteredModel:
    """Add a model; see `guess.draft` and `Registry.add`.

    Raises:
        ModelError: something is wrong or missing, or the model does not run as its manifest says.
    """
    drafted = draft(paths, answers, said)
    return registry.add(drafted.manifest, drafted.files, replace=replace, check=try_model)


def add_with_manifest(
    registry: Registry,
    paths: Sequence[Path],
    manifest: Path,
    *,
    name: str | None = None,
    int8: Path | None = None,
    replace: bool = False,
) -> RegisteredModel:
    """Add a model whose manifest somebody wrote. Files are matched by the names that it has for them.

    Args:
        registry: where to add it.
        paths: the files; those that lie beside the manifest need not be given.
        manifest: a JSON file; see `file_manifest.from_json`.
        name: another name than the manifest's.
        int8: the same model in int8, where the manifest does not list it.
        replace: whether a model of the same name may be replaced.

    Raises:
        ModelError: the manifest or a file is wrong or missing, or the model does not run as the manifest says.
    """
    try:
        text = manifest.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read {manifest} ({error}); give a manifest in JSON") from error
    try:
        told = from_json(text, manifest.parent)
    except ModelError as error:
        raise ModelError(f"{manifest}: {error}") from error
    files, sources = dict(told.files), {}
    if int8 is not None:
        files["int8"] = int8.name
        paths = [*paths, int8]
    given = {path.name: path for path in paths}
    for role, file in files.items():
        sources[role] = given.pop(file, manifest.parent / file)
    for role, path in unlisted_data(sources).items():
        files[role], sources[role] = path.name, path
        given.pop(path.name, None)
    if given:
        raise ModelError(f"{manifest} lists no file {', '.join(given)}; it lists {', '.join(files.values())}")
    complete = dataclasses.replace(told, files=files, name=name or told.name)
    return registry.add(complete, sources, replace=replace, check=try_model)


def try_model(model: RegisteredModel) -> None:
    """Open a model, and run it on pictures where its task says so: on one, and on two where it takes any number.

    Raises:
        ModelError: it does not run as its manifest says.
    """
    try:
        _run_once(model)
    except ImagelakeError:
        raise
    except Exception as error:  # a stranger's model may give anything
        raise ModelError(
            f"{model.manifest.name} does not run as its manifest says: {type(error).__name__}: {error}; "
            "mend what is said of its task, head, outputs and transforms"
        ) from error


def _run_once(model: RegisteredModel) -> None:
    import numpy as np

    image = np.full((48, 64, 3), 128, np.uint8)
    task = model.manifest.task
    if task == "detector":
        detector = open_detector(model)
        detector.detect([detector.prepare(image)])
        detector.detect([detector.prepare(image)] * 2)
    elif task == "classifier":
        classifier = open_classifier(model)
        classifier.scores([classifier.prepare(image)])
        classifier.scores([classifier.prepare(image)] * 2)
    elif task == "embedder":
        embedder = open_file_embedder(model)
        embedder.embed([embedder.prepare(image)])
        embedder.embed([embedder.prepare(image)] * 2)
    elif task == "tensor":
        open_runtime(model)
