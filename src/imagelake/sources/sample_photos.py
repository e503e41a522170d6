"""Photos that installed packages ship, so that a demo needs no download: scikit-image's and scikit-learn's."""

from __future__ import annotations

from pathlib import Path

from imagelake._optional import need

_SCIKIT_IMAGE = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png",
    "motorcycle_left.png", "motorcycle_right.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip
_SCIKIT_LEARN = ("china.jpg", "flower.jpg")


def sample_photos() -> list[Path]:
    """The paths of the photos, sorted by name.

    Raises:
        MissingExtraError: a package that ships them is not installed.
    """
    data = _folder("skimage") / "data"
    images = _folder("sklearn") / "datasets" / "images"
    photos = [data / name for name in _SCIKIT_IMAGE] + [images / name for name in _SCIKIT_LEARN]
    return sorted((photo for photo in photos if photo.exists()), key=lambda photo: photo.name)


def _folder(package: str) -> Path:
    return Path(str(need("demo", package).__file__)).parent
