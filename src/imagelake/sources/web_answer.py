"""What comes of one try to fetch a picture, in words for a person and with whether another try may help."""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from urllib3.exceptions import (
    ConnectTimeoutError,
    EmptyPoolError,
    InvalidHeader,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.response import BaseHTTPResponse

from imagelake.sources.folder import MAX_FILE_BYTES


@dataclass(frozen=True)
class FetchLimits:
    """What one picture may take.

    Attributes:
        connect_timeout_s: until a connection stands.
        read_timeout_s: the longest silence of a server.
        total_timeout_s: all the talking for one picture, over its redirects and retries, without the waits between.
        max_redirects: how often an address may lead to another.
        max_bytes: of a picture, as sent and unpacked.
        user_agent: who the server is told is asking; some want an address to write to.
    """

    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0
    total_timeout_s: float = 120.0
    max_redirects: int = 5
    max_bytes: int = MAX_FILE_BYTES
    user_agent: str = "imagelake"


@dataclass(frozen=True)
class Answer:
    """What came of one try.

    Attributes:
        data: the picture's bytes; None where there are none.
        reason: why there are none.
        again: whether another try may do better.
        slower: the server asks for fewer requests.
        wait_s: how long the server asks to wait before the next try.
        talked_s: how long it took.
    """

    data: bytes | None = None
    reason: str | None = None
    again: bool = False
    slower: bool = False
    wait_s: float | None = None
    talked_s: float = 0.0


class FailedError(Exception):
    """Ends a try with an answer."""

    def __init__(self, reason: str, *, again: bool = False, slower: bool = False, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.answer = Answer(None, reason, again, slower, wait_s)


def explain(error: Exception, limits: FetchLimits) -> Answer:
    """What an error of the network means to a person, and whether another try may help."""
    match error:
        case NameResolutionError():
            again = isinstance(error.__cause__, OSError) and error.__cause__.errno == socket.EAI_AGAIN
            return Answer(reason="the name of the host cannot be resolved", again=again)
        case NewConnectionError():
            return Answer(reason=f"cannot connect: {error.__cause__}", again=True)
        case ConnectTimeoutError():  # last, for the two above are of its kind
            return Answer(reason=f"no connection within {limits.connect_timeout_s:g} s", again=True)
        case ReadTimeoutError() | TimeoutError():
            return Answer(reason=f"no answer for {limits.read_timeout_s:g} s", again=True)
        case EmptyPoolError():
            return Answer(reason="the host was too busy with other pictures", again=True)
        case SSLError():
            inner = error.args[0] if error.args else None
            if isinstance(inner, ssl.SSLCertVerificationError):
                return Answer(reason=f"its certificate is refused: {inner.verify_message}")
            return Answer(reason="the TLS connection failed", again=True)
        case InvalidHeader():
            return Answer(reason="the answer is no valid HTTP: it announces two lengths")
        case ProtocolError() | OSError() | http.client.HTTPException():
            return Answer(reason=_broken(error), again=True)
    return Answer(reason="the answer is no valid HTTP")


def _broken(error: Exception) -> str:
    """How a connection ended too early."""
    inner = next((part for part in error.args if isinstance(part, Exception)), error)
    if isinstance(inner, http.client.IncompleteRead):
        return "the connection broke off before the picture was complete"
    if isinstance(inner, http.client.BadStatusLine) and not isinstance(inner, http.client.RemoteDisconnected):
        return "the answer is no valid HTTP"
    if isinstance(inner, http.client.RemoteDisconnected | OSError):
        return "the connection broke off"
    return "the answer is no valid HTTP"


def refusal(response: BaseHTTPResponse) -> FailedError:
    """What a status that brings no picture means."""
    status = response.status
    try:
        phrase = f" {http.HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    wait_s = _wait_s(response.headers.get("retry-after"))
    again = status == http.HTTPStatus.TOO_MANY_REQUESTS or status >= http.HTTPStatus.INTERNAL_SERVER_ERROR
    slower = status in (http.HTTPStatus.TOO_MANY_REQUESTS, http.HTTPStatus.SERVICE_UNAVAILABLE)
    return FailedError(f"the server answers {status}{phrase}", again=again, slower=slower, wait_s=wait_s)


def _wait_s(text: str | None) -> float | None:
    """The seconds of a Retry-After, which may be a number or a date."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
