"""Words that people give to images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from imagelake import schema
from imagelake.errors import InputError
from imagelake.lake.sql import matching_ids, query
from imagelake.lake.tables import Tables
from imagelake.run import report_html

_MAX_LETTERS = 100
_AT_ONCE = 100_000  # images of one commit
_FEW = 2_000  # more are found faster by reading the column than by asking for them
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class TagReport:
    """What a tagging did: how many images were meant, and how many of them have other tags now."""

    images: int
    changed: int

    def _repr_html_(self) -> str:
        return report_html.report(self)


@dataclass
class TagChanges:
    """What a tagging of some images did to each; a class that changes, because it comes to light part by part.

    Attributes:
        images: how many of the ids are in the lake.
        gained: by the tags that images really gained and lost, `(gained, lost)`, the ids of those images.
    """

    images: int = 0
    gained: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """How many images have other tags now."""
        return sum(map(len, self.gained.values()))


def tag(tables: Tables, where: str, add: Sequence[str] = (), remove: Sequence[str] = ()) -> TagReport:
    """Add tags to images and take tags away. No picture is rewritten.

    Args:
        tables: the lake.
        where: an SQL predicate over the images table.
        add: tags that they have then; each is any text of at most 100 letters.
        remove: tags that they have not then.

    Raises:
        InputError: the predicate is wrong, a tag is none, or a tag is to be added and removed.
    """
    _check(add, remove)
    tables.images.add_columns(schema.IMAGES)
    ids = matching_ids(tables, where).to_pylist()
    return TagReport(len(ids), _tag_ids(tables, ids, add, remove).changed)


def tag_images(tables: Tables, ids: Sequence[str], add: Sequence[str] = (), remove: Sequence[str] = ()) -> TagChanges:
    """Add tags to some images and take tags away, and tell which of them really gained or lost one: to undo it.

    Args:
        tables: the lake.
        ids: of the images; those that the lake has not are left out.
        add: tags that they have then; each is any text of at most 100 letters.
        remove: tags that they have not then.

    Raises:
        InputError: a tag is none, or a tag is to be added and removed.
    """
    _check(add, remove)
    tables.images.add_columns(schema.IMAGES)
    return _tag_ids(tables, list(dict.fromkeys(ids)), add, remove)


def _check(add: Sequence[str], remove: Sequence[str]) -> None:
    for each in (*add, *remove):
        if not each.strip() or len(each) > _MAX_LETTERS or _CONTROL.search(each):
            raise InputError(f"{each!r} is no tag; give 1 to {_MAX_LETTERS} letters, without control characters.")
    both = sorted(set(add) & set(remove))
    if both:
        raise InputError(f"{both[0]!r} is to be added and removed. Say one of them.")
    if not add and not remove:
        raise InputError("Nothing is to be added or removed. Give --add TAG or --remove TAG.")


def _tag_ids(tables: Tables, ids: Sequence[str], add: Sequence[str], remove: Sequence[str]) -> TagChanges:
    changes = TagChanges()
    for start in range(0, len(ids), _AT_ONCE):
        work = _PatchOf(tables, ids[start : start + _AT_ONCE], add, remove)
        tables.images.patch(work)
        changes.images += work.images
        for what, images in work.gained.items():
            changes.gained.setdefault(what, []).extend(images)
    return changes


def count_tags(tables: Tables) -> dict[str, int]:
    """Every tag with the number of images that have it, the most frequent first."""
    if "tags" not in tables.images.schema.names:
        return {}
    rows = query(
        tables,
        "SELECT tag, count(*) AS n FROM (SELECT unnest(tags) AS tag FROM images) GROUP BY tag ORDER BY n DESC, tag",
    )
    return dict(zip(*(rows.column(name).to_pylist() for name in ("tag", "n")), strict=True))


class _PatchOf:
    """The images whose tags change, as the table is now. A class, since the call that is committed is the last one.

    Attributes:
        images: how many of the ids the table had then.
        gained: as `TagChanges` has it.
    """

    def __init__(self, tables: Tables, ids: Sequence[str], add: Sequence[str], remove: Sequence[str]) -> None:
        self._tables, self._ids, self._add, self._remove = tables, ids, add, remove
        self.images = 0
        self.gained: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}

    def __call__(self) -> pa.Table:
        self.images, self.gained, changed = 0, {}, {}
        for row in self._rows():
            self.images += 1
            before = row["tags"] or []
            after = [each for each in dict.fromkeys([*before, *self._add]) if each not in self._remove]
            if after != before:
                changed[row["id"]] = after or None
                what = tuple(t for t in after if t not in before), tuple(t for t in before if t not in after)
                self.gained.setdefault(what, []).append(row["id"])
        return pa.table({
            "id": pa.array(list(changed), pa.string()),
            "tags": pa.array(list(changed.values()), pa.list_(pa.string())),
        })  # fmt: skip

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Id and tags of the images, as the table is now: looked up while they are few, else read with all others."""
        if len(self._ids) <= _FEW:
            yield from self._tables.images.rows("id", self._ids, ["id", "tags"]).to_pylist()
            return
        wanted = pa.array(self._ids, pa.string())
        for batch in self._tables.images.scan(["id", "tags"]):
            yield from batch.filter(pc.is_in(batch.column("id"), wanted)).to_pylist()
