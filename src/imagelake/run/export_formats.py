"""The formats that images are exported in, each as three questions: is a piece there, write it, finish."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from imagelake.lake.tables import Tables
from imagelake.run.export_names import suffix

_READ_BYTES = 64 << 20
_LOOKUP_ROWS = 1024
_NOT_IN_TEXT = {"bytes", "thumbnail"}
_JSON = {"exif", "iptc", "xmp", "metadata"}


@dataclass(frozen=True)
class Piece:
    """Images that are written together: rows of the plan with `id` and, in some formats, `name`."""

    folder: Path
    number: int
    rows: pa.Table

    def path(self, end: str) -> Path:
        """The file of this piece."""
        return self.folder / f"part-{self.number:06d}{end}"


class Format(Protocol):
    """How a format is written."""

    name: str
    one_file_each: bool  # then images get names

    def is_there(self, piece: Piece) -> bool:
        """Whether a run before wrote the piece."""

    def write(self, tables: Tables, piece: Piece) -> int:
        """Write the piece; how many of its images are still in the lake."""

    def finish(self, tables: Tables, folder: Path, plan: pa.Table) -> None:
        """Write what describes all of them."""


def read_images(tables: Tables, ids: list[str], *, with_bytes: bool) -> Iterator[pa.Table]:
    """All columns of some images, ordered by id, a few at a time."""
    columns = tables.images.schema.names
    wanted = [name for name in columns if name != "bytes"]
    for start in range(0, len(ids), _LOOKUP_ROWS):
        part = ids[start : start + _LOOKUP_ROWS]
        rows = tables.images.rows("id", part, wanted).sort_by("id")
        if not with_bytes:
            yield rows
            continue
        for piece in _by_bytes(rows):
            found = piece.column("id").to_pylist()
            data = tables.images.bytes_of(found)
            yield piece.append_column("bytes", pa.array([data.get(each) for each in found], pa.large_binary()))


def _by_bytes(rows: pa.Table) -> Iterator[pa.Table]:
    start, held = 0, 0
    for row, size in enumerate(rows.column("byte_size").to_pylist()):
        if row > start and held + (size or 0) > _READ_BYTES:
            yield rows.slice(start, row - start)
            start, held = row, 0
        held += size or 0
    yield rows.slice(start)


def described(row: dict[str, Any]) -> dict[str, Any]:
    """An image's columns as JSON can hold them: no bytes, times as ISO 8601, what is JSON already opened."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if name in _NOT_IN_TEXT or value is None:
            continue
        if name in _JSON:
            try:
                out[name] = json.loads(value)
            except ValueError:
                out[name] = value
        else:
            out[name] = value.isoformat() if hasattr(value, "isoformat") else value
    return out


class Files:
    """One file an image in `images/`, and `metadata.jsonl`, which names each file and what is known of it."""

    name = "folder"
    one_file_each = True

    def is_there(self, piece: Piece) -> bool:
        """Whether the piece's list of images, which is written last, is there."""
        return self._list(piece).exists()

    def write(self, tables: Tables, piece: Piece) -> int:
        """The pictures' own bytes, unchanged."""
        (piece.folder / "images").mkdir(exist_ok=True)
        name_of = dict(zip(*(piece.rows.column(each).to_pylist() for each in ("id", "name")), strict=True))
        written = 0
        lines = []
        for rows in read_images(tables, list(name_of), with_bytes=True):
            for row in rows.to_pylist():
                path = piece.folder / "images" / name_of[row["id"]]
                _replace(path, row["bytes"])
                lines.append({"file_name": f"images/{path.name}", **described(row)})
                written += 1
        _replace(self._list(piece), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
        return written

    def finish(self, tables: Tables, folder: Path, plan: pa.Table) -> None:  # noqa: ARG002
        """Put the lists of the pieces together."""
        part = folder / "metadata.jsonl.part"
        with part.open("wb") as out:
            for number in range(_count(plan)):
                with self._list(Piece(folder, number, plan)).open("rb") as file:
                    shutil.copyfileobj(file, out)
        part.replace(folder / "metadata.jsonl")

    def _list(self, piece: Piece) -> Path:
        (piece.folder / "parts").mkdir(exist_ok=True)
        return piece.folder / "parts" / f"{piece.number:06d}.jsonl"


class Coco(Files):
    """As `folder`, and `annotations.json` with the regions as COCO has them."""

    name = "coco"

    def finish(self, tables: Tables, folder: Path, plan: pa.Table) -> None:
        """Write `annotations.json`: images, annotations with boxes in pixels, categories by name."""
        super().finish(tables, folder, plan)
        regions = tables.all()["regions"].read(["image_id", "box_xyxy", "label", "score", "model", "fingerprint"])
        labels = sorted({label for label in regions.column("label").to_pylist() if label is not None})
        number_of = {label: number for number, label in enumerate(labels, start=1)}
        images, sizes = [], {}
        with (folder / "metadata.jsonl").open() as lines:
            for number, line in enumerate(lines, start=1):
                row = json.loads(line)
                width, height = row.get("width"), row.get("height")
                sizes[row["id"]] = number, width, height
                images.append({"id": number, "file_name": row["file_name"], "width": width, "height": height})
        annotations: list[dict[str, Any]] = []
        for region in regions.to_pylist():
            if region["image_id"] not in sizes or region["box_xyxy"] is None or region["label"] is None:
                continue
            number, width, height = sizes[region["image_id"]]
            left, top, right, bottom = (
                share * side for share, side in zip(region["box_xyxy"], (width, height) * 2, strict=True)
            )
            box = [left, top, right - left, bottom - top]
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": number_of[region["label"]], "bbox": box,
                "area": box[2] * box[3], "iscrowd": 0, "score": region["score"],
                "model": region["model"], "fingerprint": region["fingerprint"],  # there may be boxes of several
            })  # fmt: skip
        categories = [{"id": number, "name": label} for label, number in number_of.items()]
        whole = {"images": images, "annotations": annotations, "categories": categories}
        _replace(folder / "annotations.json", json.dumps(whole, ensure_ascii=False).encode())


class Parquet:
    """Files of about 256 MB with every column, `bytes` among them."""

    name = "parquet"
    one_file_each = False

    def is_there(self, piece: Piece) -> bool:
        """Whether the file is there; it has its name only when it is whole."""
        return piece.path(".parquet").exists()

    def write(self, tables: Tables, piece: Piece) -> int:
        """One row group for each few megabytes, so that a reader need not hold the file."""
        path, written = piece.path(".parquet"), 0
        part = path.with_suffix(".part")
        fields = [field for field in tables.images.schema if field.name != "bytes"]
        columns = pa.schema([*fields, pa.field("bytes", pa.large_binary())])
        with pq.ParquetWriter(part, columns.remove_metadata(), compression="zstd") as writer:
            for rows in read_images(tables, piece.rows.column("id").to_pylist(), with_bytes=True):
                writer.write_table(rows.select(columns.names).cast(columns).replace_schema_metadata())
                written += rows.num_rows
        part.replace(path)
        return written

    def finish(self, tables: Tables, folder: Path, plan: pa.Table) -> None:
        """Nothing is left to do."""


class WebDataset:
    """Tar files of about 256 MB: `ID.jpg` and `ID.json` for each image, `ID.cls` where it has one label."""

    name = "webdataset"
    one_file_each = False

    def is_there(self, piece: Piece) -> bool:
        """Whether the file is there; it has its name only when it is whole."""
        return piece.path(".tar").exists()

    def write(self, tables: Tables, piece: Piece) -> int:
        """Times and owners are left at zero: the same images make the same file."""
        path, written = piece.path(".tar"), 0
        part = path.with_suffix(".part")
        with tarfile.open(part, "w") as tar:
            for rows in read_images(tables, piece.rows.column("id").to_pylist(), with_bytes=True):
                for row in rows.to_pylist():
                    known = described(row)
                    _add(tar, row["id"] + suffix(row["format"]), row["bytes"])
                    _add(tar, row["id"] + ".json", json.dumps(known, ensure_ascii=False).encode())
                    labels = known.get("labels")
                    if isinstance(labels, list) and len(labels) == 1:
                        _add(tar, row["id"] + ".cls", str(labels[0]).encode())
                    written += 1
        part.replace(path)
        return written

    def finish(self, tables: Tables, folder: Path, plan: pa.Table) -> None:
        """Nothing is left to do."""


class Csv:
    """Tables without pictures: what is known of each image, lists and objects as JSON."""

    name = "csv"
    one_file_each = False

    def is_there(self, piece: Piece) -> bool:
        """Whether the file is there; it has its name only when it is whole."""
        return piece.path(".csv").exists()

    def write(self, tables: Tables, piece: Piece) -> int:
        """Every column but bytes and thumbnail."""
        path, written = piece.path(".csv"), 0
        part = path.with_suffix(".part")
        names = [field.name for field in tables.images.schema if field.name not in _NOT_IN_TEXT]
        writer = None
        for rows in read_images(tables, piece.rows.column("id").to_pylist(), with_bytes=False):
            flat = pa.table({name: _as_text(rows.column(name)) for name in names})
            writer = writer or pcsv.CSVWriter(part, flat.schema)
            writer.write_table(flat)
            written += flat.num_rows
        if writer is not None:
            writer.close()
        else:
            part.touch()
        part.replace(path)
        return written

    def finish(self, tables: Tables, folder: Path, plan: pa.Table) -> None:
        """Nothing is left to do."""


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_nested(column.type):
        texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    return column


def _count(plan: pa.Table) -> int:
    return 0 if not plan.num_rows else int(pc.max(plan.column("piece")).as_py()) + 1


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _replace(path: Path, data: bytes) -> None:
    """Write a file under another name, then give it its own: nobody ever sees half of it."""
    part = path.with_name("writing.part")
    part.write_bytes(data)
    part.replace(path)
