"""The worker by itself: a lake that cannot be written, a model that cannot answer, an end in the middle."""

import contextlib
import threading
import time

import numpy as np
import pytest

from imagelake.errors import BusyError, InputError, LakeFullError, ModelError
from imagelake.serve.event_states import RetryOptions
from imagelake.serve.event_store import Journal
from imagelake.serve.event_upload import UploadEvent
from imagelake.serve.event_worker import EventWorker, WorkOptions
from imagelake.serve.object_fetch import ObjectFetcher, ObjectOptions
from imagelake.serve.object_file import ObjectError
from imagelake.serve.predictions import Prediction
from pictures import encode, make_image

QUICK = WorkOptions(workers=2, commit_s=0.01)
OFTEN = RetryOptions(attempts=5, first_pause_s=0.001, longest_pause_s=0.001)


def event(number):
    return UploadEvent(id=str(number), source="test", kind="stored", uri=f"s3://photos/{number}.png", bucket="photos")


class Answers:
    """A model that first fails as often as it is told, then answers."""

    def __init__(self, *failures):
        self.failures = list(failures)

    def predict(self, data):
        assert data
        if self.failures:
            raise self.failures.pop()
        return Prediction("cat", 0.5, "test", "f" * 64)


class Rows(list):
    """A table that cannot be written as often as it is told."""

    def __init__(self, *failures):
        self.failures = list(failures)

    def write(self, rows):
        if self.failures:
            raise self.failures.pop()
        self.extend(rows)
        return len(rows)


@pytest.fixture
def journal(tmp_path):
    with contextlib.closing(Journal(tmp_path / "events", works=True, retry=OFTEN)) as opened:
        yield opened


@pytest.fixture
def reader(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(encode(make_image(number), "PNG"))
    with contextlib.closing(ObjectFetcher(ObjectOptions(folders={"photos": folder}))) as opened:
        yield opened


@contextlib.contextmanager
def working(*parts, options=QUICK):
    worker = EventWorker(*parts, options)
    worker.start()
    try:
        yield worker
    finally:
        worker.close()


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_nothing_to_do(journal, reader):
    """It starts and ends."""
    with working(journal, reader, Answers(), Rows()) as worker:
        assert worker.trouble is None


@pytest.mark.parametrize(
    "failure", [BusyError("many wait"), ModelError("it broke"), ValueError("a fault"), MemoryError(), KeyError("x")]
)
def test_a_model_that_fails_is_asked_again(journal, reader, failure):
    """Whatever it raises; the other events are not held up, and the rows are those of all."""
    rows = Rows()
    journal.accept([event(number) for number in range(5)])
    with working(journal, reader, Answers(failure, failure), rows):
        until(lambda: journal.counts()["done"] == 5)
    assert sorted(row["event_id"] for row in rows) == list("01234")


def test_a_fault_of_ours_says_nothing_of_itself(journal, reader):
    """The dead letter names its kind; what it says may be a secret."""
    journal.accept([event(0)])
    with working(journal, reader, Answers(*[ValueError("secret")] * 5), Rows()):
        until(lambda: journal.counts()["dead"] == 1)
    [letter] = journal.dead()
    assert letter.attempts == 5
    assert letter.reason == "ValueError, a fault of imagelake; its log says more"


def test_a_lake_that_cannot_be_written(journal, reader):
    """The worker says so, tries again, and no event is marked done or tried anew; then all are done."""
    rows = Rows(*[LakeFullError("no space")] * 2, RuntimeError("odd"))
    journal.accept([event(number) for number in range(5)])
    with working(journal, reader, Answers(), rows, options=WorkOptions(workers=2, commit_s=0.5)) as worker:
        until(lambda: worker.trouble is not None)
        assert "odd" in str(worker.trouble)
        assert journal.counts()["waiting"] == 5
        until(lambda: journal.counts()["done"] == 5)
        assert worker.trouble is None
    assert sorted(row["event_id"] for row in rows) == list("01234")


def test_it_ends_though_the_lake_cannot_be_written(journal, reader):
    """The events wait for the next start, and were not tried in vain: a lake without space makes none of them dead."""
    journal.accept([event(number) for number in range(5)])
    with working(journal, reader, Answers(), Rows(*[LakeFullError("no space")] * 99)) as worker:
        until(lambda: worker.trouble is not None)
    assert isinstance(worker.trouble, LakeFullError)
    assert journal.counts() == {"waiting": 5, "done": 0, "dead": 0, "ignored": 0}
    assert {claim.attempt for claim in journal.claim(5)} == {1}


def test_an_end_in_the_middle_costs_no_attempt(journal, reader):
    """What is being fetched is given back where the end made it fail; what waits was not tried."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        def fetch(self, _):
            begun.set()
            go_on.wait(60)
            raise ObjectError("the server is ending", again=True)

    journal.accept([event(number) for number in range(5)])
    worker = EventWorker(journal, Slow(), Answers(), Rows(), QUICK)
    worker.start()
    begun.wait(60)
    closing = threading.Thread(target=worker.close)
    closing.start()
    until(worker._closing.is_set)
    go_on.set()
    closing.join()
    assert [claim.attempt for claim in journal.claim(10)] == [1] * 5


def test_a_replay_of_another_process_is_seen(journal, reader):
    """Without being woken."""
    journal.accept([event(9)])
    with working(journal, reader, Answers(), Rows()):
        until(lambda: journal.counts()["dead"] == 1)
        (reader.options.folders["photos"] / "9.png").write_bytes(encode(np.zeros((8, 8, 3), np.uint8), "PNG"))
        with contextlib.closing(Journal(journal.folder)) as other:
            other.replay()
        until(lambda: journal.counts()["done"] == 1)


def test_an_answer_that_the_table_cannot_hold(journal, reader):
    """Only its event fails; the others of its commit are written."""

    class Odd(Answers):
        def predict(self, _):
            return Prediction("\ud800" if self.failures.pop() else "cat", 0.5, "test", "f" * 64)

    rows = Rows()
    journal.accept([event(number) for number in range(5)])
    with working(journal, reader, Odd(*[False] * 50, *[True] * 5), rows, options=WorkOptions(workers=1, commit_s=0.2)):
        until(lambda: journal.counts()["done"] == 5)
    assert sorted(row["event_id"] for row in rows) == list("01234")


def test_a_reason_tells_no_password(journal, reader):
    """Neither in the dead letter nor in the log."""

    class Away:
        def fetch(self, _):
            raise ObjectError("it redirects in a circle, back to https://a.example/p/token?sig=secret", again=False)

    journal.accept([event(0)])
    with working(journal, Away(), Answers(), Rows()):
        until(lambda: journal.counts()["dead"] == 1)
    assert journal.dead()[0].reason == "it redirects in a circle, back to https://a.example/..."


def test_options_without_sense():
    """No threads, no rows, no time."""
    for changes in ({"workers": 0}, {"commit_rows": 0}, {"commit_s": 0}, {"remember_s": 0}):
        with pytest.raises(InputError, match="makes no sense"):
            WorkOptions(**changes)
