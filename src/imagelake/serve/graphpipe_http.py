"""GraphPipe over HTTP: a message is posted and answered by another; `GET` describes the model in JSON.

Old clients send any Content-Type or none, and look at the status alone: an error is a status other than 200 with the
message as text. There is no framework between the socket and the codec but the router, and no copy but the one into
the buffer of the body.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from imagelake.errors import BusyError, InputError, NotServedError
from imagelake.serve import graphpipe
from imagelake.serve.body import content_length, read_body
from imagelake.serve.errors_http import headers_of, message_of, reason_of, status_of
from imagelake.serve.flatbuffer_reader import ManyStringsError
from imagelake.serve.flatbuffer_writer import Message as Encoded
from imagelake.serve.guard import facts_of
from imagelake.serve.request import Request
from imagelake.serve.served_model import Answer, ServedModel
from imagelake.serve.site import Site
from imagelake.serve.tensor_info import TensorInfo, Tensors
from imagelake.serve.waiting import answer_of

_SMALL_BODY = 1024  # bytes: a request for metadata, which a model with a full queue answers too
_FEW_STRINGS = 1000  # that are read or written without leaving the event loop
_ALLOWED = "GET, HEAD, POST"


def routes(site: Site) -> list[BaseRoute]:
    """`/` for the default model, `/graphpipe/NAME` and `/graphpipe/NAME/VERSION` for any: POST and GET."""
    door = _Door(site)
    return [Route(path, door) for path in ("/", "/graphpipe/{name}", "/graphpipe/{name}/{version}")]


class _Door:
    """An ASGI application for the paths above; a class, since Starlette takes functions for something else."""

    def __init__(self, site: Site) -> None:
        self._site = site
        limits = site.limits
        self._limits = graphpipe.MessageLimits(max_tensors=limits.max_tensors)
        self._few = graphpipe.MessageLimits(limits.max_tensors, _FEW_STRINGS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] == "POST":
                await _send(send, await self._post(scope, receive))
            elif scope["method"] in {"GET", "HEAD"}:
                text = json.dumps(metadata_json(describe(self._site, self._model(scope))), indent=4) + "\n"
                await _send_bytes(send, 200, [("Content-Type", "application/json")], text.encode())
            else:
                await _send_text(send, 405, f"The method {scope['method']} is unknown here; {_ALLOWED} are not.\n",
                                 {"Allow": _ALLOWED})  # fmt: skip
        except ClientDisconnect:
            return  # nobody reads an answer
        except Exception as error:  # noqa: BLE001 - whatever it is, the client reads a status and a line of text
            reason = reason_of(error)
            if reason and self._site.metrics is not None:
                self._site.metrics.refused(reason)
            await _send_text(send, status_of(error), message_of(error) + "\n", headers_of(error))

    def _model(self, scope: Scope) -> ServedModel:
        params = scope.get("path_params", {})
        name = params.get("name") or self._site.plane.default
        if name is None:
            raise NotServedError("No model is served here. Load one first.")
        facts = facts_of(scope)
        if facts is not None:
            facts.model = name  # the log cannot know it from the path
        return self._site.plane.model(name, params.get("version"))

    async def _post(self, scope: Scope, receive: Receive) -> Encoded:
        model = self._model(scope)
        plane, limits = self._site.plane, self._site.limits
        version = scope.get("path_params", {}).get("version")
        length = content_length(scope)
        if (length is None or length > _SMALL_BODY) and not plane.has_room(model.name, version):
            raise BusyError(f"Too many requests for {model.name} wait already. Send it again later.")
        body = await read_body(scope, receive, limits, self._site.budget)
        try:
            message = graphpipe.decode_request(body, self._few)
        except ManyStringsError:
            message = await asyncio.to_thread(graphpipe.decode_request, body, self._limits)
        if isinstance(message, graphpipe.MetadataRequest):
            return graphpipe.encode_metadata_response(describe(self._site, model))
        inputs = name_inputs(model, message)
        asked = message.output_names
        request = plane.submit(
            model.name, inputs, asked, version=version, timeout_s=limits.timeout_s, protocol="graphpipe"
        )
        del body, message, inputs  # the buffer goes when the model is done with it
        answer = await _answer(request, receive)
        arrays = _in_order(model, answer, asked)
        if sum(each.size for each in arrays if each.dtype.kind in "OSU") > _FEW_STRINGS:
            return await asyncio.to_thread(graphpipe.encode_infer_response, arrays)
        return graphpipe.encode_infer_response(arrays)


def describe(site: Site, model: ServedModel) -> graphpipe.Metadata:
    """What is said of a model."""
    server = f"{site.server_name} {site.version}"
    return graphpipe.Metadata(model.name, model.version, server, model.description, model.inputs, model.outputs)


def metadata_json(metadata: graphpipe.Metadata) -> dict[str, Any]:
    """Metadata with the names that the first servers gave them; types are numbers of the protocol."""

    def listed(infos: Iterable[TensorInfo]) -> list[dict[str, Any]]:
        return [
            {"Name": info.name, "Description": info.description, "Shape": list(info.shape),
             "Type": graphpipe.type_number(info.dtype)}
            for info in infos
        ]  # fmt: skip

    return {
        "Name": metadata.name,
        "Version": metadata.version,
        "Server": metadata.server,
        "Description": metadata.description,
        "Inputs": listed(metadata.inputs),
        "Outputs": listed(metadata.outputs),
    }


def name_inputs(model: ServedModel, request: graphpipe.InferRequest) -> dict[str, NDArray[Any]]:
    """The arrays of a request by the names of the model's inputs: those given, or by position.

    An input of bool is sent as uint8, since the protocol has no bool.

    Raises:
        InputError: there are more arrays than inputs, or a name comes twice.
    """
    if len(request.inputs) > len(model.inputs):
        raise InputError(
            f"{len(request.inputs)} tensors were sent to {model.name}, which takes {len(model.inputs)}: "
            f"{', '.join(info.name for info in model.inputs)}."
        )
    given = request.input_names or ("",) * len(request.inputs)
    names = [name or info.name for name, info in zip(given, model.inputs, strict=False)]
    if len(set(names)) < len(names):
        raise InputError(f"An input is named twice in {', '.join(name[:80] for name in names)}. Name each once.")
    bools = {info.name for info in model.inputs if info.dtype == "bool"}
    return {
        name: array != 0 if name in bools and array.dtype == np.uint8 else array
        for name, array in zip(names, request.inputs, strict=True)
    }


def _in_order(model: ServedModel, answer: Tensors, asked: Sequence[str]) -> list[NDArray[Any]]:
    """The outputs as they were asked for; all of them in the order of the model where none was."""
    names = asked or [info.name for info in model.outputs if info.name in answer]
    arrays = [answer[name] for name in names]
    return [array.view(np.uint8) if array.dtype == np.bool_ else array for array in arrays]


async def _answer(request: Request, receive: Receive) -> Answer:
    """Wait for the plane; a client that goes away takes its request out of the queue."""
    try:
        return await answer_of(request, receive)
    except CancelledError:
        raise BusyError("The model was closed before it could answer. Send it again.") from None


async def _send(send: Send, message: Encoded) -> None:
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % message.size)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    left = len(message.pieces)
    for part in message.parts():
        left -= 1
        await send({"type": "http.response.body", "body": part, "more_body": left > 0})


async def _send_text(send: Send, status: int, text: str, more: Mapping[str, str]) -> None:
    headers = [("Content-Type", "text/plain; charset=utf-8"), *more.items()]
    await _send_bytes(send, status, headers, text.encode(errors="replace"))


async def _send_bytes(send: Send, status: int, headers: Iterable[tuple[str, str]], data: bytes) -> None:
    lines = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    lines.append((b"content-length", b"%d" % len(data)))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": data})
