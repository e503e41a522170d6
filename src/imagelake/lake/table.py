"""One table of the lake: a dataset in the Lance format. The only file that calls it.

What was learned about the format and binds this file (measured with pylance 14.0.2, storage version 2.2):

- Rows are inserted by a merge on a declared key with `use_index(False)`; any other way lets two writers commit
  the same new key.
- Columns are patched with `write_mode("rewrite_columns")`; any other update rewrites the pictures too.
- It syncs nothing to disk: a commit survives the death of this process, not a power cut.
- It is not fork-safe: use threads, or processes that are spawned.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from imagelake.errors import LakeError
from imagelake.files import is_remote
from imagelake.lake.failures import is_conflict, our_errors, patiently

BLOB = "bytes"
STORAGE_VERSION = "2.2"
_FRAGMENT_BYTES = 64 << 20
_SMALL_FRAGMENTS = 16  # that many make it worth folding them
KEEP_VERSIONS = timedelta(days=1)
_ORPHAN_S = 3600.0
_LOOKUP_VALUES = 4096
_CACHE_BYTES = 64 << 20


@functools.cache
def _session() -> Any:
    """One bounded cache for all tables; the format's own default is 7 GiB."""
    return lance.Session(index_cache_size_bytes=_CACHE_BYTES, metadata_cache_size_bytes=_CACHE_BYTES)


def create(uri: str, schema: pa.Schema, *, with_blob: bool = False) -> Table:
    """Create an empty table, or open it where another process was faster."""
    table = Table(uri)
    if with_blob:
        schema = schema.append(lance.blob_field(BLOB))
    with our_errors(uri):
        if not is_remote(uri):
            Path(uri).parent.mkdir(parents=True, exist_ok=True)
        try:
            lance.write_dataset(
                _with_blob_type(pa.Table.from_batches([], _plain(schema)), schema),
                uri,
                schema=schema,
                mode="create",
                data_storage_version=STORAGE_VERSION,
                enable_stable_row_ids=True,
                session=_session(),
            )
        except OSError:
            if not table.exists():
                raise
    return table


def _plain(schema: pa.Schema) -> pa.Schema:
    """The same schema with the blob column as plain binary: the form in which callers hand bytes over."""
    return pa.schema(
        [pa.field(f.name, pa.large_binary()) if f.name == BLOB else f for f in schema], metadata=schema.metadata
    )


def _with_blob_type(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Columns in the order of `schema`, the column `bytes` wrapped in the format's blob type without a copy."""
    arrays = []
    for field in schema:
        column = rows.column(field.name)
        if field.name == BLOB and isinstance(field.type, pa.ExtensionType):
            blobs = [_blob_array(chunk, field.type) for chunk in column.cast(pa.large_binary()).chunks]
            column = pa.chunked_array(blobs, field.type)
        elif not column.type.equals(field.type):
            column = column.cast(field.type)
        arrays.append(column)
    return pa.table(arrays, schema=schema)


def _blob_array(data: pa.Array, blob: pa.ExtensionType) -> pa.Array:
    storage = blob.storage_type
    children = [data if child.name == "data" else pa.nulls(len(data), child.type) for child in storage]
    return pa.ExtensionArray.from_storage(blob, pa.StructArray.from_arrays(children, fields=list(storage)))


@dataclass(frozen=True)
class Version:
    """One state of a table.

    Attributes:
        number: counts up from 1.
        committed_at: when, UTC.
        rows: how many rows it has.
        tags: its names.
    """

    number: int
    committed_at: datetime
    rows: int
    tags: list[str]


class Table:
    """A handle on one table; reads see the newest version, writes are commits.

    A class because a handle is what a table is: an address with operations. It holds no open file.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __repr__(self) -> str:
        return f"Table({self.uri!r})"

    def exists(self) -> bool:
        """Whether the table is there."""
        try:
            self._newest()
        except (ValueError, OSError) as error:
            if "not found" in str(error).lower():
                return False
            with our_errors(self.uri):
                raise
        return True

    def _newest(self) -> Any:
        return lance.dataset(self.uri, session=_session())

    @property
    def schema(self) -> pa.Schema:
        """The columns, the bytes as plain binary, with the table's own metadata."""
        with our_errors(self.uri):
            return _plain(self._newest().schema)

    def version(self) -> int:
        """The number of the newest version."""
        with our_errors(self.uri):
            return int(self._newest().version)

    def fingerprint(self) -> str:
        """Differs whenever the rows do, also where the table was deleted and made again."""
        with our_errors(self.uri):
            newest = self._newest()
            files = [file.path for fragment in newest.get_fragments() for file in fragment.data_files()]
        return f"{newest.version} {hashlib.sha256(' '.join(files).encode()).hexdigest()}"

    def count(self, where: str | None = None) -> int:
        """The number of rows, all or those for which the predicate `where` holds."""
        with our_errors(self.uri):
            return int(self._newest().count_rows(where))

    def scan(
        self, columns: Sequence[str], where: str | None = None, *, batch_rows: int = 8192, row_ids: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """The rows in storage order; with `row_ids`, a column `_rowid` for `read_bytes`. Never the column `bytes`."""
        with our_errors(self.uri):
            scanner = self._newest().scanner(
                columns=list(columns),
                filter=where,
                batch_size=batch_rows,
                with_row_id=row_ids,
                scan_in_order=True,
                batch_readahead=2,
                fragment_readahead=1,
            )
            yield from scanner.to_batches()

    def read(self, columns: Sequence[str], where: str | None = None) -> pa.Table:
        """Like `scan`, as one table."""
        with our_errors(self.uri):
            return self._newest().to_table(columns=list(columns), filter=where)

    def rows(self, key: str, values: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """The rows whose `key` is one of `values`, in no order."""
        with our_errors(self.uri):
            if not values:
                return self._newest().schema.empty_table().select(list(columns))
            return self._newest().to_table(columns=list(columns), filter=one_of(key, values))

    def take(self, row_ids: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Columns, `_rowid` may be one, of those rows with these row ids that are there still, in their order."""
        with our_errors(self.uri):
            dataset = self._newest()
            if not row_ids:
                return dataset.scanner(columns=list(columns), limit=0, with_row_id="_rowid" in columns).to_table()
            return dataset._take_rows(list(row_ids), columns=list(columns))  # noqa: SLF001  (no other way in 14.0.2)

    def read_bytes(self, row_ids: Sequence[int]) -> list[bytes | None]:
        """The bytes of the rows with these row ids, in their order."""
        with our_errors(self.uri):
            return [data for _, data in self._newest().read_blobs(BLOB, ids=list(row_ids), preserve_order=True)]

    def bytes_of(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The bytes of the rows with these keys, by key; a key that is not there is missing."""
        if not keys:
            return {}
        with our_errors(self.uri):
            dataset = self._newest()
            key = self._key(dataset)
            found = dataset.to_table(columns=[key], filter=one_of(key, keys), with_row_id=True)
            data = self.read_bytes(found.column("_rowid").to_pylist())
        return {name: each or b"" for name, each in zip(found.column(key).to_pylist(), data, strict=True)}

    def arrow(self) -> Any:
        """The newest version as an Arrow dataset, for SQL."""
        with our_errors(self.uri):
            return self._newest()

    def insert_new(self, rows: pa.Table) -> int:
        """Insert the rows whose key is not there yet, in one commit.

        Several writers at once never commit one key twice. Keys must differ within `rows`.

        Returns:
            How many rows were inserted.
        """
        if rows.num_rows == 0:
            return 0

        def insert() -> int:
            dataset = self._newest()
            merge = dataset.merge_insert(self._key(dataset)).when_not_matched_insert_all().use_index(False)  # noqa: FBT003
            return int(merge.execute(_with_blob_type(rows, dataset.schema))["num_inserted_rows"])

        with our_errors(self.uri):
            return patiently(insert)

    def append(self, rows: pa.Table) -> None:
        """Add rows whose keys are new for certain, such as random ones, without looking: as fast in a large table."""

        def add() -> None:
            dataset = self._newest()
            lance.write_dataset(
                _with_blob_type(rows, dataset.schema), dataset, mode="append", data_storage_version=STORAGE_VERSION
            )

        with our_errors(self.uri):
            if rows.num_rows:
                patiently(add)

    def add_columns(self, columns: pa.Schema) -> None:
        """Add those of some columns that the table has not, as nulls; for a lake that an older version made."""

        def add() -> None:
            dataset = self._newest()
            missing = [field for field in columns if field.name not in dataset.schema.names]
            if missing:
                dataset.add_columns(pa.schema(missing))

        with our_errors(self.uri):
            patiently(add)

    def patch(self, compute: Callable[[], pa.Table]) -> int:
        """Replace some columns of existing rows, in one commit, without touching their pictures.

        `compute` reads what it needs and returns the key column and the new columns. It is called again where
        another writer came in between, so that no update is lost.

        Returns:
            How many rows were patched.
        """

        def apply() -> int:
            dataset = self._newest()
            rows = compute()
            if rows.num_rows == 0:
                return 0
            merge = dataset.merge_insert(self._key(dataset)).when_matched_update_all().write_mode("rewrite_columns")
            return int(merge.conflict_retries(0).execute(rows)["num_updated_rows"])

        with our_errors(self.uri):
            return patiently(apply)

    def delete(self, where: str) -> None:
        """Delete the rows for which the predicate holds."""
        with our_errors(self.uri):
            patiently(lambda: self._newest().delete(where))

    def tidy(self, older_than: timedelta = KEEP_VERSIONS) -> bool:
        """Fold many small fragments into few, and drop versions of that age that nobody tagged.

        Safe beside other writers, who come first: what they disturb is left for the next run. The size of a fragment is
        set from bytes, so that a full one is never copied again.

        Returns:
            Whether fragments were folded.
        """
        with our_errors(self.uri):
            try:
                folded = self._fold()
                self._newest().cleanup_old_versions(older_than=older_than, error_if_tagged_old_versions=False)
            except (OSError, RuntimeError) as error:
                if is_conflict(error):
                    return False
                raise
            return folded

    def index(self, kinds: Mapping[str, str]) -> list[str]:
        """Make the indices that are missing, and bring those that are there up to date with new rows.

        A scan with a predicate uses them by itself.

        Args:
            kinds: the kind of index by column: `BTREE` for ranges, `BITMAP` for few values, `LABEL_LIST` for lists.
                Never the key's: with an index on it, two writers can insert one key twice.

        Returns:
            The columns that got one.
        """
        made = []
        with our_errors(self.uri):
            there = set(self._indexed())
            for column, kind in kinds.items():
                if column in there or column not in self._newest().schema.names:
                    continue
                patiently(functools.partial(self._make_index, column, kind))
                made.append(column)
            if there:
                patiently(self._refresh_indices)
        return made

    def _make_index(self, column: str, kind: str) -> None:
        self._newest().create_scalar_index(column, kind, name=f"{column}_index")

    def _refresh_indices(self) -> None:
        self._newest().optimize.optimize_indices()

    def _indexed(self) -> dict[str, str]:
        """The name of each index by its column."""
        return {each.field_names[0]: str(each.name) for each in self._newest().describe_indices()}

    def purge(self) -> int:
        """Take deleted rows out of the files, and remove every older version, so that nothing is left of them.

        Returns:
            How many bytes that freed.

        Raises:
            LakeError: a tagged version still holds them.
        """
        with our_errors(self.uri):
            for name in self._indexed().values():  # they hold values of deleted rows; `index` makes them again
                patiently(functools.partial(self._drop_index, name))
            patiently(self._materialize_deletions)
            if self.tags():
                raise LakeError(
                    f"{self.uri} has tagged versions ({', '.join(self.tags())}), which keep what was deleted."
                )
            stats = patiently(lambda: self._newest().cleanup_old_versions(older_than=timedelta(0)))
            return int(stats.bytes_removed) + self._remove_orphans()

    def _remove_orphans(self) -> int:
        """Remove data that a killed writer left and no version names; what is younger than an hour may be in use."""
        folder = Path(self.uri) / "data"
        if is_remote(self.uri) or not folder.exists():
            return 0
        named = {Path(file.path).stem for part in self._newest().get_fragments() for file in part.data_files()}
        freed = 0
        for path in folder.iterdir():
            if path.stem in named or time.time() - path.stat().st_mtime < _ORPHAN_S:
                continue
            files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
            freed += sum(each.stat().st_size for each in files)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return freed

    def _drop_index(self, name: str) -> None:
        self._newest().drop_index(name)

    def _materialize_deletions(self) -> None:
        dataset = self._newest()
        if any(fragment.metadata.num_deletions for fragment in dataset.get_fragments()):
            most = max(1, *(fragment.count_rows() for fragment in dataset.get_fragments()))
            dataset.optimize.compact_files(
                target_rows_per_fragment=most, materialize_deletions_threshold=0.0, num_threads=1
            )

    def versions(self) -> list[Version]:
        """All versions that can be gone back to, the newest last."""
        with our_errors(self.uri):
            dataset = self._newest()
            names: dict[int, list[str]] = {}
            for name, tag in dataset.tags.list().items():
                names.setdefault(int(tag["version"]), []).append(name)
            return [
                Version(
                    int(each["version"]), each["timestamp"].astimezone(UTC), int(each["metadata"]["total_rows"]),
                    sorted(names.get(int(each["version"]), [])),
                )
                for each in dataset.versions()
            ]  # fmt: skip

    def tags(self) -> list[str]:
        """The names that versions were given."""
        with our_errors(self.uri):
            return sorted(self._newest().tags.list())

    def tag(self, name: str) -> None:
        """Give the newest version a name; it is kept until the name is taken away."""
        with our_errors(self.uri):
            dataset = self._newest()
            dataset.tags.create(name, dataset.version)

    def untag(self, name: str) -> None:
        """Take a name away."""
        with our_errors(self.uri):
            self._newest().tags.delete(name)

    def restore(self, name: str) -> None:
        """Make the tagged version the newest one again; what came after it stays an older version."""
        with our_errors(self.uri):
            patiently(lambda: lance.dataset(self.uri, version=name, session=_session()).restore())

    def _fold(self) -> bool:
        dataset = self._newest()
        fragment_rows = [fragment.count_rows() for fragment in dataset.get_fragments()]
        target_rows = max(1, _FRAGMENT_BYTES * sum(fragment_rows) // max(self._byte_size(dataset), 1))
        if sum(rows < target_rows // 2 for rows in fragment_rows) < _SMALL_FRAGMENTS:
            return False
        dataset.optimize.compact_files(target_rows_per_fragment=target_rows, num_threads=1)
        return True

    def _byte_size(self, dataset: Any) -> int:
        if "byte_size" in dataset.schema.names:
            total = dataset.sql("select sum(byte_size) as total from dataset").build().to_batch_records()
            return int(total[0].column(0)[0].as_py() or 0)
        widths = (f.type.list_size * 4 for f in dataset.schema if pa.types.is_fixed_size_list(f.type))
        return int(dataset.count_rows() * (256 + sum(widths)))

    def _key(self, dataset: Any) -> str:
        for field in dataset.schema:
            if field.metadata and b"lance-schema:unenforced-primary-key" in field.metadata:
                return str(field.name)
        raise LakeError(f"{self.uri} declares no key; it was not made by imagelake.")


def in_parts(values: Sequence[str]) -> Iterator[list[str]]:
    """Values a few thousand at a time: as many as fit into one `one_of` well. A lookup reads the whole key column."""
    for start in range(0, len(values), _LOOKUP_VALUES):
        yield list(values[start : start + _LOOKUP_VALUES])


def one_of(column: str, values: Sequence[str]) -> str:
    """The predicate `column IN (...)`, with the values quoted as SQL strings."""
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"


def names_below(uri: str) -> list[str]:
    """The names of the tables in a folder of a bucket, without their suffix, sorted; empty where there is none."""
    from lance.namespace import DirectoryNamespace  # late: only lakes in buckets need it
    from lance_namespace import ListTablesRequest

    with our_errors(uri):
        found = DirectoryNamespace(root=uri, manifest_enabled="false").list_tables(ListTablesRequest(id=[]))
    return sorted(found.tables)
