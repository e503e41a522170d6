"""JSON that strangers send, read within bounds of memory, and its fields with their types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from imagelake.errors import InputError, TooLargeError
from imagelake.serve.oip_types import shown

# JSON is read in one go, and meanwhile no other thread runs: these keep that to some tenths of a second.
MAX_JSON = 4 << 20  # bytes; more belongs into binary tensors
MAX_JSON_VALUES = 1 << 20  # of all lists together; of what is written too
MAX_JSON_PARTS = 1 << 18  # lists and objects, and as many strings: each takes far more memory than text
HEADER_LENGTH = "Inference-Header-Content-Length"


def load_json(data: memoryview) -> object:
    """What a JSON text says.

    Raises:
        TooLargeError: it is beyond `MAX_JSON`, or would take far more memory than that.
        InputError: it is no JSON, nested too deeply, or has NaN or an infinity.
    """
    if len(data) > MAX_JSON:
        raise TooLargeError(
            f"The request has {len(data):,} bytes of JSON; at most {MAX_JSON:,} are read. Send tensors as binary, with "
            f"{HEADER_LENGTH}."
        )
    try:
        text = str(data, "utf-8")
        if text.count(",") > MAX_JSON_VALUES:
            raise TooLargeError(
                f"The JSON of the request has more than {MAX_JSON_VALUES:,} values. Send tensors as binary, with "
                f"{HEADER_LENGTH}."
            )
        if text.count("[") + text.count("{") > MAX_JSON_PARTS or text.count('"') > 2 * MAX_JSON_PARTS:
            raise TooLargeError(
                f"The JSON of the request has more than {MAX_JSON_PARTS:,} lists, objects or strings. Send data flat, "
                "or as binary."
            )
        return json.loads(text, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise InputError(
            f"The request is no JSON: byte {error.start} is no UTF-8. Where tensors follow as binary, {HEADER_LENGTH} "
            "says how long the JSON is; of a raw body it is 0."
        ) from None
    except RecursionError:
        raise InputError("The JSON of the request is nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"The request is no JSON: {error.msg} at character {error.pos}.") from None
    except ValueError:
        raise InputError("The JSON of the request has a number with too many digits.") from None


def _no_constant(name: str) -> object:
    raise InputError(f"The request has {name}, which JSON does not have. Send the tensor as binary.")


def object_of(value: object, where: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: it is none; the message begins with `where`.
    """
    if not isinstance(value, dict):
        raise InputError(f"{where} must be a JSON object, and is {kind_of(value)}.")
    return value


def list_of(asked: Mapping[str, Any], key: str, most: int) -> list[Any]:
    """The tensors that a request lists under a key.

    Raises:
        InputError: there is no list.
        TooLargeError: it has more than `most`.
    """
    value = asked.get(key)
    if not isinstance(value, list):
        raise InputError(f'"{key}" of the request must be a list, and is {kind_of(value)}.')
    if len(value) > most:
        raise TooLargeError(f'"{key}" of the request has {len(value):,} tensors; at most {most} are taken.')
    return value


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "missing"
    words = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number"}
    return words.get(type(value), "a number")


def parameters_of(owner: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The parameters of a request or a tensor; empty where it has none.

    Raises:
        InputError: they are no object.
    """
    found = owner.get("parameters")
    return {} if found is None else object_of(found, f'"parameters" of {where[0].lower()}{where[1:]}')


def flag_of(about: Mapping[str, Any], key: str) -> bool | None:
    """A parameter that is true or false; None where it is not given.

    Raises:
        InputError: it is something else.
    """
    value = about.get(key)
    if value is not None and not isinstance(value, bool):
        raise InputError(f'The parameter "{key}" must be true or false, and is {kind_of(value)}.')
    return value


def count_of(about: Mapping[str, Any], key: str) -> int | None:
    """A parameter that is an integer of 0 or more; None where it is not given.

    Raises:
        InputError: it is something else.
    """
    value = about.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise InputError(f'The parameter "{key}" must be an integer of 0 or more, and is {shown(value)}.')
    return value
