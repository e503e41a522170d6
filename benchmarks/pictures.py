"""Pictures for benchmarks: the shared product photos, or photos made by code where those are not there."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from machine import SHARED
from PIL import Image


def pictures(count: int, folder: Path) -> Path:
    """Write `count` JPEG files of different content into `folder`.

    They are the product photos over and over; each has a few bytes of its own after the end of the picture, which
    decoders skip, so that no two files have the same content.
    """
    folder.mkdir(parents=True, exist_ok=True)
    originals = [path.read_bytes() for path in sorted((SHARED / "products").rglob("*.jpg"))] or _made(40)
    for number in range(count):
        (folder / f"{number:06}.jpg").write_bytes(originals[number % len(originals)] + f"{number:08}".encode())
    return folder


def _made(count: int) -> list[bytes]:
    """Soft blobs with grain, 400 x 533, about as large as a photo of that size."""
    random = np.random.default_rng(1)
    files = []
    for _ in range(count):
        blobs = Image.fromarray(random.integers(0, 256, (8, 6, 3), dtype=np.uint8)).resize((400, 533))
        grain = random.normal(0, 6, (533, 400, 1))
        out = io.BytesIO()
        Image.fromarray(np.clip(np.asarray(blobs) + grain, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
        files.append(out.getvalue())
    return files
