"""The intake without HTTP: the spool, the budget, what happens while the tables cannot be written."""

import hashlib
import resource
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagelake.errors import ImageError, InputError, LakeError, LakeFullError
from imagelake.run.commits import CommitSize
from imagelake.run.intake import IntakeOptions, open_intake
from imagelake.run.intake_commit import drain
from imagelake.run.intake_pictures import receive_uri
from imagelake.run.intake_spool import Leftover, Received, Spool, spool_folder
from pictures import encode, make_image

SOON = IntakeOptions(commit=CommitSize(max_seconds=0.05))


def received(count):
    return [
        Received(f"receive://cam/unknown/{seed}", encode(make_image(seed)), '{"device": "cam"}')
        for seed in range(count)
    ]


def write_segment(folder, pictures):
    """A segment as a killed process leaves it."""
    spool = Spool(folder)
    segment = spool.segment()
    segment.append(pictures)
    segment.close()
    spool.close()
    return segment.path


def read(*paths):
    """The URIs and bytes in segments, and which are damaged."""
    leftover = Leftover(paths)
    rows = [row for batch in leftover.batches() for row in batch.to_pylist()]
    return [(row["uri"], row["bytes"], row["metadata"]) for row in rows], leftover.damaged


def as_rows(pictures):
    return [(each.uri, each.data, each.metadata) for each in pictures]


def submit(intake, data, **about):
    assert intake.reserve(intake.cost(len(data)))
    return intake.submit(data, about)


@contextmanager
def away(table):
    """Inside, a table is not where it was, so that nothing can be committed."""
    path = Path(table.uri)
    path.rename(path.with_suffix(".away"))
    try:
        yield
    finally:
        path.with_suffix(".away").rename(path)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_segment_gives_back_what_was_written(tmp_path, count):
    """URI, bytes and metadata, in the order in which they came; nothing is damaged."""
    pictures = received(count)
    assert read(write_segment(tmp_path, pictures)) == (as_rows(pictures), [])


def test_a_segment_that_is_cut_off_gives_what_is_whole(tmp_path):
    """Wherever the cut is: a record that is not whole was not answered for, and is no damage."""
    pictures = received(3)
    path = write_segment(tmp_path, pictures)
    content = path.read_bytes()
    ends = [content.find(each.data) + len(each.data) for each in pictures]
    for cut in {0, 1, 20, 30, *(end + by for end in ends for by in (-1, 0, 1, 25))}:
        path.write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends)
        assert read(path) == (as_rows(pictures[:whole]), [])


def test_a_damaged_record_hides_no_other(tmp_path):
    """A flipped bit, in the head or in the bytes, costs that record; the file is named."""
    pictures = received(3)
    path = write_segment(tmp_path, pictures)
    content = bytearray(path.read_bytes())
    middle = content.find(pictures[1].data)
    for place in (middle + 100, middle - 1, content.find(pictures[0].data) + len(pictures[0].data) + 9):
        broken = content.copy()
        broken[place] ^= 4
        path.write_bytes(broken)
        assert read(path) == (as_rows([pictures[0], pictures[2]]), [path])


def test_drain_brings_in_what_was_left_once(lake):
    """Several segments, a picture in two of them; a second drain finds nothing; damage is kept under another name."""
    folder = spool_folder(lake.root)
    pictures = received(4)
    write_segment(folder, pictures[:3])
    damaged = write_segment(folder, pictures[2:])
    content = bytearray(damaged.read_bytes())
    content[content.find(pictures[2].data) + 50] ^= 1
    damaged.write_bytes(content)
    report = drain(lake.tables)
    assert (report.ingested.found, report.ingested.added) == (4, 4)
    assert report.damaged == [str(damaged.with_suffix(".damaged"))]
    assert sorted(path.name for path in folder.iterdir()) == [f"{damaged.stem}.damaged", "lock"]
    assert drain(lake.tables) is None
    ids = set(lake.sql("select id from images").column("id").to_pylist())
    assert ids == {hashlib.sha256(each.data).hexdigest() for each in pictures}


def test_a_spool_has_one_holder(lake):
    """While an intake is open nobody else drains or opens; then they may."""
    intake, _ = open_intake(lake.tables)
    with pytest.raises(LakeError, match="Another process receives"):
        drain(lake.tables)
    intake.close()
    assert drain(lake.tables) is None


def test_an_append_that_does_not_fit_leaves_nothing(tmp_path):
    """All of the group or none of it, and what was there before stays."""
    pictures = received(3)
    spool = Spool(tmp_path)
    segment = spool.segment()
    segment.append(pictures[:1])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (segment.size + len(pictures[1].data) + 500, hard))
    try:
        with pytest.raises(LakeFullError):
            segment.append(pictures[1:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    segment.close()
    spool.close()
    assert read(segment.path) == (as_rows(pictures[:1]), [])


def test_a_lake_in_a_bucket_needs_a_folder_for_its_spool(tmp_path):
    """The message says which option to give."""
    with pytest.raises(InputError, match="--spool"):
        spool_folder("s3://bucket/t.lake")
    assert spool_folder("s3://bucket/t.lake", tmp_path) == tmp_path


def test_the_uri_of_a_received_picture():
    """Device, time and id, each percent-encoded; the same words give the same URI."""
    assert receive_uri({}, "0a") == "receive://unknown/unknown/0a"
    about = {"device": "hall / 2", "captured_at": "2026-05-17T14:03:00+02:00", "latitude": 1.0}
    assert receive_uri(about, "0a") == "receive://hall%20%2F%202/2026-05-17T14:03:00+02:00/0a"


def test_memory_is_bounded_and_comes_back(lake):
    """No more than the budget is given; a picture's share is free when it is in the tables, or was refused."""
    intake, _ = open_intake(lake.tables, IntakeOptions(max_bytes=100_000, commit=CommitSize(max_seconds=0.05)))
    assert intake.reserve(90_000)
    assert not intake.reserve(10_001)
    intake.release(90_000)
    assert submit(intake, encode(make_image(1))).result()[1] is False
    with pytest.raises(ImageError):
        submit(intake, b"no picture").result()
    while intake.counts()["waiting"]:
        time.sleep(0.01)
    assert intake.counts()["waiting_bytes"] == 0
    assert intake.close() == 0


def test_more_than_so_many_do_not_wait(lake):
    """However small they are: who comes later would only wait longer."""
    intake, _ = open_intake(lake.tables, IntakeOptions(max_unanswered=0))
    assert not intake.reserve(1)
    intake.close()


def test_while_the_tables_cannot_be_written_nothing_is_lost(lake):
    """It is answered for, since the spool has it; the trouble is told, and ends when the tables are back."""
    intake, _ = open_intake(lake.tables, SOON)
    with away(lake.tables.images):
        answers = [submit(intake, encode(make_image(seed))) for seed in range(5)]
        ids = {answer.result()[0] for answer in answers}
        while intake.trouble is None:
            time.sleep(0.01)
        assert intake.counts()["waiting"] == 5
    while intake.counts()["waiting"]:
        time.sleep(0.01)
    assert intake.trouble is None
    assert set(lake.sql("select id from images").column("id").to_pylist()) == ids
    assert intake.close() == 0


def test_what_cannot_be_committed_at_the_end_waits_for_the_next_start(lake):
    """Close says how many; the next intake brings them in."""
    intake, _ = open_intake(lake.tables)
    with away(lake.tables.images):
        submit(intake, encode(make_image(1)), device="cam").result()
        assert intake.close() == 1
        assert intake.trouble is not None
    again, drained = open_intake(lake.tables)
    assert drained.ingested.added == 1
    again.close()
    (row,) = lake.sql("select id, uris from images").to_pylist()
    assert row["uris"] == [f"receive://cam/unknown/{row['id']}"]


def test_known_is_told_right_across_commits(lake):
    """New once; known while it waits, after its commit, and to the next intake."""
    data = encode(make_image(1))
    intake, _ = open_intake(lake.tables, SOON)
    told = [submit(intake, data).result()[1] for _ in range(3)]
    while intake.counts()["waiting"]:
        time.sleep(0.01)
    told.append(submit(intake, data).result()[1])
    intake.close()
    again, _ = open_intake(lake.tables, SOON)
    told.append(submit(again, data).result()[1])
    again.close()
    assert told == [False, True, True, True, True]
    assert lake.info().images == 1
