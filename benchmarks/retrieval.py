"""How well the default model retrieves: precision@10 on labeled product photos, for each way of preparing them.

Leave-one-out and exact: each photo is a query against all others; precision@10 is the share of its ten nearest that
have its label, averaged over the photos. Rows differ in input size, resize, pooling and metric. Photos are decoded as
`imagelake extract` decodes them. A second table says how well int8 agrees with fp32 at the default settings. Run
`python benchmarks/retrieval.py [--small] [--json PATH] [--data FOLDER]`; the photos are those of
alexeygrigorev/clothing-dataset (CC0), 663 of them in 17 classes, with a `labels.csv`.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from machine import machine
from numpy.typing import NDArray

from imagelake.models import zoo
from imagelake.models.efficientnet_lite0.agreement import cosines
from imagelake.models.embedder import normalize
from imagelake.models.graph_cache import load_graph
from imagelake.models.manifest import METRICS, RESIZES, Manifest, Pooling, Precision, Resize
from imagelake.models.onnx_runtime import OnnxRuntime, SessionSettings, open_session
from imagelake.pixels.decode import decode_rgb
from imagelake.pixels.fit import fit

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "products"
SIZES = (128, 160, 192, 224, 256, 288, 320)
LARGEST_UNPOOLED = 224
NEIGHBORS = 10
BATCH = 16
OUTPUTS: dict[Pooling, str] = {"avg": "features_avg", "max": "features_max", "none": "feature_map"}


def read_photos(folder: Path, every: int) -> tuple[list[bytes], NDArray[np.int64]]:
    """The bytes of every n-th photo of `labels.csv`, and the number of its label."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[::every]
    photos = [(folder / "images" / row["image"]).read_bytes() for row in rows]
    return photos, np.unique([row["label"] for row in rows], return_inverse=True)[1]


def prepare(photos: list[bytes], manifest: Manifest) -> NDArray[np.uint8]:
    """Decode and resize as `imagelake extract` does: uint8 [n, height, width, 3]."""
    size_wh = manifest.input_size_wh
    return np.stack([fit(decode_rgb(photo, max(size_wh)), size_wh, manifest.resize) for photo in photos])


def run(runtime: OnnxRuntime, prepared: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Every output of a model for all pictures, each float32 [n, d]."""
    batches = [runtime.run(runtime.outputs, prepared[i : i + BATCH]) for i in range(0, len(prepared), BATCH)]
    return {name: np.concatenate([b[name].reshape(len(b[name]), -1) for b in batches]) for name in runtime.outputs}


def precision_at_k(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """The mean precision of the ten nearest by Euclidean distance, in percent, and its standard error."""
    squares = np.einsum("nd,nd->n", vectors, vectors)
    distances = squares[:, None] + squares[None, :] - 2 * (vectors @ vectors.T)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :NEIGHBORS]
    shares = (labels[nearest] == labels[:, None]).mean(axis=1)
    return 100 * float(shares.mean()), 100 * float(shares.std() / np.sqrt(len(shares)))


def measure(
    photos: list[bytes], labels: NDArray[np.int64], size: int, resize: Resize, precision: Precision
) -> Iterator[dict[str, object]]:
    """Run the model once over the photos and score every pooling and metric."""
    outputs = {p: name for p, name in OUTPUTS.items() if p != "none" or size <= LARGEST_UNPOOLED}
    manifest = zoo.manifest(zoo.models()[0].name, precision=precision, input_size=size, resize=resize)
    runtime = open_session(load_graph(manifest, tuple(outputs.values())), SessionSettings(threads=2))
    print(f"{precision}, {resize}, {size} px", file=sys.stderr, flush=True)
    prepared = prepare(photos, manifest)
    start = time.perf_counter()
    found = run(runtime, prepared)
    rate = len(prepared) / (time.perf_counter() - start)
    for pooling, output in outputs.items():
        for metric in METRICS:
            vectors = found[output].copy()
            if metric == "cosine":
                normalize(vectors)
            score, error = precision_at_k(vectors, labels)
            yield {
                "size": size,
                "resize": resize,
                "pooling": pooling,
                "metric": metric,
                "precision": precision,
                "precision_at_10": round(score, 2),
                "standard_error": round(error, 2),
                "images_per_s": round(rate, 1),
            }


def compare_int8(photos: list[bytes], labels: NDArray[np.int64]) -> dict[str, object]:
    """How well int8 agrees with fp32 at the default settings, on the same prepared pictures."""
    outputs = (OUTPUTS["max"], OUTPUTS["avg"], "logits")
    model = zoo.default_manifest("fp32")
    prepared = prepare(photos, model)
    exact, rounded = (
        run(open_session(load_graph(m, outputs), SessionSettings(threads=2)), prepared)
        for m in (model, zoo.default_manifest("int8"))
    )
    agreement: dict[str, object] = {"same_best_class_percent": _same_best_class(exact["logits"], rounded["logits"])}
    for output in outputs:
        each = cosines(exact[output], rounded[output])
        agreement[f"{output} mean cosine"] = round(float(each.mean()), 4)
        agreement[f"{output} lowest cosine"] = round(float(each.min()), 4)
    for name, found in (("fp32", exact), ("int8", rounded)):
        vectors = found[OUTPUTS[model.pooling]].copy()
        if model.metric == "cosine":
            normalize(vectors)
        agreement[f"{name} precision_at_10"] = round(precision_at_k(vectors, labels)[0], 2)
    return agreement


def _same_best_class(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return round(100 * float(np.mean(one.argmax(axis=1) == other.argmax(axis=1))), 1)


def print_table(rows: list[dict[str, object]]) -> None:
    """Print a Markdown table: one row a size, resize and precision; one column a pooling and metric."""
    columns = [(p, m) for p in OUTPUTS for m in METRICS]
    print("| px | resize | precision | " + " | ".join(f"{p} {m}" for p, m in columns) + " | images/s |")
    print("|--:|---|---|" + "--:|" * (len(columns) + 1))
    groups: dict[tuple[object, ...], dict[tuple[object, object], dict[str, object]]] = {}
    for row in rows:
        key = (row["size"], row["resize"], row["precision"])
        groups.setdefault(key, {})[row["pooling"], row["metric"]] = row
    for key, cells in groups.items():
        figures = [str(cells[c]["precision_at_10"]) if c in cells else "" for c in columns]
        rate = next(iter(cells.values()))["images_per_s"]
        print(f"| {key[0]} | {key[1]} | {key[2]} | " + " | ".join(figures) + f" | {rate} |", flush=True)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="every tenth photo and two sizes: seconds, not minutes")
    parser.add_argument("--json", type=Path, help="where the figures go, with machine and versions")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with labels.csv and images/")
    arguments = parser.parse_args()
    if not (arguments.data / "labels.csv").exists():
        print(f"skipped: there is no labels.csv in {arguments.data}; give --data FOLDER")
        return
    photos, labels = read_photos(arguments.data, every=10 if arguments.small else 1)
    sizes = (128, 160) if arguments.small else SIZES
    rows = [r for resize in RESIZES for size in sizes for r in measure(photos, labels, size, resize, "fp32")]
    for size in sizes if arguments.small else (192, 224, 256):
        rows += measure(photos, labels, size, "crop", "int8")
    agreement = compare_int8(photos, labels)
    print(f"{len(photos)} photos, {labels.max() + 1} classes, precision@{NEIGHBORS} in percent")
    print_table(rows)
    print("\n| int8 against fp32, default settings | |\n|---|--:|")
    for name, figure in agreement.items():
        print(f"| {name} | {figure} |")
    if arguments.json is not None:
        result = {"machine": machine(), "photos": len(photos), "rows": rows, "agreement": agreement}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
