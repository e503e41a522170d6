from __future__ import annotations

from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def exif_samples() -> Path:
    folder = SAMPLES / "exif"
    if not folder.is_dir():
        pytest.skip("the camera files of ianare/exif-samples are not here")
    return folder
