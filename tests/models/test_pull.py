"""Pulling models over a real server that cuts connections, sends wrong bytes and changes files, and from folders."""

import dataclasses
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from imagelake import download
from imagelake.download import Download, etag_path, fetch
from imagelake.errors import InputError, ModelError
from imagelake.models.catalogue import CatalogueEntry, catalogue, find_entry
from imagelake.models.file_manifest import file_fingerprint
from imagelake.models.pull import PullOptions, pull
from imagelake.models.registry import Registry


def model_bytes(seed=0):
    """A model that averages a picture: its input is called `pixels`, some noise makes it larger than one packet."""
    noise = np.random.default_rng(seed).random((1, 3, 200, 200), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["pixels", "noise"], ["sum"]),
            helper.make_node("GlobalAveragePool", ["sum"], ["vector"]),
        ],
        "average",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 200, 200])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 3, 1, 1])],
        [onnx.numpy_helper.from_array(noise, "noise")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


MODEL = model_bytes()


class Server(ThreadingHTTPServer):
    """Serves one file; what it does wrong is set on it."""

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag = content, '"one"'
        self.requests, self.drops, self.errors = [], 0, []
        self.honors_if_range, self.knows_ranges, self.after_drop, self.leads_to = True, True, None, None

    @property
    def base(self):
        return f"http://127.0.0.1:{self.server_port}/models"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        server.requests.append((self.path, asked, condition))
        if server.leads_to:
            self.send_response(302)
            self.send_header("Location", server.leads_to)
            self.end_headers()
            return
        if server.errors:
            self.send_error(server.errors.pop(0))
            return
        same = condition is None or condition == server.etag or not server.honors_if_range
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and same and server.knows_ranges else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        content = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if server.drops:
            server.drops -= 1
            content = content[: len(content) // 2]
            if server.after_drop:
                server.content, server.etag = server.after_drop
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = Server(MODEL)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def entry_of(content=MODEL, **changes):
    fields = {
        "name": "average",
        "summary": "the mean of a picture",
        "task": "embedder",
        "file": "average.onnx",
        "addresses": (),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "hash_source": "this test",
        "licence": "CC0-1.0",
        "reached": False,
        "manifest": {
            "runtime": "onnx",
            "inputs": [{"name": "input", "shape": [-1, 3, 200, 200], "layout": "nchw"}],
            "transforms": [{"resize": {"size_wh": [200, 200]}}, {"dtype": "float32"}, {"layout": "chw"}],
            "head": {"pooling": "avg"},
            "outputs": ["vector"],
        },
    }
    return CatalogueEntry(**fields | changes)


def options(server=None, **changes):
    return PullOptions(**{"source": server.base if server else None, "wait_s": 0} | changes)


def downloads(registry):
    return sorted(path.name for path in (registry.folder / ".downloads").iterdir())


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "models")


def test_every_entry_of_the_catalogue_is_whole():
    """Each makes a manifest, has https addresses, and says that it was never tried where nobody could."""
    names = [entry.name for entry in catalogue()]
    assert {"resnet50-features", "ssd-mobilenet", "yolox-nano", "yolox-tiny", "yolox-s"} < set(names)
    assert {"clip-vit-b32", "siglip-base", "dinov2-small"} < set(names)
    for entry in catalogue():
        assert entry.file_manifest("somewhere").name == entry.name
        assert entry.addresses
        assert all(address.startswith("https://") for address in entry.addresses)
        assert entry.sha256 is None or len(entry.sha256) == 64
        assert not entry.reached, "say so here once somebody has tried it"
    with pytest.raises(ModelError, match="nearest are yolox-nano"):
        find_entry("yolox-nan")


def test_a_pulled_model_is_the_very_file_and_runs(server, registry):
    """Its hash is the catalogue's, its input is called as the file calls it, and nothing stays in between."""
    seen = []
    pulled = pull(entry_of(), registry, options(server), lambda here, total: seen.append((here, total)))
    assert pulled.model.path("model").read_bytes() == MODEL
    assert pulled.model.manifest.inputs[0].name == "pixels"
    assert pulled.model.manifest.inputs[0].layout == "nchw"
    assert pulled.source == f"{server.base}/average.onnx"
    assert seen[-1] == (len(MODEL), len(MODEL))
    assert downloads(registry) == ["average.onnx.lock"]
    assert len(file_fingerprint(registry.get("average").manifest)) == 64


def test_what_is_there_is_not_fetched_again(server, registry):
    """A second pull asks for nothing; a model that was damaged is found out."""
    pull(entry_of(), registry, options(server))
    again = pull(entry_of(), registry, options(server))
    assert again.source is None
    assert len(server.requests) == 1
    path = registry.folder / "average" / "average.onnx"
    path.write_bytes(MODEL[:-1])
    with pytest.raises(ModelError, match="damaged or changed"):
        pull(entry_of(), registry, options(server))
    assert pull(entry_of(), registry, options(server, replace=True)).model.path("model").read_bytes() == MODEL


def test_a_lost_connection_is_taken_up_with_the_mark_of_the_version(server, registry):
    """The second request asks for the rest, if the file still is the same."""
    server.drops = 1
    pull(entry_of(), registry, options(server))
    (_, first, none), (_, rest, condition) = server.requests
    assert (first, none) == (None, None)
    assert (rest, condition) == (f"bytes={len(MODEL) // 2}-", '"one"')


def test_another_run_goes_on_from_what_is_here(server, registry):
    """What an earlier process left, with its mark, is not asked for again."""
    folder = registry.folder / ".downloads"
    folder.mkdir(parents=True)
    (folder / "average.onnx.part").write_bytes(MODEL[:1000])
    etag_path(folder / "average.onnx.part").write_text('"one"')
    pull(entry_of(), registry, options(server))
    assert [(asked, condition) for _, asked, condition in server.requests] == [("bytes=1000-", '"one"')]


@pytest.mark.parametrize("honors", [True, False])
def test_a_file_that_changes_midway_is_begun_anew(server, registry, honors):
    """No file is put together from two versions, whether the server honors If-Range or not."""
    other = model_bytes(1)
    server.drops, server.after_drop, server.honors_if_range = 1, (other, '"two"'), honors
    pulled = pull(entry_of(other), registry, options(server))
    assert pulled.model.path("model").read_bytes() == other


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_a_change_that_no_mark_tells_is_found_by_the_hash(server, registry, etag):
    """What was begun from another version is thrown away and fetched anew, once; a weak mark is never asked with."""
    folder = registry.folder / ".downloads"
    folder.mkdir(parents=True)
    (folder / "average.onnx.part").write_bytes(b"x" * 1000)
    server.etag = etag
    pulled = pull(entry_of(), registry, options(server))
    assert pulled.model.path("model").read_bytes() == MODEL
    assert [(asked, condition) for _, asked, condition in server.requests] == [("bytes=1000-", None), (None, None)]


def test_wrong_bytes_are_refused_and_nothing_stays(server, registry):
    """The message has both hashes; the next pull starts afresh."""
    server.content = MODEL[:-1] + b"\x00"
    with pytest.raises(ModelError, match=f"{hashlib.sha256(server.content).hexdigest()}.*nothing of it was kept"):
        pull(entry_of(), registry, options(server))
    assert registry.names() == ()
    assert downloads(registry) == ["average.onnx.lock"]
    server.content = MODEL
    pull(entry_of(), registry, options(server))


def test_a_file_of_another_size_is_refused_before_it_comes(server, registry):
    """A server that offers more than the catalogue tells is not listened to."""
    server.content = MODEL * 3
    with pytest.raises(ModelError, match=f"{len(MODEL) * 3:,} bytes there, not {len(MODEL):,}"):
        pull(entry_of(), registry, options(server))
    assert downloads(registry) == ["average.onnx.lock"]


def test_a_server_without_ranges_starts_again(server, registry):
    """Its whole answer takes the place of what was here."""
    server.drops, server.knows_ranges = 1, False
    assert pull(entry_of(), registry, options(server)).model.path("model").read_bytes() == MODEL


def test_a_busy_server_is_asked_again_and_a_lost_file_is_not(server, registry):
    """503 and 429 pass; 404 is final and leads to the next address, then to the advice."""
    server.errors = [503, 429]
    pull(entry_of(), registry, options(server))
    assert len(server.requests) == 3
    server.errors = [404, 404]
    entry = entry_of(name="other", addresses=(f"{server.base}/a", f"{server.base}/b"))
    with pytest.raises(ModelError, match=r"404.*404.*Nobody could try this address.*--from FOLDER"):
        pull(entry, registry, options())
    assert len(server.requests) == 5
    server.errors = [404]
    assert pull(entry, registry, options()).source == f"{server.base}/b"


def test_an_address_that_leads_off_the_web(server, registry):
    """A redirect to something that is no web address is not followed."""
    server.leads_to = "file:///etc/passwd"
    with pytest.raises(ModelError, match=r"302.*file:///etc/passwd"):
        pull(entry_of(), registry, options(server))
    server.leads_to = "ftp://127.0.0.1/x"
    with pytest.raises(ModelError, match="leads on to ftp://"):
        pull(entry_of(), registry, options(server))
    with pytest.raises(Exception, match="leads on to http://plain"):
        download._StayEncrypted().redirect_request(
            Request("https://safe/x"), None, 302, "Found", None, "http://plain/x"
        )


def test_without_a_way_to_the_web(registry, tmp_path):
    """The message says what to do, and a folder, a file or a whole download of an earlier run serve instead."""
    entry = entry_of(addresses=("http://127.0.0.1:9/average.onnx",))
    with pytest.raises(ModelError, match=r"get average\.onnx elsewhere and run `imagelake models pull average --from"):
        pull(entry, registry, options())
    usb = tmp_path / "usb"
    usb.mkdir()
    with pytest.raises(ModelError, match=r"there is no .*usb/average\.onnx"):
        pull(entry, registry, options(source=str(usb)))
    (usb / "average.onnx").write_bytes(MODEL)
    assert pull(entry, registry, options(source=str(usb))).source == str(usb / "average.onnx")
    registry.remove("average")
    pull(entry, registry, options(source=str(usb / "average.onnx")))
    registry.remove("average")
    (registry.folder / ".downloads" / "average.onnx").write_bytes(MODEL)
    assert pull(entry, registry, options()).model.path("model").read_bytes() == MODEL


def test_a_wrong_file_in_a_folder(registry, tmp_path):
    """It is refused, and left where it is."""
    (tmp_path / "average.onnx").write_bytes(b"something")
    with pytest.raises(ModelError, match="SHA-256"):
        pull(entry_of(), registry, options(source=str(tmp_path)))
    assert (tmp_path / "average.onnx").read_bytes() == b"something"
    assert downloads(registry) == ["average.onnx.lock"]


def test_a_file_whose_hash_nobody_knows(server, registry):
    """It needs --sha256 or --trust-first; what was taken on trust holds from then on."""
    entry = entry_of(sha256=None)
    with pytest.raises(ModelError, match=r"--sha256.*--trust-first"):
        pull(entry, registry, options(server))
    assert server.requests == []
    with pytest.raises(ModelError, match="no SHA-256"):
        pull(entry, registry, options(server, sha256="ABC"))
    with pytest.raises(ModelError, match="wanted is 0000"):
        pull(entry, registry, options(server, sha256="0" * 64))
    pulled = pull(entry, registry, options(server, trust_first=True))
    assert pulled.trusted_first
    assert pulled.sha256 == hashlib.sha256(MODEL).hexdigest()
    registry.remove("average")
    server.content = model_bytes(1)
    with pytest.raises(ModelError, match=f"wanted is {pulled.sha256}"):
        pull(dataclasses.replace(entry, size_bytes=None), registry, options(server, trust_first=True))
    server.content = MODEL
    assert not pull(entry, registry, options(server)).trusted_first


def test_a_model_that_does_not_run_is_not_added(server, registry):
    """The right hash is not enough: the model is tried first."""
    server.content = b"no model at all"
    with pytest.raises(ModelError, match="cannot run"):
        pull(entry_of(server.content), registry, options(server))
    assert registry.names() == ()


def test_two_pulls_of_one_model_at_once(server, registry):
    """The second is told, and changes nothing."""
    entry = entry_of()
    other = []

    def meddle(_here, _total):
        if not other:
            with pytest.raises(ModelError, match="another process is pulling average"):
                pull(entry, registry, options(server))
            other.append(1)

    assert pull(entry, registry, options(server), meddle).model.path("model").read_bytes() == MODEL
    assert other


def test_a_registry_that_cannot_be_written(tmp_path, server):
    """The message names the folder."""
    (tmp_path / "models").write_text("")
    with pytest.raises(ModelError, match="cannot list the models"):
        pull(entry_of(), Registry(tmp_path / "models"), options(server))


def test_a_download_of_nothing(server, tmp_path):
    """An address of no web is refused; an empty file arrives as an empty file."""
    with pytest.raises(InputError, match="no web address"):
        fetch(Download("file:///etc/passwd", tmp_path / "x"))
    server.content = b""
    server.errors = [416]
    with pytest.raises(InputError, match="416"):
        fetch(Download(f"{server.base}/x", tmp_path / "x", wait_s=0))
    assert download.etag_path(tmp_path / "x").exists() is False


def test_the_command_lists_and_pulls(server, registry, tmp_path, capsys, monkeypatch):
    """The list says that no address was tried; a pull says where the file came from; JSON says the same."""
    typer = pytest.importorskip("typer")
    from imagelake.cli.models_pull import register
    from imagelake.models import catalogue as home

    app = typer.Typer()
    register(app)
    app(["pull"], standalone_mode=False)
    assert "never tried" in capsys.readouterr().out
    app(["pull", "--json"], standalone_mode=False)
    assert {e["name"]: e["reached"] for e in json.loads(capsys.readouterr().out)}["yolox-nano"] is False
    entry = entry_of(addresses=(f"{server.base}/average.onnx",))
    monkeypatch.setattr(home, "catalogue", lambda: (entry,))
    app(["pull", "average", "--models", str(registry.folder)], standalone_mode=False)
    said = capsys.readouterr()
    assert "nobody could try the address of average" in said.err
    assert f"Added average from {server.base}/average.onnx" in said.out
    app(["pull", "average", "--models", str(registry.folder), "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["name"] == "average"
