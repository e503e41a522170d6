"""What stands before every protocol: who may ask, how often, how many at once; and what is told of each request.

One plain ASGI application around the others. A request that is refused is answered before its body is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from imagelake.serve.api_keys import Keys, shown_key
from imagelake.serve.errors_http import (
    REQUEST_ID,
    RETRY_AFTER_S,
    NoKeyError,
    TooOftenError,
    headers_of,
    message_of,
    reason_of,
    status_of,
)
from imagelake.serve.guarded_answer import GuardedAnswer
from imagelake.serve.metrics import Metrics
from imagelake.serve.origins import Origins
from imagelake.serve.page_access import asks_for_page, is_foreign, is_light, logged_in
from imagelake.serve.page_access import is_open as is_open_page
from imagelake.serve.rate_limit import RateLimit
from imagelake.serve.request import ASKED
from imagelake.serve.request_log import RequestLog
from imagelake.serve.sessions import Sessions
from imagelake.serve.site import Site
from imagelake.serve.tracing import Tracing

HEALTH_PATHS = frozenset({"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"})

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_LONGEST_PATH = 2_048
_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
_ASKED = frozenset(
    {b"authorization", b"x-api-key", b"origin", b"host", b"x-request-id", b"traceparent", b"tracestate", b"expect"}
    | {b"access-control-request-method", b"access-control-request-headers", b"sec-fetch-site", b"sec-fetch-mode"}
    | {b"cookie"}
)
_CLIENT_GONE = 499  # as nginx calls it; it is only logged and counted
_FACTS = "imagelake.request"
_PROTOCOLS = {
    **dict.fromkeys(("api", "thumbnail"), "rest"),
    **dict.fromkeys(("health", "metrics"), "operations"),
    **dict.fromkeys(("docs", "openapi.json"), "docs"),
    "page": "page",
    "v2": "oip-http",
}  # by the first part of a path


@dataclass(frozen=True)
class GuardOptions:
    """Who may ask, and what is told.

    Attributes:
        keys: one of which a request must show, but for health and /docs; None: nobody is asked, but pages of other
            sites are refused.
        open_metrics: whether /metrics needs no key.
        check_host: whether the Host header must name this machine by address, or an allowed site: for a server
            without keys that only this machine reaches, where a page could come under any name.
        origins: pages that may use the server from a browser.
        rate_limit: requests a second of each key, or of each address where there are no keys; None: any number.
        page: whether browsers get the page, whose files are open.
        sessions: who is logged in on the page; None: nobody logs in.
        log: where requests are told; None: nowhere.
        tracing: where spans go; None: nowhere.
    """

    keys: Keys | None = None
    open_metrics: bool = False
    check_host: bool = False
    origins: Origins = field(default_factory=Origins)
    rate_limit: RateLimit | None = None
    page: bool = False
    sessions: Sessions | None = None
    log: RequestLog | None = None
    tracing: Tracing | None = None


class _Refused(Exception):  # noqa: N818  (it never leaves this file)
    def __init__(self, status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


@dataclass
class RequestFacts:
    """What is told of one request; in its scope, where protocols may say which model it is for: `facts_of(scope)`."""

    request_id: str
    protocol: str
    key_name: str | None = None
    model: str | None = None
    may_write: bool = False


def facts_of(scope: Scope) -> RequestFacts | None:
    """What is told of a request; None where no guard stands before the protocols."""
    found = scope.get(_FACTS)
    return found if isinstance(found, RequestFacts) else None


def protocol_of(path: str) -> str:
    """Which protocol a path belongs to: `oip-http`, `rest`, `graphpipe`, `operations`, `docs`, `page`, `other`."""
    if path == "/" or path.startswith("/graphpipe/"):
        return "graphpipe"
    return _PROTOCOLS.get(path[1:].partition("/")[0], "other")


def check_key(keys: Keys, headers: Mapping[bytes, bytes]) -> str:
    """The name of the key that a caller shows.

    Raises:
        NoKeyError: it shows none of ours.
    """
    name = keys.name_of(shown_key(headers.get(b"authorization", b""), headers.get(b"x-api-key", b"")))
    if name is None:
        raise NoKeyError("The API key is missing or wrong. Show one: Authorization: Bearer KEY, or X-API-Key: KEY.")
    return name


def check_rate(rate_limit: RateLimit | None, caller: str) -> None:
    """Count a request of a caller.

    Raises:
        TooOftenError: that was one too many.
    """
    wait_s = rate_limit.wait_s(caller) if rate_limit is not None else 0.0
    if rate_limit is not None and wait_s:
        raise TooOftenError(
            f"At most {rate_limit.per_second:g} requests a second are taken of each caller. Send it again after "
            f"{wait_s:.2g} s.", wait_s,
        )  # fmt: skip


class Guard:
    """The application that all requests pass."""

    def __init__(self, app: ASGIApp, site: Site, options: GuardOptions | None = None) -> None:
        self._app = app
        self._site = site
        self._options = options or GuardOptions()
        self._metrics = site.metrics or Metrics()
        self._at_work = 0
        self._metrics.in_flight.set_function(lambda: self._at_work)
        self._metrics.body_bytes.set_function(lambda: site.budget.held)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102  (of ASGI)
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = {name: value for name, value in scope["headers"] if name in _ASKED}
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.match(given) else os.urandom(8).hex()
        is_page = self._options.page and asks_for_page(scope)
        facts = RequestFacts(request_id, "page" if is_page else protocol_of(scope["path"]))
        scope[_FACTS] = facts
        REQUEST_ID.set(request_id)
        answer = GuardedAnswer(send, facts.protocol, self._extra_headers(headers, request_id))
        answer.asks_first = b"expect" in headers
        span = self._options.tracing.start(scope, headers) if self._options.tracing else None
        if span:
            ASKED.set(span.requests)
        self._at_work += 1
        try:
            with span.active() if span else contextlib.nullcontext():
                await self._answer(scope, receive, headers, facts, answer)
        finally:
            self._at_work -= 1
            status = answer.status or _CLIENT_GONE
            seconds = time.perf_counter() - started
            self._metrics.answered(facts.protocol, scope["method"], status, seconds)
            facts.model = facts.model or _model_of(scope)
            if span:
                span.end(status, facts)
            if self._options.log:
                self._tell(self._options.log, scope, facts, answer, status, seconds)

    async def _answer(
        self, scope: Scope, receive: Receive, headers: dict[bytes, bytes], facts: RequestFacts, answer: GuardedAnswer
    ) -> None:
        """Let the request pass and answer it; an error becomes an answer too."""
        try:
            if self._is_preflight(scope, headers):
                await self._preflight(headers, answer)
                return
            self._admit(scope, headers, facts)
            await self._app(scope, receive, answer.send)
        except _Refused as refused:
            self._metrics.refused(refused.reason)
            await answer.refuse(refused.status, str(refused), refused.headers)
        except ClientDisconnect:
            return  # nobody reads an answer
        except HTTPException as error:
            await answer.refuse(error.status_code, str(error.detail), dict(error.headers or {}))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  (the edge: every error becomes an answer)
            reason = reason_of(error)
            if reason:
                self._metrics.refused(reason)
            await answer.refuse(status_of(error), message_of(error), headers_of(error))

    def _extra_headers(self, headers: dict[bytes, bytes], request_id: str) -> list[tuple[bytes, bytes]]:
        extra = [(b"x-request-id", request_id.encode())]
        if b"origin" in headers:
            extra += self._options.origins.headers(headers[b"origin"].lower())
        if self._site.lifecycle.draining:
            extra.append((b"connection", b"close"))
        return extra

    def _is_preflight(self, scope: Scope, headers: dict[bytes, bytes]) -> bool:
        return scope["method"] == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers

    async def _preflight(self, headers: dict[bytes, bytes], answer: GuardedAnswer) -> None:
        """A browser asks whether a page may ask; it never shows a key here."""
        origin = headers[b"origin"].lower()
        if not self._options.origins.allow(origin):
            raise _Refused(403, "origin", _no_page(headers[b"origin"]))
        answer.extra = [each for each in answer.extra if not each[0].startswith((b"access-control", b"vary"))]
        asked = headers.get(b"access-control-request-headers", b"")
        await answer.send_whole(204, b"", self._options.origins.preflight(origin, asked))

    def _admit(self, scope: Scope, headers: dict[bytes, bytes], facts: RequestFacts) -> None:
        """Let the request pass, or raise why not."""
        path = scope["path"]
        if scope["method"] not in _METHODS:
            raise _Refused(405, "method", f"The method {scope['method'][:20]} is not known here.")
        if len(scope["raw_path"]) > _LONGEST_PATH:
            raise _Refused(414, "path", f"The path is longer than {_LONGEST_PATH:,} bytes.")
        if not path.isprintable():
            raise _Refused(400, "path", "The path has letters that nothing here is called by.")
        if path in HEALTH_PATHS:
            return
        options = self._options
        if options.check_host and b"host" in headers and not options.origins.allow_host(headers[b"host"]):
            raise _Refused(
                403, "host", "The Host header names a site that is not known here. Use the address of the server, or "
                "name the site with --allow-origin.",
            )  # fmt: skip
        if options.keys is None:
            self._check_origin(scope, headers)
        elif not self._is_open(scope, facts):
            facts.key_name = self._key_name(options.keys, scope, headers)
            facts.may_write = options.sessions is not None and options.sessions.write
        if facts.protocol != "operations":
            self._check_load(scope, facts)

    def _key_name(self, keys: Keys, scope: Scope, headers: dict[bytes, bytes]) -> str:
        """Of the session, for what the page asks, else of the key that is shown."""
        return logged_in(self._options.sessions, scope, headers) or check_key(keys, headers)

    def _is_open(self, scope: Scope, facts: RequestFacts) -> bool:
        """Whether no key is needed: a browser has none to show for the page of the REST interface and what it loads."""
        if facts.protocol == "docs":
            return scope["method"] in {"GET", "HEAD"}
        if facts.protocol == "page":
            return self._options.page and is_open_page(scope)
        return self._options.open_metrics and scope["path"] == "/metrics"

    def _check_origin(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Without keys, a page of another site in somebody's browser must not get in."""
        origin = headers.get(b"origin")
        foreign = _embeds(headers) or (self._options.page and is_foreign(scope, headers))
        if origin is None and not self._options.origins.allowed and foreign:
            raise _Refused(403, "origin", _no_page(b"another site"))
        if origin is None or self._options.origins.allow(origin.lower()):
            return
        if not self._options.origins.same_site(origin, scope["scheme"], headers.get(b"host", b"")):
            raise _Refused(403, "origin", _no_page(origin))

    def _check_load(self, scope: Scope, facts: RequestFacts) -> None:
        if self._site.lifecycle.starting and facts.protocol != "page":  # that needs no models
            raise _Refused(
                503, "starting", "The models are not open yet. Send it again later.",
                {"Retry-After": str(RETRY_AFTER_S)},
            )  # fmt: skip
        most = self._site.limits.max_concurrency
        if self._at_work > most:
            raise _Refused(
                503, "concurrency", f"{most} requests are at work, and more are not taken. Send it again later.",
                {"Retry-After": str(RETRY_AFTER_S)},
            )  # fmt: skip
        if not (self._options.page and is_light(scope)):
            client = scope.get("client")
            check_rate(self._options.rate_limit, facts.key_name or (client[0] if client else ""))

    def _tell(
        self, log: RequestLog, scope: Scope, facts: RequestFacts, answer: GuardedAnswer, status: int, seconds: float
    ) -> None:
        level = logging.WARNING if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
        if facts.protocol == "operations" and status < HTTPStatus.BAD_REQUEST:
            level = logging.DEBUG  # probes come every second
        if level < log.level:
            return
        told = {
            "request_id": facts.request_id,
            "method": scope["method"],
            "path": scope["raw_path"].partition(b"?")[0][:200].decode("latin-1"),
            "status": status,
            "ms": round(seconds * 1000, 3),
            "bytes": answer.sent,
            "protocol": facts.protocol,
            "model": facts.model and facts.model[:100],
            "key": facts.key_name,
        }
        log.tell(level, "request", told)


def _embeds(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a page of another site shows something from here, such as an image, of which it learns the size."""
    return headers.get(b"sec-fetch-site") == b"cross-site" and headers.get(b"sec-fetch-mode") != b"navigate"


def _no_page(origin: bytes) -> str:
    shown = origin[:100].decode("ascii", "replace")
    return f"Pages of {shown!r} may not use this server. Start it with --allow-origin to let them, and with API keys."


def _model_of(scope: Scope) -> str | None:
    """The model that a path names."""
    parameters = scope.get("path_params") or {}
    found = parameters.get("model") or parameters.get("name") or parameters.get("model_name")
    return found if isinstance(found, str) else None
