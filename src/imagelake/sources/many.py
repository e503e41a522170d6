"""Several sources as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from imagelake.errors import InputError
from imagelake.sources.rows import Row, regroup, to_batches
from imagelake.sources.source import Source

_NAMES_SHOWN = 8


@dataclass(frozen=True)
class Many:
    """Several sources, one after the other.

    One that cannot be opened at all is a row with its name and the reason; the others are read.
    """

    sources: tuple[Source, ...]

    @property
    def name(self) -> str:
        """The names with commas between them; of very many, the first and how many more there are."""
        names = [source.name for source in self.sources[:_NAMES_SHOWN]]
        more = len(self.sources) - len(names)
        return ", ".join([*names, f"and {more:,} more"] if more else names)

    def estimate(self) -> int | None:
        """The sum, or None where one of them does not know."""
        total = 0
        for source in self.sources:
            estimate = source.estimate()
            if estimate is None:
                return None
            total += estimate
        return total

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`."""
        yield from regroup(batch for source in self.sources for batch in _read(source))


def _read(source: Source) -> Iterator[pa.RecordBatch]:
    try:
        yield from source.batches()
    except InputError as error:
        yield from to_batches([Row(source.name, None, str(error))])
