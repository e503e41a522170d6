"""The main job on real photos, from nothing: a lake of photos and altered copies, and how well copies are found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imagelake.api import Lake, open_lake
from imagelake.files import path_to_uri
from imagelake.pixels.alter import ALTERATIONS, Rgb
from imagelake.pixels.decode import decode_rgb
from imagelake.pixels.thumbnail import encode_jpeg
from imagelake.run.extract import ExtractReport
from imagelake.run.ingest import IngestReport
from imagelake.run.progress import Progress
from imagelake.run.search import Searcher, SearchOptions
from imagelake.sources.sample_photos import sample_photos

_QUALITY = 92
_LOW_QUALITY = 10
_LOW_QUALITY_NAME = "recompressed"
_LONGER_SIDE = 800


@dataclass(frozen=True)
class Found:
    """How many altered copies of one kind had their original (or at least a copy of it) as nearest picture."""

    alteration: str
    copies: int
    original_first: int
    original_or_copy_first: int


@dataclass(frozen=True)
class DemoReport:
    """Where everything is, what was done, and what the default model can do."""

    photos: str
    lake: str
    grid: str
    ingest: IngestReport
    extract: ExtractReport
    found: list[Found]


def run_demo(folder: Path, photos: Path | None, progress: Progress) -> DemoReport:
    """Make `folder/photos.lake` and `folder/grid.png` from `photos`, or from sample photos and altered copies of them.

    Raises:
        InputError: `photos` does not exist.
        MissingExtraError: the packages that ship the sample photos are not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = photos if photos is not None else folder / "photos"
    if photos is None:
        make_copies(sample_photos(), pictures, progress)
    lake = open_lake(folder / ("photos.lake" if photos is None else f"{photos.resolve().name}.lake"), create=True)
    ingested = lake.ingest(pictures, progress)
    extracted = lake.extract(progress=progress)
    grid = folder / "grid.png"
    lake.search_random(5, SearchOptions(k=3, exclude_self=True), seed=7 if photos is None else None, out=grid)
    found = rate(lake, pictures) if photos is None else []
    return DemoReport(str(pictures), lake.root, str(grid), ingested, extracted, found)


def make_copies(originals: list[Path], folder: Path, progress: Progress) -> None:
    """Write each original and its altered copies as `STEM--ALTERATION.jpg` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    progress.start("altered copies", len(originals))
    for original in originals:
        image_rgb = _at_most(decode_rgb(original.read_bytes()))
        copies = {name: (alter(image_rgb), _QUALITY) for name, alter in ALTERATIONS.items()}
        copies[_LOW_QUALITY_NAME] = (image_rgb, _LOW_QUALITY)
        copies["original"] = (image_rgb, _QUALITY)
        for name, (copy_rgb, quality) in copies.items():
            (folder / f"{original.stem}--{name}.jpg").write_bytes(encode_jpeg(copy_rgb, quality))
        progress.advance(1)


def _at_most(image_rgb: Rgb) -> Rgb:
    factor = -(-max(image_rgb.shape[:2]) // _LONGER_SIDE)
    return image_rgb if factor == 1 else image_rgb[::factor, ::factor].copy()


def rate(lake: Lake, folder: Path) -> list[Found]:
    """Search every altered copy in the whole lake without itself: is its original the first match?"""
    searcher = Searcher(lake.tables, SearchOptions(k=1, exclude_self=True), lake.default_model())
    originals = {path.name.split("--")[0]: path_to_uri(path) for path in folder.glob("*--original.jpg")}
    results = []
    for name in [*ALTERATIONS, _LOW_QUALITY_NAME]:
        copies = sorted(folder.glob(f"*--{name}.jpg"))
        firsts = {path: searcher.by_bytes(path.read_bytes())[0].uri for path in copies}
        exact = sum(uri == originals[path.name.split("--")[0]] for path, uri in firsts.items())
        family = sum(uri.rsplit("/", 1)[-1].split("--")[0] == path.name.split("--")[0] for path, uri in firsts.items())
        results.append(Found(name, len(copies), exact, family))
    return results
