"""The page on `/` for browsers; other callers get there what they got before."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from imagelake.gallery.gallery import Gallery
from imagelake.web import (
    about,
    atlas,
    browse,
    duplicates,
    picture,
    runs,
    search,
    static_files,
    world,
    writing,
)

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
}


def routes(gallery: Gallery) -> list[BaseRoute]:
    """All of the page, for `build_app(site, options, extra=...)`."""
    found: list[BaseRoute] = [_PageRoute("/", _page)]
    for part in (about, browse, search, picture, world, duplicates, atlas, runs, writing):
        found += part.routes(gallery)
    return found + static_files.routes()


class _PageRoute(Route):
    """Matches a browser only: what asks for text/html by name."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        found, child = super().matches(scope)
        accept = (
            b",".join(value for name, value in scope["headers"] if name == b"accept") if "headers" in scope else b""
        )
        if found == Match.FULL and b"text/html" in accept.lower():
            return found, child
        return Match.NONE, {}


async def _page(request: Request) -> Response:
    del request
    html = static_files.shell().replace(b"{mark}", static_files.mark().encode())
    return Response(html, headers=_HEADERS, media_type="text/html")
