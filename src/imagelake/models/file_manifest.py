"""The manifest of a model that lies as files in a registry: all that is needed to use the files right."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from imagelake.errors import InputError, ModelError
from imagelake.models.cpu import has_int8_dot_products
from imagelake.models.heads import HEADS_VERSION, TASKS, complete_head, refuse_unknown

Task = Literal["classifier", "embedder", "detector", "coder", "tensor"]
Precision = Literal["auto", "fp32", "int8"]

FORMAT = 1
RUNTIMES = ("onnx", "opencv", "torch", "linear-code")
LAYOUTS = ("nchw", "nhwc", "chw", "hwc", "any")
PRECISIONS = ("auto", "fp32", "int8")
MANIFEST_FILE = "manifest.json"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 ()+=,@._-]{0,199}")
_SHA256 = re.compile("[0-9a-f]{64}")
_DEEPEST = 40
_DESCRIPTIVE = frozenset({"name", "licence", "source", "files", "sha256", "precision", "format"})


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input of a model.

    Attributes:
        name: as the model calls it.
        shape: its sides; -1 for a side of any length.
        dtype: NumPy's name of the type, such as `"float32"`.
        layout: what the sides mean, such as `"nchw"`; `"any"` where nobody says.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str = "any"

    def __post_init__(self) -> None:
        _require_one_of("layout", self.layout, LAYOUTS)
        if any(type(side) is not int or side < -1 or side == 0 for side in self.shape):
            raise ModelError(f"shape {self.shape!r} of input {self.name} is not allowed; give sides, -1 for any length")
        try:
            known = np.dtype(self.dtype).name == self.dtype
        except TypeError:
            known = False
        if not known:
            raise ModelError(f"type {self.dtype!r} of input {self.name} is not known; use NumPy's, such as float32")

    @property
    def batch(self) -> int | None:
        """How many pictures one call takes exactly; None for any number."""
        return self.shape[0] if self.shape and self.shape[0] > 0 else None


@dataclass(frozen=True, kw_only=True)
class FileManifest:
    """One model that lies as files, with its preprocessing and its head. A bad value is a `ModelError`.

    Attributes:
        name: what users call the model: lower-case letters, digits, `.`, `_` and `-`, at most 64.
        task: `"classifier"`, `"embedder"`, `"detector"`, `"coder"` or `"tensor"` (arrays in, arrays out).
        runtime: what runs it: `"onnx"`, `"opencv"`, `"torch"` or `"linear-code"`.
        files: role to file name. Roles: `"model"` always; `"int8"` (the same model in int8), `"config"` (a `.prototxt`
            or `.pbtxt`), `"whitening"` (an `.npz`), `"external-0"` and on (external data of the ONNX file),
            `"int8-external-0"` and on (of the int8 one).
        sha256: role to the hash of the file, 64 hex digits; the registry fills in what is missing.
        inputs: the inputs; the first takes the pictures.
        transforms: what makes an upright RGB picture the first input, as `imagelake.pixels.chain` reads it.
        head: `"kind"` and its settings, as `imagelake.models.heads` lists them; what is left out is filled in.
        outputs: the outputs that the head reads, in its order; empty for all of the model.
        labels: the names of the classes in the order of their numbers.
        licence: the SPDX name of the licence of the weights.
        source: where the files come from: an address or words.
        precision: `"fp32"` or `"int8"` chooses the file; `"auto"` takes int8 where it is there and pays.
    """

    name: str
    task: Task
    runtime: str
    files: Mapping[str, str]
    sha256: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[TensorSpec, ...] = ()
    transforms: tuple[Mapping[str, Any], ...] = ()
    head: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    licence: str = "unknown"
    source: str = "unknown"
    precision: Precision = "auto"
    format: int = FORMAT

    def __post_init__(self) -> None:
        require_name(self.name)
        _require_one_of("task", self.task, TASKS)
        _require_one_of("runtime", self.runtime, RUNTIMES)
        _require_one_of("precision", self.precision, PRECISIONS)
        if self.format != FORMAT:
            raise ModelError(
                f"this manifest has format {self.format!r}, this imagelake reads {FORMAT}; update imagelake"
            )
        _check_files(self.name, self.files, self.sha256)
        if self.precision == "int8" and "int8" not in self.files:
            raise ModelError(f"{self.name} has no int8 file; use precision auto or fp32, or add it with one")
        if self.task in {"classifier", "embedder", "detector"} and not self.inputs:
            raise ModelError(f"{self.name} is a {self.task} and lists no input; give its first, which takes pictures")
        if self.task in {"classifier", "detector"} and not self.labels:
            raise ModelError(f"{self.name} is a {self.task} without labels; give the names of its classes in order")
        if self.transforms:
            object.__setattr__(self, "transforms", _complete_transforms(self.name, self.transforms, self.files))
        head = complete_head(self.task, self.head)
        refuse_unknown(
            f"wanted labels of {self.name}", head.get("wanted", ()) if self.task == "detector" else (), self.labels
        )
        object.__setattr__(self, "head", head)

    @property
    def model_role(self) -> str:
        """The role of the file that runs here: `"int8"` or `"model"`, as `precision` says."""
        if self.precision == "fp32" or "int8" not in self.files:
            return "model"
        return "int8" if self.precision == "int8" or has_int8_dot_products() else "model"

    @property
    def roles_used(self) -> tuple[str, ...]:
        """The roles whose files shape a result here, in order of their names."""
        other = ("model", "external") if self.model_role == "int8" else ("int8",)
        return tuple(sorted(role for role in self.files if role.partition("-")[0] not in other))


def settle_file(manifest: FileManifest) -> FileManifest:
    """Fix the precision that `auto` means on this machine, so that every worker runs the same file."""
    return dataclasses.replace(manifest, precision="int8" if manifest.model_role == "int8" else "fp32")


def file_fingerprint(manifest: FileManifest) -> str:
    """Name the result of a manifest: two manifests that can give different results have different fingerprints.

    Returns:
        The SHA-256, 64 hex digits, of the canonical JSON of every field that shapes a result, of the hashes of the
        files that run here, and of the versions of heads and transforms. Name, licence and source do not count.

    Raises:
        ModelError: a file has no hash yet; a manifest out of a registry has them all.
    """
    from imagelake.pixels.chain import CHAIN_VERSION  # late: it loads OpenCV

    missing = [role for role in manifest.roles_used if role not in manifest.sha256]
    if missing:
        raise ModelError(f"{manifest.name} has no hash of {', '.join(missing)} yet; add it to a registry first")
    fields = {key: value for key, value in dataclasses.asdict(manifest).items() if key not in _DESCRIPTIVE}
    fields["sha256"] = {role.removeprefix("int8-"): manifest.sha256[role] for role in manifest.roles_used}
    fields["versions"] = [HEADS_VERSION, CHAIN_VERSION]
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def to_json(manifest: FileManifest) -> str:
    """Write a manifest as one JSON object, indented for people, which `from_json` reads."""
    return json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False) + "\n"


def from_json(text: str, folder: Path | None = None) -> FileManifest:
    """Read what `to_json` wrote, or what a person wrote like it.

    Args:
        text: a JSON object.
        folder: where the manifest lies: `labels` may then name a file there, with one label a line.

    Raises:
        ModelError: the text is no JSON object, or a key is unknown, missing or holds a value that is not allowed.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"this manifest is not JSON ({error}); mend it at that place") from error
    if not isinstance(given, dict):
        raise ModelError(f"this manifest is a JSON {type(given).__name__}; give an object, as `to_json` writes it")
    if _too_deep(given):
        raise ModelError(f"this manifest nests values more than {_DEEPEST} deep; write it as `to_json` does")
    fields = {f.name: f for f in dataclasses.fields(FileManifest)}
    refuse_unknown("keys of a manifest", list(given), list(fields))
    missing = [name for name in ("name", "task", "runtime", "files") if name not in given]
    if missing:
        raise ModelError(f"this manifest lacks {', '.join(missing)}; add them")
    values = dict(given)
    for name in ("name", "task", "runtime", "licence", "source", "precision"):
        _require_type(name, values.get(name, ""), str)
    for name in ("files", "sha256"):
        _require_words(name, values.setdefault(name, {}))
    _require_type("head", values.setdefault("head", {}), dict)
    values["inputs"] = tuple(_tensor(i) for i in _require_type("inputs", values.get("inputs", []), list))
    transforms = _require_type("transforms", values.get("transforms", []), list)
    values["transforms"] = tuple(_require_type("a transform", entry, dict) for entry in transforms)
    values["outputs"] = _words("outputs", values.get("outputs", []))
    labels = values.get("labels", [])
    if isinstance(labels, str) and folder is not None:
        labels = list(read_labels(folder / labels))
    values["labels"] = _words("labels", labels)
    return FileManifest(**values)


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a file of labels: UTF-8 text, one label a line, in the order of the numbers of the classes.

    Raises:
        ModelError: it cannot be read, or is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read labels from {path} ({error}); give a text file with one label a line") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise ModelError(f"{path} holds no labels; give a text file with one label a line")
    return tuple(line.strip() for line in lines)


def require_name(name: str) -> None:
    """Refuse a name that is no plain word: it becomes a folder.

    Raises:
        ModelError: it has other signs, starts with a dot or a dash, or is too long.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
        likely = re.sub(r"[^a-z0-9._-]+", "-", str(name).lower()).strip("-._").replace("..", ".")[:64]
        hint = f" such as {likely!r}" if _NAME.fullmatch(likely) else ""
        raise ModelError(
            f"{name!r} cannot name a model; use lower-case letters, digits, '.', '_' and '-', at most 64{hint}"
        )


def _complete_transforms(
    name: str, transforms: Sequence[Mapping[str, Any]], files: Mapping[str, str]
) -> tuple[Mapping[str, Any], ...]:
    """The transforms with every setting written out; none may leave anything to chance or to a file of elsewhere."""
    from imagelake.pixels.chain import parse  # late: it loads OpenCV, which whoever lists names need not wait for

    try:
        chain = parse(list(transforms))
    except InputError as error:
        raise ModelError(f"the transforms of {name} cannot be read: {error}") from error
    if chain.random:
        raise ModelError(
            f"the transforms of {name} draw random numbers; a model takes a picture the same way each time"
        )
    entries = chain.to_list()
    for entry in entries:
        for file in (entry.get("normalize_pixels") or {}).values():
            if file is not None and file not in files.values():
                raise ModelError(f"normalize_pixels of {name} reads {file}; list it among the files of the manifest")
    return tuple(entries)


def _check_files(name: str, files: Mapping[str, str], sha256: Mapping[str, str]) -> None:
    if "model" not in files:
        raise ModelError(f"{name} names no file in the role 'model' but {dict(files)!r}; give files as role: name")
    for role, file in files.items():
        if not _FILE_NAME.fullmatch(file) or file == MANIFEST_FILE:
            raise ModelError(
                f"file {file!r} ({role} of {name}) is not allowed; give a plain file name, without folders"
            )
    if len({file.casefold() for file in files.values()}) != len(files):
        raise ModelError(f"the files of {name} share a name: {dict(files)!r}; rename one of them")
    refuse_unknown(f"roles with a hash in {name}", list(sha256), list(files))
    for role, digest in sha256.items():
        if not _SHA256.fullmatch(digest):
            raise ModelError(f"the hash {digest!r} of {role} in {name} is no SHA-256; give 64 hex digits in lower case")


def _too_deep(given: Any) -> bool:
    """Whether values stand in values so deep that Python's own recursion may end before they do."""
    level = [given]
    for _ in range(_DEEPEST):
        inner = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list))
        level = [each for values in inner for each in values]
    return bool(level)


def _tensor(given: Any) -> TensorSpec:
    _require_type("an input", given, dict)
    refuse_unknown("keys of an input", list(given), [f.name for f in dataclasses.fields(TensorSpec)])
    if "name" not in given or "shape" not in given:
        raise ModelError(f"the input {given!r} lacks name or shape; give both")
    for key in ("name", "dtype", "layout"):
        _require_type(f"{key} of an input", given.get(key, ""), str)
    return TensorSpec(**given | {"shape": tuple(_require_type("shape of an input", given["shape"], list))})


def _words(what: str, given: Any) -> tuple[str, ...]:
    return tuple(_require_type(what, word, str) for word in _require_type(what, given, list))


def _require_words(what: str, given: Any) -> None:
    for value in _require_type(what, given, dict).values():
        _require_type(what, value, str)


def _require_type(what: str, given: Any, wanted: type) -> Any:
    if not isinstance(given, wanted):
        words = {"str": "a word", "list": "a list", "dict": "an object"}
        raise ModelError(f"{what} holds {given!r}; give {words[wanted.__name__]}")
    return given


def _require_one_of(what: str, given: object, allowed: Sequence[str]) -> None:
    if given not in allowed:
        raise ModelError(f"{what} {given!r} is not known; use one of {', '.join(allowed)}")
