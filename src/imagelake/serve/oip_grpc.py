"""The Open Inference Protocol over gRPC, on a port of its own, beside the HTTP server."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagelake._optional import need
from imagelake.errors import InputError
from imagelake.serve.api_keys import shown_key
from imagelake.serve.errors_http import REQUEST_ID, message_of
from imagelake.serve.guard import GuardOptions
from imagelake.serve.oip_grpc_calls import Calls, RefusedError, grpc_status, id_of, read_small
from imagelake.serve.oip_grpc_intake import FRAMING, Intake
from imagelake.serve.oip_grpc_schema import SERVICE, messages, methods
from imagelake.serve.site import Site

grpc: Any = need("grpc", "grpc")
aio: Any = need("grpc", "grpc.aio")

_GRACE_S = 30.0
_OPEN = {"ServerLive", "ServerReady"}  # who balances load shows no key
_WHILE_STARTING = {*_OPEN, "ModelReady"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
_TOLD = 3_000  # bytes of a message as gRPC sends it; beyond 8 KiB of headers a client takes nothing
_ROUND_TRIPS = 64 << 10  # bytes that a client may send before it is asked to go on
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@dataclass
class _Facts:
    """What is told of one call."""

    request_id: str
    key_name: str | None = None
    model: str = ""


_FACTS: ContextVar[_Facts] = ContextVar("imagelake_grpc_facts")


@contextlib.asynccontextmanager
async def serving_grpc(
    site: Site,
    host: str,
    port: int,
    options: GuardOptions | None = None,
    *,
    grace_s: float = _GRACE_S,
    tls: tuple[Path, Path] | None = None,
) -> AsyncIterator[str]:
    """Serve from entering to leaving; then what was accepted is finished, for at most `grace_s`.

    Args:
        site: what to serve.
        host: an address of this machine, or a name of one.
        port: 0 for any that is free.
        options: who may ask: its keys and its rate limit; and the log.
        grace_s: how long calls may still take when it ends.
        tls: files of a certificate and its key, in PEM; None: plain.

    Yields:
        Where it listens, as `host:port`.

    Raises:
        InputError: the address cannot be had, or the certificate cannot be used.
    """
    given = options or GuardOptions()
    limits = site.limits
    server = aio.server(
        interceptors=[_Gate(site, given)],
        options=[
            ("grpc.max_receive_message_length", limits.max_body + FRAMING),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error
            ("grpc.max_concurrent_streams", limits.max_concurrency),  # of each connection
            ("grpc.http2.bdp_probe", 0),  # else what calls send before they are read grows to megabytes each
            ("grpc.http2.lookahead_bytes", _ROUND_TRIPS),
        ],
        maximum_concurrent_rpcs=limits.max_concurrency,
    )
    server.add_generic_rpc_handlers((_Door(site, given).handlers(),))
    place = f"[{host}]" if ":" in host else host
    credentials = _credentials(*tls) if tls else None
    try:
        listen_at = f"{place}:{port}"
        bound = server.add_secure_port(listen_at, credentials) if tls else server.add_insecure_port(listen_at)
    except RuntimeError:
        bound = 0
    if not bound:
        raise InputError(f"Cannot listen on {place}:{port}. Give an address of this machine and a free port, or 0.")
    await server.start()
    try:
        yield f"{place}:{bound}"
    finally:
        await server.stop(grace_s)


def _credentials(certificate: Path, key: Path) -> Any:
    try:
        return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    except OSError as error:
        raise InputError(
            f"TLS cannot be used with {certificate} and {key}: {error.strerror}. Give PEM files."
        ) from None


class _Gate(aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses a call before its message is read."""

    def __init__(self, site: Site, options: GuardOptions) -> None:
        self._site = site
        self._options = options

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Hand on the call, or a stand-in that answers it with the refusal."""
        headers = {key: value for key, value in details.invocation_metadata or () if isinstance(value, str)}
        given = headers.get("x-request-id", "")
        facts = _Facts(given if _REQUEST_ID.match(given) else os.urandom(8).hex())
        _FACTS.set(facts)
        REQUEST_ID.set(facts.request_id)
        try:
            self._admit(details.method.rpartition("/")[2], headers, facts)
        except RefusedError as refusal:
            message, code = str(refusal), _code(refusal)

            async def refuse(_: Any, context: Any) -> None:
                await context.abort(code, message)

            return grpc.stream_stream_rpc_method_handler(refuse)  # of this kind, since it may answer unread
        return await continuation(details)

    def _admit(self, name: str, headers: Mapping[str, str], facts: _Facts) -> None:
        keys = self._options.keys
        if keys is not None and name not in _OPEN:
            shown = shown_key(*(headers.get(each, "").encode() for each in ("authorization", "x-api-key")))
            facts.key_name = keys.name_of(shown)
            if facts.key_name is None:
                raise RefusedError(
                    401, "The API key is missing or wrong. Show one in the metadata: authorization: Bearer KEY, or "
                    "x-api-key: KEY.",
                )  # fmt: skip
        if self._site.lifecycle.starting and name not in _WHILE_STARTING:
            raise RefusedError(503, "The models are not open yet. Send it again later.")


def _code(error: BaseException) -> Any:
    return _CODES.get(grpc_status(error), grpc.StatusCode.INTERNAL)


def _told(error: Exception) -> str:
    """The message of an error, no longer than a client takes it: what is no ASCII is sent as three letters a byte."""
    text = message_of(error).encode("utf-8", "replace").decode()
    sizes = (1 if " " <= letter <= "~" else 3 * len(letter.encode()) for letter in text)
    left = _TOLD
    for place, size in enumerate(sizes):
        left -= size
        if left < 0:
            return text[:place] + "..."
    return text


_NAMES = {
    "ServerLive": "server_live",
    "ServerReady": "server_ready",
    "ModelReady": "model_ready",
    "ServerMetadata": "server_metadata",
    "ModelMetadata": "model_metadata",
    "ModelConfig": "model_config",
    "ModelStatistics": "statistics",
    "RepositoryIndex": "index",
    "RepositoryModelLoad": "load",
    "RepositoryModelUnload": "unload",
}


class _Door:
    """The calls as gRPC sees them: an error is a status, and each call is told to the log.

    All are handlers of streams, since these ask for their message themselves, when there is room for it.
    """

    def __init__(self, site: Site, options: GuardOptions) -> None:
        self._options = options
        self._intake = Intake(site.limits, site.budget)
        self._calls = Calls(site)
        self._streams = 0

    def handlers(self) -> Any:
        """Of each call of the service."""
        found = {}
        for method in methods():
            answer = self._streaming if method.client_streaming else self._answering(method)
            found[method.name] = grpc.stream_stream_rpc_method_handler(answer)  # of bytes
        return grpc.method_handlers_generic_handler(SERVICE, found)

    def _answering(self, method: Any) -> Callable[[Any, Any], Awaitable[None]]:
        kind = method.input_type.name

        async def make(context: Any) -> bytes:
            if method.name not in _OPEN:
                self._check_rate(context)
            data, room = await self._intake.first(context)
            if method.name == "ModelInfer":
                asked = await self._calls.read(data)
                del data  # the arrays keep what they need of it
                _FACTS.get().model = asked.model
                made = await self._calls.infer(asked, context)
            else:
                message = read_small(kind, data)
                _FACTS.get().model = getattr(message, "model_name", "") or getattr(message, "name", "")
                made = await getattr(self._calls, _NAMES[method.name])(message, context)
            del room  # until here it was counted
            answer: bytes = made.SerializeToString()
            return answer

        async def answer(_: Any, context: Any) -> None:
            await self._ended_well(method.name, context, make)

        return answer

    async def _streaming(self, _: Any, context: Any) -> None:
        """Answer the requests of a stream one after the other; an error is an answer too, and ends nothing."""

        async def make(context: Any) -> None:
            most = 2 * self._intake.at_once
            if self._streams >= most:
                raise RefusedError(503, f"{most} streams are open, and more are not taken. Send it again later.")
            self._streams += 1
            try:
                await self._stream(context)
            finally:
                self._streams -= 1

        await self._ended_well("ModelStreamInfer", context, make)

    async def _stream(self, context: Any) -> None:
        while isinstance(data := await context.read(), bytes):
            answer = messages().ModelStreamInferResponse()
            try:
                self._check_rate(context)
                _, room = self._intake.kept(data)
                asked = await self._calls.read(data)
                answer.infer_response.CopyFrom(await self._calls.infer(asked, context))
                del room, asked
            except Exception as error:  # noqa: BLE001  (as in _ended_well)
                answer.error_message = _told(error)
                answer.infer_response.id = id_of(data)
            del data
            await context.write(answer.SerializeToString())

    async def _ended_well(self, name: str, context: Any, make: Callable[[Any], Awaitable[bytes | None]]) -> None:
        """Answer a call, with what is made for it or with a status, and tell the log."""
        started, code, told = time.perf_counter(), grpc.StatusCode.CANCELLED, ""
        try:
            made = await make(context)
            if made is not None:
                await context.write(made)
            code = grpc.StatusCode.OK
        except Exception as error:  # noqa: BLE001  (a defect is logged, and its caller told no more than that)
            code, told = _code(error), _told(error)
        finally:
            self._tell(name, code, time.perf_counter() - started)
        if code is not grpc.StatusCode.OK:
            await context.abort(code, told)

    def _check_rate(self, context: Any) -> None:
        """Of a key, or, where there are none, of an address."""
        limit = self._options.rate_limit
        if limit is None:
            return
        wait_s = limit.wait_s(_FACTS.get().key_name or context.peer().rpartition(":")[0])
        if wait_s:
            raise RefusedError(
                429, f"At most {limit.per_second:g} requests a second are taken of each caller. Send it again after "
                f"{wait_s:.2g} s.",
            )  # fmt: skip

    def _tell(self, name: str, code: Any, seconds: float) -> None:
        """Write a line to the log."""
        log = self._options.log
        if log is None:
            return
        facts = _FACTS.get()
        level = logging.WARNING if code is grpc.StatusCode.INTERNAL else logging.INFO
        told = {
            "request_id": facts.request_id,
            "method": "gRPC",
            "path": f"/{SERVICE}/{name}",
            "status": code.name,
            "ms": round(seconds * 1000, 3),
            "protocol": "oip-grpc",
            "model": facts.model[:100] or None,
            "key": facts.key_name,
        }
        log.tell(logging.DEBUG if name in _OPEN else level, "request", told)
