"""Which files of TensorFlow and Keras may be opened: those whose graph only computes.

None of these files is a pickle. Yet a graph may hold operators that call back into Python (`PyFunc`), read and write
files or talk to other machines, some of which run while a SavedModel loads; and a file of Keras names the classes of
its layers, of which `Lambda` holds Python as bytes. Both are looked through before TensorFlow sees the file as a model:
what ONNX has an equivalent for, and what holds a graph together, is let through; the rest is refused by name.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from imagelake._optional import need
from imagelake.errors import ModelError

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")

# What holds a graph together, beside what becomes ONNX.
_STRUCTURE = frozenset({
    "Arg", "Assert", "Assign", "AssignVariableOp", "DisableCopyOnRead", "Enter", "Exit", "FusedBatchNormV3",
    "LoopCond", "Merge", "NextIteration", "PartitionedCall", "PreventGradient", "Rank", "ReadVariableOp",
    "ResourceGather", "Retval", "Snapshot", "StatefulPartitionedCall", "Switch", "Tanh", "VarHandleOp",
    "VarIsInitializedOp", "Variable", "VariableV2",
})  # fmt: skip
# The converter knows these, and they wait for others or read what is not in the graph.
_REFUSED = re.compile(r"Iterator.*|.*Queue.*|.*Dataset.*|SentencepieceOp")
# Every SavedModel has functions that write and read its variables. Loading it does not call them.
_SAVER = re.compile(r"__inference__traced_(save|restore)_\d+")
_SAVER_OPERATORS = frozenset(
    {"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename", "StaticRegexFullMatch", "StringJoin"}
)

_KERAS_MODULES = re.compile(
    r"keras|keras(\.src)?\.(layers|models|ops|initializers|regularizers|constraints|activations|random|metrics|losses"
    r"|optimizers|dtype_policies)(\.\w+)*"
)
_KERAS_CLASSES = re.compile(r"[A-Z]\w*|__keras_tensor__|__tuple__|__tensor__|__ellipsis__|__typespec__|__numpy__")
_KERAS_REFUSED = frozenset({"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
_KERAS_RECORDS = re.compile(r"config\.json|metadata\.json|model\.weights\.(h5|npz)")


def require_safe_graph(graph: Any, what: str, roots: Iterable[str] | None = None) -> None:
    """Refuse a graph with an operator that does more than compute.

    Args:
        graph: a `GraphDef`.
        what: its name, for messages.
        roots: the nodes that can run; None for all. Functions count wherever they are, but for those that save.

    Raises:
        ModelError: such an operator is there.
    """
    functions = {function.signature.name: function for function in graph.library.function}
    allowed = _operators() | functions.keys()
    for node in _reachable(graph, roots):
        _require_operator(node, allowed, what)
        _refuse_saver(node, what)
    for name, function in functions.items():
        saves = bool(_SAVER.fullmatch(name))
        for node in function.node_def:
            _require_operator(node, allowed | _SAVER_OPERATORS if saves else allowed, f"{what}, in {name}")
            _refuse_saver(node, f"{what}, in {name}")


def require_safe_saved_model(folder: Path, proto: Any) -> None:
    """Refuse a SavedModel whose graphs do more than compute.

    Args:
        folder: where it lies, for messages.
        proto: what `saved_model.pb` holds, as TensorFlow's message.

    Raises:
        ModelError: it is refused.
    """
    for meta in proto.meta_graphs:
        signatures = meta.signature_def.values()
        ends = [info.name for signature in signatures for info in signature.outputs.values()]
        starts = [name for key in ("saved_model_main_op", "legacy_init_op") for name in _collection(meta, key)]
        require_safe_graph(meta.graph_def, str(folder), [name.split(":")[0].lstrip("^") for name in (*ends, *starts)])


def require_safe_keras(path: Path) -> None:
    """Refuse a file of Keras that holds Python or names classes that are not Keras's own.

    Raises:
        ModelError: it is refused, or no file of Keras.
        MissingExtraError: h5py, which comes with the extra `tensorflow`, is not installed.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                strange = [name for name in archive.namelist() if not _KERAS_RECORDS.fullmatch(name)]
                if strange:
                    raise ModelError(f"{path} is refused: it holds {strange[0]}, which no model needs; save it again")
                config = json.loads(archive.read("config.json"))
                if "model.weights.h5" in archive.namelist():
                    with archive.open("model.weights.h5") as weights:
                        require_own_data(weights, path)
        else:
            config = json.loads(require_own_data(path, path))
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} is no whole model of Keras ({error}); save it with model.save") from error
    except OSError as error:
        raise ModelError(f"cannot read {path} ({error}); give a model of Keras (.keras, .h5)") from error
    _require_keras_config(config, path)


def _operators() -> frozenset[str]:
    """What the converter to ONNX knows, and what holds a graph together."""
    need("tensorflow", "tf2onnx.tfonnx")  # it fills the table
    opsets = need("tensorflow", "tf2onnx.handler").tf_op.get_opsets()
    known = {name for versions in opsets.values() for version in versions for name in version or ()}
    return frozenset(name for name in known if not _REFUSED.fullmatch(name)) | _STRUCTURE


def _require_operator(node: Any, allowed: Iterable[str], what: str) -> None:
    if node.op not in allowed:
        raise ModelError(
            f"{what} is refused: its node {node.name} is a {node.op}, which has no equivalent in ONNX and may reach "
            "outside the model (Python, files, other machines); save the model without it"
        )


def _refuse_saver(node: Any, what: str) -> None:
    """No function that writes files may be called from one that computes."""
    for name in _functions_of(node):
        if _SAVER.fullmatch(name):
            raise ModelError(f"{what} is refused: its node {node.name} calls {name}, which writes or reads files")


def _functions_of(node: Any) -> Iterator[str]:
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        for inner in value.list.func:
            yield inner.name


def _reachable(graph: Any, roots: Iterable[str] | None) -> list[Any]:
    """The nodes that are computed when `roots` are."""
    nodes = {node.name: node for node in graph.node}
    waiting = list(nodes) if roots is None else [name for name in roots if name in nodes]
    seen: dict[str, Any] = {}
    while waiting:
        name = waiting.pop()
        if name in seen or name not in nodes:
            continue
        seen[name] = nodes[name]
        waiting += [given.lstrip("^").split(":")[0] for given in nodes[name].input]
    return list(seen.values())


def _collection(meta: Any, key: str) -> list[str]:
    return list(meta.collection_def[key].node_list.value) if key in meta.collection_def else []


def require_own_data(file: Any, path: Path) -> str:
    """Refuse an HDF5 file that takes data from other files; give the model's description, or `null`."""
    h5py = need("tensorflow", "h5py")
    with h5py.File(file, "r") as content:
        waiting = [content]
        while waiting:
            group = waiting.pop()
            for name in group:
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise ModelError(f"{path} is refused: its part {name} is a link to elsewhere; save it again")
                inner = group[name]
                if isinstance(inner, h5py.Group):
                    waiting.append(inner)
                elif inner.external or inner.is_virtual:
                    raise ModelError(f"{path} is refused: its part {name} lies in another file; save it again")
        config = content.attrs.get("model_config", "null")
        return config.decode() if isinstance(config, bytes) else str(config)


def _require_keras_config(config: Any, path: Path) -> None:
    if not isinstance(config, dict):
        raise ModelError(
            f"{path} holds weights without the model that they belong to; save all of it: model.save('name.keras')"
        )
    waiting: list[Any] = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            _require_keras_class(value, path)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _require_keras_class(value: dict[str, Any], path: Path) -> None:
    name, module = value.get("class_name"), value.get("module")
    if name is None:
        return
    if name in _KERAS_REFUSED or name in {"__lambda__", "function"}:
        raise ModelError(
            f"{path} is refused: it holds a {name}, which is Python (or another program) inside the file; whoever made "
            "it can write the layer with Keras's own layers, or give the model as ONNX"
        )
    known = module is None or (isinstance(module, str) and _KERAS_MODULES.fullmatch(module))
    if not known or not isinstance(name, str) or not _KERAS_CLASSES.fullmatch(name):
        raise ModelError(
            f"{path} is refused: it names {module}.{name}, which is no class of Keras's own layers; whoever made it "
            "can give the model as ONNX, or as a SavedModel (model.export)"
        )
