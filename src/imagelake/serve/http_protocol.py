"""HTTP/1.1 as uvicorn reads it, with a limit on the head of a request, and on what may wait behind it."""

from __future__ import annotations

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 << 10  # bytes of the first line and all headers
MAX_HEADERS = 128
MAX_PIPELINED = 128  # requests that wait for the one before them on their connection

_TOO_LARGE = b"The head of the request is too large.\n"
_ANSWER = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b"
)
_UPGRADE = frozenset({b"upgrade", b"http2-settings"})


class _StopError(Exception):
    """Stops the parser."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. The parser itself takes heads and trailers of any length, whole lines into memory."""

    _heading = False
    _fresh = False  # whether the head began in the data at hand, of which the front may be of a request before
    _head_size = 0
    _head_arrived = 0
    _broken = False  # whether the parser stopped for good
    _besides = 0  # bytes after the head that were no part of the body, since the last that were

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection is there; its first head begins."""
        super().connection_made(transport)
        self._begin_head()
        self._fresh = False

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        self._unset_keepalive_if_required()
        if self._broken:
            return
        self._besides += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")
            return
        if self.transport.is_closing():
            return
        if self._heading and not self._fresh:
            self._head_arrived += len(data)
        self._fresh = False
        if self._head_arrived > MAX_HEAD or (not self._heading and self._besides > MAX_HEAD):
            self._head_size = MAX_HEAD + 1
            self.send_400_response("")

    def _feed(self, data: bytes) -> None:
        """Let the parser read on; an offer to change to another protocol is passed over, body and all.

        The parser stops at such an offer and does not read the body, so another one reads the head without it.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stopped:
                version = self.parser.get_http_version().encode()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                kept = [each for each in self.headers if each[0] not in _UPGRADE]
                lines = [b"%b %b HTTP/%b" % (self.scope["method"].encode(), self.url, version)]
                head = b"\r\n".join([*lines, *(b"%b: %b" % each for each in kept), b"", b""])
                data = head + data[stopped.args[0] :]
            else:
                return

    def on_message_begin(self) -> None:
        """A head begins."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _StopError
        self._begin_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the first line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what stands behind a body is none, and nobody reads it."""
        self._count(len(name) + len(value) + 4)
        if not self._heading:
            return
        if len(self.headers) >= MAX_HEADERS:
            raise _StopError
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head ended."""
        self._heading = False
        self._besides = 0
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self.scope["method"] = self.parser.get_method().decode("ascii")
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._besides = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body ended."""
        self._besides = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """The parser stopped: at what is no HTTP, or where we stopped it. Nothing more is read from the connection.

        Whole requests that came before are answered first, and then it is closed.
        """
        self._broken = True
        cycle = self.cycle
        if self.transport.is_closing():
            return
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False
                return
            if self.pipeline or cycle.response_started:
                self.transport.close()
                return
        if self._head_size > MAX_HEAD or (self._heading and len(self.headers or ()) >= MAX_HEADERS):
            self.transport.write(_ANSWER % (len(_TOO_LARGE), _TOO_LARGE))
            self.transport.close()
        else:
            super().send_400_response(msg)

    def _begin_head(self) -> None:
        self._heading = self._fresh = True
        self._head_size = self._head_arrived = self._besides = 0

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD:
            raise _StopError
