"""Classify pictures for a person: here, or on a server that speaks GraphPipe."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ImagelakeError, InputError
from imagelake.models.efficientnet_lite0.labels import LABELS
from imagelake.models.registry import Registry
from imagelake.serve.downloads import DownloadOptions, download, is_address
from imagelake.serve.graphpipe import Metadata
from imagelake.serve.graphpipe_client import AskOptions, Client
from imagelake.serve.served_model import ServedModel
from imagelake.serve.tensor_info import TensorInfo

_AT_ONCE = 8
_ONE_PICTURE = re.compile(r"\bpicture 0 (?=cannot be used|has )")  # in a message: the only one that was asked about
_LARGEST = 256 << 20  # bytes of a file
_TAKES_ADDRESSES = {"urls", "images"}
_ONLY_ADDRESSES = {"urls"}

Ask = Callable[[bytes], tuple[NDArray[Any], str | None]]
"""From the bytes of a picture, or its address, to the scores of all classes and the best one's label."""


@dataclass(frozen=True)
class Class:
    """A class that a picture may be of: its name, its place in the labels, and how likely it is."""

    label: str
    class_id: int
    probability: float


@dataclass(frozen=True)
class Classified:
    """A picture as it was named, and its classes, best first; or why there are none."""

    picture: str
    classes: tuple[Class, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class ClassifyOptions:
    """How pictures are classified.

    Attributes:
        server: the address of a GraphPipe server; None: here.
        model: without a server, a classifier by name; None for the built-in one.
        registry: where others are; None for the user's.
        top: how many classes of each picture.
        download: how addresses are fetched, where they are fetched here.
        ask: how the server is asked.
    """

    server: str | None = None
    model: str | None = None
    registry: Registry | None = None
    top: int = 1
    download: DownloadOptions = field(default_factory=DownloadOptions)
    ask: AskOptions = field(default_factory=AskOptions)


@dataclass(frozen=True)
class _Classifier:
    """Who is asked, and what it takes."""

    ask: Ask
    labels: Sequence[str]
    takes: TensorInfo | None = None  # of a server


def classify(pictures: Sequence[str], options: ClassifyOptions) -> Iterator[Classified]:
    """The likeliest classes of pictures.

    Args:
        pictures: files, or addresses of `http` and `https`.
        options: who classifies them.

    Yields:
        One for each, in their order; what cannot be classified has the reason.

    Raises:
        ImagelakeError: the model cannot be opened, or the server cannot be reached or is no classifier.
    """
    if options.top < 1:
        raise InputError(f"top is {options.top}; it must be 1 or more.")
    with Client() as client:
        classifier = _remote(client, options) if options.server else _local(options)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            yield from threads.map(partial(_classified, classifier, options), pictures)


def _classified(classifier: _Classifier, options: ClassifyOptions, picture: str) -> Classified:
    try:
        scores, label = classifier.ask(_what_to_send(picture, classifier.takes, options))
    except ImagelakeError as error:
        return Classified(picture, error=_ONE_PICTURE.sub("it ", str(error)))
    order = np.argsort(-scores, kind="stable")[: options.top]
    names = list(_names(order, scores.size, label, classifier.labels))
    return Classified(
        picture,
        tuple(Class(name, int(i), float(scores[i])) for name, i in zip(names, order, strict=True)),
    )


def _names(order: NDArray[Any], count: int, label: str | None, labels: Sequence[str]) -> Iterator[str]:
    """The labels of classes: those that are known, if the server calls the best one so too."""
    known = len(labels) == count and (label is None or label == labels[int(order[0])])
    for place, number in enumerate(order):
        yield labels[int(number)] if known else label if label and place == 0 else f"class {number}"


def _what_to_send(picture: str, takes: TensorInfo | None, options: ClassifyOptions) -> bytes:
    name = takes.name if takes else ""
    if is_address(os.fsencode(picture)):
        if name in _TAKES_ADDRESSES:
            return picture.encode()
        try:
            return download([picture], options.download)[0]
        except ImagelakeError as error:
            raise type(error)(str(error).removeprefix("Address 0, ")) from None
    if name in _ONLY_ADDRESSES:
        raise InputError("The server takes addresses only. Ask a preprocessor or a pipeline for files.")
    path = Path(picture)
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise InputError(f"That is {'a folder' if stat.S_ISDIR(about.st_mode) else 'no file'}. Name files.")
        if about.st_size > _LARGEST:
            raise InputError(f"The file has {about.st_size:,} bytes; at most {_LARGEST:,} are read.")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"The file cannot be read: {getattr(error, 'strerror', None) or error}.") from None


def _local(options: ClassifyOptions) -> _Classifier:
    from imagelake.serve.served_models import CLASSIFIER, open_named  # late: with a server nothing is run here

    model: ServedModel = open_named(options.model or CLASSIFIER, registry=options.registry)
    if model.task != "classifier":
        raise InputError(f"{model.name} is no classifier but a model for {model.task}. Give a classifier.")

    def ask(data: bytes) -> tuple[NDArray[Any], str | None]:
        found = model.run({model.inputs[0].name: _one(data)}, ["probabilities"])
        return found["probabilities"][0], None

    return _Classifier(ask, model.labels)


def _remote(client: Client, options: ClassifyOptions) -> _Classifier:
    server = options.server or ""
    metadata = client.metadata(server, options=options.ask)
    scores, label = _outputs(server, metadata)
    wanted = [scores, label] if label else [scores]

    def ask(data: bytes) -> tuple[NDArray[Any], str | None]:
        found = client.execute(server, [_one(data)], (), wanted, options=options.ask)
        rows = np.asarray(found[0], np.float64)
        if rows.ndim < 1 or not rows.size:
            raise InputError(f"The server gave {scores} of shape {list(rows.shape)}; a row for each picture is needed.")
        best = found[1].ravel()[0].decode(errors="replace") if label else None
        return rows.reshape(len(rows), -1)[0], best

    return _Classifier(ask, LABELS, metadata.inputs[0])


def _outputs(server: str, metadata: Metadata) -> tuple[str, str | None]:
    """The outputs of a server that are scores and label."""
    numbers = [info.name for info in metadata.outputs if info.dtype.startswith("float")]
    texts = [info.name for info in metadata.outputs if info.dtype == "object" and info.name == "label"]
    if not metadata.inputs or not numbers:
        gives = ", ".join(info.name for info in metadata.outputs) or "nothing that it names"
        raise InputError(
            f"{server} gives {gives}, and no probabilities. Give the address of a classifier or a pipeline; a "
            "downloader or preprocessor gives them where it was started with --next."
        )
    return ("probabilities" if "probabilities" in numbers else numbers[0]), (texts[0] if texts else None)


def _one(data: bytes) -> NDArray[Any]:
    array = np.empty(1, dtype=object)
    array[0] = data
    return array
