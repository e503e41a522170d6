"""The journal of events: each is on the disk before it is answered for, and is done, or dead with its reason, once.

One file of SQLite beside the lake. It survives a kill and a power cut (`synchronous=FULL`); the process that works on
the events holds a lock, and others may look and replay at the same time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from imagelake.errors import InputError, LakeError, LakeFullError, LakeReadOnlyError
from imagelake.serve.event_states import Claimed, DeadLetter, RetryOptions, is_before
from imagelake.serve.event_upload import UploadEvent, from_json, to_json

_FILE = "journal.sqlite"
_FORMAT = 1
_BUSY_S = 30.0

_TABLES = """
CREATE TABLE IF NOT EXISTS events (
    key TEXT PRIMARY KEY, event TEXT NOT NULL, uri TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
    next_at REAL NOT NULL, claimed INTEGER NOT NULL, reason TEXT, accepted_at REAL NOT NULL, changed_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due ON events (state, claimed, next_at);
CREATE TABLE IF NOT EXISTS newest (uri TEXT PRIMARY KEY, sequencer TEXT, happened_at TEXT) WITHOUT ROWID;
"""


class Journal:
    """The events and their states. For several threads, and beside other processes.

    A class because it holds a connection and, for whoever works on the events, a lock. Close it.

    Args:
        folder: where it is.
        works: whether this process is to work on the events; one at a time may. Only then it is made.
        retry: how often an event is tried.

    Raises:
        InputError: there is none.
        LakeError: another process works on them, or the folder cannot be used.
    """

    def __init__(self, folder: Path, *, works: bool = False, retry: RetryOptions | None = None) -> None:
        self.folder = folder
        self.retry = retry or RetryOptions()
        self._guard = threading.Lock()
        self._lock: int | None = None
        if not works and not (folder / _FILE).exists():
            raise InputError(f"{folder} has no journal: no events came here. Give the --lake or --state where they do.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if works:
                self._lock = _locked(folder)
            file = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # addresses may be signed
            os.close(file)
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
        found = run("PRAGMA user_version").fetchone()[0]
        if found not in {0, _FORMAT}:
            raise LakeError(f"{self.folder} is a journal of format {found}; this imagelake reads {_FORMAT}. Update it.")
        self._connection.executescript(_TABLES)
        run(f"PRAGMA user_version={_FORMAT}")
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
            LakeFullError: no space is left; none was kept.
            LakeError: the disk failed; none was kept.
        """
        if not events:
            return 0
        now = time.time()
        rows = [(event.key, to_json(event), event.uri, now, now, now) for event in events]
        with self._transaction() as run:
            before = run.total_changes
            run.executemany(
                "INSERT INTO events VALUES (?, ?, ?, 'waiting', 0, ?, 0, NULL, ?, ?) ON CONFLICT (key) DO NOTHING", rows
            )
            return run.total_changes - before

    def claim(self, most: int) -> list[Claimed]:
        """Take events that are due, those that wait longest first.

        The attempt counts even where the process dies of it; one that died of its last is dead.
        """
        now = time.time()
        with self._transaction() as run:
            run.execute(
                "UPDATE events SET state = 'dead', changed_at = ?, reason = 'the process died of the last attempt' "
                "WHERE state = 'waiting' AND claimed = 0 AND next_at <= ? AND attempts >= ?",
                (now, now, self.retry.attempts),
            )
            found = run.execute(
                "SELECT key, event, attempts FROM events WHERE state = 'waiting' AND claimed = 0 AND next_at <= ? "
                "ORDER BY next_at LIMIT ?",
                (now, most),
            ).fetchall()
            run.executemany(
                "UPDATE events SET claimed = 1, attempts = attempts + 1 WHERE key = ?", [(key,) for key, *_ in found]
            )
        return [Claimed(from_json(event), attempts + 1) for _, event, attempts in found]

    def next_due_s(self) -> float | None:
        """In how many seconds the next event is due, 0 for now; None where none waits."""
        with self._ours():
            found = self._connection.execute(
                "SELECT min(next_at) FROM events WHERE state = 'waiting' AND claimed = 0"
            ).fetchone()[0]
        return None if found is None else max(0.0, found - time.time())

    def is_overtaken(self, event: UploadEvent) -> bool:
        """Whether a newer event of the same object is done, by the sequencers or, where one has none, by time."""
        with self._ours():
            found = self._connection.execute(
                "SELECT sequencer, happened_at FROM newest WHERE uri = ?", (event.uri,)
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
                    "UPDATE events SET state = 'done', claimed = 0, reason = NULL, changed_at = ? WHERE key = ?",
                    (now, event.key),
                )
                known = run.execute("SELECT sequencer, happened_at FROM newest WHERE uri = ?", (event.uri,)).fetchone()
                moment = event.happened_at.isoformat() if event.happened_at else None
                if known and is_before(event, known[0], datetime.fromisoformat(known[1]) if known[1] else None):
                    continue
                run.execute("INSERT OR REPLACE INTO newest VALUES (?, ?, ?)", (event.uri, event.sequencer, moment))

    def ignore(self, event: UploadEvent, reason: str) -> None:
        """Nothing is done about an event."""
        self._settle(event.key, "ignored", reason)

    def _settle(self, key: str, state: str, reason: str) -> None:
        with self._transaction() as run:
            run.execute(
                "UPDATE events SET state = ?, claimed = 0, reason = ?, changed_at = ? WHERE key = ?",
                (state, reason, time.time(), key),
            )

    def fail(self, claimed: Claimed, reason: str, *, again: bool) -> bool:
        """An attempt failed: try it again later, or give it up where that is of no use or it was tried often enough.

        Returns:
            Whether it is dead.
        """
        dead = not again or claimed.attempt >= self.retry.attempts
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
            found = dict(self._connection.execute("SELECT state, count(*) FROM events GROUP BY state").fetchall())
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
                "DELETE FROM events WHERE state IN ('done', 'ignored') AND changed_at < ?", (before,)
            ).rowcount
            run.execute("DELETE FROM newest WHERE uri NOT IN (SELECT uri FROM events)")
        return gone


def _locked(folder: Path) -> int:
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise LakeError(
            f"Another process works on the events in {folder}. One at a time may; stop that one, or post to it."
        ) from error
    return lock


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
