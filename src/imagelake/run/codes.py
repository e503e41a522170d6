"""Binary codes of a lake's embeddings: learn a coder on them, and give every vector its code."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from imagelake import schema
from imagelake.errors import InputError
from imagelake.lake.ids import IdSet
from imagelake.lake.table import Table, in_parts, one_of
from imagelake.lake.tables import Tables, id_set
from imagelake.models.code_learning import learn_code, least_vectors
from imagelake.models.coder import Coder, make_coder, open_coder, register_coder
from imagelake.models.file_manifest import file_fingerprint, to_json
from imagelake.models.registry import RegisteredModel, Registry, default_registry
from imagelake.run.commits import CommitSize, gather
from imagelake.run.progress import Progress, Silent, counted
from imagelake.run.receipts import Counts, new_run, write_receipt
from imagelake.run.turned import turned_vectors
from imagelake.run.vector_index import matrix

LEARN_FROM = 50_000
"""The most vectors that a coder is learned on; of more, a random choice."""

_BATCH_ROWS = 4096
_TELLING = 2000  # vectors whose codes tell how even the bits are
_COMMIT = CommitSize()
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FitOptions:
    """How to learn a coder.

    Attributes:
        bits: the length of a code: a multiple of 8 from 16 to 512.
        method: `"neighbors"`, `"itq"`, `"pca"`, `"bihalf"` or `"deepbit"`.
        embedding_set: which vectors; by default the only set there is.
        name: what to call the coder; by default the method, the bits and the start of the embeddings' fingerprint.
        seed: another gives another coder of the same kind.
        pictures: how many pictures `deepbit` turns.
        replace: whether a model of that name may be replaced.
    """

    bits: int = 64
    method: str = "neighbors"
    embedding_set: str | None = None
    name: str | None = None
    seed: int = 0
    pictures: int = 1000
    replace: bool = False


@dataclass(frozen=True)
class FitReport:
    """What was learned.

    Attributes:
        coder: the name of the new model.
        method: how.
        bits: of a code.
        embedding_set: what it was learned on.
        embeddings: the fingerprint of that.
        fingerprint: of the coder.
        vectors: how many it was learned from.
        turned: how many pictures were turned for it.
        distinct: of so many codes of a sample, how many differ, as a share.
        evenness: the mean share of the rarer value of a bit, 0 to 0.5; at 0.5 each bit tells as much as it can.
        seconds: what it took.
    """

    coder: str
    method: str
    bits: int
    embedding_set: str
    embeddings: str
    fingerprint: str
    vectors: int
    turned: int
    distinct: float
    evenness: float
    seconds: float


@dataclass(frozen=True)
class CodesReport:
    """What a write did: how many of the vectors got a code or had one; `removed` codes had no vector any more."""

    code_set: str
    coder: str
    embedding_set: str
    found: int
    added: int
    known: int
    removed: int
    seconds: float


def fit_codes(
    tables: Tables,
    options: FitOptions | None = None,
    *,
    registry: Registry | None = None,
    progress: Progress | None = None,
) -> FitReport:
    """Learn a coder on the vectors of a lake, and register it as a model.

    Raises:
        InputError: there is no such embedding set, or no one chosen among several.
        ModelError: method, bits or name are not allowed, the name is taken, or there are too few vectors.
    """
    options, registry, began = options or FitOptions(), registry or default_registry(), time.monotonic()
    embedding_set = choose_set(tables, options.embedding_set)
    table = tables.embeddings(embedding_set)
    embeddings = fingerprint_of_table(table)
    vectors, ids = sample_vectors(table, LEARN_FROM, options.seed)
    say = (progress or Silent()).say
    say(f"learning {options.bits} bits by {options.method} from {len(vectors):,} vectors")
    turned = None
    if options.method == "deepbit" and len(vectors) >= least_vectors("deepbit", options.bits):
        turned = turned_vectors(tables, table, ids, options.pictures, options.seed, progress)
    code = learn_code(vectors, options.bits, options.method, seed=options.seed, turned=turned)
    codes = make_coder(code, embeddings).encode(vectors[:_TELLING])
    model = register_coder(
        registry,
        options.name or f"{options.method}-{options.bits}-{embeddings[:8]}",
        code,
        {"method": options.method, "embeddings": embeddings, "seed": options.seed, "vectors": len(vectors)},
        f"learned on the embedding set {embedding_set}",
        replace=options.replace,
    )
    shares = np.unpackbits(codes, axis=1).mean(axis=0)
    return FitReport(
        coder=model.manifest.name,
        method=options.method,
        bits=options.bits,
        embedding_set=embedding_set,
        embeddings=embeddings,
        fingerprint=file_fingerprint(model.manifest),
        vectors=len(vectors),
        turned=0 if turned is None else turned.vectors.shape[1],
        distinct=round(len(np.unique(codes, axis=0)) / len(codes), 4),
        evenness=round(float(np.minimum(shares, 1 - shares).mean()), 4),
        seconds=round(time.monotonic() - began, 3),
    )


def code_set_name(model: RegisteredModel) -> str:
    """The name of a coder's set of codes: the coder's name and the start of its fingerprint."""
    return f"{model.manifest.name}-{file_fingerprint(model.manifest)[:12]}"


def create_code_set(tables: Tables, model: RegisteredModel) -> Table:
    """The set of codes of a coder, made where it is missing."""
    head = model.manifest.head
    columns = schema.codes(
        int(head["bits"]), to_json(model.manifest), file_fingerprint(model.manifest), str(head["embeddings"])
    )
    return tables.create_codes(code_set_name(model), columns)


def write_codes(
    tables: Tables, model: RegisteredModel, progress: Progress | None = None, commit: CommitSize = _COMMIT
) -> CodesReport:
    """Give every vector that the coder was made for its code, where it has none yet; drop codes without a vector.

    Raises:
        InputError: the lake has no embedding set that the coder was made for.
        ModelError: the coder's file is missing or damaged.
    """
    progress, began, run = progress or Silent(), time.monotonic(), new_run("local")
    embeddings = str(model.manifest.head["embeddings"])
    embedding_set = _set_of(tables, model.manifest.name, embeddings)
    table, coder = tables.embeddings(embedding_set), open_coder(model)
    codes = create_code_set(tables, model)
    pages = list(codes.scan(["id"], batch_rows=65536))  # first: what others add meanwhile is not taken for gone
    there, now = IdSet(page.column("id") for page in pages), id_set(table)
    gone = [name for page in pages for name in _without(page, now).column("id").to_pylist()]
    known = waiting = 0
    for page in table.scan(["id"], batch_rows=65536):
        have = int(there.contains(page.column("id")).sum())
        known, waiting = known + have, waiting + page.num_rows - have
    added = 0
    if waiting:
        progress.start("codes", waiting)
        for piece in gather(counted(_encoded(table, there, coder, embeddings), progress), commit):
            added += codes.insert_new(piece)
    for part in in_parts(gone):
        codes.delete(one_of("id", part))
    seconds = time.monotonic() - began
    if waiting or gone:
        write_receipt(
            tables, "codes", code_set_name(model), file_fingerprint(model.manifest), Counts(added, known), seconds, run
        )
        codes.tidy()
    return CodesReport(
        code_set=code_set_name(model),
        coder=model.manifest.name,
        embedding_set=embedding_set,
        found=known + waiting,
        added=added,
        known=known + waiting - added,
        removed=len(gone),
        seconds=round(seconds, 3),
    )


def choose_set(tables: Tables, asked: str | None) -> str:
    """The embedding set that is asked for, or the only one.

    Raises:
        InputError: there is none, or several and none is asked for.
    """
    sets = tables.embedding_sets()
    if asked is not None or len(sets) == 1:
        return asked or sets[0]
    if not sets:
        raise InputError(f"No image of {tables.root} has a vector yet. Run: imagelake extract --lake {tables.root}")
    raise InputError(f"This lake has several embedding sets; choose one with --set: {', '.join(sets)}.")


def fingerprint_of_table(table: Table) -> str:
    """The fingerprint of what made the vectors of an embedding set."""
    return str((table.schema.metadata or {}).get(b"imagelake:fingerprint", b"").decode())


def sample_vectors(table: Table, most: int, seed: int) -> tuple[Floats, list[str]]:
    """At most so many vectors of an embedding set, by a random choice that depends on the ids alone.

    Returns:
        Vectors, float32 [n, d], and their ids, both in order of the ids.
    """
    ids = np.array([name for page in table.scan(["id"], batch_rows=65536) for name in page.column("id").to_pylist()])
    order = np.argsort(ids)
    if len(order) > most:
        order = order[np.sort(np.random.default_rng(seed).permutation(len(order))[:most])]
    row_of = np.full(len(ids), -1, np.int64)
    row_of[order] = np.arange(len(order))
    vectors = np.empty((len(order), table.schema.field("vector").type.list_size), np.float32)
    start = 0
    for page in table.scan(["vector"], batch_rows=_BATCH_ROWS):
        rows = row_of[start : start + page.num_rows]
        vectors[rows[rows >= 0]] = matrix(page.column("vector"))[rows >= 0]
        start += page.num_rows
    return vectors, ids[order].tolist()


def _set_of(tables: Tables, coder: str, embeddings: str) -> str:
    sets = tables.embedding_sets()
    for name in sets:
        if fingerprint_of_table(tables.embeddings(name)) == embeddings:
            return name
    raise InputError(
        f"The coder {coder} was learned on the embeddings {embeddings[:12]}, which this lake has not; it has "
        f"{', '.join(sets) or 'none'}. Learn one on these: imagelake codes fit --lake {tables.root}"
    )


def _encoded(table: Table, there: IdSet, coder: Coder, embeddings: str) -> Iterator[pa.RecordBatch]:
    for page in table.scan(["id", "vector"], batch_rows=_BATCH_ROWS):
        fresh = _without(page, there)
        codes = coder.encode(matrix(fresh.column("vector")), embeddings=embeddings)
        packed = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(coder.bits // 8), len(codes), [None, pa.py_buffer(codes.tobytes())]
        )
        yield pa.record_batch({"id": fresh.column("id"), "code": packed})


def _without(page: pa.RecordBatch, ids: IdSet) -> pa.RecordBatch:
    """The rows whose id is not among `ids`."""
    return page.filter(pa.array(~ids.contains(page.column("id"))))
