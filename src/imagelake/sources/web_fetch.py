"""Fetch one picture over HTTP: guarded connections, redirects, limits of time and bytes, and what is worth a retry."""

from __future__ import annotations

import http.client
import math
import ssl
import threading
import time
import zlib
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from imagelake.errors import InputError
from imagelake.sources.web_answer import Answer, FailedError, FetchLimits, explain, refusal
from imagelake.sources.web_guard import (
    ClosedError,
    Guard,
    GuardedConnection,
    GuardedTlsConnection,
    Target,
    Try,
    Watch,
    parse_target,
    without_user,
)

_CHUNK_BYTES = 64 << 10
_LEFT_UNREAD_BYTES = 64 << 10  # of an answer that is not wanted; beyond it a new connection costs less
_MOST_POOLS = 256
_LEFT_UNREAD_READS = 8
_REDIRECTS = {301, 302, 303, 307, 308}
_PICTURES = {200, 203}
_CODINGS = {"", "identity", "gzip", "x-gzip", "deflate"}


@dataclass
class Budget:
    """Bytes that may wait, on their way or fetched and not yet consumed.

    Where they are all taken by pictures that are half here, one of those passes, so that nothing gets stuck.
    """

    limit: int
    used: int = 0
    finished: int = 0
    passing: Try | None = None
    closed: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, who: Try, size: int) -> None:
        """Wait for room. The wait does not count as time of the try."""
        with self.changed:
            if not self._passes(who, size):
                began, deadline, who.deadline = time.monotonic(), who.deadline, math.inf
                self.changed.wait_for(lambda: self._passes(who, size))
                who.deadline = deadline + time.monotonic() - began
            if self.closed:
                raise ClosedError
            if self.used + size > self.limit:
                self.passing = who
            self.used += size
            who.held_bytes += size

    def _passes(self, who: Try, size: int) -> bool:
        fits = self.used + size <= self.limit
        return self.closed or fits or (self.finished == 0 and self.passing in (None, who))

    def settle(self, who: Try, kept: int) -> None:
        """The try is over, and holds `kept` bytes until they are consumed."""
        with self.changed:
            self.used += kept - who.held_bytes
            self.finished += kept
            if self.passing is who:
                self.passing = None
            self.changed.notify_all()

    def consume(self, size: int) -> None:
        """Fetched bytes are handed on."""
        with self.changed:
            self.used -= size
            self.finished -= size
            self.changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any more."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = GuardedConnection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = GuardedTlsConnection


class Fetcher:
    """Fetches pictures from any number of threads; keeps connections for the next picture of the same host.

    Proxies of the environment are not used: through a proxy nobody can tell which address is asked.
    """

    def __init__(self, limits: FetchLimits, guard: Guard, budget: Budget, per_host: int) -> None:
        self.limits = limits
        self.budget = budget
        self.watch = Watch()
        self._guard = guard
        self._per_host = per_host
        self._pools: OrderedDict[tuple[str, str, int], urllib3.HTTPConnectionPool] = OrderedDict()
        self._lock = threading.Lock()
        self._tls = ssl.create_default_context()
        self._headers = {
            "User-Agent": limits.user_agent,
            "Accept": "image/*,*/*;q=0.8",
            "Accept-Encoding": "identity",  # pictures are packed already
        }

    def close(self) -> None:
        """End what is on its way, and close every connection."""
        self.watch.close()
        self.budget.close()
        with self._lock:
            for pool in self._pools.values():
                pool.close()

    def fetch(self, target: Target, allowed_s: float) -> Answer:
        """One try, of at most so many seconds.

        Raises:
            ClosedError: the fetcher was closed.
        """
        current = Try(time.monotonic() + allowed_s)
        answer = Answer()
        with self.watch.watching(current):
            try:
                answer = Answer(self._follow(target, current))
            except FailedError as error:
                answer = error.answer
            except InputError as error:
                answer = Answer(reason=str(error))
            except (HTTPError, OSError, http.client.HTTPException) as error:
                answer = explain(error, self.limits)
            finally:
                self.budget.settle(current, len(answer.data or b""))
        left_s = current.deadline - time.monotonic()
        if answer.data is None:
            if self.watch.closed:
                raise ClosedError
            if left_s <= 0:
                answer = Answer(reason=f"it took longer than {self.limits.total_timeout_s:g} s in all")
        return replace(answer, talked_s=allowed_s - left_s)

    def _follow(self, target: Target, current: Try) -> bytes:
        """The bytes at an address or where it leads to."""
        start, seen = target, set()
        for _ in range(self.limits.max_redirects + 1):
            seen.add((target.origin, target.path))
            try:
                response = self._ask(target, start.authorization if target.origin == start.origin else None, current)
            except InputError as error:
                raise error if target is start else InputError(f"it redirects to {target.uri}: {error}") from error
            try:
                if response.status in _PICTURES:
                    return self._body(response, current)
                _leave(response)
                if response.status not in _REDIRECTS:
                    raise refusal(response)
            finally:
                response.close()  # only a connection whose answer was not read to its end
                response.release_conn()
            target = _onward(target, response)
            if (target.origin, target.path) in seen:
                raise FailedError(f"it redirects in a circle, back to {target.uri}")
        raise FailedError(f"it redirects more than {self.limits.max_redirects} times")

    def _ask(self, target: Target, authorization: str | None, current: Try) -> BaseHTTPResponse:
        left_s = max(0.001, current.deadline - time.monotonic())
        limits = self.limits
        return self._pool(target).urlopen(
            "GET",
            target.path,
            headers=self._headers | ({"Authorization": authorization} if authorization else {}),
            retries=False,
            redirect=False,
            timeout=urllib3.Timeout(
                connect=min(limits.connect_timeout_s, left_s), read=min(limits.read_timeout_s, left_s)
            ),
            pool_timeout=left_s,  # type: ignore[arg-type]  # queue.get takes a fraction
            preload_content=False,
        )

    def _pool(self, target: Target) -> urllib3.HTTPConnectionPool:
        with self._lock:
            pool = self._pools.get(target.origin)
            if pool is None:
                options: dict[str, Any] = {
                    "maxsize": self._per_host,
                    "block": True,
                    "guard": self._guard,
                    "watch": self.watch,
                }
                if target.scheme == "https":
                    pool = _TlsPool(target.host, target.port, ssl_context=self._tls, **options)
                else:
                    pool = _PlainPool(target.host, target.port, **options)
                self._pools[target.origin] = pool
                if len(self._pools) > _MOST_POOLS:
                    self._pools.popitem(last=False)  # its connections are closed when nobody uses them any more
            self._pools.move_to_end(target.origin)
            return pool

    def _body(self, response: BaseHTTPResponse, current: Try) -> bytes:
        """What the answer holds, unpacked."""
        coding = response.headers.get("content-encoding", "").strip().lower()
        if coding not in _CODINGS:
            raise FailedError(f"it is sent packed as {coding[:40]!r}; gzip and deflate are understood")
        announced = response.length_remaining
        self._check_size(announced or 0)
        pieces: list[bytes] = []
        size = 0
        while (left := response.length_remaining) != 0:
            if left == 1 and _more_than_announced(response):
                raise FailedError(f"the server sends more than the {announced:,} bytes that it announced")
            wanted = _CHUNK_BYTES if left is None else min(_CHUNK_BYTES, max(1, left - 1))  # the last byte alone
            piece = response.read1(wanted, decode_content=False)
            if not piece:
                break
            size += len(piece)
            self._check_size(size)
            self.budget.take(current, len(piece))
            pieces.append(piece)
            if time.monotonic() > current.deadline:
                break
        if time.monotonic() > current.deadline:  # a connection that was cut looks like the end of what has no length
            raise FailedError("out of time")
        if not pieces and announced is None:  # http.client takes a connection that ends in the headers for their end
            raise FailedError("the connection broke off", again=True)
        data = b"".join(pieces)
        return data if coding in ("", "identity") else self._unpack(data, coding, current)

    def _check_size(self, size: int) -> None:
        if size > self.limits.max_bytes:
            raise FailedError(f"it has {size:,} bytes or more; the limit is {self.limits.max_bytes:,}")

    def _unpack(self, packed: bytes, coding: str, current: Try) -> bytes:
        """Undo gzip or deflate, never further than the limit."""
        pieces: list[bytes] = []
        size = 0
        bare = coding == "deflate" and packed[:1] and packed[0] & 0x0F != 8  # without the header that it should have
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32)
        try:
            while packed and not unpacker.eof:
                piece = unpacker.decompress(packed, _CHUNK_BYTES)
                packed = unpacker.unconsumed_tail
                size += len(piece)
                self._check_size(size)
                self.budget.take(current, len(piece))
                pieces.append(piece)
        except zlib.error as error:
            raise FailedError(f"it is sent packed as {coding}, and cannot be unpacked") from error
        if not unpacker.eof:
            raise FailedError("what the server sends, packed, ends too early", again=True)
        return b"".join(pieces)


def _leave(response: BaseHTTPResponse) -> None:
    """Read the rest of an answer that nobody wants, if it is short, so that its connection can be used again."""
    size = 0
    with suppress(HTTPError, OSError):
        for _ in range(_LEFT_UNREAD_READS):
            piece = response.read1(_CHUNK_BYTES, decode_content=False)
            size += len(piece)
            if not piece or size > _LEFT_UNREAD_BYTES:
                return


def _onward(target: Target, response: BaseHTTPResponse) -> Target:
    """Where a redirect leads to."""
    location = response.headers.get("location")
    if not location:
        raise FailedError(f"the server answers {response.status} and does not say where to")
    with suppress(UnicodeError):  # http.client reads headers as Latin-1, and many write UTF-8
        location = location.encode("latin-1").decode("utf-8")
    try:
        return parse_target(urljoin(target.base, location))
    except (InputError, ValueError) as error:
        reason = error if isinstance(error, InputError) else "not an address"
        raise FailedError(f"it redirects to {without_user(location)!r}: {reason}") from error


def _more_than_announced(response: BaseHTTPResponse) -> bool:
    """Whether bytes have come beyond the announced length, of which one is still to be read."""
    # http.client forgets what its buffer holds beyond the announced end, and only there it can be seen.
    buffer = getattr(getattr(response, "_fp", None), "fp", None)
    return buffer is not None and len(buffer.peek(2)) > 1
