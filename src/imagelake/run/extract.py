"""From the images table to an embedding set: every image that has no vector of this fingerprint gets one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from imagelake import schema
from imagelake.lake.ids import IdSet
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables, id_set, uris_of
from imagelake.models.manifest import Manifest, fingerprint, to_json
from imagelake.run.commits import CommitSize, gather
from imagelake.run.local import run_local, worker_count
from imagelake.run.progress import Progress, Silent, counted
from imagelake.run.receipts import Counts, Rejection, write_receipt, write_rejections
from imagelake.steps.embed import Embed

_BATCH_ROWS = 16  # a few calls of the model
_BATCH_BYTES = 16 << 20
_COMMIT = CommitSize()


@dataclass(frozen=True)
class ExtractReport:
    """What an extract did: of the images found in the lake, how many got a vector, had one, or could not."""

    embedding_set: str
    model: str
    fingerprint: str
    found: int
    added: int
    known: int
    rejected: int
    seconds: float
    images_per_s: float


def set_name(manifest: Manifest) -> str:
    """The name of a manifest's embedding set: the model's name and the start of the fingerprint."""
    return f"{manifest.name}-{fingerprint(manifest)[:12]}"


def extract(
    tables: Tables, manifest: Manifest, progress: Progress | None = None, commit: CommitSize = _COMMIT
) -> ExtractReport:
    """Embed every image that has no vector of this manifest's fingerprint, and commit as it goes."""
    progress = progress or Silent()
    began = time.monotonic()
    mark = fingerprint(manifest)
    vectors = tables.create_embeddings(
        set_name(manifest), schema.embeddings(manifest.dimensions, to_json(manifest), mark)
    )
    done = id_set(vectors)
    known, waiting = _count(tables.images, done)
    total = Counts(known=known)
    if waiting:
        progress.start("extract", waiting)
        step = Embed(manifest, on_progress=progress.say)
        embedded = run_local(_pending(tables.images, done), [step], workers=worker_count())
        for piece in gather(counted(embedded, progress), commit):
            since = time.monotonic()
            counts = _commit(tables, vectors, piece)
            write_receipt(tables, "extract", set_name(manifest), mark, counts, time.monotonic() - since)
            total += counts
        for table in (vectors, tables.receipts):
            table.tidy()
    seconds = time.monotonic() - began
    rate = total.added / seconds if seconds > 0 else 0.0
    return ExtractReport(
        embedding_set=set_name(manifest),
        model=manifest.name,
        fingerprint=mark,
        found=total.found,
        added=total.added,
        known=total.known,
        rejected=total.rejected,
        seconds=round(seconds, 3),
        images_per_s=round(rate, 1),
    )


def _count(images: Table, done: IdSet) -> tuple[int, int]:
    """How many images have a vector, and how many wait for one. A vector whose image is gone counts for neither."""
    known = waiting = 0
    for page in images.scan(["id"], batch_rows=65536):
        have = int(done.contains(page.column("id")).sum())
        known, waiting = known + have, waiting + page.num_rows - have
    return known, waiting


def _pending(images: Table, done: IdSet) -> Iterator[pa.RecordBatch]:
    """Id and bytes of the images that are not done, in batches as the model takes them."""
    for page in images.scan(["id", "byte_size"], row_ids=True):
        waiting = page.filter(pa.array(~done.contains(page.column("id"))))
        ids, row_ids = waiting.column("id").to_pylist(), waiting.column("_rowid").to_pylist()
        start = 0
        for stop in _stops(waiting.column("byte_size").to_pylist()):
            data = images.read_bytes(row_ids[start:stop])
            yield pa.record_batch({"id": pa.array(ids[start:stop]), "bytes": pa.array(data, pa.large_binary())})
            start = stop


def _stops(sizes: list[int]) -> Iterator[int]:
    """Where batches end: after `_BATCH_ROWS` pictures or `_BATCH_BYTES`."""
    rows = held = 0
    for position, size in enumerate(sizes, start=1):
        rows, held = rows + 1, held + size
        if rows == _BATCH_ROWS or held >= _BATCH_BYTES or position == len(sizes):
            yield position
            rows = held = 0


def _commit(tables: Tables, vectors: Table, piece: pa.Table) -> Counts:
    good = piece.filter(pc.is_null(piece.column("error"))).select(["id", "vector"])
    added = vectors.insert_new(good)
    bad = piece.filter(pc.is_valid(piece.column("error"))).select(["id", "error"]).to_pylist()
    uris = uris_of(tables.images, [row["id"] for row in bad])
    write_rejections(tables, [Rejection(uris[row["id"]][0], row["id"], "embed", row["error"], None) for row in bad])
    return Counts(added=added, known=good.num_rows - added, rejected=len(bad))
