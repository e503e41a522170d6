"""Pictures made by code, lakes in temporary folders, and the shared data where it is."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import imagelake

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


def make_image(seed: int, width: int = 160, height: int = 120) -> np.ndarray:
    """A picture unlike any other seed's: soft blobs of color. Shape (height, width, 3), uint8."""
    blobs = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC))


def encode(image_rgb: np.ndarray, form: str = "JPEG", **options: object) -> bytes:
    """The bytes of an image file."""
    out = io.BytesIO()
    Image.fromarray(image_rgb).save(out, form, **options)
    return out.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of twelve pictures in two formats, one in a folder below."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for seed in range(10):
        (folder / f"{seed}.jpg").write_bytes(encode(make_image(seed), quality=90))
    (folder / "ten.PNG").write_bytes(encode(make_image(10), "PNG"))
    (folder / "below" / "eleven.webp").write_bytes(encode(make_image(11), "WEBP"))
    return folder


@pytest.fixture
def lake(tmp_path: Path) -> imagelake.Lake:
    """An empty lake."""
    return imagelake.open(tmp_path / "test.lake", create=True)


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Find a file or folder of the shared data, or skip the test with a word."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"the shared data {name} is not here")
        return path

    return find


@contextmanager
def unprivileged() -> Iterator[None]:
    """Inside, root is nobody, so that permissions hold for it too."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
