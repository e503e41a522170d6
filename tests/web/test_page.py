"""The page as a whole: who gets it, what it holds, and what it never does."""

import gzip
import http.client
import json
import re
import urllib.request
from urllib.parse import urlsplit

import pytest
from web_site import HOSTILE

from places import ROOT

STATIC = ROOT / "src" / "imagelake" / "web" / "static"
VIEWS = ("browse", "search", "map", "duplicates", "atlas", "runs")


def ask(address, path="/", method="GET", **headers):
    """Status, headers with small letters, and body; the path goes out as it is."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def mark_of(site):
    return re.search(rb'page-mark" content="(\w+)"', ask(site.address, Accept="text/html")[2])[1].decode()


def test_browsers_get_the_page_and_programs_the_metadata(site):
    """`GET /` is the page for whoever accepts HTML by name, and GraphPipe's metadata for all others."""
    status, headers, body = ask(site.address, Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/html")
    assert b"<!doctype html>" in body
    assert b"{" not in body.replace(b"{mark}", b"{")  # nothing of the template is left
    for accept in ("*/*", "application/json"):
        status, headers, body = ask(site.address, Accept=accept)
        assert (status, headers["content-type"]) == (200, "application/json")
        assert b'"Inputs"' in body
    assert ask(site.address, "/", "POST", Accept="text/html")[0] != 200  # GraphPipe's, and it is empty


def test_page_asks_only_once_for_what_did_not_change(site):
    """The page is checked by its tag and its files are kept for good; both are compressed where that is understood."""
    _, headers, body = ask(site.address, Accept="text/html")
    assert ask(site.address, Accept="text/html", If_None_Match=headers["etag"])[::2] == (304, b"")
    assert ask(site.address, method="HEAD", Accept="text/html")[::2] == (200, b"")
    files = re.findall(r'(?:href|src)="(page/[^"]+)"', body.decode())
    assert len(files) > 10
    for name in files:
        status, told, plain = ask(site.address, f"/{name}")
        assert status == 200
        assert "immutable" in told["cache-control"]
        _, packed_told, packed = ask(site.address, f"/{name}", Accept_Encoding="br, gzip")
        assert (gzip.decompress(packed) if "content-encoding" in packed_told else packed) == plain
    assert ask(site.address, "/page/other/app.js")[1]["cache-control"] == "no-store"


def test_page_is_shut_to_other_sites(site):
    """The page allows scripts of its own alone, no markup from text, and no frame of another page around it."""
    _, headers, _ = ask(site.address, Accept="text/html")
    policy = headers["content-security-policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'",
                 "require-trusted-types-for 'script'"):  # fmt: skip
        assert rule in policy
    assert "unsafe" not in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert ask(site.address, "/page/api/about", Host="evil.example")[0] == 403
    assert ask(site.address, "/page/api/about", Origin="https://evil.example")[0] == 403
    assert ask(site.address, "/page/api/about", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403


@pytest.mark.parametrize(
    "path",
    ["../static_files.py", "..%2fstatic_files.py", "%2e%2e/%2e%2e/page.py", "core/../../page.py", "/etc/passwd",
     "//etc/passwd", "..\\page.py", "core/", "", "page.html", "__init__.py", "texts/../../__init__.py", "a%00.js",
     "core/%c0%ae%c0%ae/app.js"],
)  # fmt: skip
def test_files_of_the_page_are_a_list(site, path):
    """Below `page/` there are the files that the page has, by their very names, and nothing else."""
    for before in (f"/page/{mark_of(site)}/", "/page/x/"):
        status, _, body = ask(site.address, before + path)
        assert status in {400, 404}
        assert b"import" not in body


def test_no_page_without_a_lake(tmp_path):
    """A server of models alone has no page: browsers get there what all get."""
    from imagelake.serve.app import build_app
    from imagelake.serve.plane import Plane
    from imagelake.serve.site import Site

    with Plane() as plane:
        routes = build_app(Site(plane))._app.routes
    assert not [each.path for each in routes if each.path.startswith("/page")]


def test_page_opens(page):
    """The page comes up with its views, without a word on the console, and asks no other host."""
    page.wait_for_selector("nav a[aria-current=page]")
    assert page.title() == "Browse · imagelake"
    assert page.locator("nav a").count() == len(VIEWS)


def test_page_opens_in_every_view_and_back(page):
    """Each view can be opened by the head and by its keys; the back button leads through them again."""
    page.wait_for_selector("nav a[aria-current=page]")
    for name in VIEWS[1:]:
        page.click(f"nav a[data-view={name}]")
        page.wait_for_selector(f".view-{name}:not([hidden])")
        assert page.locator(".view:not([hidden])").count() == 1
    for name in reversed(VIEWS[:-1]):
        page.go_back()
        page.wait_for_selector(f".view-{name}:not([hidden])")
    for key, name in zip("smder", ("search", "map", "duplicates", "atlas", "runs"), strict=True):
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_selector(f".view-{name}:not([hidden])")


def test_nothing_that_is_injected_runs(page):
    """Markup from text, scripts in the document, code from text and foreign pictures are refused by the browser."""
    page.wait_for_selector("nav a[aria-current=page]")
    done = page.evaluate(
        """async () => {
          const done = [];
          const attempt = (work) => { try { work(); done.push("ran"); } catch (error) { done.push(error.name); } };
          attempt(() => { document.createElement("div").innerHTML = "<img src=x onerror=window.hit=1>"; });
          attempt(() => { document.body.insertAdjacentHTML("beforeend", "<b>x</b>"); });
          await new Promise((resolve) => setTimeout(resolve, 0)); // the debugger may eval, and its call is over then
          attempt(() => eval("window.hit = 1"));
          const script = document.createElement("script");
          attempt(() => { script.textContent = "window.hit = 1"; });
          document.body.append(script);
          const link = document.createElement("a");
          link.setAttribute("href", "javascript:window.hit=1");
          document.body.append(link);
          link.click();
          await new Promise((resolve) => setTimeout(resolve, 200));
          return [...done, String(window.hit)];
        }"""
    )
    assert done[-1] == "undefined"
    assert done[:3] == ["TypeError", "TypeError", "EvalError"]
    page.faults.clear()  # the browser told of each


def test_hostile_name_stays_text(page):
    """A file whose name is markup is shown by that name, in its tile and on its own page."""
    page.goto(page.url.partition("?")[0] + "?q=onerror")
    tile = page.locator(".view-browse .tile[data-id]").first
    tile.wait_for()
    assert HOSTILE in (tile.get_attribute("title") or "") + (tile.locator("img").get_attribute("alt") or "")
    tile.click()
    page.wait_for_selector(".view-picture:not([hidden])")
    assert page.title() != "1"
    assert page.locator("img[src='x'], img[onerror]").count() == 0


def focused(page):
    return page.evaluate("document.activeElement?.closest('.tile')?.dataset.id || ''")


def test_keyboard_alone_leads_to_a_picture_and_back(page):
    """With Tab, Enter and the keys of the browser somebody comes from the address to a picture, and back to it."""
    page.wait_for_selector(".view-browse .tile[data-id]")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    for _ in range(80):
        page.keyboard.press("Tab")
        if focused(page):
            break
    chosen = focused(page)
    assert chosen
    page.keyboard.press("Enter")
    page.wait_for_selector(".view-picture:not([hidden])")
    page.wait_for_selector(".view-picture h1:focus")
    page.go_back()  # Alt and the left arrow: a key of the browser's window, which there is none of here
    page.wait_for_selector(".view-browse:not([hidden])")
    page.wait_for_selector(f".tile[data-id='{chosen}']:focus")


def texts():
    return {
        name: {
            f"{part}.{key}": text
            for part, keys in json.loads((STATIC / "texts" / f"{name}.json").read_text()).items()
            for key, text in keys.items()
        }
        for name in ("en", "ja", "zh")
    }


def test_languages_have_the_same_texts():
    """Every text is there in every language, with the same values in it."""
    all_texts = texts()
    for name, there in all_texts.items():
        assert sorted(there) == sorted(all_texts["en"]), name
        for key, text in there.items():
            assert text.strip(), key
            values = set(re.findall(r"\{(\w+)\}", text))
            assert values <= set(re.findall(r"\{(\w+)\}", all_texts["en"][key])) | {"count"}, (name, key)


def test_texts_are_used_and_there():
    """What the scripts ask for by name is there, and what is there is asked for."""
    code = "\n".join(path.read_text() for path in STATIC.rglob("*.js"))
    there = set(texts()["en"])
    parts = "|".join({key.partition(".")[0] for key in there})
    literal = set(re.findall(rf'"((?:{parts})\.\w+)"', code))
    counted = set(re.findall(rf'\btn\(\s*"((?:{parts})\.\w+)"', code))
    asked = set(re.findall(r'\bt\(\s*"(\w+\.\w+)"', code))
    assert sorted(asked - there) == []
    assert sorted(f"{key}_{form}" for key in counted for form in ("one", "other") if f"{key}_{form}" not in there) == []
    made = [re.sub(r"\\\$\\\{.*?\\\}", r"\\w+", re.escape(each))
            for each in re.findall(rf"`((?:{parts})\.[^`]*\$\{{[^`]*)`", code)]  # fmt: skip
    forms = {f"{key}_{form}" for key in literal for form in ("one", "other")}
    unused = [
        key for key in there - literal - forms if not any(re.fullmatch(f"{each}(_one|_other)?", key) for each in made)
    ]
    assert sorted(unused) == []


@pytest.mark.parametrize(
    ("locale", "title"), [("ja-JP", "一覧 · imagelake"), ("zh-TW", "浏览 · imagelake"), ("fr-FR", "Browse · imagelake")]
)
def test_language_is_the_browsers(open_page, site, locale, title):
    """The page speaks the language of the browser, English where it has no texts for it."""
    page = open_page(site.address, locale=locale)
    page.wait_for_selector("nav a[aria-current=page]")
    assert page.title() == title
    assert page.evaluate("document.documentElement.lang") == {"ja": "ja", "zh": "zh"}.get(locale[:2], "en")


def test_settings_are_kept(page):
    """A language and a theme that somebody chose hold when the page is opened again."""
    page.wait_for_selector("nav a[aria-current=page]")
    page.get_by_label("Settings").click()
    page.get_by_label("Dark or light").last.select_option("dark")
    page.get_by_label("Language").select_option("ja")
    page.wait_for_selector("html[lang=ja] nav a[aria-current=page]")
    page.reload()
    page.wait_for_selector("nav a[aria-current=page]")
    assert page.evaluate("[document.documentElement.lang, document.documentElement.dataset.theme]") == ["ja", "dark"]


def test_page_fits_a_phone(open_page, site):
    """On a phone the views stand in reach of a thumb, and nothing is wider than the screen."""
    page = open_page(site.address, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    for name in VIEWS:
        page.goto(f"{site.address}?view={name}")
        page.wait_for_selector(f".view-{name}:not([hidden])")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
        assert page.locator("nav a").first.bounding_box()["y"] > 700


def test_server_that_is_gone_is_told_and_found_again(open_page, built_lake, tmp_path):
    """When the server ends, the page says so; when it is there again, the page goes on by itself."""
    from web_site import served

    with served(built_lake) as first:
        page = open_page(first.address)
        page.wait_for_selector("nav a[aria-current=page]")
        page.route("**/page/api/**", lambda route: route.abort())
        page.click("nav a[data-view=runs]")
        page.wait_for_selector(".notice.bad")
        page.unroute("**/page/api/**")
        page.wait_for_selector(".notice:not(.bad)", timeout=15_000)
    page.faults.clear()  # the browser told of each request that failed


def test_urllib_is_a_program(site):
    """A plain client of Python gets the metadata, as before there was a page."""
    with urllib.request.urlopen(site.address) as answer:
        assert answer.headers["content-type"] == "application/json"
