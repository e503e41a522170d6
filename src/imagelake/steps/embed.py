"""Give each picture its vector: decode, bring to the model's size, run the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from imagelake.errors import ImageError
from imagelake.models.embedder import Embedder, open_embedder
from imagelake.models.manifest import Manifest
from imagelake.pixels.decode import decode_rgb
from imagelake.steps.step import Function


def embed_pictures(embedder: Embedder, pictures: list[bytes | None]) -> list[npt.NDArray[np.float32] | str]:
    """A vector for each picture, or the reason why there is none."""
    found: list[npt.NDArray[np.float32] | str] = ["there are no bytes"] * len(pictures)
    ready: list[npt.NDArray[np.uint8]] = []
    rows: list[int] = []
    for row, data in enumerate(pictures):
        if data is None:
            continue
        try:
            ready.append(embedder.prepare(decode_rgb(data, min_side=max(embedder.manifest.input_size_wh))))
            rows.append(row)
        except ImageError as error:
            found[row] = str(error)
    if ready:
        for row, vector in zip(rows, embedder.embed(np.stack(ready)), strict=True):
            found[row] = vector
    return found


@dataclass(frozen=True)
class Embed:
    """From `id` and `bytes` to `id`, `vector` (null where `error` says why) and `error`."""

    manifest: Manifest
    on_progress: Callable[[str], None] | None = None  # told when the model is being built

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Id, a vector of the manifest's dimensions, error."""
        vector = pa.list_(pa.float32(), self.manifest.dimensions)
        return pa.schema([schema.field("id"), pa.field("vector", vector), pa.field("error", pa.string())])

    def open(self) -> Function:
        """Load the model."""
        embedder = open_embedder(self.manifest, on_progress=self.on_progress)

        def embed(batch: pa.RecordBatch) -> pa.RecordBatch:
            found = embed_pictures(embedder, batch.column("bytes").to_pylist())
            schema = self.output_schema(batch.schema)
            flat = [np.zeros(self.manifest.dimensions, np.float32) if isinstance(v, str) else v for v in found]
            values = np.concatenate(flat) if flat else np.empty(0, np.float32)
            missing = pa.array([isinstance(v, str) for v in found], pa.bool_())
            vectors = pa.FixedSizeListArray.from_arrays(
                pa.array(values), type=schema.field("vector").type, mask=missing if len(found) else None
            )
            errors = pa.array([v if isinstance(v, str) else None for v in found], pa.string())
            return pa.record_batch([batch.column("id"), vectors, errors], schema=schema)

        return embed
