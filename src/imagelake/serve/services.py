"""Small services that speak GraphPipe, each a process: downloader, preprocessor, classifier, and all in one.

They are chained by configuration: a downloader hands what it fetched to its next service, a preprocessor its tensor,
and each answers with what the last one gives. The pipeline is the same in one process: there the pictures go from hand
to hand without being sent, and one queue puts the pictures of several callers into one run of the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError, ModelError, TooLargeError
from imagelake.models.classifier import open_classifier
from imagelake.models.default_classifier import open_default_classifier
from imagelake.models.file_manifest import TensorSpec
from imagelake.models.registry import Registry, default_registry
from imagelake.serve.downloads import DownloadOptions, download, is_address
from imagelake.serve.next_hop import NextHop
from imagelake.serve.picture_input import MAX_PIXELS, PictureReader, gray_picture
from imagelake.serve.plane import BatchOptions, Plane, TensorInfo, Tensors
from imagelake.serve.served import Served
from imagelake.serve.served_model import Answer
from imagelake.serve.served_models import CLASSIFIER, open_named

Kind = Literal["downloader", "preprocessor", "classifier", "pipeline"]

ADDRESSES, PICTURES, EITHER = "urls", "pictures", "images"
"""The names of the inputs: addresses; encoded pictures; each element one or the other."""

_WAITING_THREADS = 16  # of a service that waits for others most of the time
_TOLD_ADDRESSES = "addresses of http and https"
_TOLD_PICTURES = "encoded pictures: JPEG, PNG, WebP and so on"


@dataclass(frozen=True)
class ServiceOptions:
    """What the services do.

    Attributes:
        model: a classifier by name; None for the built-in one.
        registry: where others are; None for the user's.
        download: what a request may make this machine fetch.
        max_pixels: of one picture.
        max_bytes: of the tensor that a preprocessor makes for one request.
        timeout_s: of one request.
    """

    model: str | None = None
    registry: Registry | None = None
    download: DownloadOptions = field(default_factory=DownloadOptions)
    max_pixels: int = MAX_PIXELS
    max_bytes: int = 64 << 20
    timeout_s: float = 30.0


def load_service(kind: Kind, plane: Plane, options: ServiceOptions, following: NextHop | None = None) -> None:
    """Load what a service serves into a plane; what answers callers who name no model is the service.

    Args:
        kind: which service.
        plane: empty.
        options: of it.
        following: where a downloader or preprocessor sends what it has; None: it answers with that.

    Raises:
        InputError: the model is no classifier.
        ModelError: it cannot be opened.
    """
    waiting = BatchOptions(instances=_WAITING_THREADS)
    if kind == "downloader":
        plane.load(_downloader(options, following), waiting)
    elif kind == "preprocessor":
        plane.load(_preprocessor(options, following), waiting if following else BatchOptions())
    else:
        model = _open_classifier(options)
        plane.load(model)
        if kind == "pipeline":
            plane.load(_pipeline(plane, model, options), waiting)
            plane.default = kind


def _open_classifier(options: ServiceOptions) -> Served:
    model = open_named(options.model or CLASSIFIER, registry=options.registry, max_pixels=options.max_pixels)
    if model.task != "classifier":
        model.close()
        raise InputError(f"{model.name} is no classifier but a model for {model.task}. Give a classifier.")
    return model


def _downloader(options: ServiceOptions, following: NextHop | None) -> Served:
    def compute(inputs: Tensors, outputs: Sequence[str]) -> Answer:
        until = time.monotonic() + options.timeout_s
        fetched = _strings(download(inputs[ADDRESSES].tolist(), options.download))
        return following.ask({PICTURES: fetched}, outputs, until - time.monotonic()) if following else {"data": fetched}

    given = (TensorInfo("data", "object", (-1,), "the bytes at each address"),)
    takes = (TensorInfo(ADDRESSES, "object", (-1,), _TOLD_ADDRESSES),)
    return _service("downloader", takes, given, compute, following)


def _preprocessor(options: ServiceOptions, following: NextHop | None) -> Served:
    spec, reader = _open_reader(options)
    one = np.asarray(reader.read([gray_picture()])[0], spec.dtype)
    sides, most = one.shape, max(1, options.max_bytes // one.nbytes)

    def compute(inputs: Tensors, outputs: Sequence[str]) -> Answer:
        until = time.monotonic() + options.timeout_s
        pictures = inputs[PICTURES]
        if len(pictures) > most:
            raise TooLargeError(
                f"{len(pictures):,} pictures; at most {most:,} are prepared for one request. Send fewer."
            )
        prepared = np.empty((len(pictures), *sides), spec.dtype)
        for place, array in enumerate(reader.read(pictures)):
            prepared[place] = array
        if following is None:
            return {spec.name: prepared}
        return following.ask({spec.name: prepared}, outputs, until - time.monotonic())

    given = (TensorInfo(spec.name, spec.dtype, (-1, *sides), "pictures as the model takes them"),)
    return _service("preprocessor", (TensorInfo(PICTURES, "object", (-1,), _TOLD_PICTURES),), given, compute, following)


def _open_reader(options: ServiceOptions) -> tuple[TensorSpec, PictureReader[NDArray[Any]]]:
    """How a classifier wants its pictures, and what prepares them."""
    name = options.model or CLASSIFIER
    if name == CLASSIFIER:
        built_in = open_default_classifier()
        return built_in.runtime.inputs[0], PictureReader(built_in.prepare, built_in.min_side, options.max_pixels)
    registry = options.registry or default_registry()
    if name not in registry.names():
        known = ", ".join([CLASSIFIER, *registry.names()])
        raise ModelError(f"model {name[:200]!r} is not known; use one of {known}")
    opened = open_classifier(registry.get(name))
    return opened.model.runtime.inputs[0], PictureReader(opened.prepare, opened.min_side, options.max_pixels)


def _pipeline(plane: Plane, model: Served, options: ServiceOptions) -> Served:
    def compute(inputs: Tensors, outputs: Sequence[str]) -> Answer:
        until = time.monotonic() + options.timeout_s
        given = inputs[EITHER].tolist()
        places = [place for place, each in enumerate(given) if is_address(each)]
        fetched = download([given[place] for place in places], options.download, places)
        for place, data in zip(places, fetched, strict=True):
            given[place] = data
        left_s = max(0.0, until - time.monotonic())
        return plane.infer(model.name, {model.inputs[0].name: _strings(given)}, outputs, timeout_s=left_s)

    takes = (TensorInfo(EITHER, "object", (-1,), f"{_TOLD_ADDRESSES}, or {_TOLD_PICTURES}"),)
    return _service("pipeline", takes, model.outputs, compute, None, labels=model.labels)


def _service(
    name: str,
    takes: tuple[TensorInfo, ...],
    gives: tuple[TensorInfo, ...],
    compute: Callable[[Tensors, Sequence[str]], Answer],
    following: NextHop | None,
    *,
    labels: tuple[str, ...] = (),
) -> Served:
    return Served(
        name,
        takes,
        following.outputs if following else gives,
        compute,
        fingerprint=name,
        description=f"{takes[0].description} in; then {following.outputs[0].name}" if following else "",
        labels=labels,
        task="function",
        on_close=following.client.close if following else lambda: None,
    )


def _strings(values: Sequence[bytes]) -> NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
