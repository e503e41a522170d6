"""Run steps over batches on all cores of this machine, with memory bounded by bytes."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from imagelake.steps.step import Batches, Function, Step

MAX_BYTES = 32 << 20


def worker_count() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass
class _Budget:
    """Bytes that may be on their way. One batch always passes, however large, so that nothing gets stuck."""

    limit: int
    used: int = 0
    closed: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, size: int) -> bool:
        """Wait for room. False where the run was closed in the meantime."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed or self.used == 0 or self.used + size <= self.limit)
            self.used += size
            return not self.closed

    def give(self, size: int) -> None:
        with self.changed:
            self.used -= size
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()


_Item = tuple[int, "Future[pa.RecordBatch]"] | BaseException | None


def run_local(batches: Batches, steps: Sequence[Step], *, workers: int, max_bytes: int = MAX_BYTES) -> Batches:
    """Yield each batch with all `steps` applied, in the order of `batches`.

    One thread reads `batches`, `workers` threads apply the steps (each opened once, here), and the caller consumes:
    reading, decoding, the model and the caller's commits overlap. At most `max_bytes` of input are on their way. An
    error of the source or a step is raised to the caller after what came before it.
    """
    functions = [step.open() for step in steps]
    budget = _Budget(max_bytes)
    items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
    with ThreadPoolExecutor(workers, thread_name_prefix="imagelake-step") as pool:
        reader = threading.Thread(
            target=_feed, args=(batches, functions, pool, budget, items), name="imagelake-read", daemon=True
        )
        reader.start()
        try:
            yield from _collect(items, budget)
        finally:
            budget.close()
            reader.join()
            pool.shutdown(cancel_futures=True)


def _apply(functions: Sequence[Function], batch: pa.RecordBatch) -> pa.RecordBatch:
    for function in functions:
        batch = function(batch)
    return batch


def _feed(
    batches: Batches,
    functions: Sequence[Function],
    pool: ThreadPoolExecutor,
    budget: _Budget,
    items: queue.SimpleQueue[_Item],
) -> None:
    try:
        for batch in batches:
            if not budget.take(batch.nbytes):
                return
            items.put((batch.nbytes, pool.submit(_apply, functions, batch)))
        items.put(None)
    except BaseException as error:  # noqa: BLE001  (it is raised again in the caller's thread)
        items.put(error)


def _collect(items: queue.SimpleQueue[_Item], budget: _Budget) -> Iterator[pa.RecordBatch]:
    while (item := items.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        size, future = item
        yield future.result()
        budget.give(size)
