"""The one who commits what workers staged, in waves, while they go on; and who takes over what a run that died left."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pyarrow as pa

from imagelake.lake.ids import IdSet
from imagelake.lake.staged import Mark, commit_staged, mark_of
from imagelake.lake.staging import Staging, runs
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables
from imagelake.run.commits import CommitSize
from imagelake.run.outcome import Done, Outcome, Tally
from imagelake.run.piece_work import RECEIPT, PieceReceipt
from imagelake.run.receipts import Counts, RunOf, write_receipt, write_rejections

BEAT = "driver"
_BEAT_S = 10.0
_DEAD_S = 120.0
_FORGET_S = 7 * 86400.0  # the table format removes rows that nobody committed after as long
_TIDY_WAVES = 16
_IDLE_SHARE = 20  # a commit waits so many times as long as the last one took


@dataclass
class Committer:
    """Commits the receipts of a run. Whoever drives it calls `look` often and `commit` where it is `due`.

    A class because it remembers which pieces are committed, and the tables as its last commit left them.

    Attributes:
        tables: the lake.
        targets: the tables that are written, by name, in the order of writing; the last one's rows say what is done.
        subject: what a receipt calls the work.
        fingerprint: of what shapes the results.
        run: which run.
        marks: by table, a state in which no key that comes was there; a table without one is looked through each time.
        suspects: by table, keys that may have been there all the same.
        size: when a wave is worth a commit.
    """

    tables: Tables
    targets: Mapping[str, Table]
    subject: str
    fingerprint: str
    run: RunOf
    marks: dict[str, Mark] = field(default_factory=dict)
    suspects: Mapping[str, IdSet] = field(default_factory=dict)
    size: CommitSize = field(default_factory=CommitSize)

    def __post_init__(self) -> None:
        self.total = Tally()
        self.done: set[str] = set()
        self.lost: set[str] = set()
        self._seen: dict[str, PieceReceipt] = {}
        self._since = self._beaten = time.monotonic()
        self._waves = 0
        self._commit_s = 0.0
        self.staging = Staging(self.tables.root, self.run.id)
        self._beat()

    def look(self) -> list[PieceReceipt]:
        """The receipts that came since."""
        if time.monotonic() - self._beaten > _BEAT_S:
            self._beat()
        new = []
        for name in self.staging.names():
            if not name.endswith(RECEIPT) or name.removesuffix(RECEIPT) in self._seen:
                continue
            if name.removesuffix(RECEIPT) in self.done:  # another attempt, that came late
                self.staging.delete(name)
                continue
            data = self.staging.get(name)
            if data is not None:
                receipt = PieceReceipt.from_json(data)
                if not self._seen:
                    self._since = time.monotonic()
                self._seen[receipt.piece] = receipt
                new.append(receipt)
        return new

    @property
    def due(self) -> bool:
        """Whether a commit is worth it.

        A commit names every fragment, so it takes longer in a larger table: commits wait the longer, so that they take
        a small share of the time however far a run has come.
        """
        rows = sum(each.tally.counts.found for each in self._seen.values())
        waited = time.monotonic() - self._since
        if not self._seen or waited < _IDLE_SHARE * self._commit_s:
            return False
        return rows >= self.size.max_rows or waited > self.size.max_seconds

    def commit(self) -> None:
        """Commit what was looked at: rows, rejections and receipt, and then forget the notes."""
        wave = list(self._seen.values())
        if not wave:
            return
        since = time.monotonic()
        tally, lost = self._commit(wave)
        self._commit_s = time.monotonic() - since
        if lost:  # other tables may have rows of them already: from here on, look before each commit
            self.marks = {}
        self.total += tally
        self.lost |= lost
        self.done |= {each.piece for each in wave} - lost
        for each in wave:
            self.staging.delete(each.piece + RECEIPT)
        self._seen = {}
        self._waves += 1
        if self._waves % _TIDY_WAVES == 0:
            self.tidy()

    def adopt(self, receipts: Sequence[PieceReceipt]) -> Tally:
        """Commit receipts of another run, whose tables nobody watched since.

        Returns:
            What that came to; without the rejected, who are tried again.
        """
        marks, self.marks = self.marks, {}
        try:
            tally, _ = self._commit(receipts)
        finally:
            self.marks = marks
        return replace(tally, counts=Counts(added=tally.counts.added))

    def tidy(self) -> None:
        """Fold the small fragments that pieces leave."""
        for table in (*self.targets.values(), self.tables.receipts):
            table.tidy()

    def close(self) -> None:
        """The run is over. Notes that are not committed stay for the next run."""
        if any(name.endswith(RECEIPT) for name in self.staging.names()):
            self._beat(ended=True)
        else:
            self.staging.remove()

    def _commit(self, wave: Sequence[PieceReceipt]) -> tuple[Tally, set[str]]:
        since = time.monotonic()
        kept, lost, inserted = list(wave), set[str](), dict[str, int]()
        for name, table in self.targets.items():
            texts = [(each.piece, text) for each in kept for text in each.staged.get(name, ())]
            done = commit_staged(table, [text for _, text in texts], self.marks.get(name), self.suspects.get(name))
            if name in self.marks:
                self.marks[name] = done.mark
            inserted = {each.piece: 0 for each in kept}
            for (piece, _), rows in zip(texts, done.inserted, strict=True):
                if rows is None:
                    lost.add(piece)
                else:
                    inserted[piece] += rows
            kept = [each for each in kept if each.piece not in lost]
        tally = Tally()
        for each in kept:
            tally += _counted(each, inserted[each.piece], list(self.targets)[-1])
        write_rejections(self.tables, [rejection for each in kept for rejection in each.rejections])
        seconds = time.monotonic() - since
        write = tally.seconds.get("write", 0.0) + seconds
        tally = replace(tally, seconds={**tally.seconds, "write": write})
        if kept:
            write_receipt(
                self.tables, "extract", self.subject, self.fingerprint, tally.counts, seconds, self.run,
                stages=tally.seconds,
            )  # fmt: skip
        return tally, lost

    def _beat(self, *, ended: bool = False) -> None:
        """Say that this run lives, or that it ended."""
        self._beaten = time.monotonic()
        now = datetime.now(UTC).timestamp()
        told = {"host": socket.gethostname(), "pid": os.getpid(), "at": now, "ended": ended}
        self.staging.put(BEAT, json.dumps(told).encode(), replace=True)


def _counted(receipt: PieceReceipt, inserted: int, last: str) -> Tally:
    """The tally of a piece, of which so many rows were new to the table that says what is done."""
    counts = receipt.tally.counts
    rows = sum(int(json.loads(text)["rows"]) for text in receipt.staged.get(last, ()))
    known = 0
    if rows == counts.added:  # a row a picture
        known = rows - inserted
    elif rows and not inserted:
        known = counts.added
    return replace(receipt.tally, counts=Counts(counts.added - known, counts.known + known, counts.rejected))


def left_behind(root: str, fingerprint: str) -> list[tuple[Staging, list[PieceReceipt]]]:
    """What runs of the same work staged that died before it was committed. Runs that live are left alone.

    Notes of other work stay for its next run, for a week.
    """
    found = []
    for run in runs(root):
        staging = Staging(root, run)
        beat = json.loads(staging.get(BEAT) or b"{}")
        if _lives(beat):
            continue
        notes = (staging.get(name) for name in staging.names() if name.endswith(RECEIPT))
        receipts = [PieceReceipt.from_json(note) for note in notes if note is not None]
        mine = [each for each in receipts if each.fingerprint == fingerprint]
        if mine or not receipts:
            found.append((staging, mine))
        elif datetime.now(UTC).timestamp() - beat.get("at", 0.0) > _FORGET_S:
            staging.remove()
    return found


def forget_left_behind(root: str) -> None:
    """Remove what dead runs staged, before images are deleted: their next run does the work again without those."""
    for run in runs(root):
        staging = Staging(root, run)
        if not _lives(json.loads(staging.get(BEAT) or b"{}")):
            staging.remove()


def _lives(beat: Mapping[str, object]) -> bool:
    at, pid = beat.get("at"), beat.get("pid")
    if beat.get("ended") or not isinstance(at, float) or datetime.now(UTC).timestamp() - at > _DEAD_S:
        return False
    if beat.get("host") != socket.gethostname() or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def marks_of(targets: Mapping[str, Table]) -> dict[str, Mark]:
    """The tables as they are now."""
    return {name: mark_of(table) for name, table in targets.items()}


def suspects_of(targets: Mapping[str, Table], done: Done, outcome: Outcome) -> dict[str, IdSet]:
    """Keys that are there of images that are not done: of other work, or of a run that died between two tables."""
    found = {}
    for name, table in targets.items():
        columns = table.schema.names
        of_image = "image_id" if "image_id" in columns else "id"
        mine = outcome.pipeline.detection_fingerprint
        where = f"fingerprint = '{mine}'" if "fingerprint" in columns and mine else None
        ids = []
        for batch in table.scan(["id", of_image] if of_image != "id" else ["id"], where, batch_rows=65536):
            left = ~done.contains(batch.column(of_image))
            if left.any():
                ids.append(batch.column("id").filter(pa.array(left)))
        if ids:
            found[name] = IdSet(ids)
    return found
