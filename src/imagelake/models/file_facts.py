"""What the files of a model say themselves: which runs them, what goes in, what comes out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models.file_manifest import TensorSpec
from imagelake.models.runtime import Runtime

_RUNTIMES = {
    ".onnx": "onnx",
    ".caffemodel": "opencv",
    ".pb": "opencv",
    ".tflite": "opencv",
    ".pt2": "torch",
    ".pt": "torch",
    ".pth": "torch",
    ".ts": "torch",
    ".torchscript": "torch",
}
_BESIDE = {".prototxt": "config", ".pbtxt": "config", ".npz": "whitening", ".npy": "mean"}


@dataclass(frozen=True)
class FileFacts:
    """What the files say.

    Attributes:
        files: role to file.
        runtime: the word of the runtime that runs them.
        inputs: what goes in; sides that no file says are -1.
        outputs: name to what came out for a gray picture; empty where no size is known to try with.
    """

    files: Mapping[str, Path]
    runtime: str
    inputs: tuple[TensorSpec, ...]
    outputs: Mapping[str, NDArray[Any]]

    @property
    def channels_first(self) -> bool:
        """Whether the channels of the first input come before its height."""
        return self.inputs[0].layout == "nchw"

    @property
    def channels(self) -> int:
        """How many channels the first input has; 3 where the file leaves it open."""
        side = self.inputs[0].shape[1 if self.channels_first else -1]
        return side if side > 0 else 3

    @property
    def size_wh(self) -> tuple[int, int] | None:
        """Width and height of the pictures, where the file says them."""
        height, width = self.inputs[0].shape[2:4] if self.channels_first else self.inputs[0].shape[1:3]
        return (width, height) if min(width, height) > 0 else None


def sort_files(paths: Sequence[Path], int8: Path | None = None) -> dict[str, Path]:
    """Give each file its role by its suffix; the external data of ONNX files is found beside them.

    Raises:
        ModelError: a file is missing or of a kind that nothing reads, or there is not one model among them.
    """
    files: dict[str, Path] = {}
    for path in paths:
        suffix = path.suffix.lower()
        role = "model" if suffix in _RUNTIMES else _BESIDE.get(suffix)
        if role is None:
            known = ", ".join([*_RUNTIMES, *_BESIDE])
            raise ModelError(f"nothing runs {path}; give files that end in {known}")
        if role in files:
            raise ModelError(f"{files[role]} and {path} are both a {role}; give one of them")
        if not path.is_file():
            raise ModelError(f"there is no file {path}; check its name")
        files[role] = path
    if "model" not in files:
        raise ModelError(
            f"no model is among {[str(p) for p in paths]}; give a file that ends in {', '.join(_RUNTIMES)}"
        )
    if files["model"].suffix.lower() == ".caffemodel" and "config" not in files:
        likely = files["model"].with_suffix(".prototxt")
        raise ModelError(f"a Caffe model needs its .prototxt too; run it again with {files['model']} {likely}")
    if int8 is not None:
        files["int8"] = int8
    return files | unlisted_data(files)


def unlisted_data(files: Mapping[str, Path]) -> dict[str, Path]:
    """The external data of the ONNX files among some files, with roles, as far as it is not among them.

    Raises:
        ModelError: as `external_data`.
    """
    found: dict[str, Path] = {}
    for role, prefix in (("model", "external"), ("int8", "int8-external")):
        if role in files and files[role].suffix.lower() == ".onnx":
            listed = {path.name for path in files.values()}
            data = [path for path in external_data(files[role]) if path.name not in listed]
            found |= {f"{prefix}-{number}": path for number, path in enumerate(data)}
    return found


def external_data(model: Path) -> list[Path]:
    """The files beside an ONNX file that hold its weights, if any does.

    Raises:
        ModelError: it is no ONNX file, or one of them lies elsewhere or is missing.
    """
    import onnx  # late: it is heavy

    try:
        graph = onnx.load(str(model), load_external_data=False)
    except Exception as error:  # of protobuf and of the system, with no common base but this
        raise ModelError(f"{model} is no ONNX file ({error}); give one that is whole") from error
    names: dict[str, None] = {}
    for tensor in _tensors(graph.graph):
        for entry in tensor.external_data:
            if entry.key == "location":
                names[entry.value] = None
    for name in names:
        if Path(name).name != name or not (model.parent / name).is_file():
            raise ModelError(f"{model} keeps weights in {name!r}, which is no file beside it; put it there")
    return [model.parent / name for name in names]


def read_inputs(
    files: Mapping[str, Path], size_wh: tuple[int, int] | None, channels: int, outputs: tuple[str, ...] = ()
) -> FileFacts:
    """Open the files and look at their inputs only, whatever these are; see `read_facts`.

    Raises:
        ModelError: the files cannot be run.
    """
    name = _RUNTIMES[files["model"].suffix.lower()]
    return FileFacts(files, name, _open(name, files, size_wh, channels, outputs).inputs, {})


def read_facts(
    files: Mapping[str, Path], size_wh: tuple[int, int] | None, channels: int, outputs: tuple[str, ...] = ()
) -> FileFacts:
    """Open the files and try them with a gray picture.

    Args:
        files: role to file, as `sort_files` gives them.
        size_wh: the size to try with where no file says one.
        channels: how many channels pictures have where no file says it.
        outputs: what to ask for; empty for all.

    Raises:
        ModelError: the files cannot be run, or an input does not take pictures.
    """
    name = _RUNTIMES[files["model"].suffix.lower()]
    runtime = _open(name, files, size_wh, channels, outputs)
    inputs = tuple(_with_layout(spec) for spec in runtime.inputs)
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        shapes = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in inputs)
        raise ModelError(
            f"{files['model']} takes {shapes}, where a model for pictures takes one input [batch, channels, height, "
            "width] or [batch, height, width, channels]; add it with --task tensor, for arrays in and arrays out"
        )
    facts = FileFacts(files, name, inputs, {})
    found = facts.size_wh or size_wh
    if found is None:
        return facts
    unknown = sorted(set(outputs) - set(runtime.outputs))
    if unknown:
        raise ModelError(f"outputs {unknown} are not in {files['model']}; use some of {', '.join(runtime.outputs)}")
    tried = runtime.run(outputs or runtime.outputs, _gray(facts, found))
    return FileFacts(files, name, inputs, tried)


def caffe_input(prototxt: Path) -> TensorSpec:
    """The first input of a Caffe net, as its `.prototxt` says it; OpenCV takes any number of pictures.

    Raises:
        ModelError: it says no name, or no four sides.
    """
    try:
        text = re.sub(r"#.*", "", prototxt.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise ModelError(f"cannot read {prototxt} ({error}); give a file that can be read") from error
    layer = re.search(r'layers?\s*\{[^{}]*?type:\s*"Input"[^{}]*?input_param\s*\{\s*shape\s*:?\s*\{([^}]*)\}', text)
    if layer:
        top = re.search(r'top:\s*"([^"]+)"', layer[0])
        sides = re.findall(r"dim:\s*(\d+)", layer[1])
    else:
        top = re.search(r'^\s*input:\s*"([^"]+)"', text, re.MULTILINE)
        shape = re.search(r"input_shape\s*:?\s*\{([^}]*)\}", text)
        sides = re.findall(r"dim:\s*(\d+)", shape[1]) if shape else re.findall(r"input_dim:\s*(\d+)", text)[:4]
    if top is None or len(sides) != 4:
        raise ModelError(f"{prototxt} names no input with four sides; give a deploy.prototxt, which begins with one")
    return TensorSpec(name=top[1], shape=(-1, *map(int, sides[1:])), layout="nchw")


def _open(
    name: str, files: Mapping[str, Path], size_wh: tuple[int, int] | None, channels: int, outputs: tuple[str, ...]
) -> Runtime:
    model = files["model"]
    if name == "onnx":
        from imagelake.models.onnx_runtime import open_session

        return open_session(model)
    width, height = size_wh or (-1, -1)
    spec = TensorSpec(name="input", shape=(-1, channels, height, width), layout="nchw")
    if name == "opencv":
        from imagelake.models.opencv_runtime import load_opencv

        if model.suffix.lower() == ".caffemodel":
            spec = caffe_input(files["config"])
        return load_opencv(model, files.get("config"), (spec,), outputs)
    from imagelake.models.torch_runtime import load_torch

    opened: Runtime = load_torch(model, (spec,))
    return opened


def _with_layout(spec: TensorSpec) -> TensorSpec:
    """An input with the layout that its sides tell: 1 or 3 channels stand first or last."""
    if spec.layout != "any" or len(spec.shape) != 4:
        return spec
    last = spec.shape[3] in (1, 3) and spec.shape[1] not in (1, 3)
    return TensorSpec(name=spec.name, shape=spec.shape, dtype=spec.dtype, layout="nhwc" if last else "nchw")


def _gray(facts: FileFacts, size_wh: tuple[int, int]) -> NDArray[Any]:
    """As many gray pictures as a call takes."""
    width, height = size_wh
    spec = facts.inputs[0]
    sides = (facts.channels, height, width) if facts.channels_first else (height, width, facts.channels)
    value = 128 if spec.dtype == "uint8" else 0.5
    return np.full((spec.batch or 1, *sides), value, spec.dtype)


def _tensors(graph: Any) -> list[Any]:
    """Every stored tensor of a graph and of the graphs within it."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                found.append(attribute.t)
            found += attribute.tensors
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                found += _tensors(inner)
    return found
