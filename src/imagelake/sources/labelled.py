"""Labels from the names of folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import pyarrow as pa

from imagelake.errors import InputError
from imagelake.sources.source import Resumable, Source, complete

WAYS = ("parent",)
_STORES = frozenset({"s3", "gs", "az", "abfs", "abfss"})
_BETWEEN = re.compile(r"[/\\]+")


def label_from(source: Source, way: str) -> Source:
    """The same pictures, each with a label besides those that it has.

    Args:
        source: any source.
        way: `"parent"`: the name of the folder that the picture is in, also inside an archive or a bucket. A picture
            that is in no folder gets none.

    Raises:
        InputError: there is no such way.
    """
    if way not in WAYS:
        raise InputError(f"--label-from {way!r}: allowed is {', '.join(WAYS)}.")
    return _ResumableLabelled(source) if isinstance(source, Resumable) else _Labelled(source)


def parent_name(uri: str) -> str | None:
    """The name of the last folder in a URI, percent-encoding undone; None where there is none."""
    scheme, _, path = uri.rpartition("://")
    if scheme in _STORES:  # keys are as they are; the first part is the bucket
        folders = [part for part in path.split("/") if part][1:-1]
        return folders[-1] if folders else None
    if scheme in {"http", "https"}:
        path = path.partition("?")[0].partition("#")[0].partition("/")[2]
    parts = [part for part in _BETWEEN.split(path.replace("!/", "/").replace("#", "/")) if part]
    return unquote_to_bytes(parts[-2]).decode("utf-8", "replace") if len(parts) > 1 else None


@dataclass(frozen=True)
class _Labelled:
    """A source whose pictures have the name of their folder as a label."""

    source: Source

    @property
    def name(self) -> str:
        return self.source.name

    def estimate(self) -> int | None:
        return self.source.estimate()

    def batches(self) -> Iterator[pa.RecordBatch]:
        for batch in map(complete, self.source.batches()):
            rows = zip(batch.column("uri").to_pylist(), batch.column("metadata").to_pylist(), strict=True)
            texts = pa.array([_with_label(metadata, parent_name(uri)) for uri, metadata in rows], pa.string())
            yield batch.set_column(batch.schema.get_field_index("metadata"), "metadata", texts)


class _ResumableLabelled(_Labelled):
    """The same of a source that can start in the middle."""

    @property
    def position_name(self) -> str:
        return str(getattr(self.source, "position_name", self.name))

    def resume_after(self, uri: str) -> Source:
        if not isinstance(self.source, Resumable):
            raise TypeError(type(self.source))
        return _ResumableLabelled(self.source.resume_after(uri))


def _with_label(metadata: str | None, label: str | None) -> str | None:
    if label is None:
        return metadata
    found: dict[str, Any] = json.loads(metadata) if metadata else {}
    labels = found.get("labels")
    known = labels if isinstance(labels, list) else []
    return json.dumps({**found, "labels": list(dict.fromkeys([*known, label]))}, ensure_ascii=False)
