"""The journal of events: each is on the disk before it is answered for, and is done, or dead with its reason, once.

One file of SQLite beside the lake. It survives a kill and a power cut (`synchronous=FULL`); the process that works on
the events holds a lock, and others may look and replay at the same time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from imagelake.errors import BusyError, InputError, LakeError, LakeFullError, LakeReadOnlyError
from imagelake.lake.sync import sync_names
from imagelake.serve.event_states import Claimed, DeadLetter, RetryOptions, is_before
from imagelake.serve.event_tables import lock_folder, make_tables
from imagelake.serve.event_upload import UploadEvent, from_json, to_json

MOST_WAITING = 1_000_000
_FILE = "journal.sqlite"
_BUSY_S = 30.0
_AHEAD_S = 1.0  # a clock that was set back by less makes nobody wait longer than a pause
_SPARE_BYTES = 256 << 20


class Journal:
    """The events and their states. For several threads, and beside other processes.

    A class because it holds a connection and, for whoever works on the events, a lock. Close it.

    Args:
        folder: where it is.
        works: whether this process is to work on the events; one at a time may. Only then it is made.
        retry: how often an event is tried.
        most_waiting: beyond so many no new ones are kept.
        spare_bytes: of the disk, that are left to others.

    Raises:
        InputError: there is none.
        LakeError: another process works on them, or the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        works: bool = False,
        retry: RetryOptions | None = None,
        most_waiting: int = MOST_WAITING,
        spare_bytes: int = _SPARE_BYTES,
    ) -> None:
        self.folder = folder
        self.retry = retry or RetryOptions()
        self._most_waiting, self._spare_bytes = most_waiting, spare_bytes
        self._guard = threading.Lock()
        self._lock: int | None = None
        if not works and not (folder / _FILE).exists():
            raise InputError(f"{folder} has no journal: no events came here. Give the --lake or --state where they do.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if works:
                self._lock = lock_folder(folder)
            file = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # addresses may be signed
            os.close(file)
            sync_names(folder, folder.parent)
        except OSError as error:
            raise LakeReadOnlyError(
                f"{folder} cannot be written: {error.strerror}. Allow it, or give --state."
            ) from error
        self._connection = sqlite3.connect(
            folder / _FILE, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            with self._ours():
                self._open(works=works)
        except BaseException:
            self.close()
            raise

    def _open(self, *, works: bool) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")
        make_tables(self._connection, self.folder)
        if works:
            # What a killed process had is anybody's; a clock that was set back makes nobody wait.
            latest = time.time() + self.retry.longest_pause_s
            run("UPDATE events SET claimed = 0, next_at = min(next_at, ?) WHERE state = 'waiting'", (latest,))

    def close(self) -> None:
        """Let others work on the events."""
        with self._guard:
            self._connection.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    @contextlib.contextmanager
    def _ours(self) -> Iterator[None]:
        """One thread at a time, and errors of the library as ours."""
        with self._guard:
            try:
                yield
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorname", "").startswith("SQLITE_FULL"):
                    raise LakeFullError(f"No space is left for {self.folder}. Nothing was lost; free some.") from error
                raise LakeError(f"{self.folder}: {error}. Nothing was changed.") from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._ours():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def accept(self, events: Sequence[UploadEvent]) -> int:
        """Keep events that are not known yet; when this returns, the disk has them.

        Returns:
            How many were new.

        Raises:
            BusyError: too many wait; none was kept.
            LakeFullError: hardly any space is left; none was kept.
            LakeError: the disk failed; none was kept.
        """
        if not events:
            return 0
        if shutil.disk_usage(self.folder).free < self._spare_bytes:
            raise LakeFullError(f"Hardly any space is left for {self.folder}. Nothing was lost; free some.")
        now = time.time()
        rows = [(event.key, to_json(event), event.uri, now, now, now) for event in events]
        with self._transaction() as run:
            before = _waiting(run)
            run.executemany(
                "INSERT INTO events VALUES (?, ?, ?, 'waiting', 0, ?, 0, NULL, ?, ?) ON CONFLICT (key) DO NOTHING", rows
            )
            waiting = _waiting(run)
            if before < waiting > self._most_waiting:
                raise BusyError(f"{before:,} events wait, and at most {self._most_waiting:,} may. Send it again later.")
            return waiting - before

    def claim(self, most: int) -> list[Claimed]:
        """Take events that are due, those that wait longest first.

        The attempt counts even where the process dies of it; one that died of its last is dead.
        """
        now = time.time()
        with self._transaction() as run:
            run.execute(  # a clock that was set back makes nobody wait
                "UPDATE events SET next_at = ? WHERE state = 'waiting' AND claimed = 0 AND next_at > ?",
                (now, now + self._farthest_s),
            )
            found = run.execute(
                "SELECT key, event, attempts FROM events WHERE state = 'waiting' AND claimed = 0 AND next_at <= ? "
                "ORDER BY next_at LIMIT ?",
                (now, most),
            ).fetchall()
            run.executemany(
                "UPDATE events SET state = 'dead', changed_at = ?, reason = 'the process died of the last attempt' "
                "WHERE key = ?", [(now, key) for key, _, attempts in found if attempts >= self.retry.attempts],
            )  # fmt: skip
            found = [each for each in found if each[2] < self.retry.attempts]
            run.executemany(
                "UPDATE events SET claimed = 1, attempts = attempts + 1 WHERE key = ?", [(key,) for key, *_ in found]
            )
        return [Claimed(from_json(event), attempts + 1) for _, event, attempts in found]

    @property
    def _farthest_s(self) -> float:
        """What is due later than in so many seconds was put off by a clock that was set back since."""
        return self.retry.longest_pause_s + _AHEAD_S

    def next_due_s(self) -> float | None:
        """In how many seconds the next event is due, 0 for now; None where none waits."""
        with self._ours():
            first, last = (
                self._connection.execute(
                    f"SELECT {which}(next_at) FROM events WHERE state = 'waiting' AND claimed = 0"  # noqa: S608
                ).fetchone()[0]
                for which in ("min", "max")
            )
        if first is None:
            return None
        now = time.time()
        return 0.0 if last > now + self._farthest_s else max(0.0, first - now)

    def is_overtaken(self, event: UploadEvent) -> bool:
        """Whether a newer event of the same object is done, by the sequencers or, where one has none, by time."""
        with self._ours():
            found = self._connection.execute(
                "SELECT sequencer, happened_at FROM latest WHERE uri = ?", (event.uri,)
            ).fetchone()
        if found is None:
            return False
        return is_before(event, found[0], datetime.fromisoformat(found[1]) if found[1] else None)

    def finish(self, events: Sequence[UploadEvent]) -> None:
        """Events are done: their predictions are in the lake and on the disk."""
        now = time.time()
        with self._transaction() as run:
            for event in events:
                run.execute(
                    "UPDATE events SET state = 'done', claimed = 0, reason = NULL, changed_at = ?, next_at = ? "
                    "WHERE key = ?", (now, now, event.key),
                )  # fmt: skip
                known = run.execute("SELECT sequencer, happened_at FROM latest WHERE uri = ?", (event.uri,)).fetchone()
                moment = _not_after(event.happened_at, now)
                if known and is_before(event, known[0], datetime.fromisoformat(known[1]) if known[1] else None):
                    continue
                run.execute(
                    "INSERT OR REPLACE INTO latest VALUES (?, ?, ?, ?)", (event.uri, event.sequencer, moment, now)
                )

    def ignore(self, event: UploadEvent, reason: str) -> None:
        """Nothing is done about an event."""
        self._settle(event.key, "ignored", reason)

    def _settle(self, key: str, state: str, reason: str) -> None:
        now = time.time()
        with self._transaction() as run:
            run.execute(
                "UPDATE events SET state = ?, claimed = 0, reason = ?, changed_at = ?, next_at = ? WHERE key = ?",
                (state, reason, now, now, key),
            )

    def fail(self, claimed: Claimed, reason: str, *, again: bool, lasting: bool = False) -> bool:
        """An attempt failed: try it again later, or give it up where that is of no use or it was tried often enough.

        Args:
            claimed: the event.
            reason: why.
            again: whether another try is of any use.
            lasting: whether only a few are.

        Returns:
            Whether it is dead.
        """
        dead = not again or self.retry.is_last(claimed.attempt, lasting=lasting)
        if dead:
            self._settle(claimed.event.key, "dead", reason)
            return True
        next_at = time.time() + self.retry.pause_s(claimed.attempt)
        with self._transaction() as run:
            run.execute(
                "UPDATE events SET claimed = 0, reason = ?, next_at = ?, changed_at = ? WHERE key = ?",
                (reason, next_at, time.time(), claimed.event.key),
            )
        return False

    def release(self, events: Sequence[UploadEvent]) -> None:
        """Give claimed events back, as if they had not been tried."""
        with self._transaction() as run:
            run.executemany(
                "UPDATE events SET claimed = 0, attempts = attempts - 1 WHERE key = ? AND claimed = 1",
                [(event.key,) for event in events],
            )

    def counts(self) -> dict[str, int]:
        """How many events are `waiting`, `done`, `dead` and `ignored`."""
        with self._ours():
            found = dict(self._connection.execute("SELECT state, number FROM tally").fetchall())
        return {state: int(found.get(state, 0)) for state in ("waiting", "done", "dead", "ignored")}

    def dead(self, most: int = 1000) -> list[DeadLetter]:
        """The events that were given up, the oldest first."""
        with self._ours():
            found = self._connection.execute(
                "SELECT key, event, attempts, reason, changed_at FROM events WHERE state = 'dead' "
                "ORDER BY changed_at, key LIMIT ?", (most,),
            ).fetchall()  # fmt: skip
        return [
            DeadLetter(key, from_json(event), attempts, reason or "", datetime.fromtimestamp(died_at, UTC))
            for key, event, attempts, reason, died_at in found
        ]

    def replay(self, keys: Sequence[str] = ()) -> int:
        """Let dead events be tried again, as often as a new one; whoever works on the events sees it within seconds.

        Args:
            keys: of dead letters, or how they begin; none: all.

        Returns:
            How many.

        Raises:
            InputError: no dead letter, or more than one, begins so.
        """
        with self._transaction() as run:
            chosen = [_one(run, key) for key in keys]
            again = "UPDATE events SET state = 'waiting', claimed = 0, attempts = 0, next_at = 0, changed_at = ?"
            if not keys:
                return run.execute(f"{again} WHERE state = 'dead'", (time.time(),)).rowcount
            run.executemany(f"{again} WHERE key = ?", [(time.time(), key) for key in set(chosen)])
            return len(set(chosen))

    def forget(self, older_than_s: float) -> int:
        """Drop what was done or ignored that long ago; the same event would count as new. Dead letters stay."""
        before = time.time() - older_than_s
        with self._transaction() as run:
            gone = run.execute(
                "DELETE FROM events WHERE state IN ('done', 'ignored') AND claimed = 0 AND next_at < ?", (before,)
            ).rowcount
            run.execute("DELETE FROM latest WHERE done_at < ?", (before,))
        return gone


def _waiting(run: sqlite3.Connection) -> int:
    return int(run.execute("SELECT number FROM tally WHERE state = 'waiting'").fetchone()[0])


def _not_after(moment: datetime | None, now: float) -> str | None:
    """A moment for comparing; one that a wrong clock put into the future would overtake all that come after it."""
    return min(moment, datetime.fromtimestamp(now, UTC)).isoformat() if moment else None


def _one(run: sqlite3.Connection, beginning: str) -> str:
    found = run.execute(
        "SELECT key FROM events WHERE state = 'dead' AND substr(key, 1, ?) = ? LIMIT 2", (len(beginning), beginning)
    ).fetchall()
    if len(found) != 1 or not beginning:
        many = "more than one" if found else "no"
        raise InputError(
            f"There is {many} dead letter whose key begins with {beginning!r}. `imagelake events dead` lists them."
        )
    return str(found[0][0])
