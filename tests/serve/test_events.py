"""`imagelake events` over real HTTP, from the upload to the row in the lake: once, whatever comes in between."""

import copy
import functools
import hashlib
import http.client
import json
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from serve import event_examples as examples
from serve.event_server import LABELS, add_colors, event_servers, photo
from sources.s3_server import S3Server

import imagelake
from imagelake.models.file_manifest import file_fingerprint

RED, GREEN, BLUE = (250, 20, 20), (20, 250, 20), (20, 20, 250)


def store(folder, name, data):
    """Put a picture into the folder that stands for the bucket `photos`."""
    path = folder / "upload" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def start(tmp_path):
    """Starts servers for one test."""
    (tmp_path / "upload").mkdir()
    with event_servers(tmp_path) as started:
        yield started


@pytest.fixture
def upload(tmp_path):
    return functools.partial(store, tmp_path)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One server for all tests that use objects of their own, and its folder."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "upload").mkdir()
    with event_servers(folder) as started:
        yield started("--map", f"photos={folder / 'upload'}"), folder


@pytest.fixture
def shared(running):
    """It, counting from now, and how to store a picture for it."""
    server, folder = running
    server.before = server.health()["events"]
    return server, functools.partial(store, folder)


def test_an_upload_becomes_a_prediction(start, tmp_path):
    """A picture in a bucket that speaks S3, its notification, one row: what, when, where, by which device and model."""
    data = photo(GREEN)
    with S3Server("photos") as s3:
        server = start("--bucket", "photos", HOME=str(tmp_path), **s3.environment())
        s3.put("photos", "gate/a bü.jpg", data)
        told = examples.s3(versionId=None, size=len(data))
        assert server.post(told) == (202, {"accepted": 1, "known": 0, "ignored": 0, "reasons": []})
        assert server.settle() == {"waiting": 0, "done": 1, "dead": 0, "ignored": 0}
    [row] = server.rows()
    model = add_colors(tmp_path)
    moment, predicted_at = datetime(2024, 6, 1, 12, 30), row.pop("predicted_at")  # noqa: DTZ001  (a wall clock)
    assert (datetime.now(UTC) - predicted_at).total_seconds() < 120
    assert 0.3 < row.pop("score") <= 1
    assert len(row.pop("id")) == 64
    assert row == {
        "image_id": hashlib.sha256(data).hexdigest(),
        "label": "green",
        "model": "colors",
        "fingerprint": file_fingerprint(model.manifest),
        "latitude": pytest.approx(-33.51),
        "longitude": pytest.approx(151.21),
        "device": "Maker Model 7",
        "uri": "s3://photos/gate/a bü.jpg",
        "taken_at": moment,
        "taken_at_utc": datetime(2024, 6, 1, 2, 30, tzinfo=UTC),
        "happened_at": datetime(2026, 5, 17, 12, 3, 0, 123000, tzinfo=UTC),
        "event_id": "C3D13FE58DE4C810.FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5W",
        "event_source": "aws:s3.eu-central-1.photos",
    }
    assert server.stop()[:2] == (0, {"waiting": 0, "done": 1, "dead": 0, "ignored": 0})


def test_place_and_device_come_from_the_event_where_the_picture_is_silent(shared):
    """The place of the picture comes first, the device of the event; in every format of events."""
    server, upload = shared
    upload("gate/a b.jpg", photo(RED, gps=False))
    upload("gate/c d.jpg", photo(BLUE))
    upload("gate/d e.jpg", photo(GREEN))
    upload("gate/f g.jpg", photo(RED))
    assert server.post(examples.CLOUD, Content_Type="application/cloudevents+json")[0] == 202
    assert server.post(examples.MINIO)[0] == 202
    assert server.post([examples.OBJECT_STORAGE])[0] == 202
    binary = {"ce-specversion": "1.0", "ce-id": "7", "ce-source": "/x", "ce-type": "stored", "ce-device": "d%20e"}
    assert server.post({"bucket": "photos", "name": "gate/f g.jpg"}, **binary)[0] == 202
    assert server.settle()["done"] == 4
    found = [(row["label"], row["latitude"], row["longitude"], row["device"]) for row in server.rows("gate/")]
    sydney = (pytest.approx(-33.51), pytest.approx(151.21))
    assert found == [
        ("green", *sydney, "gate-3"),
        ("red", 48.1, 11.5, "gate-4"),
        ("blue", *sydney, "gate-2"),
        ("red", *sydney, "d e"),
    ]


def test_an_event_counts_once(shared):
    """Delivered twenty times at once, again when it is done, and in a batch: one row."""
    server, upload = shared
    upload("once.jpg", photo(RED))
    told = examples.upload("photos", "once.jpg")
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(server.post(told))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer["accepted"] for _, answer in answers) == [0] * 19 + [1]
    assert {status for status, _ in answers} == {202}
    server.settle()
    doubled = {"Records": told["Records"] * 3}
    assert server.post(doubled)[1] == {"accepted": 0, "known": 3, "ignored": 0, "reasons": []}
    server.settle()
    assert len(server.rows("once")) == 1


def test_an_older_event_is_not_acted_on(shared):
    """One that comes after a newer one of the same object was done; of another object it counts."""
    server, upload = shared
    upload("older/a.jpg", photo(RED))
    upload("older/b.jpg", photo(BLUE))
    server.post(examples.upload("photos", "older/a.jpg", 10))
    server.settle()
    assert server.post(examples.upload("photos", "older/a.jpg", 9))[0] == 202
    server.post(examples.upload("photos", "older/b.jpg", 8))
    server.post(examples.upload("photos", "older/a.jpg", 11))
    assert server.settle() == {"waiting": 0, "done": 3, "dead": 0, "ignored": 1}
    assert [row["event_id"] for row in server.rows("older/")] == ["request-10", "request-11", "request-8"]


def test_what_nothing_is_done_about_is_told(shared):
    """A test event, a deletion, a bucket that is not allowed, an address that is not: 200, each with its reason."""
    server, _ = shared
    cases = [
        (examples.S3_TEST, "test event"),
        (examples.s3(eventName="ObjectRemoved:Delete"), "no upload"),
        (examples.upload("secrets", "a.jpg"), "bucket secrets is not one of those allowed"),
        (examples.CLOUD | {"data": {"url": "http://169.254.169.254/token?secret"}}, "host 169.254.169.254 is not"),
        (examples.s3(size=1 << 40), "the limit is"),
    ]
    for told, word in cases:
        status, answer = server.post(told)
        assert (status, answer["accepted"], answer["ignored"]) == (200, 0, 1)
        assert word in answer["reasons"][0]["reason"]
        assert "token?secret" not in json.dumps(answer)
    assert server.settle() == {"waiting": 0, "done": 0, "dead": 0, "ignored": 0}


def test_broken_requests(shared):
    """400 with words for what is no event, 413 for too much, 405 and 404 for other doors; nothing is kept."""
    server, _ = shared
    broken = copy.deepcopy(examples.S3_RECORD)
    del broken["s3"]["object"]["key"]
    for told in (b"", b"{", b"\xff", [1], {"Records": [examples.S3_RECORD, broken]}, {"specversion": "1.0"}):
        status, answer = server.post(told)
        assert status == 400, answer
        assert answer["error"]
    assert server.post(b"{}", Content_Encoding="gzip")[0] == 400
    assert server.post(b" " * (1 << 20) + b"{}")[0] == 413
    assert server.post([examples.CLOUD] * 1001)[0] == 413
    assert server.request("GET", "/events")[0] == 405
    assert server.request("GET", "/none")[0] == 404
    assert server.health()["events"]["waiting"] == 0
    for path in ("/health", "/health/live", "/health/ready"):
        assert server.request("GET", path)[0] == 200


def test_dead_letters_are_kept_and_replayed(start, upload, tmp_path):
    """An object that is missing is tried again, then listed with the reason; when it is there, a replay is enough."""
    server = start("--map", f"photos={tmp_path / 'upload'}", "--attempts", "3")
    upload("text.jpg", b"this is no picture")
    upload("cut.jpg", photo(RED)[:700])
    for number, name in enumerate(("late.jpg", "text.jpg", "cut.jpg")):
        assert server.post(examples.upload("photos", name, number))[0] == 202
    assert server.settle() == {"waiting": 0, "done": 0, "dead": 3, "ignored": 0}
    with server.journal() as journal:
        letters = {letter.event.uri: letter for letter in journal.dead()}
        late = letters["s3://photos/late.jpg"]
        assert (late.attempts, late.reason) == (3, "there is no such object")
        assert letters["s3://photos/text.jpg"].attempts == letters["s3://photos/cut.jpg"].attempts == 3
        assert "not a picture" in letters["s3://photos/text.jpg"].reason
        upload("late.jpg", photo(BLUE))
        assert journal.replay([late.key[:10]]) == 1
        assert server.settle()["done"] == 1
        assert [row["label"] for row in server.rows()] == ["blue"]
        code, counts, notes = server.stop()
        assert (code, counts) == (0, {"waiting": 0, "done": 1, "dead": 2, "ignored": 0})
        assert "given up after 3 attempts" in notes
        assert journal.replay() == 2


def test_an_event_waits_for_the_next_start(start, upload, tmp_path):
    """What was accepted and not done when the server was killed is done by the next one, and no row comes twice."""
    server = start("--map", f"photos={tmp_path / 'upload'}", "--first-pause-s", "600")
    for number in range(12):
        upload(f"{number}.jpg", photo(RED, seed=number))
        assert server.post(examples.upload("photos", f"{number}.jpg", number))[0] == 202
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(60)
    again = start("--map", f"photos={tmp_path / 'upload'}")
    assert again.settle()["done"] == 12
    assert len(again.rows()) == 12
    assert again.stop()[0] == 0


KILLED = """
import contextlib, os, signal, sys
from pathlib import Path
import imagelake
from imagelake.cli.models_add import registry_of
from imagelake.serve.event_formats import read_events
from imagelake.serve.event_store import Journal
from imagelake.serve.event_worker import EventWorker, WorkOptions
from imagelake.serve.object_fetch import ObjectFetcher, ObjectOptions
from imagelake.serve.plane import Plane
from imagelake.serve.predictions import PlanePredictor, PredictionWriter
from imagelake.serve.served_models import open_named

folder = Path(sys.argv[1])

class Dying(Journal):
    def finish(self, events):
        os.kill(os.getpid(), signal.SIGKILL)

tables = imagelake.open(folder / "t.lake", create=True).tables
journal = Dying(folder / "t.lake" / "events", works=True)
journal.accept(read_events([], sys.stdin.buffer.read()))
plane = Plane()
plane.load(open_named("colors", registry=registry_of(folder / "models")))
reader = ObjectFetcher(ObjectOptions(folders={"photos": folder / "upload"}))
worker = EventWorker(
    journal, reader, PlanePredictor(plane, "colors"), PredictionWriter(tables), WorkOptions(commit_s=0.01)
)
worker.start()
"""


def test_killed_between_prediction_and_mark(start, upload, tmp_path):
    """The row is in the lake, the event still waits: done again by the next start, there is exactly one row."""
    upload("a.jpg", photo(RED))
    told = json.dumps(examples.upload("photos", "a.jpg")).encode()
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, input=told, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert imagelake.open(tmp_path / "t.lake").tables.predictions.count() == 1
    server = start("--map", f"photos={tmp_path / 'upload'}")
    assert server.settle() == {"waiting": 0, "done": 1, "dead": 0, "ignored": 0}
    [row] = server.rows()
    assert (row["label"], row["event_id"]) == ("red", "request-1")


def test_many_events_are_few_commits(start, upload, tmp_path):
    """The table does not get a version for each event; batches are worked on in any order."""
    server = start("--map", f"photos={tmp_path / 'upload'}", "--commit-s", "1")
    records = []
    for number in range(60):
        upload(f"{number}.jpg", photo((RED, GREEN, BLUE)[number % 3], seed=number))
        records += examples.upload("photos", f"{number}.jpg", number)["Records"]
    assert server.post({"Records": records})[1]["accepted"] == 60
    before = imagelake.open(server.lake).tables.predictions.version()
    assert server.settle()["done"] == 60
    rows = server.rows()
    assert imagelake.open(server.lake).tables.predictions.version() - before <= 12
    assert {row["uri"]: row["label"] for row in rows} == {
        f"s3://photos/{number}.jpg": LABELS[number % 3] for number in range(60)
    }


def test_pictures_can_be_kept(start, upload, tmp_path):
    """With --keep-pictures they are in the lake, with the place of the event, and the prediction names them."""
    upload("gate/a b.jpg", photo(RED, gps=False))
    server = start("--map", f"photos={tmp_path / 'upload'}", "--keep-pictures")
    server.post(examples.CLOUD)
    server.settle()
    assert server.stop()[0] == 0
    lake = imagelake.open(server.lake)
    [image] = lake.sql("select id, latitude, metadata from images").to_pylist()
    assert [row["image_id"] for row in server.rows()] == [image["id"]]
    assert image["latitude"] == 48.1
    assert json.loads(image["metadata"])["uri"] == "s3://photos/gate/a b.jpg"


def test_a_key_is_asked_for(start, tmp_path):
    """Without it 401 and nothing is kept; with it, in either header; health for probes is open; it is in no output."""
    server = start("--map", f"photos={tmp_path / 'upload'}", IMAGELAKE_API_KEY="camera:sesame-open")
    told = examples.upload("photos", "a.jpg")
    assert server.post(told)[0] == 401
    assert server.post(told, Authorization="Bearer wrong")[0] == 401
    assert server.request("GET", "/health")[0] == 401
    assert server.request("GET", "/health/ready")[0] == 200
    assert server.post(told, Authorization="Bearer sesame-open")[1]["accepted"] == 1
    assert server.post(told, X_API_Key="sesame-open")[1]["known"] == 1
    _, _, notes = server.stop()
    assert "sesame" not in notes


def test_a_web_page_may_not_post(shared):
    """Without a key, a page of another site in a browser on this machine is refused; so is a name that leads here."""
    server, _ = shared
    told = examples.upload("photos", "a.jpg")
    assert server.post(told, Origin="https://evil.example")[0] == 403
    assert server.post(told, Host="evil.example")[0] == 403


def test_slow_and_lying_senders(shared):
    """A body that is shorter than it says is not taken; others are answered meanwhile."""
    server, _ = shared
    parts = urlsplit(server.said["listening"])
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    connection.putrequest("POST", "/events")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b'{"Records": [')
    assert server.post(examples.S3_TEST)[0] == 200
    connection.close()
    assert server.post(examples.S3_TEST)[0] == 200
    assert server.health()["events"]["waiting"] == 0


def test_a_sender_asks_whether_it_may_send(start, tmp_path):
    """The handshake of web hooks, without a key, since the sender may have none then; anything else needs it."""
    server = start("--map", f"photos={tmp_path / 'upload'}", IMAGELAKE_API_KEY="sesame")
    parts = urlsplit(server.said["listening"])
    asked = {"WebHook-Request-Origin": "eventgrid.azure.net", "WebHook-Request-Rate": "120"}
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.request("OPTIONS", "/events", headers=asked)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    assert answer.headers["WebHook-Allowed-Origin"] == "eventgrid.azure.net"
    assert answer.headers["WebHook-Allowed-Rate"] == "*"
    assert answer.headers["Allow"] == "POST, OPTIONS"
    connection.close()
    for path, headers in (("/events", {}), ("/events", {"WebHook-Request-Origin": "a b"}), ("/health", asked)):
        assert server.request("OPTIONS", path, headers=headers)[0] == 401


def test_senders_come_again_when_too_many_wait(start, tmp_path):
    """503 and when; nothing of the request is kept."""
    (tmp_path / "none-yet").mkdir()
    server = start("--map", f"photos={tmp_path / 'none-yet'}", "--max-waiting", "2", "--first-pause-s", "600")
    (tmp_path / "none-yet").rmdir()
    assert server.post(examples.upload("photos", "a.jpg", 1))[0] == 202
    records = [examples.upload("photos", f"{n}.jpg", n)["Records"][0] for n in (2, 3)]
    parts = urlsplit(server.said["listening"])
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.request("POST", "/events", examples.body({"Records": records}), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
    assert "at most 2" in json.loads(answer.read())["error"]
    connection.close()
    assert server.post(examples.upload("photos", "a.jpg", 1))[1]["known"] == 1
    assert server.health()["events"]["waiting"] == 1
