"""Name each picture by its content, and mark what the lake has already, so that nobody decodes it again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pyarrow as pa

from imagelake.lake.ids import IdSet
from imagelake.steps.step import Function


def content_id(data: bytes | memoryview | pa.Buffer) -> str:
    """The id of an image: the SHA-256 of its bytes, 64 hexadecimal letters."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Identify:
    """Adds `id` (null where there are no bytes) and `known` (whether `known_ids` has it)."""

    known_ids: IdSet

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """The columns that come in, then `id` and `known`."""
        return schema.append(pa.field("id", pa.string())).append(pa.field("known", pa.bool_()))

    def open(self) -> Function:
        """Nothing heavy to load."""
        return self._identify

    def _identify(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        buffers = (scalar.as_buffer() if scalar.is_valid else None for scalar in batch.column("bytes"))
        ids = [None if buffer is None else content_id(buffer) for buffer in buffers]
        named = pa.array([name for name in ids if name is not None], pa.string())
        hits = iter(self.known_ids.contains(named).tolist())
        known = [name is not None and next(hits) for name in ids]
        columns = [*batch.columns, pa.array(ids, pa.string()), pa.array(known, pa.bool_())]
        return pa.record_batch(columns, schema=self.output_schema(batch.schema))
