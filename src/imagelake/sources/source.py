"""What every source is: something that yields record batches of `schema.SOURCE`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

from imagelake import schema


class Source(Protocol):
    """Anything that yields pictures.

    A picture that cannot be read is a row with null `bytes` and the reason in `error`; it does not end the stream.
    """

    @property
    def name(self) -> str:
        """What a person calls it: the folder, the address."""

    def estimate(self) -> int | None:
        """About how many pictures will come, for the time left; None where nobody knows."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The pictures, in batches of a few megabytes, each read once."""


def complete(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch with every column of `schema.SOURCE`, in that order; those that a source may leave out are null."""
    columns = [
        batch.column(field.name) if field.name in batch.schema.names else pa.nulls(batch.num_rows, field.type)
        for field in schema.SOURCE
    ]
    return pa.record_batch(columns, schema=schema.SOURCE)
