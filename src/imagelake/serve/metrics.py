"""What the server counts and measures, for Prometheus: a registry of its own, with names that are bounded."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_MOST_MODELS = 1_000  # labels; the rest is counted together
_OTHER = "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})


class Metrics:
    """The numbers of one server. It is the plane's observer; all methods may be called from any thread.

    A label is only ever a model that is or was served (the plane tells of no other), a protocol, an outcome, a reason,
    a method or a status: what a caller writes never becomes one.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._models: set[str] = set()
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        by_model = ("model",)
        self._requests = self._counter(
            "requests", "Requests to models, by what became of them.", "model", "protocol", "outcome"
        )
        self._seconds = self._histogram(
            "request_seconds", "From a request's arrival at the models to its answer.", _SECONDS, "model", "protocol"
        )
        self._queue_seconds = self._histogram("queue_seconds", "How long requests waited.", _SECONDS, *by_model)
        self._compute_seconds = self._histogram("compute_seconds", "How long batches computed.", _SECONDS, *by_model)
        self._rows = self._histogram("batch_rows", "Rows in a batch.", _ROWS, *by_model)
        self._depth = self._gauge("queue_requests", "Requests that wait.", *by_model)
        self._http = self._counter("http_requests", "Requests over HTTP.", "protocol", "method", "status")
        self._http_seconds = self._histogram(
            "http_request_seconds", "From the head of a request to the end of its answer.", _SECONDS, "protocol"
        )
        self._refused = self._counter("refused", "Requests that were turned away at the edge.", "reason")
        self.in_flight = self._gauge("in_flight_requests", "Requests over HTTP that are at work.")
        self.body_bytes = self._gauge("body_bytes", "Memory that the bodies of requests take.")

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"imagelake_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"imagelake_{name}", about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"imagelake_{name}", about, labels, registry=self.registry, buckets=buckets)

    def finished(self, model: str, version: str, protocol: str, outcome: str, seconds: float) -> None:
        """A request to a model ended: of the plane's `Observer`. Versions are no label: callers name them."""
        del version
        name = self._label(model)
        self._requests.labels(name, protocol, outcome).inc()
        self._seconds.labels(name, protocol).observe(seconds)

    def batch(self, model: str, rows: int, queue_s: Sequence[float], compute_s: float) -> None:
        """A batch was computed: of the plane's `Observer`."""
        name = self._label(model)
        self._rows.labels(name).observe(rows)
        self._compute_seconds.labels(name).observe(compute_s)
        waited = self._queue_seconds.labels(name)
        for seconds in queue_s:
            waited.observe(seconds)

    def depth(self, model: str, requests: int) -> None:
        """So many requests wait for a model: of the plane's `Observer`."""
        self._depth.labels(self._label(model)).set(requests)

    def answered(self, protocol: str, method: str, status: int, seconds: float) -> None:
        """A request over HTTP was answered, or its caller went away (499)."""
        key = (protocol, method if method in _METHODS else _OTHER, str(status))
        found = self._answers.get(key)
        if found is None:  # finding the two by their labels costs more than counting
            found = self._answers[key] = (self._http.labels(*key), self._http_seconds.labels(protocol))
        found[0].inc()
        found[1].observe(seconds)

    def refused(self, reason: str) -> None:
        """A request was turned away at the edge."""
        self._refused.labels(reason).inc()

    def page(self, accept: str) -> tuple[bytes, str]:
        """The numbers, in the form that the Accept header asks for, and its media type."""
        encode, kind = choose_encoder(accept)
        return encode(self.registry), kind

    def _label(self, model: str) -> str:
        if model in self._models:
            return model
        with self._lock:
            if len(self._models) < _MOST_MODELS:
                self._models.add(model)
                return model
        return _OTHER
