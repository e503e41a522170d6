"""Runs and health: what was done and rejected is told with reasons, and what the server does is told as it does it."""

import csv
import io
import json
import urllib.error
import urllib.request

import pytest

from pictures import encode, make_image

BROKEN = "the file is truncated"
CLASSIFIER = "efficientnet-lite0"


def ask(site, path):
    with urllib.request.urlopen(f"{site.address}/page/api/{path}") as answer:
        return json.load(answer)


@pytest.fixture
def runs_page(open_page, site):
    """The view, once its lists are there."""
    page = open_page(f"{site.address}/?view=runs")
    page.wait_for_selector(".runs-table")
    page.wait_for_selector(".runs-uri")
    page.wait_for_selector(".runs-card")
    return page


def test_runs_are_told_with_counts_and_stages(runs_page, site):
    """The table has each run of the lake with what it found, and where its time went."""
    told = ask(site, "runs")
    rows = runs_page.locator(".runs-table tbody tr")
    assert rows.count() == told["total"] == len(told["runs"])
    texts = rows.all_text_contents()
    assert any("ingest" in text and "79" in text for text in texts)
    assert any("extract" in text and "embed" in text for text in texts)
    assert ask(site, "runs?limit=1")["total"] == told["total"]


def test_what_was_rejected_is_told_with_its_reason(runs_page, site):
    """The broken file is listed under its reason; the search finds it, and the export has it."""
    assert BROKEN in runs_page.text_content(".runs-kind")
    assert "broken.jpg" in runs_page.text_content(".runs-uri")
    runs_page.get_by_role("searchbox", name="Find in files and reasons").fill("no such file")
    runs_page.wait_for_selector(".runs-uri", state="detached")
    runs_page.get_by_role("searchbox").fill("BROKEN truncated")
    runs_page.wait_for_selector(".runs-uri")
    runs_page.click(".runs-kind")
    runs_page.wait_for_selector(".runs-kind.is-on")
    assert "find=BROKEN" in runs_page.url
    address = runs_page.get_by_role("link", name="Export as CSV").get_attribute("href")
    with urllib.request.urlopen(f"{site.address}/{address}") as answer:
        assert answer.headers["content-disposition"].startswith("attachment")
        rows = list(csv.DictReader(io.TextIOWrapper(answer, "utf-8", newline="")))
    assert [row["uri"].rpartition("/")[2] for row in rows] == ["broken.jpg"]


def test_models_tell_how_much_they_cover(runs_page):
    """Each embedding set says how many of the images have a vector; detectors and classifiers are counted."""
    cards = " ".join(runs_page.locator(".runs-card").all_text_contents())
    assert "78 of 78 pictures have a vector" in cards
    assert "test-detector" in cards
    assert "test-classifier" in cards
    runs_page.wait_for_selector(".runs-share")
    assert "images" in runs_page.text_content("section[aria-labelledby=runs-storage]")


def test_live_numbers_follow_the_requests(runs_page, site):
    """After a request to a model its count is one more, without anybody loading the page again."""
    cell = f"tr[data-model='{CLASSIFIER}'] [data-what=answered]"
    runs_page.wait_for_selector(cell)
    before = int(runs_page.text_content(cell))
    request = urllib.request.Request(
        f"{site.address}/api/classify", encode(make_image(64, 48), "JPEG"), {"Content-Type": "image/jpeg"}
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    runs_page.wait_for_selector(f"{cell}:not(:text-is('{before}'))")
    told = next(each for each in ask(site, "health")["models"] if each["name"] == CLASSIFIER)
    assert told["answered"] > before
    assert told["mean_ms"] > 0
    assert told["p95_ms"] >= told["p50_ms"] > 0


def test_nobody_is_asked_while_nobody_looks(open_page, site):
    """The server is asked while the view is shown, not while another one is, and again when it comes back."""
    page = open_page(f"{site.address}/docs")
    page.clock.install()
    asked = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("api/health") else None)
    page.goto(f"{site.address}/?view=runs")
    page.wait_for_selector(".runs-figure")
    page.click("nav [data-view=map]")
    page.wait_for_selector(".view-runs[hidden]", state="attached")
    page.clock.run_for(4_100)
    seen = len(asked)
    page.clock.run_for(60_000)
    assert len(asked) == seen
    with page.expect_request("**/api/health"):
        page.go_back()


@pytest.mark.parametrize("query", ["runs?limit=-1", "runs?limit=x", "rejections?limit=501", "rejections?offset=1e3"])
def test_wrong_numbers_are_refused(site, query):
    """A number that is none, or too large, is a 400 that says what is allowed."""
    with pytest.raises(urllib.error.HTTPError) as failed:
        ask(site, query)
    with failed.value as answer:
        assert answer.code == 400
        assert "give a whole number" in json.load(answer)["error"]


def test_runs_fit_a_phone(open_page, site):
    """At phone size the page is no wider than the screen; tables scroll by themselves."""
    page = open_page(f"{site.address}/?view=runs&lang=ja", viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.wait_for_selector(".runs-table")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.text_content("#runs-past") == "実行履歴"
