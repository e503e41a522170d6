"""Make the pictures of the tour of the page, `docs/images/tour/*.webp`: a real browser in front of a real server.

    python scripts/page_tour.py [--lake LAKE] [--out FOLDER]

Without a lake, one is made of the freely licensed sample photos of `imagelake demo`, with places and times made up.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import imagelake
from imagelake.demo import make_copies
from imagelake.run.progress import Silent
from imagelake.sources.sample_photos import sample_photos

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from web_site import served  # noqa: E402  (beside the tests)

PLACES = (  # name, latitude, longitude: made up, as the cameras and the times are
    ("Hamburg", 53.5, 10.0), ("Kyoto", 35.0, 135.8), ("Lima", -12.0, -77.0), ("Nairobi", -1.3, 36.8),
    ("Bern", 46.9, 7.4), ("Shanghai", 31.2, 121.5), ("Wellington", -41.3, 174.8), ("Montreal", 45.5, -73.6),
)  # fmt: skip
CAMERAS = (("Canon", "EOS R5"), ("FUJIFILM", "X-T4"), ("Apple", "iPhone 15"), ("NIKON", "Z 6"))

WIDE = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
DARK = {"color_scheme": "dark"}
_FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
SHOTS: tuple[tuple[str, str, dict[str, Any]], ...] = (  # file, address, of the window; {id} is an image
    ("browse", "?view=browse", WIDE),
    ("search", "?view=search&like={id}", WIDE),
    ("picture", "?view=picture&id={id}", WIDE | DARK),
    ("map", "?view=map", WIDE),
    ("duplicates", "?view=duplicates", WIDE),
    ("atlas", "?view=atlas", WIDE | DARK),
    ("runs", "?view=runs", WIDE),
    ("phone", "?view=browse", PHONE),
)
SHOWN = "rocket"  # in the name of the image that is searched and shown
_QUIET_MS = 2500  # for pictures, and what is drawn on canvas, to be there
_LARGEST = 1100  # pixels of the longer side
_MOST_BYTES = 1_500_000  # all together


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lake", type=Path, help="the lake that is shown")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "tour")
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("No browser is installed: apt-get install chromium")
    given.out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.gettempdir()) / "tour"  # its name is seen in the pictures
    shutil.rmtree(folder, ignore_errors=True)
    with sync_playwright() as playwright:
        lake = given.lake or _sample(folder)
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        with served(lake, "--log-level", "error") as site:
            size = sum(_shoot(browser, site.address, given.out, shot) for shot in SHOTS)
        browser.close()
    sys.stdout.write(f"{len(SHOTS)} pictures, {size:,} bytes\n")
    if size > _MOST_BYTES:
        sys.exit(f"They are larger than {_MOST_BYTES:,} bytes together.")


def _sample(folder: Path) -> Path:
    """The sample photos of the demo and altered copies, with cameras, times and places that are made up."""
    originals, pictures = sample_photos(), folder / "Pictures"
    make_copies(originals, folder / "copies", Silent())
    copies = sorted((folder / "copies").iterdir())
    Random(5).shuffle(copies)  # noqa: S311  (an order, no secret)
    for number, path in enumerate(copies):
        place, latitude, longitude = PLACES[number % len(PLACES)]
        (pictures / place).mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x010F], exif[0x0110] = CAMERAS[number % len(CAMERAS)]
        taken = datetime(2025, 1, 1, 9, tzinfo=UTC) + timedelta(hours=31 * number)
        exif.get_ifd(0x8769)[0x9003] = taken.strftime("%Y:%m:%d %H:%M:%S")
        if number % 5:  # some have no position
            exif.get_ifd(0x8825).update(_position(latitude + number % 7 / 9, longitude + number % 11 / 9))
        with Image.open(path) as picture:
            picture.convert("RGB").save(pictures / place / f"{path.stem}.jpg", quality=90, exif=exif)
    lake = imagelake.open(folder / "photos.lake", create=True)
    lake.ingest(pictures)
    for place, _, _ in PLACES:
        lake.tag(f"uris[1] LIKE '%/{place}/%'", add=["journey" if place > "L" else "at home"])
    lake.extract()
    return folder / "photos.lake"


def _position(latitude: float, longitude: float) -> dict[int, Any]:
    def parts(value: float) -> tuple[int, int, float]:
        return int(value), int(value * 60 % 60), round(value * 3600 % 60, 3)

    return {
        1: "N" if latitude >= 0 else "S", 2: parts(abs(latitude)),
        3: "E" if longitude >= 0 else "W", 4: parts(abs(longitude)),
    }  # fmt: skip


def _shoot(browser: Any, address: str, out: Path, shot: tuple[str, str, dict[str, Any]]) -> int:
    name, query, window = shot
    context = browser.new_context(**window)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector(".view-browse .tile[data-id]", state="attached")
    page.goto(f"{address}/?view=browse&q={SHOWN}")
    page.wait_for_timeout(_QUIET_MS)
    known = page.locator(".view-browse .tile[data-id]").first.get_attribute("data-id")
    page.goto(f"{address}/{query.format(id=known)}")
    if name == "atlas":
        page.locator(".atlas-loading").wait_for(state="hidden")
    page.wait_for_timeout(_QUIET_MS)
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    path = out / f"{name}.webp"
    picture.convert("RGB").save(path, quality=82, method=6)
    context.close()
    return path.stat().st_size


if __name__ == "__main__":
    main()
