"""A request of the REST interface: the picture, in whatever way it was given, and the fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request

from imagelake.serve.body import read_body
from imagelake.serve.forms import read_form
from imagelake.serve.receive_fields import Refusal
from imagelake.serve.rest_fields import Fields, read_fields, read_object
from imagelake.serve.site import Site

_JSON_BYTES = 1 << 20
# What curl says of --data and --data-binary where nothing else is said: the picture itself then.
_CURL = "application/x-www-form-urlencoded"
_RAW = {"", "application/octet-stream", _CURL}


@dataclass(frozen=True)
class Asked:
    """What was asked.

    Attributes:
        picture: the bytes that came with the request; None where none did.
        fields: everything else.
        held: keeps the memory of the body in the budget while the picture is at work.
    """

    picture: bytes | None
    fields: Fields
    held: object = dataclasses.field(default=None, repr=False)


async def read_asked(request: Request, site: Site, allowed: Sequence[str]) -> Asked:
    """Read a request: a picture as the body, a form with the file `image`, or a JSON object.

    Args:
        request: whose body was not read yet.
        site: its limits and its budget.
        allowed: the fields that mean something here.

    Raises:
        Refusal: 400 or 415, it cannot be read, or it has not exactly one of picture, url, id and vector.
        ImagelakeError: as `read_body`.
    """
    kind = _kind(request)
    limits = site.limits
    if kind == "application/json":
        limits = dataclasses.replace(limits, max_body=min(limits.max_body, _JSON_BYTES))
    body = await read_body(request.scope, request.receive, limits, site.budget)
    given: Mapping[str, object] = {}
    picture: bytes | None = None
    if kind == "multipart/form-data":
        form = await read_form(request.headers, body, most_files=1)
        given, picture = form.fields, form.files[0] if form.files else None
    elif kind == "application/json":
        given = read_object(body) if len(body) else {}
    elif len(body):
        picture = bytes(body)
    fields = read_fields(allowed, request.query_params.multi_items(), given)
    _check_one(picture, fields, allowed)
    return Asked(picture, fields, body)


def _kind(request: Request) -> str:
    """The media type of the body.

    Raises:
        Refusal: 415, it is none that is read here.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise Refusal(415, "an encoded body", ascii(encoding)[1:-1][:100], "identity", "Send the picture as it is.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _RAW or kind.startswith("image/") or kind in ("multipart/form-data", "application/json"):
        return kind
    raise Refusal(
        415, "a body of another kind", ascii(kind)[1:-1][:100],
        "image/*, application/octet-stream, multipart/form-data, application/json",
        "Set Content-Type, such as image/jpeg.",
    )  # fmt: skip


def _check_one(picture: bytes | None, fields: Fields, allowed: Sequence[str]) -> None:
    ways = [name for name in ("url", "id", "vector") if name in allowed]
    given = [name for name in ways if getattr(fields, name) is not None]
    if picture is not None:
        given.insert(0, "a picture")
    if len(given) == 1 and picture != b"":
        return
    what = "no picture" if not given or picture == b"" else "more than one query"
    raise Refusal(
        400, what, " and ".join(given) if len(given) > 1 else "nothing", f"one of: a picture, {', '.join(ways)}",
        "Send the bytes with Content-Type: image/jpeg, or as the file `image` of a form.",
    )  # fmt: skip
