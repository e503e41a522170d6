"""The HTTP side of events: `POST /events` keeps what it is told and answers, `GET /health` says how it goes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from imagelake.errors import InputError
from imagelake.serve.body import read_body
from imagelake.serve.errors_http import headers_of, message_of, status_of
from imagelake.serve.event_formats import read_events
from imagelake.serve.event_objects import shown
from imagelake.serve.event_store import Journal
from imagelake.serve.event_upload import Ignored, UploadEvent
from imagelake.serve.event_worker import EventWorker
from imagelake.serve.guard import Guard, GuardOptions
from imagelake.serve.site import Site

MOST_BYTES = 1 << 20
_LATER_S = 30  # what is full is not empty a second later
_ORIGIN = re.compile(r"[A-Za-z0-9.*_:-]{1,253}")
_TOLD = 100  # ignored events that an answer lists


@dataclass
class _Counts:
    """Since the start."""

    accepted: int = 0
    known: int = 0
    ignored: int = 0


@dataclass(frozen=True)
class _Door:
    site: Site
    journal: Journal
    worker: EventWorker
    why_not: Callable[[UploadEvent], str | None]
    counts: _Counts = field(default_factory=_Counts)

    async def post_events(self, request: Request) -> Response:
        """Keep the events of a request; when it is answered, the disk has them."""
        try:
            return await self._post(request)
        except (ClientDisconnect, HTTPException):
            raise
        except Exception as error:  # noqa: BLE001  (the edge: every error becomes an answer)
            status = status_of(error)
            later = {"Retry-After": str(_LATER_S)} if status in {503, 507} else {}
            return JSONResponse({"error": message_of(error)}, status, headers_of(error) | later)

    async def _post(self, request: Request) -> Response:
        encoding = request.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise InputError(f"the body is encoded as {encoding[:40]!a}; send it as it is.")
        body = await read_body(request.scope, request.receive, self.site.limits, self.site.budget)
        new, uploads, ignored = await asyncio.to_thread(self._accept, request.headers.raw, body)
        if new:
            self.worker.wake()
        self.counts.accepted += new
        self.counts.known += uploads - new
        self.counts.ignored += len(ignored)
        told = [{"reason": each.reason, "uri": each.uri and shown(each.uri)} for each in ignored[:_TOLD]]
        return JSONResponse(
            {"accepted": new, "known": uploads - new, "ignored": len(ignored), "reasons": told},
            202 if uploads else 200,
        )

    def _accept(self, headers: Sequence[tuple[bytes, bytes]], body: memoryview) -> tuple[int, int, list[Ignored]]:
        """How many events are new, how many there are, and those about which nothing is done."""
        uploads: list[UploadEvent] = []
        ignored: list[Ignored] = []
        for found in read_events(headers, body):
            if isinstance(found, Ignored):
                ignored.append(found)
            elif (reason := self.why_not(found)) is not None:
                ignored.append(Ignored(reason, found.uri))
            else:
                uploads.append(found)
        return self.journal.accept(uploads), len(uploads), ignored

    async def health(self, _: Request) -> Response:
        """Whether events are worked on, how many came since the start, and how many are in which state."""
        trouble = self.worker.trouble
        states = await asyncio.to_thread(self.journal.counts)
        since_start = {"accepted": self.counts.accepted, "known": self.counts.known, "refused": self.counts.ignored}
        body = {"status": message_of(trouble) if trouble else "ok", "events": states, "since_start": since_start}
        return JSONResponse(body, 503 if trouble else 200)

    async def live(self, _: Request) -> Response:
        """Whether the process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Whether events should come here."""
        return JSONResponse({"status": "ok"}, 200 if self.site.ready() else 503)


def events_app(
    site: Site,
    journal: Journal,
    worker: EventWorker,
    why_not: Callable[[UploadEvent], str | None],
    guard: GuardOptions | None = None,
) -> ASGIApp:
    """The application: `POST /events`, `GET /health`, `/health/live` and `/health/ready`.

    Args:
        site: the models and the limits of requests.
        journal: where events are kept.
        worker: told that there are new ones.
        why_not: why the object of an event may not be read, None where it may; such an event is not kept.
        guard: who may ask.
    """
    door = _Door(site, journal, worker, why_not)
    app = Router(
        routes=[
            Route("/events", door.post_events, methods=["POST"]),
            Route("/health", door.health, methods=["GET"]),
            Route("/health/live", door.live, methods=["GET"]),
            Route("/health/ready", door.ready, methods=["GET"]),
        ]
    )
    guarded = Guard(app, site, guard)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        agreement = _agreement(scope)
        await (agreement or guarded)(scope, receive, send)

    return answer


def _agreement(scope: Scope) -> Response | None:
    """The answer to a sender that asks whether events may be sent here; None for every other request.

    After "HTTP 1.1 Web Hooks for Event Delivery" of the CNCF, section 4. It needs no key, since whoever asks may have
    none then; the events do. The address to call back, which it may name, is not asked.
    """
    if scope["type"] != "http" or scope["method"] != "OPTIONS" or scope["path"] != "/events":
        return None
    origin = Headers(scope=scope).get("webhook-request-origin", "")
    if not _ORIGIN.fullmatch(origin):
        return None
    return Response(headers={"Allow": "POST, OPTIONS", "WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"})
