"""Exact search beside plain brute force: batches, single queries, building, cost curves, data that defeats bounds.

python benchmarks/exact_search.py [--small] [--json OUT.json] [--base B.npy --queries Q.npy] [--parts batch,one,...]

All contenders run in one process with the same threads, warmed up, in alternating runs; times are medians. `ratio` is
the other's time by ours. Without files, the vectors are synthetic: clusters in a space of 256 dimensions, and a little
noise in all. `--rows 1000000` adds one query at a time against so many.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from machine import report

from imagelake.run.knn_contenders import CONTENDERS, Setting, limited_threads
from imagelake.search import ExactIndex

Row = dict[str, object]
BUILDERS = {contender.name: contender for contender in CONTENDERS}
PARTS = ("batch", "one", "build", "curves", "hostile")


def synthetic(count: int, dims: int, seed: int) -> np.ndarray[Any, Any]:
    """Vectors somewhat like embeddings: clustered, of less than full rank, with noise. float32 (count, dims)."""
    shared = np.random.default_rng(0)
    rank = min(dims, 256)
    axes = shared.standard_normal((rank, dims)).astype(np.float32)
    axes *= (np.arange(1, rank + 1) ** -0.7)[:, None].astype(np.float32)
    centers = shared.standard_normal((1000, rank)).astype(np.float32)
    own = np.random.default_rng(seed)
    out = np.empty((count, dims), np.float32)
    for start in range(0, count, 4096):
        part = out[start : start + 4096]
        inner = centers[own.integers(0, 1000, len(part))] + 0.7 * own.standard_normal((len(part), rank), np.float32)
        part[:] = inner @ axes + 0.05 * own.standard_normal(part.shape, np.float32)
    return out


def mixed(base: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """More vectors of the same kind: two thirds of one and a third of another, chosen by chance."""
    if count <= len(base):
        return np.ascontiguousarray(base[:count])
    own = np.random.default_rng(1)
    out = np.empty((count, base.shape[1]), np.float32)
    out[: len(base)] = base
    for start in range(len(base), count, 4096):
        part = out[start : start + 4096]
        a, b = own.integers(0, len(base), (2, len(part)))
        part[:] = np.float32(2 / 3) * base[a] + np.float32(1 / 3) * base[b]
    return out


def alternate(runs: int, *work: Callable[[], object]) -> list[list[float]]:
    """Seconds of each, in turns, after one round that does not count."""
    seconds: list[list[float]] = [[] for _ in work]
    for turn in range(runs + 1):
        for number, each in enumerate(work):
            start = time.perf_counter()
            each()
            if turn:
                seconds[number].append(time.perf_counter() - start)
    return seconds


def row(part: str, base: Any, queries: int, k: int, other: str, ours: list[float], theirs: list[float] | None) -> Row:
    """One line of the table. `p99` is of our times, where there are enough."""
    mine = statistics.median(ours)
    their = None if theirs is None else statistics.median(theirs)
    return {
        "part": part, "rows": base.shape[0], "dims": base.shape[1], "queries": queries, "k": k, "beside": other,
        "seconds": mine, "their_seconds": "" if their is None else their,
        "ratio": "" if their is None else their / mine,
        "p99": float(np.quantile(ours, 0.99)) if len(ours) >= 50 else "",
    }  # fmt: skip


def _next(search: Callable[[Any, int], object], asked: Iterator[Any], k: int) -> None:
    search(next(asked), k)


class Bench:
    """What was asked for, and what is compared."""

    def __init__(self, options: argparse.Namespace, threads: int) -> None:
        self.options = options
        self.setting = Setting("l2", "cpu", threads, 0.8)
        self.runs = 1 if options.small else 3
        if options.base:
            self.base, self.queries = (np.load(path) for path in (options.base, options.queries))
        else:
            count, asked, dims = (2500, 64, 64) if options.small else (50_000, 10_000, 1280)
            self.base, self.queries = synthetic(count, dims, 1), synthetic(asked, dims, 2)

    def others(self, *names: str) -> list[str]:
        """Those of them that are installed."""
        return [name for name in names if BUILDERS[name].installed]

    def beside(self, base: Any, queries: Any, k: int, part: str, names: list[str], runs: int) -> Iterator[Row]:
        """Our time beside that of others, who take turns with us."""
        index = ExactIndex(base, threads=self.setting.threads)
        for name in names:
            search = BUILDERS[name].build(base, self.setting)
            asked = self.turns(queries, runs)
            with limited_threads(self.setting.threads):
                ours, theirs = alternate(runs, partial(_next, index.search, asked, k), partial(_next, search, asked, k))
            yield row(part, base, len(queries), k, name, ours, theirs)

    def turns(self, queries: Any, runs: int) -> Iterator[Any]:
        """What is asked in each turn: always the same, but a single query is another one each time."""
        if len(queries) > 1:
            return itertools.repeat(queries)
        return (self.queries[[at]] for at in np.resize(np.arange(len(self.queries)), 2 * runs + 2))

    def batch(self) -> Iterator[Row]:
        """Many queries at once."""
        for k in (3, 10, 100):
            names = self.others("faiss", "torch") if k == 3 else self.others("faiss")
            yield from self.beside(self.base, self.queries, k, "batch", names, self.runs)

    def one(self) -> Iterator[Row]:
        """One query at a time."""
        for count in dict.fromkeys((len(self.base), self.options.rows or len(self.base))):
            runs = 10 if self.options.small else 200 if count <= 100_000 else 60
            base = mixed(self.base, count)
            yield from self.beside(base, self.queries[:1], 3, "one", self.others("faiss", "usearch"), runs)

    def build(self) -> Iterator[Row]:
        """Building, beside one batch of 10,000 queries by faiss; `ratio` is linear cost by cost."""
        first = None
        for share in (0.2, 0.4, 1):
            base = np.ascontiguousarray(self.base[: int(share * len(self.base))])
            ours = alternate(self.runs, lambda base=base: ExactIndex(base, threads=self.setting.threads))[0]
            line = row("build", base, 0, 0, "", ours, None)
            each = statistics.median(ours) / len(base)
            first = first or each
            yield line | {"ratio": first / each}

    def curves(self) -> Iterator[Row]:
        """Cost against n, d and k, beside faiss, a float32 product of the same size, and reading the vectors once."""
        small = self.options.small
        counts = (1200, 2500) if small else (10_000, 25_000, 50_000, 100_000, 250_000)
        counts = (*counts, *([self.options.rows] if self.options.rows and self.options.rows > 250_000 else []))
        asked = self.queries[: 64 if small else 1000]
        for count in counts:
            base = mixed(self.base, count)
            yield from self.beside(
                base, asked, 3, "curve rows", self.others("faiss"), 1 if count > 100_000 else self.runs
            )
            yield from self.limits(base, asked, "curve rows")
            yield from self.beside(base, asked[:1], 3, "curve rows, one", self.others("faiss"), 5 if small else 20)
        for dims in (32, 64) if small else (64, 128, 256, 512, 1024, 2048):
            base, queries = synthetic(counts[-1] if small else 50_000, dims, 1), synthetic(len(asked), dims, 2)
            yield from self.beside(base, queries, 3, "curve dims", self.others("faiss"), self.runs)
            yield from self.limits(base, queries, "curve dims")
        for k in (1, 3) if small else (1, 3, 10, 30, 100, 300, 1000):
            yield from self.beside(self.base, asked, k, "curve k", self.others("faiss"), self.runs)
            yield from self.limits(self.base, asked, "curve k", k)

    def limits(self, base: Any, queries: Any, part: str, k: int = 3) -> Iterator[Row]:
        """What bounds plain brute force: all multiplications in float32, and reading every vector once."""
        piece = base[: min(len(base), 20_000)]
        with limited_threads(self.setting.threads):
            product = alternate(self.runs, lambda: queries @ piece.T)[0]
        once = alternate(self.runs, piece.max)[0]
        scale = len(base) / len(piece)
        yield row(part, base, len(queries), k, "limit: float32 product", [scale * each for each in product], None)
        yield row(part, base, len(queries), k, "limit: reading once", [scale * each for each in once], None)

    def hostile(self) -> Iterator[Row]:
        """Data that defeats bounds."""
        count, asked, dims = (2500, 32, 64) if self.options.small else (20_000, 2_000, 1280)
        for name in ("random", "duplicates", "constant", "huge", "outlier", "clusters"):
            own = np.random.default_rng(0)
            base = own.standard_normal((count, dims), np.float32)
            queries = own.standard_normal((asked, dims), np.float32)
            if name == "duplicates":
                base = base[own.integers(0, 100, count)]
            elif name == "constant":
                base[:] = 2.5
            elif name == "huge":
                base, queries = base * np.float32(1e15), queries * np.float32(1e15)
            elif name == "outlier":
                base[7] = 1e6
            elif name == "clusters":
                centers = own.standard_normal((50, dims), np.float32)
                base = centers[own.integers(0, 50, count)] + np.float32(1e-3) * base
                queries = centers[own.integers(0, 50, asked)] + np.float32(1e-3) * queries
            yield from self.beside(base, queries, 3, f"hostile: {name}", self.others("faiss"), self.runs)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--base", type=Path, help="vectors to search, a .npy file of float32 (n, d)")
    parser.add_argument("--queries", type=Path, help="a .npy file of float32 (m, d)")
    parser.add_argument("--rows", type=int, default=0, help="also search so many rows, mixed from those there are")
    parser.add_argument("--parts", default=",".join(PARTS), help="which of them to run")
    options = parser.parse_args()
    bench = Bench(options, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    rows: list[Row] = []
    for part in options.parts.split(","):
        for line in getattr(bench, part)():
            rows.append(line)
            print(line, file=sys.stderr, flush=True)
    report("exact search", rows, options.json)


if __name__ == "__main__":
    main()
