"""How the page's routes are asked and answer: work in threads, JSON, errors with a reason."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from imagelake.errors import InputError
from imagelake.gallery.selection import Selection
from imagelake.serve.errors_http import headers_of, message_of, status_of
from imagelake.serve.json_answer import json_answer
from imagelake.serve.rest_threads import Threads

ROOT = "/page/api"
_THREADS = functools.cache(lambda: Threads(4, 64, "the page"))
_TIMEOUT_S = 30.0
_FACET = "f."
_LONGEST = 10_000

Work = Callable[[Request], Mapping[str, Any] | Response]


def route(path: str, work: Work, *, body_bytes: int = 0) -> Route:
    """A route below `/page/api`: GET, or POST where it takes a body.

    Args:
        path: such as `/runs`; parameters as Starlette has them.
        work: runs in a thread; returns a JSON object, or a whole response.
        body_bytes: how long a body may be; it is in `request.state.body` then. 0: GET.
    """

    async def answer(request: Request) -> Response:
        try:
            if body_bytes:
                request.state.body = await _body(request, body_bytes)
            found = await _THREADS().run(lambda: work(request), request.receive, _TIMEOUT_S)
        except ClientDisconnect:
            raise  # nobody reads an answer
        except Exception as error:  # noqa: BLE001  (each becomes a status; a defect of ours goes to the log there)
            return json_answer({"error": message_of(error)}, status_of(error), headers_of(error))
        return found if isinstance(found, Response) else json_answer(found)

    return Route(ROOT + path, answer, methods=["POST" if body_bytes else "GET"])


async def _body(request: Request, most: int) -> bytes:
    got = bytearray()
    async for part in request.stream():
        got += part
        if len(got) > most:
            raise InputError(f"The body is larger than {most} bytes. Send less.")
    return bytes(got)


def selection_of(query: QueryParams) -> Selection:
    """What the address of a view selects: `q`, `where`, `f.NAME` (several), `sort`.

    Raises:
        InputError: one is too long.
    """
    facets: dict[str, tuple[str, ...]] = {}
    for name, value in query.multi_items():
        if len(value) > _LONGEST:
            raise InputError(f"{name} has {len(value)} letters; give at most {_LONGEST}.")
        if name.startswith(_FACET):
            facets[name[len(_FACET) :]] = (*facets.get(name[len(_FACET) :], ()), value)
    return Selection(query.get("q", ""), query.get("where") or None, facets, query.get("sort") or Selection.sort)
