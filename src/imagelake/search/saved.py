"""An index on disk: a folder of NumPy files and a header.

Every addition is a folder of its own that is written once, so saving again after rows were added writes only those. The
header is replaced last, in one step: whoever reads sees the old index or the new one. Nothing is unpickled.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake.errors import SearchError
from imagelake.search.clusters import Clusters
from imagelake.search.encoding import Encoder
from imagelake.search.ids import Ids
from imagelake.search.segment import Floats, Ints, Metric, Segment
from imagelake.search.twins import Twins

_FORMAT = 1
_HEADER = "header.json"


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
    """

    offset: int
    segment: Segment
    clusters: Clusters
    twins: Twins


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
    known = _header(folder) if (folder / _HEADER).exists() else None
    if known is None and folder.exists() and any(folder.iterdir()):
        raise SearchError(f"{folder} holds something that is no index; choose an empty or a new folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        same = known is not None and _continues(folder, known, state)
        names = known["parts"] if known is not None and same else []
        encoder = known["encoder"] if known is not None and same else _write_encoder(folder, state.encoder)
        names = [*names, *(_write_part(folder, part) for part in state.parts[len(names) :])]
        rows = f"rows-{uuid.uuid4().hex}"
        _write_arrays(folder / rows, {"ids": state.ids.values, "alive": state.ids.alive, "by_rank": state.ids.by_rank})
        header = {
            "format": _FORMAT, "metric": state.metric, "dims": state.dims, "dtype": state.dtype.name, "note": note,
            "encoder": encoder, "parts": names, "rows": rows,
        }  # fmt: skip
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            json.dump(header, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(folder / _HEADER)
        _sweep(folder, {*names, encoder, rows})
    except OSError as error:
        raise SearchError(f"{folder} cannot be written: {error.strerror or error}.") from error


def read(folder: Path, *, mmap: bool) -> tuple[State, str]:
    """Read an index, and the note that was written with it.

    Args:
        folder: where it is.
        mmap: leave the arrays on disk and let the system bring in what is looked at.

    Raises:
        SearchError: there is no index, or it cannot be read.
    """
    header = _header(folder)
    try:
        rows = _read_arrays(folder / header["rows"], mmap=mmap)
        encoder = _read_encoder(folder, header)
        parts: list[Part] = []
        offset = 0
        for name in header["parts"]:
            parts.append(_read_part(folder / name, offset, mmap=mmap))
            offset += len(parts[-1].segment.vectors)
        if offset != len(rows["ids"]):
            raise SearchError(f"{folder} holds {offset} vectors and {len(rows['ids'])} ids; build the index again.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SearchError(f"{folder} is an index with a part that cannot be read ({error}); build it again.") from error
    state = State(
        header["metric"],
        header["dims"],
        np.dtype(header["dtype"]),
        encoder,
        parts,
        Ids(rows["ids"], np.array(rows["alive"]), np.array(rows["by_rank"])),
    )
    return state, header["note"]


def _header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / _HEADER).read_text())
        version = header["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SearchError(f"{folder} holds no index that can be read: {error}. Save one there first.") from error
    if version != _FORMAT:
        raise SearchError(f"{folder} has an index of format {version}; this version reads {_FORMAT}. Build it again.")
    return dict(header)


def _continues(folder: Path, header: dict[str, Any], state: State) -> bool:
    """Whether what is written is the beginning of what is to be written."""
    if state.encoder is None or header["metric"] != state.metric or len(header["parts"]) > len(state.parts):
        return False
    try:
        if header["encoder"] is None or not np.array_equal(_read_encoder(folder, header).center, state.encoder.center):
            return False
        for name, part in zip(header["parts"], state.parts, strict=False):
            if not np.array_equal(np.load(folder / name / "source.npy", mmap_mode="r"), part.segment.source):
                return False
            codes = np.load(folder / name / "codes0.npy", mmap_mode="r")
            if not np.array_equal(
                codes[:: max(1, len(codes) // 64)], part.segment.codes[0][:: max(1, len(codes) // 64)]
            ):
                return False
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return True


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
    stored = _read_arrays(folder / header["encoder"], mmap=False)
    edges = [0, *stored["edges"].tolist()]
    levels = tuple(range(start, stop) for start, stop in itertools.pairwise(edges))
    unit, loss = stored["numbers"].tolist()
    return Encoder(header["metric"], stored["center"], stored["rotation"], levels, unit, loss)


def _write_part(folder: Path, part: Part) -> str:
    name = f"part-{uuid.uuid4().hex}"
    segment = part.segment
    arrays: dict[str, npt.NDArray[Any]] = {f"codes{level}": codes for level, codes in enumerate(segment.codes)}
    arrays |= {"bounds": segment.bounds, "source": segment.source, "vectors": segment.vectors}
    arrays |= {"centroids": part.clusters.centroids, "first": part.clusters.first}
    arrays |= {"twins": part.twins.members, "twins_first": part.twins.first}
    if segment.inverse is not None:
        arrays["inverse"] = segment.inverse
    _write_arrays(folder / name, arrays)
    return name


def _read_part(folder: Path, offset: int, *, mmap: bool) -> Part:
    stored = _read_arrays(folder, mmap=mmap)
    codes = tuple(stored[f"codes{level}"] for level in range(sum(name.startswith("codes") for name in stored)))
    source = np.array(stored["source"])
    segment = Segment(codes, stored["bounds"], source, source, stored["vectors"], stored.get("inverse"))
    clusters = Clusters(np.array(stored["centroids"]), np.array(stored["first"]))
    return Part(offset, segment, clusters, Twins(np.array(stored["twins"]), np.array(stored["twins_first"])))


def _write_arrays(folder: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    folder.mkdir()
    for name, array in arrays.items():
        with (folder / f"{name}.npy").open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())


def _read_arrays(folder: Path, *, mmap: bool) -> dict[str, npt.NDArray[Any]]:
    found = {
        path.stem: np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False) for path in folder.glob("*.npy")
    }
    if not found:
        raise OSError(f"{folder.name} is missing")
    return found


def _sweep(folder: Path, keep: set[str | None]) -> None:
    """Remove what an older header named. Whoever has it open keeps what is mapped."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in keep and path.name.startswith(("part-", "rows-", "encoder-")):
            shutil.rmtree(path, ignore_errors=True)
