"""How well binary codes retrieve: CIFAR-10, 10,000 test queries, 50,000 train pictures, mAP@1000, without labels.

Each method learns on the 50,000 train vectors of the default model (mean pooled, pictures enlarged to 160 pixels);
labels only judge. Hamming search ranks the 50,000 codes for each query; **equal distances are ordered by id**, the
SHA-256 of the picture's bytes, as in every search of imagelake: an order that knows nothing of labels. (The train
pictures lie in order of their class, so ties in file order would give labels away.) The average precision of a query is
the mean, over the relevant ones among its first 1,000, of the share of relevant ones up to there; 0 where there are
none. "paper" is what the article of DeepBit (CVPR 2016, VGG16) reports by the same protocol but for ties, which it
leaves open.

    python benchmarks/codes.py [--small] [--features FOLDER] [--methods neighbors,itq] [--seeds N] [--json PATH]

Embedding takes a while, so vectors are kept in FOLDER and read from there the next time. `--small` takes random
clusters instead of pictures.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from machine import SHARED, report

from imagelake.models.code_learning import METHODS, learn_code
from imagelake.models.coder import make_coder
from imagelake.models.codes_deepbit import ANGLES, Turned
from imagelake.search.hamming import HammingIndex
from imagelake.search.index import ExactIndex

BITS = (16, 32, 64)
PAPER = {16: 19.43, 32: 24.86, 64: 27.73}
DEPTH = 1000
SIZE = 160
TURNED = 1000
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Data:
    """Vectors and labels of the base, whose ids are in ascending order, and of the queries; turned ones for deepbit."""

    base: Floats
    base_labels: npt.NDArray[np.int64]
    queries: Floats
    query_labels: npt.NDArray[np.int64]
    turned: Turned
    depth: int


def clusters(random: np.random.Generator) -> Data:
    """Random clusters instead of pictures."""
    centers = random.standard_normal((10, 96))

    def draw(count: int) -> tuple[Floats, npt.NDArray[np.int64]]:
        labels = random.integers(0, 10, count)
        vectors = centers[labels] + 2 * random.standard_normal((count, 96))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels

    base, base_labels = draw(1500)
    queries, query_labels = draw(200)
    noise = 0.02 * random.standard_normal((len(ANGLES), 200, 96))
    return Data(base, base_labels, queries, query_labels, Turned((base[:200] + noise).astype(np.float32)), 100)


def cifar(folder: Path) -> Data:
    """CIFAR-10 through the default model."""
    import pyarrow.parquet as pq

    table = pq.read_table(SHARED / "cifar10.parquet")
    pictures = table.column("jpeg").to_pylist()
    labels = np.unique(table.column("label").to_pylist(), return_inverse=True)[1]
    train = np.array(table.column("split").to_pylist()) == "train"
    ids = np.array([hashlib.sha256(each).hexdigest() for each in pictures])
    order = np.flatnonzero(train)[np.argsort(ids[train])]
    vectors = kept(folder / f"cifar10-avg-{SIZE}.npy", lambda: embed(pictures))
    turned = kept(
        folder / f"cifar10-avg-{SIZE}-turned.npy", lambda: embed_turned([pictures[row] for row in order[:TURNED]])
    )
    return Data(vectors[order], labels[order], vectors[~train], labels[~train], Turned(turned), DEPTH)


def kept(path: Path, make) -> Floats:  # noqa: ANN001
    """What a file holds, or what `make` gives and the file holds from then on."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, make())
    return np.load(path, allow_pickle=False)


def opened():  # noqa: ANN201
    """The default model, mean pooled."""
    from imagelake.models import zoo
    from imagelake.models.embedder import open_embedder, settle

    return open_embedder(settle(zoo.manifest(zoo.models()[0].name, input_size=SIZE, pooling="avg")))


def embed(pictures: list[bytes]) -> Floats:
    """A vector of each picture."""
    from imagelake.pixels.decode import decode_rgb

    embedder = opened()
    return np.concatenate([
        embedder.embed(np.stack([embedder.prepare(decode_rgb(each)) for each in pictures[start : start + 4]]))
        for start in range(0, len(pictures), 4)
    ])  # fmt: skip


def embed_turned(pictures: list[bytes]) -> Floats:
    """Vectors [angles, pictures, d] of turned pictures."""
    from imagelake.pixels.decode import decode_rgb
    from imagelake.run import turned

    embedder = opened()
    return np.stack([turned.embed_turned(embedder, decode_rgb(each)) for each in pictures], axis=1)


def mean_average_precision(relevant: npt.NDArray[np.bool_]) -> float:
    """In percent, of bool [queries, depth], the nearest first."""
    hits = np.cumsum(relevant, axis=1)
    precision = hits / np.arange(1, relevant.shape[1] + 1)
    found = relevant.sum(axis=1)
    average = np.where(found > 0, (precision * relevant).sum(axis=1) / np.maximum(found, 1), 0.0)
    return float(100 * average.mean())


def judge(data: Data, rows: npt.NDArray[np.int64]) -> float:
    """The figure of the rows found, [queries, depth]."""
    return mean_average_precision(data.base_labels[rows] == data.query_labels[:, None])


def measure(data: Data, method: str, bits: int, seeds: int) -> dict[str, object]:
    """One method at one length: the mean over some seeds, which differ in nothing else."""
    figures, learning, encoding = [], [], []
    for seed in range(seeds):
        began = time.perf_counter()
        coder = make_coder(learn_code(data.base, bits, method, seed=seed, turned=data.turned), "")
        learned = time.perf_counter()
        base, queries = coder.encode(data.base), coder.encode(data.queries)
        encoding.append((time.perf_counter() - learned) / (len(base) + len(queries)) * 1e6)
        learning.append(learned - began)
        _, rows = HammingIndex(base).search(queries, data.depth)
        figures.append(judge(data, rows))
    return {
        "method": method,
        "bits": bits,
        "mAP %": round(float(np.mean(figures)), 2),
        "spread": round(float(np.max(figures) - np.min(figures)), 2),
        "seeds": seeds,
        "paper %": PAPER[bits],
        "learning s": round(float(np.mean(learning)), 1),
        "us/vector": round(float(np.mean(encoding)), 1),
    }


def exact(data: Data) -> dict[str, object]:
    """The vectors themselves, by exact search."""
    began = time.perf_counter()
    _, rows = ExactIndex(data.base, np.arange(len(data.base)), "cosine").search(data.queries, data.depth)
    return {
        "method": "the vectors themselves",
        "bits": 32 * data.base.shape[1],
        "mAP %": round(judge(data, rows), 2),
        "spread": 0.0,
        "seeds": 1,
        "paper %": "",
        "learning s": round(time.perf_counter() - began, 1),
        "us/vector": 0.0,
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="some seconds, on random clusters")
    parser.add_argument("--features", type=Path, help="keep vectors in this folder, and read them from there")
    parser.add_argument("--methods", default=",".join(METHODS), help="which, with commas")
    parser.add_argument("--seeds", type=int, default=1, help="learn so many times")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not options.small and not (SHARED / "cifar10.parquet").exists():
            report("codes: NOTHING WAS MEASURED", [{"missing": str(SHARED / "cifar10.parquet")}], options.json)
            return
        data = clusters(np.random.default_rng(0)) if options.small else cifar(options.features or Path(folder))
        rows = [exact(data)]
        for method in options.methods.split(","):
            rows += [measure(data, method, bits, options.seeds) for bits in BITS]
    on = "random clusters" if options.small else "CIFAR-10"
    report(f"codes: mAP@{data.depth} on {on}, ties by id", rows, options.json)


if __name__ == "__main__":
    main()
