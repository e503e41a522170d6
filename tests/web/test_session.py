"""Where keys are asked for: the page is open, what it shows is not, and a session opens that and nothing else."""

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

import imagelake
from imagelake.gallery.gallery import Gallery
from imagelake.serve.api_keys import read_keys
from imagelake.serve.app import build_app
from imagelake.serve.errors_http import NoKeyError, TooOftenError
from imagelake.serve.guard import GuardOptions
from imagelake.serve.listening import listen
from imagelake.serve.plane import Plane
from imagelake.serve.server import HttpServer, ServerOptions
from imagelake.serve.sessions import LASTS_S, Sessions, cookie_name, shown_session
from imagelake.serve.site import Site
from imagelake.web import page

KEY = "open-sesame-4711"
PAGE = {"X-Imagelake-Page": "1"}


@contextlib.contextmanager
def asking_for_a_key(lake, *, write):
    """A server of the page alone, without models, in a thread; `address` of it."""
    keys = read_keys(f"ali:{KEY}", "here")
    sessions = Sessions(keys, write=write)
    with Plane() as plane, listen("127.0.0.1", 0) as listening:
        site = Site(plane)
        routes = page.routes(Gallery(imagelake.open(lake).tables, None), site, sessions)
        app = build_app(site, GuardOptions(keys, page=True, sessions=sessions), routes)
        server = HttpServer(app, listening, site.lifecycle, ServerOptions(drain_s=0))
        started = threading.Event()
        thread = threading.Thread(target=server.run, args=[lambda _: started.set()])
        thread.start()
        try:
            assert started.wait(30)
            yield SimpleNamespace(address=f"http://127.0.0.1:{listening.getsockname()[1]}")
        finally:
            server.stop()
            thread.join(60)


@pytest.fixture(scope="module")
def keyed(built_lake, tmp_path_factory):
    """A server that asks for a key, and lets those write who have one; no test here changes the lake."""
    with asking_for_a_key(
        shutil.copytree(built_lake, tmp_path_factory.mktemp("keyed") / "own.lake"), write=True
    ) as running:
        yield running


@pytest.fixture(scope="module")
def read_only(built_lake):
    """One that lets nobody write."""
    with asking_for_a_key(built_lake, write=False) as running:
        yield running


def ask(site, path, method="GET", body=None, **headers):
    """Status, headers with small letters, body."""
    parts = urlsplit(site.address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def log_in(site, key=KEY, **headers):
    status, told, body = ask(site, "/page/api/login", "POST", json.dumps({"key": key}), **(PAGE | headers))
    return status, told.get("set-cookie", ""), body


def cookie_of(site):
    status, cookie, _ = log_in(site)
    assert status == 200
    return cookie.partition(";")[0]


def test_page_is_open_and_what_it_shows_is_not(keyed):
    """The page and its files need no key; everything of the lake does."""
    assert ask(keyed, "/", Accept="text/html")[0] == 200
    assert ask(keyed, "/page/x/app.js")[0] == 200
    for path in (
        "about",
        "browse",
        "facets",
        "thumbnail/0123456789abcdef",
        "picture/0123456789abcdef",
        "runs",
        "nothing",
    ):
        status, headers, body = ask(keyed, f"/page/api/{path}")
        assert (status, headers["www-authenticate"]) == (401, "Bearer"), path
        assert "key" in json.loads(body)["error"]
    assert ask(keyed, "/", Accept="*/*")[0] == 401
    assert ask(keyed, "/page/api/about", X_API_Key=KEY)[0] == 200
    assert ask(keyed, "/page/api/about", Authorization=f"Bearer {KEY}")[0] == 200


def test_session_opens_the_page_and_nothing_else(keyed):
    """The cookie of a login is good for what the page asks, and for no protocol that programs speak."""
    cookie = cookie_of(keyed)
    assert ask(keyed, "/page/api/about", Cookie=cookie)[0] == 200
    assert ask(keyed, "/page/api/about", Cookie=f"other=1; {cookie}; more=2")[0] == 200
    for path in ("/api/models", "/v2", "/metrics", "/", "/page/../api/models", "/thumbnail/x"):
        assert ask(keyed, path, Cookie=cookie)[0] in {401, 404}, path
    assert ask(keyed, "/api/models", Cookie=cookie)[0] == 401


def test_cookie_is_for_this_page_alone(keyed):
    """No script reads the cookie, no other site sends it, and what another server of this machine sends is refused."""
    _, cookie, _ = log_in(keyed)
    assert {each.strip().lower() for each in cookie.split(";")[1:]} >= {"httponly", "samesite=strict", "path=/"}
    assert "secure" not in cookie.lower()  # without TLS a browser would not send it
    assert cookie.startswith(f"imagelake-{urlsplit(keyed.address).port}=")
    value = cookie.partition(";")[0]
    assert ask(keyed, "/page/api/about", Cookie=value, Sec_Fetch_Site="same-origin")[0] == 200
    for site in ("same-site", "cross-site", "something"):
        assert ask(keyed, "/page/api/about", Cookie=value, Sec_Fetch_Site=site)[0] == 401


def test_login_needs_the_key_and_the_page(keyed):
    """A wrong key, no key, what is no login, and a form of another site are each refused in words."""
    assert log_in(keyed, "wrong")[::2][0] == 401
    for body in (b"", b"[]", b"{}", b'{"key": 1}', b"[" * 4000, b"\xff"):
        assert ask(keyed, "/page/api/login", "POST", body, **PAGE)[0] == 400
    assert ask(keyed, "/page/api/login", "POST", b" " * 10_000, **PAGE)[0] == 413
    assert ask(keyed, "/page/api/login", "POST", json.dumps({"key": KEY}))[0] == 403
    assert log_in(keyed, Origin="https://evil.example")[0] == 403
    assert log_in(keyed, Sec_Fetch_Site="cross-site")[0] == 403
    assert ask(keyed, "/page/api/login")[0] in {404, 405}


def test_logout_ends_the_session(keyed):
    """After a logout the cookie is worth nothing, also to who copied it."""
    cookie = cookie_of(keyed)
    status, headers, _ = ask(keyed, "/page/api/logout", "POST", b"{}", Cookie=cookie, **PAGE)
    assert (status, "Max-Age=0" in headers["set-cookie"]) == (200, True)
    assert ask(keyed, "/page/api/about", Cookie=cookie)[0] == 401


@pytest.mark.parametrize("path", ["tags", "upload"])
def test_nobody_writes_unless_it_was_allowed(keyed, read_only, site, path):
    """Without --write nothing changes a lake; with it, only what the page itself asks, with a session or a key."""
    path, body = f"/page/api/{path}", b'{"ids": [], "add": [], "remove": []}'
    status, _, answer = ask(site, path, "POST", body, **PAGE)
    assert (status, "--write" in json.loads(answer)["error"]) == (403, True)
    for headers in ({"Cookie": cookie_of(read_only)}, {"X-API-Key": KEY}):
        status, _, answer = ask(read_only, path, "POST", body, **(headers | PAGE))
        assert (status, "--write" in json.loads(answer)["error"]) == (403, True)
    assert ask(keyed, path, "POST", body, **PAGE)[0] == 401
    session = {"Cookie": cookie_of(keyed)}
    for headers in (
        session,  # a form cannot send the header
        session | PAGE | {"Origin": "https://evil.example"},
        session | PAGE | {"Origin": "http://127.0.0.1:1"},
        session | PAGE | {"Origin": "null"},
    ):
        assert ask(keyed, path, "POST", body, **headers)[0] == 403, headers
    assert ask(keyed, path, "POST", body, **(session | PAGE | {"Sec-Fetch-Site": "cross-site"}))[0] == 401
    own = session | PAGE | {"Origin": keyed.address, "Sec-Fetch-Site": "same-origin"}
    assert ask(keyed, path, "POST", body, **own)[0] not in {401, 403}


def test_page_is_told_whether_it_may_write(keyed, read_only, site):
    """`about` says whether who asks may write, and by which key."""
    given = ((site, {}), (read_only, {"Cookie": cookie_of(read_only)}), (keyed, {"Cookie": cookie_of(keyed)}))
    told = [json.loads(ask(server, "/page/api/about", **headers)[2]) for server, headers in given]
    assert [(each["write"], each["key"]) for each in told] == [(False, None), (False, "ali"), (True, "ali")]
    assert [each["search"] for each in told] == [True, False, False]


@pytest.mark.parametrize(
    ("words", "environment", "told"),
    [
        (["--write"], {}, "API key"),
        (["--write", "--no-key"], {}, "API key"),
        ([], {"IMAGELAKE_API_KEY": "k"}, "--lake"),
    ],
)
def test_writing_needs_a_key_and_a_lake(built_lake, words, environment, told):
    """`--write` without a key, or without a lake, does not start, and says what is missing."""
    lake = [] if environment else ["--lake", str(built_lake)]
    command = [sys.executable, "-m", "imagelake", "serve", "--listen", "127.0.0.1:0", *lake, *(words or ["--write"])]
    free = {name: value for name, value in os.environ.items() if name != "IMAGELAKE_API_KEY"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=free | environment)
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_somebody_logs_in_by_hand(open_page, keyed):
    """The page asks for the key once, says when it is wrong, shows pictures then, and forgets it on the way out."""
    shown = open_page(keyed.address)
    field = shown.get_by_label("API key")
    field.wait_for()
    assert shown.locator(".view").count() == 0
    field.fill("wrong")
    field.press("Enter")
    shown.get_by_text("This key is not right.").wait_for()
    field.fill(KEY)
    field.press("Enter")
    shown.wait_for_selector(".view-browse .tile[data-id]")
    assert shown.locator("dialog[open]").count() == 0
    assert shown.evaluate("document.cookie") == ""
    assert shown.evaluate("id => fetch(`page/api/about`).then((answer) => answer.status)", "") == 200
    shown.get_by_label("Settings").click()
    shown.get_by_text("Log out (ali)").click()
    shown.get_by_label("API key").wait_for()
    shown.faults.clear()  # the browser told of each 401


def test_sessions_end_and_are_few():
    """A session ends after its time; the oldest ends where there are too many; each has a value of its own."""
    now = [0.0]
    sessions = Sessions(read_keys("ali:k,bob:q", "here"), clock=lambda: now[0])
    first = sessions.begin("k", "a")
    assert sessions.name_of(first.encode()) == "ali"
    assert sessions.name_of(sessions.begin("q", "b").encode()) == "bob"
    for nothing in (b"", b"x", first.encode() + b" ", first.upper().encode()):
        assert sessions.name_of(nothing) is None
    now[0] = LASTS_S - 1
    assert sessions.name_of(first.encode()) == "ali"
    now[0] = LASTS_S
    assert sessions.name_of(first.encode()) is None
    tokens = [sessions.begin("k", str(number)) for number in range(1001)]
    assert len(set(tokens)) == 1001
    assert [sessions.name_of(token.encode()) for token in tokens[:2]] == [None, "ali"]


def test_keys_cannot_be_tried_out():
    """After ten attempts an address must wait; another address need not."""
    now = [0.0]
    sessions = Sessions(read_keys("k", "here"), clock=lambda: now[0])
    for _ in range(10):
        with pytest.raises(NoKeyError):
            sessions.begin("no", "a")
    with pytest.raises(TooOftenError):
        sessions.begin("k", "a")
    assert sessions.begin("k", "b")
    now[0] = 5.0
    assert sessions.begin("k", "a")


def test_cookies_are_read_as_browsers_send_them():
    """The session is found among other cookies by its whole name, which over TLS other pages cannot set."""
    assert cookie_name("http", 9000) == "imagelake-9000"
    assert cookie_name("https", 443) == "__Host-imagelake-443"
    for given, found in ((b"", b""), (b"imagelake-9000=x", b"x"), (b"a=1; imagelake-9000=x=y; b=2", b"x=y"),
                         (b"ximagelake-9000=x", b""), (b"imagelake-9000", b""), (b";;=;", b"")):  # fmt: skip
        assert shown_session(given, "imagelake-9000") == found
