"""What web addresses yield: every one of them once, whatever the server does, and nothing from inside a network."""

import gc
import json
import socket
import ssl
import subprocess
import threading
import time
from shutil import which

import pytest
from sources.misbehaving_server import PICTURE, MisbehavingServer

import imagelake
from imagelake.errors import InputError
from imagelake.sources.url_list import Address, read_url_list
from imagelake.sources.web import Web, WebOptions
from imagelake.sources.web_answer import FetchLimits
from imagelake.sources.web_fetch import Budget
from imagelake.sources.web_guard import Guard, Try, parse_target, why_private
from pictures import encode, make_image

LIMITS = FetchLimits(connect_timeout_s=2, read_timeout_s=0.3, total_timeout_s=3, max_bytes=1 << 20)


@pytest.fixture
def server():
    with MisbehavingServer() as running:
        yield running


def options(**changes):
    ours = {"backoff_s": 0.01, "retries": 2, "limits": LIMITS, "guard": Guard(allow_private=True)}
    return WebOptions(**(ours | changes))


def fetch(addresses, **changes):
    """The rows of addresses, by their URI."""
    rows = [row for batch in Web(addresses, options(**changes)).batches() for row in batch.to_pylist()]
    found = {row["uri"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def fetch_one(address, **changes):
    (row,) = fetch([address], **changes).values()
    assert (row["bytes"] is None) == (row["error"] is not None)
    return row


def test_no_addresses_yield_nothing():
    """No rows, and an estimate of none."""
    assert list(Web([]).batches()) == []
    assert Web([]).estimate() == 0
    assert Web([]).name


def test_a_picture_comes_as_it_is(server):
    """With its address and what the list says of it."""
    row = fetch_one(Address(server.url("/good"), '{"a": 1}'))
    assert row == {"uri": server.url("/good"), "bytes": PICTURE, "error": None, "metadata": '{"a": 1}'}


def test_connections_are_used_again(server):
    """Many pictures of one host take no more connections than its limit, and never more requests at a time."""
    found = fetch([server.url(f"/slow?{number}") for number in range(60)], per_host=4)
    assert all(row["bytes"] == PICTURE for row in found.values())
    assert len(found) == 60
    assert len(server.connections) <= 4
    assert 2 <= server.most_at_once <= 4


def test_pictures_are_fetched_at_the_same_time(server):
    """A hundred answers that take 50 ms each come in less than a second."""
    began = time.monotonic()
    assert len(fetch([server.url(f"/slow?{number}") for number in range(100)])) == 100
    assert time.monotonic() - began < 2.5


def test_what_the_server_serves_is_passed_on(server):
    """Garbage and nothing are bytes too: whether they are pictures is found out later."""
    assert fetch_one(server.url("/garbage"))["bytes"] == b"<html>no picture</html>"
    assert fetch_one(server.url("/empty"))["bytes"] == b""
    assert fetch_one(server.url("/chunked"))["bytes"] == PICTURE
    assert fetch_one(server.url("/gzip"))["bytes"] == PICTURE


FINAL = [
    ("/missing", "404 Not Found"),
    ("/status?code=403", "403 Forbidden"),
    ("/status?code=299", "299"),
    ("/long", "more than the 10,140 bytes"),
    ("/long?length=1", "more than the 1 bytes"),
    ("/lengths", "two lengths"),
    ("/circle/a", "circle"),
    ("/far?step=1", "more than 5 times"),
    ("/nowhere", "where to"),
    ("/to?address=ftp://127.0.0.1/x", "http or https"),
    ("/to?address=http://a%20b/", "not an address"),
    ("/bomb", "the limit is 1,048,576"),
    ("/large?size=1048577", "the limit is 1,048,576"),
    ("/endless", "the limit is 1,048,576"),
    ("/brotli", "'br'"),
    ("/drip", "longer than 3 s in all"),
    ("/drip?headers", "longer than 3 s in all"),
]


def test_what_cannot_help_is_not_tried_again(server):
    """Each has its reason after one try, and all the others come all the same."""
    addresses = [server.url(path) for path, _ in FINAL]
    good = [server.url(f"/good?{number}") for number in range(20)]
    limits = FetchLimits(connect_timeout_s=2, read_timeout_s=2, total_timeout_s=3, max_bytes=1 << 20)
    found = fetch([*addresses, *good], limits=limits)
    assert set(found) == {*addresses, *good}
    for path, reason in FINAL:
        row = found[server.url(path)]
        assert row["bytes"] is None
        assert reason in row["error"], path
        assert server.asked[path] == 1, path
    assert all(found[address]["bytes"] == PICTURE for address in good)


PASSING = [
    ("/short", "broke off"),
    ("/chunked?cut", "broke off"),
    ("/gziphalf", "too early"),
    ("/noise", "no valid HTTP"),
    ("/stall", "no answer for 0.3 s"),
    ("/status?code=500", "500 Internal Server Error"),
    ("/status?code=503", "503 Service Unavailable"),
    ("/status?code=429", "429 Too Many Requests"),
]


def test_what_may_pass_is_tried_again(server):
    """As often as was asked for, and then there is a reason that says so."""
    found = fetch([server.url(path) for path, _ in PASSING])
    assert len(found) == len(PASSING)
    for path, reason in PASSING:
        row = found[server.url(path)]
        assert row["bytes"] is None
        assert reason in row["error"], path
        assert "tried 3 times" in row["error"]
        assert server.asked[path] == 3, path


@pytest.mark.parametrize("path", ["/busy?code=500&times=2", "/busy?code=503", "/shortonce"])
def test_a_failure_that_passes_leaves_no_trace(server, path):
    """The picture comes in the end."""
    assert fetch_one(server.url(path))["bytes"] == PICTURE


def test_a_server_that_asks_to_wait_is_waited_for(server):
    """For as long as it says, and by everyone who wants something from it."""
    began = time.monotonic()
    assert fetch_one(server.url("/busy?after=1"))["bytes"] == PICTURE
    assert time.monotonic() - began >= 1


def test_no_wait_is_longer_than_allowed(server):
    """A server cannot stop the work for a day, by a number or by a date."""
    began = time.monotonic()
    paths = ["/busy?after=86400", "/busy?after=Fri,%2001%20Jan%202100%2000:00:00%20GMT", "/busy?after=soon"]
    found = fetch([server.url(path) for path in paths], longest_wait_s=0.2)
    assert [row["bytes"] for row in found.values()] == [PICTURE] * 3
    assert time.monotonic() - began < 5


def test_a_host_that_is_not_there_is_a_reason():
    """A closed port and an unknown name."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert "refused" in fetch_one(f"http://127.0.0.1:{port}/")["error"]

    def unknown(host):
        raise socket.gaierror(socket.EAI_NONAME, "no")

    assert "resolved" in fetch_one("http://nowhere.example/", guard=Guard(resolve=unknown))["error"]
    assert "resolved" in fetch_one("http://nowhere.example/", guard=Guard(resolve=lambda _: []))["error"]


def test_what_is_no_address_is_a_row(server):
    """With the reason; passwords in it are not kept."""
    broken = ["", "a.jpg", "ftp://u:secret@h/a", "http://u:sec/ret@h/", "http://h:0/", "http:///a", "http://\udcff/"]
    found = fetch([*broken, "http://" + "a" * 20_000, server.url("/good")])
    assert len(found) == 9
    assert sum(row["bytes"] is not None for row in found.values()) == 1
    assert not any("sec" in json.dumps([row["uri"], row["error"]]) for row in found.values())


def test_user_and_password_are_used_and_not_kept(server):
    """Neither in the URI nor in a reason, and a redirect to another server does not learn them."""
    with MisbehavingServer() as other:
        row = fetch_one(server.url("/good", "user:s%65cret@127.0.0.1"))
        assert row["uri"] == server.url("/good")
        assert server.headers["/good"]["Authorization"] == "Basic dXNlcjpzZWNyZXQ="
        away = f"/to?address={other.url('/good')}"
        assert fetch_one(server.url(away, "user:secret@127.0.0.1"))["bytes"] == PICTURE
        assert "Authorization" not in other.headers["/good"]
        row = fetch_one(server.url("/to?address=ftp://me:secret@127.0.0.1/", "user:secret@127.0.0.1"))
        assert "127.0.0.1" in row["error"]
        assert "secret" not in row["error"]
    assert "secret" not in Web(["http://user:secret@h/"]).name


def test_a_redirect_is_followed(server):
    """The picture keeps the address it was listed under."""
    address = server.url("/to?address=/to%3Faddress=good")
    assert fetch_one(address)["bytes"] == PICTURE


# The guard


PRIVATE = [
    "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "100.100.100.200", "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.192", "198.18.0.1",
    "168.63.129.16", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::",
    "2001::1", "2001:db8::1", "5f00::1", "4000::1", "nonsense",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_no_address_from_inside_is_fetched(address):
    """However it is written, and also where it is only one of several."""
    assert why_private(address)
    for found in ([address], ["8.8.8.8", address]):
        with pytest.raises(InputError, match="open internet"):
            Guard(resolve=lambda _, found=found: found).addresses("pictures.example")
    assert Guard(allow_private=True, resolve=lambda _: [address]).addresses("pictures.example") == [address]


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_the_open_internet_is(address):
    """In both versions of IP, and through a translator from one to the other."""
    assert why_private(address) is None
    assert Guard(resolve=lambda _: [address]).addresses("pictures.example") == [address]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "017700000001", "localhost", "[::1]"])
def test_no_spelling_of_this_machine_is_fetched(server, host):
    """As the system's own resolver reads it: the server is never asked."""
    row = fetch_one(server.url("/good", host), guard=Guard())
    assert row["bytes"] is None
    assert not server.asked


def test_a_redirect_to_a_private_address_is_refused(server):
    """The first host passes the guard, and where it leads to does not."""

    def resolve(host):
        return {"open.example": ["127.0.0.1"], "inside.example": ["10.0.0.1"]}[host]

    class OneOpen(Guard):
        def addresses(self, host):
            return resolve(host) if host == "open.example" else super().addresses(host)

    path = "/to?address=http://inside.example/x"
    row = fetch_one(server.url(path, "open.example"), guard=OneOpen(resolve=resolve))
    assert "redirects to http://inside.example/x" in row["error"]
    assert "10.0.0.1" in row["error"]
    assert server.asked[path] == 1


def test_a_name_that_changes_its_mind_gains_nothing(server):
    """A name is looked up once a connection, and the connection is made to the very address that was looked at."""
    asked = []

    def rebinding(host):
        asked.append(host)
        return ["192.0.2.1"] if len(asked) == 1 else ["127.0.0.1"]

    limits = FetchLimits(connect_timeout_s=0.2, read_timeout_s=0.3, total_timeout_s=2)
    guard = Guard(allow_private=True, resolve=rebinding)
    row = fetch_one(server.url("/good", "pictures.example"), guard=guard, limits=limits, retries=0)
    assert row["bytes"] is None  # it went to 192.0.2.1, where nobody is, and not to what a second look would say
    assert asked == ["pictures.example"]
    assert not server.asked


def test_the_server_is_asked_by_its_name(server):
    """The Host header is the name's, the connection goes to the address that the guard found."""
    guard = Guard(allow_private=True, resolve=lambda _: ["127.0.0.1"])
    assert fetch_one(server.url("/good", "pictures.example"), guard=guard)["bytes"] == PICTURE
    assert server.headers["/good"]["Host"] == f"pictures.example:{server.port}"


def test_the_next_address_of_a_host_is_tried(server):
    """Where the first does not answer."""
    guard = Guard(allow_private=True, resolve=lambda _: ["::1", "127.0.0.1"])
    assert fetch_one(server.url("/good", "pictures.example"), guard=guard)["bytes"] == PICTURE


def test_proxies_of_the_environment_are_not_used(server, monkeypatch):
    """Through them the guard could not see where a request goes."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    assert fetch_one(server.url("/good"))["bytes"] == PICTURE


def test_tls_checks_the_name_and_not_the_number(tmp_path, monkeypatch):
    """A certificate of another name is refused, and not tried again."""
    if which("openssl") is None:
        pytest.skip("openssl is not here to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=pictures.example",
    ]
    command += ["-addext", "subjectAltName=DNS:pictures.example", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    asked_names = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    tls.sni_callback = lambda _socket, name, _context: asked_names.append(name)
    guard = Guard(allow_private=True, resolve=lambda _: ["127.0.0.1"])
    with MisbehavingServer(tls) as server:
        assert fetch_one(server.url("/good", "pictures.example"), guard=guard)["bytes"] == PICTURE
        assert "more than" in fetch_one(server.url("/long", "pictures.example"), guard=guard)["error"]
        assert "certificate" in fetch_one(server.url("/good", "other.example"), guard=guard)["error"]
    assert asked_names == ["pictures.example", "pictures.example", "other.example"]


# Memory, time, and the whole ingest


def test_bytes_that_wait_are_bounded(server):
    """Whoever consumes slowly makes the fetching wait: no more than the limit and one picture are held."""
    size, limit = 100_000, 250_000
    source = Web([server.url(f"/large?size={size}&{n}") for n in range(30)], options(waiting_bytes=limit))
    batches = source.batches()
    counted = [next(batches).num_rows]
    crew = batches.gi_frame.f_locals["crew"]
    for batch in batches:
        time.sleep(0.01)
        assert crew.budget.used <= limit + size
        counted.append(batch.num_rows)
    assert sum(counted) == 30


def test_pictures_larger_than_what_may_wait_come_too(server):
    """One at a time; nothing gets stuck."""
    found = fetch([server.url(f"/large?size=300000&{n}") for n in range(12)], waiting_bytes=100_000)
    assert [len(row["bytes"]) for row in found.values()] == [300_000] * 12


def test_waiting_for_room_is_not_the_pictures_time():
    """A picture that waits because others are not consumed does not run into its deadline."""
    budget = Budget(10, used=10, finished=10)
    current = Try(time.monotonic() + 0.05)
    thread = threading.Thread(target=budget.take, args=(current, 5))
    thread.start()
    time.sleep(0.2)
    budget.consume(10)
    thread.join()
    assert current.deadline > time.monotonic()
    assert budget.used == 5


def test_who_stops_reading_does_not_wait(server):
    """Closing the batches ends all requests, also those to servers that stall or drip."""
    limits = FetchLimits(read_timeout_s=30, total_timeout_s=60)
    addresses = [server.url("/good"), *[server.url(f"/{kind}?{n}") for n in range(5) for kind in ("stall", "drip")]]
    batches = Web(addresses, options(limits=limits)).batches()
    assert next(batch.num_rows for batch in batches if batch.num_rows) == 1
    before = time.monotonic()
    batches.close()
    assert time.monotonic() - before < 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("imagelake-web")]


def test_empty_batches_come_while_servers_stall(server):
    """So that whoever reads can tell that nothing comes from that nothing more will come."""
    counts = [batch.num_rows for batch in Web([server.url("/stall")], options(retries=1)).batches()]
    assert sum(counts) == 1
    assert 0 in counts


def test_nothing_stays_open(server):
    """Neither sockets nor their second ends."""
    limits = FetchLimits(connect_timeout_s=2, read_timeout_s=0.3, total_timeout_s=1)
    fetch([server.url(path) for path in ("/good", "/short", "/stall", "/missing", "/drip", "/bomb")], limits=limits)
    gc.collect()  # an open socket would warn, and warnings are errors


def test_ingest_accounts_for_every_address(server, lake, tmp_path):
    """Pictures become images with their metadata, all else rejections; the next run knows what is there."""
    body = encode(make_image(1))
    (tmp_path / "urls.csv").write_text(
        f"url,label\n{server.url('/picture')},cat\n{server.url('/missing')},dog\n{server.url('/garbage')},\n,bird\n"
    )
    handler = server.server.RequestHandlerClass
    handler.answer_picture = lambda self, _query: self.send(body=body)
    source = Web(read_url_list(tmp_path / "urls.csv"), options())
    report = lake.ingest(source)
    assert (report.found, report.added, report.rejected) == (4, 1, 3)
    assert lake.ingest(source).known == 1
    (row,) = lake.sql("SELECT uris, metadata FROM images").to_pylist()
    assert row["uris"] == [server.url("/picture")]
    assert json.loads(row["metadata"]) == {"labels": ["cat"]}
    rejected = {row["uri"]: row["reason"] for row in lake.rejections().to_pylist()}
    assert "404" in rejected[server.url("/missing")]
    assert any(uri.endswith("urls.csv#row=5") for uri in rejected)


def test_an_ingest_that_waits_long_commits_nothing_empty(server, tmp_path):
    """Empty batches do no harm however many come before a commit."""
    from imagelake.lake.tables import open_tables
    from imagelake.run.commits import CommitSize
    from imagelake.run.ingest import ingest

    tables = open_tables(tmp_path / "test.lake", create=True)
    source = Web([server.url("/stall"), server.url("/good")], options(retries=1))
    report = ingest(tables, source, commit=CommitSize(max_seconds=0.0))
    assert report.found == 2
    assert imagelake.open(tmp_path / "test.lake").info().images == 0


@pytest.mark.parametrize("wrong", [{"in_flight": 0}, {"retries": -1}, {"backoff_s": float("nan")}])
def test_numbers_out_of_range_are_refused(wrong):
    """The message names them."""
    with pytest.raises(InputError, match=next(iter(wrong))):
        WebOptions(**wrong)


def test_one_text_is_no_list():
    """Its letters are no addresses."""
    with pytest.raises(InputError, match="list of addresses"):
        Web("http://h/")


def test_addresses_are_taken_apart():
    """Letters of any script are encoded; what is kept is what was given."""
    target = parse_target("HTTP://Bücher.example/é x?q=ü#f")
    assert (target.host, target.path, target.port) == ("xn--bcher-kva.example", "/%C3%A9%20x?q=%C3%BC", 80)
    assert target.uri == "HTTP://Bücher.example/é x?q=ü#f"
    assert parse_target("http://[::1]:8/a?b").base == "http://[::1]:8/a?b"
