"""Pictures at web addresses, many fetched at a time."""

from __future__ import annotations

import heapq
import itertools
import queue
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pyarrow as pa

from imagelake.errors import InputError
from imagelake.sources.folder import BATCH_BYTES, BATCH_ROWS
from imagelake.sources.rows import Row, to_batch
from imagelake.sources.url_list import Address, UrlList
from imagelake.sources.web_answer import Answer, FetchLimits
from imagelake.sources.web_fetch import Budget, Fetcher
from imagelake.sources.web_guard import Guard, Target, parse_target, without_user

_TICK_S = 0.2
_FASTER = 1.0  # by how many places a host's limit rises in as many answers as it has places


@dataclass(frozen=True)
class WebOptions:
    """How pictures are fetched.

    Attributes:
        in_flight: how many at a time.
        per_host: how many at a time of one host; fewer while it asks to be spared.
        waiting_bytes: how many may wait, half fetched or fetched and not yet consumed; one picture may exceed it.
        retries: further tries after one that failed for a reason that may pass.
        backoff_s: the wait before the first of them; it doubles with each, and a random part of it is added or taken.
        longest_wait_s: the longest wait before a try, also where a server asks for a longer one.
        limits: what one picture may take.
        guard: which hosts may be asked.

    Raises:
        InputError: a number is out of range.
    """

    in_flight: int = 64
    per_host: int = 32
    waiting_bytes: int = 64 << 20
    retries: int = 3
    backoff_s: float = 0.5
    longest_wait_s: float = 60.0
    limits: FetchLimits = field(default_factory=FetchLimits)
    guard: Guard = field(default_factory=Guard)

    def __post_init__(self) -> None:
        for name, least in (("in_flight", 1), ("per_host", 1), ("waiting_bytes", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        for name in ("backoff_s", "longest_wait_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or more seconds.")


@dataclass(frozen=True)
class Web:
    """The pictures at addresses of `http` and `https`, in the order in which they come.

    Each address is one row: its picture, or the reason why there is none. User and password in an address
    (`http://user:password@host/`) are used and not kept. Proxies of the environment are not used. Batches may be
    empty: they let whoever reads see that time passes while servers stall.

    Raises:
        InputError: `addresses` is one text.
    """

    addresses: Sequence[str | Address] | UrlList
    options: WebOptions = field(default_factory=WebOptions)

    def __post_init__(self) -> None:
        if isinstance(self.addresses, str):
            raise InputError("Web takes a list of addresses, and was given one text. Write [address].")

    @property
    def name(self) -> str:
        """The list's URI, or the first address and how many more there are."""
        if isinstance(self.addresses, UrlList):
            return self.addresses.name
        if not self.addresses:
            return "no addresses"
        first = without_user(_address(self.addresses[0]).url)
        return first if len(self.addresses) == 1 else f"{first} and {len(self.addresses) - 1:,} more"

    def estimate(self) -> int | None:
        """How many addresses there are; None for a CSV."""
        return self.addresses.estimate() if isinstance(self.addresses, UrlList) else len(self.addresses)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches of `schema.SOURCE`."""
        crew = _Crew(iter(map(_address, self.addresses)), self.options)
        rows: list[Row] = []
        batch_bytes = min(BATCH_BYTES, self.options.waiting_bytes // 4)
        held_bytes, since = 0, time.monotonic()
        try:
            for row in crew.rows():
                if row is not None:
                    rows.append(row)
                    held_bytes += len(row.data or b"")
                waited = row is None or time.monotonic() - since >= _TICK_S
                if waited or len(rows) == BATCH_ROWS or (held_bytes and held_bytes >= batch_bytes):
                    yield to_batch(rows)
                    crew.budget.consume(held_bytes)
                    rows, held_bytes, since = [], 0, time.monotonic()
            if rows:
                yield to_batch(rows)
        finally:
            crew.close()


@dataclass(frozen=True)
class _Job:
    """A picture to fetch."""

    target: Target
    metadata: str | None
    tries: int = 0
    talked_s: float = 0.0


@dataclass
class _Host:
    """What waits for a host, and how many requests it bears."""

    places: float
    waiting: deque[_Job] = field(default_factory=deque)
    busy: int = 0
    paused_until: float = 0.0


class _Crew:
    """Hands jobs to threads, host by host, and takes what they bring. All but `_work` runs in one thread."""

    def __init__(self, addresses: Iterator[Address], options: WebOptions) -> None:
        self.options = options
        self.budget = Budget(options.waiting_bytes)
        self._fetcher = Fetcher(options.limits, options.guard, self.budget, options.per_host)
        self._pool = ThreadPoolExecutor(options.in_flight, thread_name_prefix="imagelake-web")
        self._addresses = addresses
        self._ended = False
        self._hosts: dict[tuple[str, str, int], _Host] = {}
        self._delayed: list[tuple[float, int, _Job]] = []  # a heap: when, a number that decides ties, what
        self._numbers = itertools.count()
        self._busy = 0
        self._open = 0  # jobs taken from the list and not yet answered
        self._brought: queue.SimpleQueue[tuple[_Job, Answer | BaseException]] = queue.SimpleQueue()

    def close(self) -> None:
        """End all threads."""
        self._fetcher.close()
        self._pool.shutdown(cancel_futures=True)

    def rows(self) -> Iterator[Row | None]:
        """A row for each address; None whenever nothing has come for a while."""
        looked = time.monotonic()
        while True:
            yield from self._take_addresses()
            self._start()
            if self._open == 0:
                return
            now = time.monotonic()
            if now - looked >= _TICK_S:
                looked = now
                self._fetcher.watch.cut_overdue()
            try:
                job, brought = self._brought.get(timeout=self._patience(now))
            except queue.Empty:
                yield None
                continue
            row = self._settle(job, brought)
            if row is not None:
                yield row

    def _take_addresses(self) -> Iterator[Row]:
        """Read the list as far ahead as keeps all threads busy; what is no address is answered at once."""
        while not self._ended and self._open < 4 * self.options.in_flight:
            address = next(self._addresses, None)
            if address is None:
                self._ended = True
                return
            url = address.url.strip()
            if address.error is not None:
                yield Row(_kept(url), None, address.error, address.metadata)
                continue
            try:
                job = _Job(parse_target(url), address.metadata)
            except InputError as error:
                yield Row(_kept(without_user(url)), None, str(error), address.metadata)
                continue
            self._open += 1
            self._host(job).waiting.append(job)

    def _host(self, job: _Job) -> _Host:
        return self._hosts.setdefault(job.target.origin, _Host(self.options.per_host))

    def _start(self) -> None:
        """Hand out as many jobs as there are threads, one host after the other."""
        now = time.monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            job = heapq.heappop(self._delayed)[2]
            self._host(job).waiting.appendleft(job)
        for origin in list(self._hosts):
            host = self._hosts[origin]
            while self._busy < self.options.in_flight and host.waiting and host.busy < int(host.places):
                if now < host.paused_until:
                    break
                self._hosts[origin] = self._hosts.pop(origin)  # to the end: the others come first next time
                host.busy += 1
                self._busy += 1
                self._pool.submit(self._work, host.waiting.popleft())
            if host.busy == 0 and not host.waiting and now >= host.paused_until:
                del self._hosts[origin]
            if self._busy == self.options.in_flight:
                return

    def _patience(self, now: float) -> float:
        """How long to wait for the next answer."""
        due = self._delayed[0][0] - now if self._delayed else _TICK_S
        return min(max(due, 0.001), _TICK_S)

    def _work(self, job: _Job) -> None:
        """What a thread does."""
        allowed_s = self.options.limits.total_timeout_s - job.talked_s
        try:
            self._brought.put((job, self._fetcher.fetch(job.target, allowed_s)))
        except BaseException as error:  # noqa: BLE001  (it is raised again in the thread that consumes)
            self._brought.put((job, error))

    def _settle(self, job: _Job, brought: Answer | BaseException) -> Row | None:
        """The row of an answer; None where the job is to be tried again."""
        host = self._host(job)
        host.busy -= 1
        self._busy -= 1
        if isinstance(brought, BaseException):
            raise brought
        now = time.monotonic()
        wait_s = self._wait_s(job, brought)
        if brought.slower:
            if now >= host.paused_until:  # of the answers of one burst, only the first
                host.places = max(1.0, host.places / 2)
            host.paused_until = max(host.paused_until, now + wait_s)
        elif brought.data is not None:
            host.places = min(float(self.options.per_host), host.places + _FASTER / host.places)
        talked_s = job.talked_s + brought.talked_s
        if brought.again and job.tries < self.options.retries and talked_s < self.options.limits.total_timeout_s:
            later = replace(job, tries=job.tries + 1, talked_s=talked_s)
            heapq.heappush(self._delayed, (now + wait_s, next(self._numbers), later))
            return None
        self._open -= 1
        tried = f" (tried {job.tries + 1} times)" if brought.data is None and job.tries else ""
        reason = None if brought.reason is None else f"cannot be fetched: {brought.reason}{tried}"
        return Row(_kept(job.target.uri), brought.data, reason, job.metadata)

    def _wait_s(self, job: _Job, answer: Answer) -> float:
        """How long to wait before the next try: what the server says, or longer each time."""
        if answer.wait_s is not None:
            return min(answer.wait_s, self.options.longest_wait_s)
        jitter = random.uniform(0.5, 1.5)  # noqa: S311  (nothing secret: it spreads the tries)
        return min(self.options.backoff_s * 2.0**job.tries * jitter, self.options.longest_wait_s)


def _address(given: str | Address) -> Address:
    return given if isinstance(given, Address) else Address(given)


def _kept(uri: str) -> str:
    """A URI that can be written down, whatever was in the list."""
    return uri.encode("utf-8", "replace").decode("utf-8")
