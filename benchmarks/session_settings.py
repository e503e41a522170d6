"""How ONNX Runtime is best called: threads, batch size, spinning and memory arena, on the default model.

Compares N concurrent calls of one thread with one call of N threads (N is the number of cores), each in a fresh
process. All cases run once a round, and a figure is the median over the rounds, so that a machine that others use
too slows every case alike; `of best` compares with the fastest case of the same precision. The processor time a
picture takes (`cpu ms`, all threads together) varies far less on such a machine, but hides cores that stand idle. Run
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

from machine import machine

from imagelake.models import zoo
from imagelake.models.efficientnet_lite0.agreement import probe_pictures
from imagelake.models.graph_cache import load_graph
from imagelake.models.manifest import Manifest
from imagelake.models.onnx_runtime import SessionSettings, open_session

OUTPUT = "features_max"
BATCHES = (1, 4, 8, 16, 32)
ROUNDS = 5


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def model(precision: str, size: int) -> Manifest:
    """The default model at a size."""
    return zoo.manifest(zoo.models()[0].name, precision="int8" if precision == "int8" else "fp32", input_size=size)


def measure(case: dict[str, object], seconds: float) -> dict[str, object]:
    """Run one case in this process: pictures a second, processor time of one, the most memory that was held."""
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
        start, start_cpu = time.perf_counter(), time.process_time()
        deadline = start + seconds
        done = sum(pool.map(call_until_deadline, range(calls)))
        rate = done / (time.perf_counter() - start)
        cpu_ms = 1000 * (time.process_time() - start_cpu) / done
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**case, "images_per_s": round(rate, 1), "cpu_ms": round(cpu_ms, 2), "peak_mb": round(peak)}


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
    rows = run_rounds(
        cases(small=arguments.small), 1 if arguments.small else ROUNDS, ["--small"] if arguments.small else []
    )
    print_table(rows)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
