"""Who may ask, how often and what is told: over real sockets to a real server."""

import concurrent.futures
import io
import json
import logging
import threading

import numpy as np
import pytest
from starlette.responses import Response
from starlette.routing import Route

from edge_server import Doubler, read_answer, serving
from imagelake.errors import BusyError, InputError, ModelError, NotServedError, TimeLimitError
from imagelake.serve.api_keys import read_key_file, read_keys
from imagelake.serve.batch_options import BatchOptions
from imagelake.serve.origins import read_origins
from imagelake.serve.rate_limit import RateLimit
from imagelake.serve.request_log import LineWriter, RequestLog
from imagelake.serve.site import Limits

SECRET = "s3cret-0123456789"
OTHER = "other-abcdefghij"


@pytest.fixture(scope="module")
def keyed():
    with serving(keys=read_keys(f"# ours\nalice:{SECRET}\n{OTHER}\n", "a test")) as running:
        yield running


@pytest.fixture(scope="module")
def unkeyed():
    with serving(check_host=True) as running:
        yield running


def test_a_right_key_lets_in_and_is_told_by_its_name(keyed):
    """Both headers, both keys; the log has the name."""
    assert keyed.ask("POST", "/api/echo", b"a", Authorization=f"Bearer {SECRET}", X_Request_ID="one").body == b"a"
    assert keyed.ask("POST", "/api/echo", b"b", X_API_Key=OTHER, X_Request_ID="two").body == b"b"
    assert keyed.ask("POST", "/api/echo", b"b", authorization=f"bearer  {SECRET} ").status == 200
    wait_for(keyed, "two")
    names = {line["request_id"]: line["key"] for line in keyed.lines() if line.get("key")}
    assert (names["one"], names["two"]) == ("alice", "key-2")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {SECRET}x"},
        {"Authorization": f"Basic {SECRET}"},
        {"Authorization": SECRET},
        {"X-API-Key": SECRET[:-1]},
        {"X-API-Key": "alice"},
        {"Authorization": "Bearer wrong", "X-API-Key": SECRET},
        {"X-API-Key": "\xff\xfe"},
    ],
)
def test_no_key_or_a_wrong_one_is_401(keyed, headers):
    """Before the body is read; the answer says how to show one, in the words of the protocol."""
    answer = keyed.ask("POST", "/v2/models/double/infer", b"", **headers)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "X-API-Key" in answer.json()["error"]
    answer = keyed.raw(b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
    assert (answer.status, answer.headers["content-type"]) == (401, "text/plain; charset=utf-8")


def test_health_needs_no_key_and_metrics_do(keyed):
    """Those who balance load have none; --open-metrics opens the numbers too."""
    assert keyed.ask("GET", "/health/live").json() == {"status": "live"}
    assert keyed.ask("GET", "/health/ready").status == 200
    assert keyed.ask("GET", "/metrics").status == 401
    assert keyed.ask("GET", "/metrics", X_API_Key=SECRET).status == 200
    with serving(keys=read_keys(SECRET, "a test"), open_metrics=True) as opened:
        assert opened.ask("GET", "/metrics").status == 200
        assert opened.ask("GET", "/metricsx").status == 401


@pytest.mark.parametrize(
    "path", ["/docs", "/docs/start.js", "/docs/swagger-ui.css", "/docs/openapi.json", "/openapi.json"]
)
def test_the_page_of_the_interface_needs_no_key(keyed, path):
    """A browser has none to show; whatever is behind it does, under whatever path or method it is asked for."""
    assert keyed.ask("GET", path).status == 200
    assert keyed.ask("POST", path).status == 401
    for other in ("/docsx", "/api/../docs", "/v2/docs", "//docs", "/api/search", "/v2"):
        assert keyed.ask("GET", other).status == 401


def test_refusals_are_counted_by_their_reason():
    """No key, no memory, no room in a queue, by every protocol over HTTP."""
    gate = threading.Event()
    limits = Limits(max_body=2000, body_budget=3000)
    options = BatchOptions(instances=1, max_queue=1)
    with serving([], limits=limits, keys=read_keys(SECRET, "a test")) as running, running.connect() as first:
        plane, value = running.site.plane, running.site.metrics.registry.get_sample_value
        plane.load(Doubler(gate=gate), options, warm_up=False)
        try:
            futures = [plane.submit("double", {"x": np.ones((1, 2), np.float32)})]
            while plane.statistics("double")[0].queued:
                pass
            futures.append(plane.submit("double", {"x": np.ones((1, 2), np.float32)}))
            for path, body in (("/", b"x" * 2000), ("/v2/models/double/infer", b"{}")):
                assert running.ask("POST", path, body, X_API_Key=SECRET).status == 503
                assert running.ask("POST", path, body).status == 401
            assert value("imagelake_refused_total", {"reason": "queue"}) == 2
            assert value("imagelake_refused_total", {"reason": "key"}) == 2
        finally:
            gate.set()
        assert not concurrent.futures.wait(futures, 30).not_done
        head = f"POST / HTTP/1.1\r\nX-API-Key: {SECRET}\r\nContent-Length: 2000\r\n\r\n".encode()
        first.sendall(head)
        while not running.site.budget.held:
            pass
        assert running.raw(head).status == 503
        assert value("imagelake_refused_total", {"reason": "memory"}) == 1


def test_a_body_that_waits_to_be_asked_for_is_no_next_request(unkeyed):
    """Who is refused before sending it is let go: nobody knows whether it comes."""
    for path in ("/nothing", "/graphpipe/nothing", "/v2/models/nothing/infer", "/health/live"):
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 50\r\n\r\n"
        answer = unkeyed.raw(head.encode())
        assert (answer.status, answer.headers["connection"]) in {(404, "close"), (405, "close")}


def test_no_text_makes_a_line_of_its_own_in_the_log():
    """Whatever an error says, an entry begins where the server begins one."""
    forged = "a\n2026-01-01T00:00:00.000+00:00 info request status=200"
    stream = io.StringIO()
    log = RequestLog(LineWriter(stream), as_json=False)
    log.tell(logging.INFO, forged, {"path": forged, "traceback": f"Traceback\nValueError: {forged}\n"})
    log.tell(logging.INFO, "second", {})
    log.close()
    lines = stream.getvalue().splitlines()
    assert [line.startswith("20") for line in lines] == [True, False, False, False, True]
    assert "path=" in lines[0]


def wait_for(running, request_id):
    """Until the log has a request: it is written after the answer."""
    while not any(line.get("request_id") == request_id for line in running.lines()):
        pass


def test_no_secret_ever_is_in_the_log(keyed):
    """Not from headers, right or wrong, nor from the query, nor of a request that fails, nor of one that is no HTTP."""
    wrong = "wr0ng-9876543210"
    for key in (SECRET, wrong):
        keyed.ask("POST", f"/api/echo?key={key}&api_key={key}", b"a", X_API_Key=key)
        keyed.ask("GET", f"/api/fail?token={key}", Authorization=f"Bearer {key}", Cookie=f"key={key}")
        keyed.ask("POST", "/api/echo", key.encode(), Authorization=f"Bearer {SECRET}")
        assert keyed.raw(f"GET / HTTP/1.1\r\nX-API-Key: {key}\r\n bad header\x00\r\n\r\n".encode()).status in {400, 401}
    keyed.ask("GET", "/health/ready", X_Request_ID="last-of-secrets")
    wait_for(keyed, "last-of-secrets")
    text = keyed.log.getvalue()
    assert SECRET not in text
    assert wrong not in text
    assert "api_key" not in text


def test_a_defect_is_an_internal_error_and_its_traceback_is_in_the_log(keyed):
    """With the id of the request; the caller learns nothing of this machine."""
    answer = keyed.ask("GET", "/api/fail", X_API_Key=SECRET, X_Request_ID="bad-1")
    assert (answer.status, answer.json()) == (500, {"error": "internal error"})
    assert answer.headers["x-request-id"] == "bad-1"
    wait_for(keyed, "bad-1")
    told = [line for line in keyed.lines() if line.get("traceback") and line.get("request_id") == "bad-1"]
    assert "RuntimeError" in told[0]["traceback"]


def test_every_answer_has_a_request_id(unkeyed):
    """The caller's where it is sane, else one of ours, also where the request is refused."""
    assert unkeyed.ask("GET", "/health/live", X_Request_ID="a.B-9_x:1").headers["x-request-id"] == "a.B-9_x:1"
    for given in ("", "a b", "x" * 200, "\xe4", "<script>", '"}'):
        made = unkeyed.ask("GET", "/nothing/here", X_Request_ID=given)
        assert made.status == 404
        assert made.headers["x-request-id"] != given
        assert len(made.headers["x-request-id"]) == 16


def test_a_page_of_another_site_is_refused(unkeyed):
    """By its Origin where there are no keys; a page that this server gave out is not, nor who is no browser."""
    port = unkeyed.where[1]
    body = {"method": "POST", "path": "/api/echo", "body": b"a"}
    assert unkeyed.ask(**body, Origin="http://evil.example").status == 403
    assert unkeyed.ask(**body, Origin="null").status == 403
    assert unkeyed.ask(**body).status == 200

    def from_page(origin, host):
        return unkeyed.raw(
            f"POST /api/echo HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nContent-Length: 0\r\n\r\n".encode()
        ).status

    assert from_page(f"http://127.0.0.1:{port}", f"127.0.0.1:{port}") == 200
    assert from_page(f"http://localhost:{port}", f"localhost:{port}") == 200
    assert from_page(f"http://[::1]:{port}", f"[::1]:{port}") == 200
    assert from_page(f"https://127.0.0.1:{port}", f"127.0.0.1:{port}") == 403


def test_a_page_of_another_site_shows_nothing_from_here(unkeyed):
    """An image in it would tell its size. A link to here works, and so does what comes from no browser."""
    assert unkeyed.ask("GET", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403
    assert unkeyed.ask("GET", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200
    for site in ("same-origin", "same-site", "none"):
        assert unkeyed.ask("GET", "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors").status == 200
    with serving(origins=read_origins(["https://a.example"])) as opened:
        assert opened.ask("GET", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 200


def test_a_name_that_resolves_here_is_no_way_in(unkeyed):
    """To a browser, a page under an attacker's name that resolves to this machine is of our site; its Host tells."""
    refused = unkeyed.raw(b"GET /api/fail HTTP/1.1\r\nHost: evil.example:9000\r\n\r\n")
    assert refused.status == 403
    assert unkeyed.raw(b"GET /health/live HTTP/1.1\r\nHost: evil.example\r\n\r\n").status == 200
    assert unkeyed.raw(b"POST /api/echo HTTP/1.0\r\nContent-Length: 1\r\n\r\na").body == b"a"


def test_cors_is_off_but_for_the_sites_that_are_named():
    """A preflight of a named site is answered without a key; its requests need one; others get no word of it."""
    page = "https://page.example"
    preflight = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
    with serving(keys=read_keys(SECRET, "a test"), origins=read_origins([page])) as running:
        answer = running.ask("OPTIONS", "/v2/models/double/infer", Origin=page, **preflight)
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == page
        assert answer.headers["access-control-allow-headers"] == "authorization"
        assert "access-control-allow-credentials" not in answer.headers
        assert running.ask("OPTIONS", "/", Origin="https://evil.example", **preflight).status == 403
        answer = running.ask("POST", "/api/echo", b"a", Origin=page, X_API_Key=SECRET)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, page)
        assert running.ask("POST", "/api/echo", b"a", Origin=page).status == 401
        answer = running.ask("POST", "/api/echo", b"a", Origin="https://evil.example", X_API_Key=SECRET)
        assert "access-control-allow-origin" not in answer.headers
    with serving() as running:
        answer = running.ask("OPTIONS", "/api/echo", Origin=page, **preflight)
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers
    with serving(origins=read_origins(["*"])) as running:
        answer = running.ask("POST", "/api/echo", b"a", Origin=page)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "*")


def test_who_asks_too_often_is_429(keyed):
    """Each key has its own bucket; health is not counted; Retry-After says when the next is taken."""
    limit = RateLimit(0.01, burst=3)
    with serving(keys=read_keys(f"{SECRET},{OTHER}", "a test"), rate_limit=limit) as running:
        statuses = [running.ask("POST", "/api/echo", b"a", X_API_Key=SECRET).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        refused = running.ask("POST", "/api/echo", b"a", X_API_Key=SECRET)
        assert 90 <= int(refused.headers["retry-after"]) <= 100
        assert running.ask("POST", "/api/echo", b"a", X_API_Key=OTHER).status == 200
        assert running.ask("POST", "/api/echo", b"a", X_API_Key="wrong").status == 401
        assert running.ask("GET", "/health/ready").status == 200


def test_a_bucket_fills_at_its_pace():
    """A burst, then an even pace, never more than a burst after any pause; many callers take bounded memory."""
    now = [0.0]
    limit = RateLimit(2.0, burst=4, clock=lambda: now[0])
    assert [limit.wait_s("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    now[0] = 0.5
    assert [limit.wait_s("a"), limit.wait_s("a")] == [0, 0.5]
    now[0] = 1000.0
    assert [limit.wait_s("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    for caller in range(30_000):
        assert limit.wait_s(str(caller)) == 0
    assert len(limit._callers) <= 10_000


def test_too_many_at_once_are_refused_and_the_others_served():
    """503 with Retry-After while others wait, their bodies unread; health answers; then all is as before."""
    gate = threading.Event()

    def gated(site):
        async def wait(request):
            import asyncio

            from starlette.responses import Response

            found = await asyncio.wrap_future(site.plane.submit("double", {"x": np.ones((1, 2), np.float32)}))
            return Response(json.dumps(found["y"].tolist()))

        return [Route("/api/wait", wait, methods=["POST"])]

    with serving([Doubler(gate=gate)], Limits(max_concurrency=4), extra=[gated]) as running:
        request = b"POST /api/wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        accepted = [running.connect() for _ in range(4)]
        for connection in accepted:
            connection.sendall(request)
        while running.site.metrics.registry.get_sample_value("imagelake_in_flight_requests") < 4:
            pass
        for _ in range(20):
            refused = running.raw(
                b"POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\nExpect: 100-continue\r\n\r\n"
            )
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert running.ask("GET", "/health/ready").status == 200
        gate.set()
        for connection in accepted:
            with connection, connection.makefile("rb") as stream:
                assert read_answer(stream).json() == [[2.0, 2.0]]
        assert running.ask("POST", "/api/echo", b"a").status == 200
        value = running.site.metrics.registry.get_sample_value
        assert value("imagelake_refused_total", {"reason": "concurrency"}) == 20
        assert value("imagelake_in_flight_requests") == 0


def test_the_numbers_count_right():
    """Requests by model, protocol and outcome; HTTP by status; what callers write never becomes a label."""
    with serving([Doubler()]) as running:
        for _ in range(3):
            running.ask("POST", "/api/echo", b"a")
        for number in range(50):
            running.ask("POST", f"/v2/models/made-up-{number}/infer", b"{}")
            running.ask("GET", f"/made/up/{number}")
            running.ask(f"PUT{'X' * (number % 3)}", "/api/echo")
        plane = running.site.plane
        plane.infer("double", {"x": np.ones((3, 2), np.float32)}, protocol="oip")
        with pytest.raises(InputError):
            plane.infer("double", {"z": np.ones((3, 2), np.float32)}, protocol="oip")
        with pytest.raises(NotServedError):
            plane.infer("made-up", {}, protocol="oip")
        page = running.ask("GET", "/metrics").body.decode()
        value = running.site.metrics.registry.get_sample_value
        labels = {"model": "double", "protocol": "oip"}
        assert value("imagelake_requests_total", labels | {"outcome": "ok"}) == 1
        assert value("imagelake_requests_total", labels | {"outcome": "bad_input"}) == 1
        assert value("imagelake_batch_rows_sum", {"model": "double"}) == 3
        assert value("imagelake_queue_seconds_count", {"model": "double"}) == 1
        assert value("imagelake_compute_seconds_count", {"model": "double"}) == 1
        assert value("imagelake_http_requests_total", {"protocol": "rest", "method": "POST", "status": "200"}) == 3
        assert value("imagelake_http_requests_total", {"protocol": "other", "method": "GET", "status": "404"}) == 50
        assert "made" not in page
        assert len(page.splitlines()) < 400
        # The request for the page itself is at work while it is written.
        assert value("imagelake_in_flight_requests") == 0
        assert "imagelake_in_flight_requests 1.0" in page


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"BREW / HTTP/1.1", {400, 405}),
        (b"TRACE / HTTP/1.1", {405}),
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1", {414}),
        (b"GET /%00 HTTP/1.1", {400}),
        (b"GET /a%0d%0ab HTTP/1.1", {400}),
        (b"GET http://[::1 HTTP/1.1", {400}),
        (b"GET /../../etc/passwd HTTP/1.1", {404}),
        (b"GET //evil HTTP/1.1", {404}),
        (b"POST /health/live HTTP/1.1", {405}),
        (b"GET /\xff\xfe HTTP/1.1", {400}),
        (b"CONNECT a:1 HTTP/1.1", {400, 405}),
        (b"GET * HTTP/1.1", {400, 404}),
        (b"OPTIONS * HTTP/1.1", {400, 404}),
        (b"nonsense", {400}),
    ],
)
def test_odd_requests_are_answered_with_4xx(unkeyed, line, status):
    """Never a 500, never a hang."""
    assert unkeyed.raw(line + b"\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").status in status


def test_errors_of_ours_have_their_status(keyed):
    """Where a protocol lets one out, the edge answers; without a path of this machine."""
    cases = [
        (InputError("no /home/x/model.onnx here"), 400, "no model.onnx here"),
        (ModelError("layer /layer1/Conv_output_0"), 400, "layer /layer1/Conv_output_0"),
        (NotServedError("no such model"), 404, "no such model"),
        (BusyError("full"), 503, "full"),
        (TimeLimitError("late"), 504, "late"),
        (OSError("/etc/passwd"), 500, "internal error"),
    ]

    def failing(_):
        async def fail(request):
            raise cases[int(request.path_params["number"])][0]

        return [Route("/api/raise/{number}", fail)]

    with serving(extra=[failing]) as running:
        for number, (_, status, message) in enumerate(cases):
            answer = running.ask("GET", f"/api/raise/{number}")
            assert (answer.status, answer.json()["error"]) == (status, message)
            assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "empty"), ("# only\n", "empty"), ("a:b\na:c", "'a'"), ("schlüssel", "cannot be used"), ("a b", "cannot")],
)
def test_keys_that_cannot_be_used(tmp_path, text, said):
    """The message names the place and never the key."""
    (tmp_path / "keys").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_key_file(tmp_path / "keys")
    assert "schl" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_key_file(tmp_path / "none")
    assert SECRET not in repr(read_keys(SECRET, "a test"))


@pytest.mark.parametrize("origin", ["example.com", "https://a/", "https://a/b", "ftp://a", ""])
def test_origins_that_are_none(origin):
    """A path or a missing scheme would never match: it is said at the start."""
    with pytest.raises(InputError, match="origin"):
        read_origins([origin])


def test_the_page_is_there_while_models_are_opened():
    """Somebody with a browser sees the pictures at once; protocols wait for their models."""
    page = Route("/page/api/about", lambda _: Response(b"about"))
    with serving(extra=[lambda _: [page]], page=True) as running:
        running.site.lifecycle.starting = True
        assert running.ask("GET", "/page/api/about").status == 200
        assert running.ask("GET", "/v2").status == 503
