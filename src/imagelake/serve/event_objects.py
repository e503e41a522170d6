"""Which object an event is about: what the stores write into an event's data, each in its own way."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from imagelake.errors import InputError
from imagelake.serve.event_upload import (
    KEY_LETTERS,
    Ignored,
    UploadEvent,
    is_clean,
    read_about,
    read_moment,
    read_object,
    read_size,
    read_text,
    read_text_if,
)

_OBJECT_STORAGE = "com.oraclecloud.objectstorage."
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._$-]*")
_STORED = {"createobject", "updateobject"}
_OVER = ("delet", "remov", "expir", "archiv")  # parts of what events are called when an object is gone
_VERSION = re.compile(r"v?\d+")
_QUERY = re.compile(r"\?(?=\S).*", re.DOTALL)
_ADDRESS = re.compile(r"\b([a-z][a-z0-9+.-]*://[^\s/?#'\"]*)/[^\s'\"]*", re.IGNORECASE)


def read_s3_record(record: Mapping[str, Any]) -> UploadEvent | Ignored:
    """A record of an S3 notification (AWS: "Event message structure", versions 2.x; MinIO, Ceph and others alike).

    Args:
        record: an entry of `Records`. The key in it is percent-encoded as a form is: `+` is a space.

    Raises:
        InputError: it lacks what such a record has.
    """
    what = "a record"
    version = read_text_if(record, "eventVersion", what, 16) or "2.0"
    if version.partition(".")[0] != "2":
        raise InputError(f"`eventVersion` of a record is {version!a}; versions 2.x are understood.")
    kind = read_text(record, "eventName", what, 256).removeprefix("s3:")
    s3 = read_object(record.get("s3"), "`s3` of a record")
    bucket = _bucket(read_object(s3.get("bucket"), "`s3.bucket` of a record"), "name", "`s3.bucket`")
    stored = read_object(s3.get("object"), "`s3.object` of a record")
    key = _decoded(read_text(stored, "key", "`s3.object`", 9 * KEY_LETTERS))
    if key is None:  # a store may keep such a name, and the other records of its notification count
        return Ignored("its name is not UTF-8, too long, or has letters that steer")
    uri = f"s3://{bucket}/{key}"
    if not kind.startswith("ObjectCreated:"):
        return Ignored(f"{kind} is no upload", uri)
    told = record.get("responseElements")
    answer = told if isinstance(told, dict) else {}
    ids = [read_text_if(answer, name, "`responseElements`") for name in ("x-amz-request-id", "x-amz-id-2")]
    sequencer = read_text_if(stored, "sequencer", "`s3.object`", 128)
    etag = read_text_if(stored, "eTag", "`s3.object`", 512)
    moment = read_moment(record, "eventTime", what)
    named = ".".join(each for each in ids if each) or sequencer
    source = [read_text_if(record, name, what, 256) or "" for name in ("eventSource", "awsRegion")]
    version_id = read_text_if(stored, "versionId", "`s3.object`", 1024)
    return UploadEvent(
        id=named or _digest(record),
        source=".".join([*source, bucket]),  # id and source as the CloudEvents adapter for S3 writes them
        kind=kind,
        uri=uri,
        bucket=bucket,
        happened_at=moment,
        size=read_size(stored, "size"),
        etag=etag,
        version=None if version_id == "null" else version_id,
        sequencer=sequencer,
        about=read_about(stored.get("userMetadata")),
    )


def _decoded(key: str) -> str | None:
    """A key as it is, without the encoding; None where it is no name that can be asked for."""
    try:
        found = unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        return None
    return found if len(found) <= KEY_LETTERS and is_clean(found) else None


def _digest(record: Mapping[str, Any]) -> str:
    """An id for a record that has none: another where anything in it differs."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _bucket(holder: Mapping[str, Any], name: str, what: str) -> str:
    """The name of a bucket, which stands in an address as it is."""
    bucket = read_text(holder, name, what, 255)
    if not _BUCKET.fullmatch(bucket):
        raise InputError(f"`{name}` of {what} is {bucket[:60]!a}, and no name of a bucket: letters, digits, `.-_`.")
    return bucket


def _name(holder: Mapping[str, Any], name: str, what: str) -> str:
    return read_text(holder, name, what, KEY_LETTERS)


def read_object_storage(event: Mapping[str, Any]) -> UploadEvent | Ignored:
    """An event of object storage in the envelope of CloudEvents 0.1, as Oracle's Events service writes it.

    Raises:
        InputError: it lacks what such an event has.
    """
    what = "the event"
    version = read_text(event, "cloudEventsVersion", what, 16)
    if version != "0.1":
        raise InputError(f"`cloudEventsVersion` is {version!a}; 0.1 is understood, and `specversion` 1.0.")
    kind = read_text(event, "eventType", what, 256)
    event_id = read_text(event, "eventID", what)
    source = read_text(event, "source", what)
    moment = read_moment(event, "eventTime", what)
    extensions = event.get("extensions")
    found = object_storage_upload(kind, read_object(event.get("data"), "`data` of the event"), extensions)
    if isinstance(found, Ignored):
        return found
    return UploadEvent(**found, id=event_id, source=source, kind=kind, happened_at=moment)


def object_storage_upload(kind: str, data: Mapping[str, Any], extensions: object = None) -> dict[str, Any] | Ignored:
    """The fields of the upload in the data of an event of Oracle's object storage."""
    if not kind.startswith(_OBJECT_STORAGE):
        return Ignored(f"{kind} is no event of object storage")
    if kind.removeprefix(_OBJECT_STORAGE) not in _STORED:
        return Ignored(f"{kind} is no upload")
    details = read_object(data.get("additionalDetails"), "`additionalDetails` of the data")
    bucket = _bucket(details, "bucketName", "`additionalDetails`")
    namespace = _bucket(details, "namespace", "`additionalDetails`")
    return {
        "uri": f"oci://{bucket}@{namespace}/{_name(data, 'resourceName', 'the data')}",
        "bucket": bucket,
        "etag": read_text_if(details, "eTag", "`additionalDetails`", 512),
        "version": read_text_if(details, "versionId", "`additionalDetails`", 1024),
        "about": read_about(extensions, data, details, data.get("freeFormTags"), data.get("freeformTags")),
    }


def read_data(kind: str, subject: str | None, data: object, extensions: Mapping[str, Any]) -> dict[str, Any] | Ignored:
    """The fields of the upload in the data of an event whose envelope says the rest.

    Understood are Google's and Azure's storage events, Oracle's, and the plain form
    `{"url": ADDRESS}` or `{"bucket": ..., "key": ...}`, each with `latitude`, `longitude`, `device`, `size`, `etag`.

    Raises:
        InputError: nothing in it says where the object is.
    """
    if not isinstance(data, dict):
        raise InputError(f"the data of {kind[:100]!a} do not say where the object is; give {_PLAIN}.")
    if kind.startswith("google.cloud.storage."):
        return _google(kind, data, extensions)
    if kind.startswith("Microsoft.Storage."):
        return _azure(kind, subject, data, extensions)
    if kind.startswith("com.oraclecloud."):
        return object_storage_upload(kind, data, dict(extensions))
    return _plain(kind, data, extensions)


_PLAIN = '{"url": "https://..."} or {"bucket": ..., "key": ...}'


def _google(kind: str, data: Mapping[str, Any], extensions: Mapping[str, Any]) -> dict[str, Any] | Ignored:
    if kind != "google.cloud.storage.object.v1.finalized":
        return Ignored(f"{kind} is no upload")
    bucket = _bucket(data, "bucket", "the data")
    return {
        "uri": f"gs://{bucket}/{_name(data, 'name', 'the data')}",
        "bucket": bucket,
        "size": read_size(data, "size"),
        "etag": read_text_if(data, "etag", "the data", 512),
        "about": read_about(dict(extensions), data.get("metadata")),
    }


def _azure(
    kind: str, subject: str | None, data: Mapping[str, Any], extensions: Mapping[str, Any]
) -> dict[str, Any] | Ignored:
    if kind != "Microsoft.Storage.BlobCreated":
        return Ignored(f"{kind} is no upload")
    container, separator, name = (subject or "").removeprefix("/blobServices/default/containers/").partition("/blobs/")
    if not separator or not _BUCKET.fullmatch(container) or not name:
        raise InputError(
            "`subject` of the event names no blob; give /blobServices/default/containers/CONTAINER/blobs/NAME."
        )
    return {
        "uri": f"az://{container}/{name}",
        "bucket": container,
        "size": read_size(data, "contentLength"),
        "etag": read_text_if(data, "eTag", "the data", 512),
        "sequencer": read_text_if(data, "sequencer", "the data", 128),
        "about": read_about(dict(extensions)),
    }


def _plain(kind: str, data: Mapping[str, Any], extensions: Mapping[str, Any]) -> dict[str, Any] | Ignored:
    if _is_over(kind):
        return Ignored(f"{kind} is no upload")
    address = read_text_if(data, "url", "the data", 16_384) or read_text_if(data, "uri", "the data", 16_384)
    bucket: str | None = None
    if address is not None:
        uri, bucket = _address(address)
    elif data.get("bucket"):
        bucket = _bucket(data, "bucket", "the data")
        uri = f"s3://{bucket}/{_name(data, 'key' if 'key' in data else 'name', 'the data')}"
    else:
        raise InputError(f"the data of {kind[:100]!a} do not say where the object is; give {_PLAIN}.")
    return {
        "uri": uri,
        "bucket": bucket,
        "size": read_size(data, "size"),
        "etag": read_text_if(data, "etag", "the data", 512),
        "version": read_text_if(data, "version", "the data", 1024),
        "sequencer": read_text_if(data, "sequencer", "the data", 128),
        "about": read_about(dict(extensions), data),
    }


def _is_over(kind: str) -> bool:
    """Whether what happened, the last word of a type but for its version, is that an object is gone."""
    words = [word for word in re.split(r"[.:/]", kind.lower()) if word and not _VERSION.fullmatch(word)]
    return any(part in words[-1] for part in _OVER) if words else False


def _address(address: str) -> tuple[str, str | None]:
    """An address in an event, without user and password, and the bucket that it names."""
    address = address.strip()
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        host = None
    if not host:
        raise InputError("`url` of the data is no address; give https://HOST/PATH or s3://BUCKET/KEY.")
    scheme = parts.scheme.lower()
    if scheme in {"http", "https"}:
        if parts.username is not None or parts.password is not None:
            raise InputError("`url` of the data has a user or a password; give it without.")
        return scheme + address[len(scheme) :], None
    if scheme in {"s3", "gs", "az"}:
        bucket, _, key = address[len(scheme) + 3 :].partition("/")
        _bucket({"bucket": bucket}, "bucket", "`url`")
        return f"{scheme}://{bucket}/{_name({'key': key}, 'key', '`url`')}", bucket
    raise InputError("`url` of the data is of no scheme that is fetched; give http, https, s3, gs or az.")


def shown(uri: str) -> str:
    """An address as it may be kept: without the query, which of a signed address is a password."""
    if uri[:8].lower().startswith(("http://", "https://")):
        return uri.partition("?")[0].partition("#")[0]
    return uri


def shown_reason(reason: str) -> str:
    """A reason as it may be kept: of an address in it only the host, for the rest may be a password."""
    return _ADDRESS.sub(r"\1/...", _QUERY.sub("?...", reason))
