"""Rows that a worker wrote beside a table's own and no version names yet, and the commit that makes them part of it.

What was measured with pylance 14.0.2 and binds this file: an `Append` goes through beside any other writer, so two of
them can commit one key twice, or one fragment twice. A `Merge` that names every fragment of the version it read is
refused as soon as another writer changed a row. So it is what compares and swaps here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.file import LanceFileReader
from lance.fragment import FragmentMetadata, write_fragments

from imagelake.files import is_remote
from imagelake.lake.failures import our_errors, patiently
from imagelake.lake.ids import IdSet
from imagelake.lake.table import STORAGE_VERSION, Table

_KEY = "id"  # of every table of a lake
_MADE = b"imagelake:made"


@dataclass(frozen=True)
class Mark:
    """A state of a table, to find what came after it.

    Attributes:
        version: the number of the version.
        fragment: the highest number of a fragment; newer rows lie in fragments with higher ones.
    """

    version: int
    fragment: int


@dataclass(frozen=True)
class Committed:
    """What a commit of staged rows did.

    Attributes:
        mark: the table as this commit left it.
        inserted: how many rows of each staged piece were inserted; None where its files are gone, so that the work has
            to be done again.
    """

    mark: Mark
    inserted: list[int | None]


def mark_of(table: Table) -> Mark:
    """The newest state of a table."""
    with our_errors(table.uri):
        return _mark(table.arrow())


def stage(table: Table, rows: pa.Table) -> str:
    """Write rows beside a table's own, as no part of any version yet.

    Where they are never committed they take up space until old versions are cleaned.

    Args:
        table: it has no pictures.
        rows: its columns; ids differ.

    Returns:
        What `commit_staged` needs, as a JSON object.
    """
    with our_errors(table.uri):
        dataset = table.arrow()
        there = set(rows.schema.names)
        columns = [
            rows.column(field.name).cast(field.type) if field.name in there else pa.nulls(rows.num_rows, field.type)
            for field in dataset.schema
        ]
        fitted = pa.table(columns, schema=dataset.schema)
        fragments = write_fragments(
            fitted, dataset, schema=dataset.schema, mode="append", data_storage_version=STORAGE_VERSION
        )
    told = [fragment.to_json() for fragment in fragments]
    return json.dumps({"table": _made(dataset), "rows": rows.num_rows, "fragments": told})


def commit_staged(
    table: Table, staged: Sequence[str], since: Mark | None = None, suspects: IdSet | None = None
) -> Committed:
    """Make staged rows part of the table, those whose key is not there yet, in one commit.

    However often it is called with the same rows, by however many at once, no key is committed twice.

    Args:
        table: the one they were staged for.
        staged: what `stage` returned.
        since: when none of these keys was there, and that no two of `staged` share a key. None: nothing is known, and
            the whole table is looked through.
        suspects: keys that may have been there already then.

    Returns:
        How many rows of each were inserted.
    """
    units = [_Unit(table, text) for text in staged]
    with our_errors(table.uri):
        return patiently(lambda: _commit(table, units, since, suspects))


class _Unit:
    """What was staged at once. A class because the keys are read at most once."""

    def __init__(self, table: Table, text: str) -> None:
        told = json.loads(text)
        self.rows = int(told["rows"])
        self.made = told["table"]
        self.fragments = [FragmentMetadata.from_json(json.dumps(each)) for each in told["fragments"]]
        self.paths = [f"{table.uri}/data/{file.path}" for each in self.fragments for file in each.files]
        self._keys: pa.Array | None = None

    def is_whole(self, dataset: Any) -> bool:
        """Whether it was staged for this very table and its files are there still."""
        if self.made != _made(dataset):
            return False
        return all(_is_there(path) for path in self.paths)

    def keys(self) -> pa.Array:
        """Its ids."""
        if self._keys is None:
            parts = [LanceFileReader(path, columns=[_KEY]).read_all().to_table().column(_KEY) for path in self.paths]
            self._keys = pa.chunked_array(
                [chunk for part in parts for chunk in part.chunks], pa.string()
            ).combine_chunks()
        return self._keys

    def read(self) -> pa.Table:
        """Its rows."""
        return pa.concat_tables([LanceFileReader(path).read_all().to_table() for path in self.paths])


def _commit(table: Table, units: Sequence[_Unit], since: Mark | None, suspects: IdSet | None) -> Committed:
    dataset = table.arrow()
    inserted: list[int | None] = [unit.rows if unit.is_whole(dataset) else None for unit in units]
    whole = [unit for unit, rows in zip(units, inserted, strict=True) if rows]
    present = _present(dataset, whole, since, suspects)
    clean: list[_Unit] = []
    taken: set[str] = set()
    for unit in whole:
        if present is not None:
            keys = set(unit.keys().to_pylist())
            if keys & present or (since is None and (keys & taken or len(keys) < unit.rows)):
                continue
            taken |= keys
        clean.append(unit)
    if clean:
        dataset = _swap(dataset, clean)
    mark = _mark(dataset)
    for position, unit in enumerate(units):
        if inserted[position] and unit not in clean:
            inserted[position] = _insert_missing(table, unit, present or set())
            mark = _mark(table.arrow())
    return Committed(mark, inserted)


def _present(dataset: Any, units: Sequence[_Unit], since: Mark | None, suspects: IdSet | None) -> set[str] | None:
    """Those keys of some units that the table has; None where nobody has to look."""
    changed = since is None or dataset.version != since.version
    if not units or not (changed or (suspects is not None and len(suspects))):
        return None
    keys = pa.concat_arrays([unit.keys() for unit in units])
    found: set[str] = set()
    if suspects is not None and len(suspects):
        found.update(keys.filter(pa.array(suspects.contains(keys))).to_pylist())
    if changed:
        parts = [each for each in dataset.get_fragments() if since is None or each.fragment_id > since.fragment]
        found.update(_among(dataset, parts, keys))
    return found


def _among(dataset: Any, fragments: Sequence[Any], keys: pa.Array) -> Iterable[str]:
    if fragments:
        for batch in dataset.scanner(columns=[_KEY], fragments=list(fragments), batch_size=65536).to_batches():
            ids = batch.column(_KEY)
            yield from ids.filter(pc.is_in(ids, value_set=keys)).to_pylist()


def _swap(dataset: Any, units: Sequence[_Unit]) -> Any:
    """One commit of all fragments, which is refused where another writer came in between."""
    there = [fragment.metadata for fragment in dataset.get_fragments()]
    new = [fragment for unit in units for fragment in unit.fragments]
    operation = lance.LanceOperation.Merge([*there, *new], dataset.lance_schema)
    return lance.LanceDataset.commit(dataset, operation, read_version=dataset.version, max_retries=0)


def _insert_missing(table: Table, unit: _Unit, present: set[str]) -> int:
    """The slow way: the rows are read, and those that are missing are inserted."""
    if set(unit.keys().to_pylist()) <= present:
        return 0
    rows = unit.read()
    if pc.count_distinct(rows.column(_KEY)).as_py() < rows.num_rows:
        numbered = pa.table({_KEY: rows.column(_KEY), "row": pa.array(range(rows.num_rows))})
        rows = rows.take(numbered.group_by(_KEY).aggregate([("row", "min")]).column("row_min"))
    return table.insert_new(rows)


def _mark(dataset: Any) -> Mark:
    return Mark(int(dataset.version), max((each.fragment_id for each in dataset.get_fragments()), default=-1))


def _made(dataset: Any) -> str | None:
    """Tells a table from one of the same name that was made later."""
    found = (dataset.schema.metadata or {}).get(_MADE)
    return None if found is None else str(found.decode())


def _is_there(path: str) -> bool:
    if not is_remote(path):
        return Path(path).exists()
    try:
        LanceFileReader(path)
    except (OSError, ValueError):
        return False
    return True
