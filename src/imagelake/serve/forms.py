"""The files and the fields of a form (`multipart/form-data`), bounded in number and in size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from imagelake.serve.receive_fields import Refusal

_FIELD_BYTES = 64 << 10  # what a form may have besides its files
_FIELDS = 16
_STEP = 1 << 20  # bytes that are read before other requests have their turn
_FILE = "image"
_SHOWN = 100


@dataclass(frozen=True)
class Form:
    """What a form holds.

    Attributes:
        files: the bytes of each file, in order.
        fields: the texts by name; of one that comes twice the last.
    """

    files: list[bytes]
    fields: dict[str, str]


class _Parser(MultiPartParser):
    spool_max_size = 1 << 40  # whoever read the body bounded it; nothing goes to a temporary file


async def read_form(headers: Headers, body: bytes | memoryview, *, most_files: int) -> Form:
    """Take a form apart.

    Args:
        headers: of the request; Content-Type names the boundary.
        body: the whole.
        most_files: how many files it may have.

    Raises:
        Refusal: 400, it is no form, it is too large but for its files, or a file is not called `image`.
    """

    async def chunks() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), _STEP):
            yield bytes(body[start : start + _STEP])
            await asyncio.sleep(0)

    parser = _Parser(headers, chunks(), max_files=most_files, max_fields=_FIELDS, max_part_size=_FIELD_BYTES)
    try:
        found = await parser.parse()
    except (MultiPartException, KeyError, UnicodeError, LookupError) as error:
        reason = error.message if isinstance(error, MultiPartException) else "no boundary, or an unknown charset"
        raise Refusal(
            400, "the form cannot be read", reason[:_SHOWN], f"multipart/form-data with the file `{_FILE}`",
            "Send it so.",
        ) from error  # fmt: skip
    files: list[bytes] = []
    fields: dict[str, str] = {}
    try:
        for name, value in found.multi_items():
            if not isinstance(value, UploadFile):
                fields[name] = value
            elif name == _FILE:
                files.append(await value.read())
            else:
                raise Refusal(400, "unknown file", name[:_SHOWN], _FILE, f"Give the picture as the file `{_FILE}`.")
    finally:
        await found.close()
    return Form(files, fields)
