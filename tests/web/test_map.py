"""The map: what is on it, how hands and keys move it, and where it leads."""

import json
import re
import urllib.parse
import urllib.request

import pytest
from playwright.sync_api import expect

ON_MAP = 48  # of the pictures of web_site; every third has no position
TEMPLE = (35.03, 135.795)  # of the picture "temple 01", and of no other


def ask(site, path, **params):
    """A JSON answer of the page's interface."""
    with urllib.request.urlopen(
        f"{site.address}/page/api/{path}?{urllib.parse.urlencode(params, doseq=True)}"
    ) as answer:
        return json.load(answer)


@pytest.fixture
def open_map(open_page, site):
    """`open_map("&q=...", **of the window)`: the map once it tells what is in view."""

    def open_one(more="", **options):
        page = open_page(f"{site.address}/?view=map{more}", **options)
        page.wait_for_selector(".map-count:not(:empty)")
        return page

    return open_one


def in_view(page):
    """How many pictures the list says."""
    return int(re.match(r"[\d,]+", page.text_content(".map-count"))[0].replace(",", ""))


def until(page, holds):
    """Wait until something holds; the page forbids `eval`, which `wait_for_function` needs."""
    for _ in range(400):
        if holds():
            return
        page.wait_for_timeout(50)
    pytest.fail("it does not come true")


def told(page):
    """How many pictures are on the map."""
    summary = page.locator(".map-told summary").all_text_contents()
    return int(summary[0].split()[0]) if summary else -1


def zoom_of(page):
    return float(urllib.parse.parse_qs(urllib.parse.urlsplit(page.url).query)["at"][0].split(",")[2])


def center(page):
    box = page.locator(".view-map canvas").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_all_pictures_with_a_position_are_on_the_map(open_map):
    """At first all pictures with a position are in view, drawn and listed; those without one are told of."""
    page = open_map()
    assert in_view(page) == ON_MAP
    until(page, lambda: page.get_attribute(".view-map canvas", "data-drawn") == str(ON_MAP))
    assert f"{ON_MAP} pictures on the map · 30 without a position" in page.text_content(".map-told summary")
    page.click(".map-told summary")
    assert "imagelake places --lake" in page.text_content(".map-told")
    page.wait_for_selector(".map-tiles .tile")
    assert page.locator(".map-tiles .tile").count() == ON_MAP


def test_clusters_hold_every_point_once(open_map):
    """At each zoom the clusters' counts add up to all points, and each point is in one; also at the date line."""
    page = open_map()
    faults = page.evaluate("""async () => {
      const script = [...document.querySelectorAll("script[src]")].find((each) => each.src.endsWith("app.js"));
      const { clusterer } = await import(script.src.replace("app.js", "core/clusters.js"));
      const faults = [];
      for (const count of [0, 1, 5000]) {
        const xs = Float64Array.from({ length: count }, (_, i) => (i % 5 ? (i * 0.618034) % 1 : [0, 1, 0.5][i % 3]));
        const ys = Float64Array.from({ length: count }, (_, i) => (i % 7 ? (i * 0.7548777) % 1 : 0.25));
        const clusters = clusterer(xs, ys);
        for (let zoom = 0; zoom <= 17; zoom++) {
          const all = clusters(zoom);
          const found = Array.from({ length: all.size }, (_, i) => ({
            x: all.x(i), y: all.y(i), count: all.count(i), first: all.first(i), members: () => all.members(i),
          }));
          const members = found.flatMap((each) => [...each.members()]);
          const sums = found.every((each) => each.count === each.members().length && each.first === each.members()[0]);
          const inside = found.every((each) => each.x >= 0 && each.x <= 1 && each.y >= 0 && each.y <= 1);
          const part = clusterer(xs, ys)(zoom, { left: 0.95, right: 1.05, top: 0.2, bottom: 0.3 });
          const near = new Set(Array.from({ length: part.size }, (_, i) => [...part.members(i)]).flat());
          const lost = xs.some((x, i) => (x >= 0.95 || x <= 0.05) && ys[i] >= 0.2 && ys[i] <= 0.3 && !near.has(i));
          if (lost) faults.push(["window", count, zoom]);
          const once = members.length === count && new Set(members).size === count;
          if (!once || !sums || !inside) faults.push([count, zoom]);
        }
      }
      return faults;
    }""")
    assert faults == []


def test_keys_and_buttons_zoom_and_the_address_keeps_it(open_map):
    """Plus, minus and arrows move the map; the address holds the place, and the same address shows the same again."""
    page = open_map()
    page.focus(".view-map canvas")
    page.keyboard.press("+")
    page.wait_for_url("**at=**")
    before = zoom_of(page)
    page.keyboard.press("+")
    until(page, lambda: zoom_of(page) > before)
    assert zoom_of(page) == pytest.approx(before + 1, abs=0.02)
    page.get_by_role("button", name="Zoom out").click()
    until(page, lambda: zoom_of(page) < before + 0.5)
    page.keyboard.press("ArrowRight")
    page.reload()
    page.wait_for_selector(".map-count:not(:empty)")
    assert zoom_of(page) == pytest.approx(before, abs=0.02)


def test_a_picture_is_opened_by_a_click_and_back_returns(open_map, site):
    """A click on a marker of one picture opens it; the back button shows the map where it was."""
    page = open_map(f"&at={TEMPLE[0]},{TEMPLE[1]},16")
    assert in_view(page) == 1
    item = page.locator(".map-tiles .tile")
    expect(item).to_have_count(1)
    name = item.get_attribute("title")
    page.mouse.click(*center(page))
    page.wait_for_url("**view=picture**")
    shown = urllib.parse.parse_qs(urllib.parse.urlsplit(page.url).query)["id"][0]
    assert ask(site, "points/items", ids=shown)["items"][0]["name"] == name
    page.go_back()
    page.wait_for_url("**view=map**")
    assert zoom_of(page) == 16
    until(page, lambda: in_view(page) == 1)


def test_a_cluster_is_zoomed_into(open_map):
    """A click on a marker of several pictures shows them larger, until it is one place."""
    page = open_map("&q=temple&at=35.2,136.0,4")
    assert in_view(page) == 12
    page.mouse.click(*center(page))
    until(page, lambda: zoom_of(page) > 6)
    until(page, lambda: in_view(page) == 12)


def test_an_area_leads_to_the_same_pictures_in_browse(open_map, site):
    """What a rectangle selects is what Browse is led to: as many; the chip takes the area away again."""
    page = open_map()
    box = page.locator(".view-map canvas").bounding_box()
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] + 5, box["y"] + 130)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 90, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.wait_for_url("**f.bounds=**")
    until(page, lambda: told(page) != ON_MAP)
    bounds = urllib.parse.parse_qs(urllib.parse.urlsplit(page.url).query)["f.bounds"][0]
    chosen = ask(site, "browse", **{"f.bounds": bounds})["total"]
    assert 0 < chosen < ON_MAP
    until(page, lambda: told(page) == chosen)
    page.click(".map-chips .chip")
    until(page, lambda: told(page) == ON_MAP)
    page.go_back()
    until(page, lambda: told(page) == chosen)
    page.get_by_role("link", name="Show these in Browse").click()
    page.wait_for_url("**view=browse**")
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(page.url).query)
    assert ask(site, "browse", **{"f.bounds": query["f.bounds"]})["total"] == chosen


def test_on_a_phone_the_list_is_below_and_fingers_work(open_map):
    """At phone size nothing is wider than the screen, and a tap on a marker opens the picture; dark is dark."""
    page = open_map(
        f"&at={TEMPLE[0]},{TEMPLE[1]},16", viewport={"width": 390, "height": 844}, has_touch=True, color_scheme="dark"
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    frame, side = page.locator(".map-frame").bounding_box(), page.locator(".map-list").bounding_box()
    assert side["y"] >= frame["y"] + frame["height"]
    pixel = "document.querySelector('.view-map canvas').getContext('2d').getImageData(3, 300, 1, 1).data"
    assert max(page.evaluate(f"[...{pixel}].slice(0, 3)")) < 90
    page.touchscreen.tap(*center(page))
    page.wait_for_url("**view=picture**")


def test_nothing_selected_is_told(open_map):
    """Where no picture has a position the map says so."""
    page = open_map("&q=nothingiscalledso")
    assert in_view(page) == 0
    assert told(page) == 0
    assert page.locator(".map-chips .chip").text_content().startswith("“nothingiscalledso”")
