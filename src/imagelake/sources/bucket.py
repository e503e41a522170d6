"""Pictures in a bucket: `s3://`, `gs://`, `az://`, many read at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa

from imagelake.errors import InputError
from imagelake.pixels.sniff import sniff
from imagelake.sources.archive import is_archive
from imagelake.sources.bucket_listing import Found, find_object, held_lister, list_objects, select
from imagelake.sources.bucket_store import (
    BucketOptions,
    Place,
    endpoint_of,
    explain,
    listing_error,
    open_store,
    parse_place,
    store_errors,
    store_settings,
)
from imagelake.sources.columns import TABLE_SUFFIXES
from imagelake.sources.rows import Row, claims, refusal, to_batches

_HEAD_BYTES = 64
_GONE = "there is no such object: deleted since it was listed, or its name begins or ends with a slash"


@dataclass(frozen=True)
class Bucket:
    """The pictures below a prefix of a bucket, that match a pattern (`s3://bucket/a/**/*.jpg`), or a single one.

    Keys are written as they are, never percent-encoded, as the tools of AWS have them. The rules are those of a folder:
    hidden names and the tables of lakes are skipped, and an object counts as a picture by its suffix or first bytes.
    Pictures come in the order of the listing, which is that of names; an object that cannot be read is a row with the
    reason. Settings and credentials are those of the store's own tools, from the environment and, for `s3://`, from the
    keys in `~/.aws`.

    Attributes:
        address: where.
        anonymous: whether requests are not signed, as public buckets allow.
        options: how many at a time, how patiently.
        keys: only these objects; None: all.

    Raises:
        InputError: `address` is none; on reading, that the bucket does not exist, may not be listed, cannot be reached,
            that there are no credentials, or that nothing is there.
    """

    address: str
    anonymous: bool = False
    options: BucketOptions = field(default_factory=BucketOptions)
    keys: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        path = self._place.path
        if is_archive(path) or os.path.splitext(path)[1].lower() in TABLE_SUFFIXES:  # noqa: PTH122
            raise InputError(
                f"{self.address!r} is an archive or a table; in a bucket, pictures are read. Copy it to this machine "
                "and give its path."
            )

    @property
    def _place(self) -> Place:
        return parse_place(self.address)

    @property
    def name(self) -> str:
        """The address."""
        return self.address

    def estimate(self) -> int | None:
        """How many objects were named; None for a prefix, which nobody has counted."""
        return None if self.keys is None else len(self.keys)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`."""
        return to_batches(self._rows())

    def listing(self) -> Iterator[tuple[str, str]]:
        """The URI of each object that counts, with a mark that changes with its content; nothing where nothing is.

        Raises:
            InputError: as on reading.
        """
        for found in self._found(self._open()):
            yield self._uri(found.key), found.mark

    def only(self, uris: Iterable[str]) -> Bucket:
        """The same source, of just these objects.

        Raises:
            InputError: one of them lies in another bucket.
        """
        root = f"{self._place.root}/"
        given = tuple(uris)
        for uri in given:
            if not uri.startswith(root):
                raise InputError(f"{uri!r} does not lie in {root}; give URIs as `listing` does.")
        return replace(self, keys=tuple(uri.removeprefix(root) for uri in given))

    def _open(self) -> Any:
        return open_store(self._place, self.options, anonymous=self.anonymous)

    def _uri(self, key: str) -> str:
        return f"{self._place.root}/{key}"

    def _found(self, store: Any) -> Iterator[Found]:
        """The objects that count."""
        place, selection = self._place, select(self._place.path)
        named = place.path and not place.path.endswith("/")
        try:
            one = find_object(store, place.path) if named else None
        except store_errors() as error:
            raise listing_error(place, error) from error
        if one is not None and (one.byte_size or claims(one.key)):
            yield one
            return
        for found in list_objects(store, place, selection, self._held_lister):
            if selection.takes(found.key):
                yield found

    def _held_lister(self) -> Any:
        settings = store_settings(self._place, os.environ, anonymous=self.anonymous)
        return held_lister(self.options, settings, endpoint=settings.get("endpoint") or endpoint_of(os.environ))

    def _rows(self) -> Iterator[Row]:
        """A row for each picture, in order; what is on its way is bounded in number and bytes."""
        store = self._open()
        waiting: deque[tuple[Future[Row | None], int]] = deque()
        held = 0
        nothing = True
        pool = ThreadPoolExecutor(self.options.in_flight, thread_name_prefix="imagelake-bucket")
        try:
            for found in self._wanted(store, pool):
                nothing = False
                size = 0 if found.error or refusal(found.key, found.byte_size) else found.byte_size
                while waiting and (
                    waiting[0][0].done()
                    or len(waiting) >= 2 * self.options.in_flight
                    or held + size > self.options.waiting_bytes
                ):
                    row, freed = waiting.popleft()
                    held -= freed
                    yield from _given(row)
                held += size
                waiting.append((pool.submit(_read, store, found, self._uri(found.key)), size))
            while waiting:
                yield from _given(waiting.popleft()[0])
        finally:
            pool.shutdown(cancel_futures=True)
        if nothing and self.keys is None:
            raise InputError(
                f"There is nothing at {self.address}: no object of that name, below it, or that matches. Hidden names "
                "and lakes do not count. Check it with the store's own tool, for example `aws s3 ls`."
            )

    def _wanted(self, store: Any, pool: ThreadPoolExecutor) -> Iterator[Found]:
        if self.keys is None:
            yield from self._found(store)
            return
        asked: deque[Future[Found]] = deque()
        for key in self.keys:
            asked.append(pool.submit(partial(_look_up, store, key)))
            if len(asked) >= self.options.in_flight:
                yield asked.popleft().result()
        while asked:
            yield asked.popleft().result()


def open_bucket(address: str, *, anonymous: bool = False) -> Bucket:
    """The pictures at an address of a bucket: a prefix, a pattern, or one.

    Raises:
        InputError: it is no such address.
    """
    return Bucket(address, anonymous=anonymous)


def _given(future: Future[Row | None]) -> Iterator[Row]:
    row = future.result()
    if row is not None:
        yield row


def _look_up(store: Any, key: str) -> Found:
    """An object that was named and not listed."""
    try:
        found = find_object(store, key)
    except store_errors() as error:
        return Found(key, 0, "", f"cannot be read: {explain(error)}")
    return found or Found(key, 0, "", f"cannot be read: {_GONE}")


def _read(store: Any, found: Found, uri: str) -> Row | None:
    """The row of an object; None where it is no picture and does not claim to be one."""
    claimed = claims(found.key)
    refused = found.error or refusal(found.key, found.byte_size)
    if refused is not None:
        return Row(uri, None, refused) if claimed else None
    try:
        if not claimed and not _begins_like_a_picture(store, found):
            return None
        answer = store.get(found.key)
        size = answer.meta["size"]
        if size > found.byte_size:  # nobody has reserved room for it
            return Row(
                uri, None, f"it grew from {found.byte_size:,} to {size:,} bytes since it was listed: read it again"
            )
        data = bytes(answer.bytes())
    except FileNotFoundError:
        return Row(uri, None, f"cannot be read: {_GONE}") if claimed else None
    except store_errors() as error:
        return Row(uri, None, f"cannot be read: {explain(error)}") if claimed else None
    if len(data) != size:
        return Row(uri, None, f"cannot be read: only {len(data):,} of {size:,} bytes came")
    return Row(uri, data)


def _begins_like_a_picture(store: Any, found: Found) -> bool:
    if found.byte_size == 0:
        return False
    return sniff(bytes(store.get_range(found.key, start=0, length=_HEAD_BYTES))) is not None
