"""The REST interface for people over real HTTP: every way to give a picture, and every refusal."""

import contextlib
import hashlib
import http.server
import json
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from serve.rest_site import serving

import imagelake
from imagelake.serve.served_models import open_named
from imagelake.serve.site import Limits
from pictures import encode, make_image

HOSTILE = "<img src=x onerror=alert(1)>.png"
PIXELS = 1_000_000
DATA = {seed: encode(make_image(seed), "PNG") for seed in (*range(6), 50)}
IDS = {seed: hashlib.sha256(data).hexdigest() for seed, data in DATA.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven pictures, one with the name of a script."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed, data in DATA.items():
        (folder / (HOSTILE if seed == 0 else f"{seed}.png")).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def lake(folder, tmp_path_factory):
    lake = imagelake.open(tmp_path_factory.mktemp("lake") / "test.lake", create=True)
    lake.ingest(folder)
    lake.extract()
    return lake


@pytest.fixture(scope="module")
def models():
    names = ("efficientnet-lite0", "efficientnet-lite0-embedder", "subject")
    return [open_named(name, max_pixels=PIXELS) for name in names]


@pytest.fixture(scope="module")
def server(lake, models):
    with serving(lake, models, Limits(max_body=1 << 20, max_pixels=PIXELS)) as running:
        yield running


@pytest.fixture(scope="module")
def bare():
    """A server of nothing."""
    with serving(None) as running:
        yield running


@contextlib.contextmanager
def web(data):
    """A web server on this machine that gives the same picture at every address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}/a.png"
        finally:
            running.shutdown()
            thread.join()


def without_time(answer):
    status, told = answer
    told.pop("seconds", None)
    return status, told


@pytest.mark.parametrize("name", ["classify", "detect", "embed", "search"])
def test_every_way_to_give_a_picture_gives_the_same(server, name):
    """The body of any kind, a form, or the id of an image of the lake."""
    path, data = f"/api/{name}", DATA[3]
    status, expected = without_time(server.post(path, data, "image/png"))
    assert status == 200, expected
    for kind in ("application/octet-stream", "image/x-anything; charset=utf-8", "application/x-www-form-urlencoded"):
        assert without_time(server.post(path, data, kind)) == (200, expected)
    assert without_time(server.post_form(path, ("image", data))) == (200, expected)
    assert without_time(server.post_json(path, id=IDS[3])) == (200, expected)
    assert without_time(server.post(f"{path}?id={IDS[3]}")) == (200, expected)
    assert without_time(server.post_form(path, ("id", IDS[3]))) == (200, expected)


def test_a_picture_at_an_address(lake, models, server):
    """It is fetched; but not from this machine or its network, unless the server allows that."""
    with web(DATA[3]) as address, serving(lake, models[:1], allow_private=True) as allowing:
        _, expected = without_time(server.post("/api/classify", DATA[3]))
        assert without_time(allowing.post_json("/api/classify", url=address)) == (200, expected)
        assert allowing.post_form("/api/search", ("url", address))[1]["matches"][0]["id"] == IDS[3]
        status, told = server.post_json("/api/classify", url=address)
    assert status == 400
    assert "open internet" in told["error"]
    for url in ("file:///etc/passwd", "http://169.254.169.254/latest/meta-data", "http://localhost:1/", "nonsense"):
        assert server.post_json("/api/search", url=url)[0] == 400
    assert server.post("/api/classify?url=http://example.org/a.jpg")[0] == 400  # not in the address


def test_classify(server):
    """The best classes with their labels, so many as are asked for."""
    status, told = server.post("/api/classify?top_k=3", DATA[1])
    assert (status, told["model"], told["version"]) == (200, "efficientnet-lite0", "1")
    assert len(told["predictions"]) == 3
    chances = [each["probability"] for each in told["predictions"]]
    assert chances == sorted(chances, reverse=True)
    assert all(each["label"] and 0 <= each["class_id"] < 1000 for each in told["predictions"])
    assert len(server.post("/api/classify", DATA[1])[1]["predictions"]) == 5
    all_of_them = server.post("/api/classify?k=1000", DATA[1])[1]["predictions"]
    assert sum(each["probability"] for each in all_of_them) == pytest.approx(1, abs=1e-4)
    assert server.post(f"/api/classify?min_score={chances[1]}", DATA[1])[1]["predictions"] == told["predictions"][:2]
    assert server.post_form("/api/classify", ("image", DATA[1]), ("k", "3"))[1]["predictions"] == told["predictions"]


def test_detect(server):
    """Boxes in 0..1 with labels and scores."""
    status, told = server.post("/api/detect", DATA[1])
    assert (status, told["model"]) == (200, "subject")
    for each in told["boxes"]:
        left, top, right, bottom = each["box"]
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert each["label"]
    assert server.post("/api/detect?min_score=1", DATA[1])[1]["boxes"] == []


def test_embed_gives_the_vector_that_the_lake_has(server, lake):
    """To the last digit of float32 that tells it from its neighbors, so that a search by it finds the image."""
    status, told = server.post("/api/embed", DATA[2])
    assert (status, told["dimensions"], len(told["vector"])) == (200, 1280, 1280)
    np.testing.assert_allclose(told["vector"], lake.index().vectors_of([IDS[2]])[0], atol=1e-5)
    status, found = server.post_json("/api/search", vector=told["vector"], k=1)
    assert (status, found["matches"][0]["id"]) == (200, IDS[2])
    text = ",".join(map(str, told["vector"]))
    assert server.post_form("/api/search", ("vector", text), ("k", "1"))[1]["matches"] == found["matches"]


def test_a_box_is_as_good_as_the_part_alone(server):
    """To classify, detect and embed: only what is inside counts, and boxes come back in the whole picture."""
    whole = encode(np.concatenate([make_image(3), make_image(50)], axis=1), "PNG")
    part = encode(make_image(50), "PNG")
    inside, alone = (
        server.post(f"/api/classify{box}", data)[1] for box, data in (("?box=0.5,0,1,1", whole), ("", part))
    )
    assert inside["predictions"] == alone["predictions"]
    inside, alone = (server.post(f"/api/embed{box}", data)[1] for box, data in (("?box=0.5,0,1,1", whole), ("", part)))
    np.testing.assert_allclose(inside["vector"], alone["vector"], atol=1e-5)
    inside, alone = (server.post(f"/api/detect{box}", data)[1] for box, data in (("?box=0.5,0,1,1", whole), ("", part)))
    assert len(inside["boxes"]) == len(alone["boxes"]) > 0
    for found, expected in zip(inside["boxes"], alone["boxes"], strict=True):
        left, top, right, bottom = expected["box"]
        assert found["box"] == pytest.approx([0.5 + left / 2, top, 0.5 + right / 2, bottom], abs=1e-6)
    assert server.post("/api/classify?box=0,0,1,1", b"no picture")[0] == 400


def test_search_answers_what_the_lake_answers(server, lake):
    """The same matches, with links that work."""
    status, told = server.post("/api/search?k=4", DATA[2])
    assert status == 200
    expected = [(match.id, match.uri, match.distance) for match in lake.search(DATA[2], k=4)]
    assert [(each["id"], each["uri"], each["distance"]) for each in told["matches"]] == expected
    assert told["embedding_set"] == lake.info().embedding_sets[0].name
    first = told["matches"][0]
    assert (first["box"], first["label"]) == (None, None)
    assert server.get(first["links"]["image"])[1]["id"] == IDS[2]
    assert server.ask("GET", first["links"]["picture"])[2] == DATA[2]
    assert server.ask("GET", first["links"]["thumbnail"])[2][:2] == b"\xff\xd8"


def test_exclude_self_and_where(server):
    """The query itself is left out; only images for which the condition holds are found."""
    found = server.post("/api/search?exclude_self=true&k=100", DATA[2])[1]["matches"]
    assert len(found) == 6
    assert IDS[2] not in {each["id"] for each in found}
    assert server.post_json("/api/search", id=IDS[2], exclude_self=True, k=100)[1]["matches"] == found
    where = f"id IN ('{IDS[1]}', '{IDS[4]}')"
    found = server.post_json("/api/search", id=IDS[2], where=where)[1]["matches"]
    assert {each["id"] for each in found} == {IDS[1], IDS[4]}
    assert server.post_json("/api/search", id=IDS[2], where="width > 1000")[1]["matches"] == []


def test_a_box_finds_what_the_crop_alone_finds(server):
    """Whether the picture is sent with it, as JSON, as a form or in the address."""
    whole = encode(np.concatenate([make_image(3), make_image(50)], axis=1), "PNG")
    expected = server.post("/api/search?k=7", DATA[50])[1]["matches"]
    assert expected[0]["id"] == IDS[50]
    inside = server.post("/api/search?k=7&box=0.5,0,1,1", whole)[1]["matches"]
    assert [each["id"] for each in inside] == [each["id"] for each in expected]
    form = server.post_form("/api/search", ("image", whole), ("box", "[0.5, 0, 1, 1]"), ("k", "7"))
    assert form[1]["matches"] == inside
    assert server.post("/api/search?k=1&box=0,0,0.5,1", whole)[1]["matches"][0]["id"] == IDS[3]
    status, told = server.post_json("/api/search", id=IDS[3], box=[0, 0, 1, 0.5], k=1)
    assert (status, len(told["matches"])) == (200, 1)


def test_search_follows_the_lake(folder, tmp_path, lake):
    """What was ingested and extracted while the server runs is found, and its picture is there."""
    other = imagelake.open(tmp_path / "other.lake", create=True)
    other.ingest(folder)
    other.extract()
    data = encode(make_image(99), "PNG")
    image_id = hashlib.sha256(data).hexdigest()
    with serving(other) as running:
        assert running.post("/api/search?k=1", data)[1]["matches"][0]["id"] != image_id
        assert running.ask("GET", f"/api/images/{image_id}")[0] == 404
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "99.png").write_bytes(data)
        other.ingest(tmp_path / "more")
        other.extract()
        deadline = time.monotonic() + 60
        while running.post("/api/search?k=1", data)[1]["matches"][0]["id"] != image_id:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert running.ask("GET", f"/api/images/{image_id}/picture")[2] == data


def test_an_image_is_told_as_data(server):
    """A name that is a script comes back as JSON that no browser runs."""
    status, headers, body = server.ask("GET", f"/api/images/{IDS[0]}")
    assert (status, headers["content-type"], headers["x-content-type-options"]) == (200, "application/json", "nosniff")
    told = json.loads(body)
    assert (told["id"], told["format"], told["width"], told["height"]) == (IDS[0], "png", 160, 120)
    assert not {"bytes", "thumbnail"} & told.keys()
    _, headers, body = server.ask("POST", "/api/search?k=1", DATA[0], {"Content-Type": "image/png"})
    assert (headers["content-type"], headers["x-content-type-options"]) == ("application/json", "nosniff")
    assert "onerror" in json.loads(body)["matches"][0]["uri"]


def test_a_picture_is_kept_by_caches_and_sent_in_part(server):
    """ETag, If-None-Match, HEAD, Range, If-Range; with its kind, and never taken for a page."""
    path, data = f"/api/images/{IDS[1]}/picture", DATA[1]
    status, headers, body = server.ask("GET", path)
    assert (status, body, headers["content-type"]) == (200, data, "image/png")
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    tag = headers["etag"]
    status, headers, body = server.ask("HEAD", path)
    assert (status, headers["content-length"], headers["etag"], body) == (200, str(len(data)), tag, b"")
    for given in (tag, f'W/{tag}, "x"', "*"):
        assert server.ask("GET", path, headers={"If-None-Match": given})[::2] == (304, b"")
    assert server.ask("GET", path, headers={"If-None-Match": '"other"'})[0] == 200
    status, headers, body = server.ask("GET", path, headers={"Range": "bytes=10-19"})
    assert (status, body, headers["content-range"]) == (206, data[10:20], f"bytes 10-19/{len(data)}")
    assert server.ask("GET", path, headers={"Range": "bytes=-7"})[::2] == (206, data[-7:])
    assert server.ask("GET", path, headers={"Range": f"bytes={len(data) - 3}-"})[::2] == (206, data[-3:])
    assert server.ask("GET", path, headers={"Range": "bytes=5-", "If-Range": '"old"'})[::2] == (200, data)
    for nothing in ("bytes=5-2", "bytes=-", "lines=1-2", "bytes=0-1,5-6", "bytes=x-y"):
        assert server.ask("GET", path, headers={"Range": nothing})[::2] == (200, data)
    status, headers, _ = server.ask("GET", path, headers={"Range": f"bytes={len(data)}-"})
    assert (status, headers["content-range"]) == (416, f"bytes */{len(data)}")
    assert server.ask("GET", path, headers={"Range": "bytes=-0"})[0] == 416


def test_a_thumbnail(server):
    """A JPEG with a tag of its own."""
    status, headers, body = server.ask("GET", f"/thumbnail/{IDS[1]}")
    assert (status, headers["content-type"], body[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert server.ask("GET", f"/thumbnail/{IDS[1]}", headers={"If-None-Match": headers["etag"]})[0] == 304


@pytest.mark.parametrize("path", ["/api/images/{}", "/api/images/{}/picture", "/thumbnail/{}"])
@pytest.mark.parametrize("name", ["0" * 64, "x", "%00", "%ff", "..%2f..%2fetc%2fpasswd", "' OR 1=1 --", "A" * 64])
def test_an_image_that_is_not_there(server, path, name):
    """Is 404, or 400 where that is no name at all."""
    status, told = server.ask("GET", path.format(name.replace(" ", "%20")))[::2]
    assert status in {400, 404}
    assert json.loads(told)["error"] if path.startswith("/api") else told


def test_the_models(server):
    """All of them, with what they take and give."""
    status, told = server.get("/api/models")
    assert status == 200
    found = {each["name"]: each for each in told["models"]}
    assert {name: each["task"] for name, each in found.items()} == {
        "efficientnet-lite0": "classifier", "efficientnet-lite0-embedder": "embedder", "subject": "detector",
    }  # fmt: skip
    first = found["efficientnet-lite0"]
    assert (first["classes"], first["default"], first["ready"]) == (1000, True, True)
    assert first["inputs"][0]["pictures"]


def bomb():
    """A PNG of 64,000 x 64,000 pixels by its header."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 64_000, 64_000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", ["classify", "detect", "embed", "search"])
@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "image/jpeg", 400),
        (b"hello", "image/jpeg", 400),
        (DATA[1][:200], "image/png", 400),
        (encode(make_image(9))[:-300], "image/jpeg", 400),
        (bomb(), "image/png", 400),
        (encode(np.zeros((1001, 1000, 3), np.uint8), "PNG"), "image/png", 413),
        (bytes((1 << 20) + 1), "image/png", 413),
        (DATA[1], "text/html", 415),
        (b"", "multipart/form-data; boundary=edge", 400),
        (b"--edge--", "multipart/form-data", 400),
        (b"not a form", "multipart/form-data; boundary=edge", 400),
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"url": 1}', "application/json", 400),
        (b'{"url": "http://a/", "url2": 1}', "application/json", 400),
        (b'{"url": "\\ud800"}', "application/json", 400),
        (b'{"id": NaN}', "application/json", 400),
        (b'{"id": "' + b"0" * 64 + b'", "k": 1' + b"0" * 5000 + b"}", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'"' + b"a" * (1 << 20) + b'"', "application/json", 413),
    ],
)
def test_what_is_no_picture_is_refused(server, name, body, kind, status):
    """With a status of the client and a reason."""
    found, told = server.post(f"/api/{name}", body, kind)
    assert found == status, told
    assert told["error"]


@pytest.mark.parametrize(
    "query",
    [
        "k=0", "k=-1", "k=1.5", "k=1001", "k=" + "9" * 5000, "k=nan", "k=", "k=%D9%A3", "k=1&k=2", "k=1&top_k=2",
        "box=0,0,1", "box=0.5,0,0.5,1", "box=0,0,nan,1", "box=0,0,1,1.01", "box=-0.1,0,1,1", "box=1,1,0,0", "box=a",
        "box=0,0,1e400,1", "exclude_self=perhaps", "where=", "where=nonsense", "where=width%20%3E", "where=%00",
        "where=1%3D1)%20UNION%20SELECT%20uri%20FROM%20rejections%20WHERE%20(1%3D1", "unknown=1", "model=x", "%00=1",
        "where=" + "a" * 4001, "id=" + "0" * 63, "id=" + "0" * 64, "vector=1,2", "%FF=%FF",
    ],
)  # fmt: skip
def test_a_field_without_sense_is_400(server, query):
    """The answer says what was given and what is allowed."""
    status, told = server.post(f"/api/search?{query}", DATA[1])
    assert status == 400
    assert told["error"]


@pytest.mark.parametrize(
    "fields",
    [
        {"vector": []}, {"vector": [1, 2]}, {"vector": ["a"]}, {"vector": [True] * 1280}, {"vector": [1e39] * 1280},
        {"vector": [10**400] * 1280}, {"vector": [0.1] * 1280, "exclude_self": True}, {"k": True}, {},
        {"vector": [0.1] * 1280, "box": [0, 0, 1, 1]}, {"vector": [0.1] * 1280, "id": IDS[1]}, {"vector": {"a": 1}},
        {"id": IDS[1], "k": 2.5}, {"id": IDS[1], "where": 5}, {"id": IDS[1], "box": "0"}, {"id": "0" * 64},
        {"id": IDS[1], "box": [0, 0, 1, 10**400]}, {"id": IDS[1], "model": "efficientnet-lite0"},
    ],
)  # fmt: skip
def test_json_without_sense_is_400(server, fields):
    """Also numbers of any length and of any kind."""
    status, told = server.post_json("/api/search", **fields)
    assert status == 400
    assert told["error"]


def test_the_model_that_is_asked_for(server):
    """One that is not there is 404, one for something else is 400; the answer says which there are."""
    status, told = server.post("/api/classify?model=nobody", DATA[1])
    assert status == 404
    assert "efficientnet-lite0" in told["error"]
    status, told = server.post("/api/classify?model=subject", DATA[1])
    assert status == 400
    assert "efficientnet-lite0" in told["error"]
    assert server.post_form("/api/classify", ("image", DATA[1]), ("model", "nobody"))[0] == 404
    assert server.post("/api/embed?model=efficientnet-lite0-embedder", DATA[1])[0] == 200


def test_more_than_one_query_is_refused(server):
    """A picture, an id, an address: one of them."""
    status, told = server.post(f"/api/search?id={IDS[1]}", DATA[1])
    assert (status, told["error"]) == (400, "more than one query")
    assert server.post_form("/api/search", ("image", DATA[1]), ("image", DATA[2]))[0] == 400
    assert server.post_form("/api/search", ("photo", DATA[1]))[0] == 400
    assert server.post_form("/api/search", ("image", b""))[0] == 400
    assert server.post("/api/search", DATA[1], **{"Content-Encoding": "gzip"})[0] == 415


@pytest.mark.parametrize("name", ["classify", "detect", "embed", "search"])
def test_a_server_of_nothing(bare, name):
    """Says what it lacks, and what to start it with."""
    status, told = bare.post(f"/api/{name}", DATA[1])
    assert status == 404
    assert "--" in told["error"]
    assert bare.get("/api/models") == (200, {"models": []})
    assert bare.get(f"/api/images/{IDS[1]}")[0] == 404


def test_many_at_once(server):
    """Each gets its own answer."""
    with ThreadPoolExecutor(8) as pool:
        seeds = [*DATA] * 4
        found = list(pool.map(lambda seed: server.post("/api/search?k=1", DATA[seed]), seeds))
    assert [told["matches"][0]["id"] for _, told in found] == [IDS[seed] for seed in seeds]


def test_a_defect_tells_nothing(server, monkeypatch):
    """500, "internal error", and no word of what happened."""
    monkeypatch.setattr(type(server.site.lake), "image", lambda *_: 1 / 0)
    assert server.get(f"/api/images/{IDS[1]}") == (500, {"error": "internal error"})
