"""What other sites, callers without a key, hostile names and greedy requests get from the page: nothing, and soon."""

import asyncio
import http.client
import json
import threading
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from web_site import built_from, served

import imagelake
from imagelake.errors import BusyError, InputError
from imagelake.gallery.copies import Copies
from imagelake.gallery.gallery import Gallery
from imagelake.run.duplicates import DuplicateOptions
from imagelake.serve.rest_threads import Threads
from imagelake.serve.sessions import _network
from imagelake.web.answers import query_of, selection_of

PAGE = {"X-Imagelake-Page": "1"}


def ask(site, path, method="GET", body=None, **headers):
    """Status, headers with small letters, body."""
    parts = urlsplit(site.address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def ids(site):
    return json.loads(ask(site, "/page/api/browse/ids")[2])["ids"]


def test_every_answer_is_sealed(site, ids):
    """No answer below /page/api is a page of its own in a browser, nor can another site show it; errors neither."""
    one, other = ids[:2]
    paths = [
        "about", "browse", "facets", "points", "runs", "rejections", "rejections?format=csv", "tags", "nothing/here",
        f"thumbnail/{one}", f"picture/{one}", f"picture/{one}/large", f"picture/{one}/original", "picture/none",
        f"difference/{one}/{other}", f"difference/{one}/{other}/picture", f"difference/{one}/{other}/one",
        "atlas/export?format=csv", "browse/layout", "search", "browse?where=%3B", "login",
    ]  # fmt: skip
    for path in paths:
        status, headers, body = ask(site, f"/page/api/{path}", Accept="text/html")
        if path not in {"nothing/here", "login"}:
            assert "sandbox" in headers["content-security-policy"], path
            assert headers["cross-origin-resource-policy"] == "same-origin", path
        assert headers.get("x-content-type-options") == "nosniff", path
        assert not headers.get("content-type", "").startswith("text/html"), (path, status, body[:80])
    headers = ask(site, f"/page/api/picture/{one}/original")[1]
    assert headers["content-disposition"].startswith("attachment;")


@pytest.mark.parametrize("place", ["cross-site", "same-site"])
def test_other_sites_lead_no_browser_to_what_costs(site, ids, place):
    """A frame, a picture or a new window of another page starts nothing: not even where no key is asked for."""
    for mode in ("navigate", "no-cors", "cors"):
        told = {"Sec-Fetch-Site": place, "Sec-Fetch-Mode": mode}
        for path in ("browse?where=true", "duplicates?again=1", "atlas?method=pca", f"picture/{ids[0]}/large", "about"):
            assert ask(site, f"/page/api/{path}", **told)[0] == 403, (mode, path)
    assert ask(site, "/", Accept="text/html", **{"Sec-Fetch-Site": place, "Sec-Fetch-Mode": "navigate"})[0] == 200
    assert ask(site, "/page/api/about", Host="evil.example")[0] == 403
    for path in ("search/query", "atlas/make", "duplicates/export", "listing", "atlas/items"):
        body = b'{"ids": [], "url": "http://127.0.0.1:1/"}'
        assert ask(site, f"/page/api/{path}", "POST", body, Origin="https://evil.example", **PAGE)[0] == 403, path


def test_the_server_asks_nobody_of_this_machine(site):
    """An address that somebody searches with leads to the open internet, and the request comes from the page."""
    own = site.address.encode()
    for address in (own, b"http://169.254.169.254/x", b"http://[::1]:1/", b"http://0/", b"file:///etc/passwd", b"x"):
        body = b'{"url": "' + address + b'"}'
        status, _, answer = ask(site, "/page/api/search/query", "POST", body, Content_Type="application/json", **PAGE)
        assert (status, b"root:" in answer) == (400, False), (address, answer)
    assert ask(site, "/page/api/search/query", "POST", body, Content_Type="application/json")[0] == 403


@pytest.mark.parametrize(
    "where",
    [
        "len(range(2000000000)) > 0", "length(repeat('x', 2000000000)) > 0", "NULL::INTEGER[100000][100000] IS NULL",
        "true) UNION SELECT id FROM images WHERE (1=1", "EXISTS(SELECT 1 FROM read_text('/etc/passwd'))", "\ud800 = 1",
    ],
)  # fmt: skip
def test_no_predicate_takes_the_machine(site, ids, where):
    """What DuckDB's own limits do not end is refused before it runs, wherever a predicate may stand."""
    text = quote(where, errors="surrogatepass")
    for path in (f"browse?where={text}", f"facets?where={text}", f"search?like={ids[0]}&where={text}"):
        status, _, body = ask(site, f"/page/api/{path}")
        assert (status, b"passwd" in body and b"root:" in body) == (400, False), (path, body)
    body = json.dumps({"selection": f"where={where}"}).encode()
    assert ask(site, "/page/api/listing", "POST", body, **PAGE)[0] == 400


def test_a_selection_has_as_many_parts_as_an_address():
    """A body of megabytes is no selection: it is refused before it is taken apart."""
    assert len(selection_of(query_of("f.label=x&" * 999)).facets["label"]) == 999
    with pytest.raises(InputError, match="parts"):
        selection_of(query_of("f.label=x&" * 1001))
    with pytest.raises(InputError, match="letters"):
        query_of("f.label=x&" * 700_000)


def test_one_caller_does_not_hold_all_threads():
    """Somebody who asks for much waits for it; others are answered meanwhile, and get their share of the queue."""
    release = threading.Event()

    async def never():
        await asyncio.Event().wait()

    async def ask_for_much():
        threads = Threads(4, 64, "a test", each=3)

        def run(work, caller):
            return asyncio.create_task(threads.run(work, never, 20, caller))

        held = [run(lambda: release.wait(20), "greedy") for _ in range(48)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await run(lambda: 1, "greedy")
        assert [await run(lambda: 7, "other") for _ in range(9)] == [7] * 9
        for each in held[40:]:
            each.cancel()  # what has not begun is forgotten, and its place is free
        await asyncio.wait(held[40:])
        held[40:] = [run(lambda: True, "greedy") for _ in range(8)]
        release.set()
        assert await asyncio.gather(*held) == [True] * 48
        with pytest.raises(ZeroDivisionError):
            await run(lambda: 1 / 0, "greedy")
        assert await run(lambda: 2, "greedy") == 2

    asyncio.run(ask_for_much())


def test_duplicates_are_looked_for_a_few_ways_at_once(built_lake):
    """However many distances somebody asks for, few searches wait."""
    copies = Copies(Gallery(imagelake.open(built_lake).tables, None))
    begun = threading.Event()
    copies._run = lambda _: begun.wait(20) and None  # a search that takes long
    try:
        for bits in range(8):
            copies.find(DuplicateOptions(by=("hash",), hash_distance=bits))
        copies.find(DuplicateOptions(by=("hash",), hash_distance=3))  # the same one waits once
        with pytest.raises(BusyError):
            copies.find(DuplicateOptions(by=("hash",), hash_distance=9))
    finally:
        begun.set()


def test_attempts_are_counted_by_network():
    """Of IPv6, one caller has 2^64 addresses, which count as one."""
    assert _network("2001:db8::1") == _network("2001:db8::ffff:1:2:3") != _network("2001:db8:0:1::1")
    assert _network("10.0.0.1") != _network("10.0.0.2")
    assert _network("::ffff:10.0.0.1") != _network("::ffff:10.0.0.2")
    assert _network("fe80::1%eth0") == _network("fe80::2%eth1")
    assert _network("") == ""


def test_a_hostile_name_is_only_a_name(tmp_path):
    """Quotes, semicolons, a line end and bytes that are no text in a file's name harm neither headers nor scripts."""
    names = [
        'a";filename=evil.exe;x="$(touch x)`touch y`\'.jpg',
        "line\r\nSet-Cookie: a=b.jpg",
        "=cmd|' C calc'!A0.jpg",
    ]
    lake = built_from(tmp_path / "photos", names, tmp_path / "hostile.lake")
    with served(lake) as site:
        found = json.loads(ask(site, "/page/api/browse?limit=100")[2])["items"]
        assert len(found) == 2 * len(names)
        for each in found:
            status, headers, _ = ask(site, f"/page/api/picture/{each['id']}/original")
            told = headers["content-disposition"]
            assert (status, "set-cookie" in headers, told.count('"')) == (200, False, 2), told
            assert told.startswith("attachment; filename=")
            assert told.encode().isascii()
        body = json.dumps({"query": "by=exact", "format": "csv"}).encode()
        assert ask(site, "/page/api/duplicates/export", "POST", body, **PAGE)[0] in {200, 409}
    assert not (tmp_path / "x").exists()


def test_what_is_no_number_is_told(site, ids):
    """NaN, infinity, negative and huge numbers, letters that are none: each gets 400 and a reason, never 500."""
    one, other = ids[:2]
    paths = ("browse?offset=", "browse?limit=", f"search?like={one}&k=", f"picture/{one}/large?side=",
             f"difference/{one}/{other}/picture?gain=x", "browse?f.bounds=", f"search?like={one}&box=")  # fmt: skip
    random = np.random.default_rng(5)
    values = ["nan", "-inf", "1e999", "-1", "9" * 40, "%00", "%ED%A0%80", "%D9%A3", "0,0,nan,1", "1e308,1e308,-1e308,1"]
    for path in paths:
        for value in random.choice(values, 4, replace=False):
            status, _, body = ask(site, f"/page/api/{path}{value}")
            assert status == 400, (path, value, body)
            assert json.loads(body)["error"]
