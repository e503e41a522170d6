"""What an archive yields: every picture once, whatever the packing, and never more memory than a picture needs."""

import io
import json
import os
import random
import signal
import stat
import tarfile
import tracemalloc
import zipfile

import pyarrow as pa
import pytest

from imagelake import files, schema
from imagelake.errors import InputError
from imagelake.sources import archive as archive_module
from imagelake.sources import folder, rows
from imagelake.sources.archive import Archive, is_archive
from pictures import encode, make_image

PICTURE = encode(make_image(1, 32, 24))
TARS = ["tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst"]


def tar_bytes(members, **options):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_bytes(members, compression=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def pack(form, members):
    if form == "zip":
        return zip_bytes(members)
    plain = tar_bytes(members)
    if form == "tar":
        return plain
    if form == "tar.xz":
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:xz") as tar, tarfile.open(fileobj=io.BytesIO(plain)) as source:
            for info in source:
                tar.addfile(info, source.extractfile(info))
        return out.getvalue()
    return compressed(plain, {"tar.gz": "gzip", "tar.bz2": "bz2", "tar.zst": "zstd"}[form])


def compressed(data, codec):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as out:
        out.write(data)
    return sink.getvalue().to_pybytes()


def rows_of(path):
    found = []
    for batch in Archive(os.fspath(path)).batches():
        assert batch.schema == schema.SOURCE
        assert 0 < batch.num_rows <= folder.BATCH_ROWS
        found += batch.to_pylist()
    return found


def read(tmp_path, data, name="a.tar"):
    path = tmp_path / name
    path.write_bytes(data)
    return rows_of(path)


def names_of(found):
    return [row["uri"].partition("!/")[2] for row in found]


@pytest.mark.parametrize("form", ["zip", *TARS])
def test_an_empty_archive_yields_nothing(tmp_path, form):
    """No rows, and no error."""
    assert read(tmp_path, pack(form, []), f"a.{form}") == []


@pytest.mark.parametrize("form", ["zip", *TARS])
def test_every_packing_yields_the_same_rows(tmp_path, form):
    """The members that are pictures by suffix or content, in their order, byte for byte."""
    members = [("a.JPG", PICTURE), ("in/b", PICTURE + b"b"), ("words.md", b"x" * 99), ("in/c.png", b""), ("empty", b"")]
    members += [("nested.zip", zip_bytes([("d.jpg", PICTURE)]))]
    found = read(tmp_path, pack(form, members), f"photos of.{form}")
    name = (tmp_path / f"photos of.{form}").as_uri()
    assert [row["uri"] for row in found] == [f"{name}!/a.JPG", f"{name}!/in/b", f"{name}!/in/c.png"]
    assert [row["bytes"] for row in found] == [PICTURE, PICTURE + b"b", b""]
    assert {(row["error"], row["metadata"]) for row in found} == {(None, None)}
    assert Archive(str(tmp_path / f"photos of.{form}")).estimate() == (2 if form == "zip" else None)


def test_the_bytes_say_what_it_is_and_the_suffix_whether_to_ask(tmp_path):
    """A misnamed archive is read; only known suffixes make a file an archive."""
    assert names_of(read(tmp_path, pack("tar.zst", [("a.jpg", PICTURE)]), "a.tar.gz")) == ["a.jpg"]
    assert names_of(read(tmp_path, pack("zip", [("a.jpg", PICTURE)]), "b.tar")) == ["a.jpg"]
    assert all(is_archive(f"x.{form}") for form in ["ZIP", "tgz", *TARS])
    assert not any(is_archive(name) for name in ("zip", "a.jpg", "a.gz", "a.zst", "tar.txt"))


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_hidden_members_are_skipped(tmp_path, form):
    """Any hidden part hides, and so do a Mac's notes and a lake; `.` and `..` hide nothing."""
    skipped = [".a.jpg", "in/.b/c.jpg", "__MACOSX/._d.jpg", "my.lake/images.lance/data/e.jpg"]
    kept = ["./f.jpg", "../g.jpg", "/h.jpg"]
    path = tmp_path / f"a.{form}"
    found = read(tmp_path, pack(form, [(name, PICTURE) for name in skipped + kept]), path.name)
    assert names_of(found) == ["f.jpg", "../g.jpg", "/h.jpg"]
    assert Archive(str(path)).estimate() == (3 if form == "zip" else None)


def test_folders_links_and_devices_are_skipped(tmp_path):
    """A link in an archive leads nowhere, and nothing follows it."""
    (tmp_path / "secret.jpg").write_bytes(PICTURE)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        kinds = [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
        for number, kind in enumerate(kinds):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.type, info.linkname = kind, str(tmp_path / "secret.jpg")
            tar.addfile(info)
    assert read(tmp_path, out.getvalue()) == []
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    members = [(link, str(tmp_path / "secret.jpg")), (zipfile.ZipInfo("folder.jpg/"), b"")]
    assert read(tmp_path, zip_bytes(members), "a.zip") == []


NAMES = ["café.jpg", "写真 1.jpg", "100%.jpg", "a?b#c.jpg", "in/new\nline.jpg", "صورة.jpg", "x" * 300 + ".jpg"]


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_names_come_out_unharmed(tmp_path, form):
    """In any script and with signs that URIs use."""
    found = read(tmp_path, pack(form, [(name, PICTURE) for name in NAMES]), f"a.{form}")
    assert [files.display_name(row["uri"]) for row in found] == [name.rpartition("/")[2] for name in NAMES]


def test_names_that_are_not_utf8_survive(tmp_path):
    """In a tar byte for byte; in a ZIP as UTF-8 where they can be, else in code page 437."""
    raw = "latin-\udce9.jpg"
    for options in ({"format": tarfile.GNU_FORMAT}, {"format": tarfile.PAX_FORMAT}):
        (row,) = read(tmp_path, tar_bytes([(raw, PICTURE)], errors="surrogateescape", **options))
        assert row["uri"].endswith("!/latin-%E9.jpg")
    for name, shown in ((b"caf\xc3\xa9.jpg", "café.jpg"), (b"caf\x82.jpg", "café.jpg")):
        data = zip_bytes([("x" * len(name), PICTURE)]).replace(b"x" * len(name), name)
        (row,) = read(tmp_path, data, "a.zip")
        assert row["uri"].endswith(f"!/{shown}")
        assert row["bytes"] == PICTURE


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_of_a_zip_is_a_row(tmp_path, method):
    """A wrong checksum, whatever the compression, costs that one picture."""
    other = encode(make_image(2, 32, 24))
    data = zip_bytes([("a.jpg", PICTURE), ("b.jpg", other)], method)
    assert [row["bytes"] for row in read(tmp_path, data, "good.zip")] == [PICTURE, other]
    checksum = zipfile.ZipFile(io.BytesIO(data)).getinfo("a.jpg").CRC.to_bytes(4, "little")
    first, second = read(tmp_path, data.replace(checksum, b"\1\2\3\4"), "a.zip")
    assert "CRC" in first["error"]
    assert first["bytes"] is None
    assert second["bytes"] == other


def test_an_encrypted_member_is_a_row(tmp_path):
    """It says that it is locked."""
    data = bytearray(zip_bytes([("a.jpg", PICTURE), ("words.txt", b"words")]))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = -1
        while (at := data.find(signature, at + 1)) >= 0:
            data[at + offset] |= 1
    (row,) = read(tmp_path, bytes(data), "a.zip")
    assert "password" in row["error"]


def test_raw_and_too_large_members_are_rows_that_nobody_read(tmp_path, monkeypatch):
    """The size that the header claims is enough to refuse."""
    monkeypatch.setattr(rows, "MAX_FILE_BYTES", 5000)
    members = [("a.nef", PICTURE), ("b.jpg", bytes(6000)), ("c.bin", bytes(6000)), ("d.jpg", PICTURE)]
    for form in ("zip", "tar", "tar.gz"):
        found = read(tmp_path, pack(form, members), f"a.{form}")
        assert names_of(found) == ["a.nef", "b.jpg", "d.jpg"]
        assert "camera raw" in found[0]["error"]
        assert "6,000 bytes; the limit is 5,000" in found[1]["error"]
        assert found[2]["bytes"] == PICTURE


@pytest.mark.parametrize("form", TARS)
def test_a_tar_cut_short_keeps_what_came_before(tmp_path, form):
    """Then one row has the archive's own URI and the reason."""
    members = [(f"{seed}.jpg", encode(make_image(seed, 64, 48))) for seed in range(9)]
    data = pack(form, members)
    whole = read(tmp_path, data)
    kept = set()
    for length in range(len(data) // 3, len(data) - 20, len(data) // 23):
        try:
            *before, last = read(tmp_path, data[:length])
        except InputError:  # bzip2 and xz hand out nothing before a block is whole
            continue
        if form == "tar" and length > data.rfind(b"\xff\xd9") + 1024:  # cut in the padding after the end mark
            assert [*before, last] == whole
            continue
        assert before == whole[: len(before)]
        assert (last["uri"], last["bytes"]) == ((tmp_path / "a.tar").as_uri(), None)
        assert "cut short" in last["error"]
        kept.add(len(before))
    assert form in {"tar.bz2", "tar.xz", "tar.zst"} or max(kept) >= 6


def test_a_tar_that_ends_oddly_says_so(tmp_path):
    """No end mark, a broken header, a second tar behind the first, a wrong checksum: none passes in silence."""
    one = tar_bytes([("a.jpg", PICTURE)])
    marked = one[: len(one) - one[::-1].index(PICTURE[-1]) + 511 & ~511]
    broken = bytearray(tar_bytes([("a.jpg", PICTURE), ("b.jpg", PICTURE)]))
    broken[broken.index(b"b.jpg")] ^= 1
    wrong = bytearray(compressed(one, "gzip"))
    wrong[-6] ^= 1
    for data, reason in (
        (marked, "no end mark"), (bytes(broken), "no header"), (one + one, "second tar"), (bytes(wrong), "CRC"),
    ):  # fmt: skip
        picture, end = read(tmp_path, data)
        assert picture["bytes"] == PICTURE
        assert reason in end["error"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.tar", b""), ("a.zip", b""), ("a.zip", b"words"), ("a.tar", b"words" * 999), ("a.tar.gz", b"\x1f\x8bwords"),
        ("a.tar.zst", b"\x28\xb5\x2f\xfdwords"), ("a.tar.xz", b"\xfd7zXZ\0words"), ("a.tar.bz2", b"BZh9words"),
    ],
)  # fmt: skip
def test_what_is_no_archive_is_an_input_error(tmp_path, name, data):
    """It names the file and what is allowed."""
    with pytest.raises(InputError, match=r"a\.(tar|zip).*\.tar\.zst"):
        read(tmp_path, data, name)
    assert Archive(str(tmp_path / name)).estimate() is None


def test_what_is_not_there_or_no_file(tmp_path):
    """The message names it."""
    with pytest.raises(InputError, match="nowhere"):
        Archive(str(tmp_path / "nowhere.zip"))
    os.mkfifo(tmp_path / "pipe.zip")
    for path in (tmp_path, tmp_path / "pipe.zip"):
        with pytest.raises(InputError, match="no file"):
            rows_of(path)


def test_neighbors_of_one_name_are_a_sample(tmp_path):
    """Their `.json`, `.cls` and `.txt` are metadata of each picture, whatever comes first."""
    members = [
        ("s/000.cls", b"7\n"), ("s/000.jpg", PICTURE), ("s/000.mask.png", PICTURE),
        ("s/000.json", json.dumps({"caption": "old", "labels": "dog", "width": 3, "x": float("nan")}).encode()),
        ("s/000.txt", "\ufeffein Hund é".encode()), ("t/000.jpg", PICTURE), ("t/001.json", b'{"only": "words"}'),
        ("t/002.jpg", PICTURE), ("t/002.JSON", b'{"labels": ["a", 4], "y": [1]}'), ("t/003.txt", PICTURE),
    ]  # fmt: skip
    found = read(tmp_path, tar_bytes(members))
    first = {"labels": ["7", "dog"], "caption": "ein Hund é", "width": 3, "x": None}
    second = {"labels": ["a", "4"], "y": [1]}
    assert names_of(found) == ["s/000.jpg", "s/000.mask.png", "t/000.jpg", "t/002.jpg", "t/003.txt"]
    known = [json.loads(row["metadata"]) if row["metadata"] else None for row in found]
    assert known == [first, first, None, second, None]


BROKEN = {
    "not json": ("json", b"{"),
    "not an object": ("json", b"[1]"),
    "not utf-8": ("txt", b"\xff\xfe\xfd"),
    "half a character": ("json", b'{"a": "\\ud800"}'),
    "no finite number": ("json", b'{"a": 1e999}'),
    "no list of texts": ("json", b'{"labels": {"a": 1}}'),
    "too deep": ("json", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "too many digits": ("json", b'{"a": ' + b"9" * 10_000 + b"}"),
    "too large": ("json", b'{"a": "' + b"9" * (1 << 20) + b'"}'),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_sidecar_costs_no_picture(tmp_path, name):
    """The picture comes, with what else is known and the reason in `metadata_error`."""
    extension, data = BROKEN[name]
    (row,) = read(tmp_path, tar_bytes([("a.cls", b"7"), ("a.jpg", PICTURE), (f"a.{extension}", data)]))
    known = json.loads(row["metadata"])
    assert (row["bytes"], known["labels"]) == (PICTURE, ["7"])
    assert f".{extension} cannot be used" in known["metadata_error"]


def test_a_sample_without_end_is_not_held(tmp_path, monkeypatch):
    """Photos whose names share all up to the first dot come as they are read."""
    monkeypatch.setattr(rows, "_SAMPLE_ROWS", 5)
    members = [(f"shot.{number}.jpg", PICTURE) for number in range(12)]
    found = read(tmp_path, tar_bytes([*members, ("shot.json", b'{"a": 1}')]))
    assert names_of(found) == [name for name, _ in members]
    assert [row["metadata"] for row in found] == [None] * 10 + ['{"a": 1}'] * 2


def test_bombs_stay_small(tmp_path, monkeypatch):
    """What expands far, or lies about its size, or asks for a huge header, costs a few megabytes."""
    monkeypatch.setattr(rows, "MAX_FILE_BYTES", 1 << 20)
    zeros = bytes(32 << 20)
    pax = tarfile.TarInfo("x")
    pax.type, pax.size = tarfile.XHDTYPE, len(zeros)
    bombs = {
        "large.tar.gz": pack("tar.gz", [("a.jpg", zeros)]),
        "large.tar.zst": pack("tar.zst", [("a.jpg", zeros), ("b.bin", zeros)]),
        "header.tar.gz": compressed(tar_bytes([("a.jpg", PICTURE)])[:1536] + pax.tobuf() + zeros, "gzip"),
        "sidecar.tar.bz2": pack("tar.bz2", [("a.jpg", PICTURE), ("a.json", zeros)]),
        "long.tar.xz": pack("tar.xz", [("a.jpg", PICTURE), ("b" * (2 << 20) + ".jpg", PICTURE)]),
    }
    for method, times in ((zipfile.ZIP_DEFLATED, 1), (zipfile.ZIP_BZIP2, 1), (zipfile.ZIP_LZMA, 3)):
        bombs[f"{method}.zip"] = zip_bytes([("a.jpg", zeros * times)], method)
        claim = (len(zeros) * times).to_bytes(4, "little")
        bombs[f"{method} lies.zip"] = bombs[f"{method}.zip"].replace(claim, (99).to_bytes(4, "little"))
    for name, data in bombs.items():
        (tmp_path / name).write_bytes(data)
        del data
        tracemalloc.start()
        found = rows_of(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (80 if "14 lies" in name else 24) << 20, name  # LZMA is expanded by 4 KB
        assert any(row["error"] for row in found) or "metadata_error" in found[0]["metadata"], name


def test_xz_that_asks_for_too_much_memory_is_refused(tmp_path, monkeypatch):
    """The dictionary that its header asks for is bounded."""
    monkeypatch.setattr(archive_module, "_XZ_MEMORY_BYTES", 1 << 20)
    with pytest.raises(InputError, match=r"(?i)memory"):
        read(tmp_path, pack("tar.xz", [("a.jpg", PICTURE)]), "a.tar.xz")


def test_sparse_members_are_rows(tmp_path):
    """A map of holes is not followed."""
    info = tarfile.TarInfo("a.jpg")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\x0000000001000\0"
    header[483:495] = b"00000001000\0"
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    (row,) = read(tmp_path, bytes(header) + bytes(512 + 1024))
    assert "sparse" in row["error"]


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz", "tar.zst"])
def test_no_damage_does_more_than_cost_rows(tmp_path, form):
    """Of 500 damaged archives each ends in time, in rows or an InputError, and counts no picture twice."""
    members = [(f"{seed}.jpg", encode(make_image(seed, 16, 12))) for seed in range(3)]
    members += [("2.json", b'{"a": "b"}'), ("2.cls", b"4"), ("in/" + "n" * 120 + ".png", PICTURE), ("é", PICTURE)]
    whole = pack(form, members)
    path = tmp_path / "a.archive"
    rng = random.Random(7)
    opened = 0
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
    tracemalloc.start()
    for _ in range(500):
        path.write_bytes(damaged(whole, rng))
        signal.alarm(10)
        try:
            found = rows_of(path)
            opened += 1
        except InputError:
            continue
        finally:
            signal.alarm(0)
        assert all((row["bytes"] is None) != (row["error"] is None) for row in found)
        ends = [number for number, row in enumerate(found) if row["uri"] == path.as_uri()]
        assert ends in ([], [len(found) - 1])
        assert all(row["uri"].startswith(f"{path.as_uri()}!/") for row in found[: len(found) - len(ends)])
        assert len(found) - len(ends) <= len(members)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    signal.signal(signal.SIGALRM, before)
    assert opened > 100
    assert peak < 20 << 20


def damaged(data, rng):
    """Some bits flipped, some bytes made extreme, a piece cut out, doubled or cut off, or several of these."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(data))
        size = rng.choice([1, 2, 8, 100])
        kind = rng.randrange(5)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + size] = bytes([rng.choice([0, 0x7F, 0x80, 0xFF, 0x30, 0x39])]) * size
        elif kind == 2:
            del data[at : at + size]
        elif kind == 3:
            data[at:at] = data[at : at + size]
        else:
            del data[max(at, len(data) // 2) :]
    return bytes(data)


def test_a_lake_takes_it(lake, tmp_path):
    """Found = added + known + rejected, and again adds nothing."""
    members = [("0.jpg", PICTURE), ("0.cls", b"4"), ("1.jpg", b"no picture"), ("2.jpg", PICTURE)]
    (tmp_path / "a.tar").write_bytes(tar_bytes(members))
    report = lake.ingest(Archive(str(tmp_path / "a.tar")))
    assert (report.found, report.added, report.known, report.rejected) == (3, 1, 1, 1)
    assert lake.ingest(Archive(str(tmp_path / "a.tar"))).added == 0
