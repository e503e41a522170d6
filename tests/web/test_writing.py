"""What people change from the page: only with `--write` and a key, and only from the page itself."""

import contextlib
import hashlib
import json
import urllib.error
import urllib.request

import pytest
from web_site import HOSTILE, served

import imagelake
from pictures import encode, make_image

KEY = "a-key-of-the-tests-0123456789"
OURS = {"X-Imagelake-Page": "1", "Authorization": f"Bearer {KEY}"}
POSTS = {"tags": b'{"ids": [], "add": ["x"]}', "upload?name=a.png": b"x"}


def ask(address, path, body=None, **headers):
    """Status and what was told."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{address}/page/api/{path}", body, named)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def writable(built_lake, tmp_path_factory):
    """A server of a lake of its own that those may change who have the key; and that lake."""
    import shutil

    folder = shutil.copytree(built_lake, tmp_path_factory.mktemp("writable") / "own.lake")
    with served(folder, "--write", IMAGELAKE_API_KEY=KEY) as site:
        yield site, imagelake.open(folder)


@contextlib.contextmanager
def logged_in(open_page, site, query=""):
    """The page of somebody who has shown the key."""
    page = open_page(f"{site.address}/{query}")
    page.fill("input[type=password]", KEY)
    page.keyboard.press("Enter")
    page.wait_for_selector(".tile")
    page.faults[:] = [fault for fault in page.faults if "401" not in fault]
    yield page


@pytest.mark.parametrize("path", POSTS)
def test_read_only_server_refuses(site, path):
    """Without `--write`, nothing is written, and the reason says how."""
    status, told = ask(site.address, path, POSTS[path], **OURS)
    assert status == 403
    assert "--write" in told["error"]


@pytest.mark.parametrize("path", POSTS)
def test_only_the_page_and_a_key_may_write(writable, path):
    """Without a key, with a wrong one, from another site, without the header of the page: refused."""
    site, lake = writable
    version = lake.tables.images.version()
    wrong = {
        "no key": (401, {"X-Imagelake-Page": "1"}),
        "wrong key": (401, OURS | {"Authorization": "Bearer wrong"}),
        "no header": (403, {"Authorization": f"Bearer {KEY}"}),
        "cross-site": (403, OURS | {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}),
        "another origin": (403, OURS | {"Origin": "https://evil.example"}),
    }
    for name, (expected, headers) in wrong.items():
        assert ask(site.address, path, POSTS[path], **headers)[0] == expected, name
    assert lake.tables.images.version() == version


def test_wrong_bodies(writable):
    """A body that makes no sense is refused with a reason, and changes nothing."""
    site, lake = writable
    version = lake.tables.images.version()
    for body in (
        b"", b"x", b"[]", b"{}", b'{"ids": 1, "add": ["a"]}', b'{"ids": [1], "add": ["a"]}', b'{"ids": [], "add": "a"}',
        b'{"ids": [], "selection": "", "add": ["a"]}', b'{"selection": 1, "add": ["a"]}', b'{"ids": []}', b"[" * 10_000,
        b'{"selection": "where=;", "add": ["a"]}', b'{"ids": [], "add": ["a\\n"]}', b'{"ids": [], "add": ["\\ud800"]}',
    ):  # fmt: skip
        status, told = ask(site.address, "tags", body or b" ", **OURS)
        assert (status, bool(told["error"])) == (400, True), body[:60]
    assert ask(site.address, "upload?name=a.png", b"", **OURS)[0] == 400
    assert lake.tables.images.version() == version


def test_a_selection_is_tagged_and_undone(writable):
    """What the address of a view selects can be tagged at once; what is told for undoing it leaves all as before."""
    site, lake = writable

    def tags():
        return {row["id"]: row["tags"] for row in lake.sql("SELECT id, tags FROM images").to_pylist()}

    before = tags()
    asked = {"selection": "f.tag=kind:harbor", "add": ["sea", "kind:temple"], "remove": ["kind:harbor"]}
    status, told = ask(site.address, "tags", json.dumps(asked).encode(), **OURS)
    assert (status, told["images"], told["changed"]) == (200, 18, 18)
    assert sum("sea" in (each or []) for each in tags().values()) == 18
    for step in told["undo"]:
        ask(site.address, "tags", json.dumps(step).encode(), **OURS)
    assert tags() == before
    names = {each["name"] for each in ask(site.address, "tags", **OURS)[1]["tags"]}
    assert "kind:harbor" in names
    assert "sea" not in names


def test_tags_of_chosen_images(open_page, writable):
    """Images that are chosen get a tag, lose it by Undo, and are listed; a hostile tag stays text."""
    site, lake = writable

    def tagged():
        return lake.sql("SELECT count(*) AS n FROM images WHERE list_contains(tags, '<b>x</b>')").to_pylist()[0]["n"]

    with logged_in(open_page, site) as page:
        for number in range(3):
            page.locator(".view-browse .tile[data-id]").nth(number).focus()
            page.keyboard.press("x")
        bar = page.locator(".view-browse .editing")
        bar.locator("strong:has-text('3 pictures chosen')").wait_for()
        bar.locator("input[type=text]").fill("<b>x</b>")
        bar.locator("button:has-text('Add tag')").click()
        page.wait_for_selector(".notice:has-text('Tags of 3 pictures changed')")
        assert tagged() == 3
        word, below = page.locator(".notice").bounding_box(), bar.bounding_box()
        assert word["y"] + word["height"] <= below["y"]  # it covers none of the buttons
        facet = page.locator(".browse-main, .filters").get_by_label("<b>x</b>")
        facet.first.wait_for()
        page.click(".notice button:has-text('Undo')")
        page.wait_for_selector(".notice:has-text('as before')")
        assert tagged() == 0
        facet.first.wait_for(state="detached")
        with page.expect_download() as saving:
            bar.locator("button:has-text('CSV')").click()
        lines = saving.value.path().read_text().splitlines()
        assert lines[0].startswith('"id","name"')
        assert len(lines) == 4
        bar.locator("button[aria-label='Choose none']").click()
        assert bar.is_hidden()


def test_pictures_are_sent(open_page, writable, tmp_path):
    """A new picture is in the lake and can be searched soon after; a known one and a broken one are told apart."""
    site, lake = writable
    data = encode(make_image(4711, 200, 150), "PNG")
    (tmp_path / HOSTILE).write_bytes(data)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (tmp_path / "again.png").write_bytes(data)
    with logged_in(open_page, site) as page:
        count = int(page.inner_text(".browse-count").split()[0])
        page.get_by_role("button", name="Add pictures").click()
        choosing = page.locator(".editing-sheet input[type=file]")
        choosing.set_input_files(tmp_path / HOSTILE)
        page.wait_for_selector(".editing-files li[data-state=good]:has-text('added')")
        choosing.set_input_files([tmp_path / "broken.jpg", tmp_path / "again.png"])
        page.wait_for_selector(".editing-files li[data-state=bad]:has-text('broken.jpg')")
        page.wait_for_selector(".editing-files li[data-state=good]:has-text('was there already')")
        page.wait_for_selector("text=1 added, 1 known already, 1 not taken.")
        page.wait_for_selector(f".browse-count:has-text('{count + 1} pictures')")  # behind the dialog
        page.wait_for_selector(".editing-follow:has-text('can be searched')", timeout=60_000)
        assert page.title() != "1"
    image_id = hashlib.sha256(data).hexdigest()
    assert lake.sql(f"SELECT uris FROM images WHERE id = '{image_id}'").num_rows == 1
    assert lake.search(data, 1)[0].id == image_id
