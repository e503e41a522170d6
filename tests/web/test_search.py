"""The view that searches, in a real browser."""

import base64
import io
import json
import re
import urllib.error
import urllib.request

import pytest
from PIL import Image
from web_site import draw

CARDS = ".search-card"
CARD_NAMES = "[...document.querySelectorAll('.search-card .tile')].map((each) => each.title)"


def jpeg(label="temple", number=3):
    """A picture that is in the lake, stored anew."""
    data = io.BytesIO()
    Image.fromarray(draw(label, number)).save(data, "JPEG", quality=80)
    return data.getvalue()


def ask(site, path, **headers):
    with urllib.request.urlopen(urllib.request.Request(f"{site.address}/page/api/{path}", headers=headers)) as answer:
        return json.load(answer)


@pytest.fixture(scope="session")
def first(site):
    """A temple of the lake that has no copies."""
    found = ask(site, "browse?limit=200&sort=name")
    return next(each for each in found["items"] if each["name"].startswith("temple 07"))


def settled(page):
    """Wait for the answer that the address asks for."""
    page.wait_for_selector(f".view-search[aria-busy=false] {CARDS}")


def hand(page, kind, data):
    """Drop or paste a picture, as the browser would."""
    page.evaluate(
        """([kind, text]) => {
          const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
          const carried = new DataTransfer();
          carried.items.add(new File([bytes], "mine.jpg", { type: "image/jpeg" }));
          const told = { bubbles: true, cancelable: true, clipboardData: carried, dataTransfer: carried };
          const event = (name) => (name === "paste" ? new ClipboardEvent(name, told) : new DragEvent(name, told));
          const names = kind === "paste" ? ["paste"] : ["dragenter", "dragover", "drop"];
          for (const name of names) document.querySelector("main").dispatchEvent(event(name));
        }""",
        [kind, base64.b64encode(data).decode()],
    )


def test_upload_then_more_like_this_then_back(open_page, site):
    """A picture that is chosen finds its like, a click on one of these asks for more like it, and back is back."""
    page = open_page(f"{site.address}?view=search")
    page.set_input_files(
        ".search-start input[type=file] >> nth=0", {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": jpeg()}
    )
    settled(page)
    assert re.search(r"query=[0-9a-f]{64}", page.url)
    before = page.evaluate(CARD_NAMES)
    assert before[0].startswith("temple")
    assert len(before) == 30
    assert "exact, certified" in page.inner_text(".search-summary")
    assert page.locator(".search-bar[role=img]").count() == 30
    page.locator(CARDS).first.hover()
    page.locator(".search-more").first.click()
    page.wait_for_url("**like=**")
    settled(page)
    assert "query=" not in page.url
    page.go_back()
    page.wait_for_url("**query=**")
    settled(page)
    assert page.evaluate(CARD_NAMES) == before
    page.reload()
    settled(page)
    assert page.evaluate(CARD_NAMES) == before


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_drop_and_paste(page, kind):
    """A picture that is dropped or pasted in any view is searched with."""
    page.wait_for_selector("nav a[aria-current=page]")
    hand(page, kind, jpeg("harbor", 4))
    settled(page)
    assert page.evaluate(CARD_NAMES)[0]
    assert page.locator(".boxing-image").evaluate("each => each.decode().then(() => each.naturalWidth)") == 480


def test_box_by_mouse_and_by_region(open_page, site):
    """A box that is drawn, or a region that was detected, is what is searched; the address keeps it."""
    name = ask(site, "browse?limit=1&sort=name&q=again")["items"]
    page = open_page(f"{site.address}?view=search&like={name[0]['id']}")
    settled(page)
    stage = page.locator(".boxing-stage").bounding_box()
    page.mouse.move(stage["x"] + 20, stage["y"] + 20)
    page.mouse.down()
    page.mouse.move(stage["x"] + 150, stage["y"] + 120, steps=3)
    page.mouse.up()
    page.wait_for_url("**box=**")
    settled(page)
    assert page.locator(".boxing-frame").is_visible()
    page.get_by_role("button", name="Whole picture").click()
    page.wait_for_url(lambda url: "box=" not in url)
    settled(page)
    assert page.locator(".boxing-frame").is_hidden()
    page.locator(".boxing-region").first.click()
    page.wait_for_url("**box=**")
    settled(page)


def test_keyboard_only(open_page, site, first):
    """Without a mouse: a box by keys, moved, resized and removed, and on to more like a match."""
    page = open_page(f"{site.address}?view=search&like={first['id']}")
    settled(page)
    page.get_by_role("button", name="Draw a box").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**box=0.25%2C0.25%2C0.75%2C0.75")
    for key in ("ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    page.wait_for_url("**box=0.27%2C0.25%2C0.77%2C0.77")
    settled(page)
    page.keyboard.press("Delete")
    page.wait_for_url(lambda url: "box=" not in url)
    settled(page)
    page.locator(".search-more").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: first["id"] not in url)
    settled(page)
    page.locator(".boxing-numbers summary").click()
    for side, value in zip(("left", "top", "right", "bottom"), ("10", "20", "60", "70"), strict=True):
        page.fill(f".boxing-form [name={side}]", value)
    page.keyboard.press("Enter")
    page.wait_for_url("**box=0.1%2C0.2%2C0.6%2C0.7")


def test_within_a_selection(open_page, site, first):
    """What the address selects is all that is searched, and the page says so."""
    page = open_page(f"{site.address}?view=search&like={first['id']}&f.tag=kind:harbor&k=100")
    settled(page)
    assert "18 matches among 18 pictures" in page.inner_text(".search-summary")
    assert "selected" in page.inner_text(".search-among")
    page.get_by_role("link", name="Search all").click()
    page.wait_for_selector(f"{CARDS} >> nth=60")
    assert page.locator(".search-among").is_hidden()
    assert page.locator(".search-cut").count() == 1


def test_private_address_is_refused(open_page, site):
    """This machine's own addresses are not fetched, and the page says why; nothing was asked before somebody did."""
    page = open_page(f"{site.address}?view=search&url=http://127.0.0.1:1/x.jpg")
    page.wait_for_selector(".search-some .tile")
    assert page.input_value("[name=address] >> nth=0") == "http://127.0.0.1:1/x.jpg"
    assert page.faults == []
    page.get_by_role("button", name="Fetch and search").click()
    page.wait_for_selector(".notice.bad")
    assert "only addresses of the open internet" in page.inner_text(".notice.bad")
    page.faults.clear()  # the browser itself tells of the refusal


def test_a_picture_that_is_forgotten(open_page, site):
    """An address whose picture the server no longer has says so, and offers to choose it again."""
    page = open_page(f"{site.address}?view=search&query={'ab' * 32}")
    page.wait_for_selector(".search-trouble")
    assert "not kept any more" in page.inner_text(".search-trouble")
    assert page.get_by_role("button", name="Choose a picture").first.is_visible()
    page.faults.clear()  # the browser itself tells of the 404


def test_phone(open_page, site, first):
    """On a phone nothing is wider than the screen, the camera is offered, and what is pressed is large enough."""
    page = open_page(
        f"{site.address}?view=search", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page.wait_for_selector(".search-start .search-camera >> visible=true")
    page.goto(f"{site.address}?view=search&like={first['id']}")
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    heights = page.evaluate("[...document.querySelectorAll('.boxing-tools button')].map((each) => each.offsetHeight)")
    assert min(each for each in heights if each) >= 44


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("search", 400, "like"),
        ("search?like=zz", 404, "no such image"),
        (f"search?like={'0' * 64}", 404, "no such image"),
        (f"search?query={'0' * 64}", 404, "not kept"),
        ("search?like=ID&k=0", 400, "k is"),
        ("search?like=ID&k=1e9", 400, "k is"),
        ("search?like=ID&box=1,2", 400, "box"),
        ("search?like=ID&box=0,0,0,0", 400, "box"),
        ("search?like=ID&box=nan,0,1,1", 400, "box"),
        ("search?like=ID&set=..%2Fx", 400, "It has:"),
        ("search?like=ID&codes=1", 400, "no codes"),
        ("search?like=ID&where=width%20%3E", 400, ""),
        (f"search/preview/{'0' * 64}", 404, "not kept"),
    ],
)
def test_what_is_wrong_is_said(site, first, path, status, words):
    """Bad parameters get a status of the caller's, and a word that helps."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(site, path.replace("ID", first["id"]))
    with caught.value as answer:
        assert answer.code == status
        assert words in json.load(answer)["error"]


def test_another_site_cannot_send(site):
    """Without the header that only the page's scripts can set, nothing is kept or fetched."""
    request = urllib.request.Request(f"{site.address}/page/api/search/query", b'{"url": "http://example.com/"}')
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    with caught.value as answer:
        assert answer.code == 403
