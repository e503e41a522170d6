"""A coder turns vectors into short binary codes: a model of the registry like any other, one `.npz` and a manifest.

Two kinds. `"linear"`: a bit is set where the vector's projection exceeds a threshold. `"neighbors"`: the vector gets
the mean place of its nearest landmarks, and a bit is set where that is above zero; all of it in integers, so exactly.

Bits are packed as `numpy.packbits` does: bit 0 is the highest of the first byte.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ModelError
from imagelake.models.codes_neighbors import NEIGHBORS, directions, nearest
from imagelake.models.file_manifest import FileManifest, TensorSpec
from imagelake.models.learned_code import LearnedCode
from imagelake.models.npz import read_npz
from imagelake.models.registry import RegisteredModel, Registry

RUNTIME = "linear-code"
FILE = "code.npz"
LEAST_BITS, MOST_BITS = 16, 512

_BLOCK = 64  # rows of one product: always as many, so that a vector's bits do not depend on those beside it
_SHAPES: Mapping[str, Mapping[str, tuple[str, str, str]]] = {
    "linear": {"projection": ("float32", "d", "b"), "threshold": ("float64", "b", "")},
    "neighbors": {
        "mean": ("float64", "d", ""),
        "basis": ("float32", "d", "c"),
        "landmarks": ("int16", "n", "c"),
        "places": ("int16", "n", "b"),
    },
}


class _Signs(Protocol):
    def __call__(self, vectors: NDArray[np.float32], /) -> NDArray[np.bool_]: ...


@dataclass(frozen=True)
class Coder:
    """An opened coder. It may be used from several threads at once.

    Attributes:
        bits: the length of a code, a multiple of 8.
        dimensions: the length of the vectors that it takes.
        embeddings: the fingerprint of the embedding set that it was learned on.
    """

    bits: int
    dimensions: int
    embeddings: str
    signs: _Signs

    def encode(self, vectors: NDArray[np.float32], *, embeddings: str | None = None) -> NDArray[np.uint8]:
        """Turn vectors into codes.

        Args:
            vectors: float32 [n, dimensions]; n may be 0.
            embeddings: the fingerprint of their embedding set, where it is known: then it is compared.

        Returns:
            uint8 [n, bits // 8]. The same vector gives the same code in any batch.

        Raises:
            ModelError: the vectors have another type or length, hold NaN or infinity, or are of other embeddings.
        """
        if embeddings is not None and embeddings != self.embeddings:
            raise ModelError(
                f"this coder was learned on the embeddings {self.embeddings[:12]} and the vectors are "
                f"{embeddings[:12]}; learn one on these with `imagelake codes fit`"
            )
        if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != self.dimensions:
            raise ModelError(
                f"vectors of type {vectors.dtype} and shape {vectors.shape} do not fit this coder; give float32 "
                f"[n, {self.dimensions}]"
            )
        if not np.isfinite(vectors).all():
            raise ModelError("a vector holds NaN or infinity and has no code; give finite numbers")
        set_bits = np.zeros((len(vectors), self.bits), np.bool_)
        for start in range(0, len(vectors), _BLOCK):
            part = vectors[start : start + _BLOCK]
            block = np.zeros((_BLOCK, self.dimensions), np.float32)
            block[: len(part)] = part
            set_bits[start : start + _BLOCK] = self.signs(block)[: len(part)]
        return np.packbits(set_bits, axis=1)


def open_coder(model: RegisteredModel) -> Coder:
    """Open a coder of the registry.

    Raises:
        ModelError: the model is none, or its file is missing, damaged or not what the manifest says.
    """
    manifest = model.manifest
    if manifest.task != "coder" or manifest.runtime != RUNTIME:
        raise ModelError(f"{manifest.name} is a {manifest.task}; make a coder with `imagelake codes fit`")
    head = manifest.head
    arrays = _read(model.path("model"), str(head.get("kind")))
    coder = make_coder(LearnedCode(head["kind"], arrays), str(head.get("embeddings", "")))
    if coder.bits != head.get("bits") or coder.dimensions != head.get("dimensions"):
        raise ModelError(
            f"the manifest of {manifest.name} tells of {head.get('bits')} bits of {head.get('dimensions')} numbers and "
            f"its file makes {coder.bits} of {coder.dimensions}; make it anew with `imagelake codes fit --replace`"
        )
    return coder


def make_coder(code: LearnedCode, embeddings: str) -> Coder:
    """A coder of arrays in memory.

    Raises:
        ModelError: their number of bits is not allowed.
    """
    arrays = code.arrays
    if code.kind == "linear":
        dimensions, bits = arrays["projection"].shape
        signs = _linear(arrays["projection"].astype(np.float64), arrays["threshold"])
    else:
        dimensions, bits = arrays["basis"].shape[0], arrays["places"].shape[1]
        signs = _neighbors(arrays)
    check_bits(bits)
    return Coder(bits, dimensions, embeddings, signs)


def check_bits(bits: int) -> None:
    """Refuse a length that no code may have.

    Raises:
        ModelError: it is not a multiple of 8 between 16 and 512.
    """
    if not LEAST_BITS <= bits <= MOST_BITS or bits % 8:
        raise ModelError(f"a code of {bits} bits is not allowed; use a multiple of 8 from {LEAST_BITS} to {MOST_BITS}")


def register_coder(
    registry: Registry, name: str, code: LearnedCode, head: Mapping[str, Any], source: str, *, replace: bool = False
) -> RegisteredModel:
    """Keep a learned code in a registry.

    Args:
        registry: where.
        name: what users are to call it.
        code: what was learned.
        head: what else the manifest is to tell: `"method"`, `"embeddings"` (their fingerprint), ...
        source: what it was learned on, in words.
        replace: whether a model of the same name may be replaced.

    Raises:
        ModelError: the name is taken or not allowed, or the registry cannot be written.
    """
    coder = make_coder(code, str(head["embeddings"]))
    told = {"kind": code.kind, "bits": coder.bits, "dimensions": coder.dimensions, **head}
    manifest = FileManifest(
        name=name,
        task="coder",
        runtime=RUNTIME,
        files={"model": FILE},
        inputs=(TensorSpec(name="vectors", shape=(-1, coder.dimensions)),),
        head=told,
        licence="that of the embeddings",
        source=source,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        np.savez(path, **code.arrays)  # type: ignore[arg-type]
        return registry.add(manifest, {"model": path}, replace=replace)


def _read(path: Path, kind: str) -> dict[str, NDArray[Any]]:
    """The arrays of a file, of the types and shapes that the kind asks for. Nothing is unpickled."""
    if kind not in _SHAPES:
        raise ModelError(f"a coder of the kind {kind!r} is not known; use one of {', '.join(_SHAPES)}")
    try:
        arrays = read_npz(path, list(_SHAPES[kind]))
    except ValueError as error:
        raise ModelError(
            f"{path} is no code of the kind {kind!r} ({error}); make it anew with `imagelake codes fit`"
        ) from error
    sides: dict[str, int] = {}
    for name, (dtype, *letters) in _SHAPES[kind].items():
        array, wanted = arrays[name], [letter for letter in letters if letter]
        fits = array.dtype == dtype and array.ndim == len(wanted)
        if not fits or any(sides.setdefault(letter, n) != n for letter, n in zip(wanted, array.shape, strict=True)):
            raise ModelError(f"{name} in {path} is {array.dtype} {array.shape}, which does not fit; make the code anew")
        if not array.size or not np.isfinite(array).all():
            raise ModelError(f"{name} in {path} is empty, or holds NaN or infinity; make the code anew")
    return arrays


def _linear(projection: NDArray[np.float64], threshold: NDArray[np.float64]) -> _Signs:
    def signs(vectors: NDArray[np.float32], /) -> NDArray[np.bool_]:
        return np.asarray(vectors.astype(np.float64) @ projection > threshold)

    return signs


def _neighbors(arrays: Mapping[str, NDArray[Any]]) -> _Signs:
    landmarks = arrays["landmarks"].astype(np.float32)
    basis, mean = arrays["basis"].astype(np.float64), arrays["mean"]
    places = arrays["places"].astype(np.int32)
    count = min(NEIGHBORS, len(landmarks))

    def signs(vectors: NDArray[np.float32], /) -> NDArray[np.bool_]:
        rows = nearest(directions(vectors, mean, basis), landmarks, count)
        return np.asarray(places[rows].sum(axis=1) > 0)

    return signs
