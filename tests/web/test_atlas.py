"""The embedding map, by mouse, finger and keys."""

import json
import re
import struct
import urllib.error
import urllib.request

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from web_site import draw as draw_picture
from web_site import served

import imagelake

PCA = "/?view=atlas&method=pca&box=0.5,0.5,1.3"


def ask(site, path, body=None, **headers):
    """Status and bytes of an answer of the page's API."""
    headers = {"X-Imagelake-Page": "1", "Content-Type": "application/json"} | headers
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{site.address}/page/api/{path}", data, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def points_of(site):
    """Short ids and places in the unit square, as the page has them."""
    _, body = ask(site, "atlas?method=pca")
    (length,) = struct.unpack_from("<I", body)
    count = json.loads(body[4 : 4 + length])["count"]
    xy = np.frombuffer(body, "<f4", 2 * count, 4 + length).reshape(-1, 2).astype(np.float64)
    keys = np.frombuffer(body, "<u8", count, 4 + length + 8 * count)
    span = np.ptp(xy, axis=0).max()
    return [f"{key:016x}" for key in keys], 0.5 + (xy - (xy.max(axis=0) + xy.min(axis=0)) / 2) / span


def ready(page):
    """Wait until points are drawn, and say where they are: the canvas's box."""
    page.wait_for_selector(".atlas-told:not(:empty)")
    return page.locator(".scatter-over").bounding_box()


def on_screen(page, places):
    """Where places of the unit square are on the canvas."""
    box = page.locator(".scatter-over").bounding_box()
    size = np.array([box["width"], box["height"]])
    x, y, span = (float(each) for each in page.evaluate("new URLSearchParams(location.search).get('box')").split(","))
    scale = size.min() / span
    return size / 2 + (places - [x, y]) * scale * [1, -1]


def inside(polygon, spots):
    """Which spots a polygon holds, and how far the nearest is from its line."""
    held, near = np.zeros(len(spots), bool), np.inf
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, 1, axis=0), strict=True):
        crosses = (y1 > spots[:, 1]) != (y2 > spots[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            held ^= crosses & (spots[:, 0] < (x2 - x1) * (spots[:, 1] - y1) / (y2 - y1) + x1)
        along, start = np.array([x2 - x1, y2 - y1]), np.array([x1, y1])
        share = np.clip((spots - start) @ along / (along @ along), 0, 1)
        near = min(near, np.linalg.norm(spots - start - share[:, None] * along, axis=1).min())
    return held, near


def loop(spots, box):
    """A line around about half of the spots that comes near none."""
    random = np.random.default_rng(3)
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    for _ in range(2000):
        middle, size = spots[random.integers(len(spots))], random.uniform(40, 260)
        polygon = middle + size * random.uniform(0.6, 1, (8, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        held, near = inside(polygon, spots)
        fits = (polygon > 4).all() and (polygon < np.array([box["width"] - 60, box["height"] - 4])).all()
        if fits and near > 3 and 5 < held.sum() < len(spots) - 5:
            return polygon, held
    raise AssertionError("no such line")


def draw(page, box, polygon):
    x, y = box["x"], box["y"]
    page.mouse.move(x + polygon[0][0], y + polygon[0][1])
    page.mouse.down()
    for across, down in polygon[1:]:
        page.mouse.move(x + across, y + down, steps=4)
    page.mouse.up()


def test_lasso_selects_what_lies_inside_and_exports_it(open_page, site):
    """The points inside a drawn line, and no others, are selected, shown, and in the list that is saved."""
    page = open_page(site.address + PCA)
    box = ready(page)
    ids, places = points_of(site)
    polygon, held = loop(on_screen(page, places), box)
    page.keyboard.press("l")
    draw(page, box, polygon)
    page.wait_for_selector(f"h2:text-is('{held.sum()} pictures selected')")
    page.wait_for_selector(".atlas-strip .tile")
    assert page.locator(".atlas-strip .tile").count() == min(held.sum(), 48)
    with page.expect_download() as saved:
        page.get_by_label("Export…", exact=True).select_option("json")
    rows = json.loads(saved.value.path().read_text())
    assert {row["id"][:16] for row in rows} == {ids[i] for i in np.flatnonzero(held)}
    page.get_by_role("button", name="Choose for tags").click()
    page.wait_for_selector(".editing-count")
    assert str(held.sum()) in page.inner_text(".editing-count")
    page.keyboard.press("Escape")
    assert page.locator(".atlas-picked").is_hidden()


def test_rectangle_with_shift_then_browse(open_page, site):
    """With Shift a rectangle selects; what is selected opens in Browse as the same pictures."""
    page = open_page(site.address + PCA)
    box = ready(page)
    _, places = points_of(site)
    spots = on_screen(page, places)
    x = np.sort(spots[:, 0])
    gap = int(np.argmax(np.diff(x[20:60]))) + 20
    middle = (x[gap] + x[gap + 1]) / 2
    page.keyboard.down("Shift")
    draw(page, box, np.array([[2, 2], [middle, box["height"] - 2]]))
    page.keyboard.up("Shift")
    page.wait_for_selector(f"h2:text-is('{gap + 1} pictures selected')")
    page.get_by_role("link", name="Show in Browse").click()
    page.wait_for_selector(".view-browse:not([hidden])")
    status, body = ask(site, "browse" + page.evaluate("location.search"))
    assert status == 200
    assert json.loads(body)["total"] == gap + 1


@pytest.mark.parametrize("column", ["tags", "camera"])
def test_legend_counts_as_sql_does(open_page, site, built_lake, column):
    """The legend has each value with the number of pictures that SQL counts."""
    page = open_page(f"{site.address}{PCA}&color={column}")
    page.wait_for_selector(".atlas-value")
    shown = dict(
        zip(page.locator(".atlas-name").all_inner_texts(), page.locator(".atlas-count").all_inner_texts(), strict=True)
    )
    value = {"tags": "tags[1]", "camera": "camera_make"}[column]
    rows = imagelake.open(built_lake).sql(f"SELECT {value} AS v, count(*) AS n FROM images GROUP BY 1").to_pylist()
    counted = {
        next((name for name in shown if name.startswith(row["v"] or "No value")), None): str(row["n"]) for row in rows
    }
    assert shown == counted


def test_address_holds_the_view_and_the_keyboard_selects(open_page, site):
    """By keys alone: a legend entry is pressed, what is bright is selected, the plane moves; a reload restores it."""
    page = open_page(site.address + PCA + "&color=tags")
    ready(page)
    page.wait_for_selector(".atlas-value")
    entry = page.locator(".atlas-value").first
    count = entry.locator(".atlas-count").inner_text()
    entry.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".atlas-value[aria-pressed=true]:focus")
    page.locator(".atlas-all").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(f"h2:text-is('{count} pictures selected')")
    page.locator(".scatter-over").focus()
    before = page.url
    for key in ("ArrowRight", "+", "ArrowUp"):
        page.keyboard.press(key)
    page.wait_for_url(lambda address: address != before)
    box = re.search(r"box=([^&]+)", page.url)[1]
    page.reload()
    ready(page)
    page.wait_for_selector(".atlas-value[aria-pressed=true]")
    assert re.search(r"box=([^&]+)", page.url)[1] == box
    assert page.get_by_label("Color by").input_value() == "tags"
    page.go_back()  # the entry that was pressed is a step
    page.wait_for_selector(".atlas-value[aria-pressed=false]")
    assert page.locator(".atlas-value[aria-pressed=true]").count() == 0


def test_selection_of_the_address_is_bright(open_page, site):
    """What the address selects stays bright, can be selected at once, and the rest comes back by a link."""
    page = open_page(f"{site.address}{PCA}&f.tag=kind:harbor")
    ready(page)
    page.get_by_text("18 match the filter.").wait_for()
    page.locator(".atlas-all").click()
    page.wait_for_selector("h2:text-is('18 pictures selected')")
    page.get_by_role("link", name="Show all").click()
    page.wait_for_url(lambda address: "f.tag" not in address)
    assert page.locator(".atlas-all").is_hidden()


def test_phone_taps_points_in_the_dark(open_page, site):
    """On a phone nothing is cut off at the side; a tap shows the picture, a tap on that opens it; axe finds nothing."""
    page = open_page(
        f"{site.address}{PCA}&color=tags", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True,
        color_scheme="dark",
    )  # fmt: skip
    box = ready(page)
    page.wait_for_selector(".atlas-value")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    _, places = points_of(site)
    spot = on_screen(page, places)[0]
    page.touchscreen.tap(box["x"] + spot[0], box["y"] + spot[1])
    card = page.locator(".atlas-card")
    card.wait_for()
    found = Axe().run(page, context=".view-atlas").response["violations"]
    assert [each["id"] for each in found if each["impact"] in {"serious", "critical"}] == []
    card.click()
    page.wait_for_selector(".view-picture:not([hidden])")


def test_both_ways_of_drawing_show_the_same(browser, site):
    """With WebGL 2 and without, the same places of the canvas are painted."""
    page = browser.new_page(
        viewport={"width": 900, "height": 600}
    )  # its own: software WebGL has its say on the console
    painted = {}
    for renderer in ("2d", "webgl"):
        page.goto(f"{site.address}{PCA}&color=tags&renderer={renderer}")
        page.wait_for_selector(".atlas-value")
        kind = page.locator(".atlas-stage").get_attribute("data-renderer")
        if kind != renderer:
            pytest.skip("this browser has no WebGL 2")
        page.get_by_role("button", name="Pictures").click()
        page.wait_for_timeout(300)
        painted[renderer] = page.evaluate(PIXELS)
    page.close()
    one, other = (np.array(painted[name]) for name in ("2d", "webgl"))
    assert one.sum() > 50
    assert (one != other).mean() < 0.02


PIXELS = """() => {
  const from = document.querySelector('.scatter-points');
  const to = document.createElement('canvas');
  [to.width, to.height] = [120, 80];
  document.querySelector('.atlas-zoom button:nth-child(1)').click();
  return new Promise((done) => requestAnimationFrame(() => {
    const context = to.getContext('2d');
    context.drawImage(from, 0, 0, 120, 80);
    const data = context.getImageData(0, 0, 120, 80).data;
    done([...data].filter((_, at) => at % 4 === 3).map((alpha) => alpha > 60));
  }));
}"""


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("atlas?set=../../etc", None, "no embedding set"),
        ("atlas?method=tsne", None, "pca, umap"),
        ("atlas/colors?method=pca&column=thumbnail", None, "colored"),
        ("atlas/selected?method=pca&f.nothing=1", None, "facet"),
        ("atlas/export?method=pca&format=exe", None, "parquet"),
        ("atlas/items", {"ids": ["x"]}, "16 to 64 letters"),
        ("atlas/items", {"ids": ["0" * 16] * 501}, "at most 500"),
        ("atlas/ids", [], "no JSON object"),
        ("atlas/make", {"method": 5}, "no text"),
    ],
)
def test_wrong_requests_are_explained(site, path, body, word):
    """What cannot be answered is refused with the reason."""
    status, answer = ask(site, path, body)
    assert status == 400, answer
    assert word in json.loads(answer)["error"]


def test_only_the_page_makes_maps(site):
    """Another site's page cannot make a server work for minutes."""
    status, _ = ask(site, "atlas/make", {"method": "umap"}, **{"Sec-Fetch-Site": "cross-site"})
    assert status == 403


def test_unmade_map_is_offered(open_page, site):
    """A map by UMAP that is not made is offered, or the line that installs it is shown; PCA is shown meanwhile."""
    page = open_page(site.address + "/?view=atlas&method=umap")
    page.wait_for_selector(".atlas-offer :is(button, code)")
    ready(page)
    assert page.locator("[data-method=umap]").get_attribute("aria-pressed") == "true"


def test_open_map_notices_a_changed_lake(open_page, own_lake, tmp_path):
    """Where the lake gets more pictures, or other tags, a map that is open shows them; what was selected stays so."""
    with served(own_lake) as site:
        page = open_page(f"{site.address}{PCA}&color=tags&f.tag=kind:harbor")
        page.get_by_text("18 match the filter.").wait_for()
        page.locator(".atlas-all").click()
        page.wait_for_selector("h2:text-is('18 pictures selected')")
        before = int(re.match(r"\d+", page.inner_text(".atlas-told"))[0])
        lake = imagelake.open(own_lake)
        Image.fromarray(draw_picture("market", 400)).save(tmp_path / "new.jpg")
        lake.ingest(tmp_path / "new.jpg")
        lake.extract()
        page.evaluate(LOOK)  # as when somebody comes back to the window; an open one looks now and then
        page.get_by_text(f"{before + 1} pictures").wait_for()
        page.wait_for_selector("h2:text-is('18 pictures selected')")
        lake.tag("uris[1] LIKE '%new.jpg'", add=["kind:harbor"])
        page.evaluate(LOOK)
        page.get_by_text("19 match the filter.").wait_for()


LOOK = "document.dispatchEvent(new Event('visibilitychange'))"
