"""`imagelake receive`: what it refuses to start with, and what it says. How it receives: tests/serve."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest


def command(tmp_path, *words):
    return [sys.executable, "-m", "imagelake", "receive", "--lake", str(tmp_path / "t.lake"), *words]


def refused(tmp_path, *words, **environment):
    """The one line with which it does not start."""
    before = {name: value for name, value in os.environ.items() if name != "IMAGELAKE_API_KEY"}
    done = subprocess.run(
        command(tmp_path, *words), capture_output=True, text=True, timeout=120, env=before | environment
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "t.lake").exists()
    return done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_other_machines_need_a_key(tmp_path, host):
    """Without one it does not start on an address that others can reach, and says how it would."""
    assert "--no-key" in refused(tmp_path, "--port", "0", "--host", host)


def test_a_port_that_is_taken(tmp_path):
    """One line, and no empty lake is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "Cannot listen on 127.0.0.1" in refused(tmp_path, "--port", port)


def test_a_key_that_cannot_be_used(tmp_path):
    """An empty file, no file, letters that no header carries."""
    (tmp_path / "key").write_text("\n")
    assert "empty" in refused(tmp_path, "--port", "0", "--api-key-file", str(tmp_path / "key"))
    assert "cannot be read" in refused(tmp_path, "--port", "0", "--api-key-file", str(tmp_path / "none"))
    assert "ASCII" in refused(tmp_path, "--port", "0", IMAGELAKE_API_KEY="schlüssel")


def test_memory_that_has_no_room_for_one_request(tmp_path):
    """A picture that is allowed must fit."""
    assert "at least 65" in refused(tmp_path, "--port", "0", "--memory-mb", "64")


def test_what_it_says(tmp_path):
    """To people: where, and what came. To programs: one JSON object at the start, one at the end."""
    (tmp_path / "key").write_text("abc\n")
    words = ["--port", "0", "--api-key-file", str(tmp_path / "key"), "--host", "0.0.0.0"]
    with subprocess.Popen(command(tmp_path, *words), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("Receiving pictures for ")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "0 received, 0 of them known; 0 rejected\n"
        assert process.returncode == 0
    with subprocess.Popen(command(tmp_path, *words, "--json"), stdout=subprocess.PIPE, text=True) as process:
        first = json.loads(process.stdout.readline())
        assert first["listening"].startswith("http://0.0.0.0:")
        process.send_signal(signal.SIGTERM)
        last = json.loads(process.communicate(timeout=60)[0])
        assert last == {"received": 0, "known": 0, "rejected": 0, "waiting": 0, "waiting_bytes": 0}
