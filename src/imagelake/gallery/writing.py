"""What people change from the page: tags of images, and pictures that they send. Nothing is ever deleted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from imagelake.errors import InputError
from imagelake.files import path_to_uri
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.items import items_of
from imagelake.lake.tables import Tables, present_ids
from imagelake.run.ingest import ingest
from imagelake.run.tags import TagChanges, tag_images
from imagelake.schema import SOURCE
from imagelake.steps.identify import content_id

MOST_IMAGES = 200_000
"""So many images are tagged by one request."""

MOST_TAGS = 20
"""So many tags are added or removed by one request."""

_NAME_LETTERS = 120
_TOGETHER = 16  # pictures of one commit


def tag_some(gallery: Gallery, ids: Sequence[str], add: Sequence[str], remove: Sequence[str]) -> TagChanges:
    """Tag the images of these ids, whole or their first letters; those that are not there are left out.

    Raises:
        InputError: there are too many of something, or a tag is none.
    """
    if len(ids) > MOST_IMAGES:
        raise InputError(f"{len(ids):,} images were given; tag at most {MOST_IMAGES:,} at once.")
    if len(add) + len(remove) > MOST_TAGS:
        raise InputError(f"{len(add) + len(remove)} tags were given; give at most {MOST_TAGS} at once.")
    catalog = gallery.catalog()
    rows = catalog.rows_of(ids)
    return tag_images(gallery.tables, catalog.ids_of(rows[rows >= 0]), add, remove)


def list_of(gallery: Gallery, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What a list of some images says of each: `id`, `uris` and what tiles show; those that are not there are left out.

    Raises:
        InputError: there are too many.
    """
    if len(ids) > MOST_IMAGES:
        raise InputError(f"{len(ids):,} images were given; list at most {MOST_IMAGES:,} at once.")
    catalog = gallery.catalog()
    rows = catalog.rows_of(ids)
    rows = rows[rows >= 0]
    uris = catalog.columns.column("uris").take(pa.array(rows, pa.int64())).to_pylist()
    items = items_of(gallery, rows, catalog)
    return [item | {"uris": each or []} for item, each in zip(items, uris, strict=True)]


@dataclass(frozen=True)
class Taken:
    """What became of a picture that was sent: its id and whether the lake had it before, or why it is none."""

    id: str
    known: bool = False
    error: str | None = None


@dataclass
class _Sent:
    """A picture that waits for its turn."""

    id: str
    uri: str
    data: bytes = field(repr=False)
    taken: Taken | None = None
    failed: BaseException | None = None


class Uploads:
    """Takes in pictures that several people send at once. Those that come while a commit goes on share the next one.

    A class because it holds who waits.

    Args:
        tables: of the lake.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._lock = threading.Lock()  # guards the list
        self._turn = threading.Lock()  # one commits at a time
        self._waiting: list[_Sent] = []

    def take(self, name: str, data: bytes) -> Taken:
        """Take in a picture; it is in the lake when this returns.

        Args:
            name: what its sender calls it: a label, never a path.
            data: the bytes of an image file.

        Raises:
            InputError: there are no bytes.
            LakeError: the lake cannot be written.
        """
        if not data:
            raise InputError(f"{name[:_NAME_LETTERS]!r} is empty. Send a picture.")
        mine = _Sent(content_id(data), upload_uri(name), data)
        with self._lock:
            self._waiting.append(mine)
        while True:
            with self._turn:
                if mine.failed is not None:
                    raise mine.failed
                if mine.taken is not None:
                    return mine.taken
                with self._lock:
                    group, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
                _take_in(self._tables, group)


def upload_uri(name: str) -> str:
    """The URI that a picture is seen under that was sent under some name: `upload:///2026-05-17/NAME`."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    plain = "".join(letter for letter in last if letter.isprintable()).strip()
    label = plain[-_NAME_LETTERS:].strip()
    label = label if label.strip(".") else "picture"
    return "upload://" + path_to_uri(f"/{datetime.now(UTC):%Y-%m-%d}/{label}").removeprefix("file://")


def _take_in(tables: Tables, group: Sequence[_Sent]) -> None:
    """Commit some pictures, and tell each what became of it."""
    try:
        known = present_ids(tables.images, [each.id for each in group])
        new = {each.id: each for each in group if each.id not in known}
        if new:
            ingest(tables, _SentPictures(list(new.values())))
        there = present_ids(tables.images, list(new))
        reasons = _reasons(tables, [each for each in new.values() if each.id not in there])
        for each in group:
            first = new.get(each.id) is each
            error = None if each.id in known | there else reasons.get(each.id, "it could not be read")
            each.taken = Taken(each.id, error is None and not first, error)
    except BaseException as error:  # noqa: BLE001  (each that waits is told)
        for each in group:
            each.failed = error


def _reasons(tables: Tables, refused: Sequence[_Sent]) -> dict[str, str]:
    """Why pictures were rejected, by their ids."""
    if not refused:
        return {}
    rows = tables.rejections.rows("content_id", [each.id for each in refused], ["content_id", "reason"])
    return {row["content_id"]: row["reason"] for row in rows.to_pylist()}


@dataclass(frozen=True)
class _SentPictures:
    """A source of pictures that were sent."""

    sent: Sequence[_Sent]

    @property
    def name(self) -> str:
        """As `Source`."""
        return "upload"

    def estimate(self) -> int | None:
        """As `Source`."""
        return len(self.sent)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """As `Source`."""
        for each in self.sent:
            values = {"uri": each.uri, "bytes": each.data, "error": None, "metadata": None}
            yield pa.record_batch([pa.array([values[f.name]], f.type) for f in SOURCE], schema=SOURCE)
