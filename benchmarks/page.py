"""How fast the page is on a lake of 100,000 images: what somebody in front of a browser waits for.

A synthetic lake (`tests/web_lake.py`), a real `imagelake serve --lake`, and Chromium without a window, all on this
machine, sharing its cores. A time begins with the click or key and ends in the frame in which the new counts and every
thumbnail of the window are there.

    python benchmarks/page.py [--small] [--json PATH] [--rows N] [--lake FOLDER] [--times N]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from machine import report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from web_lake import make_big_lake
from web_site import served

_FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
          "--disable-component-update"]  # fmt: skip
_WINDOW = {"width": 1280, "height": 800}

# In the page: do something, then wait until what is looked at differs from before and all pictures in sight are there.
_TIMED = """async () => {
  const inSight = (each) => {
    const box = each.getBoundingClientRect();
    return box.width && box.bottom > 0 && box.top < innerHeight;
  };
  const state = () => STATE;
  const before = state();
  const began = performance.now();
  ACT
  for (;;) {
    await new Promise((resolve) => requestAnimationFrame(resolve));
    const images = [...document.querySelectorAll(".view:not([hidden]) .tile[data-id] img[src]")].filter(inSight);
    const there = images.every((each) => each.complete && each.naturalWidth);
    if (state() && state() !== before && images.length && there) break;
    if (performance.now() - began > 20000) throw new Error("nothing changed at " + location.search);
  }
  return performance.now() - began;
}"""
_FIRST = """async () => {
  while (![...document.querySelectorAll(".view-browse .tile img")].some((each) => each.naturalWidth)) {
    await new Promise((resolve) => requestAnimationFrame(resolve));
  }
  return performance.now();
}"""
_COUNTS = "document.querySelector('.browse-count').textContent + document.querySelector('.filters').textContent"
_FOUND = "[...document.querySelectorAll('.search-results .tile')].map((each) => each.dataset.id).join()"
_VALUES = """() => [...document.querySelectorAll('.filters-facet input[type=checkbox]')].slice(0, 200).map((each) => [
  each.closest('.filters-facet').dataset.facet, each.value])"""
_GO = "history.pushState(null, '', '%s'); dispatchEvent(new PopStateEvent('popstate'));"
_TOGGLE = """document.querySelector(`.filters-facet[data-facet="%s"] input[value="%s"]`).click();"""
_UPLOAD = """
  const canvas = Object.assign(document.createElement('canvas'), {width: 1200, height: 900});
  const pen = canvas.getContext('2d');
  for (let n = 0; n < 60; n++) {
    pen.fillStyle = `hsl(${Math.random() * 360} 70%% 50%%)`;
    pen.fillRect(Math.random() * 1200, Math.random() * 900, 300, 200);
  }
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, 'image/jpeg', 0.9));
  const given = new DataTransfer();
  given.items.add(new File([blob], 'photo-%d.jpg', {type: 'image/jpeg'}));
  const field = document.querySelector('.view-search input[type=file]');
  field.files = given.files;
  field.dispatchEvent(new Event('change', {bubbles: true}));
"""
_SCROLL = """async (seconds) => {
  const frames = [];
  const began = performance.now();
  for (let before = began; before - began < 1000 * seconds; ) {
    scrollBy(0, 160);
    const now = await new Promise((resolve) => requestAnimationFrame(resolve));
    frames.push(now - before);
    before = now;
  }
  return frames.slice(1);
}"""


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a quick run, to see that it works")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--lake", type=Path, help="a lake that is there, in place of a new synthetic one")
    parser.add_argument("--times", type=int, default=30, help="how often each thing is done")
    given = parser.parse_args()
    rows, times = (1_000, 2) if given.small else (given.rows, given.times)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        report("page", [{"what": "no browser is installed: apt-get install chromium", "median": 0.0}], given.json)
        return
    with tempfile.TemporaryDirectory() as folder:
        lake = given.lake or make_big_lake(Path(folder) / "page.lake", rows)
        with served(lake, "--log-level", "error") as site:
            found = measured(site, chromium, times)
    report(f"page, {rows:,} images" if given.lake is None else f"page, {given.lake.name}", found, given.json)


def measured(site: Any, chromium: str, times: int) -> list[dict[str, object]]:
    """One row a thing that was done."""
    from playwright.sync_api import sync_playwright

    process = psutil.Process(site.process.pid)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        rows = [*_opened(browser, site.address, max(3, times // 3))]
        page = browser.new_page(viewport=_WINDOW)
        page.set_default_timeout(60_000)
        page.goto(site.address)
        page.wait_for_selector(".view-browse .tile[data-id]", state="attached")
        page.wait_for_selector(".filters-facet input[type=checkbox]", state="attached")
        rows.append(_row("a facet changes, ms", _facets(page, times)))
        ids = page.evaluate(
            "[...document.querySelectorAll('.view-browse .tile[data-id]')].map((each) => each.dataset.id)"
        )
        frames = page.evaluate(_SCROLL, 1 if times < 10 else 5)
        rows.append(_row("a frame while the grid scrolls, ms", frames))
        page.goto(f"{site.address}/?view=search")
        page.wait_for_selector(".view-search:not([hidden])")
        asked = [_GO % f"?view=search&like={ids[n % len(ids)]}" for n in range(times)]
        rows.append(_row("search by an image of the lake, ms", [_timed(page, act, _FOUND) for act in asked]))
        sent = [_timed(page, _UPLOAD % n, _FOUND) for n in range(times)]
        rows.append(_row("search by a picture that is sent, ms", sent))
        rows.append(_row("memory of the server, MB", [process.memory_info().rss / 1e6]))
        browser.close()
    return rows


def _opened(browser: Any, address: str, times: int) -> list[dict[str, object]]:
    """A browser that was never here opens the page."""
    paints, tiles = [], []
    for _ in range(times):
        context = browser.new_context(viewport=_WINDOW)
        page = context.new_page()
        page.goto(address)
        tiles.append(page.evaluate(_FIRST))
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        context.close()
    return [_row("first paint, ms", paints), _row("the first picture is there, ms", tiles)]


def _facets(page: Any, times: int) -> list[float]:
    """Values of facets, chosen and dropped again."""
    values = page.evaluate(_VALUES)
    step = max(1, len(values) // max(1, times // 2))
    chosen = (values[::step] * times)[: max(1, times // 2)]
    acts = [_TOGGLE % (facet, value.replace('"', '\\"')) for facet, value in chosen for _ in ("on", "off")]
    return [_timed(page, act, _COUNTS) for act in acts]


def _timed(page: Any, act: str, state: str) -> float:
    """Milliseconds from what is done to the frame that shows it."""
    took: float = page.evaluate(_TIMED.replace("STATE", state).replace("ACT", act))
    return took


def _row(what: str, values: Sequence[float]) -> dict[str, object]:
    numbers = np.array(values)
    return {"what": what, "median": float(np.median(numbers)), "p95": float(np.percentile(numbers, 95)),
            "worst": float(numbers.max()), "times": len(values)}  # fmt: skip


if __name__ == "__main__":
    main()
