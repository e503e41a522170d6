"""The tables of the journal of events, and the lock of whoever works on them."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from imagelake.errors import LakeError

_FORMAT = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS events (
    key TEXT PRIMARY KEY, event TEXT NOT NULL, uri TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
    next_at REAL NOT NULL, claimed INTEGER NOT NULL, reason TEXT, accepted_at REAL NOT NULL, changed_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due ON events (state, claimed, next_at);
CREATE TABLE IF NOT EXISTS latest (
    uri TEXT PRIMARY KEY, sequencer TEXT, happened_at TEXT, done_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tally (state TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO tally SELECT column1, (SELECT count(*) FROM events WHERE state = column1)
    FROM (VALUES ('waiting'), ('done'), ('dead'), ('ignored')) WHERE NOT EXISTS (SELECT 1 FROM tally);
CREATE TRIGGER IF NOT EXISTS came AFTER INSERT ON events BEGIN
    UPDATE tally SET number = number + 1 WHERE state = new.state;
END;
CREATE TRIGGER IF NOT EXISTS changed AFTER UPDATE OF state ON events WHEN old.state <> new.state BEGIN
    UPDATE tally SET number = number - 1 WHERE state = old.state;
    UPDATE tally SET number = number + 1 WHERE state = new.state;
END;
CREATE TRIGGER IF NOT EXISTS went AFTER DELETE ON events BEGIN
    UPDATE tally SET number = number - 1 WHERE state = old.state;
END;
"""  # `next_at` of one that is done or ignored is when it became so


def make_tables(connection: sqlite3.Connection, folder: Path) -> None:
    """Make those that are missing.

    Raises:
        LakeError: they are of a later format.
        sqlite3.Error: it is no journal.
    """
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found not in {0, _FORMAT}:
        raise LakeError(f"{folder} is a journal of format {found}; this imagelake reads {_FORMAT}. Update it.")
    connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
    connection.execute(f"PRAGMA user_version={_FORMAT}")


def lock_folder(folder: Path) -> int:
    """An open file that holds the lock until it is closed.

    Raises:
        LakeError: another process holds it.
    """
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise LakeError(
            f"Another process works on the events in {folder}. One at a time may; stop that one, or post to it."
        ) from error
    return lock
