"""`imagelake receive` over real HTTP: what is taken in, what is refused and how."""

import hashlib
import json
import signal
import socket
import threading
import time

import numpy as np
import pytest

from pictures import encode, make_image


def picture(seed):
    return encode(make_image(seed))


def large(seed):
    """About 120 KB."""
    return encode(np.random.default_rng(seed).integers(0, 256, (200, 200, 3), dtype="uint8"), "PNG")


def raw(receiver, text, timeout=30):
    """What comes back for bytes that are sent as they are, until the other side closes."""
    with socket.create_connection(receiver.where, timeout=timeout) as connection:
        connection.sendall(text)
        out = b""
        while data := connection.recv(65536):
            out += data
        return out


@pytest.fixture
def receiver(receive):
    return receive()


def test_a_picture_is_answered_with_its_id_and_is_in_the_lake(receiver):
    """201 and the SHA-256 of the bytes; 200 when it is known; after the end the row has the bytes."""
    data = picture(1)
    image_id = hashlib.sha256(data).hexdigest()
    assert receiver.post(data)[::2] == (201, {"id": image_id, "known": False})
    assert receiver.post(data)[::2] == (200, {"id": image_id, "known": True})
    code, counts, notes = receiver.stop()
    assert (code, notes) == (0, "")
    assert counts == {"received": 2, "known": 1, "rejected": 0, "waiting": 0, "waiting_bytes": 0}
    lake = receiver.opened()
    assert lake.tables.images.bytes_of([image_id]) == {image_id: data}
    assert lake.sql("select uris from images").to_pylist() == [{"uris": [f"receive://unknown/unknown/{image_id}"]}]
    receipts = lake.sql("select work, found, added, known, rejected from receipts").to_pylist()
    assert receipts == [{"work": "receive", "found": 2, "added": 1, "known": 1, "rejected": 0}]


def test_queries_find_a_picture_while_the_receiver_runs(receive):
    """Soon, not only at its end; nothing is left in the spool then."""
    receiver = receive("--commit-s", "0.2")
    receiver.post(picture(1))
    deadline = time.monotonic() + 60
    while receiver.health()["waiting"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert receiver.opened().info().images == 1
    assert [path.name for path in (receiver.lake / "incoming").iterdir()] == ["lock"]


def test_what_else_is_known_comes_with_the_picture(receiver):
    """From headers, from the query, from a form: into the URI and the metadata."""
    headers = {"X-Captured-At": "2026-05-17T14:03:00+02:00", "X-Latitude": "48.1", "X-Longitude": "11.5"}
    device = "cäm/1"
    status, _, first = receiver.post(picture(1), "?device=other", **headers, X_Device=device.encode())
    assert status == 201
    status, _, second = receiver.post(picture(2), "?device=gate&captured_at=2026-05-17T14:03:00%2B02:00")
    assert status == 201
    status, _, third = receiver.post_form(("latitude", "-90"), ("longitude", "180"), ("image", picture(3)))
    assert status == 201
    receiver.stop()
    rows = receiver.opened().sql("select id, uris, metadata from images").to_pylist()
    found = {row["id"]: (row["uris"], json.loads(row["metadata"])) for row in rows}
    when = "2026-05-17T14:03:00+02:00"
    assert found == {
        first["id"]: (
            [f"receive://c%C3%A4m%2F1/{when}/{first['id']}"],
            {"captured_at": when, "latitude": 48.1, "longitude": 11.5, "device": device},
        ),
        second["id"]: ([f"receive://gate/{when}/{second['id']}"], {"captured_at": when, "device": "gate"}),
        third["id"]: ([f"receive://unknown/unknown/{third['id']}"], {"latitude": -90.0, "longitude": 180.0}),
    }


@pytest.mark.parametrize(
    ("query", "given"),
    [
        ("?captured_at=yesterday", "yesterday"),
        ("?latitude=91&longitude=0", "91"),
        ("?latitude=nan&longitude=0", "nan"),
        ("?latitude=0&longitude=-180.5", "-180.5"),
        ("?latitude=1", "latitude"),
        ("?lattitude=1", "lattitude"),
        ("?device=a%0Ab", "'a\\nb'"),
    ],
)
def test_a_field_without_sense_is_400(shared, query, given):
    """The answer says what was given, what is allowed and what to do; nothing is taken in."""
    before = shared.health()["received"]
    status, _, answer = shared.post(picture(1), query)
    assert status == 400
    assert answer["given"] == given
    assert set(answer) == {"error", "given", "allowed", "do"}
    assert all(answer.values())
    assert shared.health()["received"] == before


def test_what_is_no_picture_is_422_and_a_rejection(receiver):
    """With the reason, which `imagelake rejections` has too."""
    cut = picture(1)[:-400]
    status, _, answer = receiver.post(cut)
    assert status == 422
    assert receiver.post(b"hello")[2]["error"] == "this is text, not a picture"
    assert receiver.post(b"")[0] == 400
    _, counts, _ = receiver.stop()
    assert counts["rejected"] == 2
    reasons = {row["reason"] for row in receiver.opened().rejections().to_pylist()}
    assert reasons == {answer["error"], "this is text, not a picture"}
    assert receiver.opened().info().images == 0


def test_several_files_in_one_form(receiver):
    """Each has its own answer, in their order; 201, or 207 where they differ."""
    status, _, answer = receiver.post_form(("image", picture(1)), ("image", picture(2)), ("device", "cam"))
    assert status == 201
    assert [each["known"] for each in answer["images"]] == [False, False]
    status, _, answer = receiver.post_form(("image", picture(1)), ("image", b"no"), ("image", picture(3)))
    assert status == 207
    assert [each["status"] for each in answer["images"]] == [200, 422, 201]
    status, _, answer = receiver.post_form(*(("image", picture(seed)) for seed in range(20, 60)))
    assert (status, len(answer["images"])) == (201, 40)


@pytest.mark.parametrize(
    "parts", [[], [("device", "a")], [("photo", b"x")], [("size", "1"), ("image", b"x")], [("image", b"")]]
)
def test_a_form_without_sense_is_400(shared, parts):
    """No file, a file or a field of another name, an empty file."""
    status, _, answer = shared.post_form(*parts)
    assert status == 400
    assert all(answer.values())


def test_a_form_that_cannot_be_read_is_400(shared):
    """No boundary, another boundary, cut off."""
    for kind in ("multipart/form-data", "multipart/form-data; boundary=other", "multipart/form-data; boundary=edge"):
        assert shared.post(b"--edge\r\nContent-Disp", Content_Type=kind)[0] == 400


def test_other_kinds_paths_and_methods(shared):
    """415, 404, 405; all as JSON."""
    assert shared.post(picture(1), Content_Type="application/x-www-form-urlencoded")[0] == 415
    assert shared.post(picture(1), Content_Encoding="gzip")[0] == 415
    assert shared.post(picture(1), Content_Type="application/octet-stream")[0] in {200, 201}
    assert shared.request("POST", "/image", picture(1))[0] == 404
    assert shared.request("GET", "/images")[0] == 405


def test_the_key(receive):
    """401 without it or with another; either header will do; /health asks for none and tells none."""
    receiver = receive(IMAGELAKE_API_KEY="s3cret-key")
    status, headers, answer = receiver.post(picture(1))
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    for shown in (
        {"X_API_Key": "s3cret-kez"},
        {"Authorization": "Bearer s3cret-key2"},
        {"Authorization": "s3cret-key"},
    ):
        assert receiver.post(picture(1), **shown)[0] == 401
    assert receiver.post(picture(1), X_API_Key="s3cret-key")[0] == 201
    assert receiver.post(picture(1), Authorization="bearer s3cret-key")[0] == 200
    assert "s3cret" not in json.dumps([answer, receiver.health()])


def test_a_page_of_another_site_may_not_post_without_a_key(shared):
    """A browser says where a page is from; a form there could otherwise post to this machine."""
    assert shared.post(picture(1), Origin="https://example.com")[0] == 403


def test_too_large_is_413(receive):
    """Whether it says so, lies, or does not say; and the next request is served."""
    receiver = receive("--max-mb", "1")
    assert receiver.post(bytes(1 << 20) + b"x")[0] == 413
    status = receiver.request("POST", "/images", iter([bytes(1 << 18)] * 5), {"Content-Type": "image/png"})[0]
    assert status == 413  # in chunks, without a length
    head = "POST /images HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nConnection: close\r\n"
    head += "Content-Length: {}\r\n\r\n"
    assert raw(receiver, head.format(10**14).encode()).startswith(b"HTTP/1.1 413")
    # What comes after the length that was told is no part of the picture.
    data = picture(1)
    raw(receiver, head.format(len(data)).encode() + data + bytes(2 << 20))
    assert receiver.post(picture(2))[0] == 201
    receiver.stop()
    ids = set(receiver.opened().sql("select id from images").column("id").to_pylist())
    assert ids <= {hashlib.sha256(each).hexdigest() for each in (data, picture(2))}


def test_a_body_that_does_not_end_is_408(receive):
    """After the time that a body may take; what was reserved for it is free again, and nothing was taken in."""
    receiver = receive("--timeout-s", "0.5")
    head = b"POST /images HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\n"
    assert raw(receiver, head + b"abc").startswith(b"HTTP/1.1 408")
    assert receiver.health()["waiting_bytes"] == 0
    assert receiver.health()["received"] == 0


def test_a_connection_that_says_nothing_is_closed(receive):
    """Half a head, or a refused body that never ends, holds a connection only for a while."""
    receiver = receive("--timeout-s", "0.3", "--max-mb", "1")
    assert raw(receiver, b"POST /ima") == b""
    head = b"POST /images HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 2000000\r\n\r\n"
    assert raw(receiver, head + b"abc").startswith(b"HTTP/1.1 413")


def test_who_leaves_in_the_middle_disturbs_nobody(receiver):
    """The connection is cut in the body; its memory comes back."""
    with socket.create_connection(receiver.where) as connection:
        connection.sendall(
            b"POST /images HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9999\r\n\r\nabc"
        )
        while not receiver.health()["waiting_bytes"]:
            time.sleep(0.01)
    while receiver.health()["waiting_bytes"]:
        time.sleep(0.01)
    assert receiver.post(picture(1))[0] == 201


def test_above_the_budget_is_429_before_the_body_is_read(receive):
    """Who announces a body that has no room is told after how many seconds to come again; then it is taken."""
    receiver = receive("--memory-mb", "3", "--max-mb", "1")
    head = b"POST /images HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000000\r\n\r\n"
    holding = [socket.create_connection(receiver.where) for _ in range(4)]
    try:
        for connection in holding[:3]:
            connection.sendall(head + b"abc")
        while receiver.health()["waiting_bytes"] < 3_000_000:
            time.sleep(0.01)
        waiting = holding[3]
        waiting.sendall(head)  # not a byte of the body
        waiting.settimeout(30)
        answer = waiting.recv(65536)
        assert answer.startswith(b"HTTP/1.1 429")
        assert b"retry-after: 2\r\n" in answer
        assert receiver.health()["refused_busy"] == 1
    finally:
        for connection in holding:
            connection.close()
    while receiver.health()["waiting_bytes"]:
        time.sleep(0.01)
    assert receiver.post(large(1))[0] == 201


def test_under_more_than_it_can_take_every_request_has_an_answer(receive):
    """From many threads at once into a small budget: 201 or 429, and what was answered is in the lake."""
    receiver = receive("--memory-mb", "3", "--max-mb", "1", "--commit-s", "0.5")
    answers = []

    def post(number):
        answers.extend(receiver.post(large(100 * number + each))[::2] for each in range(5))

    threads = [threading.Thread(target=post, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status for status, _ in answers} <= {201, 429}
    assert len(answers) == 60
    kept = {answer["id"] for status, answer in answers if status == 201}
    assert receiver.stop()[0] == 0
    assert set(receiver.opened().sql("select id from images").column("id").to_pylist()) == kept


def test_two_posts_of_one_picture_at_once(receiver):
    """One of them is new, whoever comes first; the lake has it once."""
    answers = []

    def post():
        answers.append(receiver.post(picture(1))[0])

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * 7 + [201]
    receiver.stop(signal.SIGINT)
    assert receiver.opened().info().images == 1


def test_a_known_lake_knows_its_pictures_at_the_next_start(receive, lake, photos):
    """Also those that came by ingest; the URI is added."""
    lake.ingest(photos)
    receiver = receive(lake=lake.root)
    data = (photos / "3.jpg").read_bytes()
    status, _, answer = receiver.post(data, X_Device="cam")
    assert (status, answer["known"]) == (200, True)
    receiver.stop()
    (row,) = lake.sql(f"select uris from images where id = '{answer['id']}'").to_pylist()
    assert [uri.partition(":")[0] for uri in row["uris"]] == ["file", "receive"]
    assert lake.info().images == 12


def test_what_was_deleted_meanwhile_comes_back_when_it_is_posted(receive, lake, photos):
    """A picture is never answered for and then not there, whoever deletes beside the receiver."""
    lake.ingest(photos)
    receiver = receive(lake=lake.root)
    lake.tables.images.delete("id IS NOT NULL")
    answer = receiver.post((photos / "3.jpg").read_bytes())[2]
    receiver.stop()
    assert lake.sql("select id from images").column("id").to_pylist() == [answer["id"]]


def test_a_stop_finishes_what_was_accepted(receive):
    """SIGTERM in the middle of requests: each is answered or was not accepted, and what was answered is in the lake."""
    receiver = receive()
    answered, began = [], threading.Event()

    def post(number):
        for each in range(200):
            try:
                status, _, answer = receiver.post(picture(1000 * number + each))
            except OSError:
                return
            assert status == 201
            answered.append(answer["id"])
            began.set()

    threads = [threading.Thread(target=post, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    began.wait(60)
    time.sleep(0.5)
    code, counts, _ = receiver.stop()
    for thread in threads:
        thread.join()
    assert code == 0
    assert counts["received"] == len(answered)
    assert set(answered) == set(receiver.opened().sql("select id from images").column("id").to_pylist())
