"""Watching a folder: what comes is committed, once, when it is whole."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

import imagelake
from imagelake.errors import InputError, LakeNotFoundError
from imagelake.run.watch import WatchOptions, watch
from imagelake.sources.folder import Folder
from pictures import encode, make_image

WAIT_S = 60


def until(condition):
    """Wait for what another thread or process does; generous, since machines are busy."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


@pytest.fixture
def watching(lake, tmp_path, request):
    """A watched folder: `reports` grows with each commit."""
    folder = tmp_path / "incoming"
    folder.mkdir()
    options = WatchOptions(2.0, getattr(request, "param", 1.0))
    stop, committed, errors = threading.Event(), [], []

    def run():
        try:
            committed.extend(watch(lake.tables, [Folder(str(folder))], stop, options))
        except BaseException as error:  # noqa: BLE001  (the fixture fails with it)
            errors.append(error)

    class Watching:
        path = folder
        reports = committed

        @staticmethod
        def images():
            return lake.sql("select count(*) as n from images").to_pylist()[0]["n"]

        @staticmethod
        def rejected():
            return lake.sql("select count(*) as n from rejections").to_pylist()[0]["n"]

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: committed or errors)  # the beginning: what is there then is read as it is
    yield Watching
    stop.set()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert errors == []


@contextmanager
def started(command):
    """A process that is gone afterwards, whatever happens."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def picture(seed):
    return encode(make_image(seed, 64, 48))


def test_what_comes_is_committed(watching):
    """Files that are written, moved in, or come in a new folder below."""
    (watching.path / "a.jpg").write_bytes(picture(1))
    until(lambda: watching.images() == 1)
    outside = watching.path.parent / "b.jpg"
    outside.write_bytes(picture(2))
    outside.rename(watching.path / "b.jpg")
    until(lambda: watching.images() == 2)
    (watching.path / "below" / "deeper").mkdir(parents=True)
    (watching.path / "below" / "deeper" / "c.jpg").write_bytes(picture(3))
    until(lambda: watching.images() == 3)
    assert watching.rejected() == 0


@pytest.mark.parametrize("watching", [5.0], indirect=True)
def test_a_file_that_is_being_written_is_left_alone(watching):
    """A slow writer's file becomes one image, and never a rejection."""
    data = picture(4)
    with (watching.path / "slow.jpg").open("wb") as file:
        for start in range(0, len(data), len(data) // 8 + 1):
            file.write(data[start : start + len(data) // 8 + 1])
            file.flush()
            time.sleep(0.4)  # shorter than what counts as whole, longer than a look
    until(lambda: watching.images() == 1)
    assert [report.rejected for report in watching.reports] == [0] * len(watching.reports)


def test_a_writer_that_pauses_is_mended(watching):
    """Half a file is rejected after a while, and becomes an image when the rest comes."""
    data = picture(5)
    path = watching.path / "half.jpg"
    path.write_bytes(data[: len(data) // 2])
    until(lambda: watching.rejected() == 1)
    path.write_bytes(data)
    until(lambda: watching.images() == 1)
    assert watching.rejected() == 0


def test_other_and_hidden_files_are_no_pictures(watching):
    """They are neither images nor rejections, and a file that vanishes is nothing."""
    (watching.path / ".hidden.jpg").write_bytes(picture(6))
    (watching.path / "notes.txt").write_text("no picture")
    (watching.path / "gone.jpg").write_bytes(picture(7))
    (watching.path / "gone.jpg").unlink()
    (watching.path / "last.jpg").write_bytes(picture(8))
    until(lambda: watching.images() == 1)
    assert watching.rejected() == 0


def test_what_was_there_is_not_read_again(lake, tmp_path):
    """After the beginning only what changed is found."""
    folder = tmp_path / "incoming"
    folder.mkdir()
    for seed in range(5):
        (folder / f"{seed}.jpg").write_bytes(picture(seed))
    stop = threading.Event()
    reports = []
    for report in watch(lake.tables, [Folder(str(folder))], stop, WatchOptions(look_every_s=0.3)):
        reports.append((report.found, report.added))
        if len(reports) == 1:
            (folder / "new.jpg").write_bytes(picture(10))
        elif len(reports) == 2:
            os.utime(folder / "0.jpg")
        else:
            stop.set()
    assert reports == [(5, 5), (1, 1), (1, 0)]


def test_what_cannot_be_watched_says_so(lake, tmp_path):
    """An archive is read once."""
    with pytest.raises(InputError, match="cannot be watched"):
        next(lake.watch(shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path), threading.Event()))


def test_the_command_survives_a_kill(tmp_path):
    """`ingest --watch` commits what comes; after `kill -9` the next one takes what came meanwhile; SIGTERM ends it."""
    folder, lake = tmp_path / "incoming", tmp_path / "lake"
    folder.mkdir()
    (folder / "0.jpg").write_bytes(picture(0))
    command = [sys.executable, "-m", "imagelake", "ingest", folder, "--lake", lake, "--watch", "--json"]

    def images():
        try:
            return imagelake.open(lake).info().images
        except LakeNotFoundError:
            return 0

    with started(command) as first:
        until(lambda: images() == 1)
        (folder / "1.jpg").write_bytes(picture(1))
        until(lambda: images() == 2)
        first.kill()
    (folder / "2.jpg").write_bytes(picture(2))
    with started(command) as second:
        until(lambda: images() == 3)
        (folder / "3.jpg").write_bytes(picture(3))
        until(lambda: images() == 4)
        time.sleep(1)
        second.send_signal(signal.SIGTERM)
        out, told = second.communicate(timeout=WAIT_S)
    assert second.returncode == 0, told
    assert '"found": 4' in out
    assert '"added": 2' in out
    assert "Watching" in told
