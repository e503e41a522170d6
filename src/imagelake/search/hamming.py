"""Exact Hamming search over packed binary codes: the k nearest, everyone within a radius, and all near pairs.

Distances are XOR and `numpy.bitwise_count` over tiles of queries and rows; NumPy releases the interpreter's lock
meanwhile, so blocks of queries run on threads. A running limit per query, its k-th distance so far,
turns selection into one comparison a distance: few rows pass it, and only those are sorted.
"""

from __future__ import annotations

import json
import operator
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from imagelake.errors import SearchError

Codes = npt.NDArray[np.uint8]
Ids = npt.NDArray[Any]  # int64 or str
_Ints = npt.NDArray[np.int64]
_Words = npt.NDArray[Any]  # uint16, uint32 or uint64, shape (words of a code, rows)
_Job = TypeVar("_Job")
_Result = TypeVar("_Result")

_FORMAT, _VERSION = "imagelake-hamming", 1
_LEAST_BYTES, _MOST_BYTES = 2, 128
_QUERIES = 64  # to a block
_TILE = 2**18  # distances computed at once: the words fill 2 MiB; smaller tiles spend their time on Python's lock
_SAMPLE = 2048  # rows that give the first limit
_PENDING = 2**20  # candidates kept before they are thinned out
_SPAN = 2**20  # pairs that one job of `pairs_within` looks at

# A candidate is one number, so that one sort orders by query, distance and id: 11 bits, 12 bits, 40 bits.
_DISTANCE_AT, _QUERY_AT = 40, 52
_RANK_MASK, _DISTANCE_MASK = 2**_DISTANCE_AT - 1, 2 ** (_QUERY_AT - _DISTANCE_AT) - 1


@dataclass(frozen=True)
class PairBlock:
    """Some near pairs: rows (int64, `rows_a < rows_b`), their ids and distances (int32), all of shape (pairs,)."""

    rows_a: npt.NDArray[np.int64]
    rows_b: npt.NDArray[np.int64]
    distances: npt.NDArray[np.int32]
    ids_a: Ids
    ids_b: Ids


class HammingIndex:
    """Binary codes that answer exactly; a class because rows come and go.

    Args:
        codes: uint8, shape (n, bytes), 2 to 128 bytes a row; eight bits a byte, in any order that is always the same.
        ids: unique, shape (n,), int64 or strings; the positions 0 to n - 1 where none are given.
        threads: how many to search with; as many as there are cores where none is given. Answers do not depend on it.

    Equal distances are ordered by id. Every call that is refused raises SearchError and changes nothing. Searches may
    run at the same time; `add` and `remove` may not run beside them.
    """

    def __init__(self, codes: Codes, ids: Ids | None = None, *, threads: int | None = None) -> None:
        codes = _check_codes(codes, None)
        if threads is not None and threads < 1:
            raise SearchError(f"threads is {threads}; it must be 1 or more, or None for all cores.")
        self._threads = threads or _cores()
        self._bytes: int = codes.shape[1]
        self._ids: Ids = np.empty(0, np.int64)  # in the order they came
        self._order: _Ints = np.empty(0, np.int64)  # the row of each rank; rank counts ids in ascending order
        self._words = _words_of(codes[:0])  # by rank: the smaller column is the smaller id
        self._next_id = 0
        self.add(codes, ids)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def code_bytes(self) -> int:
        """How many bytes a code has."""
        return self._bytes

    @property
    def ids(self) -> Ids:
        """The id of every row, in the order they were added; shape (n,), int64 or str."""
        return self._ids.copy()

    @property
    def codes(self) -> Codes:
        """The code of every row, in the order they were added; uint8, shape (n, bytes)."""
        codes = np.empty((len(self), self._bytes), np.uint8)
        codes[self._order] = np.ascontiguousarray(self._words.T).view(np.uint8)[:, : self._bytes]
        return codes

    def search(
        self, queries: Codes, k: int, *, mask: npt.NDArray[np.bool_] | None = None, allowed: Ids | None = None
    ) -> tuple[npt.NDArray[np.int32], Ids]:
        """The `k` nearest rows of every query, ordered by (distance, id).

        Args:
            queries: uint8, shape (m, bytes).
            k: 0 or more.
            mask: bool, shape (n,): which rows may be found, in the order they were added.
            allowed: the ids that may be found, instead of a mask.

        Returns:
            Distances (int32) and ids, both of shape (m, min(k, rows that may be found)).

        Raises:
            SearchError: k below 0; queries, a mask or ids that do not fit the index.
        """
        queries, k = _check_codes(queries, self._bytes), _check_count(k, "k")
        words, ranks = self._subset(mask, allowed)
        distances, columns = _nearest(_words_of(queries), words, k, self._threads)
        return distances, self._ids_at(columns if ranks is None else ranks[columns])

    def range_search(
        self,
        queries: Codes,
        radius: int,
        *,
        mask: npt.NDArray[np.bool_] | None = None,
        allowed: Ids | None = None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Ids]:
        """Every row within `radius` of each query, the radius included. Arguments are those of `search`.

        Returns:
            lims (int64, shape (m + 1,)), distances (int32) and ids: the answer to query i is at lims[i]:lims[i + 1],
            ordered by (distance, id).

        Raises:
            SearchError: a radius below 0; queries, a mask or ids that do not fit the index.
        """
        queries, radius = _check_codes(queries, self._bytes), _check_count(radius, "radius")
        words, ranks = self._subset(mask, allowed)
        asked = _words_of(queries)
        size = _block_size(len(queries), self._threads)
        blocks = [asked[:, start : start + size] for start in range(0, len(queries), size)]
        counts: list[_Ints] = [np.zeros(1, np.int64)]
        found: list[_Ints] = [np.empty(0, np.int64)]
        for block, keys in zip(blocks, _run(lambda b: _within(b, words, radius), blocks, self._threads), strict=True):
            counts.append(np.bincount(keys >> _QUERY_AT, minlength=block.shape[1]))
            found.append(keys)
        keys = np.concatenate(found)
        columns = keys & _RANK_MASK
        ids = self._ids_at(columns if ranks is None else ranks[columns])
        return np.cumsum(np.concatenate(counts)), _distances_of(keys), ids

    def pairs_within(self, radius: int) -> Iterator[PairBlock]:
        """Every unordered pair of rows within `radius`, once; the radius is included.

        Each distance is computed once, and memory is bounded whatever the answer's size. The order of blocks and of
        pairs in them is always the same, but sorted by nothing. The iterator reads the rows of the moment it is made.

        Raises:
            SearchError: a radius below 0.
        """
        return self._pairs(_check_count(radius, "radius"), self._words, self._order, self._ids)

    def neighbors_of_all(self, k: int) -> tuple[npt.NDArray[np.int32], Ids]:
        """The `k` nearest others of every row, in the order the rows were added, ordered by (distance, id).

        Returns:
            Distances (int32) and ids, both of shape (n, min(k, n - 1)).

        Raises:
            SearchError: k below 0.
        """
        k = min(_check_count(k, "k"), max(len(self) - 1, 0))
        distances, ranks = _nearest(self._words, self._words, k + 1 if k else 0, self._threads)
        # A row is among its own k + 1 nearest unless k + 1 twins come before it; then the last of them is dropped.
        drop = ranks == np.arange(len(self))[:, None]
        if k:
            drop[~drop.any(axis=1), -1] = True
        rows = np.argsort(self._order)
        distances, ranks = distances[~drop].reshape(len(self), k)[rows], ranks[~drop].reshape(len(self), k)[rows]
        return distances, self._ids_at(ranks)

    def add(self, codes: Codes, ids: Ids | None = None) -> None:
        """Append rows; every call copies the index once, so add many at a time.

        Args:
            codes: uint8, shape (n, bytes).
            ids: unique and new, of the kind that the index has; where none are given, integers go on counting.

        Raises:
            SearchError: codes or ids that do not fit, or an id that is already there.
        """
        codes = _check_codes(codes, self._bytes)
        given = self._count_on(len(codes)) if ids is None else _check_ids(ids, len(codes))
        if not len(given):
            return
        if len(self) and given.dtype.kind != self._ids.dtype.kind:
            raise SearchError(
                f"The new ids are {given.dtype} and those of the index {self._ids.dtype}; an index has one kind of id."
            )
        joined = np.concatenate([self._ids, given]) if len(self) else given.copy()
        order = _sorted_order(joined)
        by_row = np.empty((len(self._words), len(joined)), self._words.dtype)
        by_row[:, self._order] = self._words
        by_row[:, len(self) :] = _words_of(codes)
        self._words, self._ids, self._order = by_row[:, order], joined, order
        if joined.dtype.kind == "i":
            self._next_id = max(self._next_id, int(joined[order[-1]]) + 1)

    def remove(self, ids: Ids) -> None:
        """Drop the rows of these ids; the others keep their order.

        Raises:
            SearchError: an id that the index does not have.
        """
        keep = ~self._rows_among(ids)
        self._words = np.ascontiguousarray(self._words[:, keep[self._order]])
        self._ids = self._ids[keep]
        self._order = _sorted_order(self._ids)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a folder of plain NumPy files; an index that is there already is replaced.

        Raises:
            SearchError: something else is at `path`.
        """
        target = Path(path)
        if target.exists() and not (target / "header.json").is_file():
            raise SearchError(f"{target} exists and is no HammingIndex; give a new path, or that of a saved index.")
        target.parent.mkdir(parents=True, exist_ok=True)
        header = {
            "format": _FORMAT,
            "version": _VERSION,
            "bytes": self._bytes,
            "rows": len(self),
            "next_id": self._next_id,
        }
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as made:
            new, old = Path(made) / "new", Path(made) / "old"
            new.mkdir()
            np.save(new / "words.npy", self._words, allow_pickle=False)
            np.save(new / "ids.npy", self._ids, allow_pickle=False)
            (new / "header.json").write_text(json.dumps(header, indent=1) + "\n")
            if target.exists():
                _read_header(target)  # a folder of another kind is not replaced
                target.rename(old)
            new.rename(target)
            shutil.rmtree(old, ignore_errors=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = True, threads: int | None = None) -> HammingIndex:
        """Read what `save` wrote.

        Args:
            path: the folder.
            mmap: leave the codes in the file and let the system read what is needed; `add` and `remove` copy them.
            threads: as for a new index.

        Raises:
            SearchError: there is no index, it is damaged, or a newer imagelake wrote it.
        """
        folder = Path(path)
        header = _read_header(folder)
        index = cls(np.empty((0, header["bytes"]), np.uint8), threads=threads)
        rows, expected = header["rows"], index._words
        words = _read_array(folder / "words.npy", mmap=mmap and rows > 0)
        ids = _read_array(folder / "ids.npy", mmap=False)
        if words.dtype != expected.dtype or words.shape != (len(expected), rows):
            raise SearchError(
                f"{folder}/words.npy holds {words.dtype} {words.shape}, and its header says {expected.dtype} "
                f"{(len(expected), rows)}; the index is damaged, save it again."
            )
        index._ids = _check_ids(ids, rows)
        index._order = _sorted_order(index._ids)
        index._words, index._next_id = words, header["next_id"]
        return index

    def _pairs(self, radius: int, words: _Words, order: _Ints, ids: Ids) -> Iterator[PairBlock]:
        rows, width = len(order), _SPAN // _QUERIES
        jobs = (
            (first, start) for first in range(0, rows, _QUERIES) for start in range(first, rows, width)
        )  # right of the diagonal only

        def near(job: tuple[int, int]) -> PairBlock | None:
            first, start = job
            keys = _within(words[:, first : first + _QUERIES], words[:, start : start + width], radius)
            left, right = (keys >> _QUERY_AT) + first, (keys & _RANK_MASK) + start
            once = left < right
            if not once.any():
                return None
            a, b = order[left[once]], order[right[once]]
            a, b = np.minimum(a, b), np.maximum(a, b)
            return PairBlock(a, b, _distances_of(keys[once]), ids[a], ids[b])

        return (block for block in _run(near, jobs, self._threads) if block is not None)

    def _subset(self, mask: npt.NDArray[np.bool_] | None, allowed: Ids | None) -> tuple[_Words, _Ints | None]:
        """The words of the rows that may be found, and their ranks where these are not all."""
        if mask is None and allowed is None:
            return self._words, None
        if mask is None:
            mask = self._rows_among(allowed)
        elif allowed is not None:
            raise SearchError("Both mask and allowed were given; give one of them.")
        elif not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (len(self),):
            what = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise SearchError(f"The mask is {what}; it must be a bool array of shape ({len(self)},), one a row.")
        ranks = np.flatnonzero(mask[self._order])
        return np.ascontiguousarray(self._words[:, ranks]), ranks

    def _rows_among(self, ids: Any) -> npt.NDArray[np.bool_]:
        """Which rows have one of these ids; every id must be there."""
        wanted = np.unique(_check_ids(ids, None)) if np.size(ids) else self._ids[:0]
        mask = np.isin(self._ids, wanted) if wanted.dtype.kind == self._ids.dtype.kind else np.zeros(len(self), bool)
        if np.count_nonzero(mask) != len(wanted):
            missing = np.setdiff1d(wanted, self._ids[mask])[:3].tolist() if len(self) else wanted[:3].tolist()
            raise SearchError(f"The index has no rows with such ids as {missing}; give ids that `.ids` holds.")
        return mask

    def _ids_at(self, ranks: _Ints) -> Ids:
        return self._ids[self._order[ranks]]

    def _count_on(self, rows: int) -> _Ints:
        if len(self) and self._ids.dtype.kind != "i":
            raise SearchError("No ids were given for new codes; the ids of this index are strings, so give one a code.")
        if self._next_id + rows > np.iinfo(np.int64).max:
            raise SearchError(f"Ids would go on from {self._next_id}, beyond int64; give ids.")
        return np.arange(self._next_id, self._next_id + rows, dtype=np.int64)


def _check_codes(codes: Any, code_bytes: int | None) -> Codes:
    allowed = f"{code_bytes}" if code_bytes is not None else f"{_LEAST_BYTES} to {_MOST_BYTES}"
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8 or codes.ndim != 2:
        what = f"{codes.dtype} {codes.shape}" if isinstance(codes, np.ndarray) else type(codes).__name__
        raise SearchError(f"The codes are {what}; they must be a uint8 array of shape (n, {allowed} bytes): pack bits.")
    fits = codes.shape[1] == code_bytes if code_bytes else _LEAST_BYTES <= codes.shape[1] <= _MOST_BYTES
    if not fits:
        raise SearchError(f"The codes have {codes.shape[1]} bytes; {allowed} are allowed.")
    return codes


def _check_count(value: int, name: str) -> int:
    try:
        count = operator.index(value)
    except TypeError as error:
        raise SearchError(f"{name} is {value!r}; it must be an integer, 0 or more.") from error
    if count < 0:
        raise SearchError(f"{name} is {count}; it must be 0 or more.")
    return count


def _check_ids(ids: Any, rows: int | None) -> Ids:
    array = np.asarray(ids)
    if not array.size and array.dtype.kind == "f":
        array = array.astype(np.int64)  # NumPy's type of an empty list
    if array.ndim != 1 or (array.dtype != np.int64 and array.dtype.kind != "U"):
        raise SearchError(f"The ids are {array.dtype} {array.shape}; they must be int64 or strings, shape (n,).")
    if rows is not None and len(array) != rows:
        raise SearchError(f"There are {len(array)} ids for {rows} codes; give one id a code.")
    return array


def _sorted_order(ids: Ids) -> _Ints:
    """The rows in ascending order of their ids, which must be unique."""
    if ids.dtype.kind == "i" and (ids[1:] > ids[:-1]).all():
        return np.arange(len(ids))
    order = np.argsort(ids, kind="stable")
    same = np.flatnonzero(ids[order[1:]] == ids[order[:-1]])
    if len(same):
        raise SearchError(f"The id {ids[order[same[0]]].item()!r} is there twice; ids must be unique.")
    return order


def _words_of(codes: Codes) -> _Words:
    """Codes as words of one size, zeros filling up the last; shape (words, n)."""
    rows, size = codes.shape
    word = np.dtype(np.uint16 if size <= 2 else np.uint32 if size <= 4 else np.uint64)
    padded = np.zeros((rows, -(-size // word.itemsize) * word.itemsize), np.uint8)
    padded[:, :size] = codes
    return np.ascontiguousarray(padded.view(word).T)


def _tiles(queries: _Words, words: _Words) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Distances of a block of queries to one stretch of rows after the other, and where the stretch begins.

    The array is uint8 or uint16, shape (queries, stretch); the next tile overwrites it.
    """
    asked, rows = queries.shape[1], words.shape[1]
    width = min(_TILE // asked, rows)
    mixed = np.empty(asked * width, words.dtype)
    few, one = np.empty(asked * width, np.uint8), np.empty(asked * width, np.uint8)
    many = np.empty(asked * width if len(words) > 3 else 0, np.uint16)
    for start in range(0, rows, width):
        shape = asked, min(width, rows - start)
        x, f, o = (buffer[: shape[0] * shape[1]].reshape(shape) for buffer in (mixed, few, one))
        m = many[: f.size].reshape(shape) if many.size else None
        for at, (query, row) in enumerate(zip(queries, words[:, start : start + width], strict=True)):
            np.bitwise_xor(query[:, None], row[None, :], out=x)
            np.bitwise_count(x, out=o if at % 3 else f)
            if at % 3:
                np.add(f, o, out=f)  # three words are at most 192 bits, which a byte can count
            if m is not None and (at % 3 == 2 or at == len(words) - 1):
                if at < 3:
                    np.copyto(m, f)
                else:
                    np.add(m, f, out=m)
        yield start, f if m is None else m


def _block_size(queries: int, threads: int) -> int:
    return max(1, min(_QUERIES, -(-queries // threads)))


def _nearest(queries: _Words, words: _Words, k: int, threads: int) -> tuple[npt.NDArray[np.int32], _Ints]:
    """Distances and columns of the nearest, both of shape (queries, min(k, rows))."""
    asked, k = queries.shape[1], min(k, words.shape[1])
    if not asked or not k:
        return np.empty((asked, k), np.int32), np.empty((asked, k), np.int64)
    size = min(_block_size(asked, threads), max(1, _PENDING // k))
    blocks = [queries[:, start : start + size] for start in range(0, asked, size)]
    keys = np.concatenate(list(_run(lambda block: _block_nearest(block, words, k), blocks, threads)))
    return _distances_of(keys).reshape(asked, k), (keys & _RANK_MASK).reshape(asked, k)


def _block_nearest(queries: _Words, words: _Words, k: int) -> _Ints:
    """Keys of the k nearest of each query, in order; shape (queries * k,)."""
    asked, rows = queries.shape[1], words.shape[1]
    found: list[_Ints] = []
    pending, thin_at = 0, 0
    limit: npt.NDArray[Any] | None = None  # whoever is not below it is not among the k nearest
    for start, distances in _tiles(queries, words):
        width = distances.shape[1]
        if limit is None:
            sample = max(_SAMPLE, 4 * k)
            limit = np.full((asked, 1), np.iinfo(distances.dtype).max, distances.dtype)
            if width >= k:  # NumPy partitions 32-bit numbers with SIMD, and these the fastest
                part = np.partition(distances[:, :sample].astype(np.int32), k - 1, axis=1)
                limit[:, 0] = part[:, k - 1] + 1
        hits = np.flatnonzero(distances < limit)
        found.append(_keys(hits, distances, start))
        pending += len(hits)
        done = start + width
        if done >= thin_at or pending > _PENDING:
            keys = _first(np.sort(np.concatenate(found)), asked, k)
            found, pending, thin_at = [keys], len(keys), min(2 * done, rows)
            # The columns to come are behind: with the same distance they lose.
            if len(keys) == asked * k:
                limit[:, 0] = _distances_of(keys).reshape(asked, k)[:, -1]
    return found[0]


def _within(queries: _Words, words: _Words, radius: int) -> _Ints:
    """Keys of everyone within the radius, in order."""
    found: list[_Ints] = [np.empty(0, np.int64)]
    if words.shape[1]:
        found += [_keys(np.flatnonzero(d <= radius), d, start) for start, d in _tiles(queries, words)]
    return np.sort(np.concatenate(found))


def _keys(hits: _Ints, distances: npt.NDArray[Any], start: int) -> _Ints:
    query, column = np.divmod(hits, distances.shape[1])
    distance = distances.reshape(-1)[hits].astype(np.int64)
    keys: _Ints = (query << _QUERY_AT) | (distance << _DISTANCE_AT) | (column + start)
    return keys


def _first(keys: _Ints, queries: int, k: int) -> _Ints:
    """Of sorted keys the first k of every query."""
    query = keys >> _QUERY_AT
    begin = np.searchsorted(query, np.arange(queries))
    kept: _Ints = keys[np.arange(len(keys)) - begin[query] < k]
    return kept


def _distances_of(keys: _Ints) -> npt.NDArray[np.int32]:
    distances: npt.NDArray[np.int32] = ((keys >> _DISTANCE_AT) & _DISTANCE_MASK).astype(np.int32)
    return distances


def _run(work: Callable[[_Job], _Result], jobs: Iterable[_Job], threads: int) -> Iterator[_Result]:
    """The results in the order of the jobs; few are begun before they are asked for."""
    if threads == 1:
        yield from map(work, jobs)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[_Result]] = deque()
        for job in jobs:
            waiting.append(pool.submit(work, job))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / "header.json").read_bytes())
    except OSError as error:
        raise SearchError(f"{folder} holds no HammingIndex ({error.strerror}); give a folder `save` wrote.") from error
    except ValueError as error:
        raise SearchError(f"{folder}/header.json is damaged ({error}); save the index again.") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise SearchError(f"{folder} holds no HammingIndex; give a folder that `HammingIndex.save` wrote.")
    if header.get("version") != _VERSION:
        raise SearchError(f"{folder} is of version {header.get('version')}; this imagelake reads version {_VERSION}.")
    sizes = [header.get(name) for name in ("bytes", "rows", "next_id")]
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise SearchError(f"{folder}/header.json lacks a size, or one is no count; save the index again.")
    return header


def _read_array(path: Path, *, mmap: bool) -> npt.NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SearchError(f"{path} cannot be read as a NumPy array ({error}); save the index again.") from error
    return np.asarray(array)
