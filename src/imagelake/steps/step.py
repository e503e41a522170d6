"""What every step is. Its laws are tested in one suite over all steps: tests/steps/test_laws.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import pyarrow as pa

Batches = Iterator[pa.RecordBatch]  # exactly what Spark's DataFrame.mapInArrow gives and takes
Function = Callable[[pa.RecordBatch], pa.RecordBatch]


class Step(Protocol):
    """A function over record batches that can travel: small, frozen, picklable.

    Laws: the output has the promised schema; splitting the input otherwise does not change the rows; an empty batch
    gives an empty batch; a row that fails stays a row with its error; pickling changes nothing.
    """

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """The columns that come out where `schema` goes in."""

    def open(self) -> Function:
        """Load what is heavy, on the worker, once. The function may be called from several threads."""
