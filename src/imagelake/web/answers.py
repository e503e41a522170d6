"""How the page's routes are asked and answer: work in threads, JSON, errors with a reason."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from imagelake.errors import InputError
from imagelake.gallery.selection import Selection
from imagelake.serve.body import BodyBudget, content_length, read_body
from imagelake.serve.errors_http import headers_of, message_of, status_of
from imagelake.serve.guard import facts_of
from imagelake.serve.json_answer import json_answer
from imagelake.serve.page_access import is_own
from imagelake.serve.rest_threads import Threads
from imagelake.serve.site import Limits

ROOT = "/page/api"
_THREADS = functools.cache(lambda: Threads(4, 64, "the page", each=3))
_QUICK = functools.cache(lambda: Threads(4, 512, "thumbnails"))  # they do not wait behind a search
_SLOW = functools.cache(lambda: Threads(3, 64, "pictures", each=2))  # nothing waits behind one of 200 megapixels
_WRITES = functools.cache(lambda: Threads(4, 64, "writing", each=3))  # nor behind a commit
_budget = functools.cache(lambda: BodyBudget(256 << 20))  # for the bodies of all requests of the page
_small_budget = functools.cache(lambda: BodyBudget(32 << 20))  # apart: nobody keeps others from logging in
_SMALL = 64 << 10
_TIMEOUT_S = 30.0
_FACET = "f."
_LONGEST = 10_000
_LONGEST_QUERY = 200_000
_MOST_PARTS = 1_000
_SEAL = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
}  # of every answer: no browser shows one as a page, and no other site shows one at all

Work = Callable[[Request], Mapping[str, Any] | Response]


def route(
    path: str, work: Work, *, body_bytes: int = 0, writes: bool = False, quick: bool = False, slow: bool = False
) -> Route:
    """A route below `/page/api`: GET, or POST where it takes a body.

    Args:
        path: such as `/runs`; parameters as Starlette has them.
        work: runs in a thread; returns a JSON object, or a whole response.
        body_bytes: how long a body may be; it is in `request.state.body` then. 0: GET.
        quick: whether it takes milliseconds, such as a thumbnail: it has threads of its own.
        slow: whether it decodes a picture of any size, which has threads of its own too.
        writes: whether it changes the lake; refused unless the server lets people write, and the page itself asks.
    """
    threads = _QUICK if quick else _SLOW if slow else _WRITES if writes else _THREADS

    async def answer(request: Request) -> Response:
        return sealed(await answer_plainly(request))

    async def answer_plainly(request: Request) -> Response:
        try:
            if writes:
                check_may_write(request)
            if body_bytes:
                request.state.body = await body_of(request, body_bytes)
            found = await threads().run(lambda: work(request), request.receive, _TIMEOUT_S, caller_of(request))
        except ClientDisconnect:
            raise  # nobody reads an answer
        except HTTPException as error:
            return json_answer({"error": error.detail}, error.status_code, error.headers)
        except Exception as error:  # noqa: BLE001  (each becomes a status; a defect of ours goes to the log there)
            return json_answer({"error": message_of(error)}, status_of(error), headers_of(error))
        return found if isinstance(found, Response) else json_answer(found)

    return Route(ROOT + path, answer, methods=["POST" if body_bytes else "GET"])


def sealed(answer: Response) -> Response:
    """An answer with the headers that every one below `/page/api` has; those that it has already stay."""
    for name, value in _SEAL.items():
        answer.headers.setdefault(name, value)
    return answer


def caller_of(request: Request) -> str:
    """Whose turn it is: an address with a key."""
    facts = facts_of(request.scope)
    return f"{request.client.host if request.client else ''} {facts.key_name if facts else ''}"


def check_may_write(request: Request) -> None:
    """Pass on a request that may change the lake.

    Raises:
        HTTPException: the server is read-only, or another site's page may be asking.
    """
    facts = facts_of(request.scope)
    if facts is None or not facts.may_write:
        raise HTTPException(403, "This server is read-only. Whoever runs it can start it with --write and an API key.")
    check_own(request)


def check_own(request: Request) -> None:
    """Pass on what the page itself asks.

    Raises:
        HTTPException: another site's page may be asking.
    """
    if not is_own(dict(request.scope["headers"])):
        raise HTTPException(403, "Only the page of this server may ask that. Send the header X-Imagelake-Page: 1.")


async def body_of(request: Request, most: int) -> bytes:
    """A body of at most so many bytes.

    Raises:
        TooLargeError: it is longer.
        SlowBodyError: it did not arrive in time.
        NoMemoryError: the bodies of other requests take too much memory.
    """
    limits = Limits(max_body=most, body_timeout_s=_TIMEOUT_S)
    announced = content_length(request.scope)
    budget = _small_budget() if (most if announced is None else announced) <= _SMALL else _budget()
    return bytes(await read_body(request.scope, request.receive, limits, budget))


def query_of(text: str) -> QueryParams:
    """The query of an address that came in a body, which may be longer than any address.

    Raises:
        InputError: it is too long.
    """
    if len(text) > _LONGEST_QUERY:
        raise InputError(f"The query has {len(text):,} letters; give at most {_LONGEST_QUERY:,}.")
    return QueryParams(text)


def selection_of(query: QueryParams) -> Selection:
    """What the address of a view selects: `q`, `where`, `f.NAME` (several), `sort`.

    Raises:
        InputError: one is too long, or they are too many.
    """
    facets: dict[str, list[str]] = {}
    given = query.multi_items()
    if len(given) > _MOST_PARTS:
        raise InputError(f"The selection has {len(given):,} parts; give at most {_MOST_PARTS:,}.")
    for name, value in given:
        if len(value) > _LONGEST:
            raise InputError(f"{name} has {len(value)} letters; give at most {_LONGEST}.")
        if name.startswith(_FACET):
            facets.setdefault(name[len(_FACET) :], []).append(value)
    chosen = {name: tuple(values) for name, values in facets.items()}
    return Selection(query.get("q", ""), query.get("where") or None, chosen, query.get("sort") or Selection.sort)
