"""Go on ingesting what comes: look at what is there, wait until it is whole, commit."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from imagelake.errors import InputError, LakeConflictError
from imagelake.lake.tables import Tables
from imagelake.run.ingest import IngestReport, ingest
from imagelake.run.progress import Progress, Silent
from imagelake.sources.folder import Folder
from imagelake.sources.folder_changes import changed_files
from imagelake.sources.source import Source, Watchable

_TICK_S = 0.25
_MOST_AT_ONCE = 10_000
_AGAIN_S = 2.0
_UNREAD_AGAIN_S = 60.0  # the wait before the first further try; it doubles with each
_UNREAD_LONGEST_S = 3600.0


@dataclass(frozen=True)
class WatchOptions:
    """How to watch.

    Attributes:
        look_every_s: a whole listing is compared after so many seconds. Of folders the system tells changes at once,
            and this finds what it did not tell; of buckets this is all there is.
        settle_s: a file that is still being written is left alone until it did not change for so long.
        wrap: what to make of each source before it is read.
    """

    look_every_s: float = 60.0
    settle_s: float = 1.0
    wrap: Callable[[Source], Source] = lambda source: source


@dataclass
class _Watched:
    """What is known of one source. Marks say which state of a picture was read, or is waited for."""

    source: Watchable
    done: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, tuple[str, float]] = field(default_factory=dict)  # the mark, and since when it is the same
    tries: dict[str, int] = field(default_factory=dict)  # of those that could not be read

    def notice(self, uri: str, mark: str | None, now: float) -> None:
        """Somebody says that this picture is so now."""
        if mark is None:
            self.waiting.pop(uri, None)
            self.done.pop(uri, None)
        elif self.done.get(uri) != mark and self.waiting.get(uri, ("", 0.0))[0] != mark:
            self.waiting[uri] = mark, now

    def look(self, now: float) -> None:
        """Compare with everything that is there."""
        for uri, mark in self.source.listing():
            self.notice(uri, mark, now)

    def finish(self, uris: Sequence[str]) -> None:
        """They were ingested as they were."""
        for uri in uris:
            self.done[uri], _ = self.waiting.pop(uri)

    def again(self, unread: set[str], now: float) -> None:
        """Try those again in some time that could not be read, which may pass; each time after a longer one."""
        self.tries = {uri: self.tries.get(uri, 0) + (uri in self.done) for uri in unread}
        for uri in unread & self.done.keys():
            wait_s = min(_UNREAD_AGAIN_S * 2.0 ** (self.tries[uri] - 1), _UNREAD_LONGEST_S)
            self.waiting[uri] = self.done.pop(uri), now + wait_s

    def _now(self, uri: str, mark: str) -> str | None:
        """The mark as it is now. An object in a bucket is whole from the moment it is there."""
        return self.source.mark(uri) if isinstance(self.source, Folder) else mark

    def whole(self, now: float, settle_s: float) -> list[str]:
        """Those that did not change for some time; each is asked again."""
        ready = []
        for uri, (mark, since) in list(self.waiting.items()):
            if now - since < settle_s:
                continue
            current = self._now(uri, mark)
            if current == mark:
                ready.append(uri)
                if len(ready) == _MOST_AT_ONCE:
                    break
            else:
                self.notice(uri, current, now)
        return ready


def watch(
    tables: Tables,
    sources: Sequence[Source],
    stop: threading.Event,
    options: WatchOptions | None = None,
    progress: Progress | None = None,
) -> Iterator[IngestReport]:
    """Ingest what is there, then what comes, until `stop` is set; a report for the beginning and for each commit after.

    It starts with all that is there, so nothing is lost while nobody watches. What is deleted from a folder stays in
    the lake. What is no picture is tried again when it changes; what could not be read at all, also after a minute,
    then after two, at last every hour.

    Raises:
        InputError: a source cannot be watched, or cannot be read at the beginning.
        LakeFullError and others: of `ingest`; what was committed is whole.
    """
    options, progress = options or WatchOptions(), progress or Silent()
    watched = []
    for source in sources:
        if not isinstance(source, Watchable):
            raise InputError(f"{source.name} cannot be watched; a folder and a bucket can. Leave --watch out.")
        watched.append(_Watched(source, dict(source.listing())))
    hints: queue.SimpleQueue[tuple[_Watched, str]] = queue.SimpleQueue()
    threads = [_listen(each, hints, stop) for each in watched if isinstance(each.source, Folder)]
    try:
        for each, source in zip(watched, sources, strict=True):
            report = ingest(tables, options.wrap(source), progress)
            if report.rejected:
                each.again(_unread(tables), time.monotonic())
            yield report
        yield from _follow(tables, watched, hints, stop, options, progress)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def summed(reports: Sequence[IngestReport]) -> IngestReport:
    """Several reports as one, under the name of the first."""
    first = reports[0]
    found, added, known, rejected, seconds = (
        sum(getattr(report, name) for report in reports) for name in ("found", "added", "known", "rejected", "seconds")
    )
    rate = round(found / seconds, 1) if seconds else 0.0
    return IngestReport(first.source, found, added, known, rejected, round(seconds, 3), rate, first.went_on_after)


def _follow(
    tables: Tables,
    watched: Sequence[_Watched],
    hints: queue.SimpleQueue[tuple[_Watched, str]],
    stop: threading.Event,
    options: WatchOptions,
    progress: Progress,
) -> Iterator[IngestReport]:
    next_look = 0.0
    while not stop.is_set():
        now = time.monotonic()
        if now >= next_look:
            for each in watched:
                _look(each, now, progress)
            next_look = time.monotonic() + options.look_every_s
        for each, uri in _taken(hints):
            if isinstance(each.source, Folder):
                each.notice(uri, each.source.mark(uri), now)
        for each in watched:
            ready = each.whole(now, options.settle_s if isinstance(each.source, Folder) else 0.0)
            if ready:
                try:
                    report = ingest(tables, options.wrap(each.source.only(ready)), progress)
                except (InputError, LakeConflictError) as error:  # a store that is away, another writer
                    progress.say(f"{error} Trying again.")
                    stop.wait(_AGAIN_S)
                    continue
                each.finish(ready)
                if report.rejected:
                    each.again(_unread(tables), now)
                if report.found:
                    yield report
        stop.wait(_TICK_S)


def _unread(tables: Tables) -> set[str]:
    """What could not be read at all, which may pass; what is read and is no picture stays so."""
    return set(tables.rejections.read(["uri"], "stage = 'read'").column("uri").to_pylist())


def _look(each: _Watched, now: float, progress: Progress) -> None:
    try:
        each.look(now)
    except InputError as error:  # a store that is away for a while
        progress.say(f"{error} Trying again.")


def _taken(hints: queue.SimpleQueue[tuple[_Watched, str]]) -> Iterator[tuple[_Watched, str]]:
    try:
        while True:
            yield hints.get_nowait()
    except queue.Empty:
        return


def _listen(
    watched: _Watched, hints: queue.SimpleQueue[tuple[_Watched, str]], stop: threading.Event
) -> threading.Thread:
    folder = watched.source
    if not isinstance(folder, Folder):
        raise TypeError(type(folder))

    def listen() -> None:
        for uris in changed_files(folder.path, stop):
            for uri in uris:
                hints.put((watched, uri))

    thread = threading.Thread(target=listen, name="imagelake-watch", daemon=True)
    thread.start()
    return thread
