"""An index on disk: a folder of NumPy files and a header.

Every addition is a folder of its own that is written once, so saving again after rows were added writes only those. The
header is replaced last, in one step: whoever reads sees the old index or the new one. Nothing is unpickled.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from imagelake.errors import SearchError
from imagelake.search.clusters import Clusters
from imagelake.search.encoding import Encoder
from imagelake.search.ids import Ids
from imagelake.search.segment import PANEL, Floats, Ints, Metric, Segment
from imagelake.search.twins import Twins

try:
    import fcntl
except ModuleNotFoundError:  # only POSIX has it
    fcntl = None  # type: ignore[assignment]

_FORMAT = 1
_HEADER, _LOCK = "header.json", "lock"
_OURS = ("header", _LOCK, "part-", "rows-", "encoder-")


@dataclass(frozen=True)
class Added:
    """Rows as they were added.

    Attributes:
        offset: the position of the first of them among all rows of the index.
        vectors: (n, d).
        inverse: float64 (n,); one over their norms, for cosine.
    """

    offset: int
    vectors: Floats
    inverse: npt.NDArray[np.float64] | None

    def rows(self, positions: Ints) -> tuple[npt.NDArray[np.bool_], Ints]:
        """Which of some positions are here, and where."""
        inside = (positions >= self.offset) & (positions < self.offset + len(self.vectors))
        return inside, positions[inside] - self.offset


@dataclass(frozen=True)
class Part:
    """Rows that were added together, encoded.

    Attributes:
        offset: the position of the first of them among all rows of the index.
        segment: their unique vectors, encoded. `source` counts from `offset`; `rank` is filled in for each search.
        clusters: the order they are in.
        twins: rows that are equal, as places among the part's vectors.
        key: its own, given when it was made; what is written under it never changes.
    """

    offset: int
    segment: Segment
    clusters: Clusters
    twins: Twins
    key: str


@dataclass(frozen=True)
class State:
    """All that an index is."""

    metric: Metric
    dims: int
    dtype: np.dtype[Any]
    encoder: Encoder | None
    parts: list[Part]
    ids: Ids


def write(state: State, folder: Path, note: str) -> None:
    """Write an index, or what was added to it since it was written or read.

    Args:
        state: what to write.
        folder: where; made if it is not there.
        note: kept with it, and given back by `read`.

    Raises:
        SearchError: the folder holds something else, or cannot be written.
    """
    try:
        if folder.exists() and any(not each.name.startswith(_OURS) for each in folder.iterdir()):
            raise SearchError(f"{folder} holds something that is no index; choose an empty or a new folder.")
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            _write(state, folder, note)
    except OSError as error:
        raise SearchError(f"{folder} cannot be written: {error.strerror or error}.") from error


def _write(state: State, folder: Path, note: str) -> None:
    try:
        known = _header(folder)
    except SearchError:  # none yet, or one that cannot be read: it is replaced
        known = {"parts": [], "encoder": None}
    wanted = [f"part-{part.key}" for part in state.parts]
    there = set(wanted) & set(known["parts"])
    encoder = known["encoder"] if there else _write_encoder(folder, state.encoder)
    for name, part in zip(wanted, state.parts, strict=True):
        if name not in there:
            _write_part(folder / name, part)
    rows = f"rows-{uuid.uuid4().hex}"
    _write_arrays(folder / rows, {"ids": state.ids.values, "alive": state.ids.alive, "by_rank": state.ids.by_rank})
    header = {
        "format": _FORMAT, "metric": state.metric, "dims": state.dims, "dtype": state.dtype.name, "note": note,
        "encoder": encoder, "parts": wanted, "rows": rows,
    }  # fmt: skip
    fresh = folder / f"header-{uuid.uuid4().hex}"
    with fresh.open("w") as file:
        json.dump(header, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / _HEADER)
    _sweep(folder, {*wanted, encoder, rows, _HEADER, _LOCK})


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Inside, no other process writes here. Whoever reads is not kept waiting."""
    with (folder / _LOCK).open("w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read(folder: Path, *, mmap: bool) -> tuple[State, str]:
    """Read an index, and the note that was written with it.

    Args:
        folder: where it is.
        mmap: leave the arrays on disk and let the system bring in what is looked at.

    Raises:
        SearchError: there is no index, or it cannot be read.
    """
    while True:
        header = _header(folder)
        try:
            return _read(folder, header, mmap=mmap), header["note"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            if _header(folder) != header:
                continue  # it was written anew meanwhile, and what this header names was removed
            raise SearchError(
                f"{folder} is an index with a part that cannot be read ({error}); build it again."
            ) from error


def _read(folder: Path, header: dict[str, Any], *, mmap: bool) -> State:
    rows = _read_arrays(folder / header["rows"], ["ids", "alive", "by_rank"], mmap=mmap)
    encoder = None if header["encoder"] is None else _read_encoder(folder, header)
    parts: list[Part] = []
    offset = 0
    for name in header["parts"]:
        if encoder is None:
            raise ValueError("there are parts, and nothing that they were encoded with")
        parts.append(_read_part(folder / name, offset, encoder, mmap=mmap))
        offset += len(parts[-1].segment.vectors)
    if {offset} != {len(array) for array in rows.values()}:
        raise ValueError(f"there are {offset} vectors and {len(rows['ids'])} ids")
    ids = Ids(rows["ids"], np.array(rows["alive"]), np.array(rows["by_rank"]))
    return State(header["metric"], header["dims"], np.dtype(header["dtype"]), encoder, parts, ids)


def _header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / _HEADER).read_text())
        version = header["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SearchError(f"{folder} holds no index that can be read: {error}. Save one there first.") from error
    if version != _FORMAT:
        raise SearchError(f"{folder} has an index of format {version}; this version reads {_FORMAT}. Build it again.")
    return dict(header)


def _write_encoder(folder: Path, encoder: Encoder | None) -> str | None:
    if encoder is None:
        return None
    name = f"encoder-{uuid.uuid4().hex}"
    edges = np.array([dims.stop for dims in encoder.levels])
    numbers = np.array([encoder.unit, encoder.loss])
    _write_arrays(
        folder / name, {"center": encoder.center, "rotation": encoder.rotation, "edges": edges, "numbers": numbers}
    )
    return name


def _read_encoder(folder: Path, header: dict[str, Any]) -> Encoder:
    stored = _read_arrays(folder / header["encoder"], ["center", "rotation", "edges", "numbers"], mmap=False)
    edges = [0, *stored["edges"].tolist()]
    levels = tuple(range(start, stop) for start, stop in itertools.pairwise(edges))
    unit, loss = stored["numbers"].tolist()
    return Encoder(header["metric"], stored["center"], stored["rotation"], levels, unit, loss)


def _write_part(folder: Path, part: Part) -> None:
    if folder.exists():  # a run before was stopped here
        shutil.rmtree(folder)
    segment = part.segment
    arrays: dict[str, npt.NDArray[Any]] = {f"codes{level}": codes for level, codes in enumerate(segment.codes)}
    arrays |= {"bounds": segment.bounds, "source": segment.source, "vectors": segment.vectors}
    arrays |= {"centroids": part.clusters.centroids, "first": part.clusters.first}
    arrays |= {"twins": part.twins.members, "twins_first": part.twins.first}
    if segment.inverse is not None:
        arrays["inverse"] = segment.inverse
    _write_arrays(folder, arrays)


def _read_part(folder: Path, offset: int, encoder: Encoder, *, mmap: bool) -> Part:
    levels = [f"codes{level}" for level in range(len(encoder.levels))]
    wanted = [*levels, "bounds", "source", "vectors", "centroids", "first", "twins", "twins_first"]
    stored = _read_arrays(folder, [*wanted, *(["inverse"] if encoder.metric == "cosine" else [])], mmap=mmap)
    source, bounds, vectors = np.array(stored["source"]), stored["bounds"], stored["vectors"]
    codes = tuple(stored[name] for name in levels)
    shapes = [
        bounds.shape == (len(source) // PANEL, 1 + 3 * len(levels), PANEL),
        vectors.ndim == 2 and vectors.shape[1] == encoder.dims,
        all(each.size == len(source) * dims for each, dims in zip(codes, encoder.padded, strict=True)),
        len(source) == 0 or (source.min() >= 0 and source.max() < len(vectors)),
        encoder.metric != "cosine" or len(stored["inverse"]) == len(vectors),
    ]
    if not all(shapes):
        raise ValueError(f"the arrays of {folder.name} do not fit each other")
    segment = Segment(codes, bounds, source, source, vectors, stored.get("inverse"))
    clusters = Clusters(np.array(stored["centroids"]), np.array(stored["first"]))
    twins = Twins(np.array(stored["twins"]), np.array(stored["twins_first"]))
    return Part(offset, segment, clusters, twins, folder.name.removeprefix("part-"))


def _write_arrays(folder: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    folder.mkdir()
    for name, array in arrays.items():
        with (folder / f"{name}.npy").open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())


def _read_arrays(folder: Path, names: list[str], *, mmap: bool) -> dict[str, npt.NDArray[Any]]:
    mode: Literal["r"] | None = "r" if mmap else None
    return {name: np.load(folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False) for name in names}


def _sweep(folder: Path, keep: set[str | None]) -> None:
    """Remove what no header names any more. Whoever has it open keeps what is mapped."""
    for path in folder.iterdir():
        if path.name not in keep:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
