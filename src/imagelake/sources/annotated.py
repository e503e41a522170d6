"""Pictures with what people wrote beside them: Hugging Face's image folders, COCO, Pascal VOC."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pyarrow as pa
import pyarrow.parquet as pq

from imagelake.errors import InputError
from imagelake.files import path_to_uri
from imagelake.sources.folder import Folder
from imagelake.sources.rows import Row, to_batches

MAX_VECTOR = 64
"""A list of more numbers than this is left out of metadata: an embedding, not what a person knows of a picture."""

_LABEL_NAMES = frozenset({"label", "labels", "class"})
_COCO_OWN = {"file_name", "width", "height"}
_LEFT_OUT = object()
_MAX_DEPTH = 32
_MAX_XML_BYTES = 16 << 20
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d+)?([eE][+-]?\d{1,2})?")  # 007 is a name
_BAD_FILE = (OSError, ValueError, csv.Error, pa.ArrowException, RecursionError)


@dataclass(frozen=True)
class ImageFolder:
    """A folder of pictures with a `metadata.csv`, `metadata.jsonl` or `metadata.parquet` in it or in folders below.

    The column `file_name` is the path from that file; the other columns become metadata (in CSV a column of
    nothing but numbers holds numbers). A picture that is not listed comes without metadata, one that is listed
    and missing is a row that says so.

    Raises:
        InputError: `path` is no folder; on reading, there is no such file, or one that cannot be used.
    """

    path: str

    def __post_init__(self) -> None:
        _need_folder(self.path)

    @property
    def name(self) -> str:
        """The folder's URI."""
        return path_to_uri(self.path)

    def estimate(self) -> int:
        """How many files have a picture's suffix."""
        return Folder(self.path).estimate()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`."""
        notes: dict[str, Row] = {}
        for listing in _listings(self.path):
            notes |= _notes(listing)  # a listing nearer to the picture comes later and wins
        yield from to_batches(_with_notes(self.path, notes))


@dataclass(frozen=True)
class Coco:
    """Pictures with a COCO file: boxes become `regions` by the names of their categories, captions `captions`.

    A region keeps `iscrowd` and `score`. Segmentations are left out. A picture that is not listed comes without
    metadata, one that is listed and missing is a row that says so.

    Raises:
        InputError: one of the two is not there, or, on reading, the file is no such JSON or contradicts itself.
    """

    annotations_json: str
    images_folder: str

    def __post_init__(self) -> None:
        _need_folder(self.images_folder)
        if not Path(self.annotations_json).is_file():
            raise InputError(f"{self.annotations_json!r} is no file. Give the JSON file with COCO annotations.")

    @property
    def name(self) -> str:
        """The URI of the annotations."""
        return path_to_uri(self.annotations_json)

    def estimate(self) -> int:
        """How many files have a picture's suffix."""
        return Folder(self.images_folder).estimate()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`."""
        yield from to_batches(_with_notes(self.images_folder, self._notes()))

    def _notes(self) -> dict[str, Row]:
        path = self.annotations_json
        try:
            with Path(path).open(encoding="utf-8-sig") as file:
                images = _coco_images(json.load(file, object_hook=_light))
            return {row.uri: row for row in (_missing(self.images_folder, *each, path) for each in images.items())}
        except KeyError as error:
            raise InputError(f"{path!r} is not COCO's JSON: an object has no {error}.") from error
        except (*_BAD_FILE, TypeError, AttributeError) as error:
            raise InputError(f"{path!r} is not COCO's JSON: {error}.") from error


@dataclass(frozen=True)
class Voc:
    """Pictures in `JPEGImages/` with Pascal VOC annotations of the same names in `Annotations/`.

    Objects become `regions` with `difficult`, `truncated` and `occluded` where they are given. A picture without an
    annotation comes without metadata; one whose annotation cannot be used, or an annotation without a picture, is
    a row that says so.

    Raises:
        InputError: one of the two folders is not there.
    """

    folder: str

    def __post_init__(self) -> None:
        _need_folder(f"{self.folder}/JPEGImages")
        _need_folder(f"{self.folder}/Annotations")

    @property
    def name(self) -> str:
        """The folder's URI."""
        return path_to_uri(self.folder)

    def estimate(self) -> int:
        """How many files have a picture's suffix."""
        return Folder(f"{self.folder}/JPEGImages").estimate()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`."""
        return to_batches(self._rows())

    def _rows(self) -> Iterator[Row]:
        images, annotations = path_to_uri(f"{self.folder}/JPEGImages"), path_to_uri(f"{self.folder}/Annotations")
        found = {
            path_to_uri(path).removeprefix(annotations).removesuffix(".xml"): path
            for path in _files(f"{self.folder}/Annotations")
            if path.endswith(".xml")
        }
        seen = set()
        for row in _pictures(f"{self.folder}/JPEGImages"):
            seen.add(key := row.uri.removeprefix(images).rpartition(".")[0])
            if row.error is not None or key not in found:
                yield row
                continue
            try:
                yield replace(row, metadata=to_metadata({"regions": _voc_regions(found[key])}))
            except InputError as error:
                yield Row(row.uri, None, f"its annotation {error}")
        for key in sorted(found.keys() - seen):
            yield Row(f"{images}{key}.jpg", None, f"{found[key]!r} describes it, but there is no such picture")


def to_metadata(row: Mapping[str, Any]) -> str | None:
    """What is known of a picture, as the JSON text of `schema.SOURCE`; None where that is nothing.

    `label`, `labels` and `class` become `labels`, and a JSON object `metadata` is merged in. Nulls, bytes and long
    vectors are left out. `labels` or `regions` of another form are kept as `labels_as_given`, `regions_as_given`.
    """
    kept: dict[str, Any] = {}
    labels: list[str] = []
    for name, value in _opened(row).items():
        plain = _plain(value)
        if plain is None or plain is _LEFT_OUT:
            continue
        if name.lower() in _LABEL_NAMES and all(isinstance(each, str | int | float | None) for each in _as_list(plain)):
            labels += [str(each) for each in _as_list(plain) if each is not None]
        elif name == "labels" or (name == "regions" and not all(map(_is_region, _as_list(plain)))):
            kept[f"{name}_as_given"] = plain
        else:
            kept[name] = plain
    if labels:
        kept["labels"] = list(dict.fromkeys(labels))
    text = json.dumps(kept, ensure_ascii=False, allow_nan=False)
    # JSON may hold halves of characters, Arrow may not.
    return text.encode(errors="replace").decode() if kept else None


def _is_region(value: Any) -> bool:
    box = value.get("box_xyxy") if isinstance(value, dict) else None
    return isinstance(box, list) and len(box) == 4 and all(isinstance(x, int | float) and 0 <= x <= 1 for x in box)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _opened(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with what its own `metadata` holds among the other names, which come first."""
    inner = row.get("metadata")
    with contextlib.suppress(ValueError, RecursionError):
        inner = json.loads(inner) if isinstance(inner, str) else inner
    if not isinstance(inner, dict):
        return dict(row)
    return {**inner, **{name: value for name, value in row.items() if name != "metadata" and value is not None}}


def _plain(value: Any, depth: int = 0) -> Any:
    """A value as JSON can hold it, or `_LEFT_OUT`."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, date | time | timedelta):
        return value.total_seconds() if isinstance(value, timedelta) else value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview) or depth > _MAX_DEPTH:
        return _LEFT_OUT
    if isinstance(value, Mapping):
        inner = {str(name): _plain(each, depth + 1) for name, each in value.items()}
        return {name: each for name, each in inner.items() if each is not _LEFT_OUT}
    if isinstance(value, list | tuple):
        if len(value) > MAX_VECTOR and all(isinstance(each, int | float | None) for each in value):
            return _LEFT_OUT
        items = [_plain(each, depth + 1) for each in value]
        return _LEFT_OUT if any(each is _LEFT_OUT for each in items) else items
    return str(value)  # a decimal number, a UUID


def _need_folder(path: str) -> None:
    if not Path(path).is_dir():
        raise InputError(f"{path!r} is no folder. Give one that is there.")


def _pictures(folder: str) -> Iterator[Row]:
    for batch in Folder(folder).batches():
        for uri, data, error, _ in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield Row(uri, data, error)


def _missing(folder: str, file_name: str, known: Mapping[str, Any], listing: str) -> Row:
    """A note: the row of a picture that is listed, as long as it is not found."""
    reason = f"{listing!r} lists it, but there is no such picture"
    return Row(path_to_uri(f"{folder}/{file_name}"), None, reason, to_metadata(known))


def _with_notes(folder: str, notes: dict[str, Row]) -> Iterator[Row]:
    """The pictures of a folder with the metadata of their notes, then the notes without a picture."""
    for row in _pictures(folder):
        note = notes.pop(row.uri, None)
        yield replace(row, metadata=note.metadata) if note else row
    yield from notes.values()


def _files(root: str) -> Iterator[str]:
    """Every file below a folder that is not hidden, outer folders first; links are followed, each folder once."""
    entered = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            below.clear()
            continue
        entered.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (f"{folder}/{name}" for name in sorted(names) if not name.startswith("."))


def _listings(root: str) -> list[str]:
    """The metadata files below a folder, one in each folder that has one."""
    found: dict[str, str] = {}
    for path in _files(root):
        folder, _, name = path.rpartition("/")
        if name in _READERS and found.setdefault(folder, path) != path:
            raise InputError(f"{folder!r} holds both {Path(found[folder]).name} and {name}. Keep one of them.")
    if not found:
        raise InputError(f"{root!r} holds no {', '.join(_READERS)}. Ingest it as a folder of pictures.")
    return list(found.values())


def _notes(listing: str) -> dict[str, Row]:
    """What a metadata file says, by the URI of the picture."""
    folder, _, name = listing.rpartition("/")
    notes: dict[str, Row] = {}
    try:
        for number, row in enumerate(_READERS[name](listing), start=1):
            file_name = row.pop("file_name", None) if isinstance(row, dict) else None
            if not isinstance(file_name, str) or not file_name:
                raise InputError(f"{listing!r}: row {number} has no file_name: {str(row)[:100]}.")
            note = _missing(folder, file_name, row, listing)
            if notes.setdefault(note.uri, note) != note:
                raise InputError(f"{listing!r} lists {file_name!r} twice, with different values. Keep one row.")
    except _BAD_FILE as error:
        raise InputError(f"{listing!r} cannot be read: {error}. Mend or remove it.") from error
    return notes


def _read_csv(path: str) -> Iterator[dict[str, Any]]:
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        names, rows = reader.fieldnames or [], list(reader)
    if any(None in row for row in rows):
        raise ValueError("a row has more cells than the first line")
    texts = {"file_name", *_LABEL_NAMES}
    numbers = {name for name in names if name.lower() not in texts} - {
        name for row in rows for name, text in row.items() if text and not _NUMBER.fullmatch(text)
    }
    for row in rows:
        yield {name: json.loads(text) if name in numbers and text else text or None for name, text in row.items()}


def _read_jsonl(path: str) -> Iterator[dict[str, Any]]:
    with Path(path).open(encoding="utf-8-sig") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


_READERS: dict[str, Callable[[str], Iterable[Any]]] = {
    "metadata.csv": _read_csv,
    "metadata.jsonl": _read_jsonl,
    "metadata.parquet": lambda path: pq.ParquetFile(path).read().to_pylist(),
}


def _light(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "segmentation"}  # nine tenths of the file


def _coco_images(coco: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a COCO file says of its images, by file name. Its form is documented at https://cocodataset.org/#format-data."""
    names = {category["id"]: category["name"] for category in coco.get("categories") or []}
    images = {image["id"]: image for image in coco["images"]}
    known = {image["file_name"]: {k: image[k] for k in image if k not in _COCO_OWN} for image in images.values()}
    if len(known) < len(coco["images"]):
        raise ValueError("two images have the same id or file_name")
    for each in coco.get("annotations") or []:
        image = images.get(each["image_id"])
        if image is None:
            raise ValueError(f"the annotation {each.get('id')} is of image {each['image_id']}, which is not listed")
        if each.get("bbox"):
            region = _coco_region(each, image, names)
            known[image["file_name"]].setdefault("regions", []).append(region)
        if "caption" in each:
            known[image["file_name"]].setdefault("captions", []).append(each["caption"])
    return known


def _coco_region(each: Mapping[str, Any], image: Mapping[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
    if each["category_id"] not in names:
        raise ValueError(f"the annotation {each.get('id')} is of category {each['category_id']}, which is not listed")
    left, top, width, height = map(float, each["bbox"])
    box_xyxy = _shares(left, top, left + width, top + height, image["width"], image["height"])
    kept = {name: each[name] for name in ("iscrowd", "score") if name in each}
    return {"box_xyxy": box_xyxy, "label": str(names[each["category_id"]]), **kept}


def _shares(left: float, top: float, right: float, bottom: float, width: float, height: float) -> list[float]:
    """A box in pixels as shares of the picture, cut at its edges."""
    if not (width > 0 and height > 0 and all(map(math.isfinite, (left, top, right, bottom)))):
        raise ValueError(f"the box {[left, top, right, bottom]} in a picture of {width} x {height} has no place")
    shares = left / width, top / height, right / width, bottom / height
    return [min(max(share, 0.0), 1.0) for share in shares]


def _voc_regions(path: str) -> list[dict[str, Any]]:
    """The objects of a Pascal VOC file. Pixels count from 1, and a box includes its last ones."""
    try:
        root = _parse_xml(path)
        width, height = (float(_text(root, f"size/{side}")) for side in ("width", "height"))
        regions = []
        for found in root.iterfind("object"):
            left, top, right, bottom = (float(_text(found, f"bndbox/{x}")) for x in ("xmin", "ymin", "xmax", "ymax"))
            box_xyxy = _shares(left - 1, top - 1, right, bottom, width, height)
            flags = [flag for flag in ("difficult", "truncated", "occluded") if found.find(flag) is not None]
            given = {flag: (found.findtext(flag) or "").strip() == "1" for flag in flags}
            regions.append({"box_xyxy": box_xyxy, "label": _text(found, "name"), **given})
    except (OSError, ValueError, ET.ParseError) as error:
        raise InputError(f"{path!r} cannot be used: {error}") from error
    return regions


def _text(element: ET.Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"<{element.tag}> has no <{path}>")
    return text


def _parse_xml(path: str) -> ET.Element:
    """Parse XML that cannot grow: entities need a DOCTYPE, which UTF-8 text without zero bytes cannot hide."""
    if Path(path).stat().st_size > _MAX_XML_BYTES:
        raise ValueError(f"it has more than {_MAX_XML_BYTES:,} bytes")
    text = Path(path).read_text("utf-8-sig")
    if "<!doctype" in text.lower() or "\0" in text:  # with zero bytes the parser would take it as UTF-16
        raise ValueError("it has a DOCTYPE or zero bytes, which are refused: entities can grow without end")
    return ET.fromstring(text)  # noqa: S314  (text: the parser takes it as UTF-8, whatever it declares)
