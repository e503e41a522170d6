"""The journal of events: once, in order, again after a failure, dead in the end; and what another process may do."""

import contextlib
import dataclasses
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

import imagelake
from imagelake.errors import BusyError, InputError, LakeError, LakeFullError, LakeReadOnlyError
from imagelake.serve.event_states import RetryOptions, events_folder
from imagelake.serve.event_store import Journal
from imagelake.serve.event_upload import About, UploadEvent
from privileges import let_all_reach, unprivileged

AT_ONCE = RetryOptions(attempts=3, first_pause_s=1e-9, longest_pause_s=1e-9)


def event(number=1, uri="s3://photos/a.jpg", **changes):
    return UploadEvent(id=f"event-{number}", source="test", kind="stored", uri=uri, bucket="photos", **changes)


@pytest.fixture
def journal(tmp_path):
    with contextlib.closing(Journal(tmp_path / "events", works=True, retry=AT_ONCE)) as opened:
        yield opened


def claimed(journal, most=10):
    return [each.event for each in journal.claim(most)]


def test_an_empty_journal(journal):
    """Nothing is due, nothing is dead, nothing can be replayed by name; no events are no work."""
    assert journal.accept([]) == 0
    assert journal.claim(10) == []
    assert journal.next_due_s() is None
    assert journal.dead() == []
    assert journal.replay() == 0
    with pytest.raises(InputError, match="no dead letter"):
        journal.replay(["a"])
    assert journal.counts() == {"waiting": 0, "done": 0, "dead": 0, "ignored": 0}


def test_an_event_is_kept_once(journal):
    """However often it comes, also while it is worked on and when it is done."""
    one = event(about=About(1.5, -2.5, "cäm"), happened_at=datetime(2026, 5, 17, tzinfo=UTC), sequencer="0A")
    assert journal.accept([one, event(2), one]) == 2
    assert journal.accept([one]) == 0
    assert claimed(journal) == [one, event(2)] or claimed(journal) == []
    assert journal.accept([one]) == 0
    journal.finish([one, event(2)])
    assert journal.accept([one]) == 0
    assert journal.claim(10) == []
    assert journal.counts()["done"] == 2


def test_a_failure_is_tried_again_until_it_is_dead(journal):
    """As often as the options say; what is of no use to try again is dead at once; a replay begins anew."""
    journal.accept([event()])
    for attempt in (1, 2, 3):
        [claim] = journal.claim(10)
        assert claim.attempt == attempt
        assert journal.fail(claim, f"reason {attempt}", again=True) == (attempt == 3)
    [letter] = journal.dead()
    assert (letter.event, letter.attempts, letter.reason) == (event(), 3, "reason 3")
    assert journal.claim(10) == []
    assert journal.accept([event()]) == 0
    assert journal.replay([letter.key[:8]]) == 1
    [claim] = journal.claim(10)
    assert claim.attempt == 1
    assert journal.fail(claim, "no picture", again=False)
    assert journal.replay() == 1
    with pytest.raises(InputError, match="no dead letter"):
        journal.replay([letter.key])


def test_a_beginning_of_several_names_none(journal):
    """It is refused, and nothing is replayed; so is a text of nothing."""
    journal.accept([event(number) for number in range(40)])
    for claim in journal.claim(40):
        journal.fail(claim, "no", again=False)
    with pytest.raises(InputError, match="more than one"):
        journal.replay([letter.key for letter in journal.dead()] + [""])
    assert journal.counts()["dead"] == 40


def test_pauses_grow_and_differ():
    """Each is twice the one before, less a random part of up to a half, up to the longest; for any number of tries."""
    options = RetryOptions(attempts=5, first_pause_s=2, longest_pause_s=30)
    for attempts, full in ((1, 2), (2, 4), (3, 8), (4, 16), (5, 30), (10_000, 30)):
        pauses = {options.pause_s(attempts) for _ in range(50)}
        assert len(pauses) > 1
        assert all(full / 2 <= pause <= full for pause in pauses)
    with pytest.raises(InputError, match="makes no sense"):
        RetryOptions(attempts=0)


def test_a_pause_is_waited_for(tmp_path):
    """An event that failed is not due before its pause is over; a new one is due at once."""
    with contextlib.closing(Journal(tmp_path, works=True)) as journal:
        journal.accept([event()])
        assert journal.next_due_s() == 0
        [claim] = journal.claim(1)
        journal.fail(claim, "busy", again=True)
        assert journal.claim(1) == []
        assert 0 < journal.next_due_s() <= 2


def test_what_is_given_back_was_not_tried(journal):
    """The attempt does not count."""
    journal.accept([event()])
    for _ in range(5):
        [claim] = journal.claim(1)
        assert claim.attempt == 1
        journal.release([claim.event])


@pytest.mark.parametrize(
    ("done", "late", "overtaken"),
    [
        ({"sequencer": "0A"}, {"sequencer": "09"}, True),
        ({"sequencer": "0A"}, {"sequencer": "0b"}, False),
        ({"sequencer": "0A"}, {"sequencer": "a"}, False),
        ({"sequencer": "FF"}, {"sequencer": "100"}, False),
        ({"sequencer": "100"}, {"sequencer": "ff"}, True),
        ({}, {"sequencer": "0"}, False),
        ({"happened_at": datetime(2026, 1, 2, tzinfo=UTC)}, {"happened_at": datetime(2026, 1, 1, tzinfo=UTC)}, True),
        ({"happened_at": datetime(2026, 1, 1, tzinfo=UTC)}, {"happened_at": datetime(2026, 1, 1, tzinfo=UTC)}, False),
        ({"sequencer": "1", "happened_at": datetime(2026, 1, 2, tzinfo=UTC)}, {"sequencer": "0"}, True),
    ],
)
def test_an_older_event_is_overtaken(journal, done, late, overtaken):
    """By one of the same object that is done: by sequencers of any length, else by time, else never."""
    first, second = event(1, **done), event(2, **late)
    journal.accept([first, second])
    assert not journal.is_overtaken(second)
    journal.finish([first])
    assert journal.is_overtaken(second) == overtaken
    assert not journal.is_overtaken(dataclasses.replace(second, uri="s3://photos/b.jpg"))
    journal.finish([second])
    assert journal.is_overtaken(event(3, **late)) == overtaken


def test_one_works_and_others_look(journal, tmp_path):
    """A second worker is refused; whoever only looks or replays comes in. Without a journal nothing is made."""
    with pytest.raises(LakeError, match="Another process works"):
        Journal(journal.folder, works=True)
    journal.accept([event()])
    journal.fail(journal.claim(1)[0], "no", again=False)
    with contextlib.closing(Journal(journal.folder)) as other:
        assert other.replay() == 1
    assert claimed(journal) == [event()]
    with pytest.raises(InputError, match="no events came"):
        Journal(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_many_threads_and_processes_keep_each_event_once(journal):
    """Writers at the same time, of the same events, in two processes: each is claimed once."""
    script = (
        "import contextlib, sys\nfrom pathlib import Path\n"
        "from imagelake.serve.event_store import Journal\nfrom imagelake.serve.event_upload import UploadEvent\n"
        "with contextlib.closing(Journal(Path(sys.argv[1]))) as journal:\n"
        "    for n in range(60):\n"
        "        journal.accept([UploadEvent(id=f'event-{n}', source='test', kind='stored', uri='s3://photos/a.jpg',"
        " bucket='photos')])\n"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(journal.folder)])
    found = []

    def write():
        for number in range(60):
            journal.accept([event(number)])
            found.extend(claimed(journal, 3))

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait(60) == 0
    while more := claimed(journal):
        found += more
    assert sorted(each.id for each in found) == sorted(f"event-{number}" for number in range(60))


KILLED = """
import os, signal, sys
from pathlib import Path
from imagelake.serve.event_store import Journal
from imagelake.serve.event_upload import UploadEvent
journal = Journal(Path(sys.argv[1]), works=True)
journal.accept([UploadEvent(id="event-1", source="test", kind="stored", uri="s3://photos/a.jpg", bucket="photos")])
journal.claim(1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_had_is_due_again(tmp_path):
    """The attempt counts: an event that kills each time is dead in the end, with that as the reason."""
    folder = tmp_path / "events"
    for attempt in (1, 2, 3):
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], timeout=60)
        assert done.returncode == -signal.SIGKILL
        with contextlib.closing(Journal(folder, works=True, retry=RetryOptions(attempts=9))) as journal:
            [claim] = journal.claim(1)
            assert claim.attempt == 2 * attempt
    with contextlib.closing(Journal(folder, works=True, retry=AT_ONCE)) as journal:
        assert journal.claim(1) == []
        assert "process died" in journal.dead()[0].reason


def test_what_is_long_done_is_forgotten(journal):
    """Dead letters and what waits are not."""
    journal.accept([event(1), event(2), event(3), event(4)])
    first, second, third, _ = journal.claim(4)
    journal.finish([first.event])
    journal.fail(second, "no", again=False)
    journal.ignore(third.event, "old")
    assert journal.forget(3600) == 0
    assert journal.forget(-1) == 2
    assert journal.counts() == {"waiting": 1, "done": 0, "dead": 1, "ignored": 0}


def test_a_folder_that_cannot_be_used(tmp_path):
    """No file, no damaged or later journal, no folder without rights: an error of ours; the lock is let go."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(LakeReadOnlyError, match="cannot be written"):
        Journal(tmp_path / "file", works=True)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "journal.sqlite").write_bytes(b"this is no database, and long enough to be seen as none" * 9)
    for _ in range(2):
        with pytest.raises(LakeError, match="not a database"):
            Journal(tmp_path / "bad", works=True)
    Journal(tmp_path / "new", works=True).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "new" / "journal.sqlite")) as raw:
        raw.execute("PRAGMA user_version=99")
    with pytest.raises(LakeError, match="format 99"):
        Journal(tmp_path / "new", works=True)
    (tmp_path / "closed").mkdir(mode=0o555)
    let_all_reach(tmp_path)
    with unprivileged(), pytest.raises(LakeReadOnlyError, match="cannot be written"):
        Journal(tmp_path / "closed", works=True)


def test_only_the_owner_reads_a_journal(journal):
    """Addresses in it may be signed."""
    assert stat.S_IMODE((journal.folder / "journal.sqlite").stat().st_mode) == 0o600


def test_where_it_is(tmp_path):
    """In the lake's own folder, or where it was said; a lake in a bucket needs that."""
    assert events_folder(str(tmp_path / "a.lake")) == tmp_path / "a.lake" / "events"
    assert events_folder("s3://bucket/a.lake", tmp_path) == tmp_path
    with pytest.raises(InputError, match="--state"):
        events_folder("s3://bucket/a.lake")


def test_a_lake_is_made_beside_its_events(tmp_path):
    """A journal that is there before the tables, as after a kill, is no foreign folder."""
    Journal(tmp_path / "t.lake" / "events", works=True).close()
    assert imagelake.open(tmp_path / "t.lake", create=True).tables.images.count() == 0


def test_few_tries_where_a_reason_stays(tmp_path):
    """Such as that there is no such object: fewer than for one that may pass, and never more than those."""
    options = RetryOptions(attempts=3, first_pause_s=1e-9, longest_pause_s=1e-9, few=2)
    with contextlib.closing(Journal(tmp_path, works=True, retry=options)) as journal:
        journal.accept([event()])
        assert not journal.fail(journal.claim(1)[0], "no such object", again=True, lasting=True)
        assert journal.fail(journal.claim(1)[0], "no such object", again=True, lasting=True)
    assert RetryOptions(attempts=1).is_last(1, lasting=True)
    with pytest.raises(InputError, match="makes no sense"):
        RetryOptions(few=0)


def test_only_so_many_wait(tmp_path):
    """Beyond them a request is refused as a whole; what is known is still known, and there is room again later."""
    with contextlib.closing(Journal(tmp_path, works=True, most_waiting=2)) as journal:
        assert journal.accept([event(1)]) == 1
        with pytest.raises(BusyError, match="at most 2"):
            journal.accept([event(2), event(3)])
        assert journal.counts()["waiting"] == 1
        assert journal.accept([event(1), event(2)]) == 1
        assert journal.accept([event(1), event(2)]) == 0
        journal.finish([event(1)])
        assert journal.accept([event(3)]) == 1


def test_some_space_is_left_to_others(tmp_path):
    """Nothing is kept where the disk is nearly full."""
    with contextlib.closing(Journal(tmp_path, works=True, spare_bytes=1 << 62)) as journal:
        assert journal.accept([]) == 0
        with pytest.raises(LakeFullError, match="Nothing was lost"):
            journal.accept([event()])
        assert journal.counts()["waiting"] == 0


def test_a_clock_that_is_set_back(journal, monkeypatch):
    """Makes nobody wait: what came before is due at once."""
    journal.accept([event()])
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    assert journal.next_due_s() == 0
    assert claimed(journal) == [event()]


def test_a_moment_in_the_future_overtakes_nothing(journal):
    """A camera whose clock was wrong once is heard again."""
    wrong = event(1, happened_at=datetime.now(UTC) + timedelta(days=3650))
    journal.accept([wrong])
    journal.finish([wrong])
    assert not journal.is_overtaken(event(2, happened_at=datetime.now(UTC)))
    assert journal.is_overtaken(event(3, happened_at=datetime.now(UTC) - timedelta(days=1)))


def test_counts_are_those_of_the_rows(journal):
    """Whatever was done, also by another process, and after the next start."""
    journal.accept([event(number) for number in range(6)])
    claims = journal.claim(6)
    journal.finish([claims[0].event, claims[0].event])
    journal.ignore(claims[1].event, "old")
    journal.fail(claims[2], "no", again=False)
    journal.fail(claims[3], "no", again=False)
    with contextlib.closing(Journal(journal.folder)) as other:
        other.replay([other.dead()[0].key])
    expected = {"waiting": 3, "done": 1, "dead": 1, "ignored": 1}
    assert journal.counts() == expected
    with contextlib.closing(Journal(journal.folder)) as other:
        assert other.counts() == expected
    assert journal.forget(-1) == 2
    assert journal.counts() == {"waiting": 3, "done": 0, "dead": 1, "ignored": 0}
