"""The calls of the Open Inference Protocol over gRPC: a message in, a message out. Knows no server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from imagelake.errors import BusyError, ImagelakeError, InputError, TimeLimitError, TooLargeError
from imagelake.serve.errors_http import status_of
from imagelake.serve.oip_documents import (
    model_config,
    model_metadata,
    model_statistics,
    repository_index,
    server_metadata,
)
from imagelake.serve.oip_grpc_codec import Asked, as_message, read_message, read_request, write_response
from imagelake.serve.oip_grpc_intake import split_raw
from imagelake.serve.oip_grpc_schema import messages
from imagelake.serve.plane import Plane
from imagelake.serve.served_model import Answer, ServedModel
from imagelake.serve.site import Site

_QUICK = 256 << 10  # bytes that are read, or elements that are written, without leaving the event loop
_SMALL = 1 << 20  # bytes of a message that carries no tensors


class RefusedError(ImagelakeError):
    """A call that is not taken, with the status that HTTP would give it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def grpc_status(error: BaseException) -> int:
    """The status that HTTP would give an error of a call."""
    return error.status if isinstance(error, RefusedError) else status_of(error)


class Calls:
    """The calls of a site, each of a message and the context of the call; a class, since much is read in turns."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._one_at_a_time = asyncio.Semaphore(1)

    async def server_live(self, _message: Any, _context: Any) -> Any:
        """Whether the process is there."""
        return messages().ServerLiveResponse(live=True)

    async def server_ready(self, _message: Any, _context: Any) -> Any:
        """Whether it takes requests."""
        return messages().ServerReadyResponse(ready=self.site.ready())

    async def model_ready(self, message: Any, _context: Any) -> Any:
        """Whether a model takes requests; false where there is none."""
        return messages().ModelReadyResponse(ready=self.site.plane.ready(message.name, message.version or None))

    async def server_metadata(self, _message: Any, _context: Any) -> Any:
        """What the server is."""
        site = self.site
        told = server_metadata(site.server_name, site.version, repository=site.open_model is not None)
        return as_message("ServerMetadataResponse", told)

    async def model_metadata(self, message: Any, _context: Any) -> Any:
        """What a model takes and gives."""
        model = self.site.plane.model(message.name, message.version or None)
        versions = [model.version] if message.version else self.site.plane.versions(model.name)
        return as_message("ModelMetadataResponse", model_metadata(model, versions))

    async def model_config(self, message: Any, _context: Any) -> Any:
        """A model's configuration."""
        model = self.site.plane.model(message.name, message.version or None)
        return as_message("ModelConfigResponse", {"config": model_config(model)})

    async def statistics(self, message: Any, _context: Any) -> Any:
        """What models have done."""
        found = self.site.plane.statistics(message.name or None, message.version or None)
        return as_message("ModelStatisticsResponse", model_statistics(found))

    async def index(self, message: Any, _context: Any) -> Any:
        """The models that are served, and those that callers may load."""
        names = await asyncio.to_thread(self.site.loadable)  # it may look into a folder
        found = repository_index(self.site.plane, names, only_ready=message.ready)
        return as_message("RepositoryIndexResponse", {"models": found})

    async def load(self, message: Any, _context: Any) -> Any:
        """Load a model by its name, where callers may."""
        open_model, name = self._open_model(), message.model_name
        if message.parameters:
            raise InputError(
                f"The load has the parameters {', '.join(sorted(message.parameters))[:200]}; none are taken. Models "
                "come from the server's own registry, by their name."
            )
        await asyncio.to_thread(lambda: self.site.plane.load(open_model(name)))
        return messages().RepositoryModelLoadResponse()

    async def unload(self, message: Any, _context: Any) -> Any:
        """Unload a model, where callers may."""
        self._open_model()
        await asyncio.to_thread(self.site.plane.unload, message.model_name)
        return messages().RepositoryModelUnloadResponse()

    def _open_model(self) -> Callable[[str], ServedModel]:
        if self.site.open_model is None:
            raise RefusedError(403, "Models cannot be loaded or unloaded here; the server was not started so.")
        return self.site.open_model

    async def infer(self, asked: Asked, context: Any) -> Any:
        """Run a model; gives the answer's message."""
        plane = self.site.plane
        model = plane.model(asked.model, asked.version)
        allowed = [self.site.limits.timeout_s, asked.timeout_s, context.time_remaining()]
        timeout_s = max(0.0, min(seconds for seconds in allowed if seconds is not None))
        found = await _answer(plane, asked, timeout_s, model.name)
        if sum(array.size for array in found.values()) > _QUICK:
            return await asyncio.to_thread(write_response, asked, model, found)
        return write_response(asked, model, found)

    async def read(self, data: bytes) -> Asked:
        """What the bytes of a `ModelInferRequest` ask for."""
        if len(data) <= _QUICK:
            return self._parse(data)
        timeout_s = self.site.limits.timeout_s
        try:  # one at a time, since no two threads can, and this one has to run between them
            await asyncio.wait_for(self._one_at_a_time.acquire(), timeout_s)
        except TimeoutError:
            raise TimeLimitError(f"The message was not read within {timeout_s:g} s. Send it again later.") from None
        try:
            return await asyncio.to_thread(self._parse, data)
        finally:
            self._one_at_a_time.release()

    def _parse(self, data: bytes) -> Asked:
        head, raw = split_raw(data)
        return read_request(read_message("ModelInferRequest", head), self.site.limits.max_tensors, raw)


def read_small(kind: str, data: bytes) -> Any:
    """A message that carries no tensors.

    Raises:
        InputError: it is none.
        TooLargeError: it is larger than one may be.
    """
    if len(data) > _SMALL:
        raise TooLargeError(f"The message has {len(data):,} bytes; a {kind} has at most {_SMALL:,}.")
    return read_message(kind, data)


def id_of(data: bytes) -> str:
    """The id of a request that cannot be answered; "" where it cannot be read."""
    try:
        name: str = read_message("ModelInferRequest", split_raw(data)[0]).id
    except ImagelakeError:
        return ""
    return name


async def _answer(plane: Plane, asked: Asked, timeout_s: float, name: str) -> Answer:
    """What the model gives; who goes away takes the request out of the queue."""
    future = plane.submit(
        name, asked.inputs, asked.outputs, version=asked.version, timeout_s=timeout_s, protocol="oip-grpc"
    )
    answering: asyncio.Future[Answer] = asyncio.wrap_future(future)
    try:
        return await answering
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise BusyError("The request was dropped before it was answered. Send it again.") from None
    finally:
        del future, answering
