"""The outlines of land, coarse, out of the page's map: for drawing a world where no map server may be asked."""

from __future__ import annotations

import json
import struct
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray


@cache
def land() -> tuple[NDArray[np.float64], ...]:
    """The outlines of land: closed rings of longitude and latitude in degrees, each float64 [n, 2].

    Lakes are rings too, the other way around: fill them all together. `scripts/world_map.py` says where they come from.
    """
    data = files("imagelake.web").joinpath("static/world.bin").read_bytes()
    (size,) = struct.unpack_from("<I", data)
    level = json.loads(data[4 : 4 + size])["levels"][0]
    numbers = _numbers(data[4 + size : 4 + size + level["bytes"]])
    rings, at = [], 0
    for column, row, count in level["blocks"]:
        corner = np.array([level["x"] + column * level["size"], level["y"] - row * level["size"]])
        for _ in range(count):
            points = int(numbers[at])
            steps = numbers[at + 1 : at + 1 + 2 * points].reshape(points, 2)
            rings.append(corner + np.cumsum(steps, axis=0) / level["step"] * (1, -1))
            at += 1 + 2 * points
    return tuple(rings)


def _numbers(data: bytes) -> NDArray[np.int64]:
    """Signed numbers of zigzag varints."""
    digits = np.frombuffer(data, np.uint8).astype(np.int64)
    last = digits < 128
    which = np.concatenate([[0], np.cumsum(last)[:-1]])  # the number that each byte belongs to
    first = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    place = np.arange(len(digits)) - first[which]
    values = np.zeros(int(last.sum()), np.int64)
    np.add.at(values, which, (digits & 127) << (7 * place))
    return (values >> 1) ^ -(values & 1)
