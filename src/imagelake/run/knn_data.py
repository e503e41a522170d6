"""Where the base and the queries of a k-NN benchmark come from: a lake, two files, or a formula."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from imagelake.errors import InputError
from imagelake.lake.tables import Tables, id_set
from imagelake.models.zoo import default_manifest
from imagelake.run.extract import set_name
from imagelake.run.machine import memory_bytes
from imagelake.search.segment import Floats
from imagelake.search.vectors import as_vectors

_BASE_PARTS = 9  # of ten: the published demo searches 90,000 of 100,000 pictures for the other 10,000
_BLOCK = 4096
_RANK, _CLUSTERS = 256, 1000
_WITHIN, _NOISE, _SCALE = 0.7, 0.02, 0.5


@dataclass(frozen=True)
class Source:
    """What was asked for; exactly one of a lake, two files and a shape is to be given.

    Attributes:
        tables: the lake, with `embedding_set`, or None for its default set.
        base: a .npy file, float16, float32 or float64, shape (n, d); with `queries`, one of shape (m, d).
        synthetic: "N,M,D".
    """

    tables: Tables | None = None
    embedding_set: str | None = None
    base: str | os.PathLike[str] | None = None
    queries: str | os.PathLike[str] | None = None
    synthetic: str | None = None


@dataclass(frozen=True, eq=False)
class KnnData:
    """What is searched and what for.

    Attributes:
        base: float32 or float64, shape (n, d).
        queries: of the same type, shape (m, d).
        source: where they come from, in words.
        tables: the lake that they come from, if they do; then there are ids.
        base_ids: image ids, str (n,).
        query_ids: image ids, str (m,).
    """

    base: Floats
    queries: Floats
    source: str
    tables: Tables | None = None
    base_ids: npt.NDArray[np.str_] | None = None
    query_ids: npt.NDArray[np.str_] | None = None


def load_knn_data(source: Source, seed: int = 0) -> KnnData:
    """Read or make the vectors.

    Raises:
        InputError: no source, more than one, half of one, or one that cannot be read.
        SearchError: a file's array has another shape or type, or holds a value that is no finite number.
    """
    files = source.base is not None or source.queries is not None
    given = {"--lake": source.tables is not None, "--base": files, "--synthetic": source.synthetic is not None}
    named = [name for name, is_given in given.items() if is_given]
    if len(named) != 1:
        raise InputError(
            f"{'No source of vectors was given' if not named else 'Given were ' + ' and '.join(named)}; exactly one is "
            "needed. Give --lake LAKE, or --base B.npy with --queries Q.npy, or --synthetic N,M,D."
        )
    if source.embedding_set is not None and source.tables is None:
        raise InputError(f"--set {source.embedding_set} was given without a lake. Give --lake LAKE, or drop --set.")
    if source.tables is not None:
        return _from_lake(source.tables, source.embedding_set, seed)
    if source.synthetic is not None:
        return synthesize(*_shape(source.synthetic), seed)
    if source.base is None or source.queries is None:
        given_one, other = ("--queries", "--base") if source.base is None else ("--base", "--queries")
        raise InputError(f"{given_one} was given without {other}; both are needed. Give --base B.npy --queries Q.npy.")
    return _from_files(Path(source.base), Path(source.queries))


def synthesize(n: int, m: int, d: int, seed: int = 0) -> KnnData:
    """Vectors that resemble embeddings: a clustered mixture of low rank.

    A vector is a mean plus a linear map of a latent vector of at most 256 numbers, plus a little noise in all
    dimensions. The latent vector is the center of one of up to 1,000 clusters plus 0.7 times a normal vector; its
    numbers shrink as one over the square root of their place, so that few directions carry most of the variance, as in
    the features of a network. Values are about 0.5 in size. Base and queries are drawn from the same mixture. No
    picture is behind them: what is measured on them holds for them.

    Args:
        n: rows of the base.
        m: queries.
        d: dimensions.
        seed: the same vectors again.

    Returns:
        float32, shapes (n, d) and (m, d).

    Raises:
        InputError: they would not fit into memory.
    """
    memory = memory_bytes()
    if memory is not None and 4 * (n + m) * d > memory // 2:
        raise InputError(
            f"--synthetic {n},{m},{d} makes {4 * (n + m) * d / 1e9:,.1f} GB of vectors, more than half of this "
            f"machine's memory, {memory / 1e9:,.1f} GB. Give fewer or shorter ones."
        )
    rng = np.random.default_rng(seed)
    clusters, rank = max(1, min(_CLUSTERS, n // 50)), min(d, _RANK)
    spread = 1 / np.sqrt(1 + np.arange(rank))
    centers = rng.standard_normal((clusters, rank)) * spread
    to_vector = (rng.standard_normal((rank, d)) * (_SCALE / np.linalg.norm(spread))).astype(np.float32)
    mean = np.abs(rng.standard_normal(d) * _SCALE).astype(np.float32)
    rows = np.empty((n + m, d), np.float32)
    for start in range(0, n + m, _BLOCK):
        count = min(_BLOCK, n + m - start)
        latent = centers[rng.integers(clusters, size=count)] + _WITHIN * spread * rng.standard_normal((count, rank))
        noise = rng.standard_normal((count, d), dtype=np.float32) * np.float32(_NOISE)
        rows[start : start + count] = mean + latent.astype(np.float32) @ to_vector + noise
    source = f"synthetic: a seeded mixture of {clusters:,} clusters of rank {rank}, no embeddings of pictures"
    return KnnData(rows[:n], rows[n:], f"{source} (seed {seed})")


def _shape(text: str) -> tuple[int, int, int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(
            f"--synthetic is {text!r}; it takes three whole numbers above 0: rows of the base, queries, dimensions. "
            "Example: --synthetic 90000,10000,2048"
        )
    n, m, d = map(int, parts)
    return n, m, d


def _from_files(base_path: Path, queries_path: Path) -> KnnData:
    base = as_vectors(_read(base_path, "--base"), "base vector")
    queries = as_vectors(_read(queries_path, "--queries"), "query", base.shape[1])
    for option, array in (("--base", base), ("--queries", queries)):
        if not len(array):
            raise InputError(f"The array of {option} has no rows; give one of 1 or more.")
    wider = np.result_type(base, queries)
    source = f"files {base_path.name} and {queries_path.name}"
    return KnnData(_owned(base.astype(wider, copy=False)), _owned(queries.astype(wider, copy=False)), source)


def _read(path: Path, option: str) -> npt.NDArray[np.generic]:
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or "it is no .npy file"
        raise InputError(f"{option}: {os.fspath(path)!r} cannot be read: {reason}. Give a .npy file.") from error
    except (ValueError, EOFError) as error:
        raise InputError(
            f"{option}: {os.fspath(path)!r} is no .npy file of numbers. Make one with numpy.save(path, array)."
        ) from error
    if not isinstance(array, np.ndarray):  # an .npz archive
        array.close()
        raise InputError(f"{option}: {os.fspath(path)!r} holds several arrays; give a .npy file, which holds one.")
    return array


def _from_lake(tables: Tables, embedding_set: str | None, seed: int) -> KnnData:
    """A set's vectors of images that are in the lake, split 9:1."""
    name = embedding_set or _default_set(tables)
    found = tables.embeddings(name).read(["id", "vector"])
    found = found.filter(pa.array(id_set(tables.images).contains(found.column("id").combine_chunks())))
    found = found.sort_by("id")  # so that the split does not depend on when rows came
    if found.num_rows < 2:
        raise InputError(
            f"{name} has {found.num_rows} vectors of images; a base and queries need 2 or more. Run: imagelake extract "
            f"--lake {tables.root}"
        )
    column = found.column("vector").combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors = as_vectors(flat.reshape(found.num_rows, column.type.list_size), "vector")
    ids = np.array(found.column("id").to_pylist())
    order = np.random.default_rng(seed).permutation(len(ids))
    queries_count = max(1, round(len(ids) / (_BASE_PARTS + 1)))
    base, queries = np.sort(order[queries_count:]), np.sort(order[:queries_count])
    source = f"embedding set {name} of a lake, split 9:1 (seed {seed})"
    return KnnData(_owned(vectors[base]), _owned(vectors[queries]), source, tables, ids[base], ids[queries])


def _default_set(tables: Tables) -> str:
    """The default model's set, or the only one."""
    sets = tables.embedding_sets(of_regions=False)
    if not sets:
        raise InputError(f"No image has a vector yet. Run: imagelake extract --lake {tables.root}")
    default = [set_name(default_manifest(precision)) for precision in ("auto", "int8", "fp32")]
    known = [name for name in default if name in sets]
    if not known and len(sets) > 1:
        raise InputError(f"This lake has several embedding sets; choose one with --set: {', '.join(sets)}.")
    return (known or sets)[0]


def _owned(array: Floats) -> Floats:
    """In C order and writable: torch warns of others."""
    return np.require(array, requirements=["C", "W"])
