"""Which objects of a bucket there are, in the order of their names, and which of them count."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pyarrow import fs

from imagelake._optional import need
from imagelake.errors import InputError
from imagelake.sources.bucket_store import (
    EXTRA,
    BucketOptions,
    Place,
    explain,
    listing_error,
    store_errors,
)

_PAGE = 1000
_MAGIC = frozenset("*?[")


@dataclass(frozen=True)
class Found:
    """An object: its key, its size in bytes, and a mark that differs whenever its content may."""

    key: str
    byte_size: int
    mark: str
    error: str | None = None


@dataclass(frozen=True)
class Selection:
    """What of a bucket is meant.

    Attributes:
        prefix: the folder to list, without a slash at its end.
        start: what all keys begin with; `prefix` and the letters before a pattern's first sign.
        pattern: the parts of a pattern below `prefix`; none: everything.
    """

    prefix: str
    start: str
    pattern: tuple[str, ...] = ()

    def takes(self, key: str) -> bool:
        """Whether an object counts. What is hidden does not, nor what belongs to a table of a lake."""
        below = key[len(self.prefix) + 1 :] if self.prefix else key
        parts = [part for part in below.split("/") if part]
        if any(part.endswith(".lance") for part in parts[:-1]):
            return False
        return _matches(parts, self.pattern)


def select(path: str) -> Selection:
    """What the path of an address means: a prefix, or a pattern."""
    first = min((path.index(sign) for sign in _MAGIC if sign in path), default=-1)
    if first < 0:
        prefix = path.rstrip("/")
        return Selection(prefix, f"{prefix}/" if prefix else "")
    prefix, _, _ = path[:first].rpartition("/")
    parts = [part for part in path[len(prefix) :].split("/") if part]
    once = tuple(part for part, before in zip(parts, ["", *parts], strict=False) if (part, before) != ("**", "**"))
    return Selection(prefix, path[:first], once)


def _matches(parts: list[str], pattern: tuple[str, ...]) -> bool:
    """Whether a pattern matches a key or a folder that it lies in; both in parts."""
    if not pattern:
        return not any(part.startswith(".") for part in parts)
    if not parts:
        return False
    first, rest = pattern[0], pattern[1:]
    hidden = parts[0].startswith(".")
    if first == "**":
        return _matches(parts, rest) or (not hidden and _matches(parts[1:], pattern))
    if hidden and not first.startswith("."):
        return False
    return fnmatchcase(parts[0], first) and _matches(parts[1:], rest)


def list_objects(
    store: Any, place: Place, selection: Selection, by_name: Callable[[], fs.FileSystem]
) -> Iterator[Found]:
    """Every object below a prefix, a page at a time, in the order of names where the store keeps one.

    A key that the library cannot name makes it refuse the whole page. From there on, `pyarrow.fs` lists: it holds what
    is left of the prefix at once, a few hundred bytes a key.

    Raises:
        InputError: the bucket does not exist, may not be listed or cannot be reached.
    """
    last = ""
    ordered = place.scheme in {"s3", "gs"} and not place.bucket.endswith("--x-s3")  # those list in no order
    try:
        for page in store.list(
            selection.prefix or None, offset=_offset(selection) if ordered else None, chunk_size=_PAGE
        ):
            for entry in page:
                last = entry["path"]
                if ordered and last > selection.start and not last.startswith(selection.start):
                    return
                yield _found(entry)
    except need(EXTRA, "obstore.exceptions").InvalidPathError as error:
        if place.scheme != "s3" or not ordered:
            raise InputError(
                f"{place.address} holds a key that cannot be asked for, and no list can be had: {explain(error)}. "
                "Give a prefix without it."
            ) from error
        yield from _list_held(by_name(), place, selection, last)
    except store_errors() as error:
        raise listing_error(place, error) from error


def find_object(store: Any, key: str) -> Found | None:
    """One object; None where there is none of that name, or nobody says.

    Raises:
        store_errors(): the store cannot be reached.
    """
    try:
        return _found(store.head(key))
    except (FileNotFoundError, PermissionError):
        return None
    except store_errors() as error:
        if any(code in explain(error) for code in ("answers 401", "answers 403", "answers 404")):
            return None
        raise


def _found(entry: Any) -> Found:
    mark = entry["e_tag"] or f"{entry['size']}-{entry['last_modified'].isoformat()}"
    return Found(entry["path"], entry["size"], mark.strip('"'))


def _offset(selection: Selection) -> str | None:
    """A name before all that are meant and after most others."""
    offset = selection.start[:-1]
    return offset if len(offset) > len(selection.prefix) + 1 and not offset.endswith("/") else None


def _list_held(store: fs.FileSystem, place: Place, selection: Selection, last: str) -> Iterator[Found]:
    base = f"{place.bucket}/{selection.prefix}".rstrip("/")
    try:
        entries = store.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
    except OSError as error:
        raise listing_error(place, error) from error
    files = [entry for entry in entries if entry.type == fs.FileType.File]
    cut = len(place.bucket) + 1
    for entry in sorted(files, key=lambda entry: entry.path):
        key = entry.path[cut:]
        if key <= last or not key.startswith(selection.start):
            continue
        yield Found(key, entry.size, f"{entry.size}-{entry.mtime.isoformat()}", _unnameable(key))


def _unnameable(key: str) -> str | None:
    """Why no request can name a key."""
    if "//" in key or key.startswith("/"):
        return "its name has an empty part (`//`), which cannot be asked for: copy it to another name"
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in key):
        return "its name has a control character, which cannot be asked for: copy it to another name"
    return None


def held_lister(options: BucketOptions, settings: dict[str, Any], *, endpoint: str | None) -> fs.FileSystem:
    """What lists the prefix of a bucket at once, whatever its keys are."""
    return fs.S3FileSystem(
        access_key=settings.get("access_key_id"),
        secret_key=settings.get("secret_access_key"),
        session_token=settings.get("session_token"),
        anonymous=bool(settings.get("skip_signature")),
        region=settings.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        endpoint_override=endpoint,
        connect_timeout=options.connect_timeout_s,
        request_timeout=options.read_timeout_s,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=options.retries + 1),
    )
