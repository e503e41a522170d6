"""The REST interface for people: classify, detect, embed, search by `curl` with a JPEG; and the images of the lake."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from imagelake.errors import BusyError, InputError, NotServedError
from imagelake.serve.batch_options import cores
from imagelake.serve.downloads import DownloadOptions, download
from imagelake.serve.errors_http import headers_of, message_of, status_of
from imagelake.serve.guard import facts_of
from imagelake.serve.json_answer import json_answer
from imagelake.serve.lake_view import Found, LakeView
from imagelake.serve.picture_answer import picture_answer
from imagelake.serve.picture_part import cut_out, in_whole
from imagelake.serve.receive_fields import Refusal
from imagelake.serve.rest_answers import boxes_of, described, links_of, match_of, predictions_of, vector_of
from imagelake.serve.rest_fields import Fields
from imagelake.serve.rest_request import Asked, read_asked
from imagelake.serve.rest_threads import Threads
from imagelake.serve.served_model import Answer, ServedModel
from imagelake.serve.site import Site
from imagelake.serve.waiting import answer_of

TAKEN: dict[str, tuple[str, ...]] = {
    "classify": ("model", "k", "min_score", "box", "url", "id"),
    "detect": ("model", "k", "min_score", "box", "url", "id"),
    "embed": ("model", "box", "url", "id"),
    "search": ("k", "where", "box", "exclude_self", "url", "id", "vector"),
}
"""Which fields each of them takes."""

DEFAULT_K = {"classify": 5, "detect": 1_000, "search": 10}
"""How many are answered where a request does not say."""

_T = TypeVar("_T")
_SHOWN = 100
_FETCHING = 16
_MOST_FETCHED = 32 << 20  # bytes
_WAITING = 128

Handler = Callable[[Request], Awaitable[Response]]


def routes(site: Site, downloads: DownloadOptions | None = None) -> list[BaseRoute]:
    """Everything under `/api`, and `/thumbnail`.

    Args:
        site: what is served.
        downloads: what a request may make this machine fetch; None for pictures of the open internet.
    """
    most = min(site.limits.max_body, _MOST_FETCHED)
    door = _Door(site, downloads or DownloadOptions(max_bytes=most, max_total_bytes=most, in_flight=1))
    return [
        _route("/api/classify", door.classify, "POST"),
        _route("/api/detect", door.detect, "POST"),
        _route("/api/embed", door.embed, "POST"),
        _route("/api/search", door.search, "POST"),
        _route("/api/models", door.models),
        _route("/api/images/{id}", door.image),
        _route("/api/images/{id}/picture", door.picture),
        _route("/thumbnail/{id}", door.thumbnail),
    ]


def _route(path: str, handler: Handler, method: str = "GET") -> Route:
    """A route whose errors are answered as `{"error", "given", "allowed", "hint"}`, the last three where they help."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:
            raise  # nobody reads an answer
        except Refusal as refusal:
            told = {"error": refusal.reason, "given": refusal.given, "allowed": refusal.allowed, "hint": refusal.do}
            return json_answer(told, refusal.status, refusal.headers)
        except Exception as error:  # noqa: BLE001  (each becomes a status; a defect of ours goes to the log there)
            return json_answer({"error": message_of(error)}, status_of(error), headers_of(error))

    return Route(path, answer, methods=[method])


@dataclass(frozen=True)
class _Door:
    site: Site
    downloads: DownloadOptions
    searching: Threads = field(default_factory=lambda: Threads(max(4, cores()), _WAITING, "the search"))
    reading: Threads = field(default_factory=lambda: Threads(4, _WAITING, "the lake"))
    cutting: Threads = field(default_factory=lambda: Threads(cores(), _WAITING, "the parts of pictures"))
    fetching: Threads = field(default_factory=lambda: Threads(_FETCHING, _WAITING, "pictures of the web"))

    async def classify(self, request: Request) -> Response:
        """What a picture shows: labels and probabilities."""
        fields, model, outputs, head = await self._infer(request, "classify", "classifier", ["probabilities"])
        found = predictions_of(outputs, model.labels, fields.k or DEFAULT_K["classify"], fields.min_score or 0.0)
        return json_answer(head | {"predictions": found})

    async def detect(self, request: Request) -> Response:
        """What is where in a picture: boxes, labels and scores."""
        names = ["boxes", "scores", "class_ids", "count"]
        fields, model, outputs, head = await self._infer(request, "detect", "detector", names)
        found = boxes_of(outputs, model.labels, fields.k or DEFAULT_K["detect"], fields.min_score or 0.0)
        boxes = [each | {"box": in_whole(each["box"], fields.box)} for each in found]
        return json_answer(head | {"boxes": boxes})

    async def embed(self, request: Request) -> Response:
        """The vector of a picture."""
        _, _, outputs, head = await self._infer(request, "embed", "embedder", ["embedding"])
        vector = vector_of(outputs)
        return json_answer(head | {"dimensions": len(vector), "vector": vector})

    async def search(self, request: Request) -> Response:
        """The images of the lake that are nearest to a picture, a part of it, a vector, or one of them."""
        lake = self._lake()
        self.searching.check_room()
        asked = await read_asked(request, self.site, TAKEN["search"])
        fields, began = asked.fields, time.perf_counter()
        if fields.url is not None:
            asked = await self._with_picture(asked, request)
        search = functools.partial(_search, lake, asked)
        found = await self.searching.run(search, request.receive, self.site.limits.timeout_s)
        root = _root(request)
        answer = {"embedding_set": lake.embedding_set, "matches": [match_of(each, root) for each in found]}
        return json_answer(answer | {"seconds": round(time.perf_counter() - began, 6)})

    async def models(self, _: Request) -> Response:
        """The models that are served."""
        plane = self.site.plane
        found = []
        for name in plane.names():
            try:
                found.append(described(plane.model(name), ready=plane.ready(name), default=name == plane.default))
            except NotServedError:
                continue  # it was unloaded meanwhile
        return json_answer({"models": found})

    async def image(self, request: Request) -> Response:
        """What the lake knows of an image."""
        image_id = request.path_params["id"]
        found = await self._read(request, lambda lake: lake.image(image_id))
        links = links_of(image_id, _root(request))
        return json_answer(dict(found) | {"links": links})

    async def picture(self, request: Request) -> Response:
        """The image itself, byte for byte as it came into the lake."""
        image_id = request.path_params["id"]
        data, image_format = await self._read(request, lambda lake: lake.picture(image_id))
        return picture_answer(request, data, image_format, image_id)

    async def thumbnail(self, request: Request) -> Response:
        """A small JPEG of an image."""
        image_id = request.path_params["id"]
        data = await self._read(request, lambda lake: lake.thumbnail(image_id))
        return picture_answer(request, data, "jpeg", hashlib.sha256(data).hexdigest())

    async def _infer(
        self, request: Request, what: str, task: str, outputs: Sequence[str]
    ) -> tuple[Fields, ServedModel, Answer, dict[str, Any]]:
        """Ask a model of a task: the fields, the model, what it gave, and how the answer begins."""
        plane = self.site.plane
        expected = self._model(request.query_params.get("model"), task)
        if not plane.has_room(expected.name):
            raise BusyError(f"Too many requests wait for {expected.name} already. Send it again later.")
        asked = await read_asked(request, self.site, TAKEN[what])
        model = self._model(asked.fields.model, task)
        facts = facts_of(request.scope)
        if facts is not None:
            facts.model = model.name
        asked = await self._with_picture(asked, request)
        pictures = np.empty(1, object)
        pictures[0] = await self._part_of(asked, request)
        name = next(info.name for info in model.inputs if info.pictures)
        began = time.perf_counter()
        timeout_s = self.site.limits.timeout_s
        future = plane.submit(model.name, {name: pictures}, outputs, timeout_s=timeout_s, protocol="rest")
        found = await answer_of(future, request.receive)
        seconds = round(time.perf_counter() - began, 6)
        return asked.fields, model, found, {"model": model.name, "version": model.version, "seconds": seconds}

    async def _part_of(self, asked: Asked, request: Request) -> bytes | None:
        """The picture that is asked about, or what is inside the box of it."""
        data, box, limits = asked.picture, asked.fields.box, self.site.limits
        if data is None or box is None:
            return data
        cut = functools.partial(cut_out, data, box, limits.max_pixels)
        return await self.cutting.run(cut, request.receive, limits.timeout_s)

    def _model(self, name: str | None, task: str) -> ServedModel:
        """The model that is named, or the first of the task.

        Raises:
            NotServedError: there is none.
            InputError: it is for something else, or takes no pictures.
        """
        plane = self.site.plane
        if name is not None:
            model = plane.model(name)
            if _fits(model, task):
                return model
            others = ", ".join(each.name for each in self._of_task(task)) or "none here"
            raise InputError(f"{model.name} is no {task} of pictures. Give one that is: {others}.")
        found = self._of_task(task)
        if not found:
            raise NotServedError(f"No {task} is served here. Start the server with one: --model NAME.")
        return found[0]

    def _of_task(self, task: str) -> list[ServedModel]:
        found = []
        for name in self.site.plane.names():
            try:
                found.append(self.site.plane.model(name))
            except NotServedError:
                continue  # it was unloaded meanwhile
        return [model for model in found if _fits(model, task)]

    async def _with_picture(self, asked: Asked, request: Request) -> Asked:
        """The same with the bytes that are asked about: sent, from an address, or of the lake.

        Raises:
            InputError: they cannot be fetched.
            NotServedError: the lake has no such image.
            BusyError: there is no memory for them at present.
        """
        fields, site = asked.fields, self.site
        if asked.picture is not None:
            return asked
        if fields.url is not None:
            fetch = functools.partial(download, [fields.url], self.downloads)
            data = (await self.fetching.run(fetch, request.receive, site.limits.timeout_s))[0]
        else:
            image_id = fields.id or ""
            data, _ = await self._read(request, lambda lake: lake.picture(image_id), image_id)
        return replace(asked, picture=data, held=site.budget.buffer(len(data)))

    async def _read(self, request: Request, read: Callable[[LakeView], _T | None], image_id: str | None = None) -> _T:
        """Something of an image of the lake.

        Raises:
            NotServedError: there is no such image.
        """
        lake = self._lake()
        found = await self.reading.run(lambda: read(lake), request.receive, self.site.limits.timeout_s)
        if found is None:
            name = image_id or request.path_params["id"]
            raise NotServedError(f"The lake has no image {name[:_SHOWN]!r}. Its id is the SHA-256 of its bytes.")
        return found

    def _lake(self) -> LakeView:
        if self.site.lake is None:
            raise NotServedError(self.site.why_no_lake)
        return self.site.lake


def _fits(model: ServedModel, task: str) -> bool:
    return model.task == task and any(info.pictures for info in model.inputs)


def _search(lake: LakeView, asked: Asked) -> Sequence[Found]:
    """The matches of one query; runs in a thread."""
    data, fields = asked.picture, asked.fields
    k, where, box = fields.k or DEFAULT_K["search"], fields.where, fields.box
    if fields.vector is not None:
        if box is not None or fields.exclude_self:
            raise InputError("box and exclude_self are for a picture, and a vector was given. Leave them out.")
        return lake.search_vectors(fields.vector[None], k=k, where=where)[0]
    if data is None and box is None:
        return lake.search_ids([fields.id or ""], k=k, where=where, exclude_self=fields.exclude_self)[0]
    if data is None:
        found = lake.picture(fields.id or "")
        if found is None:
            raise InputError(f"The lake has no image {fields.id!r}. Its id is the SHA-256 of its bytes.")
        data = found[0]
    return lake.search_pictures([data], k=k, where=where, box_xyxy=box, exclude_self=fields.exclude_self)[0]


def _root(request: Request) -> str:
    """What stands before every path of this server, where it is mounted below another."""
    return str(request.scope.get("root_path", ""))
