"""How fast ingest and extract are beside what bounds them, and how much memory they take at two sizes.

`ingest` is measured against plain OpenCV that only decodes the same files on all cores; `extract` against the bare
ONNX session on ready tensors with the same number of threads. Both are ratios within one run, A B A B, medians.

    python benchmarks/main_job.py [--small] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from machine import report

import imagelake
from imagelake.models.embedder import Embedder, open_embedder, settle_default
from imagelake.pixels.decode import decode_rgb
from imagelake.run.local import worker_count
from pictures import pictures

# A verb in a process of its own tells its peak memory. Not by ru_maxrss, which begins at the parent's.
WATCHED = """
import json, re, sys
import imagelake
verb, root, photos = sys.argv[1:]
lake = imagelake.open(root, create=True)
report = lake.ingest(photos) if verb == "ingest" else lake.extract()
peak_kb = int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
print(json.dumps({"added": report.added, "rate": report.images_per_s, "peak_mb": peak_kb / 1024}))
"""


MOST_EXTRACTED = 10_000  # more take the model too long


def rate(count: int, work: Callable[[], object]) -> float:
    """Pictures a second."""
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def decode_only(files: list[Path]) -> None:
    """Plain OpenCV on all cores: read and decode, keep nothing."""
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(worker_count()) as pool:
        list(pool.map(lambda path: cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR).shape, files))


def model_only(embedder: Embedder, tensors: np.ndarray, count: int) -> None:
    """The bare session on ready tensors, called from as many threads as there are cores."""
    with ThreadPoolExecutor(worker_count()) as pool:
        list(pool.map(lambda _: embedder.embed(tensors), range(count // len(tensors))))


def ratios(files: list[Path], folder: Path, repeats: int) -> list[dict[str, object]]:
    """Ingest and extract of the same files beside their bounds, in turn."""
    embedder = open_embedder(settle_default())
    tensors = np.stack([embedder.prepare(decode_rgb(path.read_bytes())) for path in files[:16]])
    rates: dict[str, list[float]] = {"decode": [], "ingest": [], "session": [], "extract": []}
    for turn in range(repeats):
        lake = imagelake.open(folder / f"{turn}.lake", create=True)
        rates["decode"].append(rate(len(files), lambda: decode_only(files)))
        rates["ingest"].append(lake.ingest(folder / "photos").images_per_s)
        rates["session"].append(rate(len(files) // 16 * 16, lambda: model_only(embedder, tensors, len(files))))
        rates["extract"].append(lake.extract().images_per_s)
        shutil.rmtree(lake.root)
    pairs = [("ingest", "decode", "OpenCV decoding only"), ("extract", "session", "bare ONNX session")]
    return [
        {
            "verb": verb,
            "images": len(files),
            "images/s": statistics.median(rates[verb]),
            "bound": name,
            "bound images/s": statistics.median(rates[bound]),
            "ratio": statistics.median(a / b for a, b in zip(rates[verb], rates[bound], strict=True)),
        }
        for verb, bound, name in pairs
    ]


def memory(folder: Path, sizes: list[int]) -> list[dict[str, object]]:
    """Peak memory of a process that ingests, and of one that extracts (up to 10,000 images), at each size."""
    rows = []
    for size in sizes:
        photos = pictures(size, folder / f"photos-{size}")
        root = folder / f"{size}.lake"
        for verb in ("ingest", "extract") if size <= MOST_EXTRACTED else ("ingest",):
            command = [sys.executable, "-c", WATCHED, verb, str(root), str(photos)]
            done = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            rows.append({"verb": verb, "images": done["added"], "peak MB": done["peak_mb"], "images/s": done["rate"]})
        shutil.rmtree(root)
        shutil.rmtree(photos)
    return rows


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here (two files)")
    options = parser.parse_args()
    count, repeats, sizes = (32, 1, [16, 160]) if options.small else (1989, 3, [2000, 6630, 20000])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = sorted(pictures(count, folder / "photos").iterdir())
        speed = ratios(files, folder, repeats)
        report("main_job: speed, ratios in one run", speed, options.json)
        shutil.rmtree(folder / "photos")
        peak = memory(folder, sizes)
        report("main_job: memory", peak, options.json and options.json.with_suffix(".memory.json"))


if __name__ == "__main__":
    main()
