"""Exact search on a GPU beside torch, FAISS, cuVS and flashlib, whichever are installed: the demo's shape, k = 3, l2.

All get the same vectors on the device and take turns; the table shows medians, after `torch.cuda.synchronize()`.
`imagelake` begins with queries that are on the device, as its rivals do, `imagelake from NumPy` with queries that are
not; both end with exact float64 distances on the host. The rivals' answers are float32 or less and carry no proof:
`same sets` says for how many queries they name the same rows. Before anything is timed, `TorchScan.audit` checks on
this device that bounds are bounds and that distances are those of the CPU to the bit.

Without CUDA the same arithmetic runs on CPU tensors at a small size: its table says so, and is no measure of a GPU.
Without torch nothing runs, and the table says that.

    python benchmarks/gpu_knn.py [--small] [--json PATH]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from machine import report

from imagelake.search.gpu import GpuRows, TorchScan, choose_device
from imagelake.search.index import ExactIndex

torch: Any = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
K = 3
AUDITED = 20
Vectors = npt.NDArray[np.float32]
Search = Callable[[], Any]  # the ids of K neighbors, (m, K): NumPy, or a tensor


def made(rows: int, asked: int, dims: int) -> tuple[Vectors, Vectors]:
    """Vectors that lie in clusters and have few directions that matter, none negative: somewhat like embeddings."""
    random = np.random.default_rng(0)
    turn = random.standard_normal((64, dims)).astype(np.float32)
    centers = random.standard_normal((200, 64)).astype(np.float32)
    points = centers[random.integers(0, 200, rows + asked)]
    points += 0.7 * random.standard_normal(points.shape, dtype=np.float32)
    vectors = np.maximum(points @ turn + 4 * random.standard_normal((rows + asked, dims), dtype=np.float32), 0)
    return vectors[:rows], vectors[rows:]


def torch_search(x: Any, q: Any) -> Search:
    """A float32 product and `topk`, without TF32; queries in blocks that fit memory."""
    torch.backends.cuda.matmul.allow_tf32 = False
    half = 0.5 * x.square().sum(1)

    def run() -> Any:
        return torch.cat([(block @ x.T - half).topk(K, dim=1).indices for block in q.split(2048)])

    return run


def faiss_search(x: Any, q: Any) -> Search:
    """`knn_gpu`, float32."""
    import faiss
    import faiss.contrib.torch_utils

    resources = faiss.StandardGpuResources()
    return lambda: faiss.knn_gpu(resources, q, x, K)[1]


def cuvs_search(x: Any, q: Any) -> Search:
    """Brute force, float32."""
    brute_force = importlib.import_module("cuvs.neighbors.brute_force")
    index = brute_force.build(x, metric="sqeuclidean")
    return lambda: torch.as_tensor(brute_force.search(index, q, K)[1], device=x.device)


def flashlib_search(x: Any, q: Any) -> Search:
    """`flash_knn`, float32 as by default."""
    flashlib = importlib.import_module("flashlib")
    return lambda: flashlib.flash_knn(q, x, K)[1]


RIVALS = {"faiss": faiss_search, "cuvs": cuvs_search, "flashlib": flashlib_search}


def compare(device: str, rows: int, asked: int, dims: int, repeats: int) -> list[dict[str, object]]:
    """All installed, in turn, on the same vectors."""
    on_cuda = device != "cpu"
    vectors, queries = made(rows, asked, dims)
    index = ExactIndex(vectors)
    segments = [(part.segment, part.clusters) for part in index.parts]
    if index.encoder is None:
        raise AssertionError("there are rows")
    held = GpuRows(index.encoder, segments, device=device)
    TorchScan(held, segments, queries[:AUDITED]).audit()
    ready = TorchScan(held, segments, queries)
    searches: dict[str, Search] = {
        "imagelake": lambda: ready.nearest(K).rank,
        "imagelake from NumPy": lambda: TorchScan(held, segments, queries).nearest(K).rank,
    }
    x, q = torch.from_numpy(vectors).to(device), torch.from_numpy(queries).to(device)
    searches["torch float32"] = torch_search(x, q)
    if on_cuda:
        searches |= {name: make(x, q) for name, make in RIVALS.items() if importlib.util.find_spec(name)}
    truth = np.sort(index.search(queries, K).ids, axis=1)
    took: dict[str, list[float]] = {name: [] for name in searches}
    agree: dict[str, float] = {}
    for turn in range(repeats + 1):
        for name, search in searches.items():
            _wait(device)
            began = time.perf_counter()
            found = search()
            _wait(device)
            if turn:  # the first warms up
                took[name].append(time.perf_counter() - began)
                continue
            found = np.sort(np.asarray(found if isinstance(found, np.ndarray) else found.cpu()), axis=1)
            agree[name] = float((found == truth).all(axis=1).mean())
            if name.startswith("imagelake") and agree[name] != 1:
                message = f"{name} differs from the search on the CPU"
                raise RuntimeError(message)
    where = torch.cuda.get_device_name(device) if on_cuda else "CPU tensors: no GPU was measured"
    ours = statistics.median(took["imagelake"])
    return [
        {
            "device": where,
            "torch": torch.__version__,
            "queries x rows x dims": f"{asked} x {rows} x {dims}",
            "search": name,
            "ms": 1000 * statistics.median(times),
            "fastest ms": 1000 * min(times),
            "Tflop/s": 2e-12 * asked * rows * dims / statistics.median(times),
            "imagelake is faster by": statistics.median(times) / ours,
            "same sets": f"{agree[name]:.4f}",
            "measured a query": ready.nearest(K).measured / asked if name == "imagelake" else "",
        }
        for name, times in took.items()
    ]


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def main() -> None:
    """The demo's shape on CUDA, a small one elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few seconds, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    options = parser.parse_args()
    if torch is None:
        report("gpu_knn: NOTHING WAS MEASURED", [{"device": "none", "torch": "not installed"}], options.json)
        return
    device = choose_device("auto")
    rows, asked, dims = (90_000, 10_000, 2048)
    if options.small or device == "cpu":
        rows, asked, dims = (2000, 50, 64) if options.small else (4000, 200, 256)
    table = compare(device, rows, asked, dims, 2 if options.small else 15)
    title = "" if device != "cpu" else " (arithmetic on CPU tensors; NO GPU WAS MEASURED)"
    report(f"gpu_knn: exact search, k = {K}{title}", table, options.json)


if __name__ == "__main__":
    main()
