"""Receive pictures over HTTP: `POST /images`, and `GET /health`.

Memory is bounded before it is used: a request is refused with 429 where the budget has no room for what it announces,
before its body is read. A picture is answered for when the intake says that it is on the disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imagelake.errors import ImageError, ImagelakeError, LakeFullError
from imagelake.serve.forms import read_form
from imagelake.serve.receive_fields import Refusal, read_fields

_UNKNOWN_SIZE = 64 << 10  # reserved first where a request does not say how long it is
_FILES = 64


class Intake(Protocol):
    """Where pictures go: bounded in memory, durable when the future is done."""

    @property
    def retry_after_s(self) -> int:
        """After how many seconds asking again is worth it."""

    @property
    def trouble(self) -> ImagelakeError | None:
        """Why nothing can be taken in at present."""

    def counts(self) -> dict[str, int]:
        """What came in, and what is on its way."""

    def cost(self, size: int) -> int:
        """The memory to reserve for a picture of `size` bytes."""

    def reserve(self, cost: int) -> bool:
        """Ask for memory. False where there is none."""

    def release(self, cost: int) -> None:
        """Give back memory that was reserved."""

    def submit(self, data: bytes, about: Mapping[str, str | float]) -> Future[tuple[str, bool]]:
        """Take in a picture, for which `cost(len(data))` is reserved; in the future its id and whether it was known."""


@dataclass(frozen=True)
class ReceiveOptions:
    """Who may post, and how much.

    Attributes:
        api_key: what a request must show; None: nobody is asked.
        max_body: bytes of one request.
        body_timeout_s: how long a body may take to arrive.
    """

    api_key: str | None = field(default=None, repr=False)
    max_body: int = 32 << 20
    body_timeout_s: float = 30.0


@dataclass
class _Share:
    """Memory that a request has reserved; all of it goes back at the end, but for what the intake took over."""

    intake: Intake
    held: int = 0

    def take(self, cost: int) -> None:
        """Reserve more.

        Raises:
            Refusal: 429, there is no room.
        """
        if not self.intake.reserve(cost):
            wait = str(self.intake.retry_after_s)
            raise Refusal(
                429, "too many pictures at once", "another picture", "as many as can be kept up with",
                f"Send it again after {wait} s.", {"Retry-After": wait},
            )  # fmt: skip
        self.held += cost

    def close(self) -> None:
        self.intake.release(self.held)
        self.held = 0


def receiver(intake: Intake, options: ReceiveOptions) -> Starlette:
    """The application: `POST /images` and `GET /health`."""
    door = _Door(intake, options)
    return Starlette(
        routes=[
            Route("/images", door.post_images, methods=["POST"]),
            Route("/health", door.health, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _no_such_thing},
    )


async def _no_such_thing(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    body = {"error": str(getattr(error, "detail", "")), "allowed": "POST /images, GET /health"}
    return JSONResponse(body, status, getattr(error, "headers", None))


@dataclass(frozen=True)
class _Door:
    intake: Intake
    options: ReceiveOptions
    refused: Counter[int] = field(default_factory=Counter)  # by status

    async def health(self, _: Request) -> Response:
        """Whether pictures are taken in, and how many were. No secrets: anybody may ask."""
        trouble = _trouble(self.intake.trouble)
        counts = self.intake.counts() | {"refused": self.refused.total(), "refused_busy": self.refused[429]}
        body = {"status": trouble.reason if trouble else "ok", **counts}
        return JSONResponse(body, 503 if trouble else 200)

    async def post_images(self, request: Request) -> Response:
        """Take in the pictures of a request."""
        share = _Share(self.intake)
        try:
            return await self._post(request, share)
        except Refusal as refusal:
            self.refused[refusal.status] += 1
            return JSONResponse(refusal.body(), refusal.status, dict(refusal.headers))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        finally:
            share.close()

    async def _post(self, request: Request, share: _Share) -> Response:
        self._admit(request)
        in_parts = _is_multipart(request)
        size = self._announced(request)
        trouble = _trouble(self.intake.trouble)
        if trouble:
            raise trouble
        copies = 2 if in_parts else 1  # a form is there twice while it is taken apart
        share.take(self.intake.cost(_UNKNOWN_SIZE if size is None else size) * copies)
        try:
            async with asyncio.timeout(self.options.body_timeout_s):
                body = await self._read(request, share, copies, size)
        except TimeoutError:
            limit = f"{self.options.body_timeout_s:g} s"
            raise Refusal(
                408, "the body did not arrive in time", "a part of it", limit, "Send it again, faster.",
                {"Connection": "close"},
            ) from None  # fmt: skip
        files, form = await _take_apart(request, body) if in_parts else ([body], {})
        del body
        about = read_fields(form, request.headers, request.query_params)
        if not all(files):
            raise Refusal(400, "empty body", "0 bytes", "the bytes of a picture", "Send the file itself.")
        return await self._submit(share, files, about, listed=in_parts and len(files) > 1)

    def _admit(self, request: Request) -> None:
        """Let in who has the key; without a key, all but pages of other sites in a browser on this machine."""
        key = self.options.api_key
        if key is None:
            if "origin" in request.headers:
                raise Refusal(
                    403, "a web page may not post without a key", request.headers["origin"][:200], "no Origin header",
                    "Start the receiver with an API key.",
                )  # fmt: skip
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        shown = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        # Digests are of one length, so that the time tells nothing of the key's.
        digests = (hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (shown, key))
        if not hmac.compare_digest(*digests):
            raise Refusal(
                401, "the API key is missing or wrong", "a wrong key" if shown else "no key",
                "Authorization: Bearer KEY, or X-API-Key: KEY", "Show the key that the receiver was started with.",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip

    def _announced(self, request: Request) -> int | None:
        """How long the body says it is; None where it does not say."""
        text = request.headers.get("content-length")
        if text is None or not text.isdecimal():
            return None
        if int(text) > self.options.max_body:
            raise self._too_large(f"{int(text):,} bytes")
        return int(text)

    def _too_large(self, given: str) -> Refusal:
        return Refusal(
            413, "the request is too large", given, f"{self.options.max_body:,} bytes",
            "Send a smaller picture, or start the receiver with a larger --max-mb.",
        )  # fmt: skip

    async def _read(self, request: Request, share: _Share, copies: int, announced: int | None) -> bytes:
        """The body, counted while it comes."""
        chunks: list[bytes] = []
        size, reserved = 0, _UNKNOWN_SIZE if announced is None else announced
        async for chunk in request.stream():
            size += len(chunk)
            if size > self.options.max_body:
                raise self._too_large(f"more than {self.options.max_body:,} bytes")
            if size > reserved:
                more = max(size - reserved, _UNKNOWN_SIZE)
                share.take(more * copies)
                reserved += more
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _submit(
        self, share: _Share, files: Sequence[bytes], about: Mapping[str, str | float], *, listed: bool
    ) -> Response:
        """Hand the pictures over and answer when all are decided."""
        futures = []
        for data in files:
            cost = self.intake.cost(len(data))
            if share.held < cost:  # many small files in one form
                share.take(cost - share.held)
            share.held -= cost
            futures.append(self.intake.submit(data, about))
        del files
        waiting = [asyncio.wrap_future(future) for future in futures]
        answers = [_answer(found) for found in await asyncio.gather(*waiting, return_exceptions=True)]
        if not listed:
            status, answer = answers[0]
            return JSONResponse(answer, status)
        statuses = sorted({status for status, _ in answers})
        status = statuses[-1] if len(statuses) == 1 or statuses == [200, 201] else 207
        return JSONResponse({"images": [answer | {"status": status} for status, answer in answers]}, status)


def _answer(found: tuple[str, bool] | BaseException) -> tuple[int, dict[str, object]]:
    """Status and body for one picture."""
    if isinstance(found, tuple):
        image_id, known = found
        return (200 if known else 201), {"id": image_id, "known": known}
    if isinstance(found, ImageError):
        refusal = Refusal(
            422, str(found), "bytes that cannot become a picture", "JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, HEIC",
            "Send a whole picture.",
        )  # fmt: skip
        return 422, dict(refusal.body())
    if isinstance(found, ImagelakeError):
        trouble = _trouble(found)
        if trouble is not None:
            return trouble.status, dict(trouble.body())
    raise found


def _trouble(error: ImagelakeError | None) -> Refusal | None:
    """What the client is told of it: no paths of this machine."""
    if error is None:
        return None
    if isinstance(error, LakeFullError):
        return Refusal(
            507, "no space is left where the lake is", "a picture", "what fits", "Keep it, and send it again later."
        )
    return Refusal(
        503, "the lake cannot be written", "a picture", "nothing at present", "Keep it, and send it again later.",
        {"Retry-After": "10"},
    )  # fmt: skip


def _is_multipart(request: Request) -> bool:
    """Whether the body is a form with files, not the picture itself."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise Refusal(415, "an encoded body", encoding[:100], "identity", "Send the picture as it is.")
    if kind == "multipart/form-data":
        return True
    if kind and kind != "application/octet-stream" and not kind.startswith("image/"):
        raise Refusal(
            415, "a body of another kind", kind[:100], "image/*, application/octet-stream, multipart/form-data",
            "Set Content-Type, such as image/jpeg.",
        )  # fmt: skip
    return False


async def _take_apart(request: Request, body: bytes) -> tuple[list[bytes], dict[str, str]]:
    """The files and the fields of a form."""
    form = await read_form(request.headers, body, most_files=_FILES)
    if not form.files:
        raise Refusal(400, "no picture", "a form without a file", "the file `image`", "Add it, with a file name.")
    return form.files, form.fields
