"""How fast detect, crop and embed are beside the bare models, called in sequence on ready tensors.

The bound is what the two sessions alone allow: 1 / (1 / detections a second + 1 / embeddings a second), each called
from as many threads as there are cores. Ratios within one run, A B A B, medians.

    python benchmarks/detect_and_embed.py [--small] [--json PATH] [--images N]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from machine import SHARED, report

import imagelake
from imagelake.models.catalogue import find_entry
from imagelake.models.choice import (
    DetectorModel,
    choose_detector,
    choose_embedder,
    open_any_detector,
    open_any_embedder,
)
from imagelake.models.pull import PullOptions, pull
from imagelake.models.registry import Registry, hash_file
from imagelake.pixels.decode import decode_rgb
from imagelake.run.extract import extract
from imagelake.run.local import worker_count
from imagelake.steps.pipeline import Crop, Detect, Pipeline
from pictures import pictures

YOLOX = "yolox-nano"


def detector_in(folder: Path) -> DetectorModel:
    """YOLOX-nano where its file is there, else the subject detector."""
    if not (SHARED / "models" / "yolox_nano.onnx").exists():
        return choose_detector("subject")
    registry, path = Registry(folder / "models"), SHARED / "models" / "yolox_nano.onnx"
    pull(find_entry(YOLOX), registry, PullOptions(source=str(path), sha256=hash_file(path)))
    return choose_detector(YOLOX, registry=registry)


def rate(count: int, work: Callable[[Any], object], batches: Sequence[Any]) -> float:
    """Pictures a second of a model that is called from as many threads as there are cores."""
    began = time.perf_counter()
    with ThreadPoolExecutor(worker_count()) as pool:
        list(pool.map(work, batches))
    return count / (time.perf_counter() - began)


def cut(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Batches as a model takes them."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def measure(files: list[Path], folder: Path, repeats: int) -> list[dict[str, object]]:
    """The whole, detect and embed alone, and the bare models, in turn."""
    found, chosen = detector_in(folder), choose_embedder()
    detector, embedder = open_any_detector(found, min_score=0.3), open_any_embedder(chosen)
    photos = [decode_rgb(path.read_bytes()) for path in files[:64]]
    seen = [detector.prepare(photo) for photo in photos]
    embedded = np.stack([embedder.prepare(photo) for photo in photos])
    whole = Pipeline(detect=Detect(model=found), crop=Crop(), embed=chosen)
    rates: dict[str, list[float]] = {"both": [], "embed": [], "bare detector": [], "bare embedder": []}
    turns = -(-len(files) // len(photos))
    for turn in range(repeats):
        rates["bare detector"].append(rate(len(photos) * turns, detector.detect, cut(seen, detector.batch) * turns))
        rates["bare embedder"].append(rate(len(photos) * turns, embedder.embed, cut(embedded, embedder.batch) * turns))
        lake = imagelake.open(folder / f"{turn}.lake", create=True)
        lake.ingest(folder / "photos")
        rates["both"].append(extract(lake.tables, whole).images_per_s)
        rates["embed"].append(extract(lake.tables, Pipeline(embed=chosen)).images_per_s)
    bounds = {
        "both": [1 / (1 / a + 1 / b) for a, b in zip(rates["bare detector"], rates["bare embedder"], strict=True)],
        "embed": rates["bare embedder"],
    }
    return [
        {
            "steps": steps,
            "detector": whole.detector_name if steps == "both" else "",
            "images": len(files),
            "images/s": statistics.median(rates[steps]),
            "bound images/s": statistics.median(bounds[steps]),
            "ratio": statistics.median(a / b for a, b in zip(rates[steps], bounds[steps], strict=True)),
            "ratio min": min(a / b for a, b in zip(rates[steps], bounds[steps], strict=True)),
            "ratio max": max(a / b for a, b in zip(rates[steps], bounds[steps], strict=True)),
        }
        for steps in ("both", "embed")
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    parser.add_argument("--images", type=int, default=663, help="how many product pictures")
    options = parser.parse_args()
    count, repeats = (16, 1) if options.small else (options.images, 5)
    with tempfile.TemporaryDirectory() as name:
        files = sorted(pictures(count, Path(name) / "photos").iterdir())
        report("detect_and_embed: ratios in one run", measure(files, Path(name), repeats), options.json)


if __name__ == "__main__":
    main()
