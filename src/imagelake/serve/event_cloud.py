"""CloudEvents 1.0 over HTTP: structured, binary and batched.

After "CloudEvents 1.0.2", "HTTP Protocol Binding" and "JSON Event Format" of the CNCF.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote_to_bytes

from imagelake.errors import InputError
from imagelake.serve.event_objects import read_data, read_s3_record
from imagelake.serve.event_upload import (
    KEY_LETTERS,
    Ignored,
    UploadEvent,
    parse_json,
    read_moment,
    read_text,
    read_text_if,
)

_ATTRIBUTE = re.compile(r"[a-z0-9]{1,64}")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SLASHED = re.compile(r"\\(.)", re.DOTALL)
_OWN = ("id", "source", "type", "specversion", "subject", "time", "datacontenttype", "dataschema")


def read_structured(event: Mapping[str, Any]) -> list[UploadEvent | Ignored]:
    """An event whose attributes and data are one JSON object.

    Raises:
        InputError: it is no event of version 1.0.
    """
    if event.get("data") is not None and event.get("data_base64") is not None:
        raise InputError("the event has both `data` and `data_base64`; give one.")
    data: object = event.get("data")
    if event.get("data_base64") is not None:
        data = _from_base64(event)
    elif isinstance(data, str) and data.lstrip()[:1] in {"{", "["}:  # JSON in JSON, which some senders write
        data = _json_or_text(data.encode("utf-8", "surrogatepass"))
    attributes = {name: value for name, value in event.items() if name not in {"data", "data_base64"}}
    return _read(attributes, data)


def _from_base64(event: Mapping[str, Any]) -> object:
    text = event["data_base64"]
    if not isinstance(text, str):
        raise InputError("`data_base64` of the event is no text; give the data in base64.")
    try:
        return _json_or_text(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise InputError("`data_base64` of the event is no base64; encode the data as RFC 4648 has it.") from None


def _json_or_text(data: bytes | memoryview) -> object:
    """Data as JSON; None where they are none, so that who needs them says what is missing."""
    try:
        return parse_json(data, "the data")
    except InputError:
        return None


def read_binary(
    headers: Iterable[tuple[bytes, bytes]], content_type: str, body: bytes | memoryview
) -> list[UploadEvent | Ignored]:
    """An event whose attributes are headers `ce-...`, and whose data are the body.

    Raises:
        InputError: it is no event of version 1.0, or a header cannot be read.
    """
    attributes: dict[str, Any] = {}
    for raw, value in headers:
        name = raw.decode("latin-1").lower()
        if not name.startswith("ce-"):
            continue
        name = name.removeprefix("ce-")
        if not _ATTRIBUTE.fullmatch(name):
            raise InputError(f"the header ce-{name[:60]!a} names no attribute; use a to z and digits.")
        if name in attributes:
            raise InputError(f"the header ce-{name} is there twice; give it once.")
        attributes[name] = decode_header(value, name)
    if "datacontenttype" in attributes:
        raise InputError("the header ce-datacontenttype is not used; give Content-Type.")
    kind = content_type.partition(";")[0].strip().lower()
    if kind and kind != "text/plain" and not (kind.endswith("+json") or kind == "application/json"):
        raise InputError(f"the data are {kind[:60]!a}; JSON that says where the object is, is understood.")
    return _read(attributes, parse_json(body, "the body") if len(body) else None)


def decode_header(value: bytes, name: str) -> str:
    """The text of an attribute in a header: without quotes, percent-decoded once.

    Raises:
        InputError: the bytes are not UTF-8.
    """
    text = value.strip(b" \t").decode("latin-1")
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        text = _SLASHED.sub(r"\1", quoted[1])
    try:
        return unquote_to_bytes(text.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"the header ce-{name} is not UTF-8 when it is decoded; percent-encode it so.") from None


def _read(attributes: Mapping[str, Any], data: object) -> list[UploadEvent | Ignored]:
    """The uploads of an event: one, or more where its data are a notification of S3."""
    what = "the event"
    version = read_text(attributes, "specversion", what, 16)
    if version != "1.0":
        raise InputError(f"`specversion` is {version!a}; 1.0 is understood.")
    event_id, source = read_text(attributes, "id", what), read_text(attributes, "source", what)
    kind = read_text(attributes, "type", what, 256)
    subject = read_text_if(attributes, "subject", what, KEY_LETTERS)
    told: dict[str, Any] = {
        "id": event_id,
        "source": source,
        "kind": kind,
        "happened_at": read_moment(attributes, "time", what),
    }
    records = _records(data)
    if records is not None:
        ids = [event_id] if len(records) == 1 else [f"{event_id}.{number}" for number in range(len(records))]
        return [_with(read_s3_record(record), told | {"id": each}) for record, each in zip(records, ids, strict=True)]
    if kind.startswith("com.amazonaws.s3.") and not kind.startswith("com.amazonaws.s3.ObjectCreated"):
        return [Ignored(f"{kind} is no upload")]
    extensions = {name: value for name, value in attributes.items() if name not in _OWN}
    found = read_data(kind, subject, data, extensions)
    return [found if isinstance(found, Ignored) else UploadEvent(**found, **told)]


def _records(data: object) -> list[Mapping[str, Any]] | None:
    """The records of S3 that an event carries: all of a notification, or one."""
    if not isinstance(data, dict):
        return None
    records = data.get("Records")
    if isinstance(records, list) and all(isinstance(record, dict) for record in records):
        return records
    return [data] if isinstance(data.get("s3"), dict) else None


def _with(found: UploadEvent | Ignored, told: dict[str, Any]) -> UploadEvent | Ignored:
    """The upload of a record, under the id and source of the event around it."""
    if isinstance(found, Ignored):
        return found
    return replace(found, **told | {"happened_at": told["happened_at"] or found.happened_at})
