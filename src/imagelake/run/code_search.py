"""Search by binary codes: first by Hamming distance, and if wanted the nearest of them again by their vectors."""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from imagelake.errors import InputError, SearchError
from imagelake.lake.table import Table, in_parts
from imagelake.lake.tables import Tables, manifest_text
from imagelake.models.choice import choose_coder
from imagelake.models.coder import Coder, open_coder
from imagelake.models.file_manifest import file_fingerprint, from_json
from imagelake.models.registry import Registry
from imagelake.run.codes import code_set_name, fingerprint_of_table
from imagelake.run.vector_index import matrix
from imagelake.search.hamming import HammingIndex
from imagelake.search.index import ExactIndex
from imagelake.search.segment import Metric

Ids = npt.NDArray[np.str_]


class CodeIndex:
    """The codes of an embedding set, searched with vectors. A class because it holds an index.

    Args:
        coder: what makes codes of vectors.
        codes: the codes by id.
        vectors: the embedding set that the codes are of.
        metric: how its vectors are compared.
        rerank: how many of the nearest codes are compared again by their vectors; 0: none.
    """

    def __init__(self, coder: Coder, codes: HammingIndex, vectors: Table, metric: Metric, rerank: int = 0) -> None:
        if operator.index(rerank) < 0:
            raise InputError(f"--rerank is {rerank}; it must be 0 or more.")
        self.codes = codes
        self._coder, self._vectors, self._metric, self._rerank = coder, vectors, metric, rerank

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def ids(self) -> Ids:
        """The id of every code; shape (n,)."""
        return self.codes.ids

    def search(
        self, queries: npt.NDArray[np.float32], k: int, *, allowed: npt.NDArray[np.bool_] | None = None
    ) -> tuple[npt.NDArray[np.float64], Ids]:
        """The `k` nearest codes of every query, ordered by (distance, id).

        With `rerank`, the nearest of so many codes (and of `k` at least) by the exact distance of their vectors; at
        full depth these are the answers of an exact search.

        Args:
            queries: float32 [m, d], vectors as the embedding set has them.
            k: 0 or more.
            allowed: bool [n]: which codes may be found, in the order of `ids`.

        Returns:
            Distances, float64, and ids, both of shape (m, k) or less where there are fewer.
        """
        depth = max(k, self._rerank)
        distances, ids = self.codes.search(self._coder.encode(queries), depth, mask=allowed)
        if not self._rerank:
            return distances.astype(np.float64), ids
        again = [self._compare(query, candidates, k) for query, candidates in zip(queries, ids, strict=True)]
        width = min((len(found) for _, found in again), default=0)
        return (
            np.array([values[:width] for values, _ in again], np.float64).reshape(len(again), width),
            np.array([found[:width] for _, found in again], ids.dtype).reshape(len(again), width),
        )

    def _compare(self, query: npt.NDArray[np.float32], candidates: Ids, k: int) -> tuple[npt.NDArray[np.float64], Ids]:
        vectors, ids = [np.empty((0, len(query)), np.float32)], [candidates[:0]]
        for part in in_parts(candidates.tolist()):
            rows = self._vectors.rows("id", part, ["id", "vector"]).combine_chunks()
            for batch in rows.to_batches():
                vectors.append(matrix(batch.column("vector")))
                ids.append(np.array(batch.column("id").to_pylist(), candidates.dtype))
        index = ExactIndex(np.concatenate(vectors), np.concatenate(ids), self._metric)
        distances, found = index.search(query[None], k)
        return distances[0], found[0]


def open_code_index(
    tables: Tables,
    vectors: Table,
    metric: Metric,
    *,
    coder: str | None = None,
    rerank: int = 0,
    registry: Registry | None = None,
) -> CodeIndex:
    """The codes of an embedding set as they are now.

    Args:
        tables: the lake.
        vectors: the embedding set.
        metric: how its vectors are compared.
        coder: the name of the coder; None for the only one whose codes the lake has for this set.
        rerank: how many of the nearest codes are compared again by their vectors.
        registry: where coders are; None for the user's.

    Raises:
        InputError: there are no codes of this set, or several and no coder is named.
        ModelError: the coder is registered no more, or is not the one that made the codes.
    """
    table = tables.codes(_choose_codes(tables, fingerprint_of_table(vectors), coder))
    told = from_json(manifest_text(table))
    model = choose_coder(told.name, registry=registry)
    if file_fingerprint(model.manifest) != file_fingerprint(told):
        raise InputError(
            f"The coder {told.name} that is registered now is not the one that made these codes. Make codes with it: "
            f"imagelake codes write --coder {told.name} --lake {tables.root}"
        )
    opened = open_coder(model)
    return CodeIndex(opened, hamming_index(table, opened.bits), vectors, metric, rerank)


def hamming_index(table: Table, bits: int) -> HammingIndex:
    """The index of a set of codes."""
    codes, ids = [np.empty((0, bits // 8), np.uint8)], [np.empty(0, "U64")]
    for page in table.scan(["id", "code"], batch_rows=65536):
        codes.append(unpacked(page.column("code")))
        ids.append(np.array(page.column("id").to_pylist(), "U64"))
    try:
        return HammingIndex(np.concatenate(codes), np.concatenate(ids))
    except SearchError as error:
        raise InputError(f"The codes in {table.uri} cannot be searched: {error}") from error


def unpacked(column: pa.Array) -> npt.NDArray[np.uint8]:
    """Codes of an Arrow column, uint8 [n, bytes]."""
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1] or b"", np.uint8)
    return data[column.offset * width : (column.offset + len(column)) * width].reshape(len(column), width)


def _choose_codes(tables: Tables, embeddings: str, coder: str | None) -> str:
    """The name of the set of codes of these embeddings."""
    found: dict[str, list[str]] = {}
    for name in tables.code_sets():
        told = tables.codes(name).schema.metadata or {}
        if told.get(b"imagelake:embeddings", b"").decode() == embeddings:
            found.setdefault(from_json(told[b"imagelake:manifest"].decode()).name, []).append(name)
    if not found:
        raise InputError(
            f"The vectors {embeddings[:12]} have no codes yet. Run: imagelake codes fit --lake {tables.root}, "
            f"and then: imagelake codes write --coder NAME --lake {tables.root}"
        )
    if coder is None and len(found) > 1:
        raise InputError(f"There are codes of several coders; choose one with --coder: {', '.join(sorted(found))}.")
    chosen = coder or next(iter(found))
    if chosen not in found:
        raise InputError(f"There are no codes of the coder {chosen!r}; there are those of {', '.join(sorted(found))}.")
    return found[chosen][0] if len(found[chosen]) == 1 else _current(found[chosen], chosen)


def _current(names: list[str], coder: str) -> str:
    """Of several sets of codes by coders of one name, that of the coder that is registered now."""
    now = code_set_name(choose_coder(coder))
    return now if now in names else names[0]
