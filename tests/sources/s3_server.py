"""An S3 server on this machine: moto, behind a layer that answers wrongly, slowly or in part where a test says so."""

import threading
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote

from werkzeug.serving import WSGIRequestHandler, make_server

KEY_ID, SECRET = "test", "testing-testing"
_PIECE_BYTES = 16 << 10


@dataclass
class Fault:
    """What happens to the requests of one key, or with `listing` to those that list.

    Attributes:
        times: of how many requests; None: of all.
        status: the answer instead of the true one.
        delay_s: how long the answer is held back.
        keep: how many bytes of the body are sent, under the true length.
        lie: bytes that come instead of the body.
        stall_s: how long the body stops after its first piece.
        method: of requests with this method only.
    """

    times: int | None = None
    status: int | None = None
    code: str = "InternalError"
    delay_s: float = 0.0
    keep: int | None = None
    lie: bytes | None = None
    stall_s: float = 0.0
    method: str = "GET"


@dataclass
class Seen:
    """What the server noticed.

    Attributes:
        asked: requests by method and key; one that lists has the key `?list`.
        most_at_once: how many pictures were being answered at a time, at most.
        signed: whether each request was signed.
    """

    asked: Counter = field(default_factory=Counter)
    most_at_once: int = 0
    signed: set = field(default_factory=set)
    busy: int = 0


class S3Server:
    """Starts on entering, stops on leaving. `buckets` are made at the start."""

    def __init__(self, *buckets: str) -> None:
        with warnings.catch_warnings():  # moto's own libraries use what is deprecated
            warnings.simplefilter("ignore")
            from moto.server import DomainDispatcherApplication, create_backend_app

            self._moto = DomainDispatcherApplication(create_backend_app)
            self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Silent)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._buckets = buckets
        self._lock = threading.Lock()
        self.faults: dict[str, Fault] = {}
        self.seen = Seen()

    def __enter__(self) -> Self:
        self._thread.start()
        self.reset()
        return self

    def __exit__(self, *_why: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def environment(self) -> dict[str, str]:
        """The variables with which the tools of AWS find the server."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ALLOW_HTTP": "true",  # the table format asks for it
        }

    def reset(self) -> None:
        """Forget all objects, faults and what was seen; the buckets are there and empty."""
        self._backend().reset()
        self.faults = {}
        self.seen = Seen()
        for name in self._buckets:
            self._backend().create_bucket(name, "us-east-1")

    @staticmethod
    def _backend():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from moto.s3.models import s3_backends

            return s3_backends["123456789012"]["aws"]

    def put(self, bucket: str, key: str, data: bytes, *, public: bool = False) -> None:
        """Store an object, past HTTP; only what is public may be read unsigned."""
        stored = self._backend().put_object(bucket, key, data)
        if public:
            from moto.s3.models import get_canned_acl

            stored.set_acl(get_canned_acl("public-read"))

    def keys(self, bucket: str) -> list[str]:
        """The keys of a bucket, sorted."""
        return sorted(self._backend().buckets[bucket].keys)

    def _answer(self, environ, start_response):
        method, key = environ["REQUEST_METHOD"], _key(environ)
        what = "?list" if method == "GET" and not key else key
        with self._lock:
            self.seen.asked[method, what] += 1
            self.seen.signed.add("HTTP_AUTHORIZATION" in environ)
            fault = self._due(method, what)
            counted = method == "GET" and bool(key)
            if counted:
                self.seen.busy += 1
                self.seen.most_at_once = max(self.seen.most_at_once, self.seen.busy)
        try:
            if fault is not None:
                time.sleep(fault.delay_s)
                if fault.status is not None:
                    return _refuse(fault, start_response)
            return self._pieces(environ, start_response, fault)
        finally:
            if counted:
                with self._lock:
                    self.seen.busy -= 1

    def _due(self, method: str, what: str) -> Fault | None:
        fault = self.faults.get(what)
        if fault is None or fault.method != method or fault.times == 0:
            return None
        if fault.times is not None:
            fault.times -= 1
        return fault

    def _pieces(self, environ, start_response, fault: Fault | None):
        if fault is None or (fault.keep is None and fault.lie is None and not fault.stall_s):
            return self._moto(environ, start_response)
        held = []
        body = b"".join(self._moto(environ, lambda status, headers, *_: held.extend((status, headers))))
        headers = held[1]
        if fault.lie is not None:
            body = fault.lie
            headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
            headers.append(("Content-Length", str(len(body))))
        start_response(held[0], headers)
        return _slowly(body if fault.keep is None else body[: fault.keep], fault.stall_s)


class _Silent(WSGIRequestHandler):
    def log(self, *_what: object) -> None:
        """Say nothing."""


def _key(environ) -> str:
    """What a request asks for; nothing where it is about a bucket."""
    raw = environ.get("RAW_URI", environ["PATH_INFO"]).split("?", 1)[0]
    return unquote(raw).lstrip("/").partition("/")[2]


def _refuse(fault: Fault, start_response):
    body = f"<Error><Code>{fault.code}</Code><Message>as the test wants it</Message></Error>".encode()
    start_response(f"{fault.status} Fault", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def _slowly(body: bytes, stall_s: float):
    yield body[:_PIECE_BYTES]
    if stall_s:
        time.sleep(stall_s)
    yield body[_PIECE_BYTES:]
