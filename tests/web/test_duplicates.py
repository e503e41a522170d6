"""Groups of copies as people see them: found, compared, chosen in bulk, and moved by a script that they run."""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from urllib.parse import quote

import pytest
from web_site import built_from, served

ROWS = ".duplicates-row a"


def ask(address, body=None):
    """Status and JSON, or bytes."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"X-Imagelake-Page": "1", "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            got = answer.read()
            return answer.status, json.loads(got) if "json" in answer.headers["content-type"] else got
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def found(site, query=""):
    """What the server found, once it is there."""
    for _ in range(400):
        status, told = ask(f"{site.address}/page/api/duplicates?{query}")
        if status != 200 or told["state"] != "working":
            return status, told
    raise AssertionError(told)


@pytest.fixture
def view(open_page, site):
    """The view at a desk."""
    page = open_page(f"{site.address}/?view=duplicates")
    page.wait_for_selector(ROWS)
    return page


def loaded(page, selector):
    """Wait until all pictures of a selector are drawn."""
    page.wait_for_function(
        "s => [...document.querySelectorAll(s)].length && [...document.querySelectorAll(s)].every("
        "each => each.complete && each.naturalWidth > 0)",
        arg=selector,
    )


def test_groups_are_the_copies(view, site):
    """The three photos that were saved again are three groups, the largest file of each the one to keep."""
    _, told = found(site)
    kept = sorted(group["files"][0]["name"] for group in told["groups"])
    assert kept == [f"temple 0{number} 写真.jpg" for number in (1, 2, 3)]
    assert all(len(group["files"]) == 3 for group in told["groups"])
    assert view.locator(ROWS).count() == 3
    assert view.inner_text(".duplicates-headline").startswith("3 groups · 6 copies")
    assert view.locator(".duplicates-file").count() == 3
    assert view.locator(".duplicates-file[data-state=keep] input[type=radio]").is_checked()


def test_compare(view):
    """Two files are shown beside each other, over each other, or as their difference; the address says which."""
    loaded(view, ".duplicates-pane img")
    assert view.locator(".duplicates-pane").count() == 2
    view.wait_for_selector(".duplicates-measures")
    words = view.inner_text(".duplicates-said")
    assert "SSIM" in words
    assert "EXIF that the other lost" in words
    view.click("button[data-mode=difference]")
    loaded(view, ".duplicates-dark img")
    assert "of 255" in view.inner_text(".duplicates-legend")
    assert "mode=difference" in view.url
    view.click("button[data-mode=swipe]")
    loaded(view, ".duplicates-pane img")
    view.fill(".duplicates-slide", "20")
    assert "20%" in view.eval_on_selector(".duplicates-over", "each => each.style.clipPath")
    view.click("button[aria-label='Zoom in']")
    scales = view.eval_on_selector_all(".duplicates-layer", "all => all.map((each) => each.style.transform)")
    assert len(set(scales)) == 1
    assert "scale(1.5)" in scales[0]


def test_keyboard_alone(view):
    """J and k go through the groups, arrows through the files, p keeps another, x chooses, a chooses all but it."""
    assert "Group 1 of 3" in view.inner_text(".duplicates-where")
    view.keyboard.press("j")
    view.wait_for_selector(".duplicates-where:has-text('Group 2 of 3')")
    first = view.get_attribute(".duplicates-file[aria-current=true]", "data-key")
    view.keyboard.press("ArrowRight")
    view.wait_for_function(
        "key => document.querySelector('.duplicates-file[aria-current=true]').dataset.key !== key", arg=first
    )
    looked = view.get_attribute(".duplicates-file[aria-current=true]", "data-key")
    view.keyboard.press("x")
    view.wait_for_selector(f".duplicates-file[data-key='{looked}'][data-state=goes]")
    view.wait_for_selector(".duplicates-sum:has-text('1 file chosen')")
    view.keyboard.press("p")
    view.wait_for_selector(f".duplicates-file[data-key='{looked}'][data-state=keep]")
    view.keyboard.press("a")
    view.wait_for_selector(".duplicates-sum:has-text('2 files chosen')")
    view.keyboard.press("k")
    view.wait_for_selector(".duplicates-where:has-text('Group 1 of 3')")
    assert view.locator(".duplicates-file[data-state=goes]").count() == 0
    assert "1 group by hand" in view.inner_text(".duplicates-outcome")


def test_bulk_and_back(view):
    """A rule for all groups is in the address, counts at once, and the back button takes it back."""
    view.select_option(".duplicates-pick select", "all")
    view.wait_for_selector(".duplicates-sum:has-text('6 files chosen')")
    assert "pick=all" in view.url
    view.fill(".duplicates-pick input", "/copies/")
    view.wait_for_selector(".duplicates-sum:has-text('3 files chosen')")
    view.go_back()
    view.wait_for_selector(".duplicates-sum:has-text('No file is chosen')")
    view.select_option(".duplicates-pick select", "exact")
    view.wait_for_function("() => document.querySelector('.duplicates-going') === null")
    assert view.inner_text(".duplicates-sum") == "No file is chosen"


def test_selection_and_settings(open_page, site):
    """The selection of the address counts here too; closer settings find less, and a lake without copies says so."""
    where = quote("uris[1] LIKE '%temple_202_20again%'")
    page = open_page(f"{site.address}/?view=duplicates&where={where}")
    page.wait_for_selector(ROWS)
    assert page.locator(ROWS).count() == 1
    page = open_page(f"{site.address}/?view=duplicates&by=exact")
    page.wait_for_selector(".duplicates-empty:not([hidden])")
    assert "No duplicates" in page.inner_text(".duplicates-empty")
    page.click(".duplicates-kinds summary")
    page.check(".duplicates-kind:has-text('The same picture') input")
    page.wait_for_selector(ROWS)
    assert "by=" not in page.url


def test_phone(open_page, site):
    """On a phone the list comes first, a group fills the screen, and back leads to the list; nothing is cut off."""
    page = open_page(f"{site.address}/?view=duplicates", viewport={"width": 390, "height": 844}, has_touch=True)
    page.wait_for_selector(ROWS)
    assert page.locator(".duplicates-group").is_hidden()
    page.tap(f"{ROWS} >> nth=1")
    page.wait_for_selector(".duplicates-group:visible")
    assert page.locator(".duplicates-list").is_hidden()
    page.click(".duplicates-back")
    page.wait_for_selector(f"{ROWS}:visible")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_script_is_run(open_page, tmp_path):
    """The script that the page saves moves the chosen files when it is run, and no others; the page moves none."""
    photos = tmp_path / "photos"
    names = ["$(touch hacked) it's.jpg", "plain.jpg"]
    lake = built_from(photos, names, tmp_path / "own.lake")
    before = sorted(path.name for path in photos.rglob("*.jpg"))
    with served(lake) as site:
        page = open_page(f"{site.address}/?view=duplicates&pick=all")
        page.wait_for_selector(ROWS)
        with page.expect_download() as saving:
            page.click("button:has-text('Script (macOS, Linux)')")
        script = saving.value.path()
        assert saving.value.suggested_filename == "move-duplicates.sh"
        assert sorted(path.name for path in photos.rglob("*.jpg")) == before
    ended = subprocess.run(
        ["sh", os.fspath(script), "moved away"], cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in (tmp_path / "moved away").iterdir()) == sorted(
        f"again {name}" for name in names
    )
    assert sorted(path.name for path in photos.rglob("*.jpg")) == sorted(names)
    assert not list(tmp_path.rglob("hacked"))
    shutil.rmtree(tmp_path / "moved away")


@pytest.mark.parametrize(
    "query",
    ["by=x", "by=,", "bits=-1", "bits=13", "bits=x", "by=embedding&near=9", "by=embedding&near=x", "pick=some",
     "offset=-1", "limit=0", "limit=121", "limit=1e9", "by=embedding&set=none", "where=;", "near=nan&by=embedding"],
)  # fmt: skip
def test_wrong_addresses(site, query):
    """What makes no sense in an address is refused with a reason, or fails with one."""
    status, told = found(site, query)
    assert status == 400 or told["state"] == "failed"
    assert told["error"]


def test_wrong_exports(site):
    """A body that makes no sense is refused with a reason."""
    found(site)
    export = f"{site.address}/page/api/duplicates/export"
    for body in (
        [], {}, {"format": "exe"}, {"format": 1}, {"query": 1, "format": "sh"}, {"format": "sh", "decisions": []},
        {"format": "sh", "decisions": {"x": 1}}, {"format": "sh", "decisions": {"x": {"keeper": "a", "chosen": [1]}}},
        {"format": "totals", "query": "pick=x"},
    ):  # fmt: skip
        status, told = ask(export, body)
        assert (status, bool(told["error"])) == (400, True), body
    decisions = {"x": {"keeper": "a", "chosen": ["b"]}}
    assert ask(export, {"format": "totals", "decisions": decisions}) == (200, {"files": 0, "bytes": 0, "groups": 0})
    for path in ("difference/x/y", "difference/x/y/picture", f"difference/{'0' * 64}/{'0' * 64}"):
        assert ask(f"{site.address}/page/api/{path}")[0] == 400
