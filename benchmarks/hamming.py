"""How fast exact Hamming search is beside FAISS, USearch, NumKong and plain NumPy, whichever are installed.

All get the same random codes and queries and the same number of threads, in turn, and the table shows medians and the
median ratio within a turn; above 1 means that imagelake is faster. USearch, NumKong and NumPy need many times as long
here, so they get a fiftieth of the queries. NumKong and NumPy only measure: theirs is one tile of distances after the
other with the smallest taken by `numpy.partition`, on one thread for each share of the queries. "imagelake in NumPy" is
what runs where the C kernel was not compiled.

    python benchmarks/hamming.py [--small] [--bits N] [--json PATH]
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from machine import report

from imagelake.search import hamming_native, hamming_plain, hamming_search
from imagelake.search.hamming import HammingIndex
from imagelake.search.hamming_codes import words_of

K = 10
SLOW = 50  # a slow rival gets one query in so many
TILE = 4096  # rows that a rival without a selection of its own measures at once
QUERIES = {16: 2000, 64: 10_000, 256: 1000, 1024: 200}  # for each width in bits: about a second
Codes = npt.NDArray[np.uint8]
Search = Callable[[Codes], npt.NDArray[np.int32]]  # the distances of K neighbors, shape (m, K)


def imagelake_search(codes: Codes, threads: int) -> Search:
    """Our index."""
    index = HammingIndex(codes, threads=threads)
    return lambda queries: index.search(queries, K)[0]


def fallback_search(codes: Codes, threads: int) -> Search:
    """Our index as it is without a compiler."""
    words = words_of(codes)
    return lambda queries: hamming_search.nearest(hamming_plain, words_of(queries), words, K, threads)[0]


def faiss_search(codes: Codes, threads: int) -> Search:
    """IndexBinaryFlat."""
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(codes)
    return lambda queries: index.search(queries, K)[0]


def usearch_search(codes: Codes, threads: int) -> Search:
    """Exact search over bits."""
    from usearch.index import MetricKind, search

    def run(queries: Codes) -> npt.NDArray[np.int32]:
        found = search(codes, queries, K, MetricKind.Hamming, exact=True, threads=threads)
        return found.distances.reshape(len(queries), K).astype(np.int32)

    return run


def numkong_search(codes: Codes, threads: int) -> Search:
    """Its packed kernel, tile after tile."""
    import numkong

    tiles = [numkong.hammings_pack(codes[start : start + TILE]) for start in range(0, len(codes), TILE)]
    return by_tiles([lambda q, tile=tile: np.asarray(numkong.hammings_packed(q, tile)) for tile in tiles], threads)


def numpy_search(codes: Codes, threads: int) -> Search:
    """XOR and `bitwise_count`, tile after tile."""
    word = np.uint64 if codes.shape[1] % 8 == 0 else np.uint16
    tiles = [codes[start : start + TILE].view(word) for start in range(0, len(codes), TILE)]

    def measure(queries: Codes, tile: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.bitwise_count(queries.view(word)[:, None] ^ tile).sum(axis=2, dtype=np.int32)

    return by_tiles([lambda q, tile=tile: measure(q, tile) for tile in tiles], threads)


def by_tiles(tiles: list[Callable[[Codes], npt.NDArray[Any]]], threads: int) -> Search:
    """The smallest distances, from functions that measure all of a tile."""

    def run(queries: Codes) -> npt.NDArray[np.int32]:
        found = [measure(queries) for measure in tiles]
        nearest = [np.partition(tile, min(K, tile.shape[1]) - 1, axis=1)[:, :K] for tile in found]
        return np.sort(np.concatenate(nearest, axis=1), axis=1)[:, :K].astype(np.int32)

    def run_threads(queries: Codes) -> npt.NDArray[np.int32]:
        parts = np.array_split(queries, min(threads, len(queries)))
        with ThreadPoolExecutor(len(parts)) as pool:
            return np.concatenate(list(pool.map(run, parts)))

    return run_threads


# Package, what makes its search, and how much it is spared.
RIVALS: dict[str, tuple[str, Callable[[Codes, int], Search], int]] = {
    "faiss": ("faiss-cpu", faiss_search, 1),
    "usearch": ("usearch", usearch_search, SLOW),
    "numkong": ("numkong", numkong_search, SLOW),
    "numpy": ("numpy", numpy_search, SLOW),
}


def compare(rows: int, asked: int, bits: int, threads: int, repeats: int) -> list[dict[str, object]]:
    """All installed, in turn, on the same codes; every answer must have the same distances as ours."""
    random = np.random.default_rng(bits)
    codes = random.integers(0, 256, (rows, bits // 8), dtype=np.uint8)
    queries = random.integers(0, 256, (asked, bits // 8), dtype=np.uint8)
    ours = imagelake_search(codes, threads)
    truth = ours(queries)
    kernel = "C" if hamming_native.available() else "NumPy"
    searches = [(f"imagelake in {kernel}", ours, 1)]
    if kernel == "C":
        searches.append(("imagelake in NumPy", fallback_search(codes, threads), SLOW))
    for module, (package, make, slow) in RIVALS.items():
        if importlib.util.find_spec(module):
            searches.append((f"{module} {version(package)}", make(codes, threads), slow))
    took: dict[str, list[float]] = {name: [] for name, _, _ in searches}
    for _ in range(repeats):
        for name, search, slow in searches:
            part = queries[: max(1, asked // slow)]
            began = time.perf_counter()
            distances = search(part)
            took[name].append((time.perf_counter() - began) / len(part))
            if not np.array_equal(distances, truth[: len(part)]):
                message = f"{name} found other distances than imagelake at {bits} bits"
                raise RuntimeError(message)
    return [
        {
            "bits": bits,
            "rows": rows,
            "queries": max(1, asked // slow),
            "threads": threads,
            "library": name,
            "queries/s": 1 / statistics.median(took[name]),
            "ns/distance": statistics.median(took[name]) / rows * 1e9,
            "imagelake is faster by": statistics.median(
                a / b for a, b in zip(took[name], took[searches[0][0]], strict=True)
            ),
        }
        for name, _, slow in searches
    ]


def version(package: str) -> str:
    """What is installed; a build by another name has none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "?"


def main() -> None:
    """Every width, on one thread and on two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a second instead of a minute, for the tests")
    parser.add_argument("--bits", type=int, choices=QUERIES, help="this width only")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    options = parser.parse_args()
    rows, repeats = (2000, 1) if options.small else (50_000, 5)
    widths = [options.bits] if options.bits else list(QUERIES)
    cases = [(bits, 20 if options.small else QUERIES[bits]) for bits in widths]
    table = [row for bits, asked in cases for threads in (1, 2) for row in compare(rows, asked, bits, threads, repeats)]
    report(f"hamming: exact search, k = {K}", table, options.json)


if __name__ == "__main__":
    main()
