"""The Open Inference Protocol over gRPC, on a port of its own, beside the HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from imagelake._optional import need
from imagelake.errors import BusyError, ImagelakeError, InputError
from imagelake.serve.api_keys import shown_key
from imagelake.serve.errors_http import REQUEST_ID, message_of, status_of
from imagelake.serve.guard import GuardOptions
from imagelake.serve.oip_documents import (
    model_config,
    model_metadata,
    model_statistics,
    repository_index,
    server_metadata,
)
from imagelake.serve.oip_grpc_codec import as_message, read_request, write_response
from imagelake.serve.oip_grpc_schema import SERVICE, messages, methods
from imagelake.serve.site import Site

grpc: Any = need("grpc", "grpc")
aio: Any = need("grpc", "grpc.aio")

_FRAMING = 64 << 10  # what a message has besides its tensors
_GRACE_S = 30.0
_OPEN = {"ServerLive", "ServerReady"}  # who balances load shows no key
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
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


class _RefusedError(ImagelakeError):
    """A call that is not taken, with the status that HTTP would give it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class _Facts:
    """What is told of one call."""

    request_id: str
    key_name: str | None = None


_FACTS: ContextVar[_Facts] = ContextVar("imagelake_grpc_facts")


@contextlib.asynccontextmanager
async def serving_grpc(
    site: Site, host: str, port: int, options: GuardOptions | None = None, *, grace_s: float = _GRACE_S
) -> AsyncIterator[str]:
    """Serve from entering to leaving; then what was accepted is finished, for at most `grace_s`.

    Args:
        site: what to serve.
        host: an address of this machine, or a name of one.
        port: 0 for any that is free.
        options: who may ask: its keys and its rate limit; and the log.
        grace_s: how long calls may still take when it ends.

    Yields:
        Where it listens, as `host:port`.

    Raises:
        InputError: the address cannot be had.
    """
    given = options or GuardOptions()
    server = aio.server(
        interceptors=[_Gate(given)],
        options=[
            ("grpc.max_receive_message_length", site.limits.max_body + _FRAMING),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error
        ],
        maximum_concurrent_rpcs=site.limits.max_concurrency,
    )
    server.add_generic_rpc_handlers((_handlers(_Calls(site, given)),))
    place = f"[{host}]" if ":" in host else host
    try:
        bound = server.add_insecure_port(f"{place}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise InputError(f"Cannot listen on {place}:{port}. Give an address of this machine and a free port, or 0.")
    await server.start()
    try:
        yield f"{place}:{bound}"
    finally:
        await server.stop(grace_s)


class _Gate(aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses a call before its message is read."""

    def __init__(self, options: GuardOptions) -> None:
        self._options = options

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Hand on the call, or a stand-in that answers it with the refusal."""
        headers = {key: value for key, value in details.invocation_metadata or () if isinstance(value, str)}
        given = headers.get("x-request-id", "")
        facts = _Facts(given if _REQUEST_ID.match(given) else os.urandom(8).hex())
        _FACTS.set(facts)
        REQUEST_ID.set(facts.request_id)
        try:
            if details.method.rpartition("/")[2] not in _OPEN:
                self._admit(headers, facts)
        except _RefusedError as refusal:
            message, code = str(refusal), _code(refusal)

            async def refuse(_: Any, context: Any) -> None:
                await context.abort(code, message)

            return grpc.stream_stream_rpc_method_handler(refuse)  # of this kind, since it may answer unread
        return await continuation(details)

    def _admit(self, headers: Mapping[str, str], facts: _Facts) -> None:
        keys = self._options.keys
        if keys is None:
            return
        shown = shown_key(*(headers.get(name, "").encode() for name in ("authorization", "x-api-key")))
        facts.key_name = keys.name_of(shown)
        if facts.key_name is None:
            raise _RefusedError(
                401, "The API key is missing or wrong. Show one in the metadata: authorization: Bearer KEY, or "
                "x-api-key: KEY.",
            )  # fmt: skip
        _check_rate(self._options, facts.key_name)


def _check_rate(options: GuardOptions, caller: str) -> None:
    wait_s = options.rate_limit.wait_s(caller) if options.rate_limit else 0.0
    if wait_s and options.rate_limit:
        raise _RefusedError(
            429, f"At most {options.rate_limit.per_second:g} requests a second are taken of each caller. Send it again "
            f"after {wait_s:.2g} s.",
        )  # fmt: skip


def _code(error: Exception) -> Any:
    status = error.status if isinstance(error, _RefusedError) else status_of(error)
    return _CODES.get(status, grpc.StatusCode.INTERNAL)


def _told(error: Exception) -> str:
    return message_of(error).encode("utf-8", "replace").decode()


def _handlers(calls: _Calls) -> Any:
    """The calls of the service, as gRPC wants them."""
    known = messages()
    handlers = {}
    for method in methods():
        streams = method.client_streaming
        kind = grpc.stream_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        call = getattr(calls, _NAMES[method.name])
        handlers[method.name] = kind(
            call if streams else _answering(calls, method.name, call),
            request_deserializer=getattr(known, method.input_type.name).FromString,
            response_serializer=getattr(known, method.output_type.name).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


_NAMES = {
    "ServerLive": "server_live",
    "ServerReady": "server_ready",
    "ModelReady": "model_ready",
    "ServerMetadata": "server_metadata",
    "ModelMetadata": "model_metadata",
    "ModelInfer": "infer",
    "ModelStreamInfer": "stream",
    "ModelConfig": "model_config",
    "ModelStatistics": "statistics",
    "RepositoryIndex": "index",
    "RepositoryModelLoad": "load",
    "RepositoryModelUnload": "unload",
}


def _answering(calls: _Calls, name: str, call: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    """The call as gRPC sees it: an error is a status, and each call is told to the log."""

    async def answer(message: Any, context: Any) -> Any:
        started, code = time.perf_counter(), grpc.StatusCode.CANCELLED
        model = getattr(message, "model_name", "") or getattr(message, "name", "")
        try:
            if name not in _OPEN:
                calls.check_peer(context)
            made = await call(message, context)
            code = grpc.StatusCode.OK
        except Exception as error:  # noqa: BLE001  (a defect is logged, and its caller told no more than that)
            code, told = _code(error), _told(error)
        finally:
            calls.tell(name, code, model, time.perf_counter() - started)
        if code is not grpc.StatusCode.OK:
            await context.abort(code, told)
        return made

    return answer


@dataclass(frozen=True)
class _Calls:
    """The calls; each takes a message and the context of the call."""

    site: Site
    options: GuardOptions = field(default_factory=GuardOptions)

    def check_peer(self, context: Any) -> None:
        """Where there are no keys, the rate is that of an address."""
        if self.options.keys is None:
            _check_rate(self.options, context.peer().rpartition(":")[0])

    def tell(self, name: str, code: Any, model: str, seconds: float) -> None:
        """Write a line to the log."""
        log = self.options.log
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
            "model": model[:100] or None,
            "key": facts.key_name,
        }
        log.tell(logging.DEBUG if name in _OPEN else level, "request", told)

    async def server_live(self, _message: Any, _context: Any) -> Any:
        return messages().ServerLiveResponse(live=True)

    async def server_ready(self, _message: Any, _context: Any) -> Any:
        return messages().ServerReadyResponse(ready=self.site.ready())

    async def model_ready(self, message: Any, _context: Any) -> Any:
        return messages().ModelReadyResponse(ready=self.site.plane.ready(message.name, message.version or None))

    async def server_metadata(self, _message: Any, _context: Any) -> Any:
        site = self.site
        told = server_metadata(site.server_name, site.version, repository=site.open_model is not None)
        return as_message("ServerMetadataResponse", told)

    async def model_metadata(self, message: Any, _context: Any) -> Any:
        model = self.site.plane.model(message.name, message.version or None)
        versions = [model.version] if message.version else self.site.plane.versions(model.name)
        return as_message("ModelMetadataResponse", model_metadata(model, versions))

    async def model_config(self, message: Any, _context: Any) -> Any:
        model = self.site.plane.model(message.name, message.version or None)
        return as_message("ModelConfigResponse", {"config": model_config(model)})

    async def statistics(self, message: Any, _context: Any) -> Any:
        found = self.site.plane.statistics(message.name or None, message.version or None)
        return as_message("ModelStatisticsResponse", model_statistics(found))

    async def infer(self, message: Any, context: Any) -> Any:
        limits, plane = self.site.limits, self.site.plane
        asked = read_request(message, limits.max_tensors)
        room = self.site.budget.buffer(message.ByteSize())  # counted until it is answered
        del message
        model = plane.model(asked.model, asked.version)
        allowed = [limits.timeout_s, asked.timeout_s, context.time_remaining()]
        future = plane.submit(
            model.name,
            asked.inputs,
            asked.outputs,
            version=asked.version,
            timeout_s=max(0.0, min(seconds for seconds in allowed if seconds is not None)),
            protocol="oip-grpc",
        )
        answering: asyncio.Future[Any] = asyncio.wrap_future(future)  # who goes away cancels it
        try:
            return write_response(asked, model, await answering)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise BusyError("The request was dropped before it was answered. Send it again.") from None
        finally:
            del room, future, answering

    async def stream(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Answer the requests of a stream one after the other; an error is an answer too, and ends nothing."""
        async for message in requests:
            answer = messages().ModelStreamInferResponse()
            try:
                self.check_peer(context)
                answer.infer_response.CopyFrom(await self.infer(message, context))
            except Exception as error:  # noqa: BLE001  (as in _answering)
                answer.error_message = _told(error)
                answer.infer_response.id = message.id
            yield answer

    async def index(self, message: Any, _context: Any) -> Any:
        plane = self.site.plane
        states = [
            (name, version, plane.ready(name, version)) for name in plane.names() for version in plane.versions(name)
        ]
        return as_message("RepositoryIndexResponse", {"models": repository_index(states, only_ready=message.ready)})

    async def load(self, message: Any, _context: Any) -> Any:
        open_model, name = self._open_model(), message.model_name
        if message.parameters:
            raise InputError(
                f"The load has the parameters {', '.join(sorted(message.parameters))[:200]}; none are taken. Models "
                "come from the server's own registry, by their name."
            )
        await asyncio.to_thread(lambda: self.site.plane.load(open_model(name)))
        return messages().RepositoryModelLoadResponse()

    async def unload(self, message: Any, _context: Any) -> Any:
        self._open_model()
        await asyncio.to_thread(self.site.plane.unload, message.model_name)
        return messages().RepositoryModelUnloadResponse()

    def _open_model(self) -> Callable[[str], Any]:
        if self.site.open_model is None:
            raise _RefusedError(403, "Models cannot be loaded or unloaded here; the server was not started so.")
        return self.site.open_model
