from __future__ import annotations

import contextlib

import numpy as np
import pytest

from imagelake.errors import ImageError
from imagelake.pixels.describe import describe
from pictures import every_picture

PICTURES = every_picture()


@pytest.mark.parametrize("name", PICTURES)
def test_damaged_files_give_a_picture_or_a_reason(name):
    """Flipped bytes, cuts and insertions give a description or an `ImageError`: nothing else, and no warning."""
    whole = PICTURES[name]
    chance = np.random.default_rng(len(name) * 1000 + len(whole))
    for _ in range(25):
        data = bytearray(whole)
        where = int(chance.integers(len(data)))
        kind = chance.integers(4)
        if kind == 0:
            del data[where:]
        elif kind == 1:
            data[where:where] = chance.bytes(int(chance.integers(1, 40)))
        else:
            limit = len(data) if kind == 2 else min(len(data), 200)
            for position in chance.integers(limit, size=int(chance.integers(1, 12))):
                data[position] = int(chance.integers(256))
        with contextlib.suppress(ImageError):
            assert describe(bytes(data)).width > 0
