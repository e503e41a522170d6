"""Work in threads: NumPy and the compiled loops let go of the interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from imagelake.errors import SearchError

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def thread_count(threads: int | None) -> int:
    """`threads`, or as many as this process may use.

    Raises:
        SearchError: fewer than one.
    """
    if threads is not None:
        if threads < 1:
            raise SearchError(f"{threads} threads cannot search; give 1 or more, or None for all there are.")
        return threads
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def in_threads(work: Callable[[Piece], Result], pieces: Sequence[Piece], threads: int) -> list[Result]:
    """What `work` makes of each piece, in order. `work` must not call this itself."""
    if threads == 1 or len(pieces) <= 1:
        return [work(piece) for piece in pieces]
    try:
        waiting = [_pool(os.getpid(), threads).submit(work, piece) for piece in pieces]
    except RuntimeError:  # the interpreter is ending, and starts no more threads
        return [work(piece) for piece in pieces]
    return [each.result() for each in waiting]


@lru_cache(maxsize=8)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:  # noqa: ARG001  (threads do not survive a fork)
    """Threads that are kept: starting them takes as long as searching for one query."""
    return ThreadPoolExecutor(threads, thread_name_prefix="imagelake-search")


def slices(count: int, size: int) -> list[slice]:
    """`range(count)` in pieces of at most `size`."""
    return [slice(start, min(count, start + size)) for start in range(0, count, size)]
