"""A socket, and a server that ends well: what was accepted is answered, what stands still is closed."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from imagelake.errors import InputError

_BACKLOG = 1024
_CONNECTIONS = 512
_GRACE_S = 5  # besides what a body may take


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any that is free.

    Raises:
        InputError: the address cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"Cannot listen on {host}:{port}: {error}. Give an address of this machine and a free --port, or 0."
        ) from error


def address_of(listening: socket.socket) -> str:
    """Where clients find it."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if listening.family == socket.AF_INET6 else f"http://{host}:{port}"


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
    watching = asyncio.create_task(_close_idle(server, idle_s))
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


async def _close_idle(server: uvicorn.Server, idle_s: float) -> None:
    """Close what holds a connection and sends no request: half a head, or a body that was refused and never ends."""
    before: dict[object, object] = {}
    while True:
        await asyncio.sleep(idle_s)
        now: dict[object, object] = {}
        for connection in list(server.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                continue  # at work
            now[connection] = cycle
            if connection in before and before[connection] is cycle:
                connection.transport.close()
        before = now


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
