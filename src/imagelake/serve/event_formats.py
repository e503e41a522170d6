"""What a request tells of uploads: the door through which every format of events becomes one.

This file and those of the formats know no sockets and fetch nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from imagelake.errors import InputError, TooLargeError
from imagelake.serve.event_cloud import read_binary, read_structured
from imagelake.serve.event_objects import read_object_storage, read_s3_record
from imagelake.serve.event_upload import Ignored, UploadEvent, parse_json, read_object

MOST_EVENTS = 1000
_UNDERSTOOD = "CloudEvents 1.0, notifications of S3 (`Records`), or events of object storage (`cloudEventsVersion` 0.1)"
_BATCH = "application/cloudevents-batch"
_STRUCTURED = "application/cloudevents"


def read_events(headers: Sequence[tuple[bytes, bytes]], body: bytes | memoryview) -> list[UploadEvent | Ignored]:
    """The events of a request, in their order; what is no upload is `Ignored`.

    A request is understood as a whole or refused as a whole, so that whoever sends it again loses and doubles nothing.

    Args:
        headers: of the request, as they came.
        body: of the request.

    Raises:
        InputError: it is no event, or a broken one.
        TooLargeError: it holds more than `MOST_EVENTS`.
    """
    found = _read(headers, body)
    _check_count(found)
    return found


def _read(headers: Sequence[tuple[bytes, bytes]], body: bytes | memoryview) -> list[UploadEvent | Ignored]:
    content_type = _header(headers, b"content-type")
    kind = content_type.partition(";")[0].strip().lower()
    _check_charset(content_type)
    if kind.startswith(_STRUCTURED):
        if kind.rpartition("+")[2] != "json" and "+" in kind:
            raise InputError(f"the format {kind[:60]!a} is not understood; send application/cloudevents+json.")
        told = parse_json(body, "the body")
        if kind.startswith(_BATCH):
            return _batch(told, read_structured)
        return read_structured(read_object(told, "the body"))
    if any(name.lower() == b"ce-specversion" for name, _ in headers):
        return read_binary(headers, content_type, body)
    told = parse_json(body, "the body")
    return _batch(told, _guess) if isinstance(told, list) else _guess(told)


def _header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in headers if name.lower() == wanted), "")


def _check_charset(content_type: str) -> None:
    for part in content_type.split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in {"utf-8", "utf8", "us-ascii"}:
            raise InputError(f"the charset {value.strip()[:40]!a} is not understood; send UTF-8.")


def _batch(told: object, read: Any) -> list[UploadEvent | Ignored]:
    if not isinstance(told, list):
        raise InputError("the body of a batch is no list; send a JSON list of events.")
    _check_count(told)
    found: list[UploadEvent | Ignored] = []
    for number, event in enumerate(told):
        try:
            found += read(read_object(event, "it"))
        except InputError as error:
            raise InputError(f"event {number} of the batch: {error}") from error
    _check_count(found)
    return found


def _check_count(events: Sequence[object]) -> None:
    if len(events) > MOST_EVENTS:
        raise TooLargeError(f"The request holds {len(events):,} events; send at most {MOST_EVENTS:,} at once.")


def _guess(told: object) -> list[UploadEvent | Ignored]:
    """Events of a body whose Content-Type does not say what it is."""
    event = read_object(told, "the body")
    if "cloudEventsVersion" in event:
        return [read_object_storage(event)]
    if "specversion" in event:
        return read_structured(event)
    if "Records" in event:
        records = event["Records"]
        if not isinstance(records, list):
            raise InputError("`Records` is no list; send the notification as it came.")
        _check_count(records)
        return [read_s3_record(read_object(record, "a record")) for record in records]
    if event.get("Event") == "s3:TestEvent":
        return [Ignored("a test event: the store says that it will send events")]
    raise InputError(f"the body is no event that is understood; send {_UNDERSTOOD}.")
