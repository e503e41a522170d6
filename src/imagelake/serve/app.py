"""The whole application: every protocol, behind one guard."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from imagelake.serve import graphpipe_http, oip_rest, openapi, operations, rest
from imagelake.serve.guard import Guard, GuardOptions
from imagelake.serve.site import Site

_PLACES = (
    "POST /graphpipe/NAME, /v2/models/NAME/infer, /api/classify, /api/detect, /api/embed, /api/search; "
    "GET /v2, /docs, /health/ready, /metrics"
)


def build_app(site: Site, options: GuardOptions | None = None, extra: Sequence[BaseRoute] = ()) -> ASGIApp:
    """All protocols of a site.

    Args:
        site: what is served.
        options: who may ask, and what is told.
        extra: more routes, before the others.
    """
    found: list[BaseRoute] = [*extra, *operations.routes(site)]
    for protocol in (oip_rest, rest, openapi, graphpipe_http):
        found += protocol.routes(site)
    return Guard(Router(found, redirect_slashes=False, default=_nothing_here), site, options)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    del receive, send
    raise HTTPException(404, f"There is nothing at {scope['path'][:200]!r}. There are: {_PLACES}.")
