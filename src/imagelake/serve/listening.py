"""A socket that listens, and what watches its connections: those that stand still are closed."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket

import uvicorn

from imagelake.errors import InputError

_BACKLOG = 1024


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, `[IPV6]:PORT` or `:PORT`, which is any address of this machine.

    Raises:
        InputError: it is none.
    """
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF or (":" in host and bare == host):
        raise InputError(f"{text!r} is no address to listen on. Give HOST:PORT, such as 127.0.0.1:9000.")
    return bare or "0.0.0.0", int(port)  # noqa: S104  (as the old servers read it; the caller decides about it)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any that is free.

    Raises:
        InputError: the address cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)
        hint = "Give another port; 0 is any that is free."
        if number != errno.EADDRINUSE:
            hint = "Give an address of this machine and a port that may be had; 0 is any that is free."
        raise InputError(f"Cannot listen on {host}:{port}: {reason}. {hint}") from error


def address_of(listening: socket.socket, scheme: str = "http") -> str:
    """Where clients find it."""
    host, port = listening.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if listening.family == socket.AF_INET6 else f"{scheme}://{host}:{port}"


async def close_idle(server: uvicorn.Server, idle_s: float) -> None:
    """Close what holds a connection and moves nothing, until cancelled.

    That is half a head, a body that was refused and never ends, an answer that the other side does not read.
    """
    before: dict[object, object] = {}
    while True:
        await asyncio.sleep(idle_s)
        now: dict[object, object] = {}
        for connection in list(server.server_state.connections):
            state = _state(connection)
            if state is None:
                continue  # at work
            now[connection] = state
            if before.get(connection) == state:
                _end(connection.transport)
        before = now


def _state(connection: object) -> tuple[object, ...] | None:
    """Where a connection stands, if it waits for the other side; None while the server works for it."""
    cycle, flow = getattr(connection, "cycle", None), getattr(connection, "flow", None)
    transport = getattr(connection, "transport", None)
    if cycle is not None and not cycle.response_complete and not getattr(flow, "write_paused", False):
        return None
    waiting = transport.get_write_buffer_size() if transport is not None else 0
    return (cycle, waiting)


def _end(transport: asyncio.Transport) -> None:
    """Close a connection; at once where what is left to send is not read."""
    if transport.is_closing() or transport.get_write_buffer_size():
        transport.abort()
    else:
        transport.close()
