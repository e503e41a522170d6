"""What a request of the REST interface may say besides its picture: names, values, limits, one table for all of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.serve.receive_fields import Refusal

MOST_K = 1_000
_SHOWN = 100
_NUMBERS = 65_536  # of a vector
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_WHOLE = re.compile(r"\d{1,30}", re.ASCII)
_ID = re.compile(r"[0-9a-f]{64}")

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Fields:
    """The fields of a request; None and False where one was not given."""

    model: str | None = None
    k: int | None = None
    min_score: float | None = None
    where: str | None = None
    box: Box | None = None
    exclude_self: bool = False
    id: str | None = None
    url: str | None = None
    vector: NDArray[np.float32] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Field:
    """One field.

    Attributes:
        read: makes the value of what was given; raises ValueError where that cannot be.
        allowed: what may be given, in words.
        description: what it is for.
        schema: of the value, as JSON Schema.
        example: a value.
        in_query: whether it may stand in the address too.
    """

    read: Callable[[object], Any]
    allowed: str
    description: str
    schema: Mapping[str, Any]
    example: object
    in_query: bool = True


def _text(longest: int) -> Callable[[object], str]:
    def read(given: object) -> str:
        if not isinstance(given, str) or not 1 <= len(given) <= longest or "\0" in given:
            raise ValueError
        given.encode()  # half of a letter is none: UnicodeError is a ValueError
        return given

    return read


def _count(given: object) -> int:
    if isinstance(given, str) and _WHOLE.fullmatch(given):
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST_K:
        raise ValueError
    return given


def _share(given: object) -> float:
    value = _number(given)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def _number(given: object) -> float:
    if isinstance(given, str):
        given = float(given) if given.isascii() and "_" not in given else None
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise ValueError
    return float(given)


def _truth(given: object) -> bool:
    if isinstance(given, str):
        given = _TRUTHS.get(given.lower())
    if not isinstance(given, bool):
        raise ValueError  # noqa: TRY004  (one kind of error for all values)
    return given


def _list(given: object) -> Sequence[object]:
    if isinstance(given, str):
        given = given.strip().removeprefix("[").removesuffix("]").split(",")
        return [each.strip() for each in given]
    if not isinstance(given, list):
        raise ValueError  # noqa: TRY004
    return given


def _box(given: object) -> Box:
    sides = [_share(side) for side in _list(given)]
    left, top, right, bottom = sides  # of another number: ValueError
    if not (left < right and top < bottom):
        raise ValueError
    return left, top, right, bottom


def _vector(given: object) -> NDArray[np.float32]:
    numbers = _list(given)
    if not 1 <= len(numbers) <= _NUMBERS:
        raise ValueError
    with np.errstate(over="ignore"):
        vector = np.array([_number(each) for each in numbers]).astype(np.float32)
    if not np.isfinite(vector).all():
        raise ValueError
    return vector


def _image_id(given: object) -> str:
    if not isinstance(given, str) or not _ID.fullmatch(given):
        raise ValueError
    return given


_EXAMPLE_ID = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
FIELDS: dict[str, Field] = {
    "model": Field(
        _text(200), "the name of a served model: see GET /api/models",
        "Which model answers. By default the first of the right kind.",
        {"type": "string", "minLength": 1, "maxLength": 200}, "efficientnet-lite0",
    ),
    "k": Field(
        _count, f"a whole number from 1 to {MOST_K:,}", "How many are answered, the best first.",
        {"type": "integer", "minimum": 1, "maximum": MOST_K}, 5,
    ),
    "min_score": Field(
        _share, "a number from 0 to 1", "Answers with a lower score or probability are left out.",
        {"type": "number", "minimum": 0, "maximum": 1}, 0.25,
    ),
    "where": Field(
        _text(4_000), "an SQL condition on the columns of images, such as width > 1000",
        "Only images for which this SQL condition holds are searched, such as `width > 1000 AND format = 'jpeg'`.",
        {"type": "string", "minLength": 1, "maxLength": 4_000}, "width > 100",
    ),
    "box": Field(
        _box, "left,top,right,bottom in 0..1 of the upright picture, left < right and top < bottom",
        "Only what is inside this box of the picture counts: left, top, right, bottom in 0..1 of the upright picture.",
        {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}, "minItems": 4, "maxItems": 4},
        [0.5, 0, 1, 1],
    ),
    "exclude_self": Field(
        _truth, "true or false", "Leave out the query itself, where it is an image of the lake.",
        {"type": "boolean"}, example=True,
    ),
    "id": Field(
        _image_id, "64 hexadecimal digits: the SHA-256 of an image of the lake",
        "An image of the lake, instead of a picture that is sent.",
        {"type": "string", "pattern": "^[0-9a-f]{64}$"}, _EXAMPLE_ID,
    ),
    "url": Field(
        _text(4_000), "an address of http or https",
        "Where the picture is fetched from, instead of being sent. Private addresses are refused.",
        {"type": "string", "format": "uri", "minLength": 1, "maxLength": 4_000}, "https://example.org/cat.jpg",
        in_query=False,
    ),
    "vector": Field(
        _vector, "a list of finite numbers, as many as the embedding set has dimensions",
        "A vector to search for, instead of a picture.",
        {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": _NUMBERS}, [0.12, -0.5, 0.33],
        in_query=False,
    ),
}  # fmt: skip
ALIASES = {"top_k": "k"}


def read_fields(allowed: Sequence[str], query: Iterable[tuple[str, str]], body: Mapping[str, object]) -> Fields:
    """The fields of a request, checked. One of the body comes before the same of the address.

    Args:
        allowed: the names of the fields that mean something here.
        query: the parameters of the address.
        body: the fields of a form or of a JSON object; null is as if it was not given.

    Raises:
        Refusal: 400, a field is not known, comes twice, or has no sensible value.
    """
    found: dict[str, Any] = {}
    for name, value in query:
        known = _known(name, [each for each in allowed if FIELDS[each].in_query])
        if known in found:
            raise Refusal(400, f"{known} is given twice", ascii(value)[:_SHOWN], "one value", "Leave one out.")
        found[known] = _read(known, value)
    for name, given in body.items():
        if given is not None:
            known = _known(name, allowed)
            found[known] = _read(known, given)
    return Fields(**found)


def _known(name: str, allowed: Sequence[str]) -> str:
    known = ALIASES.get(name, name)
    if known not in allowed:
        raise Refusal(400, "unknown field", ascii(name)[1:-1][:_SHOWN], ", ".join(allowed), "Leave it out.")
    return known


def _read(name: str, given: object) -> Any:
    try:
        return FIELDS[name].read(given)
    except (ValueError, OverflowError, TypeError):
        shown = given if isinstance(given, str) else json.dumps(given, default=str)
        raise Refusal(
            400, f"{name} has no value that makes sense", ascii(shown[:_SHOWN])[1:-1][:_SHOWN], FIELDS[name].allowed,
            "Give such a value, or leave it out.",
        ) from None  # fmt: skip


def read_object(data: bytes | memoryview) -> dict[str, object]:
    """The JSON object of a body.

    Raises:
        Refusal: 400, it is none.
    """
    try:
        found = json.loads(bytes(data), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refusal(
            400, "the body is no JSON object", f"{len(data):,} bytes", 'such as {"url": "https://example.org/cat.jpg"}',
            "Send an object, or the picture itself with Content-Type: image/jpeg.",
        )  # fmt: skip
    return found


def _refuse_constant(word: str) -> float:
    raise ValueError(word)
