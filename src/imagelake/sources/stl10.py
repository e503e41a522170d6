"""The data sets STL-10 and CIFAR-10 in their binary forms: planes of pixels, encoded as PNG without loss.

The forms are described at https://cs.stanford.edu/~acoates/stl10/ and https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.files import path_to_uri
from imagelake.pixels.png import encode_png
from imagelake.sources.rows import Row, to_batches

STL10_BYTES = 3 * 96 * 96
CIFAR10_BYTES = 1 + 3 * 32 * 32
_READ_RECORDS = 64
_STL10_SPLITS = ("train", "test", "unlabeled")
_STL10_CLASSES = 10
_CIFAR10_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
_CIFAR10_CLASSES = 10


@dataclass(frozen=True)
class Stl10:
    """The pictures of STL-10 in a folder with `train_X.bin`, `test_X.bin` or `unlabeled_X.bin`, whichever are there.

    Metadata: `split`, `row`, `labels` by the names in `class_names.txt` (by number where that is missing), and the
    `folds` of `fold_indices.txt` that a training picture belongs to, both counted from 0.

    Raises:
        InputError: there are no such files, they are cut off, or pictures and labels differ in number.
    """

    folder: str

    def __post_init__(self) -> None:
        _stl10_parts(self.folder)

    @property
    def name(self) -> str:
        """The folder's URI."""
        return path_to_uri(self.folder)

    def estimate(self) -> int:
        """The number of pictures."""
        return sum(part.rows for part in _stl10_parts(self.folder))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`."""
        return to_batches(row for part in _stl10_parts(self.folder) for row in _stl10_rows(part))


@dataclass(frozen=True)
class Cifar10:
    """The pictures of CIFAR-10 in a folder with `data_batch_1.bin` to `5` or `test_batch.bin`, whichever are there.

    Metadata: `split`, `row` in the file, and `labels` by the names in `batches.meta.txt` (without it by number).

    Raises:
        InputError: there are no such files, or one is cut off.
    """

    folder: str

    def __post_init__(self) -> None:
        self._files()

    @property
    def name(self) -> str:
        """The folder's URI."""
        return path_to_uri(self.folder)

    def estimate(self) -> int:
        """The number of pictures."""
        return sum(rows for _, rows in self._files())

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`."""
        return to_batches(self._rows())

    def _files(self) -> list[tuple[Path, int]]:
        folder = _inside(self.folder, "cifar-10-batches-bin", "data_batch_1.bin")
        found = [folder / name for name in _CIFAR10_FILES if (folder / name).is_file()]
        if not found:
            raise InputError(f"{self.folder!r} holds none of {', '.join(_CIFAR10_FILES)}. Give CIFAR-10's binary form.")
        return [(path, _count(path, CIFAR10_BYTES)) for path in found]

    def _rows(self) -> Iterator[Row]:
        files = self._files()
        names = _class_names(files[0][0].parent / "batches.meta.txt", 0, _CIFAR10_CLASSES)
        for path, rows in files:
            uri, split = path_to_uri(path), "test" if path.name.startswith("test") else "train"
            for row, record in enumerate(_records(path, CIFAR10_BYTES, rows)):
                place = f"{uri}#row={row}"
                if record is None:
                    yield Row(place, None, "the file ended while it was read")
                elif record[0] >= _CIFAR10_CLASSES:
                    yield Row(place, None, f"its label is {record[0]}; CIFAR-10 has 0 to 9, so the file is damaged")
                else:
                    image_rgb = record[1:].reshape(3, 32, 32).transpose(1, 2, 0)
                    known = {"split": split, "row": row, "labels": [names[int(record[0])]]}
                    yield Row(place, encode_png(image_rgb), None, json.dumps(known, ensure_ascii=False))


@dataclass(frozen=True)
class _Part:
    """One file of STL-10's pictures, with what other files say of them."""

    split: str
    path: Path
    rows: int
    labels: Sequence[str] | None
    folds: dict[int, list[int]]  # by row


def _stl10_parts(given: str) -> list[_Part]:
    folder = _inside(given, "stl10_binary", *(f"{split}_X.bin" for split in _STL10_SPLITS))
    found = {split: folder / f"{split}_X.bin" for split in _STL10_SPLITS if (folder / f"{split}_X.bin").is_file()}
    if not found:
        raise InputError(f"{given!r} holds no train_X.bin, test_X.bin or unlabeled_X.bin. Give STL-10's binary form.")
    parts = []
    for split, path in found.items():
        rows = _count(path, STL10_BYTES)
        labels = None if split == "unlabeled" else _stl10_labels(folder / f"{split}_y.bin", path, rows)
        folds = _folds(folder / "fold_indices.txt", rows) if split == "train" else {}
        parts.append(_Part(split, path, rows, labels, folds))
    return parts


def _stl10_labels(path: Path, pictures: Path, rows: int) -> list[str]:
    if not path.is_file():
        raise InputError(f"{pictures} has no labels beside it. Put {path.name} into the same folder.")
    numbers = np.frombuffer(path.read_bytes(), np.uint8)
    if len(numbers) != rows:
        raise InputError(f"{path} holds {len(numbers):,} labels and {pictures.name} {rows:,} pictures. Get both again.")
    wrong = numbers[(numbers < 1) | (numbers > _STL10_CLASSES)]
    if len(wrong):
        raise InputError(f"{path} holds the label {wrong[0]}; STL-10 has 1 to {_STL10_CLASSES}. Get the file again.")
    names = _class_names(path.with_name("class_names.txt"), 1, _STL10_CLASSES)
    return [names[number] for number in numbers.tolist()]


def _folds(path: Path, rows: int) -> dict[int, list[int]]:
    """The folds that each row belongs to: a line of the file lists the rows of a fold, counted from 0."""
    folds: dict[int, list[int]] = {}
    for fold, line in enumerate(_lines(path)):
        for text in line.split():
            if not text.isascii() or not text.isdigit() or int(text) >= rows:
                raise InputError(f"{path}, line {fold + 1}: {text!r} is no row of {rows:,} pictures. Get it again.")
            folds.setdefault(int(text), []).append(fold)
    return folds


def _stl10_rows(part: _Part) -> Iterator[Row]:
    uri = path_to_uri(part.path)
    for row, record in enumerate(_records(part.path, STL10_BYTES, part.rows)):
        place = f"{uri}#row={row}"
        if record is None:
            yield Row(place, None, "the file ended while it was read")
            continue
        known: dict[str, Any] = {"split": part.split, "row": row}
        if part.labels is not None:
            known["labels"] = [part.labels[row]]
        if row in part.folds:
            known["folds"] = part.folds[row]
        # A plane lists its columns one after the other.
        image_rgb = record.reshape(3, 96, 96).transpose(2, 1, 0)
        yield Row(place, encode_png(image_rgb), None, json.dumps(known, ensure_ascii=False))


def _inside(given: str, below: str, *names: str) -> Path:
    """The folder itself or the one in it that the archive unpacks to."""
    folder = Path(given)
    if not folder.is_dir():
        raise InputError(f"{given!r} is no folder. Give the one that the archive was unpacked to.")
    return (
        folder if any((folder / name).exists() for name in names) or not (folder / below).is_dir() else folder / below
    )


def _count(path: Path, record_bytes: int) -> int:
    size = path.stat().st_size
    if size % record_bytes:
        raise InputError(f"{path} has {size:,} bytes, no multiple of {record_bytes:,}: it is cut off. Get it again.")
    return size // record_bytes


def _records(path: Path, record_bytes: int, rows: int) -> Iterator[NDArray[np.uint8] | None]:
    """The records of a file, [record_bytes] uint8 each; None for one that is no longer there."""
    with path.open("rb") as file:
        for start in range(0, rows, _READ_RECORDS):
            wanted = min(_READ_RECORDS, rows - start)
            data = file.read(wanted * record_bytes)
            whole = len(data) // record_bytes
            yield from np.frombuffer(data, np.uint8, whole * record_bytes).reshape(whole, record_bytes)
            yield from [None] * (wanted - whole)


def _class_names(path: Path, first: int, count: int) -> dict[int, str]:
    """The names of classes by number; the numbers themselves where there is no file."""
    names = [line.strip() for line in _lines(path) if line.strip()] or [str(first + each) for each in range(count)]
    if len(names) != count:
        raise InputError(f"{path} names {len(names)} classes; there are {count}. Get the file again.")
    return dict(enumerate(names, start=first))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines() if path.is_file() else []
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text. Get the file again.") from error
