"""How ONNX Runtime is best called: threads, batch size, spinning and memory arena, on the default model.

Compares N concurrent calls of one thread with one call of N threads (N is the number of cores), each in a fresh
process. Run `python benchmarks/session_settings.py [--small] [--json PATH] [--precision fp32|int8]`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from machine import machine

from imagelake.models import zoo
from imagelake.models.efficientnet_lite0.agreement import probe_pictures
from imagelake.models.graph_cache import load_graph
from imagelake.models.manifest import Manifest
from imagelake.models.onnx_runtime import SessionSettings, open_session

OUTPUT = "features_max"
BATCHES = (1, 4, 8, 16, 32)


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def model(precision: str, size: int) -> Manifest:
    """The default model at a size."""
    return zoo.manifest(zoo.models()[0].name, precision="int8" if precision == "int8" else "fp32", input_size=size)


def measure(case: dict[str, object], seconds: float) -> dict[str, object]:
    """Run one case in this process: pictures a second, and the most memory that the process held."""
    batch, calls, threads = (int(str(case[name])) for name in ("batch", "calls", "threads"))
    manifest = model(str(case["precision"]), int(str(case["size"])))
    settings = SessionSettings(threads=threads, spinning=bool(case["spinning"]), arena=bool(case["arena"]))
    session = open_session(load_graph(manifest, (OUTPUT,)), settings)
    pictures = probe_pictures(manifest.input_size_wh, 1).repeat(batch, axis=0)
    deadline = 0.0

    def call_until_deadline(_index: int) -> int:
        done = 0
        while time.perf_counter() < deadline:
            session.run([OUTPUT], pictures)
            done += batch
        return done

    with ThreadPoolExecutor(calls) as pool:
        for _ in pool.map(lambda _: session.run([OUTPUT], pictures), range(calls)):
            pass
        start = time.perf_counter()
        deadline = start + seconds
        done = sum(pool.map(call_until_deadline, range(calls)))
        rate = done / (time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**case, "images_per_s": round(rate, 1), "peak_mb": round(peak)}


def cases(precision: str, *, small: bool) -> list[dict[str, object]]:
    """Every batch size both ways with the settings we use, then spinning and arena turned over."""
    many = cores()
    shapes = [(many, 1)] if many == 1 else [(many, 1), (1, many)]
    common = {"precision": precision, "size": 96 if small else 256}
    turned = [(False, True)] if small else [(False, True), (True, True), (False, False)]
    batches = (1, 4) if small else BATCHES
    return [
        {**common, "batch": batch, "calls": calls, "threads": threads, "spinning": spinning, "arena": arena}
        for (spinning, arena), (calls, threads), batch in itertools.product(turned, shapes, batches)
    ]


def main() -> None:
    """Start one process a case, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="few cases and small pictures: seconds, not minutes")
    parser.add_argument("--json", type=Path, help="where the figures go, with machine and versions")
    parser.add_argument("--precision", choices=["fp32", "int8"], default="fp32")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    seconds = 0.2 if arguments.small else 3.0
    if arguments.one:
        print(json.dumps(measure(json.loads(arguments.one), seconds)))
        return
    flags = ["--small"] if arguments.small else []
    rows = []
    print("| batch | calls x threads | spinning | arena | images/s | peak MB |\n|--:|---|---|---|--:|--:|")
    for case in cases(arguments.precision, small=arguments.small):
        command = [sys.executable, __file__, "--one", json.dumps(case), *flags]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append(row)
        shape = f"{row['calls']} x {row['threads']}"
        on = {True: "on", False: "off"}
        figures = f"{row['images_per_s']} | {row['peak_mb']}"
        print(f"| {row['batch']} | {shape} | {on[row['spinning']]} | {on[row['arena']]} | {figures} |", flush=True)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
