"""The laws of the local runner: order, bounded memory, errors and early ends."""

import threading
import time
from dataclasses import dataclass

import pyarrow as pa
import pytest

from imagelake.run.local import run_local


def batches(count, size=1000):
    for n in range(count):
        yield pa.record_batch({"n": pa.array([n]), "data": pa.array([b"x" * size])})


@dataclass(frozen=True)
class Slow:
    """Takes longer for some rows than for others, and fails at one."""

    fail_at: int = -1

    def output_schema(self, schema):
        return schema

    def open(self):
        def work(batch):
            n = batch.column("n")[0].as_py()
            if n == self.fail_at:
                raise ValueError("broken step")
            time.sleep(0.003 * (n % 3))
            return batch

        return work


def numbers(found):
    return [batch.column("n")[0].as_py() for batch in found]


def test_nothing_in_nothing_out():
    """An empty source ends at once."""
    assert list(run_local(batches(0), [Slow()], workers=2)) == []


def test_order_is_kept():
    """Whatever the threads do."""
    assert numbers(run_local(batches(40), [Slow(), Slow()], workers=4)) == list(range(40))


def test_memory_is_bounded_by_bytes():
    """The source is never ahead of the consumer by more than the budget, and one large batch still passes."""
    ahead = []
    read = threading.Semaphore(0)
    taken = 0

    def counted():
        for batch in batches(30, size=10_000):
            ahead.append(len(ahead) + 1 - taken)
            read.release()
            yield batch

    for _ in run_local(counted(), [Slow()], workers=2, max_bytes=35_000):
        taken += 1
        time.sleep(0.002)
    assert max(ahead) <= 5  # three on their way, one waiting for room, one being consumed
    assert numbers(run_local(batches(3, size=10_000), [Slow()], workers=2, max_bytes=1)) == [0, 1, 2]


def test_an_error_reaches_the_caller_after_what_came_before():
    """Of a step and of the source alike."""
    stream = run_local(batches(10), [Slow(fail_at=4)], workers=2)
    assert numbers(next(stream) for _ in range(4)) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="broken step"):
        next(stream)

    def broken():
        yield from batches(3)
        raise OSError("source gone")

    with pytest.raises(OSError, match="source gone"):
        list(run_local(broken(), [Slow()], workers=2))


def test_a_consumer_that_leaves_early_stops_everything():
    """No thread stays behind."""
    before = threading.active_count()
    stream = run_local(batches(1000), [Slow()], workers=2, max_bytes=5000)
    next(stream)
    stream.close()
    assert threading.active_count() == before
