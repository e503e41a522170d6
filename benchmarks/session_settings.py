"""How ONNX Runtime is best called: threads, batch size, spinning and memory arena, on the default model.

Compares N concurrent calls of one thread with one call of N threads (N is the number of cores). The first table takes
short turns in one process, in random order, and divides by the embedder's own case within each round: its ratios hold
on a machine that others use too. The second table has each case in a fresh process, with its memory and with spinning
and arena turned over; a figure is the median of a few rounds. The processor time of a picture (`cpu ms`, all threads
together) varies less than the rate, but hides cores that stand idle. Run
`python benchmarks/session_settings.py [--small] [--json PATH]`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from machine import machine
from numpy.typing import NDArray

from imagelake.models import zoo
from imagelake.models.efficientnet_lite0.agreement import probe_pictures
from imagelake.models.embedder import BATCH
from imagelake.models.graph_cache import load_graph
from imagelake.models.manifest import Manifest
from imagelake.models.onnx_runtime import OnnxRuntime, SessionSettings, open_session

OUTPUT = "features_max"
BATCHES = (1, 4, 8, 16, 32)
ROUNDS = 5
TURNS = 20


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def model(precision: str, size: int) -> Manifest:
    """The default model at a size."""
    return zoo.manifest(zoo.models()[0].name, precision="int8" if precision == "int8" else "fp32", input_size=size)


def peak_mb() -> int:
    """The most memory that this process held. On Linux not by `ru_maxrss`, which begins at the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        found = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return round(int(found.split()[1]) / 1024)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / 1024)


def take_turn(
    pool: ThreadPoolExecutor, session: OnnxRuntime, pictures: NDArray[np.uint8], calls: int, seconds: float
) -> tuple[int, float]:
    """Call from `calls` threads for some seconds, at least once each: pictures done, and pictures a second."""
    start = time.perf_counter()

    def call_until_deadline(_index: int) -> int:
        done = 0
        while done == 0 or time.perf_counter() < start + seconds:
            session.run([OUTPUT], pictures)
            done += len(pictures)
        return done

    done = sum(pool.map(call_until_deadline, range(calls)))
    return done, done / (time.perf_counter() - start)


def compare_in_turns(precision: str, *, small: bool) -> list[dict[str, object]]:
    """Let the cases take turns in this process; each rate is divided by the embedder's own case of that round."""
    manifest = model(precision, 96 if small else zoo.models()[0].input_size_wh[0])
    graph = load_graph(manifest, (OUTPUT,))
    many = cores()
    sessions = {threads: open_session(graph, SessionSettings(threads=threads)) for threads in {1, many}}
    pictures = probe_pictures(manifest.input_size_wh, 1).repeat(max(BATCHES), axis=0)
    shapes = sorted(
        {(calls, threads, batch) for calls, threads in ((many, 1), (1, many)) for batch in BATCHES},
        key=lambda shape: (shape[1], shape[2]),
    )
    own = shapes.index((many, 1, BATCH))
    rounds, seconds = (2, 0.02) if small else (TURNS, 0.4)
    generator = np.random.default_rng(0)
    rates = np.empty((rounds, len(shapes)))
    with ThreadPoolExecutor(many) as pool:
        for calls, threads, batch in shapes:
            take_turn(pool, sessions[threads], pictures[:batch], calls, 0.0)
        for number in range(rounds):
            for index in generator.permutation(len(shapes)):
                calls, threads, batch = shapes[index]
                rates[number, index] = take_turn(pool, sessions[threads], pictures[:batch], calls, seconds)[1]
    ratios = np.percentile(rates / rates[:, [own]], [25, 50, 75], axis=0)
    return [
        {
            "precision": precision,
            "calls": calls,
            "threads": threads,
            "batch": batch,
            "images_per_s": round(float(np.median(rates[:, index])), 1),
            "ratio": round(float(ratios[1, index]), 2),
            "quarter_below": round(float(ratios[0, index]), 2),
            "quarter_above": round(float(ratios[2, index]), 2),
        }
        for index, (calls, threads, batch) in enumerate(shapes)
    ]


def measure(case: dict[str, object], seconds: float) -> dict[str, object]:
    """Run one case in this process: pictures a second, processor time of one, the most memory that was held."""
    batch, calls, threads = (int(str(case[name])) for name in ("batch", "calls", "threads"))
    manifest = model(str(case["precision"]), int(str(case["size"])))
    settings = SessionSettings(threads=threads, spinning=bool(case["spinning"]), arena=bool(case["arena"]))
    session = open_session(load_graph(manifest, (OUTPUT,)), settings)
    pictures = probe_pictures(manifest.input_size_wh, 1).repeat(batch, axis=0)
    with ThreadPoolExecutor(calls) as pool:
        take_turn(pool, session, pictures, calls, 0.0)
        start_cpu = time.process_time()
        done, rate = take_turn(pool, session, pictures, calls, seconds)
        cpu_ms = 1000 * (time.process_time() - start_cpu) / done
    return {**case, "images_per_s": round(rate, 1), "cpu_ms": round(cpu_ms, 2), "peak_mb": peak_mb()}


def cases(*, small: bool) -> list[dict[str, object]]:
    """Every batch size both ways with the settings we use; in fp32 also some with spinning and arena turned over."""
    many = cores()
    shapes = [(many, 1)] if many == 1 else [(many, 1), (1, many)]
    turned = [("fp32", False, True), ("int8", False, True)]
    if not small:
        turned += [("fp32", True, True), ("fp32", False, False)]
    return [
        {
            "precision": precision,
            "size": 96 if small else zoo.models()[0].input_size_wh[0],
            "spinning": spinning,
            "arena": arena,
            "calls": calls,
            "threads": threads,
            "batch": batch,
        }
        for (precision, spinning, arena), (calls, threads), batch in itertools.product(
            turned, shapes, (1, 4) if small else BATCHES
        )
        if (not spinning and arena) or batch in (4, 16)
    ]


def run_rounds(wanted: list[dict[str, object]], rounds: int, flags: list[str]) -> list[dict[str, object]]:
    """Run all cases once a round, each in a process of its own, and take the median of each."""
    found: list[list[dict[str, object]]] = [[] for _ in wanted]
    for number in range(rounds):
        for index, case in enumerate(wanted):
            command = [sys.executable, __file__, "--one", json.dumps(case), *flags]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[index].append(json.loads(output))
        print(f"round {number + 1} of {rounds} is done", file=sys.stderr, flush=True)
    rates = [[float(str(row["images_per_s"])) for row in rows] for rows in found]
    medians = [statistics.median(r) for r in rates]
    best = {
        precision: max(m for m, case in zip(medians, wanted, strict=True) if case["precision"] == precision)
        for precision in {str(case["precision"]) for case in wanted}
    }
    return [
        {
            **case,
            "images_per_s": median,
            "lowest": min(each),
            "highest": max(each),
            "cpu_ms": statistics.median(float(str(row["cpu_ms"])) for row in rows),
            "of_best": round(median / best[str(case["precision"])], 2),
            "peak_mb": max(int(str(row["peak_mb"])) for row in rows),
        }
        for case, median, each, rows in zip(wanted, medians, rates, found, strict=True)
    ]


def print_table(rows: list[dict[str, object]]) -> None:
    """Print a Markdown table."""
    on = {True: "on", False: "off"}
    print("| precision | spinning | arena | calls x threads | batch | images/s (range) | of best | cpu ms | peak MB |")
    print("|---|---|---|---|--:|--:|--:|--:|--:|")
    for row in rows:
        shape = f"{row['calls']} x {row['threads']}"
        rate = f"{row['images_per_s']} ({row['lowest']}-{row['highest']})"
        left = f"{row['precision']} | {on[bool(row['spinning'])]} | {on[bool(row['arena'])]} | {shape} | {row['batch']}"
        print(f"| {left} | {rate} | {row['of_best']} | {row['cpu_ms']} | {row['peak_mb']} |")


def main() -> None:
    """Run every case in each round, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="few cases and small pictures: seconds, not minutes")
    parser.add_argument("--json", type=Path, help="where the figures go, with machine and versions")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(json.loads(arguments.one), 0.2 if arguments.small else 1.0)))
        return
    turns = [row for precision in ("fp32", "int8") for row in compare_in_turns(precision, small=arguments.small)]
    print(f"| precision | calls x threads | batch | images/s | of {cores()} x 1 at {BATCH} (middle half) |")
    print("|---|---|--:|--:|--:|")
    for row in turns:
        spread = f"{row['ratio']} ({row['quarter_below']}-{row['quarter_above']})"
        left = f"{row['precision']} | {row['calls']} x {row['threads']} | {row['batch']} | {row['images_per_s']}"
        print(f"| {left} | {spread} |", flush=True)
    print()
    rows = run_rounds(
        cases(small=arguments.small), 1 if arguments.small else ROUNDS, ["--small"] if arguments.small else []
    )
    print_table(rows)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(
            json.dumps({"machine": machine(), "turns": turns, "rows": rows}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
