from __future__ import annotations

import contextlib

import numpy as np
import pytest

from imagelake.errors import ImageError
from imagelake.pixels.describe import describe
from pictures import every_picture

PICTURES = every_picture()


@pytest.mark.parametrize("name", PICTURES)
def test_damaged_files_give_a_picture_or_a_reason(name, capfd):
    """Flipped bytes, cuts and insertions give a description or an `ImageError`: nothing else, no warning, no noise."""
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
    assert len(capfd.readouterr().err) < 2000


def test_camera_files_survive_damage(exif_samples):
    """So do the files of real cameras, damaged where their metadata are."""
    paths = sorted((exif_samples / "jpg").rglob("*.jpg"), key=lambda path: path.stat().st_size)[:24]
    chance = np.random.default_rng(5)
    for path in paths:
        whole = path.read_bytes()
        for _ in range(8):
            data = bytearray(whole)
            for position in chance.integers(2, min(len(data), 3000), size=int(chance.integers(1, 20))):
                data[position] = int(chance.integers(256))
            with contextlib.suppress(ImageError):
                assert describe(bytes(data)).width > 0


def test_junk_is_no_picture():
    """Random bytes are refused."""
    chance = np.random.default_rng(1)
    for size in (1, 2, 12, 64, 5000):
        with pytest.raises(ImageError, match="not a picture"):
            describe(b"\x9a" + chance.bytes(size))
