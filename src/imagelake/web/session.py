"""Logging in on the page, where keys are asked for, and out again."""

from __future__ import annotations

import json
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from imagelake.errors import InputError
from imagelake.serve.errors_http import headers_of, message_of, status_of
from imagelake.serve.json_answer import json_answer
from imagelake.serve.page_access import cookie_of, session_of
from imagelake.serve.sessions import LASTS_S, Sessions
from imagelake.web.answers import ROOT, body_of, check_own, sealed

_LONGEST = 4_096  # bytes of a login


def routes(sessions: Sessions | None) -> list[BaseRoute]:
    """`login` and `logout`: both are POST, and answer at once, on the event loop."""
    return [_route("/login", sessions, _login), _route("/logout", sessions, _logout)]


def _route(path: str, sessions: Sessions | None, work: Callable[[Request, Sessions, bytes], Response]) -> Route:
    async def answer(request: Request) -> Response:
        return sealed(await answer_plainly(request))

    async def answer_plainly(request: Request) -> Response:
        try:
            check_own(request)
            return work(request, _asked(sessions), await body_of(request, _LONGEST))
        except HTTPException as error:
            return json_answer({"error": error.detail}, error.status_code)
        except ClientDisconnect:
            raise  # nobody reads an answer
        except Exception as error:  # noqa: BLE001  (each becomes a status; a defect of ours goes to the log there)
            return json_answer({"error": message_of(error)}, status_of(error), headers_of(error))

    return Route(ROOT + path, answer, methods=["POST"])


def _asked(sessions: Sessions | None) -> Sessions:
    if sessions is None:
        raise HTTPException(404, "This server asks nobody for a key.")
    return sessions


def _login(request: Request, sessions: Sessions, body: bytes) -> Response:
    key = _key_in(body)
    token = sessions.begin(key, request.client.host if request.client else "")
    answer = json_answer({"write": sessions.write})
    _set_cookie(answer, request, token, int(LASTS_S))
    return answer


def _logout(request: Request, sessions: Sessions, body: bytes) -> Response:
    del body
    sessions.end(session_of(request.scope, request.headers.get("cookie", "").encode("latin-1")))
    answer = json_answer({})
    _set_cookie(answer, request, "", 0)
    return answer


def _key_in(body: bytes) -> str:
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        read = None
    key = read.get("key") if isinstance(read, dict) else None
    if not isinstance(key, str):
        raise InputError('The body is no login. Send {"key": "..."} as JSON.')
    return key


def _set_cookie(answer: Response, request: Request, token: str, seconds: int) -> None:
    """No script reads it, no other site's page sends it, and it goes nowhere but to this server."""
    answer.set_cookie(
        cookie_of(request.scope), token, max_age=seconds, path="/", httponly=True, samesite="strict",
        secure=request.scope["scheme"] == "https",
    )  # fmt: skip
