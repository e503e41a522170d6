"""The embedding sets of a lake, each opened when it is first searched; and the binary codes of each."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imagelake.errors import ImagelakeError, InputError
from imagelake.gallery.gallery import Gallery
from imagelake.lake.tables import manifest_text
from imagelake.models.choice import metric_of, read_text
from imagelake.run.code_search import CodeIndex, open_code_index
from imagelake.run.codes import fingerprint_of_table
from imagelake.run.lake_state import LakeState
from imagelake.run.lake_view import MAX_PIXELS, LakeViewOfTables

_LOOK_S = 5.0  # how often the sets are listed


@dataclass(frozen=True)
class NeighborSet:
    """An embedding set that can be searched.

    Attributes:
        name: of the set.
        of_regions: whether it has vectors of parts of images.
        codes: whether there are binary codes of it.
        vectors: how many it has.
    """

    name: str
    of_regions: bool
    codes: bool
    vectors: int


@dataclass(frozen=True)
class Codes:
    """The binary codes of an embedding set, beside its index.

    Attributes:
        index: of the codes.
        place: the row of the index of vectors of each code, int64 [n]; -1 where the vector is gone.
    """

    index: CodeIndex
    place: NDArray[np.int64]

    def nearest(self, queries: NDArray[np.float32], count: int, allowed: NDArray[np.bool_] | None) -> list[str]:
        """The names of the nearest codes to one query [1, d], where only some rows of the index are `allowed`."""
        may = self.place >= 0
        if allowed is not None:
            may &= allowed[self.place]
        _, found = self.index.search(queries, count, allowed=None if may.all() else may)
        return [str(name) for name in found[0].tolist()] if len(found) else []


class NeighborSets:
    """What a lake has to search. A class because it keeps what is open."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._lock = threading.Lock()
        self._views: dict[str, LakeViewOfTables] = {}
        self._codes: dict[str, tuple[tuple[str, ...], Codes]] = {}
        self._listed: tuple[float, list[NeighborSet]] | None = None

    def found(self) -> list[NeighborSet]:
        """The sets that have vectors, by name; as they were some seconds ago at most.

        Raises:
            LakeError: they cannot be read.
        """
        with self._lock:
            if self._listed is None or time.monotonic() - self._listed[0] > _LOOK_S:
                self._listed = time.monotonic(), self._read()
            return self._listed[1]

    def view(self, name: str | None) -> LakeViewOfTables:
        """An embedding set, opened; None: the one that the lake is served with.

        Raises:
            InputError: there is none of that name, or it has no vectors.
        """
        served = self._gallery.view
        if served is not None and name in (None, served.embedding_set):
            return served
        known = [each.name for each in self.found()]
        if name is None or name not in known:
            raise InputError(
                f"This lake has no embedding set {(name or '')[:60]!r} to search. It has: {', '.join(known)}."
            )
        with self._lock:
            if name not in self._views:
                most = MAX_PIXELS if served is None else served.max_pixels
                self._views[name] = LakeViewOfTables(self._gallery.tables, name, most)
            return self._views[name]

    def codes(self, name: str, state: LakeState) -> Codes:
        """The binary codes of an embedding set as they are now.

        Raises:
            InputError: there are none, or their coder is registered no more.
        """
        with self._lock:
            tables = self._gallery.tables
            mark = (*state.marks, *tables.code_sets())
            kept = self._codes.get(name)
            if kept is None or kept[0] != mark:
                metric = metric_of(read_text(manifest_text(state.vectors)))
                index = open_code_index(tables, state.vectors, metric)
                place = pc.index_in(
                    pa.array(index.ids.tolist(), pa.string()), pa.array(state.index.ids.tolist(), pa.string())
                )
                kept = mark, Codes(index, pc.fill_null(place, -1).to_numpy().astype(np.int64))
                self._codes[name] = kept
            return kept[1]

    def close(self) -> None:
        """End what follows the lake."""
        for view in self._views.values():
            view.close()

    def _read(self) -> list[NeighborSet]:
        tables = self._gallery.tables
        coded = set()
        for each in tables.code_sets():
            told = tables.codes(each).schema.metadata or {}
            coded.add(told.get(b"imagelake:embeddings", b"").decode())
        found = []
        for name in tables.embedding_sets():
            try:
                table = tables.embeddings(name)
                count = table.count()
            except ImagelakeError:
                continue  # it was deleted meanwhile
            if count:
                codes = fingerprint_of_table(table) in coded
                found.append(NeighborSet(name, "image_id" in table.schema.names, codes, count))
        return found
