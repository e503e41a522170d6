"""Bring a model over from TensorFlow or Keras: write it as ONNX, and see on pictures that it still is the same.

A file of Keras (`.keras`, `.h5`), a SavedModel (a folder) and a frozen GraphDef (`.pb`) all become one graph without
variables, which `tf2onnx` writes as ONNX.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake._optional import need
from imagelake.errors import ModelError
from imagelake.models.conversion import Comparison, Imported, check_conversion
from imagelake.models.tensorflow_files import (
    KERAS_SUFFIXES,
    require_safe_graph,
    require_safe_keras,
    require_safe_saved_model,
)

OPSET = 18

_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class _Frozen:
    """A graph without variables: `GraphDef`, the names of its tensors, and the original that it was made of."""

    graph: Any
    inputs: list[str]
    outputs: list[str]
    original: Callable[[NDArray[Any]], Sequence[NDArray[Any]]]


def is_tensorflow(path: Path) -> bool:
    """Whether a path looks like something that `import_tensorflow_file` reads."""
    return path.suffix.lower() in (*KERAS_SUFFIXES, ".pb") or (path / "saved_model.pb").is_file()


def import_tensorflow_file(
    path: Path, target: Path, comparison: Comparison, *, outputs: Sequence[str] = ()
) -> Imported:
    """Write a Keras file, a SavedModel or a frozen GraphDef as ONNX.

    Args:
        path: the file, or the folder of a SavedModel. See `tensorflow_files` for what is refused.
        target: the ONNX file to write.
        comparison: the pictures to compare on.
        outputs: for a GraphDef: the nodes to take the results from; those that no other node uses by default.

    Raises:
        ModelError: it is refused, cannot be written as ONNX, or is not the same any more.
        MissingExtraError: tensorflow or tf2onnx is not installed.
    """
    if not is_tensorflow(path):
        raise ModelError(f"{path} is no model of TensorFlow; give a .keras, .h5 or .pb file or a SavedModel's folder")
    tensorflow = load_tensorflow()
    with _quiet():
        if path.suffix.lower() in KERAS_SUFFIXES:
            frozen = _of_keras(tensorflow, path)
        elif path.is_dir():
            frozen = _of_saved_model(tensorflow, path)
        else:
            frozen = _of_graph(tensorflow, path, outputs)
        _write_onnx(frozen, target, path.name)
        return check_conversion(frozen.original, target, comparison, f"made with TensorFlow from {path.name}")


def import_keras_model(model: Any, target: Path, comparison: Comparison, source: str) -> Imported:
    """Write a model of Keras that lives in this process as ONNX.

    Args:
        model: a `keras.Model` with one input.
        target: the ONNX file to write.
        comparison: the pictures to compare on.
        source: what it is, in words.

    Raises:
        ModelError: it cannot be written as ONNX, or is not the same any more.
        MissingExtraError: tensorflow or tf2onnx is not installed.
    """
    tensorflow = load_tensorflow()
    with _quiet():
        frozen = _of_keras_model(tensorflow, model, source)
        _write_onnx(frozen, target, source)
        return check_conversion(frozen.original, target, comparison, source)


def load_tensorflow() -> Any:
    """The module, once it and the converter are known to be installed.

    Raises:
        MissingExtraError: one of them is not.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it greets at length otherwise; errors are raised all the same
    with _quiet():
        need("tensorflow", "tf2onnx")
        return need("tensorflow", "tensorflow")


def _of_keras(tensorflow: Any, path: Path) -> _Frozen:
    require_safe_keras(path)
    keras = need("tensorflow", "keras")
    if keras.backend.backend() != "tensorflow":
        raise ModelError(f"Keras runs on {keras.backend.backend()} here; set KERAS_BACKEND=tensorflow to import {path}")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever Keras meets in a file of another version
        raise ModelError(f"Keras cannot read {path} ({_short(error)}); save it again with model.save") from error
    return _of_keras_model(tensorflow, model, path.name)


def _of_keras_model(tensorflow: Any, model: Any, name: str) -> _Frozen:
    shapes = model.inputs
    if len(shapes) != 1:
        raise ModelError(f"{name} takes {len(shapes)} inputs; a model for pictures takes one: save a part that does")
    spec = tensorflow.TensorSpec(shapes[0].shape, shapes[0].dtype, name="input")

    def call(array: Any) -> Any:
        return model(array, training=False)

    function = tensorflow.function(call).get_concrete_function(spec)
    return _frozen(function, lambda array: call(tensorflow.constant(array)))


def _of_saved_model(tensorflow: Any, path: Path) -> _Frozen:
    proto = need("tensorflow", "tensorflow.core.protobuf.saved_model_pb2").SavedModel()
    _parse(proto, path / "saved_model.pb")
    require_safe_saved_model(path, proto)
    try:
        loaded = tensorflow.saved_model.load(str(path))
    except Exception as error:  # whatever TensorFlow meets in a folder of another version
        raise ModelError(f"TensorFlow cannot read {path} ({_short(error)}); save it again") from error
    if _SIGNATURE not in loaded.signatures:
        there = ", ".join(loaded.signatures) or "none"
        raise ModelError(f"{path} has no signature {_SIGNATURE} (there: {there}); save it with that one")
    function = loaded.signatures[_SIGNATURE]
    names = list(function.structured_input_signature[1])
    if len(names) != 1:
        raise ModelError(
            f"{path} takes {', '.join(names)}; a model for pictures takes one input: save a part that does"
        )

    def original(array: Any, _variables: Any = loaded) -> Any:  # they live as long as `loaded` does
        return function(**{names[0]: tensorflow.constant(array)})

    return _frozen(function, original)


def _of_graph(tensorflow: Any, path: Path, outputs: Sequence[str]) -> _Frozen:
    graph = tensorflow.compat.v1.GraphDef()
    _parse(graph, path)
    require_safe_graph(graph, str(path))
    used = {name.lstrip("^").split(":")[0] for node in graph.node for name in node.input}
    nodes = {node.name: node for node in graph.node}
    inputs = [node.name for node in graph.node if node.op in {"Placeholder", "PlaceholderV2"}]
    ends = list(outputs) or [name for name, node in nodes.items() if name not in used and node.op not in _NO_RESULTS]
    strange = [name for name in ends if name.split(":")[0] not in nodes]
    if strange or len(inputs) != 1:
        raise ModelError(
            f"{path} has the inputs {inputs} and no nodes {strange}; a model for pictures takes one input: give the "
            "outputs by the names of nodes, and a frozen graph with one placeholder"
        )
    tensors = [name if ":" in name else f"{name}:0" for name in ends]

    def imported(array: Any) -> Any:
        return tensorflow.graph_util.import_graph_def(
            graph, input_map={f"{inputs[0]}:0": array}, return_elements=tensors, name=""
        )

    kind = tensorflow.as_dtype(nodes[inputs[0]].attr["dtype"].type)
    shape = tensorflow.TensorShape(nodes[inputs[0]].attr["shape"].shape)
    try:
        function = tensorflow.compat.v1.wrap_function(imported, [tensorflow.TensorSpec(shape, kind)])
    except Exception as error:  # whatever TensorFlow meets in a graph of another version
        raise ModelError(f"TensorFlow cannot read {path} ({_short(error)}); freeze it again") from error
    return _Frozen(graph, [f"{inputs[0]}:0"], tensors, lambda array: _arrays(function(tensorflow.constant(array))))


_NO_RESULTS = frozenset({"Assert", "Const", "NoOp", "Placeholder", "PlaceholderV2"})


def _frozen(function: Any, original: Callable[[Any], Any]) -> _Frozen:
    """Turn the variables of a function into constants."""
    freeze = need("tensorflow", "tensorflow.python.framework.convert_to_constants")
    constant = freeze.convert_variables_to_constants_v2(function)
    return _Frozen(
        constant.graph.as_graph_def(),
        [tensor.name for tensor in constant.inputs],
        [tensor.name for tensor in constant.outputs],
        lambda array: _arrays(original(array)),
    )


def _write_onnx(frozen: _Frozen, target: Path, what: str) -> None:
    names = ["output"] if len(frozen.outputs) == 1 else [f"output_{n}" for n in range(len(frozen.outputs))]
    try:
        need("tensorflow", "tf2onnx.convert").from_graph_def(
            frozen.graph,
            input_names=frozen.inputs,
            output_names=frozen.outputs,
            opset=OPSET,
            output_path=str(target),
            tensors_to_rename=dict(zip([*frozen.inputs, *frozen.outputs], ["input", *names], strict=True)),
        )
    except Exception as error:  # the converter's errors have no common base but this
        raise ModelError(f"tf2onnx cannot write {what} as ONNX ({_short(error)})") from error


def _arrays(result: Any) -> list[NDArray[Any]]:
    """The arrays of a result, in the order in which TensorFlow flattens it."""
    if isinstance(result, dict):
        return [array for key in sorted(result) for array in _arrays(result[key])]
    if isinstance(result, list | tuple):
        return [array for inner in result for array in _arrays(inner)]
    return [np.asarray(result)]


def _parse(message: Any, path: Path) -> None:
    try:
        message.ParseFromString(path.read_bytes())
    except OSError as error:
        raise ModelError(f"cannot read {path} ({error}); give a file that can be read") from error
    except Exception as error:  # protobuf's own error differs between its versions
        raise ModelError(
            f"{path} is no graph of TensorFlow ({_short(error)}); give a frozen .pb or a SavedModel"
        ) from error


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TensorFlow, Keras and tf2onnx warn of their own parts."""
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow", "tf2onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
