"""The bytes of the object that an event names: out of a bucket, from an address, or from a folder that stands for one.

Whoever may send an event names what is read. So nothing is read but from buckets and hosts that were allowed, private
addresses are refused unless they are allowed, and size and time are bounded.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from imagelake.errors import InputError
from imagelake.serve.event_upload import UploadEvent
from imagelake.serve.object_file import ObjectError, read_file
from imagelake.sources.bucket_store import BucketOptions, Place, explain, open_store, parse_place, store_errors
from imagelake.sources.web_answer import FetchLimits
from imagelake.sources.web_fetch import Budget, Fetcher
from imagelake.sources.web_guard import ClosedError, Guard, parse_target, system_resolver, without_user

ANY = "*"
_ORACLE = "https://objectstorage.{region}.oraclecloud.com/n/{{namespace}}/b/{{bucket}}/o/{{name}}"
_REGION = re.compile(r"[a-z0-9-]{1,63}")

_OCI = re.compile(r"oci://([^@/]+)@([^@/]+)/(.+)", re.DOTALL)
_FIELD = re.compile(r"\{(namespace|bucket|name)\}")
_FIELDS = {"bucket", "name"}
_STAYS = re.compile(r"answers 4(?!08|29)\d\d")  # but for "too slow" and "too often"
_TICK_S = 0.5
_STOP_S = 5.0


def oracle_address(region: str) -> str:
    """The address of an object in Oracle's object storage, as `ObjectOptions.object_storage` has it.

    Raises:
        InputError: it is no name of a region.
    """
    if not _REGION.fullmatch(region):
        raise InputError(f"--region {region!r} is no name of a region; give one such as eu-frankfurt-1.")
    return _ORACLE.format(region=region)


@dataclass(frozen=True)
class ObjectOptions:
    """Where objects may be read from.

    Attributes:
        buckets: their names; `*` for any that the credentials may read. Those in `folders` are allowed besides.
        hosts: of addresses in events, and of those that they redirect to; `*` for any.
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
        self._guard = Guard(options.allow_private, self._resolve)
        self._own_hosts: set[str] = set()  # of object storage
        self._web = Fetcher(limits, self._guard, Budget(1 << 62), per_host=8)
        self._stores: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="imagelake-object-watch", daemon=True)
        self._watching.start()

    def _resolve(self, host: str) -> list[str]:
        """The addresses of a host, also of one that is redirected to."""
        if not {ANY, host} & self.options.hosts and host not in self._own_hosts:
            raise InputError(f"the host {host} is not one of those allowed")
        return system_resolver(host)

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
        if event.uri.endswith("/") and event.bucket is not None:
            return "its name ends with a slash: it stands for a folder"
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
        if not address.startswith("http"):
            return self._from_bucket(address, event.version)
        self._own_hosts.add(parse_target(address).host)
        return self._from_web(address)

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
            may_pass = answer.again or answer.talked_s >= self.options.timeout_s
            raise ObjectError(answer.reason or "nothing came", again=True, lasting=not may_pass)
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
            raise ObjectError("there is no such object", again=True, lasting=True) from error
        except InputError as error:  # no credentials at present
            raise ObjectError(str(error), again=True) from error
        except store_errors() as error:
            reason = explain(error)
            raise ObjectError(reason, again=True, lasting=_STAYS.search(reason) is not None) from error
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
