"""The record that one piece of work is done."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from imagelake import schema
from imagelake.lake.table import one_of
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


@dataclass(frozen=True)
class Position:
    """How far a source was read: after the picture with this URI, and whether that was its last."""

    uri: str
    at_end: bool


@dataclass(frozen=True)
class RunOf:
    """One run of a command, which leaves several receipts."""

    id: str
    engine: str
    started_at: datetime


def new_run(engine: str) -> RunOf:
    """A run that begins now. Its id sorts by time."""
    now = datetime.now(UTC)
    return RunOf(f"{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}", engine, now)


def write_receipt(
    tables: Tables,
    work: str,
    subject: str,
    fingerprint: str,
    counts: Counts,
    seconds: float,
    run: RunOf,
    *,
    position: Position | None = None,
    stages: Mapping[str, float] | None = None,
) -> None:
    """Record a finished piece of work, and for a source that can go on from there how far it came."""
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
        "last_uri": None if position is None else position.uri,
        "at_end": None if position is None else position.at_end,
        "run": run.id,
        "started_at": run.started_at,
        "engine": run.engine,
        "stages": None if stages is None else json.dumps({name: round(spent, 4) for name, spent in stages.items()}),
    }
    tables.receipts.append(pa.Table.from_pylist([row], schema=schema.RECEIPTS))


def last_position(tables: Tables, work: str, subject: str) -> Position | None:
    """How far the latest run over a source came, where it is one that can go on."""
    where = f"{one_of('subject', [subject])} AND {one_of('work', [work])} AND last_uri IS NOT NULL"
    found = tables.receipts.read(["last_uri", "at_end", "finished_at"], where).sort_by("finished_at").to_pylist()
    return Position(found[-1]["last_uri"], bool(found[-1]["at_end"])) if found else None


def write_rejections(tables: Tables, rejections: Sequence[Rejection]) -> None:
    """Record rejections, each URI and content once however often it is met."""
    by_id: dict[str, Mapping[str, object]] = {}
    for rejection in rejections:
        key = hashlib.sha256(f"{rejection.uri}\0{rejection.content_id or ''}\0{rejection.stage}".encode()).hexdigest()
        by_id[key] = {"id": key, "rejected_at": datetime.now(UTC), **vars(rejection)}
    if by_id:
        tables.rejections.insert_new(pa.Table.from_pylist(list(by_id.values()), schema=schema.REJECTIONS))
