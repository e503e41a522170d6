"""Searches that a k-NN benchmark compares: ours and those that people use, each as a function that builds a search.

Each contender's library is imported when it is built. All get the same arrays, the same number of threads, and give
Euclidean distances, or one minus the cosine.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake.errors import InputError
from imagelake.run.knn_check import Answer
from imagelake.search.exact import Metric
from imagelake.search.index import ExactIndex
from imagelake.search.segment import Floats

_SCRATCH_BYTES = {"cpu": 1 << 26, "cuda": 1 << 30}  # of a block of float32 distances

Search = Callable[[Floats, int], Answer]
Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Setting:
    """How to search.

    Attributes:
        metric: `"l2"` or `"cosine"`.
        device: `"cpu"`, or the CUDA device for those that can use one.
        threads: how many, on the CPU.
        max_memory_fraction: how much of a CUDA device's free memory our index may use.
    """

    metric: Metric
    device: str
    threads: int
    max_memory_fraction: float


@dataclass(frozen=True)
class Contender:
    """Another library's brute force.

    Attributes:
        name: what it is called here.
        module: what is imported; importing it brings in all that computes.
        package: what pip installs.
        build: makes a search over a base; float64 vectors are handed over as they are.
        on_gpu: it runs on the CUDA device where one is used.
    """

    name: str
    module: str
    package: str
    build: Callable[[Floats, Setting], Search]
    on_gpu: bool = False

    @property
    def installed(self) -> bool:
        """Whether its files are there."""
        return importlib.util.find_spec(self.module.partition(".")[0]) is not None


def choose_contenders(asked: Sequence[str] | None) -> tuple[list[Contender], list[Contender]]:
    """Those that were asked for, or None for all: who takes part, and who is not installed.

    Raises:
        InputError: a name that is not known, or a library that was asked for and is not installed.
    """
    if asked is None:
        return [c for c in CONTENDERS if c.installed], [c for c in CONTENDERS if not c.installed]
    known = {contender.name: contender for contender in CONTENDERS}
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        raise InputError(
            f"--against {','.join(asked)!r}: {repr(unknown[0]) + ' is not known' if unknown else 'nothing is named'}. "
            f"Give some of {','.join(known)}."
        )
    chosen = [known[name] for name in dict.fromkeys(asked)]
    for contender in chosen:
        if not contender.installed:
            raise InputError(
                f"--against {contender.name}: {contender.name} is not installed. Run: pip install "
                f"{contender.package}; or leave it out."
            )
    return chosen, []


@contextlib.contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Hold what computes in threads of its own to this many: BLAS, OpenMP, faiss and torch, as far as they are loaded.

    Others are told when they are called. Afterwards all is as before.
    """
    with contextlib.ExitStack() as stack:
        if importlib.util.find_spec("threadpoolctl"):
            stack.enter_context(importlib.import_module("threadpoolctl").threadpool_limits(threads))
        if faiss := sys.modules.get("faiss"):
            stack.callback(faiss.omp_set_num_threads, faiss.omp_get_max_threads())
            faiss.omp_set_num_threads(threads)
        if torch := sys.modules.get("torch"):
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        yield


def build_ours(base: Floats, setting: Setting) -> Search:
    """Our exact index."""
    index = ExactIndex(
        base,
        metric=setting.metric,
        device=setting.device,
        threads=setting.threads,
        max_memory_fraction=setting.max_memory_fraction,
    )
    index.search(base[:1], 1)  # what is made by the first search belongs to building

    def search(queries: Floats, k: int) -> Answer:
        return Answer(*index.search(queries, k))

    return search


def _sklearn(base: Floats, setting: Setting) -> Search:
    neighbors: Any = importlib.import_module("sklearn.neighbors")
    metric = "euclidean" if setting.metric == "l2" else "cosine"
    index = neighbors.NearestNeighbors(algorithm="brute", metric=metric, n_jobs=setting.threads).fit(base)

    def search(queries: Floats, k: int) -> Answer:
        distances, rows = index.kneighbors(queries, n_neighbors=k)
        return Answer(distances.astype(np.float64), rows.astype(np.int64))

    return search


def _faiss(base: Floats, setting: Setting) -> Search:
    faiss: Any = importlib.import_module("faiss")
    cosine = setting.metric == "cosine"
    index = faiss.IndexFlatIP(base.shape[1]) if cosine else faiss.IndexFlatL2(base.shape[1])
    index.add(_in_float32(base, setting.metric))

    def search(queries: Floats, k: int) -> Answer:
        found, rows = index.search(_in_float32(queries, setting.metric), k)
        return Answer(1 - found.astype(np.float64) if cosine else _root(found), rows)

    return search


def _usearch(base: Floats, setting: Setting) -> Search:
    usearch: Any = importlib.import_module("usearch.index")
    cosine = setting.metric == "cosine"
    metric = usearch.MetricKind.Cos if cosine else usearch.MetricKind.L2sq

    def search(queries: Floats, k: int) -> Answer:
        found = usearch.search(base, queries, k, metric, exact=True, threads=setting.threads)
        distances = np.atleast_2d(found.distances)  # one query comes back flat
        rows = np.atleast_2d(found.keys).astype(np.int64)
        return Answer(distances.astype(np.float64) if cosine else _root(distances), rows)

    return search


def _numpy(base: Floats, setting: Setting) -> Search:
    rows = _in_float32(base, setting.metric)
    squares = _squares(rows, setting.metric)
    block = max(1, _SCRATCH_BYTES["cpu"] // (4 * len(rows)))

    def search(queries: Floats, k: int) -> Answer:
        asked = _in_float32(queries, setting.metric)
        distances, nearest = np.empty((len(asked), k)), np.empty((len(asked), k), np.int64)
        for start in range(0, len(asked), block):
            part = slice(start, start + block)
            far = asked[part] @ rows.T
            far *= -2
            far += squares
            found = np.argpartition(far, k - 1, axis=1)[:, :k]
            order = np.argsort(np.take_along_axis(far, found, 1), axis=1, kind="stable")
            nearest[part] = np.take_along_axis(found, order, 1)
            near = np.take_along_axis(far, nearest[part], 1) + _squares(asked[part], setting.metric)[:, None]
            distances[part] = _from_squares(near, setting.metric)
        return Answer(distances, nearest)

    return search


def _torch(base: Floats, setting: Setting) -> Search:
    torch: Any = importlib.import_module("torch")
    given = _in_float32(base, setting.metric)
    rows, squares = (torch.from_numpy(each).to(setting.device) for each in (given, _squares(given, setting.metric)))
    block = max(1, _SCRATCH_BYTES[setting.device.partition(":")[0]] // (4 * len(rows)))

    def search(queries: Floats, k: int) -> Answer:
        asked = _in_float32(queries, setting.metric)
        nearest, found = [], []
        for part in torch.from_numpy(asked).to(setting.device).split(block):
            near, at = torch.addmm(squares, part, rows.T, alpha=-2).topk(k, dim=1, largest=False)
            nearest.append(near)
            found.append(at)
        near, at = torch.cat(nearest).cpu().numpy(), torch.cat(found).cpu().numpy()
        return Answer(_from_squares(near + _squares(asked, setting.metric)[:, None], setting.metric), at)

    return search


def _cuvs(base: Floats, setting: Setting) -> Search:
    brute_force: Any = importlib.import_module("cuvs.neighbors.brute_force")
    torch: Any = importlib.import_module("torch")  # its tensors are arrays that cuVS takes
    device = setting.device if setting.device != "cpu" else "cuda"
    cosine = setting.metric == "cosine"
    rows = torch.from_numpy(_in_float32(base, "l2")).to(device)
    index = brute_force.build(rows, metric="cosine" if cosine else "sqeuclidean")

    def search(queries: Floats, k: int) -> Answer:
        asked = torch.from_numpy(_in_float32(queries, "l2")).to(device)
        far, at = (torch.as_tensor(each, device=device).cpu().numpy() for each in brute_force.search(index, asked, k))
        return Answer(far.astype(np.float64) if cosine else _root(far), at.astype(np.int64))

    return search


def _in_float32(vectors: Floats, metric: Metric) -> Float32s:
    """The vectors, normalized for cosine; a zero vector stays one."""
    given = np.ascontiguousarray(vectors, np.float32)
    if metric == "l2":
        return given
    norms = np.linalg.norm(given, axis=1, keepdims=True)
    normalized: Float32s = np.divide(given, norms, out=np.zeros_like(given), where=norms > 0)
    return normalized


def _squares(vectors: Float32s, metric: Metric) -> Float32s:
    """Squared norms; for cosine 1 for all, so that a zero vector is at a right angle to everything."""
    if metric == "cosine":
        return np.ones(len(vectors), np.float32)
    squares: Float32s = np.einsum("nd,nd->n", vectors, vectors)
    return squares


def _from_squares(squares: npt.NDArray[Any], metric: Metric) -> npt.NDArray[np.float64]:
    """Distances from squared differences of the vectors, of the normalized ones for cosine."""
    return squares.astype(np.float64) / 2 if metric == "cosine" else _root(squares)


def _root(squares: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Euclidean distances; what rounding made negative is 0."""
    root: npt.NDArray[np.float64] = np.sqrt(np.maximum(squares.astype(np.float64), 0))
    return root


CONTENDERS = (
    Contender("sklearn", "sklearn.neighbors", "scikit-learn", _sklearn),
    Contender("faiss", "faiss", "faiss-cpu", _faiss),
    Contender("usearch", "usearch.index", "usearch", _usearch),
    Contender("numpy", "numpy", "numpy", _numpy),
    Contender("torch", "torch", "torch", _torch, on_gpu=True),
    Contender("cuvs", "cuvs.neighbors.brute_force", "cuvs-cu12", _cuvs, on_gpu=True),
)
"""In the order in which they are measured."""
