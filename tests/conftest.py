"""Pictures made by code, lakes in temporary folders, and the shared data where it is."""

from collections.abc import Callable
from pathlib import Path

import pytest

import imagelake
from pictures import encode, make_image
from places import SHARED


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
