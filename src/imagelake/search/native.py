"""The hot loops in C (c/scan.c), called through ctypes, which lets other threads run meanwhile."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake.search.segment import BLOCK, MOST_LEVELS, Answer, Float64s, Floats, Ints, Metric, Queries, Seeds, Segment

LIBRARY = Path(__file__).parent / "c" / "_scan.so"
METRICS: dict[Metric, int] = {"l2": 0, "cosine": 1, "dot": 2}
LEVELS = ("plain C", "AVX2", "AVX-512", "AVX-512 VNNI")

_int64, _pointer = ctypes.c_int64, ctypes.c_void_p


class _Segment(ctypes.Structure):
    _fields_ = (
        *((name, _int64) for name in ("panels", "levels", "panel_levels")),
        ("level_dims", _int64 * MOST_LEVELS),
        ("codes", _pointer * MOST_LEVELS),
        *((name, _pointer) for name in ("row", "rank", "source", "vectors", "inverse")),
        *((name, _int64) for name in ("dims", "is_double")),
    )


class _Queries(ctypes.Structure):
    _fields_ = (
        ("count", _int64),
        *((name, _pointer * MOST_LEVELS) for name in ("codes", "shift", "lanes")),
        *((name, _pointer) for name in ("coef", "threshold", "vectors", "inverse")),
        ("is_double", _int64),
    )


class _Answer(ctypes.Structure):
    _fields_ = (
        ("k", _int64),
        *((name, _pointer) for name in ("distance", "rank", "held", "radius", "found_query", "found_rank")),
        ("found_distance", _pointer),
        *((name, _int64) for name in ("capacity", "found")),
        *((name, _pointer) for name in ("excluded", "own_rank")),
        *((name, _int64) for name in ("only_above", "metric")),
        ("counts", _int64 * 4),
    )


def _load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError:
        return None
    library.imagelake_level(len(LEVELS) - 1)
    return library


_library = _load()
_kept = threading.local()


def available() -> bool:
    """Whether the library was compiled when the package was installed."""
    return _library is not None


def level(most: int = len(LEVELS) - 1) -> int:
    """Use at most this level of `LEVELS`, and at most what the processor has; returns the level in use."""
    return int(_c().imagelake_level(most))


def name() -> str:
    """What runs here, for benchmarks."""
    return f"C, {LEVELS[level()]}"


def squared_norms(vectors: Floats) -> Float64s:
    """Squared norms of rows, float64 (n,), the same bits on every machine."""
    out = np.empty(len(vectors))
    scratch = np.empty(vectors.shape[1])
    _c().imagelake_squared_norms(_at(vectors), _is_double(vectors), _n(vectors), _n(scratch), _at(scratch), _at(out))
    return out


def prepare(
    vectors: Floats, center: Float64s, inverse: Float64s | None
) -> tuple[npt.NDArray[np.float32], Float64s, npt.NDArray[np.int32]]:
    """Rows less the center, scaled by a power of two to a norm in [0.5, 1); their norms; the exponents."""
    out, norms = np.empty(vectors.shape, np.float32), np.empty(len(vectors))
    exponents = np.empty(len(vectors), np.int32)
    _c().imagelake_prepare(
        _at(vectors), _is_double(vectors), _n(vectors), _n(center), _at(center), _at(inverse), _at(out), _at(norms),
        _at(exponents),
    )  # fmt: skip
    return out, norms, exponents


def pack(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A matrix (d, columns) as `rotate` reads it: (panels of 32 columns, d, 32)."""
    dims, columns = matrix.shape
    padded = np.zeros((dims, -(-columns // 32) * 32), np.float32)
    padded[:, :columns] = matrix
    return np.ascontiguousarray(padded.reshape(dims, -1, 32).transpose(1, 0, 2))


def rotate(x: npt.NDArray[np.float32], packed: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`x` times a packed matrix, float32 (n, columns rounded up to 32), summed `BLOCK` terms at a time."""
    out = np.empty((len(x), len(packed) * 32), np.float32)
    _c().imagelake_rotate(_at(x), _n(x), _int64(x.shape[1]), _at(packed), _n(packed), _at(out))
    return out


def encode(
    rotated: npt.NDArray[np.float32], dims: range, padded: int, limit: float
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Codes of some dimensions, int8 (n, padded), and their scales, error norms and norms, float32 (n, 3)."""
    part = np.ascontiguousarray(rotated[:, dims.start : dims.stop])
    codes, stats = np.empty((len(part), padded), np.int8), np.empty((len(part), 3), np.float32)
    _c().imagelake_encode(
        _at(part), _n(part), _int64(len(dims)), _int64(len(dims)), _int64(padded), ctypes.c_float(limit), _at(codes),
        _at(stats),
    )  # fmt: skip
    return codes, stats


def measure(segment: Segment, metric: Metric, query: Float64s, query_inverse: float, rows: Ints) -> Float64s:
    """Exact distances of one query to the named rows of `segment.vectors`."""
    out, rows = np.empty(len(rows)), np.ascontiguousarray(rows)
    _c().imagelake_measure(
        ctypes.byref(_segment(segment)), _at(query), ctypes.c_double(query_inverse), _int64(METRICS[metric]), _n(rows),
        _at(rows), _at(out),
    )  # fmt: skip
    return out


def scan(segment: Segment, queries: Queries, answer: Answer, panels: range, seeds: Seeds | None) -> None:
    """Add to `answer` what the panels of a segment have for the queries."""
    shifts = [_shifts(codes) for codes in queries.codes]
    asked = _Queries(
        len(queries), _addresses(queries.codes), _addresses([pairs for pairs, _ in shifts]),
        _addresses([lanes for _, lanes in shifts]), _address(queries.coefficients), _address(queries.threshold),
        _address(queries.vectors), _address(queries.inverse), queries.vectors.dtype == np.float64,
    )  # fmt: skip
    room = 0 if answer.radius is None else 4096
    while True:
        found: list[npt.NDArray[Any]] = [np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room)]
        call = _Answer(
            answer.distance.shape[1], _address(answer.distance), _address(answer.rank), _address(answer.held),
            _address(answer.radius), *(_address(part) for part in found), room, 0, _address(answer.excluded),
            _address(answer.own_rank), answer.only_above, METRICS[answer.metric],
        )  # fmt: skip
        code = _c().imagelake_scan(
            ctypes.byref(_segment(segment)), ctypes.byref(asked), ctypes.byref(call), _int64(panels.start),
            _int64(panels.stop), _at(None if seeds is None else seeds.start),
            _at(None if seeds is None else seeds.panels),
            _at(_scratch(queries.vectors.size)),
        )  # fmt: skip
        if code:
            raise MemoryError("no memory left for a search")
        if call.found <= room:
            break
        room = call.found
    answer.counts += np.array(call.counts)
    if room:
        who, rank, distance = (part[: call.found].copy() for part in found)
        answer.found.append((who, rank, distance))


def _scratch(size: int) -> Float64s:
    """Room that a thread keeps between its calls: fresh memory costs as much as what is done in it."""
    room: Float64s | None = getattr(_kept, "room", None)
    if room is None or len(room) < size:
        room = _kept.room = np.empty(size)
    return room


def _shifts(codes: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int16]]:
    blocks = -(-codes.shape[1] // BLOCK)
    pairs, lanes = np.empty((len(codes), blocks, 2), np.int32), np.empty((len(codes), blocks, 32), np.int16)
    _c().imagelake_shifts(_at(codes), _n(codes), _int64(codes.shape[1]), _at(pairs), _at(lanes))
    return pairs, lanes


def _segment(segment: Segment) -> _Segment:
    dims = [codes.shape[1] * (4 if codes.ndim == 4 else 1) for codes in segment.codes]
    in_panels = sum(codes.ndim == 4 for codes in segment.codes)
    return _Segment(
        segment.panels, len(dims), in_panels, (_int64 * MOST_LEVELS)(*dims), _addresses(segment.codes),
        _address(segment.bounds), _address(segment.rank), _address(segment.source), _address(segment.vectors),
        _address(segment.inverse), segment.vectors.shape[1], segment.vectors.dtype == np.float64,
    )  # fmt: skip


def _addresses(arrays: Sequence[npt.NDArray[Any]]) -> Any:
    return (_pointer * MOST_LEVELS)(*(_address(array) for array in arrays))


def _c() -> Any:
    if _library is None:
        raise RuntimeError("the compiled search is not there; check available() first")
    return _library


def _address(array: npt.NDArray[Any] | None) -> int | None:
    if array is None:
        return None
    if not array.flags.c_contiguous:
        raise ValueError("a scan reads only arrays in C order")
    address: int = array.__array_interface__["data"][0]  # `array.ctypes` takes ten times as long
    return address


def _at(array: npt.NDArray[Any] | None) -> ctypes.c_void_p:
    return _pointer(_address(array))


def _n(array: npt.NDArray[Any]) -> ctypes.c_int64:
    return _int64(len(array))


def _is_double(array: npt.NDArray[Any]) -> ctypes.c_int64:
    return _int64(array.dtype == np.float64)
