"""`imagelake events`: what it refuses to start with, what its verbs say. How it works: tests/serve/test_events.py."""

import contextlib
import json
import sys

import pytest

import imagelake
from imagelake.cli import main
from imagelake.serve.event_store import Journal
from imagelake.serve.event_upload import UploadEvent


@pytest.fixture
def verb(tmp_path, monkeypatch, capsys):
    """Runs `imagelake events ...` in this process; gives exit code, stdout and stderr."""
    monkeypatch.delenv("IMAGELAKE_API_KEY", raising=False)

    def run(*words, lake=True):
        more = ["--lake", str(tmp_path / "t.lake")] if lake else []
        monkeypatch.setattr(sys, "argv", ["imagelake", "events", *words, *more])
        with pytest.raises(SystemExit) as end:
            main.run()
        return end.value.code or 0, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "--bucket NAME"),
        (["--bucket", "a", "--listen", "nowhere"], "no address to listen on"),
        (["--bucket", "a", "--listen", "0.0.0.0:0"], "--no-key"),
        (["--bucket", "a", "--listen", ":0"], "--no-key"),
        (["--map", "photos"], "names no folder"),
        (["--map", "photos=/none"], "names no folder"),
        (["--bucket", "a", "--region", "evil.example/"], "no name of a region"),
        (["--bucket", "a", "--object-storage", "https://a/b"], "no address of an object"),
        (["--bucket", "a", "--api-key-file", "/none"], "cannot be read"),
        (["--bucket", "a", "--tls-cert", "/none"], "both --tls-cert and --tls-key"),
        (["--bucket", "a", "--listen", "127.0.0.1:0", "--model", "none"], "'none' is not known"),
        (["--bucket", "a", "--listen", "127.0.0.1:0", "--model", "efficientnet-lite0-embedder"], "not a classifier"),
    ],
)
def test_what_it_does_not_start_with(verb, tmp_path, words, reason):
    """One line, exit code 1, and no lake is made."""
    code, out, notes = verb(*words)
    assert (code, out) == (1, "")
    assert reason in notes.splitlines()[-1]
    assert not (tmp_path / "t.lake").exists()


def test_a_lake_is_needed(verb):
    """And for one in a bucket a folder for the events."""
    assert "--lake" in verb("--bucket", "a", lake=False)[2]
    assert "--state" in verb("--bucket", "a", "--lake", "s3://bucket/t.lake", lake=False)[2]


def test_one_server_at_a_time(verb, tmp_path):
    """A second one on the same events is refused in one line."""
    imagelake.open(tmp_path / "t.lake", create=True)
    with contextlib.closing(Journal(tmp_path / "t.lake" / "events", works=True)):
        code, _, notes = verb("--bucket", "a", "--listen", "127.0.0.1:0")
    assert code == 1
    assert "Another process works" in notes


def test_where_no_event_came(verb, tmp_path):
    """One line, and nothing is made."""
    for words in (["dead"], ["replay"]):
        code, _, notes = verb(*words)
        assert code == 1
        assert "no events came" in notes
    assert not (tmp_path / "t.lake").exists()


def test_dead_letters(verb, tmp_path):
    """A table for people, objects for programs; of an address without its query; a key may be cut short."""
    address = "https://a.example/b.jpg?signature=secret"
    with contextlib.closing(Journal(tmp_path / "t.lake" / "events", works=True)) as journal:
        assert verb("dead")[:2] == (0, "No event was given up.\n")
        journal.accept([UploadEvent(id=str(n), source="test", kind="stored", uri=address) for n in range(2)])
        for claimed in journal.claim(2):
            journal.fail(claimed, "it is no picture", again=False)
    _, out, _ = verb("dead")
    assert "https://a.example/b.jpg" in out
    assert "it is no picture" in out
    assert "secret" not in out
    letters = json.loads(verb("dead", "--json")[1])
    assert {letter["event_id"] for letter in letters} == {"0", "1"}
    assert "secret" not in str(letters)
    key = letters[0]["key"]
    assert verb("replay", key[:12])[1] == "1 event is tried again.\n"
    assert "no dead letter" in verb("replay", key[:12])[2]
    assert json.loads(verb("replay", "--json")[1]) == {"replayed": 1}
    assert verb("replay")[1] == "0 events are tried again.\n"
