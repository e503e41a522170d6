"""The page on `/` for browsers; other callers get there what they got before."""

from __future__ import annotations

import hashlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from imagelake.gallery.gallery import Gallery
from imagelake.serve.page_access import asks_for_page
from imagelake.serve.sessions import Sessions
from imagelake.serve.site import Site
from imagelake.web import (
    about,
    atlas,
    browse,
    duplicates,
    picture,
    runs,
    search,
    session,
    static_files,
    world,
    writing,
)

_FEATURES = ("accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "microphone", "payment", "usb")
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
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{name}=()" for name in _FEATURES),
    "Vary": "Accept",
}


def routes(gallery: Gallery, site: Site | None = None, sessions: Sessions | None = None) -> list[BaseRoute]:
    """All of the page, for `build_app(site, options, extra=...)`.

    Args:
        gallery: what is shown.
        site: the server, whose models and figures the page tells of.
        sessions: for those who log in, where keys are asked for; the same as in `GuardOptions`.
    """
    found: list[BaseRoute] = [_PageRoute("/", _page), *session.routes(sessions)]
    for part in (about, browse, search, picture, world, duplicates, atlas, writing):
        found += part.routes(gallery)
    return [*found, *runs.routes(gallery, site), *static_files.routes()]


class _PageRoute(Route):
    """Matches a browser only: what asks for text/html by name."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As a route does, or not at all."""
        return super().matches(scope) if scope["type"] == "http" and asks_for_page(scope) else (Match.NONE, {})


async def _page(request: Request) -> Response:
    html = static_files.shell(request.query_params.get("view", ""))
    tag = f'"{hashlib.sha256(html).hexdigest()[:16]}"'
    headers = _HEADERS | {"ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(html, headers=headers, media_type="text/html")
