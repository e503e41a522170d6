"""The view Browse: what somebody selects is in the address, and what the address says is shown."""

import json
import re
import urllib.parse
import urllib.request

import pytest
from playwright.sync_api import expect
from web_site import HOSTILE, served

import imagelake

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
TILES = ".grid-cell:not([hidden])"


def ask(site, path, **query):
    """The JSON answer of a route of the page."""
    address = f"{site.address}/page/api/{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(address) as answer:
        return json.load(answer)


def ready(page):
    """Wait until the first pictures are there."""
    expect(page.locator(f"{TILES}.is-there").first).to_be_visible()
    expect(page.locator("[aria-busy]")).to_have_count(0)


def count(page, number):
    expect(page.locator(".browse-count")).to_have_text(f"{number} picture{'s' * (number != 1)}")


def box(page, name):
    return page.get_by_role("checkbox", name=re.compile(f"^{name}"))


def test_facets_words_and_back(page):
    """Values chosen of facets, words and the order are in the address; the back button takes them back one by one."""
    ready(page)
    count(page, 78)
    box(page, "Canon EOS R5").check()
    count(page, 18)
    assert "f.camera=Canon+EOS+R5" in page.url
    box(page, "Apple iPhone 15").check()
    count(page, 36)
    expect(page.locator(".browse-chip")).to_have_count(2)
    page.keyboard.press("/")
    page.keyboard.type("MARKET 写真")
    count(page, 18)
    page.get_by_label("Order").select_option("name")
    expect(page.locator(f"{TILES} img").first).to_have_attribute("alt", "market 00 写真.jpg")
    page.go_back()
    expect(page.get_by_label("Order")).to_have_value("taken_at")
    page.go_back()
    count(page, 36)
    page.go_back()
    count(page, 18)
    expect(page.locator(".browse-text")).to_have_value("")
    expect(box(page, "Apple iPhone 15")).not_to_be_checked()
    page.get_by_role("button", name="Clear all").click()
    count(page, 78)
    expect(page.locator(".browse-chip")).to_have_count(0)


def test_address_is_the_whole_state(open_page, site):
    """Who opens an address sees what its sender saw, and a word that nothing has says so and how to go on."""
    page = open_page(f"{site.address}/?f.tag=kind:harbor&f.gps=yes&sort=-name&q=EOS")
    ready(page)
    count(page, 12)
    expect(box(page, "kind:harbor")).to_be_checked()
    expect(page.get_by_label("Order")).to_have_value("name")
    page.locator(".browse-text").fill("nothing is called so")
    count(page, 0)
    page.locator(".browse-empty").get_by_role("button", name="Clear all").click()
    count(page, 78)


def test_predicate_tells_what_is_wrong(open_page, site):
    """The SQL predicate selects, and the server's own words stand beside one that is wrong; nothing else breaks."""
    page = open_page(site.address)
    ready(page)
    page.get_by_role("button", name="SQL", exact=True).click()
    page.keyboard.type("height > width")
    page.keyboard.press("Enter")
    count(page, 12)
    page.locator(".browse-where").fill("hight > 3")
    page.keyboard.press("Enter")
    expect(page.locator(".browse-error")).to_contain_text('"hight" not found')
    refused = [fault for fault in page.faults if "400" in fault]  # the browser's own note of the refusal
    page.faults[:] = [fault for fault in page.faults if fault not in refused]
    page.locator(".browse-where").fill("")
    page.keyboard.press("Enter")
    count(page, 78)
    expect(page.locator(".browse-error")).to_be_hidden()


def test_keyboard_alone(page):
    """Arrows move between tiles, x chooses, Shift-x up to here, Enter opens, and back comes to the same place."""
    ready(page)
    page.get_by_label("Order").select_option("name")
    expect(page.locator(f"{TILES} img").first).to_have_attribute("alt", HOSTILE)
    page.locator(f"{TILES} .grid-link[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("X")
    chosen = page.locator(f"{TILES}.is-chosen")
    expect(chosen.nth(1)).to_be_visible()
    expect(page.locator(".editing-count")).to_be_visible()
    page.keyboard.press("End")
    expect(page.locator(":focus img")).to_have_attribute("alt", re.compile("^temple 17|^temple 3"))
    last = page.locator(":focus").get_attribute("data-id")
    place = page.evaluate("scrollY")
    assert place > 1000
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(f"view=picture&id={last}"))
    page.go_back()
    expect(page.locator(f"{TILES} [data-id='{last}']")).to_be_focused()
    assert page.evaluate("scrollY") == place


def test_hostile_name_is_text(open_page, site):
    """A file whose name is markup is found by it, and shown as it is called."""
    page = open_page(f"{site.address}/?{urllib.parse.urlencode({'q': HOSTILE})}")
    ready(page)
    count(page, 1)
    expect(page.locator(f"{TILES} img")).to_have_attribute("alt", HOSTILE)
    expect(page.locator(".browse-chip-text")).to_have_text(HOSTILE)
    assert page.title() == "Browse · imagelake"


def test_phone_has_filters_in_a_drawer(open_page, site):
    """On a phone nothing is wider than the screen, and the facets come from the side and go again."""
    page = open_page(site.address, **PHONE)
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(box(page, "Canon EOS R5")).to_be_hidden()
    page.get_by_role("button", name="Filters").tap()
    box(page, "Canon EOS R5").check()
    page.get_by_role("button", name="Show 18 pictures").tap()
    expect(box(page, "Canon EOS R5")).to_be_hidden()
    count(page, 18)


def test_choose_all_of_the_result(open_page, site):
    """All of a result are chosen at once, those out of sight too; the pointer chooses one and a range."""
    page = open_page(f"{site.address}/?sort=name&f.year=2024")
    ready(page)
    tiles = page.locator(TILES)
    tiles.nth(1).hover()
    tiles.nth(1).locator(".grid-check").click()
    tiles.nth(4).click(modifiers=["Shift"])
    expect(page.locator(".editing-count")).to_contain_text("4")
    page.get_by_role("button", name="Choose all").click()
    expect(page.locator(".editing-count")).to_contain_text("72")
    tiles.nth(0).hover()
    expect(tiles.nth(0).locator(".grid-like")).to_have_attribute("href", re.compile(r"view=search.*like=[0-9a-f]{64}"))


LAWS = """async ([address, square]) => {
  const { layOut, rowOf, beside } = await import(address);
  const count = 20000, width = 901.5, gap = 4, faults = [];
  const ratios = Float32Array.from({ length: count }, (_, i) => 0.1 + ((i * 7919) % 1000) / 180);
  const groups = Int16Array.from({ length: count }, (_, i) => Math.floor(i / 37));
  for (const given of [groups, null]) {
    const made = layOut({ ratios, width, size: 180, gap, square, groups: given });
    if (made.first[made.first.length - 1] !== count) faults.push("not all");
    if (made.headings.length !== (given ? Math.ceil(count / 37) : 0)) faults.push("headings");
    for (let row = 0; row < made.top.length; row++) {
      const [start, end] = [made.first[row], made.first[row + 1]];
      const above = row ? made.top[row - 1] + made.high[row - 1] + gap : 0;
      if (made.top[row] < above - 0.01) faults.push(`rows ${row} overlap`);
      if (made.high[row] > 180 * 1.35 + 0.01) faults.push(`row ${row} is too high`);
      for (let i = start; i < end; i++) {
        const before = i > start ? made.left[i - 1] + made.wide[i - 1] + gap : 0;
        if (made.left[i] < before - 0.1) faults.push(`${i} overlaps`);
        if (made.left[i] + made.wide[i] > width + 0.5) faults.push(`${i} sticks out`);
        if (rowOf(made, i) !== row) faults.push(`${i} is in another row`);
      }
    }
    for (const i of [0, 5, 777, count - 1]) {
      if (Math.abs(rowOf(made, beside(made, i, 1)) - rowOf(made, i)) > 1) faults.push(`below ${i}`);
    }
  }
  if (layOut({ ratios: new Float32Array(0), width, size: 180, gap, square }).height !== 0) faults.push("empty");
  return faults.slice(0, 5);
}"""


@pytest.mark.parametrize("square", [False, True])
def test_layout_neither_overlaps_nor_sticks_out(page, square):
    """Rows of pictures of any shape lie one below the other within the width, each picture once and none too high."""
    mark = page.locator("meta[name=page-mark]").get_attribute("content")
    address = urllib.parse.urljoin(page.url, f"page/{mark}/core/justified.js")
    assert page.evaluate(LAWS, [address, square]) == []


def test_size_is_kept(page):
    """The size of the tiles is this browser's: it is the same when the page is opened again."""
    ready(page)
    small = page.locator(TILES).first.bounding_box()["height"]
    page.locator(".browse-size").fill("340")
    ready(page)
    large = page.locator(TILES).first.bounding_box()["height"]
    assert large > small * 1.2
    page.reload()
    ready(page)
    assert page.locator(TILES).first.bounding_box()["height"] == pytest.approx(large, abs=1)


def test_neighbors_are_those_of_the_selection(site):
    """The picture before and after one are those of the grid, in its order; none at the ends and for a stranger."""
    items = ask(site, "browse", **{"f.tag": "kind:harbor", "sort": "name", "limit": 20})["items"]
    ids = [item["id"] for item in items]
    assert ask(site, "browse/ids", **{"f.tag": "kind:harbor", "sort": "name"}) == {"total": 18, "ids": ids}
    for place, image in ((0, ids[0]), (7, ids[7]), (17, ids[17])):
        wanted = {
            "previous": ids[place - 1] if place else None,
            "next": ids[place + 1] if place < 17 else None,
            "position": place,
            "total": 18,
        }
        assert ask(site, "browse/neighbors", **{"f.tag": "kind:harbor", "sort": "name", "id": image}) == wanted
    stranger = ask(site, "browse/neighbors", id="f" * 64)
    assert stranger == {"previous": None, "next": None, "position": None, "total": 78}


@pytest.mark.parametrize(
    ("path", "query", "says"),
    [
        ("browse", {"offset": "-1"}, "whole number"),
        ("browse", {"limit": "9" * 30}, "whole number"),
        ("browse/layout", {"sort": "price"}, "taken_at"),
        ("facets", {"f.color": "red"}, "label"),
        ("browse", {"q": "x" * 20_000}, "at most"),
    ],
)
def test_wrong_questions_are_refused_with_what_is_allowed(site, path, query, says):
    """What an address cannot mean is answered with 400 and with what may stand there."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(site, path, **query)
    with caught.value as answer:
        assert answer.status == 400
        assert says in json.load(answer)["error"]


def test_empty_lake_says_what_to_do(open_page, tmp_path):
    """A lake without pictures shows the command that adds some."""
    imagelake.open(tmp_path / "empty.lake", create=True)
    try:
        with served(tmp_path / "empty.lake") as site:
            page = open_page(site.address)
            expect(page.locator(".browse-empty")).to_contain_text("imagelake ingest FOLDER --lake")
    except AssertionError as error:
        if "the server ended" not in str(error):
            raise
        pytest.skip("this imagelake does not serve a lake without vectors yet")
