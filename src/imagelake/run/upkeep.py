"""Taking care of a lake: delete for good, fold and tidy, name versions and go back to them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from imagelake.errors import InputError
from imagelake.files import is_remote
from imagelake.lake.sql import matching_ids
from imagelake.lake.table import KEEP_VERSIONS, Table, Version, in_parts, one_of
from imagelake.lake.tables import Tables, uris_of
from imagelake.run.waves import forget_left_behind

_INDEX_FROM_ROWS = 100_000  # a scan of fewer rows takes some milliseconds
_INDICES = {
    **dict.fromkeys(("taken_at", "latitude", "longitude", "width", "height", "brightness", "sharpness"), "BTREE"),
    **dict.fromkeys(("format", "camera_model", "country_code"), "BITMAP"),
    **dict.fromkeys(("labels", "tags", "flags", "keywords"), "LABEL_LIST"),
}
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BEFORE = "before-restore-"


@dataclass(frozen=True)
class DeleteReport:
    """What a delete removed, or with `done` false would remove.

    Attributes:
        done: whether it was removed.
        images: how many images.
        rows: how many rows of each other table that had some.
        bytes: of the pictures themselves.
        bytes_freed: on disk, in all tables.
        indexes: search indexes that held vectors of them; they are made again when they are needed.
        tags: names of versions that keep what is deleted; with some, nothing was removed.
    """

    done: bool
    images: int
    rows: dict[str, int]
    bytes: int
    bytes_freed: int
    indexes: list[str]
    tags: list[str]


@dataclass(frozen=True)
class OptimizeReport:
    """What an optimize did: the tables whose fragments were folded, the columns of images that got an index."""

    folded: list[str]
    indexed: list[str]


def delete(tables: Tables, where: str, *, really: bool = False, drop_tags: bool = False) -> DeleteReport:
    """Remove images for good: bytes, thumbnails, vectors, regions, predictions, index entries, in all versions.

    Other tables come first and images last, so that a run that was stopped finds the rest when it is done again. A
    writer that works meanwhile is not disturbed, and what it commits stays; whoever reads an older version is.

    Args:
        tables: the lake.
        where: an SQL predicate over the images table.
        really: remove them; without it, only say what would be removed.
        drop_tags: take away the names of versions, which would keep what is deleted.

    Raises:
        InputError: the predicate is wrong, or there are tags and `drop_tags` is false.
    """
    if really:
        _empty_the_spool(tables)
        forget_left_behind(tables.root)
    ids = matching_ids(tables, where).to_pylist()
    everything = tables.all()
    tags = sorted({tag for table in everything.values() for tag in table.tags()})
    seen_under = [uri for part in in_parts(ids) for uris in uris_of(tables.images, part).values() for uri in uris or []]
    targets = list(_targets(tables, everything, ids, seen_under))
    rows = {name: sum(table.count(each) for each in predicates) for name, table, predicates in targets}
    indexes = _indexes(tables)
    size = sum(
        sum(tables.images.rows("id", part, ["byte_size"]).column("byte_size").to_pylist()) for part in in_parts(ids)
    )
    others = {name: count for name, count in rows.items() if count and name != "images"}
    if not really:
        return DeleteReport(False, len(ids), others, size, 0, indexes, tags)  # noqa: FBT003
    if not ids and tags:  # nothing to remove is no reason to take names away
        return DeleteReport(True, 0, others, 0, 0, [], tags)  # noqa: FBT003
    if tags and not drop_tags:
        raise InputError(
            f"The tagged versions {', '.join(tags)} keep what is to be deleted. Give --drop-tags to take the names "
            "away, and those versions with them; nothing was deleted."
        )
    for table in everything.values():
        for tag in table.tags():
            table.untag(tag)
    for _, table, predicates in targets:
        for predicate in predicates:
            if table.count(predicate):  # a deletion of nothing would stay in the table's log, with the ids
                table.delete(predicate)
    _forget_positions(tables, seen_under)
    freed = sum(table.purge() for table in everything.values())
    for name in indexes:
        folder = tables.index_folder(name)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return DeleteReport(True, len(ids), others, size, freed, indexes, tags)  # noqa: FBT003


def _targets(
    tables: Tables, everything: dict[str, Table], ids: list[str], seen_under: list[str]
) -> Iterator[tuple[str, Table, list[str]]]:
    """Each table with the predicates of the rows to remove; images last."""
    regions = everything["regions"]
    region_ids = [
        name for part in in_parts(ids) for name in regions.rows("image_id", part, ["id"]).column("id").to_pylist()
    ]
    for name, table in everything.items():
        if name.startswith(("embeddings/", "codes/")):
            yield name, table, [one_of("id", part) for part in in_parts([*ids, *region_ids])]
    for name, table in everything.items():
        if name in {"regions", "predictions"} or name.startswith("projections/"):
            yield name, table, [one_of("image_id", part) for part in in_parts(ids)]
    rejected = [one_of("content_id", part) for part in in_parts(ids)]
    unread = [f"content_id IS NULL AND {one_of('uri', part)}" for part in in_parts(seen_under)]
    rejections = everything["rejections"]  # by id, since a predicate stays in the table's log
    theirs = [name for each in rejected + unread for name in rejections.read(["id"], each).column("id").to_pylist()]
    yield "rejections", rejections, [one_of("id", part) for part in in_parts(theirs)]
    yield "images", tables.images, [one_of("id", part) for part in in_parts(ids)]


def _empty_the_spool(tables: Tables) -> None:
    """Bring what a killed `imagelake receive` left into the tables first, or it would come back later.

    Raises:
        LakeError: one is receiving right now.
        InputError: a damaged file of received pictures lies there.
    """
    folder = None if is_remote(tables.root) else Path(tables.root) / "incoming"
    if folder is None or not folder.exists():
        return
    from imagelake.run.intake_commit import drain  # late: only lakes that receive have one

    drain(tables)
    damaged = sorted(path.name for path in folder.iterdir() if path.name.endswith(".damaged"))
    if damaged:
        raise InputError(
            f"{folder} holds {', '.join(damaged)}: received pictures in files that were damaged. What could be read "
            "of them is in the lake. Move these files away or remove them, then delete again."
        )


def _forget_positions(tables: Tables, uris: list[str]) -> None:
    """Receipts that say how far a source was read by naming one of these; it is read from before them next time."""
    if "last_uri" not in tables.receipts.schema.names:
        return
    for part in in_parts(uris):
        receipts = tables.receipts.read(tables.receipts.schema.names, one_of("last_uri", part))
        if receipts.num_rows:  # written anew: a patched column leaves its old values in the file
            position = receipts.schema.get_field_index("last_uri")
            nothing = pa.nulls(receipts.num_rows, pa.string())
            tables.receipts.delete(one_of("id", receipts.column("id").to_pylist()))
            tables.receipts.insert_new(receipts.set_column(position, "last_uri", nothing))


def _indexes(tables: Tables) -> list[str]:
    return [
        name
        for name in tables.embedding_sets()
        if (folder := tables.index_folder(name)) is not None and folder.exists()
    ]


def optimize(
    tables: Tables, *, older_than: timedelta = KEEP_VERSIONS, index_from_rows: int = _INDEX_FROM_ROWS
) -> OptimizeReport:
    """Fold small fragments of all tables, index what people filter by, drop old versions that have no name.

    Args:
        tables: the lake.
        older_than: versions of this age are dropped.
        index_from_rows: with so many images, the columns that people filter by get an index.
    """
    folded = [name for name, table in tables.all().items() if table.tidy(older_than)]
    large = tables.images.count() >= index_from_rows
    return OptimizeReport(folded, tables.images.index(_INDICES) if large else [])


def versions(tables: Tables) -> dict[str, list[Version]]:
    """The versions of every table, the newest last."""
    return {name: table.versions() for name, table in tables.all().items()}


def tag_version(tables: Tables, name: str) -> list[str]:
    """Give all tables as they are now a name, to go back to; a named version is kept.

    Returns:
        The tables.

    Raises:
        InputError: the name is taken, or is none.
    """
    if not _TAG.fullmatch(name):
        raise InputError(f"{name!r} is no name for a version; use letters, digits, '.', '_' and '-', at most 64.")
    everything = tables.all()
    if any(name in table.tags() for table in everything.values()):
        raise InputError(f"A version is called {name!r} already. Choose another name.")
    for table in reversed(everything.values()):  # images last: no position of a source may be ahead of them
        table.tag(name)
    return list(everything)


def restore(tables: Tables, name: str) -> str:
    """Go back to the versions of that name. The present ones get a name first, so nothing is lost.

    Tables that were made after the name was given, such as later embedding sets, stay as they are.

    Returns:
        The name that the state before has now.

    Raises:
        InputError: no version has that name.
    """
    everything = tables.all()
    tagged = [table for table in everything.values() if name in table.tags()]
    if not tagged:
        known = sorted({tag for table in everything.values() for tag in table.tags()})
        raise InputError(
            f"No version is called {name!r}. There are: {', '.join(known) or 'none; imagelake tag-version'}."
        )
    before = f"{_BEFORE}{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    tag_version(tables, before)
    for table in tagged:
        table.restore(name)
    return before
