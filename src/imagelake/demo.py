"""The main job on real photos, from nothing: a lake of photos and altered copies, and how well copies are found."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from imagelake.api import Lake, open_lake
from imagelake.pixels.alter import ALTERATIONS, Rgb
from imagelake.pixels.decode import decode_rgb
from imagelake.pixels.thumbnail import encode_jpeg
from imagelake.run.extract import ExtractReport
from imagelake.run.ingest import IngestReport
from imagelake.run.progress import Progress
from imagelake.run.search import Searcher, SearchOptions
from imagelake.sources.sample_photos import sample_photos
from imagelake.steps.identify import content_id

_QUALITY = 92
_LOW_QUALITY = 10
_LOW_QUALITY_NAME = "recompressed"
_LONGER_SIDE = 800


@dataclass(frozen=True)
class Found:
    """Of the altered copies of one kind, how many found their original.

    `before_other_photos`: the original is nearer than every picture of another photo. `before_all`: it is nearer than
    the other altered copies of itself, too.
    """

    alteration: str
    copies: int
    before_other_photos: int
    before_all: int


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
    """Make a lake in `folder` and `folder/grid.png` from `photos`, or from sample photos and altered copies of them.

    Raises:
        InputError: `photos` does not exist.
        MissingExtraError: the packages that ship the sample photos are not installed.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    pictures = photos if photos is not None else folder / "photos"
    if photos is None:
        make_copies(sample_photos(), pictures, progress)
    lake = open_lake(folder / _lake_name(photos), create=True)
    ingested = lake.ingest(pictures, progress)
    extracted = lake.extract(progress=progress)
    grid = folder / "grid.png"
    lake.search_random(5, SearchOptions(k=3, exclude_self=True), seed=7 if photos is None else None, out=grid)
    found = rate(lake, pictures) if photos is None else []
    return DemoReport(str(pictures), lake.root, str(grid), ingested, extracted, found)


def _lake_name(photos: Path | None) -> str:
    """One lake per folder of photos, so that nobody finds strangers among theirs."""
    if photos is None:
        return "sample.lake"
    place = os.fsencode(photos.resolve())
    name = "".join(c if c.isalnum() else "-" for c in photos.resolve().name if c.isprintable())
    return f"{name}-{hashlib.sha256(place).hexdigest()[:8]}.lake"


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
    """Search every altered copy in the whole lake: does its original come before every other photo, and first of all?

    A copy that came out byte for byte like its original (a gray copy of a gray photo) is not counted.
    """
    searcher = Searcher(lake.tables, SearchOptions(k=len(ALTERATIONS) + 2, exclude_self=True), lake.default_model())
    copies = {path: content_id(path.read_bytes()) for path in sorted(folder.glob("*--*.jpg"))}
    photo_of = {image_id: _photo(path) for path, image_id in copies.items()}
    original_of = {_photo(path): image_id for path, image_id in copies.items() if path.stem.endswith("--original")}
    results = []
    for name in [*ALTERATIONS, _LOW_QUALITY_NAME]:
        altered = {p: i for p, i in copies.items() if p.stem.endswith(f"--{name}") and i != original_of[_photo(p)]}
        before_others = first = 0
        for path, image_id in altered.items():
            matches = [match.id for match in searcher.by_id(image_id)]
            others = [match for match in matches if photo_of.get(match) != _photo(path)]
            nearest_other = matches.index(others[0]) if others else len(matches)
            before_others += original_of[_photo(path)] in matches[:nearest_other]
            first += matches[0] == original_of[_photo(path)]
        results.append(Found(name, len(altered), before_others, first))
    return results


def _photo(path: Path) -> str:
    return path.name.split("--")[0]
