"""A server that ends well: what was accepted is answered, what stands still is closed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from imagelake.serve.listening import address_of, close_idle, is_loopback, listen

__all__ = ["address_of", "is_loopback", "listen", "serve"]

_CONNECTIONS = 512
_GRACE_S = 5  # besides what a body may take


def serve(app: ASGIApp, listening: socket.socket, idle_s: float, on_start: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; then finish what was accepted and return.

    Args:
        app: what to serve.
        listening: where.
        idle_s: a connection without a request for so long is closed.
        on_start: called when requests are taken.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=round(max(1.0, idle_s)),
        timeout_graceful_shutdown=round(idle_s) + _GRACE_S,
        server_header=False,
    )
    server = uvicorn.Server(config)
    with _calm_signals(), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(server, listening, idle_s, on_start))


async def _serve(server: uvicorn.Server, listening: socket.socket, idle_s: float, on_start: Callable[[], None]) -> None:
    watching = asyncio.create_task(close_idle(server, idle_s))
    telling = asyncio.create_task(_tell(server, on_start))
    try:
        await server.serve(sockets=[listening])
    finally:
        watching.cancel()
        telling.cancel()


async def _tell(server: uvicorn.Server, on_start: Callable[[], None]) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    on_start()


@contextlib.contextmanager
def _calm_signals() -> Iterator[None]:
    """Inside, a signal that the server has caught and raises again at its end does not end the process."""

    def ignore(_number: int, _frame: object) -> None:
        return

    before = {number: signal.signal(number, ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
