"""What the guard asks of the page's requests: which are open, who is logged in, and who may change the lake."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Scope

from imagelake.serve.sessions import Sessions, cookie_name, shown_session

_FILES, _API = "/page/", "/page/api/"
_OPEN = frozenset({f"{_API}login", f"{_API}logout"})
_THUMBNAILS = f"{_API}thumbnail/"
_READS = frozenset({"GET", "HEAD"})
_OURS = frozenset({b"", b"same-origin", b"none"})  # of Sec-Fetch-Site; old browsers do not tell
HEADER = b"x-imagelake-page"
"""What every script of the page sends, and no form can: a page of another site would have to ask before."""


def asks_for_page(scope: Scope) -> bool:
    """Whether a browser asks for the page itself: `/` for somebody who takes text/html by name."""
    if scope["path"] != "/" or scope["method"] not in _READS:
        return False
    return any(name == b"accept" and b"text/html" in value.lower() for name, value in scope["headers"])


def is_open(scope: Scope) -> bool:
    """Whether no key is needed: for the page and its files, which hold nothing of the lake, and to log in."""
    path = scope["path"]
    if path in _OPEN:
        return True
    return scope["method"] in _READS and (asks_for_page(scope) or (path.startswith(_FILES) and not _is_api(path)))


def is_light(scope: Scope) -> bool:
    """Whether a request is not counted against the rate: one look at a page takes a hundred files and thumbnails."""
    path = scope["path"]
    return scope["method"] in _READS and (is_open(scope) or path.startswith(_THUMBNAILS))


def logged_in(sessions: Sessions | None, scope: Scope, headers: Mapping[bytes, bytes]) -> str | None:
    """The name of the key that the session of a request was begun with; None where it has none that counts here.

    It counts for what the page asks alone, and not where a page of another server asks, be it on this machine.
    """
    if sessions is None or not _is_api(scope["path"]) or headers.get(b"sec-fetch-site", b"") not in _OURS:
        return None
    return sessions.name_of(session_of(scope, headers.get(b"cookie", b"")))


def is_foreign(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """Whether another site leads somebody's browser to what the page asks for, be it in a frame or a new window.

    It could not read the answer, but it could ask for what takes all of a machine.
    """
    return _is_api(scope["path"]) and headers.get(b"sec-fetch-site", b"") not in _OURS


def session_of(scope: Scope, cookies: bytes) -> bytes:
    """The session that a request shows; empty where it shows none."""
    return shown_session(cookies, cookie_of(scope))


def cookie_of(scope: Scope) -> str:
    """What the cookie of the server that is asked is called."""
    server = scope.get("server")
    return cookie_name(scope["scheme"], server[1] if server else None)


def is_own(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the page of this very server asks, as far as browsers tell."""
    site = headers.get(b"sec-fetch-site", b"")
    if not headers.get(HEADER) or site not in _OURS:
        return False
    origin = headers.get(b"origin")
    # Without the scheme: behind a proxy that speaks TLS, it is another one here.
    return bool(site) or origin is None or origin.lower().partition(b"://")[2] == headers.get(b"host", b"").lower()


def _is_api(path: str) -> bool:
    return path.startswith(_API)
