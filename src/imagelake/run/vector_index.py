"""The search index of an embedding set: built once, kept beside the lake, and brought up to date before it is used."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from imagelake.errors import SearchError
from imagelake.lake.ids import IdSet
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables, manifest_text
from imagelake.search.index import ExactIndex
from imagelake.search.segment import Metric

_KEPT_FROM = 2048  # rows; reading fewer vectors from the lake takes no time worth saving
_BATCH_ROWS = 4096
_SAMPLE = 64
_MOST_PARTS, _LEAST_LEFT = 24, 0.75


def open_index(tables: Tables, embedding_set: str, metric: Metric) -> ExactIndex:
    """The index of an embedding set as it is now.

    It is kept in the lake's folder `indexes`, with the manifest of the model and the fingerprint of the table that it
    was made from. When the table has changed, rows that came or went since are added or removed, and the index is kept
    again. When the set was made anew, or its vectors differ from those of the index, so is the index. A lake that
    cannot be written, or is in a bucket, gets its index in memory.

    Raises:
        LakeError: the vectors cannot be read.
    """
    table, folder = tables.embeddings(embedding_set), tables.index_folder(embedding_set)
    note = json.dumps([_identity(table), table.fingerprint()])
    index = _kept(folder, metric)
    if index is not None and index.note == note:
        return index
    if index is None or not _same_set(index.note, note) or not _follow(index, table):
        index = ExactIndex(*_vectors(table, None), metric)
    if folder is None or len(index) < _KEPT_FROM:
        return index
    try:
        index.save(folder, note=note)
    except SearchError:
        return index  # the lake is read-only or full: this index is right all the same, it is made again next time
    _forget_others(folder.parent, tables.embedding_sets())
    return _kept(folder, metric) or index


def _kept(folder: Path | None, metric: Metric) -> ExactIndex | None:
    """The index that is kept, or None where there is none that can be used: then it is made anew."""
    if folder is None or not folder.exists():
        return None
    try:
        index = ExactIndex.load(folder, mmap=True)
    except SearchError:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return index if index.metric == metric else None


def _identity(table: Table) -> str:
    """Differs for another model, and for a set that was made again."""
    made = (table.schema.metadata or {}).get(b"imagelake:made", b"")
    return hashlib.sha256(manifest_text(table).encode() + made).hexdigest()


def _same_set(kept: str, now: str) -> bool:
    try:
        return bool(json.loads(kept)[0] == json.loads(now)[0])
    except (ValueError, LookupError, TypeError):
        return False  # somebody else's index


def _follow(index: ExactIndex, table: Table) -> bool:
    """Add the rows that the table has and the index has not, and remove those that the table has no more.

    Returns:
        Whether that made it right: not where vectors of rows that both have differ, by a sample of them, or where so
        much was added and removed that a new index is faster.
    """
    now = IdSet(batch.column("id") for batch in table.scan(["id"], batch_rows=1 << 16))
    known = pa.array(index.ids.tolist(), pa.string())
    there = now.contains(known)
    both = index.ids[there]
    sample = both[:: max(1, len(both) // _SAMPLE)].tolist()
    rows = table.rows("id", sample, ["id", "vector"])
    if not np.array_equal(index.vectors_of(rows.column("id").to_pylist()), matrix(rows.column("vector"))):
        return False
    if len(index.parts) >= _MOST_PARTS or there.sum() < _LEAST_LEFT * index.rows_held:
        return False
    if not there.all():
        index.remove(index.ids[~there])
    if int(there.sum()) < len(now):
        vectors, ids = _vectors(table, IdSet([known]))
        index.add(vectors, ids)
    return True


def _vectors(table: Table, known: IdSet | None) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.str_]]:
    """Vectors and ids of the rows that are not known."""
    vectors, ids = [], []
    for batch in table.scan(["id", "vector"], batch_rows=_BATCH_ROWS):
        fresh = batch if known is None else batch.filter(pa.array(~known.contains(batch.column("id"))))
        vectors.append(matrix(fresh.column("vector")))
        ids.append(np.array(fresh.column("id").to_pylist(), dtype="U64"))
    if not vectors:
        return np.empty((0, table.schema.field("vector").type.list_size), np.float32), np.empty(0, "U64")
    return np.concatenate(vectors).astype(np.float32, copy=False), np.concatenate(ids)


def matrix(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """Vectors of one length as float32 [n, d]."""
    flat = column.combine_chunks().flatten() if isinstance(column, pa.ChunkedArray) else column.flatten()
    return np.asarray(flat.to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size), np.float32)


def _forget_others(folder: Path, sets: list[str]) -> None:
    """Remove indexes of embedding sets that are no more."""
    for other in folder.iterdir():
        if other.is_dir() and other.name not in sets:
            shutil.rmtree(other, ignore_errors=True)
