"""Run Caffe, TensorFlow and TFLite files with OpenCV's DNN module, on the processor."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models.file_manifest import TensorSpec
from imagelake.models.registry import RegisteredModel
from imagelake.models.runtime import check_run

SUFFIXES = (".caffemodel", ".pb", ".tflite")


class NetPool:
    """Nets of one model: a net of OpenCV serves one thread at a time, so each call borrows one.

    There are never more nets than there were calls at once; each holds its own copy of the weights.
    """

    def __init__(self, model: Path, config: Path | None, first: cv2.dnn.Net) -> None:
        self._model, self._config = model, config
        self._idle = [first]
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self) -> Iterator[cv2.dnn.Net]:
        """A net that nobody else uses; a new one where all are in use. One that failed is not used again."""
        with self._lock:
            net = self._idle.pop() if self._idle else None
        if net is None:
            net = read_net(self._model, self._config)
        yield net
        with self._lock:
            self._idle.append(net)


@dataclass(frozen=True)
class OpenCvRuntime:
    """A `Runtime` over OpenCV nets, which may be called from several threads at once.

    Inputs are float32, in the layout that OpenCV gives a net: [batch, channels, height, width], for TensorFlow and
    TFLite files too. Its outputs are the layers that the manifest names, else the last ones. How many threads a call
    uses is OpenCV's own setting for the whole process (`cv2.setNumThreads`), which this leaves as it is.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    pool: NetPool = field(repr=False)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]] | NDArray[Any]) -> dict[str, NDArray[Any]]:
        """See `Runtime.run`."""
        given = check_run(self.inputs, self.outputs, outputs, inputs)
        try:
            with self.pool.borrow() as net:
                for name, array in given.items():
                    net.setInput(array, name if len(given) > 1 else "")  # OpenCV knows the one input by no name too
                arrays = net.forward(list(outputs))
        except cv2.error as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in given.items())
            raise ModelError(f"the model failed on {shapes} ({_one_line(error)}); check its inputs") from error
        return {name: np.array(array) for name, array in zip(outputs, arrays, strict=True)}


def open_opencv(model: RegisteredModel, *, device: str = "cpu") -> OpenCvRuntime:
    """Load a registered model that OpenCV reads; see `open_runtime`.

    Raises:
        ModelError: the files cannot be read, an input is not float32, or the device is `"cuda"`.
    """
    manifest = model.manifest
    if device == "cuda":
        raise ModelError(f"{manifest.name} runs with OpenCV, whose packages have no CUDA; use the device cpu")
    config = model.path("config") if "config" in manifest.files else None
    return load_opencv(model.path(manifest.model_role), config, manifest.inputs, manifest.outputs)


def load_opencv(
    model: Path, config: Path | None, inputs: tuple[TensorSpec, ...], outputs: tuple[str, ...] = ()
) -> OpenCvRuntime:
    """Load a file as `read_net` does; its outputs are layers by name, or those that no other layer reads.

    Raises:
        ModelError: as `read_net`; or an input is not float32, or an output is no layer.
    """
    wrong = [spec.name for spec in inputs if spec.dtype != "float32"]
    if wrong:
        raise ModelError(f"inputs {wrong} of {model} are not float32, the one type that OpenCV takes; say so")
    net = read_net(model, config)
    last = tuple(net.getUnconnectedOutLayersNames())
    unknown = sorted(set(outputs) - set(net.getLayerNames()))
    if unknown:
        raise ModelError(f"outputs {unknown} are no layers of {model}; its last are {', '.join(last)}")
    return OpenCvRuntime(inputs, outputs or last, NetPool(model, config, net))


def read_net(model: Path, config: Path | None = None) -> cv2.dnn.Net:
    """Read a net by its suffix: `.caffemodel` with its `.prototxt`, `.pb` with or without a `.pbtxt`, `.tflite`.

    Raises:
        ModelError: the suffix is not one of these, a Caffe net comes without its prototxt, or OpenCV cannot read it.
    """
    suffix = model.suffix.lower()
    if suffix == ".caffemodel" and config is None:
        raise ModelError(f"{model} needs its .prototxt beside it; give both files")
    beside = str(config) if config is not None else ""
    try:
        if suffix == ".caffemodel":
            return cv2.dnn.readNetFromCaffe(beside, str(model))
        if suffix == ".pb":
            return cv2.dnn.readNetFromTensorflow(str(model), beside)
        if suffix == ".tflite":
            return cv2.dnn.readNetFromTFLite(str(model))
    except cv2.error as error:
        raise ModelError(f"OpenCV cannot read {model} ({_one_line(error)}); check that it is whole") from error
    raise ModelError(f"OpenCV does not read {model}; allowed are files that end in {', '.join(SUFFIXES)}")


def _one_line(error: Exception) -> str:
    """OpenCV's message without its line breaks."""
    return " ".join(str(error).split())
