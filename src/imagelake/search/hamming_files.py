"""A Hamming index on disk: a folder of two NumPy files and a header. Nothing is unpickled."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake.errors import SearchError
from imagelake.search.hamming_codes import Words, check_codes, words_of
from imagelake.search.hamming_ids import Ids, check_ids

_FORMAT, _VERSION = "imagelake-hamming", 1
_HEADER = "header.json"


@dataclass(frozen=True)
class Saved:
    """What a file holds of an index.

    Attributes:
        code_bytes: how many bytes a code has.
        words: by rank of the id.
        ids: in the order they were added.
        next_id: what the next row is called that comes without an id.
    """

    code_bytes: int
    words: Words
    ids: Ids
    next_id: int


def write(path: str | os.PathLike[str], saved: Saved) -> None:
    """Write the folder beside its place and move it there.

    Raises:
        SearchError: something else is at `path`.
    """
    target = Path(path)
    if target.exists() and not (target / _HEADER).is_file():
        raise SearchError(f"{target} exists and is no HammingIndex; give a new path, or that of a saved index.")
    target.parent.mkdir(parents=True, exist_ok=True)
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "bytes": saved.code_bytes,
        "rows": len(saved.ids),
        "next_id": saved.next_id,
    }
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as made:
        new, old = Path(made) / "new", Path(made) / "old"
        new.mkdir()
        np.save(new / "words.npy", saved.words, allow_pickle=False)
        np.save(new / "ids.npy", saved.ids, allow_pickle=False)
        (new / _HEADER).write_text(json.dumps(header, indent=1) + "\n")
        if target.exists():
            _read_header(target)  # a folder of another kind is not replaced
            target.rename(old)
        new.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def read(path: str | os.PathLike[str], *, mmap: bool) -> Saved:
    """What `write` wrote; with `mmap`, the words stay in their file.

    Raises:
        SearchError: there is no index, it is damaged, or a newer imagelake wrote it.
    """
    folder = Path(path)
    header = _read_header(folder)
    rows, code_bytes = header["rows"], header["bytes"]
    expected = words_of(check_codes(np.empty((0, code_bytes), np.uint8), None))
    words = _read_array(folder / "words.npy", mmap=mmap and rows > 0)
    ids = _read_array(folder / "ids.npy", mmap=False)
    if words.dtype != expected.dtype or words.shape != (len(expected), rows):
        raise SearchError(
            f"{folder}/words.npy holds {words.dtype} {words.shape}, and its header says {expected.dtype} "
            f"{(len(expected), rows)}; the index is damaged, save it again."
        )
    return Saved(code_bytes, words, check_ids(ids, rows), header["next_id"])


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / _HEADER).read_bytes())
    except OSError as error:
        raise SearchError(f"{folder} holds no HammingIndex ({error.strerror}); give a folder `save` wrote.") from error
    except ValueError as error:
        raise SearchError(f"{folder}/{_HEADER} is damaged ({error}); save the index again.") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise SearchError(f"{folder} holds no HammingIndex; give a folder that `HammingIndex.save` wrote.")
    if header.get("version") != _VERSION:
        raise SearchError(f"{folder} is of version {header.get('version')}; this imagelake reads version {_VERSION}.")
    sizes = [header.get(name) for name in ("bytes", "rows", "next_id")]
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise SearchError(f"{folder}/{_HEADER} lacks a size, or one is no count; save the index again.")
    return header


def _read_array(path: Path, *, mmap: bool) -> npt.NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SearchError(f"{path} cannot be read as a NumPy array ({error}); save the index again.") from error
    return np.ascontiguousarray(array)  # the file may say that it is in Fortran's order
