"""HTTP/1.1 as uvicorn reads it, with a limit on the head of a request."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 << 10  # bytes of the first line and all headers
MAX_HEADERS = 128

_TOO_LARGE = b"The head of the request is too large.\n"
_ANSWER = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b"
)


class _HeadTooLargeError(Exception):
    """Stops the parser."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. The parser itself takes heads of any length, whole lines into memory."""

    _heading = False
    _fresh = False  # whether the head began in the data at hand, of which the front may be of a request before
    _head_size = 0
    _head_arrived = 0
    _too_large = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection is there; its first head begins."""
        super().connection_made(transport)
        self._begin_head()
        self._fresh = False

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        super().data_received(data)
        if not self._heading or self.transport.is_closing():
            return
        if not self._fresh:
            self._head_arrived += len(data)
        self._fresh = False
        if self._head_arrived > MAX_HEAD:
            self._refuse()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._begin_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the first line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._count(len(name) + len(value) + 4)
        if len(self.headers) >= MAX_HEADERS:
            raise _HeadTooLargeError
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head ended."""
        self._heading = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """The parser stopped: at what is no HTTP, or where we stopped it."""
        if self._head_size > MAX_HEAD or (self._heading and len(self.headers or ()) >= MAX_HEADERS):
            self._refuse()
        elif not self.transport.is_closing():
            super().send_400_response(msg)

    def _begin_head(self) -> None:
        self._heading = self._fresh = True
        self._head_size = self._head_arrived = 0

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD:
            raise _HeadTooLargeError

    def _refuse(self) -> None:
        self.transport.write(_ANSWER % (len(_TOO_LARGE), _TOO_LARGE))
        self.transport.close()
