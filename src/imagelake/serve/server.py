"""The server process: HTTP and TLS on one event loop, and an end that drops nothing.

At the first SIGTERM it says that it is not ready and asks callers to leave (`Connection: close`), while it goes on
answering, new connections too, for as long as a load balancer takes to notice. Then it stops listening, answers what
it accepted, and ends. SIGINT leaves out the waiting. A second signal ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from imagelake.errors import InputError
from imagelake.serve.allocator import keep_freed_memory
from imagelake.serve.http_protocol import BoundedProtocol
from imagelake.serve.listening import close_idle
from imagelake.serve.site import Lifecycle

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LAST_REQUESTS_S = 0.1  # after the last connection was accepted, for its request to arrive
_CLOSING_S = 1.0  # for the other side of a closed connection to agree
_POLL_S = 0.01
_SWITCH_S = 1e-4  # threads of models wait no longer for the interpreter: a tenth more pictures a second than with 5 ms


@dataclass(frozen=True)
class ServerOptions:
    """How the server treats connections.

    Attributes:
        tls: of a server certificate; None: plain HTTP.
        idle_s: a connection that moves nothing for so long is closed.
        drain_s: for how long after SIGTERM it goes on taking requests.
        grace_s: how long requests that were accepted may take at the end; then they are cut off.
        max_connections: more are answered 503 at once.
    """

    tls: ssl.SSLContext | None = None
    idle_s: float = 30.0
    drain_s: float = 1.0
    grace_s: float = 60.0
    max_connections: int = 2_048


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """The TLS of a server, version 1.2 or newer.

    Raises:
        InputError: the files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # never ask at the terminal
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "it is not in PEM"
        raise InputError(
            f"TLS cannot be used with the certificate {certificate} and the key {key}: {reason}. Give PEM files that "
            "belong together; the key must not be encrypted."
        ) from None
    return context


class HttpServer:
    """A server that is run once.

    Args:
        app: what to serve.
        listening: where; it is closed at the end.
        lifecycle: told when the server begins to end.
        options: how connections are treated.
        beside: what else runs on the event loop meanwhile, such as a second port; entered before requests are taken.
    """

    def __init__(
        self,
        app: ASGIApp,
        listening: socket.socket,
        lifecycle: Lifecycle,
        options: ServerOptions | None = None,
        beside: Sequence[AbstractAsyncContextManager[Any]] = (),
    ) -> None:
        self._options = options or ServerOptions()
        self._listening = listening
        self._beside = beside
        self._uvicorn = _Uvicorn(_config(app, self._options), lifecycle, self._options.drain_s)

    def run(self, on_start: Callable[[list[Any]], None]) -> None:
        """Serve until a signal or `stop`; then finish what was accepted and return.

        Args:
            on_start: called when requests are taken, with what each of `beside` gave when it was entered.
        """
        keep_freed_memory()
        config = self._uvicorn.config
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        try:
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
                runner.run(self._serve(on_start))
        finally:
            sys.setswitchinterval(before)

    def stop(self, *, at_once: bool = False) -> None:
        """End as after SIGTERM, or, at once, as after SIGINT; may be called from any thread."""
        self._uvicorn.end(0.0 if at_once else self._options.drain_s)

    async def _serve(self, on_start: Callable[[list[Any]], None]) -> None:
        async with contextlib.AsyncExitStack() as stack:
            given = [await stack.enter_async_context(each) for each in self._beside]
            tasks = [
                asyncio.create_task(close_idle(self._uvicorn, self._options.idle_s)),
                asyncio.create_task(_tell(self._uvicorn, on_start, given)),
            ]
            try:
                await self._uvicorn.serve(sockets=[self._listening])
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


def _config(app: ASGIApp, options: ServerOptions) -> uvicorn.Config:
    context = options.tls
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,  # its few warnings go where the log of the process goes
        access_log=False,
        proxy_headers=False,  # else whoever is on this machine could say that he is somebody else
        server_header=False,
        limit_concurrency=options.max_connections,
        timeout_keep_alive=round(max(1.0, options.idle_s)),
        timeout_graceful_shutdown=round(max(1.0, options.grace_s)),
        ssl_context_factory=(lambda _config, _default: context) if context is not None else None,
    )


class _Uvicorn(uvicorn.Server):
    """Ends in steps; signals are not raised again."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_s: float) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_s = drain_s
        self._end_at: float | None = None

    def end(self, wait_s: float) -> None:
        """Say that this server ends, and end after a time."""
        self._lifecycle.draining = True
        self._end_at = time.monotonic() + wait_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: begin to end; the next one is the system's own, which ends the process."""
        del frame
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
        self.end(0.0 if sig == signal.SIGINT else self._drain_s)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end now."""
        ended = await super().on_tick(counter)
        return ended or (self._end_at is not None and time.monotonic() >= self._end_at)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, read what those that were taken sent, answer it, and close them."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(_LAST_REQUESTS_S)
        closing = asyncio.create_task(self._abort_closed())
        try:
            await super().shutdown(sockets)
        finally:
            closing.cancel()

    async def _abort_closed(self) -> None:
        """Leave those who do not agree to the end of a TLS connection."""
        while True:
            await asyncio.sleep(_CLOSING_S)
            for connection in list(self.server_state.connections):
                transport = getattr(connection, "transport", None)
                if transport is not None and transport.is_closing() and not transport.get_write_buffer_size():
                    transport.abort()


async def _tell(server: uvicorn.Server, on_start: Callable[[list[Any]], None], given: list[Any]) -> None:
    while not server.started:
        await asyncio.sleep(_POLL_S)
    on_start(given)
