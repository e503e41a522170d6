"""STL-10 and CIFAR-10 in their binary forms: every pixel in its place, every label with its picture, any download."""

import hashlib
import io
import json
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from imagelake.cli.main import app
from imagelake.errors import InputError
from imagelake.files import path_to_uri
from imagelake.pixels.decode import decode
from imagelake.pixels.picture import open_picture
from imagelake.pixels.png import encode_png
from imagelake.sources import stl10_download
from imagelake.sources.open import open_source
from imagelake.sources.stl10 import Cifar10, Stl10
from imagelake.sources.stl10_download import FILES, download_stl10
from pictures import make_image, scene

NAMES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]


def rows_of(source):
    return [row for batch in source.batches() for row in batch.to_pylist()]


def pixels_of(data):
    return decode(open_picture(data))


def column_major(image):
    """A picture byte by byte as the data set's page tells it: plane, then column, then row."""
    return bytes(
        image[y, x, channel] for channel in range(3) for x in range(image.shape[1]) for y in range(image.shape[0])
    )


def row_major(image):
    return bytes(
        image[y, x, channel] for channel in range(3) for y in range(image.shape[0]) for x in range(image.shape[1])
    )


def write_stl10(folder, *, pictures=(), labels=b"", unlabeled=(), test=()):
    folder.mkdir(exist_ok=True)
    (folder / "train_X.bin").write_bytes(b"".join(map(column_major, pictures)))
    (folder / "train_y.bin").write_bytes(labels)
    (folder / "test_X.bin").write_bytes(b"".join(map(column_major, test)))
    (folder / "test_y.bin").write_bytes(bytes([10]) * len(test))
    (folder / "unlabeled_X.bin").write_bytes(b"".join(map(column_major, unlabeled)))
    (folder / "class_names.txt").write_text("\n".join(NAMES) + "\n")
    return folder


@pytest.mark.parametrize("size_wh", [(1, 1), (1, 7), (60, 40), (96, 96), (300, 200)])
def test_a_png_is_without_loss(size_wh):
    """Its pixels come back as they were, also where it takes several blocks, and from a view that is not in order."""
    image = scene(*size_wh)
    assert np.array_equal(pixels_of(encode_png(image)), image)
    assert np.array_equal(pixels_of(encode_png(image.transpose(1, 0, 2))), image.transpose(1, 0, 2))


def test_a_png_is_the_same_everywhere():
    """Equal pixels give these very bytes, whatever library versions are installed: ids depend on it."""
    found = hashlib.sha256(encode_png(np.arange(96 * 96 * 3, dtype=np.uint32).astype(np.uint8).reshape(96, 96, 3)))
    assert found.hexdigest() == "881e1ad258ed99cdb736e30f90d4345c218393cf3c41eb935378a5346d51ca43"


@pytest.mark.parametrize(
    "wrong", [np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)]
)
def test_what_is_no_picture_is_refused(wrong):
    """The message names the shape."""
    with pytest.raises(InputError, match="PNG takes"):
        encode_png(wrong)


def test_an_empty_file_yields_nothing(tmp_path):
    """No pictures, no rows, an estimate of none."""
    source = Stl10(str(write_stl10(tmp_path)))
    assert rows_of(source) == []
    assert source.estimate() == 0


def test_pixels_are_column_major(tmp_path):
    """Each pixel of a picture without symmetry is where the data set's page says."""
    image = scene(96, 96)
    folder = write_stl10(tmp_path, pictures=[image], labels=b"\x03")
    (row,) = rows_of(Stl10(str(folder)))
    assert np.array_equal(pixels_of(row["bytes"]), image)
    assert not np.array_equal(image, image.transpose(1, 0, 2))
    assert row["uri"] == path_to_uri(folder / "train_X.bin") + "#row=0"
    assert json.loads(row["metadata"]) == {"split": "train", "row": 0, "labels": ["car"]}


def test_every_picture_comes_once_with_its_label(tmp_path):
    """Train, test and unlabeled, more than one reading long, in the folder that the archive unpacks to."""
    pictures = [make_image(seed, 96, 96) for seed in range(70)]
    labels = bytes(1 + seed % 10 for seed in range(70))
    folder = write_stl10(
        tmp_path / "stl10_binary", pictures=pictures, labels=labels, test=pictures[:2], unlabeled=pictures[:3]
    )
    (folder / "fold_indices.txt").write_text("0 69\n1 69\n")
    source = Stl10(str(tmp_path))
    rows = rows_of(source)
    assert source.estimate() == len(rows) == len({row["uri"] for row in rows}) == 75
    known = [json.loads(row["metadata"]) for row in rows]
    for number, (row, picture) in enumerate(zip(rows, pictures, strict=False)):
        assert np.array_equal(pixels_of(row["bytes"]), picture)
        assert known[number]["labels"] == [NAMES[number % 10]]
    assert known[69]["folds"] == [0, 1]
    assert "folds" not in known[2]
    assert [each["split"] for each in known[70:]] == ["test"] * 2 + ["unlabeled"] * 3
    assert known[70]["labels"] == ["truck"]
    assert "labels" not in known[-1]


def test_without_names_labels_are_numbers(tmp_path):
    """As the data set numbers them, from 1."""
    folder = write_stl10(tmp_path, pictures=[scene(96, 96)], labels=b"\x0a")
    (folder / "class_names.txt").unlink()
    assert json.loads(rows_of(Stl10(str(folder)))[0]["metadata"])["labels"] == ["10"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_X.bin", b"\x00" * 27_649, "27,649 bytes, no multiple of 27,648"),
        ("train_X.bin", b"\x00" * 27_648 * 2, "1 labels and train_X.bin 2 pictures"),
        ("train_y.bin", b"\x0b", "label 11; STL-10 has 1 to 10"),
        ("train_y.bin", b"\x00", "label 0; STL-10 has 1 to 10"),
        ("train_y.bin", None, "no labels beside it"),
        ("class_names.txt", b"cat\ndog\n", "names 2 classes; there are 10"),
        ("class_names.txt", b"\xff\xfe", "no text"),
        ("fold_indices.txt", b"0 1\n", "'1' is no row of 1"),
        ("fold_indices.txt", "²\n".encode(), "is no row of 1"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, name, content, message):
    """Before the first picture, with the file's name and what is wrong."""
    folder = write_stl10(tmp_path, pictures=[scene(96, 96)], labels=b"\x01")
    (folder / name).unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message)):
        Stl10(str(folder))


@pytest.mark.parametrize("source", [Stl10, Cifar10])
def test_a_folder_without_the_files(tmp_path, source):
    """The message says which are looked for; what is no folder is refused as well."""
    with pytest.raises(InputError, match=r"\.bin"):
        source(str(tmp_path))
    with pytest.raises(InputError, match="nowhere"):
        source(str(tmp_path / "nowhere"))


def test_a_file_that_ends_while_it_is_read(tmp_path):
    """The pictures that are gone are rows with the reason."""
    folder = write_stl10(tmp_path, labels=b"\x01" * 100)
    (folder / "train_X.bin").write_bytes(b"\x07" * 27_648 * 100)
    batches = Stl10(str(folder)).batches()
    rows = next(batches).to_pylist()
    with (folder / "train_X.bin").open("r+b") as file:
        file.truncate(27_648 * 70)
    rows += [row for batch in batches for row in batch.to_pylist()]
    assert len(rows) == 100
    assert [row["error"] is None for row in rows] == [True] * 70 + [False] * 30


def test_cifar_pixels_are_row_major(tmp_path):
    """Each pixel and label of both splits is where the data set's page says."""
    pictures = [make_image(seed, 32, 32) for seed in range(3)]
    for name, chosen in (("data_batch_3.bin", pictures[:2]), ("test_batch.bin", pictures[2:])):
        content = b"".join(bytes([number]) + row_major(image) for number, image in enumerate(chosen, start=8))
        (tmp_path / name).write_bytes(content)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (tmp_path / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    source = Cifar10(str(tmp_path))
    rows = rows_of(source)
    assert source.estimate() == 3
    for row, picture in zip(rows, pictures, strict=True):
        assert np.array_equal(pixels_of(row["bytes"]), picture)
    assert [json.loads(row["metadata"]) for row in rows] == [
        {"split": "train", "row": 0, "labels": ["ship"]},
        {"split": "train", "row": 1, "labels": ["truck"]},
        {"split": "test", "row": 0, "labels": ["ship"]},
    ]


def test_cifar_damage_is_told(tmp_path):
    """A file that is cut off is refused; a label that cannot be is that row's reason."""
    (tmp_path / "test_batch.bin").write_bytes(b"\x00" * 3072)
    with pytest.raises(InputError, match="no multiple of 3,073"):
        Cifar10(str(tmp_path))
    (tmp_path / "test_batch.bin").write_bytes(b"\x25" + b"\x00" * 3072 + b"\x02" + b"\x00" * 3072)
    first, second = rows_of(Cifar10(str(tmp_path)))
    assert first["bytes"] is None
    assert "label is 37" in first["error"]
    assert json.loads(second["metadata"])["labels"] == ["2"]


class Server(ThreadingHTTPServer):
    """Serves one file with Range; `drops` connections are cut halfway, `errors` are answered before any content."""

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.drops, self.errors, self.ranges, self.knows_ranges = content, 0, [], [], True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/stl10_binary.tar.gz"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        if server.errors:
            self.send_error(server.errors.pop(0))
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.knows_ranges else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        content = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if server.drops:
            server.drops -= 1
            content = content[: len(content) // 2]
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def archive_of(folder, *, more=()):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name in FILES:
            if (folder / name).exists():
                tar.add(folder / name, f"stl10_binary/{name}")
        for name in more:
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("stl10_binary/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return out.getvalue()


@pytest.fixture
def original(tmp_path):
    pictures = [make_image(seed, 96, 96) for seed in range(20)]
    folder = write_stl10(tmp_path / "original", pictures=pictures, labels=b"\x01" * 20)
    (folder / "fold_indices.txt").write_text("0 1\n")
    return folder


@pytest.fixture
def server(original, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = Server(archive_of(original, more=["../../outside.bin", "/abs.bin", "stl10_binary/run.sh"]))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def md5_of(data):
    return hashlib.md5(data).hexdigest()


def download(server, folder, **options):
    return download_stl10(folder, server.url, md5=options.pop("md5", md5_of(server.content)), wait_s=0, **options)


def test_a_download_brings_the_very_files_and_nothing_else(tmp_path, server, original):
    """The known files under their names; what else the archive holds, wherever it points, is not unpacked."""
    target = tmp_path / "target"
    assert download(server, target) == target
    assert sorted(path.name for path in target.iterdir()) == sorted(FILES)
    assert all((target / name).read_bytes() == (original / name).read_bytes() for name in FILES)
    assert len(rows_of(Stl10(str(target)))) == 20
    assert not list(tmp_path.rglob("outside.bin"))


def test_a_lost_connection_is_taken_up_where_it_ended(tmp_path, server):
    """The second request asks for the rest only, and progress ends at the whole."""
    server.drops, seen = 1, []
    download(server, tmp_path / "target", progress=lambda here, total: seen.append((here, total)))
    size = len(server.content)
    assert server.ranges == [None, f"bytes={size // 2}-"]
    assert seen[-1] == (size, size)
    assert sorted(seen) == seen


def test_another_run_goes_on_from_what_is_here(tmp_path, server):
    """What an earlier run left is not asked for again, nor is anything once the files are there."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "stl10_binary.tar.gz.part").write_bytes(server.content[:1000])
    download(server, target)
    download(server, target)
    assert server.ranges == ["bytes=1000-"]


def test_a_part_that_is_whole_already_is_taken(tmp_path, server):
    """The server has nothing more, and the MD5 agrees."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "stl10_binary.tar.gz.part").write_bytes(server.content)
    download(server, target)
    assert len(rows_of(Stl10(str(target)))) == 20


def test_a_server_without_ranges_starts_again(tmp_path, server):
    """Its whole answer takes the place of what was here."""
    server.drops, server.knows_ranges = 1, False
    assert len(rows_of(Stl10(str(download(server, tmp_path / "target"))))) == 20


def test_a_server_that_is_busy_is_asked_again(tmp_path, server):
    """A 503 and a 429 pass."""
    server.errors = [503, 429]
    download(server, tmp_path / "target")
    assert len(server.ranges) == 3


def test_a_wrong_archive_is_removed(tmp_path, server):
    """The message has both sums; nothing of it is left, so the next run starts afresh and succeeds."""
    target = tmp_path / "target"
    with pytest.raises(InputError, match=f"{md5_of(server.content)}, not {'0' * 32}"):
        download(server, target, md5="0" * 32)
    assert list(target.iterdir()) == []
    download(server, target)


def test_a_part_of_another_file_is_found_out(tmp_path, server):
    """A rest that does not belong to what is here has another MD5."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "stl10_binary.tar.gz.part").write_bytes(b"x" * 1000)
    with pytest.raises(InputError, match="damaged or another file"):
        download(server, target)
    assert list(target.iterdir()) == []


def test_a_server_that_never_gets_on_is_given_up(tmp_path, server):
    """After some tries, with what is here kept and the way to go on."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "stl10_binary.tar.gz.part").write_bytes(server.content[:1000])
    server.errors = [503] * 20
    with pytest.raises(InputError, match=r"503.*1,000 bytes.*run again"):
        download(server, target)
    assert (target / "stl10_binary.tar.gz.part").read_bytes() == server.content[:1000]
    assert len(server.ranges) == 5


def test_addresses_that_lead_nowhere(tmp_path, server):
    """Not found is final; no server and no web address are errors, too."""
    server.errors = [404]
    with pytest.raises(InputError, match="404"):
        download(server, tmp_path / "target")
    assert len(server.ranges) == 1
    with pytest.raises(InputError, match="no web address"):
        download_stl10(tmp_path / "target", "file:///etc/passwd")
    with pytest.raises(InputError, match="cannot be downloaded"):
        download_stl10(tmp_path / "target", "http://127.0.0.1:9/x", wait_s=0)


def test_an_archive_of_something_else(tmp_path, server, original):
    """With the right sum but without the files, or no archive at all: the message says so."""
    (original / "test_y.bin").unlink()
    server.content = archive_of(original)
    with pytest.raises(InputError, match=r"holds no test_y\.bin"):
        download(server, tmp_path / "target")
    server.content = b"<html>sign in</html>"
    with pytest.raises(InputError, match=r"no tar\.gz archive"):
        download(server, tmp_path / "other")


def test_a_target_that_is_a_file(tmp_path, server):
    """The message names it."""
    (tmp_path / "target").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        download(server, tmp_path / "target")


def test_the_command_downloads_checks_and_goes_on(tmp_path, server, monkeypatch, capsys):
    """`datasets get stl10`: another archive is refused; the right one is unpacked, over a lost connection."""
    arguments = ["datasets", "get", "stl10", "--to", str(tmp_path / "data"), "--url", server.url, "--json"]
    with pytest.raises(InputError, match=stl10_download.MD5):
        app(arguments, standalone_mode=False)
    server.drops = 1
    monkeypatch.setattr(stl10_download.download_stl10, "__kwdefaults__", {"md5": md5_of(server.content), "wait_s": 0})
    app(arguments, standalone_mode=False)
    assert json.loads(capsys.readouterr().out) == {"name": "stl10", "folder": str(tmp_path / "data")}
    assert len(rows_of(open_source(f"stl10:{tmp_path / 'data'}"))) == 20
