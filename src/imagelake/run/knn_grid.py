"""A picture of what a k-NN benchmark on a lake found: some queries and their nearest."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from imagelake.errors import InputError
from imagelake.lake.tables import Tables, uris_of
from imagelake.run.grid import Answer as GridRow
from imagelake.run.grid import name_of, save_grid
from imagelake.run.knn_check import Answer
from imagelake.run.knn_data import KnnData
from imagelake.run.search import Match

_QUERIES, _MATCHES = 5, 3


def save_knn_grid(data: KnnData, answer: Answer, out: str | os.PathLike[str], seed: int = 0) -> None:
    """Draw five queries of a lake, each with its three nearest and their distances, as a PNG.

    The queries are the same for the same seed. There are fewer rows or columns where fewer were searched.

    Args:
        data: of a lake.
        answer: what was found for its queries.
        out: a path that ends in .png.
        seed: which queries.

    Raises:
        InputError: the vectors are not of a lake, or `out` does not end in .png or cannot be written.
    """
    check_grid(data.tables, out)
    if data.tables is None or data.base_ids is None or data.query_ids is None:
        raise AssertionError("check_grid refuses what is no lake")
    count = len(data.query_ids)
    chosen = np.random.default_rng(seed).permutation(count)[:_QUERIES]
    rows = []
    for query in chosen.tolist():
        names = data.base_ids[answer.rows[query, :_MATCHES]].tolist()
        distances = answer.distances[query, :_MATCHES].tolist()
        uris = uris_of(data.tables.images, names)
        matches = [Match(name, uris[name][0], distance) for name, distance in zip(names, distances, strict=True)]
        query_id = str(data.query_ids[query])
        rows.append(GridRow(name_of(data.tables, query_id), query_id, None, matches))
    save_grid(data.tables, rows, out)


def check_grid(tables: Tables | None, out: str | os.PathLike[str]) -> None:
    """Refuse a grid that could not be drawn, before anything is measured.

    Raises:
        InputError: the vectors are not of a lake, or `out` does not end in .png.
    """
    if tables is None:
        raise InputError(
            "--grid draws the pictures of a lake, and these vectors have none. Give --lake, or drop --grid."
        )
    if Path(out).suffix.lower() != ".png":
        raise InputError(f"--grid writes a PNG; {os.fspath(out)!r} does not end in .png.")
