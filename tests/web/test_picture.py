"""One picture, large, with all that is known of it: as people see it."""

import hashlib
import json
import re
import urllib.error
import urllib.parse
import urllib.request

import pytest
from web_site import HOSTILE, served

KEY = "a-key-of-the-tests-0123456789"
TOLD = (
    "Canon EOS R5", "Jan 18, 2024", "time zone is not known", "53.56° N, 10.005° E", "kind:harbor", "sailboat",
    "camera-7", "test-detector", "480 \N{MULTIPLICATION SIGN} 360", "efficientnet-lite0", "1,280 · cosine",
)  # fmt: skip


def ask(address, **headers):
    """Status, headers and body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


@pytest.fixture(scope="module")
def ids(site):
    """The images of the site by name, and those of one selection in its order under the name `harbor`."""
    listed = json.loads(ask(f"{site.address}/page/api/browse?limit=200")[2])["items"]
    some = json.loads(ask(f"{site.address}/page/api/browse?limit=200&f.tag=kind:harbor")[2])["items"]
    return {item["name"]: item["id"] for item in listed} | {"harbor": [item["id"] for item in some]}


def show(open_page, site, image_id, query="", **options):
    page = open_page(f"{site.address}/?view=picture&id={image_id}{query}", **options)
    page.wait_for_selector(".picture-large.is-there")
    page.wait_for_selector(".picture-near:not(.is-waiting)")
    return page


def test_picture_with_all_that_is_known(open_page, site, ids):
    """Regions lie where they are in the picture at any zoom; the panel tells camera, time, place, tags, what is near,
    what was found and where vectors come from; a look at a region in the list marks it in the picture.
    """
    page = show(open_page, site, ids["harbor 01 写真.jpg"])
    assert page.title() == "harbor 01 写真.jpg · imagelake"
    about = page.inner_text(".picture-panel")
    assert [word for word in TOLD if word not in about] == []
    assert page.locator(".picture-map canvas").count() == 1
    assert page.locator(".is-similar .tile").count() == 12
    assert "--write" in page.inner_text(".picture-readonly")
    assert page.locator(".picture-tagging").count() == 0

    def lies_right():
        whole = page.locator(".picture-layer").bounding_box()
        box = page.locator(".picture-box", has_text="boat").bounding_box()
        expected = {"x": whole["x"] + 0.4 * whole["width"], "y": whole["y"] + 0.4 * whole["height"],
                    "width": 0.55 * whole["width"], "height": 0.5 * whole["height"]}  # fmt: skip
        return all(abs(box[name] - expected[name]) < 1 for name in expected)

    fitted = page.locator(".picture-layer").bounding_box()
    assert lies_right()
    assert abs(fitted["width"] / fitted["height"] - 4 / 3) < 0.01
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert page.locator(".picture-layer").bounding_box()["width"] > 1.9 * fitted["width"]
    assert lies_right()
    page.keyboard.press("ArrowRight")  # moves the picture while it is zoomed, does not turn
    assert lies_right()
    assert ids["harbor 01 写真.jpg"] in page.url
    page.keyboard.press("0")
    assert page.locator(".picture-layer").bounding_box() == fitted

    frame = page.locator(".picture-frame").bounding_box()
    middle = (frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 4)
    page.mouse.move(*middle)
    page.mouse.wheel(0, -500)
    assert page.locator(".picture-layer").bounding_box()["width"] > 1.5 * fitted["width"]
    before = page.locator(".picture-layer").bounding_box()
    page.mouse.down()
    page.mouse.move(middle[0] - 40, middle[1] - 30, steps=4)
    page.mouse.up()
    after = page.locator(".picture-layer").bounding_box()
    assert (round(before["x"] - after["x"]), round(before["y"] - after["y"])) == (40, 30)
    page.keyboard.press("Escape")  # the first time: the whole picture
    assert page.locator(".picture-layer").bounding_box() == fitted

    page.hover(".picture-found a:has-text('sail')")
    assert page.locator(".picture-box.is-looked-at").inner_text().startswith("sail")
    page.keyboard.press("r")
    assert page.locator(".picture-boxes").is_hidden()
    page.keyboard.press("r")
    assert page.locator(".picture-boxes").is_visible()
    target = page.locator(".picture-box", has_text="sail").get_attribute("href")
    asked = urllib.parse.parse_qs(target.removeprefix("?"))
    assert (asked["view"], asked["like"]) == (["search"], [ids["harbor 01 写真.jpg"]])
    assert [float(side) for side in asked["box"][0].split(",")] == pytest.approx([0.1, 0.2, 0.5, 0.6], abs=1e-4)


def test_keys_turn_within_the_selection_and_lead_back(open_page, site, ids):
    """Arrow keys go through the pictures that the address selects, without steps for the back button; Escape leads back
    to the list that was left.
    """
    wanted = ids["harbor"]
    page = open_page(f"{site.address}/?view=browse&f.tag=kind:harbor")
    page.locator(f"a[href*='{wanted[1]}'], .tile[data-id='{wanted[1]}']").first.click()
    page.wait_for_selector(".picture-large.is-there")
    page.wait_for_selector(".picture-position:text-is('2 of 18')")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".picture-position:text-is('3 of 18')")
    assert wanted[2] in page.url
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".picture-position:text-is('2 of 18')")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".picture-position:text-is('1 of 18')")
    assert page.locator(".picture-turn.is-before").is_hidden()
    page.keyboard.press("ArrowLeft")  # there is none: nothing happens
    assert wanted[0] in page.url
    page.go_back()
    page.wait_for_selector(".view-browse:not([hidden])")
    assert "id=" not in page.url
    page.go_forward()
    page.wait_for_selector(".view-picture:not([hidden])")
    page.keyboard.press("Escape")
    page.wait_for_selector(".view-browse:not([hidden])")
    assert "kind%3Aharbor" in page.url


def test_hostile_names_and_what_is_not_there(open_page, site, ids):
    """A name that is markup is text; an id that nobody knows gets a word and a way back."""
    page = show(open_page, site, ids[HOSTILE])
    assert page.inner_text(".picture-name") == HOSTILE
    assert page.locator("img[src='x']").count() == 0
    page.evaluate(
        "history.pushState(null, '', '?view=picture&id=' + '0'.repeat(64)); dispatchEvent(new Event('popstate'))"
    )
    page.wait_for_selector(".picture-gone:not([hidden])")
    assert "no such image" in page.inner_text(".picture-gone")
    page.faults[:] = [fault for fault in page.faults if "404" not in fault]  # the browser tells of the answer itself
    page.click(".picture-gone a")
    page.wait_for_selector(".view-browse:not([hidden])")


def test_filter_of_metadata_and_fingerprints(open_page, site, ids):
    """Lines of EXIF are found by a word; a fingerprint is copied whole."""
    page = show(open_page, site, ids["harbor 01 写真.jpg"])
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.fill(".is-metadata input", "gpslat")
    lines = page.locator(".picture-tree tr:visible")
    assert 1 <= lines.count() <= 3
    assert all("GPSLatitude" in text for text in lines.all_inner_texts())
    button = page.locator(".picture-step.is-vector .picture-copy").first
    button.click()
    page.wait_for_selector(".notice")
    assert re.fullmatch("[0-9a-f]{64}", page.evaluate("navigator.clipboard.readText()"))


def test_on_a_phone(open_page, site, ids):
    """Nothing is wider than a phone; targets are large; a swipe turns the picture, two fingers enlarge it."""
    wanted = ids["harbor"]
    page = show(
        open_page, site, wanted[1], "&f.tag=kind:harbor",
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True,
    )  # fmt: skip
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for target in page.locator(".picture-bar button, .picture-actions .button").all():
        assert target.bounding_box()["height"] >= 44
    page.wait_for_selector(".picture-position:text-is('2 of 18')")
    touch = page.context.new_cdp_session(page)
    frame = page.locator(".picture-frame").bounding_box()
    y = frame["y"] + frame["height"] / 2

    def send(kind, *points):
        places = [{"x": x, "y": y, "id": number} for number, x in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": places})

    fitted = page.locator(".picture-layer").bounding_box()["width"]
    send("Start", 180, 210)
    for apart in (20, 40, 60):
        send("Move", 180 - apart, 210 + apart)
    send("End")
    page.wait_for_selector(".picture-frame.is-zoomed")
    assert page.locator(".picture-layer").bounding_box()["width"] > 2 * fitted
    page.locator(".picture-tool").last.click()
    assert page.locator(".picture-layer").bounding_box()["width"] == fitted
    send("Start", 300)
    for x in (260, 200, 140):
        send("Move", x)
    send("End")
    page.wait_for_selector(".picture-position:text-is('3 of 18')")


def test_originals_and_large_pictures_over_http(site, ids):
    """The original is a download of the very bytes, which nothing may run; a large one is a JPEG to be kept; a name
    that nobody knows gets 404 in words, a side that is none 400.
    """
    image_id = ids[HOSTILE]
    address = f"{site.address}/page/api/picture/{image_id}"
    status, headers, body = ask(f"{address}/original")
    assert (status, hashlib.sha256(body).hexdigest()) == (200, image_id)
    assert headers["content-type"] == "image/jpeg"
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert headers["content-disposition"].startswith(
        'attachment; filename="_img src=x onerror=_document.title=1__.jpg"'
    )
    status, headers, body = ask(f"{address}/large?side=100")
    assert (status, headers["content-type"], body[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert "immutable" in headers["cache-control"]
    assert b"Exif" not in body[:1000]
    assert ask(f"{address}/large?side=100", **{"If-None-Match": headers["etag"]})[0] == 304
    for side in ("0", "-1", "x", "1.5", "9" * 30, "%00"):
        status, _, body = ask(f"{address}/large?side={side}")
        assert status == 400
        assert "error" in json.loads(body)
    for what in ("", "/large", "/original", "/near"):
        for name in ("0" * 64, "no", "..%2f..%2fetc"):
            status, _, body = ask(f"{site.address}/page/api/picture/{name}{what}")
            assert status == 404


def test_tags_are_edited_with_a_key(open_page, own_lake, ids):
    """With --write and a key, tags are added one after the other, each a chip, and taken away; the lake has them so."""
    import imagelake

    lake = imagelake.open(own_lake)
    image_id = ids["harbor 01 写真.jpg"]

    def tags():
        return sorted(lake.sql(f"SELECT tags FROM images WHERE id = '{image_id}'").to_pylist()[0]["tags"])

    with served(own_lake, "--write", IMAGELAKE_API_KEY=KEY) as site:
        page = open_page(f"{site.address}/")
        page.fill("input[type=password]", KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector(".view-browse:not([hidden])")
        page.faults[:] = [fault for fault in page.faults if "401" not in fault]
        page.goto(f"{site.address}/?view=picture&id={image_id}")
        page.fill(".picture-tagging input", "<b>best</b>")
        page.keyboard.press("Enter")
        page.wait_for_selector(".picture-tag:has-text('<b>best</b>')")
        assert tags() == ["<b>best</b>", "kind:harbor"]
        page.keyboard.type("second")
        page.keyboard.press("Enter")
        page.wait_for_selector(".picture-tag:has-text('second')")
        page.click(".picture-tag:has-text('best') button")
        page.wait_for_selector(".picture-tag:has-text('best')", state="detached")
        assert tags() == ["kind:harbor", "second"]
