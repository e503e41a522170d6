"""Bodies over real sockets: what arrives is what was sent, within size, time and memory."""

import contextlib
import gc
import socket
import threading

import numpy as np
import pytest

from edge_server import read_answer, serving
from imagelake.errors import BusyError
from imagelake.serve.body import BodyBudget
from imagelake.serve.server import ServerOptions
from imagelake.serve.site import Limits

KB = 1 << 10


@pytest.fixture(scope="module")
def server():
    limits = Limits(max_body=256 * KB, body_timeout_s=0.5, body_budget=1024 * KB)
    with serving(limits=limits, server_options=ServerOptions(idle_s=1, drain_s=0)) as running:
        yield running
        gc.collect()
        assert running.site.budget.held == 0


def chunked(*parts):
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


HEAD = b"POST /api/echo HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("size", [0, 1, 64 * KB, 65 * KB, 256 * KB])
def test_a_body_comes_back_as_it_was_sent(server, size):
    """With a Content-Length or in chunks, of any size up to the limit."""
    body = np.random.default_rng(size).bytes(size)
    assert server.ask("POST", "/api/echo", body).body == body
    parts = [body[at : at + 7 * KB] for at in range(0, size, 7 * KB)]
    assert server.raw(CHUNKED + chunked(*parts)).body == body


def test_too_long_is_413_before_it_is_read(server):
    """By its Content-Length at once; in chunks as soon as it is longer; the connection lives where it can."""
    over = 256 * KB + 1
    answer = server.raw(HEAD + b"Content-Length: %d\r\n\r\n" % over)
    assert answer.status == 413
    assert "262,144" in answer.json()["error"]
    assert server.raw(HEAD + b"Content-Length: 99999999999999999\r\n\r\n").status == 413
    assert server.raw(CHUNKED + chunked(b"x" * over)).status == 413
    one, two = server.raw(
        HEAD + b"Content-Length: %d\r\n\r\n" % over + b"x" * over + HEAD + b"Content-Length: 2\r\n\r\nok", 2
    )
    assert (one.status, two.status, two.body) == (413, 200, b"ok")


@pytest.mark.parametrize("length", [b"x", b"-1", b"+5", b"1e3", b"5, 6", b"99999999999999999999999"])
def test_lengths_that_are_none_are_400(server, length):
    """The parser or the edge says so; never a 500."""
    assert server.raw(HEAD + b"Content-Length: " + length + b"\r\n\r\nhello").status in {400, 413}
    assert server.raw(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!").status == 400
    assert server.raw(HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").status == 400


def test_a_slow_body_is_408(server):
    """It holds memory no longer than it may; the connection ends."""
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\nabc")
        answer = read_answer(stream)
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert stream.read() == b""


def test_who_goes_away_frees_the_memory(server):
    """In the middle of a body, wholly or by half; the server answers others as before."""
    for ending in (socket.SHUT_RDWR, socket.SHUT_WR):
        with server.connect() as connection:
            connection.sendall(HEAD + b"Content-Length: 200000\r\n\r\nabc")
            connection.shutdown(ending)
    assert server.ask("POST", "/api/echo", b"a").body == b"a"
    told = {line["status"] for line in server.lines() if line.get("path") == "/api/echo"}
    assert 500 not in told


def test_pipelined_requests_are_answered_in_order(server):
    """Many at once on one connection, with bodies of both kinds."""
    data = b"".join(HEAD + b"Content-Length: 2\r\n\r\n%02d" % n + CHUNKED + chunked(b"c%02d" % n) for n in range(20))
    answers = server.raw(data, 40)
    assert [answer.body for answer in answers] == [each for n in range(20) for each in (b"%02d" % n, b"c%02d" % n)]


def test_100_continue_comes_only_where_the_body_is_wanted(server):
    """Who asks first is not asked for a body that is refused."""
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(HEAD + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert read_answer(stream).status == 100
        connection.sendall(b"ok")
        assert read_answer(stream).body == b"ok"
        connection.sendall(HEAD + b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n")
        assert read_answer(stream).status == 413


def test_what_stands_still_is_closed(server):
    """Nothing, half a head, a body that was refused and does not come: in the end the server closes."""
    for text in (b"", b"POST /api/echo HT", HEAD, b"POST /api/unread HTTP/1.1\r\nContent-Length: 10\r\n\r\na"):
        with server.connect() as connection:
            connection.sendall(text)
            while connection.recv(65536):
                pass


def test_who_does_not_read_an_answer_is_left():
    """What is kept for him is freed, though he never goes away; others are answered."""
    options = ServerOptions(idle_s=1, drain_s=0)
    with serving(limits=Limits(max_body=32 << 20), server_options=options) as server, server.connect() as stuck:
        body = bytes(32 << 20)
        stuck.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        del body
        assert server.ask("GET", "/health/live").status == 200
        while server.server._uvicorn.server_state.connections:  # until the stuck one is closed from this side
            pass
        gc.collect()
        assert server.site.budget.held == 0


def test_a_head_that_is_too_large_is_431(server):
    """One header, many headers, a first line without end: no memory beyond the limit."""
    for head in (b"X: " + b"a" * 70 * KB + b"\r\n\r\n", b"X: a\r\n" * 200 + b"\r\n"):
        assert server.raw(HEAD + head).status == 431
    with server.connect() as connection, pytest.raises(OSError):  # noqa: PT011  (reset, or a broken pipe)
        connection.sendall(b"GET /" + b"a" * (64 << 20))
    assert server.ask("GET", "/health/live").status == 200


def test_a_large_body_before_the_next_head_does_not_count_as_head(server):
    """The limit is of the head alone."""
    body = b"x" * 200 * KB
    one = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert [answer.status for answer in server.raw(one * 5, 5)] == [200] * 5


def test_what_stands_behind_a_body_is_no_header(server):
    """A trailer is passed over, whatever it is called; one without end, or a chunk's, takes no memory."""
    told = server.raw(CHUNKED + b"2\r\nok\r\n0\r\nX-Request-ID: from-behind\r\n\r\n")
    assert (told.status, told.body) == (200, b"ok")
    assert told.headers["x-request-id"] != "from-behind"
    for begun in (b"2\r\nok\r\n0\r\nX: ", b"2;x="):
        with server.connect() as connection, pytest.raises(OSError):  # noqa: PT011  (reset, or a broken pipe)
            connection.sendall(CHUNKED + begun + b"a" * (64 << 20))
    assert server.raw(CHUNKED + b"2\r\nok\r\n0\r\n" + b"X: a\r\n" * 20_000 + b"\r\n").status == 431


@pytest.mark.parametrize("offered", [b"h2c", b"websocket"])
@pytest.mark.parametrize("cut", [0, 3])
def test_an_offer_to_change_the_protocol_is_passed_over(server, offered, cut):
    """As Java's client makes it with each request: its body is read, and so is what follows, however it is cut."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAMA\r\n" % offered
    one = HEAD + offer + b"Content-Length: 20\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\n"
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        parts = [one * 3] if not cut else [(one * 3)[start : start + 40] for start in range(0, 3 * len(one), 40)]
        for part in parts:
            connection.sendall(part)
        for _ in range(3):
            answer = read_answer(stream)
            assert (answer.status, answer.body) == (200, one[-20:])
        connection.sendall(HEAD + offer + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"ok"))
        assert read_answer(stream).body == b"ok"


def test_few_requests_wait_behind_one(server):
    """Of thousands that are sent at once those in front are answered in their order; then the server closes."""
    many = b"".join(HEAD + b"Content-Length: 4\r\n\r\n%04d" % n for n in range(3_000))
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(many)
        bodies = []
        with contextlib.suppress(ConnectionResetError):
            while (answer := read_answer(stream)) is not None:
                bodies.append(answer.body)
    assert bodies == [b"%04d" % n for n in range(len(bodies))]
    assert 100 < len(bodies) < 3_000


def test_nonsense_behind_a_request_does_not_take_its_answer(server):
    """What came whole is answered; nonsense in its own body is 400; each ends the connection."""
    one = HEAD + b"Content-Length: 2\r\n\r\nok"
    answers = server.raw(one + one + b"\x00nonsense\r\n\r\n", 3)
    assert [answer and (answer.status, answer.body) for answer in answers] == [(200, b"ok"), (200, b"ok"), None]
    assert server.raw(CHUNKED + b"zz\r\n").status == 400


def test_the_budget_refuses_and_recovers():
    """Bodies that do not fit together are 503 with Retry-After; when the others are done, there is room again."""
    limits = Limits(max_body=100 * KB, body_budget=150 * KB, body_timeout_s=20)
    with serving(limits=limits) as server, server.connect() as first, first.makefile("rb") as stream:
        first.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (100 * KB))
        while server.site.budget.held == 0:
            pass
        refused = server.ask("POST", "/api/echo", b"x" * 60 * KB)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert server.ask("POST", "/api/echo", b"x" * 50 * KB).status == 200
        first.sendall(b"y" * 100 * KB)
        assert read_answer(stream).body == b"y" * 100 * KB
        assert server.ask("POST", "/api/echo", b"x" * 60 * KB).status == 200
        gc.collect()
        assert server.site.budget.held == 0


def test_a_buffer_counts_until_nothing_looks_into_it():
    """An array on its way to a model holds the memory; many threads taking and giving back end at 0."""
    budget = BodyBudget(1000)
    view = np.frombuffer(budget.buffer(600).data[100:], np.float32)
    with pytest.raises(BusyError, match="1,000"):
        budget.buffer(401)
    assert budget.held == 600
    del view
    assert budget.held == 0

    def use():
        for _ in range(500):
            budget.buffer(1)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.held == 0
