"""The bytes of the object that an event names: out of a bucket, from an address, or from a folder that stands for one.

Whoever may send an event names what is read. So nothing is read but from buckets and hosts that were allowed, private
addresses are refused unless they are allowed, and size and time are bounded.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from imagelake.errors import ImagelakeError, InputError
from imagelake.serve.event_upload import UploadEvent
from imagelake.sources.bucket_store import BucketOptions, Place, explain, open_store, parse_place, store_errors
from imagelake.sources.web_answer import FetchLimits
from imagelake.sources.web_fetch import Budget, Fetcher
from imagelake.sources.web_guard import ClosedError, Guard, parse_target, without_user

ANY = "*"
_ORACLE = "https://objectstorage.{region}.oraclecloud.com/n/{{namespace}}/b/{{bucket}}/o/{{name}}"
_REGION = re.compile(r"[a-z0-9-]{1,63}")

_OCI = re.compile(r"oci://([^@/]+)@([^@/]+)/(.+)", re.DOTALL)
_FIELD = re.compile(r"\{(namespace|bucket|name)\}")
_FIELDS = {"bucket", "name"}
_TICK_S = 0.5
_PIECE = 4 << 20
_STOP_S = 5.0


def oracle_address(region: str) -> str:
    """The address of an object in Oracle's object storage, as `ObjectOptions.object_storage` has it.

    Raises:
        InputError: it is no name of a region.
    """
    if not _REGION.fullmatch(region):
        raise InputError(f"--region {region!r} is no name of a region; give one such as eu-frankfurt-1.")
    return _ORACLE.format(region=region)


class ObjectError(ImagelakeError):
    """An object could not be had.

    Attributes:
        again: whether another try may do better.
    """

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


@dataclass(frozen=True)
class ObjectOptions:
    """Where objects may be read from.

    Attributes:
        buckets: their names; `*` for any that the credentials may read. Those in `folders` are allowed besides.
        hosts: of addresses in events; `*` for any.
        folders: folders that stand for buckets, by the bucket's name.
        object_storage: the address of an object of `oci://`, with `{namespace}`, `{bucket}` and `{name}` in it: of
            http or https, or `s3://{bucket}/{name}` for its interface that is compatible with S3.
        allow_private: ask hosts of this machine and its network too.
        anonymous: do not sign requests to buckets.
        max_bytes: of an object.
        timeout_s: for one.

    Raises:
        InputError: nothing is allowed, or `object_storage` is no such address.
    """

    buckets: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    folders: Mapping[str, Path] = field(default_factory=dict)
    object_storage: str | None = None
    allow_private: bool = False
    anonymous: bool = False
    max_bytes: int = 64 << 20
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if not (self.buckets or self.hosts or self.folders):
            raise InputError(
                "No place is allowed that objects may be read from. Give --bucket NAME, --map BUCKET=FOLDER or "
                "--allow-host NAME; `*` stands for any bucket or host."
            )
        template = self.object_storage
        if template is not None:
            is_known = template.startswith(("http://", "https://", "s3://"))
            if not is_known or not set(_FIELD.findall(template)) >= _FIELDS:
                raise InputError(
                    f"--object-storage {without_user(template)!r} is no address of an object; give one of http, https "
                    "or s3 with {bucket} and {name}, and {namespace} where it is needed."
                )


class ObjectFetcher:
    """Reads objects, from any number of threads.

    A class because it keeps connections, and a thread that cuts those that take too long. Close it.
    """

    def __init__(self, options: ObjectOptions) -> None:
        self.options = options
        limits = FetchLimits(
            read_timeout_s=min(30.0, options.timeout_s),
            total_timeout_s=options.timeout_s,
            max_bytes=options.max_bytes,
        )
        self._guard = Guard(allow_private=options.allow_private)
        self._web = Fetcher(limits, self._guard, Budget(1 << 62), per_host=8)
        self._stores: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="imagelake-object-watch", daemon=True)
        self._watching.start()

    def _watch(self) -> None:
        while not self._closing.wait(_TICK_S):
            self._web.watch.cut_overdue()

    def close(self) -> None:
        """End what is on its way over http; it fails with `ObjectError`."""
        self._closing.set()
        self._web.close()
        self._watching.join(_STOP_S)

    def why_not(self, event: UploadEvent) -> str | None:
        """Why the object of an event may not be read; None where it may. Nothing is asked for."""
        options = self.options
        if event.bucket is not None:
            if event.bucket not in options.folders and not {ANY, event.bucket} & options.buckets:
                return f"the bucket {event.bucket} is not one of those allowed"
            if event.uri.startswith("oci://") and event.bucket not in options.folders and not options.object_storage:
                return "no --region or --object-storage says where its object storage is"
        else:
            try:
                host = parse_target(event.uri).host
            except InputError as error:
                return str(error)
            if not {ANY, host} & options.hosts:
                return f"the host {host} is not one of those allowed"
        if event.size is not None and event.size > options.max_bytes:
            return f"it has {event.size:,} bytes; the limit is {options.max_bytes:,}"
        return None

    def fetch(self, event: UploadEvent) -> bytes:
        """The bytes of the object: of the event's version where it names one, else as it is now.

        Raises:
            ObjectError: it cannot be had.
        """
        refused = self.why_not(event)
        if refused is not None:
            raise ObjectError(refused, again=False)
        if event.bucket is None:
            return self._from_web(event.uri)
        folder = self.options.folders.get(event.bucket)
        if folder is not None:
            return read_file(folder, _key_of(event.uri), self.options.max_bytes)
        address = self._locate(event.uri)
        return self._from_web(address) if address.startswith("http") else self._from_bucket(address, event.version)

    def _locate(self, uri: str) -> str:
        """Where an object of `oci://` is; another address as it is."""
        found = _OCI.fullmatch(uri)
        if found is None:
            return uri
        names = {"bucket": found[1], "namespace": found[2], "name": found[3]}
        if any(part in {".", ".."} for name in names.values() for part in name.split("/")):
            raise ObjectError("its name has a part `.` or `..`, which cannot be asked for", again=False)
        template = self.options.object_storage or ""
        if template.startswith("s3://"):
            return _FIELD.sub(lambda field: names[field[1]], template)
        return _FIELD.sub(lambda field: quote(names[field[1]], safe=""), template)

    def _from_web(self, address: str) -> bytes:
        try:
            target = parse_target(address)
            self._guard.addresses(target.host)
        except InputError as error:
            raise ObjectError(str(error), again=False) from error
        except socket.gaierror as error:
            raise ObjectError("the name of the host cannot be resolved", again=True) from error
        try:
            answer = self._web.fetch(target, self.options.timeout_s)
        except ClosedError as error:
            raise ObjectError("the server is ending", again=True) from error
        if answer.data is None:
            raise ObjectError(answer.reason or "nothing came", again=True)
        self._web.budget.consume(len(answer.data))
        return answer.data

    def _from_bucket(self, address: str, version: str | None) -> bytes:
        try:
            place = parse_place(address)
            if not place.path or place.path.endswith("/"):
                raise ObjectError("its name ends with a slash, which cannot be asked for", again=False)
        except InputError as error:
            raise ObjectError(str(error), again=False) from error
        try:
            store = self._store(place)
            answer = store.get(place.path, options={"version": version} if version else None)
            size = answer.meta["size"]
            if size > self.options.max_bytes:
                raise ObjectError(f"it has {size:,} bytes; the limit is {self.options.max_bytes:,}", again=False)
            data = bytes(answer.bytes())
        except FileNotFoundError as error:
            raise ObjectError("there is no such object", again=True) from error
        except InputError as error:  # no credentials at present
            raise ObjectError(str(error), again=True) from error
        except store_errors() as error:
            raise ObjectError(explain(error), again=True) from error
        if len(data) != size:
            raise ObjectError(f"only {len(data):,} of {size:,} bytes came", again=True)
        return data

    def _store(self, place: Place) -> Any:
        with self._lock:
            store = self._stores.get(place.root)
            if store is None:
                patience = BucketOptions(retries=1, total_timeout_s=self.options.timeout_s)
                store = open_store(Place(place.scheme, place.bucket, ""), patience, anonymous=self.options.anonymous)
                self._stores[place.root] = store
            return store


def _key_of(uri: str) -> str:
    return uri.partition("://")[2].partition("/")[2]


def read_file(folder: Path, key: str, max_bytes: int) -> bytes:
    """A file below a folder, never one outside of it, whatever the key and the links in the folder say.

    Raises:
        ObjectError: it cannot be had.
    """
    if not key or "\0" in key or key.startswith("/") or any(part in {"", ".", ".."} for part in key.split("/")):
        raise ObjectError("its name has an empty part, `.` or `..`, which no file has", again=False)
    try:
        root = folder.resolve(strict=True)
        path = (root / key).resolve(strict=True)
        if not path.is_relative_to(root):
            raise ObjectError("its name leads out of the folder", again=False)
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ObjectError("there is no such object", again=True) from error
    except (OSError, UnicodeError, RuntimeError) as error:
        raise ObjectError(
            f"it cannot be read: {getattr(error, 'strerror', None) or 'no such name'}", again=True
        ) from error
    try:
        return _read_regular(file, max_bytes)
    except OSError as error:
        raise ObjectError(f"it cannot be read: {error.strerror}", again=True) from error
    finally:
        os.close(file)


def _read_regular(file: int, max_bytes: int) -> bytes:
    about = os.fstat(file)
    if not stat.S_ISREG(about.st_mode):
        raise ObjectError("it is no file", again=False)
    pieces: list[bytes] = []
    size = about.st_size
    while size <= max_bytes and (piece := os.read(file, _PIECE)):
        pieces.append(piece)
        size = max(size, sum(map(len, pieces)))
    if size > max_bytes:
        raise ObjectError(f"it has {size:,} bytes; the limit is {max_bytes:,}", again=False)
    return b"".join(pieces)
