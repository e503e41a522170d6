"""What every source is: something that yields record batches of `schema.SOURCE`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

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


@runtime_checkable
class Resumable(Protocol):
    """A source that can start in the middle, because its pictures come in an order that does not change.

    What was committed before a run ended is then not read again. The position is remembered under its `name`, or under
    its `position_name` where it has one.
    """

    @property
    def name(self) -> str:
        """As `Source`."""

    def resume_after(self, uri: str) -> Source:
        """The same source from the picture that comes after the one with this URI."""


@runtime_checkable
class Watchable(Protocol):
    """A source that can be asked again and again what is new.

    A mark is a text that changes whenever the picture does.
    """

    @property
    def name(self) -> str:
        """As `Source`."""

    def listing(self) -> Iterator[tuple[str, str]]:
        """The URI and the mark of everything that is there."""

    def only(self, uris: Sequence[str]) -> Source:
        """A source of just these."""


def complete(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch with every column of `schema.SOURCE`, in that order; those that a source may leave out are null."""
    columns = [
        batch.column(field.name) if field.name in batch.schema.names else pa.nulls(batch.num_rows, field.type)
        for field in schema.SOURCE
    ]
    return pa.record_batch(columns, schema=schema.SOURCE)
