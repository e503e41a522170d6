"""What was run on a lake: each run's counts and where its time went, out of the receipts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imagelake import schema
from imagelake.lake.tables import Tables
from imagelake.run.outcome import add_seconds


@dataclass(frozen=True)
class RunInfo:
    """One run of `ingest`, `extract` or `receive`: all its receipts together.

    Attributes:
        run: its name; None for receipts of an older imagelake, which did not name runs.
        work: what was done.
        subject: the source, or the embedding set.
        engine: `"local"` or `"spark"`; None where nobody said.
        fingerprint: of what made the results.
        started_at: when it began, UTC.
        finished_at: when its last piece was committed, UTC.
        pieces: how many pieces of work it committed.
        found: pictures; each is one of the next three.
        added: done in this run.
        known: done before.
        rejected: could not be done.
        images_per_s: added and rejected pictures a second, from start to last commit; None where that is not known.
        stages: seconds by stage, those of all threads and machines added up.
    """

    run: str | None
    work: str
    subject: str | None
    engine: str | None
    fingerprint: str | None
    started_at: datetime | None
    finished_at: datetime
    pieces: int
    found: int
    added: int
    known: int
    rejected: int
    images_per_s: float | None
    stages: dict[str, float]


def list_runs(tables: Tables) -> list[RunInfo]:
    """All runs that left a receipt, the newest first."""
    columns = [name for name in schema.RECEIPTS.names if name in tables.receipts.schema.names]
    grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for told in tables.receipts.read(columns).to_pylist():
        row = dict.fromkeys(schema.RECEIPTS.names) | told
        key = (row["run"],) if row["run"] else (None, row["work"], row["subject"], row["fingerprint"])
        grouped.setdefault(key, []).append(row)
    runs = [_run(rows) for rows in grouped.values()]
    return sorted(runs, key=lambda run: run.finished_at, reverse=True)


def _run(rows: Sequence[dict[str, Any]]) -> RunInfo:
    rows = sorted(rows, key=lambda row: row["finished_at"])
    first, last = rows[0], rows[-1]
    counts = {name: sum(row[name] for row in rows) for name in ("found", "added", "known", "rejected")}
    stages: dict[str, float] = {}
    for row in rows:
        stages = add_seconds(stages, json.loads(row["stages"] or "{}"))
    lasted = None if first["started_at"] is None else (last["finished_at"] - first["started_at"]).total_seconds()
    done = counts["added"] + counts["rejected"]
    return RunInfo(
        run=first["run"],
        work=first["work"],
        subject=first["subject"],
        engine=first["engine"],
        fingerprint=first["fingerprint"],
        started_at=first["started_at"],
        finished_at=last["finished_at"],
        pieces=sum(1 for row in rows if row["found"]),
        **counts,
        images_per_s=round(done / lasted, 1) if lasted else None,
        stages={stage: round(spent, 3) for stage, spent in stages.items()},
    )
