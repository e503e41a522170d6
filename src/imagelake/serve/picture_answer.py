"""The bytes of a picture as an answer: kept by caches, checked again by its tag, or sent in part."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response

MEDIA_TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
    "avif": "image/avif",
    "heic": "image/heic",
}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, max-age=86400",
}
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)


def picture_answer(request: Request, data: bytes, image_format: str, tag: str) -> Response:
    """The whole picture, the part of it that Range asks for, or 304 where the caller has it.

    Args:
        request: its headers If-None-Match, If-Range and Range are heeded.
        data: the picture.
        image_format: such as `"jpeg"`.
        tag: names these bytes.
    """
    etag = f'"{tag}"'
    headers = _HEADERS | {"ETag": etag}
    if _has(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    media_type = MEDIA_TYPES.get(image_format, "application/octet-stream")
    part = None
    if request.headers.get("if-range", etag) == etag:
        part = _part(request.headers.get("range", ""), len(data))
    if part is None:
        return Response(data, headers=headers, media_type=media_type)
    if not part:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(data)}"
    return Response(data[part.start : part.stop], 206, headers, media_type)


def _has(if_none_match: str | None, etag: str) -> bool:
    given = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in given or given == ["*"]


def _part(asked: str, size: int) -> range | None:
    """The bytes of one range; an empty range where there are none; None where all are wanted (RFC 9110, 14.2)."""
    match = _RANGE.fullmatch(asked.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        last = int(match[2])
        return range(max(0, size - last), size) if last else range(0)
    first = int(match[1])
    if match[2] and int(match[2]) < first:
        return None
    return range(first, min(size, int(match[2]) + 1) if match[2] else size)
