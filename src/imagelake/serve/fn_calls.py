"""The calls of an Fn platform: `POST /call`, with what it says in `Fn-` headers and what it must be told in them.

The platform takes the HTTP statuses 200, 502 (the function failed) and 504 (it took too long); the status that the
function itself gives is the header `Fn-Http-Status`.
"""

from __future__ import annotations

import asyncio
import json
import platform
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from imagelake import __version__
from imagelake.errors import TimeLimitError
from imagelake.serve.body import BodyBudget, read_body
from imagelake.serve.errors_http import message_of, status_of
from imagelake.serve.site import Limits

_DEFAULT_S = 30.0  # where the platform names no deadline
_LONGEST_S = 3600.0
_THREADS = 4
_TYPE = "application/json; charset=utf-8"
_FAILED, _LATE = 502, 504


@dataclass(frozen=True)
class FnCall:
    """What the platform says of a call.

    Attributes:
        id: of the call.
        left_s: until it no longer waits for the answer.
    """

    id: str
    left_s: float


FnFunction = Callable[[FnCall, bytes], Mapping[str, Any]]
"""From a call and its body to the answer, which goes out as JSON. What it raises becomes a status."""


def fn_app(function: FnFunction, limits: Limits | None = None) -> ASGIApp:
    """The application that an Fn platform calls.

    Args:
        function: runs in a thread; it is left behind when the deadline of its call has passed.
        limits: of bodies.
    """
    limits = limits or Limits()
    budget = BodyBudget(limits.body_budget)
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="imagelake-function")

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if (scope["method"], scope["path"]) != ("POST", "/call"):
            await _send(send, 404, 404, {"error": "There is only POST /call."})
            return
        try:
            call = _read_call(scope)
            async with asyncio.timeout(call.left_s):
                body = bytes(await read_body(scope, receive, limits, budget))
                work = asyncio.get_running_loop().run_in_executor(threads, function, call, body)
                found = await work
            await _send(send, 200, 200, found)
        except ClientDisconnect:
            return  # nobody reads an answer
        except TimeoutError as error:
            told = message_of(error if isinstance(error, TimeLimitError) else _late())
            await _send(send, _LATE, _LATE, {"error": told})
        except Exception as error:  # noqa: BLE001  (the edge: every error becomes an answer)
            status = status_of(error)
            http = _FAILED if status == HTTPStatus.INTERNAL_SERVER_ERROR else 200
            await _send(send, http, _FAILED if http == _FAILED else status, {"error": message_of(error)})

    return answer


def _late() -> TimeLimitError:
    return TimeLimitError("The deadline of the call passed before there was an answer. Allow more time.")


def _read_call(scope: Scope) -> FnCall:
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    left_s = _left_s(headers.get(b"fn-deadline"))
    if left_s <= 0:
        raise _late()
    return FnCall(headers.get(b"fn-call-id", "0")[:200], left_s)


def _left_s(deadline: str | None) -> float:
    """Seconds until a moment of RFC 3339; the default where there is none, or it is none."""
    if deadline is None:
        return _DEFAULT_S
    try:
        moment = datetime.fromisoformat(deadline.strip())
        aware = moment.replace(tzinfo=moment.tzinfo or UTC)
        return min((aware - datetime.now(UTC)).total_seconds(), _LONGEST_S)
    except (ValueError, OverflowError):
        return _DEFAULT_S


async def _send(send: Send, http_status: int, status: int, answer: Mapping[str, Any]) -> None:
    body = json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace")
    version = platform.python_version()
    headers = {
        "Content-Type": _TYPE,
        "Content-Length": str(len(body)),
        "Fn-Http-Status": str(status),
        "Fn-Http-H-Content-Type": _TYPE,  # what the gateway hands on as the caller's Content-Type
        "Fn-Fdk-Version": f"imagelake/{__version__}",
        "Fn-Fdk-Runtime": f"python/{version} final",
    }
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": http_status, "headers": lines})
    await send({"type": "http.response.body", "body": body})
