"""The files of the page: read from the package, named by what is in them, so that a browser may keep them."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

_TYPES = {
    "css": "text/css", "js": "text/javascript", "json": "application/json", "svg": "image/svg+xml",
    "bin": "application/octet-stream", "webmanifest": "application/manifest+json",
}  # fmt: skip
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


@functools.cache
def files() -> dict[str, bytes]:
    """Every file below `static/`, by its path in there."""
    found: dict[str, bytes] = {}
    _collect(resources.files("imagelake.web") / "static", "", found)
    return found


@functools.cache
def mark() -> str:
    """Differs whenever a file does."""
    whole = hashlib.sha256()
    for name, data in sorted(files().items()):
        whole.update(f"{name}\0{len(data)}\0".encode() + data)
    return whole.hexdigest()[:12]


def shell() -> bytes:
    """The page itself, with `{mark}` where the addresses of its files have it."""
    return (resources.files("imagelake.web") / "static" / "page.html").read_bytes()


def routes() -> list[BaseRoute]:
    """`/page/MARK/NAME`: the address changes with the content, so a browser asks once."""
    return [Route("/page/{mark}/{name:path}", _file)]


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    data = files().get(name)
    kind = _TYPES.get(name.rpartition(".")[2])
    if data is None or kind is None:
        return Response("There is no such file of the page.\n", 404, media_type="text/plain")
    current = request.path_params["mark"] == mark()
    return Response(data, headers=_FOREVER if current else {"Cache-Control": "no-store"}, media_type=kind)


def _collect(folder: Traversable, before: str, found: dict[str, bytes]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _collect(entry, f"{before}{entry.name}/", found)
        elif entry.name.rpartition(".")[2] in _TYPES:
            found[before + entry.name] = entry.read_bytes()
