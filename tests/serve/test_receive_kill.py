"""kill -9, a full disk, a second receiver: nothing that was answered is lost, and nothing comes twice."""

import hashlib
import json
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import imagelake
from pictures import encode, make_image


def post_all(receiver, number, answered):
    """Post pictures until the receiver is gone; collects the ids that it answered with."""
    for each in range(10_000):
        try:
            status, _, answer = receiver.post(encode(make_image(number * 10_000 + each)))
        except (OSError, ValueError):  # it is gone, or an answer was cut off
            return
        assert status in {200, 201}
        answered.append(answer["id"])


def rows_of(lake):
    return imagelake.open(lake).sql("select id from images").column("id").to_pylist()


def test_killed_while_many_post(receive, tmp_path):
    """At random moments, four times into one lake; after the next start each answered id is in the lake, once."""
    answered = []
    moments = random.Random(5)  # the kills differ anyway: the machine's own pace decides where they fall
    for turn in range(4):
        receiver = receive("--commit-s", "0.3")  # often, so that kills fall into commits too
        threads = [
            threading.Thread(target=post_all, args=(receiver, 10 * turn + number, answered)) for number in range(4)
        ]
        for thread in threads:
            thread.start()
        while not receiver.health()["received"]:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.1, 1.5))
        receiver.process.kill()
        for thread in threads:
            thread.join()
        receiver.process.wait()
    assert len(answered) == len(set(answered)) > 4
    last = receive()
    ids = rows_of(last.lake)  # the start brings in what was left
    assert len(ids) == len(set(ids))
    assert set(answered) <= set(ids)
    code, _, _ = last.stop()
    assert code == 0
    for image_id, data in last.opened().tables.images.bytes_of(ids).items():
        assert hashlib.sha256(data).hexdigest() == image_id
    assert [path.name for path in (last.lake / "incoming").iterdir()] == ["lock"]


def test_one_receiver_at_a_time(receive):
    """A second one into the same lake is refused in one line, and the first is not disturbed."""
    first = receive()
    words = ["receive", "--lake", str(first.lake), "--port", "0"]
    done = subprocess.run([sys.executable, "-m", "imagelake", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Another process receives" in done.stderr
    assert "Traceback" not in done.stderr
    assert first.post(encode(make_image(1)))[0] == 201


SMALL_DISK = """
set -e
mkdir -p "$1"
mount -t tmpfs -o size=3m tmpfs "$1"
exec "$2" "$3" "$1/t.lake" "$4"
"""

FILL = """
import json, shutil, sys
sys.path[:0] = {path!r}
from pathlib import Path
from conftest import receivers
import numpy as np
from pictures import encode

lake, saved = Path(sys.argv[1]), Path(sys.argv[2])
with receivers(lake.parent) as start:
    receiver = start(lake=lake)
    answers = []
    for seed in range(40):
        noise = np.random.default_rng(seed).integers(0, 256, (200, 200, 3), dtype="uint8")
        status, _, answer = receiver.post(encode(noise, "PNG"))
        answers.append([status, answer])
    before = receiver.health()
    code, counts, notes = receiver.stop()
    shutil.copytree(lake, saved)
    print(json.dumps([answers, before["status"], code, notes]))
"""


def test_a_full_disk_is_507_and_loses_nothing(tmp_path, receive):
    """A real file system of 3 MB, filled by posts: 507, no path told; with space, all that was answered is there."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here (unshare -rm is not allowed)")
    script = tmp_path / "fill.py"
    script.write_text(FILL.format(path=[str(Path(__file__).parent), str(Path(__file__).parents[1])]))
    saved = tmp_path / "saved.lake"
    done = subprocess.run(
        [
            "unshare",
            "-rm",
            "bash",
            "-c",
            SMALL_DISK,
            "bash",
            str(tmp_path / "disk"),
            sys.executable,
            str(script),
            saved,
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    answers, _, code, notes = json.loads(done.stdout.splitlines()[-1])
    statuses = [status for status, _ in answers]
    assert set(statuses) == {201, 507}
    assert str(tmp_path) not in json.dumps(answers)
    assert code in {0, 1}  # 1 where some wait in the spool for space
    assert "Traceback" not in notes
    kept = {answer["id"] for status, answer in answers if status == 201}
    again = receive(lake=saved)
    assert set(rows_of(saved)) >= kept
    assert again.stop()[0] == 0
