"""Traces of requests, by OpenTelemetry (the extra `otel`): a span a request, in the trace of its caller.

Below it are the spans `queue` and `compute` of each request to a model that was made for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from imagelake import __version__
from imagelake._optional import need
from imagelake.errors import InputError

if TYPE_CHECKING:
    from imagelake.serve.guard import RequestFacts
    from imagelake.serve.request import Request

_SERVER_ERROR = 500
_CLOSE_MS = 2_000


class Tracing:
    """Makes spans and sends them, in batches on a thread of its own, to a collector.

    Args:
        endpoint: its address over HTTP, such as `http://127.0.0.1:4318`; `/v1/traces` is added where there is no path.
        service: the name of this server in traces.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.
        InputError: the address is none.
    """

    def __init__(self, endpoint: str, service: str = "imagelake") -> None:
        exporter = need("otel", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
        sdk = need("otel", "opentelemetry.sdk.trace")
        export = need("otel", "opentelemetry.sdk.trace.export")
        resources = need("otel", "opentelemetry.sdk.resources")
        self._trace = need("otel", "opentelemetry.trace")
        self._context = need("otel", "opentelemetry.trace.propagation.tracecontext").TraceContextTextMapPropagator()
        resource = resources.Resource.create({"service.name": service, "service.version": __version__})
        self._provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
        sender = exporter.OTLPSpanExporter(endpoint=_whole(endpoint), timeout=5)
        self._provider.add_span_processor(export.BatchSpanProcessor(sender))
        self._tracer = self._provider.get_tracer("imagelake.serve", __version__)

    def start(self, scope: Scope, headers: Mapping[bytes, bytes]) -> RequestSpan:
        """A span for a request, below the one that its `traceparent` names."""
        carrier = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        parent = self._context.extract(carrier) if carrier else None
        about = {"http.request.method": scope["method"], "url.path": scope["raw_path"][:200].decode("latin-1")}
        span = self._tracer.start_span("request", parent, self._trace.SpanKind.SERVER, about)
        return RequestSpan(self._trace, self._tracer, span)

    def close(self) -> None:
        """Send what was not sent yet, for a bounded time."""
        self._provider.force_flush(_CLOSE_MS)
        self._provider.shutdown()


class RequestSpan:
    """The span of one request.

    Attributes:
        requests: to models that were made for it; whoever makes one adds it.
    """

    def __init__(self, trace: Any, tracer: Any, span: Any) -> None:
        self._trace = trace
        self._tracer = tracer
        self._span = span
        self.requests: list[Request] = []

    def active(self) -> AbstractContextManager[Any]:
        """Inside, spans that are started are children of this one."""
        found: AbstractContextManager[Any] = self._trace.use_span(self._span, end_on_exit=False)
        return found

    def end(self, status: int, facts: RequestFacts) -> None:
        """Write down what became of the request."""
        span = self._span
        if self.requests and facts.model:  # else the model is what the caller calls it
            span.update_name(f"{facts.protocol} {facts.model}")
        else:
            span.update_name(facts.protocol)
        span.set_attribute("http.response.status_code", status)
        span.set_attribute("imagelake.request_id", facts.request_id)
        if facts.model:
            span.set_attribute("imagelake.model", facts.model[:100])
        if status >= _SERVER_ERROR:
            span.set_status(self._trace.StatusCode.ERROR)
        if span.is_recording():
            for request in self.requests:
                self._tell_model(request)
        self.requests.clear()
        span.end()

    def _tell_model(self, request: Request) -> None:
        """Add how long a request waited for its model, and how long it was computed."""
        now_s, now_ns = time.monotonic(), time.time_ns()
        ended = now_s if request.ended is None else request.ended
        taken = ended if request.taken is None else request.taken
        about = {} if request.rows is None else {"imagelake.rows": request.rows}
        inside = self._trace.set_span_in_context(self._span)
        for name, start, stop in (("queue", request.came, taken), ("compute", taken, ended)):
            if name == "compute" and request.taken is None:
                continue
            begin, end = (now_ns - int((now_s - moment) * 1e9) for moment in (start, stop))
            span = self._tracer.start_span(name, inside, attributes=about, start_time=begin)
            span.set_attribute("imagelake.outcome", request.outcome() if request.done() else "cancelled")
            span.end(end_time=max(begin, end))


def _whole(endpoint: str) -> str:
    scheme, separator, rest = endpoint.partition("://")
    if scheme not in {"http", "https"} or not separator or not rest.strip("/"):
        raise InputError(
            f"{endpoint!r} is no address of a collector of traces. Give one such as http://127.0.0.1:4318."
        )
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}/{path or 'v1/traces'}"
