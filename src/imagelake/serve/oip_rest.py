"""The Open Inference Protocol v2 over HTTP, as KServe and Triton clients speak it.

Health, metadata, inference as JSON or binary, model configuration, statistics, classification, and, where the site
allows it, loading and unloading by name. A model that takes pictures takes them as BYTES of shape [n], or one as a raw
body with `Inference-Header-Content-Length: 0`.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from imagelake.errors import BusyError, InputError, TimeLimitError
from imagelake.serve.body import read_body
from imagelake.serve.compression import deflate, inflate, wanted_coding
from imagelake.serve.json_answer import HEADERS, json_answer
from imagelake.serve.oip_codec import InferRequest, header_length, read_raw_request, read_request, write_response
from imagelake.serve.oip_documents import (
    model_config,
    model_metadata,
    model_statistics,
    repository_index,
    server_metadata,
)
from imagelake.serve.oip_fields import HEADER_LENGTH, load_json, object_of, parameters_of
from imagelake.serve.served_model import ServedModel
from imagelake.serve.site import Site
from imagelake.serve.tensor_info import Tensors
from imagelake.serve.waiting import answer_of

Handler = Callable[[Request], Awaitable[Response]]
_T = TypeVar("_T")

_QUICK = 64 << 10  # bytes of JSON that are read, or elements that are written, without leaving the event loop
_QUICK_BODY = 256 << 10  # bytes of a body that may hold strings, of which each is an object
_NOT_OFFERED = (
    "/v2/systemsharedmemory/{rest:path}",
    "/v2/cudasharedmemory/{rest:path}",
    "/v2/trace/setting",
    "/v2/models/{model}/trace/setting",
    "/v2/logging",
)


def routes(site: Site) -> list[BaseRoute]:
    """Everything under `/v2` of a site. Errors are raised: the guard answers them as `{"error": message}`."""
    door = _Door(site)
    found = [
        _route("/v2", door.server),
        _route("/v2/health/live", door.live),
        _route("/v2/health/ready", door.ready),
        _route("/v2/models", door.models),
        _route("/v2/models/stats", door.all_statistics),
        _route("/v2/repository/index", door.index, "POST"),
        _route("/v2/repository/models/{model}/load", door.load, "POST"),
        _route("/v2/repository/models/{model}/unload", door.unload, "POST"),
    ]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        found += [
            _route(path, door.metadata),
            _route(f"{path}/ready", door.model_ready),
            _route(f"{path}/config", door.config),
            _route(f"{path}/stats", door.statistics),
            _route(f"{path}/infer", door.infer, "POST"),
        ]
    return [*found, *(_route(path, _not_offered, "GET", "POST") for path in _NOT_OFFERED)]


def _route(path: str, handler: Handler, *methods: str) -> Route:
    return Route(path, handler, methods=list(methods or ["GET"]))


def _refusal(message: str, status: int) -> Response:
    return json_answer({"error": message}, status)


async def _not_offered(request: Request) -> Response:
    return _refusal(f"{request.url.path} is an extension of other servers, and not offered here.", 501)


@dataclass(frozen=True)
class _Door:
    site: Site
    one_at_a_time: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    async def server(self, _: Request) -> Response:
        site = self.site
        return json_answer(server_metadata(site.server_name, site.version, repository=site.open_model is not None))

    async def live(self, _: Request) -> Response:
        return json_answer({"live": True})

    async def ready(self, _: Request) -> Response:
        ready = self.site.ready()
        return json_answer({"ready": ready}, 200 if ready else 503)

    async def models(self, _: Request) -> Response:
        return json_answer({"models": list(self.site.plane.names())})

    async def metadata(self, request: Request) -> Response:
        model = self._model(request)
        versions = [model.version] if "version" in request.path_params else self.site.plane.versions(model.name)
        return json_answer(model_metadata(model, versions))

    async def model_ready(self, request: Request) -> Response:
        model = self._model(request)
        ready = self.site.plane.ready(model.name, _version(request))
        return json_answer({"name": model.name, "ready": ready}, 200 if ready else 503)

    async def config(self, request: Request) -> Response:
        return json_answer(model_config(self._model(request)))

    async def statistics(self, request: Request) -> Response:
        name = request.path_params["model"]
        return json_answer(model_statistics(self.site.plane.statistics(name, _version(request))))

    async def all_statistics(self, _: Request) -> Response:
        return json_answer(model_statistics(self.site.plane.statistics()))

    async def index(self, request: Request) -> Response:
        asked = await self._asked(request)
        only_ready = asked.get("ready")
        if not isinstance(only_ready, bool | None):
            raise InputError('"ready" of the request must be true or false.')
        names = await asyncio.to_thread(self.site.loadable)  # it may look into a folder
        return json_answer(repository_index(self.site.plane, names, only_ready=bool(only_ready)))

    async def load(self, request: Request) -> Response:
        open_model = self.site.open_model
        if open_model is None:
            return _no_loading()
        if parameters_of(await self._asked(request), "The request"):
            raise InputError("A model is loaded as this server has it. Leave the parameters, config and files, away.")
        name = request.path_params["model"]
        await asyncio.to_thread(lambda: self.site.plane.load(open_model(name)))
        return json_answer({"name": name, "load": True})

    async def unload(self, request: Request) -> Response:
        if self.site.open_model is None:
            return _no_loading()
        await self._asked(request)
        name = request.path_params["model"]
        await asyncio.to_thread(self.site.plane.unload, name)
        return json_answer({"name": name, "unload": True})

    async def infer(self, request: Request) -> Response:
        model = self._model(request)
        if not self.site.plane.has_room(model.name, _version(request)):
            raise BusyError(f"Too many requests wait for {model.name} already. Send it again later.")
        asked = await self._read(request, model)
        future = self.site.plane.submit(
            model.name,
            asked.inputs,
            [output.name for output in asked.outputs],
            version=_version(request),
            timeout_s=min(asked.timeout_s or math.inf, self.site.limits.timeout_s),
            protocol="oip-http",
        )
        outputs = await answer_of(future, request.receive)
        coding = wanted_coding(request.headers.get("accept-encoding"))
        slow = coding is not None or sum(array.size for array in outputs.values()) > _QUICK
        body, headers = await _run(_encode, model, outputs, asked, coding, in_thread=slow)
        return Response(body, headers=HEADERS | headers)

    def _model(self, request: Request) -> ServedModel:
        return self.site.plane.model(request.path_params["model"], _version(request))

    async def _body(self, request: Request) -> memoryview:
        """The body, unpacked where it is compressed."""
        limits, budget = self.site.limits, self.site.budget
        body = await read_body(request.scope, request.receive, limits, budget)
        coding = request.headers.get("content-encoding", "identity")
        if coding.strip().lower() in ("identity", ""):
            return body
        return await asyncio.to_thread(inflate, body, coding, limits, budget)

    async def _asked(self, request: Request) -> dict[str, Any]:
        """The JSON object of a body that may be empty."""
        body = await self._body(request)
        return object_of(load_json(body), "The request") if len(body) else {}

    async def _read(self, request: Request, model: ServedModel) -> InferRequest:
        length = header_length(request.headers.get(HEADER_LENGTH))
        body = await self._body(request)
        if length == 0:
            return read_raw_request(body, model.inputs, batched=model.max_batch > 0)
        read = functools.partial(read_request, body, length, max_tensors=self.site.limits.max_tensors)
        if (len(body) if length is None else length) > _QUICK:
            return await self._alone(read)
        return await _run(read, in_thread=len(body) > _QUICK_BODY)

    async def _alone(self, read: Callable[[], InferRequest]) -> InferRequest:
        """Read much JSON: one at a time, since no two threads can, and this one has to run between them."""
        timeout_s = self.site.limits.timeout_s
        try:
            await asyncio.wait_for(self.one_at_a_time.acquire(), timeout_s)
        except TimeoutError:
            raise TimeLimitError(
                f"The JSON was not read within {timeout_s:g} s, for there is much of it. Send tensors as binary."
            ) from None
        try:
            return await asyncio.to_thread(read)
        finally:
            self.one_at_a_time.release()


async def _run(function: Callable[..., _T], *arguments: Any, in_thread: bool) -> _T:
    return await asyncio.to_thread(function, *arguments) if in_thread else function(*arguments)


def _encode(
    model: ServedModel, outputs: Tensors, asked: InferRequest, coding: str | None
) -> tuple[bytes | memoryview, dict[str, str]]:
    parts, headers = write_response(
        model.name, model.version, outputs, asked, labels=model.labels, batched=model.max_batch > 0
    )
    if coding:
        return deflate(parts, coding), headers | {"Content-Encoding": coding}
    return _joined(parts), headers


def _joined(parts: Sequence[bytes | memoryview]) -> bytes | memoryview:
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _version(request: Request) -> str | None:
    version: str | None = request.path_params.get("version")
    return version


def _no_loading() -> Response:
    return _refusal("Models are not loaded or unloaded by callers of this server. Start it with that allowed.", 403)
