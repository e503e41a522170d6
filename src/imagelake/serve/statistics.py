"""What a served model has done so far: counts and nanoseconds, as the open inference protocol tells them."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["ok", "bad_input", "busy", "timeout", "cancelled", "failed"]


@dataclass(frozen=True)
class Tally:
    """How often something happened, and how long it took in all, in nanoseconds."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True)
class BatchTally:
    """The runs of one size.

    Attributes:
        rows: how many rows a run had.
        compute_input: putting the requests together.
        compute_infer: the model itself, with the decoding of its pictures.
        compute_output: taking the answers apart.
    """

    rows: int
    compute_input: Tally
    compute_infer: Tally
    compute_output: Tally


@dataclass(frozen=True)
class ModelStatistics:
    """One model of one version since it was loaded.

    Attributes:
        name: of the model.
        version: of the model.
        last_inference_ms: when the last run began, in milliseconds since 1970; 0 for never.
        inference_count: rows that were computed; without a batch axis, requests. What the cache answered is not in it.
        execution_count: runs of the model.
        success: requests that were answered, from their coming to their answer.
        fail: those that were not, whatever the reason.
        queue: requests that were run, and how long they had waited.
        compute_input: of each request that was run, putting its batch together.
        compute_infer: of each request that was run, the run of its batch.
        compute_output: of each request that was run, taking its batch apart.
        cache_hit: rows that the response cache answered, and its time for them.
        cache_miss: rows that it did not have, and its time for looking and keeping.
        batches: the runs by their rows, ascending.
        outcomes: requests by how they ended.
        queued: requests that wait now.
    """

    name: str
    version: str
    last_inference_ms: int
    inference_count: int
    execution_count: int
    success: Tally
    fail: Tally
    queue: Tally
    compute_input: Tally
    compute_infer: Tally
    compute_output: Tally
    cache_hit: Tally
    cache_miss: Tally
    batches: tuple[BatchTally, ...] = ()
    outcomes: Mapping[str, int] = field(default_factory=dict)
    queued: int = 0


class _Sum:
    """A tally that grows."""

    __slots__ = ("count", "ns")

    def __init__(self) -> None:
        self.count = self.ns = 0

    def add(self, count: int, ns: int) -> None:
        self.count += count
        self.ns += ns

    def read(self) -> Tally:
        return Tally(self.count, self.ns)


_PHASES = ("compute_input", "compute_infer", "compute_output")
_SUMS = ("success", "fail", "queue", *_PHASES, "cache_hit", "cache_miss")


class StatisticsKeeper:
    """Counts for one model, from any thread. A class, since it is state under a lock."""

    def __init__(self, name: str, version: str) -> None:
        self._name, self._version = name, version
        self._lock = threading.Lock()
        self._sums = {key: _Sum() for key in _SUMS}
        self._batches: dict[int, dict[str, _Sum]] = defaultdict(lambda: {key: _Sum() for key in _PHASES})
        self._outcomes: Counter[str] = Counter()
        self._rows = self._runs = self._last_ms = 0

    def finished(self, outcome: Outcome, seconds: float) -> None:
        """A request came to its end."""
        with self._lock:
            self._outcomes[outcome] += 1
            self._sums["success" if outcome == "ok" else "fail"].add(1, _ns(seconds))

    def waited(self, queue_s: Sequence[float]) -> None:
        """Requests left the queue to be run, after these times."""
        with self._lock:
            self._sums["queue"].add(len(queue_s), _ns(sum(queue_s)))

    def ran(self, runs: Sequence[tuple[int, float]], requests: int, around_s: tuple[float, float]) -> None:
        """The model ran for so many requests.

        Args:
            runs: rows and seconds of each call of the model; more than one where a request has many rows.
            requests: that were put together.
            around_s: the seconds of putting them together, and of taking the answer apart.
        """
        joined_s, split_s = around_s
        infer_s = sum(seconds for _, seconds in runs)
        with self._lock:
            self._runs += len(runs)
            self._last_ms = int((time.time() - infer_s - split_s) * 1000)
            for key, seconds in zip(_PHASES, (joined_s, infer_s, split_s), strict=True):
                self._sums[key].add(requests, requests * _ns(seconds))
            for rows, seconds in runs:
                batch = self._batches[rows]
                shares = (joined_s / len(runs), seconds, split_s / len(runs))
                for key, share in zip(_PHASES, shares, strict=True):
                    batch[key].add(1, _ns(share))

    def computed(self, rows: int) -> None:
        """The model, not the cache, gave the answers of so many rows."""
        with self._lock:
            self._rows += rows

    def cached(self, hits: int, misses: int, seconds: float) -> None:
        """The cache had so many rows and lacked so many, and took this long for all."""
        with self._lock:
            total = max(hits + misses, 1)
            self._sums["cache_hit"].add(hits, _ns(seconds * hits / total))
            self._sums["cache_miss"].add(misses, _ns(seconds * misses / total))

    def read(self, queued: int = 0) -> ModelStatistics:
        """All counts at one moment."""
        with self._lock:
            batches = tuple(
                BatchTally(rows, *(sums[key].read() for key in _PHASES)) for rows, sums in sorted(self._batches.items())
            )
            sums = {key: self._sums[key].read() for key in _SUMS}
            return ModelStatistics(
                name=self._name,
                version=self._version,
                last_inference_ms=self._last_ms,
                inference_count=self._rows,
                execution_count=self._runs,
                batches=batches,
                outcomes=dict(self._outcomes),
                queued=queued,
                **sums,
            )


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
