"""Make the pictures of the tour of the page, `docs/images/tour/*.webp`: a real browser in front of a real server.

    python scripts/page_tour.py [--lake LAKE] [--out FOLDER]

Without a lake, one is made of the freely licensed sample photos of `imagelake demo`.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import imagelake

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from web_site import build_lake, served  # noqa: E402  (beside the tests)

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
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        lake = given.lake or _sample(Path(folder))
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        with served(lake, "--log-level", "error") as site:
            size = sum(_shoot(browser, site.address, given.out, shot) for shot in SHOTS)
        browser.close()
    sys.stdout.write(f"{len(SHOTS)} pictures, {size:,} bytes\n")
    if size > _MOST_BYTES:
        sys.exit(f"They are larger than {_MOST_BYTES:,} bytes together.")


def _sample(folder: Path) -> Path:
    """Drawings with places and cameras, and the sample photos with altered copies, in one lake."""
    from imagelake.sources.sample_photos import sample_photos

    place = build_lake(folder)
    photos = folder / "sample"
    photos.mkdir()
    for photo in sample_photos():
        shutil.copy(photo, photos)
    lake = imagelake.open(place)
    lake.ingest(photos)
    lake.extract()
    return place


def _shoot(browser: Any, address: str, out: Path, shot: tuple[str, str, dict[str, Any]]) -> int:
    name, query, window = shot
    context = browser.new_context(**window)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector(".view-browse .tile[data-id]", state="attached")
    known = page.locator(".view-browse .tile[data-id]").nth(3).get_attribute("data-id")
    page.goto(f"{address}/{query.format(id=known)}")
    page.wait_for_timeout(_QUIET_MS)
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    path = out / f"{name}.webp"
    picture.convert("RGB").save(path, quality=82, method=6)
    context.close()
    return path.stat().st_size


if __name__ == "__main__":
    main()
