"""A picture of queries and their matches, one query a row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.files import display_name
from imagelake.lake.tables import Tables, uris_of
from imagelake.pixels.decode import decode_rgb
from imagelake.pixels.draw import draw_boxes
from imagelake.pixels.grid import Cell, draw_grid, save_png
from imagelake.pixels.reduction import reduce_to
from imagelake.run.search import Match

_CELL_PIXELS = 448


@dataclass(frozen=True)
class Answer:
    """A query and its matches. `query_id` is None where the query is not in the lake; then `query_bytes` is used."""

    query_name: str
    query_id: str | None
    query_bytes: bytes | None
    matches: list[Match]


def save_grid(tables: Tables, answers: Sequence[Answer], out: str | os.PathLike[str]) -> None:
    """Draw each answer as a row (the query, then its matches with their distances) and write a PNG.

    Raises:
        InputError: `out` does not end in .png, or cannot be written.
    """
    path = Path(out)
    if path.suffix.lower() != ".png":
        raise InputError(f"--grid writes a PNG; {os.fspath(out)!r} does not end in .png.")
    rows = [_row(tables, answer) for answer in answers]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(draw_grid(rows), path)
    except OSError as error:
        raise InputError(f"{os.fspath(out)!r} cannot be written: {error.strerror}. Give another --grid.") from error


def _row(tables: Tables, answer: Answer) -> list[Cell]:
    wanted = [match.id for match in answer.matches] + ([answer.query_id] if answer.query_id else [])
    stored = tables.images.bytes_of(wanted)
    query = answer.query_bytes if answer.query_id is None else stored[answer.query_id]
    cells = [Cell(_decode_for_cell(query or b""), "query", answer.query_name)]
    for match in answer.matches:
        image = _decode_for_cell(stored[match.id])
        if match.box_xyxy is not None:
            image = draw_boxes(image, np.array([match.box_xyxy], np.float32), [""])
        cells.append(Cell(image, f"{match.distance:.4f}", display_name(match.uri)))
    return cells


def _decode_for_cell(data: bytes) -> NDArray[np.uint8]:
    """No more pixels than a cell shows, so that a large grid of large pictures fits into memory."""
    return reduce_to(decode_rgb(data, min_side=_CELL_PIXELS), _CELL_PIXELS)


def name_of(tables: Tables, image_id: str) -> str:
    """The file name under which an image of the lake was first seen."""
    return display_name(uris_of(tables.images, [image_id])[image_id][0])
