"""One piece of work on a worker: read it, apply the step, stage the rows, leave a receipt. Knows no engine."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pickle
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from imagelake.lake.staged import stage
from imagelake.lake.staging import Staging
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables, uris_of
from imagelake.run.commits import CommitSize, gather
from imagelake.run.local import run_local
from imagelake.run.outcome import Outcome, Tally
from imagelake.run.pieces import Piece
from imagelake.run.receipts import Rejection
from imagelake.steps.extract import ExtractPictures
from imagelake.steps.step import Function, Step

RECEIPT = ".json"
_HELD_BYTES = 24 << 20  # input on its way in one task, however many pictures that is
_STAGE_SIZE = CommitSize(max_bytes=64 << 20, max_rows=16384, max_seconds=float("inf"))
_MODELS_KEPT = 2


@dataclass(frozen=True)
class Work:
    """What all pieces of a run have in common. Small, picklable.

    Attributes:
        root: of the lake.
        run: the name of the run.
        fingerprint: of what shapes the results.
        step: what is done.
        outcome: which table each row that comes out belongs to.
        models_travel: whether the folders of models travel with the work.
        key: the column that tells pictures from one another.
        targets: the addresses of those tables by name, in the order of writing.
    """

    root: str
    run: str
    fingerprint: str
    step: Step
    outcome: Outcome
    models_travel: bool = False
    key: str = "image_id"
    targets: tuple[tuple[str, str], ...] = ()

    def relocated(self, folder: Path) -> Work:
        """The same with models looked for below `folder`."""
        if not isinstance(self.step, ExtractPictures):
            return self
        return replace(self, step=ExtractPictures(self.step.pipeline.relocate(folder)), models_travel=False)


@dataclass(frozen=True)
class PieceReceipt:
    """That a piece is done, though not committed yet.

    Attributes:
        piece: its name.
        fingerprint: of what shaped the results.
        staged: by the name of a table, what `commit_staged` takes.
        tally: what it came to, every good picture counted as added.
        rejections: what could not be done.
    """

    piece: str
    fingerprint: str
    staged: Mapping[str, Sequence[str]]
    tally: Tally
    rejections: Sequence[Rejection]

    def to_json(self) -> bytes:
        """As JSON, which `from_json` reads."""
        told = {
            "piece": self.piece,
            "fingerprint": self.fingerprint,
            "staged": {name: list(each) for name, each in self.staged.items()},
            "tally": self.tally.to_json(),
            "rejections": [vars(each) for each in self.rejections],
        }
        return json.dumps(told).encode()

    @staticmethod
    def from_json(data: bytes) -> PieceReceipt:
        """Read what `to_json` wrote."""
        told = json.loads(data)
        return PieceReceipt(
            told["piece"],
            told["fingerprint"],
            told["staged"],
            Tally.from_json(told["tally"]),
            [Rejection(**each) for each in told["rejections"]],
        )


def do_piece(work: Work, piece: Piece, threads: int) -> PieceReceipt | None:
    """Do one piece, unless it is done.

    Returns:
        Its receipt; None where another attempt at the same piece was first, and what this one staged is waste.
    """
    staging = Staging(work.root, work.run)
    if staging.get(piece.name + RECEIPT) is not None:
        return None
    tables, targets = Tables(work.root), {name: Table(uri) for name, uri in work.targets}
    staged: dict[str, list[str]] = {name: [] for name in targets}
    rejections: list[Rejection] = []
    tally = Tally()
    for rows in gather(apply_step(work.step, piece, threads), _STAGE_SIZE):
        since = time.perf_counter()
        for name, part in work.outcome.split(rows).items():
            if part.num_rows:
                staged[name].append(stage(targets[name], part))
        rejections += _rejections(work.outcome, rows, tables)
        tally += work.outcome.tally(rows, time.perf_counter() - since)
    receipt = PieceReceipt(piece.name, work.fingerprint, staged, tally, rejections)
    return receipt if staging.put(piece.name + RECEIPT, receipt.to_json()) else None


def apply_step(step: Step, piece: Piece, threads: int) -> Iterator[pa.RecordBatch]:
    """The rows that a step makes of a piece, with so many threads and a bounded number of bytes on their way."""
    opened = _Opened(step, open_once(step))
    return run_local(piece.batches(), [opened], workers=threads, max_bytes=_HELD_BYTES)


def _rejections(outcome: Outcome, rows: pa.Table, tables: Tables) -> list[Rejection]:
    refused = outcome.refused(rows)
    seen = uris_of(tables.images, sorted({each.image_id for each in refused}))
    return [
        Rejection((seen.get(each.image_id) or [each.image_id])[0], each.image_id, each.stage, each.reason, None)
        for each in refused
    ]


@dataclass(frozen=True)
class _Opened:
    """A step that is open already."""

    step: Step
    function: Function

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        return self.step.output_schema(schema)

    def open(self) -> Function:
        return self.function


@functools.cache
def _open_steps(process: int) -> tuple[threading.Lock, OrderedDict[str, Function]]:
    """What is open in this process, by the hash of the step; a process that was forked begins with nothing."""
    del process
    return threading.Lock(), OrderedDict()


def open_once(step: Step) -> Function:
    """Open a step, once a process, however many pieces it does one after the other."""
    lock, there = _open_steps(os.getpid())
    key = hashlib.sha256(pickle.dumps(step)).hexdigest()
    with lock:
        if key not in there:
            while len(there) >= _MODELS_KEPT:
                there.popitem(last=False)
            there[key] = step.open()
        return there[key]
