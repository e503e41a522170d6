"""Waiting for an answer while the caller waits too."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

Answer = TypeVar("Answer")

_PATIENCE_S = 0.05  # most answers come before it is worth looking whether the caller is still there


async def answer_of(future: concurrent.futures.Future[Answer], receive: Receive) -> Answer:
    """What a future gives. It is cancelled where the caller goes away before, or the server drops the request.

    Args:
        future: of a request whose body was read whole.
        receive: of that request; tells when its caller is gone.

    Raises:
        ClientDisconnect: the caller is gone; nobody reads an answer.
        concurrent.futures.CancelledError: somebody else cancelled the future.
    """
    answering = asyncio.wrap_future(future)
    leaving: asyncio.Task[None] | None = None
    try:
        await asyncio.wait((answering,), timeout=_PATIENCE_S)
        if not answering.done():
            leaving = asyncio.create_task(_leave(receive))
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        if answering.cancelled():
            raise concurrent.futures.CancelledError
        return answering.result()
    finally:
        future.cancel()  # where it is done, this does nothing
        answering.cancel()
        if leaving is not None:
            leaving.cancel()


async def _leave(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
