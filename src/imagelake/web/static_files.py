"""The files of the page: read from the package, named by what is in them, so that a browser may keep them."""

from __future__ import annotations

import functools
import gzip
import hashlib
import posixpath
import re
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

_TYPES = {
    "css": "text/css", "js": "text/javascript", "json": "application/json", "svg": "image/svg+xml",
    "bin": "application/octet-stream", "webmanifest": "application/manifest+json",
}  # fmt: skip
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; sandbox",  # where a file is opened by itself
    "Vary": "Accept-Encoding",
}
_FOREVER = "public, max-age=31536000, immutable"
_STYLES = "page.css"  # all styles as one file: a browser paints nothing before it has them
_IMPORT = re.compile(r"""^\s*(?:import|export)\b[^;]*?["'](\.{1,2}/[^"']+)["']""", re.MULTILINE)
_FIRST_VIEW = "browse"
_WORTH = 0.9  # of its size: what does not get smaller is sent as it is


@functools.cache
def files() -> dict[str, bytes]:
    """Every file below `static/`, by its path in there; and all styles as one."""
    found: dict[str, bytes] = {}
    _collect(resources.files("imagelake.web") / "static", "", found)
    styles = ["style.css", *sorted(name for name in found if "/" in name and name.endswith(".css"))]
    found[_STYLES] = b"\n".join(found[name] for name in styles)
    return found


@functools.cache
def mark() -> str:
    """Differs whenever a file does."""
    whole = hashlib.sha256()
    for name, data in sorted(files().items()):
        whole.update(f"{name}\0{len(data)}\0".encode() + data)
    return whole.hexdigest()[:12]


def shell(view: str) -> bytes:
    """The page itself, which names the scripts that a view needs: a browser loads them all at once."""
    return _shell(view if f"views/{view}.js" in files() else _FIRST_VIEW)


@functools.cache
def _shell(view: str) -> bytes:
    template = (resources.files("imagelake.web") / "static" / "page.html").read_text(encoding="utf-8")
    links = [
        f'<link rel="modulepreload" href="page/{{mark}}/{name}">' for name in _imported("app.js", f"views/{view}.js")
    ]
    return template.replace("{modules}", "\n".join(links)).replace("{mark}", mark()).encode()


def _imported(*names: str) -> list[str]:
    """Some scripts and all that they import, those that are needed first before the others."""
    found: list[str] = []
    todo = list(names)
    while todo:
        name = todo.pop(0)
        if name not in found and name in files() and name.endswith(".js"):
            found.append(name)
            text = files()[name].decode()
            todo += [
                posixpath.normpath(posixpath.join(posixpath.dirname(name), each)) for each in _IMPORT.findall(text)
            ]
    return found


def routes() -> list[BaseRoute]:
    """`/page/MARK/NAME`: the address changes with the content, so a browser asks once."""
    return [Route("/page/{mark}/{name:path}", _file)]


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    kind = _TYPES.get(name.rpartition(".")[2])
    if name not in files() or kind is None:
        return Response("There is no such file of the page.\n", 404, _HEADERS, "text/plain")
    current = request.path_params["mark"] == mark()
    headers = _HEADERS | {"Cache-Control": _FOREVER if current else "no-store"}
    data = files()[name]
    if takes_gzip(request) and len(_gzipped(name)) < _WORTH * len(data):
        data, headers = _gzipped(name), headers | {"Content-Encoding": "gzip"}
    return Response(data, headers=headers, media_type=kind)


def takes_gzip(request: Request) -> bool:
    """Whether the caller takes compressed answers."""
    given = (each.strip().replace(" ", "") for each in request.headers.get("accept-encoding", "").split(","))
    return any(each.partition(";")[0] in {"gzip", "*"} and not re.search(r";q=0(\.0*)?$", each) for each in given)


@functools.cache
def _gzipped(name: str) -> bytes:
    return gzip.compress(files()[name], 9, mtime=0)


def _collect(folder: Traversable, before: str, found: dict[str, bytes]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _collect(entry, f"{before}{entry.name}/", found)
        elif entry.name.rpartition(".")[2] in _TYPES:
            found[before + entry.name] = entry.read_bytes()
