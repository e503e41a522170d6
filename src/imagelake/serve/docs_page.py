"""The page `/docs`: the REST interface to read and to try, with every file of it served from here."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_FROM_BUNDLE = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>imagelake: the REST interface</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<noscript>This page needs JavaScript. The same is in <a href="openapi.json">openapi.json</a>.</noscript>
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = b"""SwaggerUIBundle({
  url: "docs/openapi.json",
  dom_id: "#page",
  validatorUrl: null,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
});
"""


def routes() -> list[BaseRoute]:
    """`/docs` and what it needs."""

    async def page(_: Request) -> Response:
        headers = _HEADERS | {"Content-Security-Policy": _CSP, "Cache-Control": "no-cache"}
        return Response(_PAGE, headers=headers, media_type="text/html")

    return [Route("/docs", page), *(Route(f"/docs/{name}", _file) for name in (*_FROM_BUNDLE, "start.js"))]


async def _file(request: Request) -> Response:
    """A file of the page; a browser keeps it, and asks once a day whether it is the same still."""
    name = request.url.path.rpartition("/")[2]
    data, tag = _read(name)
    headers = _HEADERS | {"Cache-Control": "public, max-age=86400", "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=_FROM_BUNDLE.get(name, "text/javascript"))


@functools.cache
def _read(name: str) -> tuple[bytes, str]:
    """A file and its tag."""
    data = _START
    if name in _FROM_BUNDLE:
        from swagger_ui_bundle import swagger_ui_path  # type: ignore[import-untyped]  # late: only the page needs it

        data = (swagger_ui_path / name).read_bytes()
    return data, f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def as_3_0(document: dict[str, Any]) -> dict[str, Any]:
    """A document of OpenAPI 3.1 in the words of 3.0, which the page's program reads."""
    info = {name: value for name, value in document["info"].items() if name not in ("summary", "license")}
    told: dict[str, Any] = _in_words_of_3_0(document)
    return told | {"openapi": "3.0.3", "info": info}


def _in_words_of_3_0(part: Any) -> Any:
    if isinstance(part, list):
        return [_in_words_of_3_0(each) for each in part]
    if not isinstance(part, dict):
        return part
    told = {name: _in_words_of_3_0(value) for name, value in part.items()}
    kind = told.get("type")
    if isinstance(kind, list):
        told |= {"type": next(each for each in kind if each != "null"), "nullable": True}
    if isinstance(told.get("examples"), list):
        told["example"] = told.pop("examples")[0]
    if "contentMediaType" in told:
        del told["contentMediaType"]
        told["format"] = "binary"
    return told
