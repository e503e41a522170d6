"""Waiting until the disk has what a commit wrote: the table format itself syncs nothing."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from imagelake.files import is_remote
from imagelake.lake.failures import our_errors
from imagelake.lake.table import Table

_CLOCK_S = 2.0  # file systems stamp with a coarser clock than ours


@dataclass(frozen=True)
class Since:
    """When a commit began: now, where it is made. It stays right where the clock is set meanwhile."""

    clock_s: float = field(default_factory=time.time)
    steady_s: float = field(default_factory=time.monotonic)

    def earliest_s(self) -> float:
        """What no file that was made since is stamped before, by the clock before and after it was set."""
        return min(self.clock_s, time.time() - (time.monotonic() - self.steady_s)) - _CLOCK_S


def sync_table(table: Table, since: Since) -> None:
    """Wait until the disk has the files of a table that commits since then made.

    A table in a bucket has nothing to wait for: its files are whole when they are there.
    """
    if is_remote(table.uri):
        return
    with our_errors(table.uri):
        _sync_below(Path(table.uri), since.earliest_s())
        _sync(table.uri)


def sync_names(*folders: Path) -> None:
    """Wait until the disk has the names in some folders."""
    for folder in folders:
        _sync(folder)


def _sync_below(folder: Path, since_s: float) -> None:
    fresh = False
    for entry in os.scandir(folder):
        try:
            if entry.is_dir(follow_symlinks=False):
                _sync_below(Path(entry.path), since_s)
            if entry.stat(follow_symlinks=False).st_mtime < since_s:
                continue
            fresh = True
            if entry.is_file(follow_symlinks=False):
                _sync(entry.path)
        except FileNotFoundError:
            continue  # another process tidied
    if fresh:
        _sync(folder)


def _sync(path: str | Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
