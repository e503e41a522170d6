"""Ask a GraphPipe server, ours or any other: arrays out, arrays in.

No proxies of the environment, no redirects and no second tries: a request reaches the server that it was meant for,
once or not at all.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
import urllib3
from numpy.typing import NDArray
from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationValueError, NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as NoAnswerError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Url, parse_url

from imagelake.errors import (
    BusyError,
    ImagelakeError,
    InputError,
    NotServedError,
    ServingError,
    TimeLimitError,
    TooLargeError,
)
from imagelake.serve import graphpipe
from imagelake.serve.flatbuffer_writer import Message

_PIECE = 1 << 20  # bytes that are read at once
_FIRST = 64 << 10  # bytes kept ready for an answer that does not say how long it is
_TOLD = 2_000  # bytes of the text of an error that are read
_HOSTS = 16  # whose connections are kept
_CONNECTIONS = 32  # kept to each of them
_KINDS: dict[int, type[ImagelakeError]] = {
    400: InputError, 404: NotServedError, 408: TimeLimitError, 413: TooLargeError, 429: BusyError, 503: BusyError,
    504: TimeLimitError,
}  # fmt: skip
_KEY = re.compile(r"[!-~]{1,512}\Z")


@dataclass(frozen=True)
class AskOptions:
    """How a server is asked.

    Attributes:
        timeout_s: how long an answer may take, from the first byte sent to the last one read.
        connect_timeout_s: how long a connection may take.
        max_bytes: of an answer.
        api_key: what the server asks callers for; None: nothing.
    """

    timeout_s: float = 30.0
    connect_timeout_s: float = 5.0
    max_bytes: int = 1 << 30
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("timeout_s", "connect_timeout_s", "max_bytes"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}. Give a number above 0.")
        if self.api_key is not None and not _KEY.match(self.api_key):
            raise InputError("The API key has letters that a header cannot carry. Give 1 to 512 of printable ASCII.")


class Client:
    """Asks servers from any number of threads; a class, since it keeps connections for the next request."""

    def __init__(self) -> None:
        self._pools = urllib3.PoolManager(num_pools=_HOSTS, maxsize=_CONNECTIONS, retries=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that wait."""
        self._pools.clear()

    def execute(
        self,
        url: str,
        inputs: Sequence[Any],
        input_names: Sequence[str] = (),
        output_names: Sequence[str] = (),
        *,
        config: str | bytes = b"",
        options: AskOptions | None = None,
    ) -> list[NDArray[Any]]:
        """Run a model.

        Args:
            url: of the server, or of one of its models: `http://host:9000/graphpipe/NAME`.
            inputs: arrays, or what NumPy makes arrays of; text and bytes are strings.
            input_names: one for each; none: they count by position.
            output_names: what to give back; none: all of the model's outputs.
            config: for the model, as it likes.
            options: timeouts, limits, key.

        Returns:
            The outputs; they cannot be written. Strings are bytes, in an array of dtype object.

        Raises:
            InputError: the request cannot be sent, or the server refused it.
            NotServedError: the server has no such model.
            BusyError: the server has no room now.
            TimeLimitError: the answer did not come in time.
            TooLargeError: the request, or the answer, is beyond the limits.
            ServingError: the server cannot be reached, failed, or speaks something else.
        """
        arrays = [each if isinstance(each, np.ndarray) else _array(each) for each in inputs]
        message = graphpipe.encode_request(arrays, input_names, output_names, config)
        options = options or AskOptions()
        answer = self._ask(url, message, options)
        try:
            response = graphpipe.decode_infer_response(answer, _WIDE)
        except ImagelakeError as error:
            raise ServingError(f"{_shown(url)} answered with something else: {error}") from error
        if response.errors:
            told = "; ".join(f"{each.message} (code {each.code})" for each in response.errors[:5])
            raise ServingError(f"{_shown(url)} could not answer: {told}")
        return list(response.outputs)

    def metadata(self, url: str, *, options: AskOptions | None = None) -> graphpipe.Metadata:
        """What a server says of a model; raises what `execute` does."""
        answer = self._ask(url, graphpipe.encode_metadata_request(), options or AskOptions())
        try:
            return graphpipe.decode_metadata_response(answer, _WIDE)
        except ImagelakeError as error:
            raise ServingError(f"{_shown(url)} answered with something else: {error}") from error

    def _ask(self, url: str, message: Message, options: AskOptions) -> memoryview:
        """Post a message; gives the body of the answer."""
        parsed = _parse(url)
        headers = {
            "Content-Length": str(message.size),
            "Content-Type": "application/octet-stream",
            "Accept-Encoding": "identity",
        }
        if options.api_key is not None:
            headers["Authorization"] = f"Bearer {options.api_key}"
        elif parsed.auth:
            headers |= urllib3.make_headers(basic_auth=parsed.auth)
        deadline = time.monotonic() + options.timeout_s
        connect_s = min(options.connect_timeout_s, options.timeout_s)
        response = None
        try:
            response = self._pools.urlopen(
                "POST",
                parsed._replace(auth=None, fragment=None).url,
                body=list(message.parts()),
                headers=headers,
                redirect=False,
                timeout=urllib3.Timeout(connect=connect_s, read=options.timeout_s),
                preload_content=False,
            )
            if response.status != 200:
                raise _refusal(url, response, deadline)
            return _body(url, response, options, deadline)
        except ImagelakeError:
            raise  # a TimeLimitError is an OSError too
        except (HTTPError, OSError) as error:
            raise _failure(url, error, options) from error
        finally:
            if response is not None:
                response.close()  # only a connection whose answer was not read to its end
                response.release_conn()


_WIDE = graphpipe.MessageLimits(max_tensors=4096, max_strings=1 << 24)  # the answer's bytes are bounded by the caller


def _array(value: Any) -> NDArray[Any]:
    """An array of what is no array: bytes whole, with the NULs at their end."""
    if isinstance(value, bytes | bytearray):
        return np.array(bytes(value), object)
    if isinstance(value, list | tuple) and any(isinstance(each, bytes | bytearray) for each in value):
        array = np.empty(len(value), object)
        array[:] = value
        return array
    return np.asarray(value)


def _parse(url: str) -> Url:
    try:
        parsed = parse_url(url)
    except LocationValueError:
        parsed = Url()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InputError(f"{url[:200]!r} is no address of a server. Give one such as http://127.0.0.1:9000.")
    return parsed


def _shown(url: str) -> str:
    """An address without what may be secret: user, password and query."""
    parsed = _parse(url)
    return Url(scheme=parsed.scheme, host=parsed.host, port=parsed.port, path=parsed.path).url


def _too_late(url: str, options: AskOptions) -> TimeLimitError:
    return TimeLimitError(
        f"{_shown(url)} did not answer within {options.timeout_s:g} s. Allow more time, or ask for less at once."
    )


def _failure(url: str, error: Exception, options: AskOptions) -> ImagelakeError:
    """The error of a request that got no answer."""
    reason = str(error) or type(error).__name__
    if isinstance(error, NewConnectionError):  # which counts as a timeout too, and is none
        reason = "nobody answers at that address"
    elif isinstance(error, ConnectTimeoutError):
        return TimeLimitError(
            f"{_shown(url)} took no connection within {options.connect_timeout_s:g} s. Is that the right address?"
        )
    elif isinstance(error, NoAnswerError):
        return _too_late(url, options)
    elif isinstance(error, SSLError):
        reason = f"TLS failed, {reason}"
    return ServingError(f"{_shown(url)} could not be asked: {reason}. Is the server there?")


def _refusal(url: str, response: BaseHTTPResponse, deadline: float) -> ImagelakeError:
    """The error of a status that is not 200, with what the server says."""
    _limit(response, deadline)
    text = (
        response.read1(_TOLD, decode_content=False).decode(errors="replace").strip() or response.reason or "no reason"
    )
    kind = _KINDS.get(response.status, ServingError)
    return kind(f"{_shown(url)} answered {response.status}: {text}")


def _body(url: str, response: BaseHTTPResponse, options: AskOptions, deadline: float) -> memoryview:
    """The body of an answer, in memory that holds at most `max_bytes`."""
    if response.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise ServingError(f"{_shown(url)} sent its answer packed, though it was asked not to. Ask the server itself.")
    announced = response.length_remaining
    if announced is not None and announced > options.max_bytes:
        raise _too_large(url, f"{announced:,}", options)
    buffer = np.empty(_FIRST if announced is None else announced, np.uint8)
    filled = 0
    while announced is None or filled < announced:
        if time.monotonic() > deadline:
            raise _too_late(url, options)
        _limit(response, deadline)
        piece = response.read1(_PIECE, decode_content=False)
        if not piece:
            break
        end = filled + len(piece)
        if end > options.max_bytes:
            raise _too_large(url, f"more than {options.max_bytes:,}", options)
        if end > buffer.size:
            larger = np.empty(min(max(2 * buffer.size, end), options.max_bytes), np.uint8)
            larger[:filled] = buffer[:filled]
            buffer = larger
        buffer.data[filled:end] = piece
        filled = end
    if announced is not None and filled < announced:
        raise ServingError(f"{_shown(url)} sent {filled:,} of the {announced:,} bytes that it announced. Ask it again.")
    return buffer.data[:filled]


def _limit(response: BaseHTTPResponse, deadline: float) -> None:
    """Let the next read end at the deadline, where the connection is at hand."""
    sock = getattr(getattr(response, "connection", None), "sock", None)
    if sock is not None:
        sock.settimeout(max(0.001, deadline - time.monotonic()))


def _too_large(url: str, given: str, options: AskOptions) -> TooLargeError:
    return TooLargeError(
        f"The answer of {_shown(url)} has {given} bytes, and at most {options.max_bytes:,} are taken. Allow more, or "
        "ask for less at once."
    )
