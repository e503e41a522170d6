"""Words that people give to images."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from imagelake import schema
from imagelake.errors import InputError
from imagelake.lake.sql import matching_ids, query
from imagelake.lake.table import in_parts
from imagelake.lake.tables import Tables

_MAX_LETTERS = 100
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class TagReport:
    """What a tagging did: how many images were meant, and how many of them have other tags now."""

    images: int
    changed: int


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
    for each in (*add, *remove):
        if not each.strip() or len(each) > _MAX_LETTERS or _CONTROL.search(each):
            raise InputError(f"{each!r} is no tag; give 1 to {_MAX_LETTERS} letters, without control characters.")
    both = sorted(set(add) & set(remove))
    if both:
        raise InputError(f"{both[0]!r} is to be added and removed. Say one of them.")
    if not add and not remove:
        raise InputError("Nothing is to be added or removed. Give --add TAG or --remove TAG.")
    tables.images.add_columns(schema.IMAGES)
    ids = matching_ids(tables, where).to_pylist()
    changed = 0
    for part in in_parts(ids):
        compute = functools.partial(_patch_rows, tables, part, add, remove)
        if compute().num_rows:
            changed += tables.images.patch(compute)
    return TagReport(len(ids), changed)


def count_tags(tables: Tables) -> dict[str, int]:
    """Every tag with the number of images that have it, the most frequent first."""
    if "tags" not in tables.images.schema.names:
        return {}
    rows = query(
        tables,
        "SELECT tag, count(*) AS n FROM (SELECT unnest(tags) AS tag FROM images) GROUP BY tag ORDER BY n DESC, tag",
    )
    return dict(zip(*(rows.column(name).to_pylist() for name in ("tag", "n")), strict=True))


def _patch_rows(tables: Tables, ids: Sequence[str], add: Sequence[str], remove: Sequence[str]) -> pa.Table:
    """The images whose tags change, as the table is now."""
    changed = {}
    for row in tables.images.rows("id", ids, ["id", "tags"]).to_pylist():
        before = row["tags"] or []
        after = [each for each in dict.fromkeys([*before, *add]) if each not in remove]
        if after != before:
            changed[row["id"]] = after or None
    return pa.table({
        "id": pa.array(list(changed), pa.string()),
        "tags": pa.array(list(changed.values()), pa.list_(pa.string())),
    })  # fmt: skip
