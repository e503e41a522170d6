"""Where objects may be read from, and what keeps a stranger's event from reading anything else."""

import contextlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sources.s3_server import Fault, S3Server

from imagelake.errors import InputError
from imagelake.serve.event_upload import UploadEvent
from imagelake.serve.object_fetch import ObjectFetcher, ObjectOptions, oracle_address
from imagelake.serve.object_file import ObjectError, read_file


def event(uri, bucket="photos", **changes):
    return UploadEvent(id="1", source="test", kind="stored", uri=uri, bucket=bucket, **changes)


@contextlib.contextmanager
def fetching(**options):
    with contextlib.closing(ObjectFetcher(ObjectOptions(**options))) as fetcher:
        yield fetcher


def failure(fetcher, uri, bucket="photos", **changes):
    """Why an object cannot be had, and whether another try may help."""
    with pytest.raises(ObjectError) as error:
        fetcher.fetch(event(uri, bucket, **changes))
    return str(error.value), error.value.again


def stays(fetcher, uri, bucket="photos"):
    """Whether only a few more tries are worth it."""
    with pytest.raises(ObjectError) as error:
        fetcher.fetch(event(uri, bucket))
    return error.value.again and error.value.lasting


@pytest.fixture(scope="module")
def running():
    with S3Server("photos", "secrets") as server:
        yield server


@pytest.fixture
def s3(running, monkeypatch, tmp_path):
    running.reset()
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    return running


@pytest.fixture
def web():
    """A server on this machine that gives the path it was asked for, or goes elsewhere; its port and what it saw."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            gone = self.path.startswith("/gone")
            self.send_response(404 if gone else 302 if self.path == "/away" else 200)
            body = self.path.encode()
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", f"http://localhost:{self.server.server_port}/there")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port, seen
        server.shutdown()
        thread.join()


def test_nothing_is_allowed_by_itself():
    """Without a bucket, a folder or a host there is nothing to do; an address without its fields is refused."""
    with pytest.raises(InputError, match="--bucket"):
        ObjectOptions()
    for address in ("ftp://a/{bucket}/{name}", "https://a/{bucket}", "https://user:secret@a/b"):
        with pytest.raises(InputError, match="no address of an object") as error:
            ObjectOptions(buckets=frozenset({"a"}), object_storage=address)
        assert "secret" not in str(error.value)
    with pytest.raises(InputError, match="no name of a region"):
        oracle_address("evil.example/")


def test_only_what_is_allowed_is_read(tmp_path):
    """Buckets and hosts by their names; a size beyond the limit; said before anything is asked for."""
    with fetching(buckets=frozenset({"photos"}), hosts=frozenset({"a.example"}), max_bytes=10) as fetcher:
        assert fetcher.why_not(event("s3://photos/a.jpg", size=10)) is None
        assert fetcher.why_not(event("https://a.example/b.jpg", None)) is None
        assert "not one of those allowed" in fetcher.why_not(event("s3://secrets/a.jpg", "secrets"))
        assert "not one of those allowed" in fetcher.why_not(event("https://b.example/a.example", None))
        assert "not one of those allowed" in fetcher.why_not(event("https://a.example@b.example/", None))
        assert "11 bytes" in fetcher.why_not(event("s3://photos/a.jpg", size=11))
        assert "--region" in fetcher.why_not(event("oci://photos@space/a.jpg"))
        assert failure(fetcher, "s3://secrets/a.jpg", "secrets")[1] is False
    with fetching(buckets=frozenset({"*"})) as fetcher:
        assert fetcher.why_not(event("s3://anything/a.jpg", "anything")) is None
        assert "not one of" in fetcher.why_not(event("https://a.example/", None))
    with fetching(folders={"photos": tmp_path}) as fetcher:
        assert fetcher.why_not(event("gs://photos/a.jpg")) is None


def test_a_folder_stands_for_a_bucket(tmp_path):
    """Names are paths below it, as they are."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b +%20ü.jpg").write_bytes(b"data")
    with fetching(folders={"photos": tmp_path}) as fetcher:
        assert fetcher.fetch(event("s3://photos/a/b +%20ü.jpg")) == b"data"
        assert fetcher.fetch(event("oci://photos@space/a/b +%20ü.jpg")) == b"data"


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../out.jpg", "a/../../out.jpg", "a/./b.jpg", "a//b.jpg", "link/out.jpg", "out", "a"]
)
def test_nothing_outside_of_a_folder_is_read(tmp_path, name):
    """By no name and through no link; a folder or a pipe is no file. None of it is tried again."""
    inside = tmp_path / "inside"
    (inside / "a").mkdir(parents=True)
    (tmp_path / "out.jpg").write_bytes(b"secret")
    (inside / "link").symlink_to(tmp_path)
    (inside / "out").symlink_to(tmp_path / "out.jpg")
    with fetching(folders={"photos": inside}) as fetcher:
        assert failure(fetcher, f"s3://photos/{name}")[1] is False


def test_other_files_that_are_no_objects(tmp_path):
    """A pipe does not stop anybody, a file beyond the limit is not read; one that is not there may come."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"12345")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    with fetching(folders={"photos": tmp_path}, max_bytes=4) as fetcher:
        assert failure(fetcher, "s3://photos/pipe") == ("it is no file", False)
        assert failure(fetcher, "s3://photos/large") == ("it has 5 bytes; the limit is 4", False)
        assert failure(fetcher, "s3://photos/none") == ("there is no such object", True)
        for name in ("none", "self", "large/x", "n" * 300):
            assert stays(fetcher, f"s3://photos/{name}")
        assert failure(fetcher, "s3://photos/self")[1] is True
        assert failure(fetcher, f"s3://photos/{'n' * 300}")[1] is True


def test_objects_of_a_bucket(s3):
    """As they are, by any name; one that is not there, or that the store does not give, may be had later."""
    names = ["a b.jpg", "ü/日本.jpg", "100%25+x.jpg", "q?x=1#y"]
    for name in names:
        s3.put("photos", name, name.encode())
    with fetching(buckets=frozenset({"photos"}), max_bytes=20) as fetcher:
        for name in names:
            assert fetcher.fetch(event(f"s3://photos/{name}")) == name.encode()
        assert failure(fetcher, "s3://photos/none") == ("there is no such object", True)
        s3.put("photos", "large", b"x" * 21)
        assert failure(fetcher, "s3://photos/large") == ("it has 21 bytes; the limit is 20", False)
        for name in ("a//b", "../a", "a/", ""):
            assert failure(fetcher, f"s3://photos/{name}")[1] is False
        s3.faults["a b.jpg"] = Fault(status=403, code="AccessDenied")
        reason, again = failure(fetcher, "s3://photos/a b.jpg")
        assert "403" in reason
        assert again
        s3.faults["a b.jpg"] = Fault(status=403, code="AccessDenied")
        assert stays(fetcher, "s3://photos/a b.jpg")
        assert stays(fetcher, "s3://photos/none")
        s3.faults["a b.jpg"] = Fault(status=503, code="SlowDown")
        assert not stays(fetcher, "s3://photos/a b.jpg")


def test_the_version_of_the_event_is_read(s3):
    """Where the bucket keeps versions, that which the event is about, not what is there by now."""
    import obstore
    from obstore.store import S3Store

    store = S3Store("photos", allow_http=True, client_options={"allow_http": True})
    s3._backend().put_bucket_versioning("photos", "Enabled")
    first = obstore.put(store, "a.jpg", b"first")["version"]
    obstore.put(store, "a.jpg", b"second")
    with fetching(buckets=frozenset({"photos"})) as fetcher:
        assert fetcher.fetch(event("s3://photos/a.jpg", version=first)) == b"first"
        assert fetcher.fetch(event("s3://photos/a.jpg")) == b"second"


def test_without_credentials_there_is_a_word(s3, monkeypatch):
    """And another try may help: they can be set."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with fetching(buckets=frozenset({"photos"})) as fetcher:
        reason, again = failure(fetcher, "s3://photos/a.jpg")
    assert "no credentials" in reason
    assert again


def test_addresses_of_this_network_are_refused(web):
    """Whatever they are written like, until private ones are allowed; a redirect to one is refused too."""
    port, seen = web
    hosts = frozenset({"*"})
    with fetching(hosts=hosts) as fetcher:
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0", "2130706433", "169.254.169.254"):
            reason, again = failure(fetcher, f"http://{host}:{port}/a.jpg", None)
            assert not again, (host, reason)
    assert seen == []
    with fetching(hosts=hosts, allow_private=True) as fetcher:
        assert fetcher.fetch(event(f"http://127.0.0.1:{port}/a%20b.jpg?x=1", None)) == b"/a%20b.jpg?x=1"
        assert failure(fetcher, f"http://127.0.0.1:{port}/gone", None) == ("the server answers 404 Not Found", True)


def test_objects_of_object_storage(web, s3):
    """By the address that was set, with every sign of a name encoded; or over its interface that is like S3's."""
    port, seen = web
    address = f"http://127.0.0.1:{port}/p/secret/n/{{namespace}}/b/{{bucket}}/o/{{name}}"
    with fetching(buckets=frozenset({"photos"}), object_storage=address, allow_private=True) as fetcher:
        fetcher.fetch(event("oci://photos@space/a/b ü?{bucket}.jpg"))
        assert seen == ["/p/secret/n/space/b/photos/o/a%2Fb%20%C3%BC%3F%7Bbucket%7D.jpg"]
        for name in ("..", "../x", "a/../../b"):
            assert failure(fetcher, f"oci://photos@space/{name}")[1] is False
            assert "secret" not in failure(fetcher, f"oci://photos@space/{name}")[0]
    s3.put("photos", "a/b.jpg", b"data")
    with fetching(buckets=frozenset({"photos"}), object_storage="s3://{bucket}/{name}") as fetcher:
        assert fetcher.fetch(event("oci://photos@space/a/b.jpg")) == b"data"
    assert oracle_address("eu-frankfurt-1").startswith("https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/{name")


def test_a_redirect_leads_only_to_hosts_that_are_allowed(web):
    """Whoever is allowed may not send us to whom is not, on this network least of all."""
    port, seen = web
    with fetching(hosts=frozenset({"127.0.0.1"}), allow_private=True) as fetcher:
        reason, _ = failure(fetcher, f"http://127.0.0.1:{port}/away", None)
        assert "localhost is not one of those allowed" in reason
        assert stays(fetcher, f"http://127.0.0.1:{port}/away", None)
        assert stays(fetcher, f"http://127.0.0.1:{port}/gone", None)
    assert "/there" not in seen
    with fetching(hosts=frozenset({"127.0.0.1", "localhost"}), allow_private=True) as fetcher:
        assert fetcher.fetch(event(f"http://127.0.0.1:{port}/away", None)) == b"/there"


def test_a_folder_is_nothing_to_fetch(tmp_path):
    """Stores tell of the empty objects that stand for folders; none becomes a dead letter."""
    with fetching(buckets=frozenset({"photos"})) as fetcher:
        assert "folder" in fetcher.why_not(event("s3://photos/gate/"))


def test_a_folder_that_is_not_there_may_come(tmp_path):
    """As a disk that is not mounted: that may take longer than an object."""
    with fetching(folders={"photos": tmp_path / "mount"}) as fetcher:
        assert failure(fetcher, "s3://photos/a.jpg") == ("the folder that stands for its bucket is not there", True)
        assert not stays(fetcher, "s3://photos/a.jpg")


def test_a_link_that_comes_meanwhile_leads_nowhere(tmp_path, monkeypatch):
    """A folder that became a link after its name was resolved is not gone through."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside / "gate", outside):
        folder.mkdir(parents=True)
        (folder / "a.jpg").write_bytes(folder.name.encode())
    resolve = Path.resolve

    def and_then(path, strict=False):
        found = resolve(path, strict)
        if path.name == "a.jpg":
            (inside / "gate").rename(inside / "moved")
            (inside / "gate").symlink_to(outside)
        return found

    monkeypatch.setattr(Path, "resolve", and_then)
    with pytest.raises(ObjectError):
        read_file(inside, "gate/a.jpg", 100)
