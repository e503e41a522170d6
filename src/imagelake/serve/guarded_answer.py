"""An answer on its way through the guard."""

from __future__ import annotations

import json
from http import HTTPStatus

from starlette.types import Message, Send


class GuardedAnswer:
    """What is sent back: knows status and size, and adds the headers that every answer has."""

    __slots__ = ("_protocol", "_send", "asks_first", "extra", "sent", "status")

    def __init__(self, send: Send, protocol: str, extra: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._protocol = protocol
        self.extra = extra
        self.asks_first = False  # whether the body comes only when it is asked for
        self.status = 0
        self.sent = 0

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self.extra]
            if self.asks_first and self.status >= HTTPStatus.BAD_REQUEST:
                # Nobody knows whether the body comes after all: the next request could be taken for it.
                message["headers"].append((b"connection", b"close"))
        else:
            self.sent += len(message.get("body", b""))
        await self._send(message)

    async def send_whole(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Send an answer of one piece."""
        length = [] if status == HTTPStatus.NO_CONTENT else [(b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": headers + length})
        await self.send({"type": "http.response.body", "body": body})

    async def refuse(self, status: int, message: str, headers: dict[str, str]) -> None:
        """Say no, in the words of the protocol; nothing where an answer is on its way, which is then cut off."""
        if self.status:
            return
        if self._protocol in {"oip-http", "rest", "page"}:
            body, kind = json.dumps({"error": message}).encode(), b"application/json"
        else:
            body, kind = (message + "\n").encode("utf-8", "replace"), b"text/plain; charset=utf-8"
        named = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        kinds = [(b"content-type", kind), (b"x-content-type-options", b"nosniff")]
        await self.send_whole(status, body, [*kinds, *named])
