"""The record that one piece of work is done."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from imagelake import schema
from imagelake.lake.tables import Tables


@dataclass(frozen=True)
class Counts:
    """How many pictures were found, and what became of them: found = added + known + rejected."""

    added: int = 0
    known: int = 0
    rejected: int = 0

    @property
    def found(self) -> int:
        """All of them."""
        return self.added + self.known + self.rejected

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.added + other.added, self.known + other.known, self.rejected + other.rejected)


@dataclass(frozen=True)
class Rejection:
    """A URI that could not become what was asked, with the reason. `content_id` is None where nothing was read."""

    uri: str
    content_id: str | None
    stage: str
    reason: str
    byte_size: int | None


def write_receipt(tables: Tables, work: str, subject: str, fingerprint: str, counts: Counts, seconds: float) -> None:
    """Record a finished piece of work."""
    row = {
        "id": uuid.uuid4().hex,
        "work": work,
        "subject": subject,
        "fingerprint": fingerprint,
        "found": counts.found,
        "added": counts.added,
        "known": counts.known,
        "rejected": counts.rejected,
        "seconds": seconds,
        "finished_at": datetime.now(UTC),
    }
    tables.receipts.insert_new(pa.Table.from_pylist([row], schema=schema.RECEIPTS))


def write_rejections(tables: Tables, rejections: Sequence[Rejection]) -> None:
    """Record rejections, each URI and content once however often it is met."""
    by_id: dict[str, Mapping[str, object]] = {}
    for rejection in rejections:
        key = hashlib.sha256(f"{rejection.uri}\0{rejection.content_id or ''}\0{rejection.stage}".encode()).hexdigest()
        by_id[key] = {"id": key, "rejected_at": datetime.now(UTC), **vars(rejection)}
    if by_id:
        tables.rejections.insert_new(pa.Table.from_pylist(list(by_id.values()), schema=schema.REJECTIONS))
