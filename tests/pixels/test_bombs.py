"""Small files that ask for much get little: they are refused, or cost no more than their pixels do."""

import os
import re
import struct
import zipfile
import zlib

import pytest
from pixels.bombs import bombs, large_pictures
from pixels.decoder_runs import run_files

from imagelake.errors import InputError
from imagelake.pixels.decode import MAX_PIXELS
from imagelake.pixels.picture import MAX_FRAMES, open_picture
from imagelake.sources import archive as archive_module
from imagelake.sources.archive import Archive
from pictures import encode, make_image

CPU_S = 20.0
MEGA = 1 << 20


def measured(makers, folder):
    """The outcomes of files, by their names."""
    paths = {}
    for number, (name, make) in enumerate(makers.items()):
        paths[name] = folder / f"{number}"
        paths[name].write_bytes(make())
    outcomes = run_files(list(paths.values()))
    return {name: (outcome, path.stat().st_size) for (name, path), outcome in zip(paths.items(), outcomes, strict=True)}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return measured({name: make for name, (make, _) in bombs().items()}, tmp_path_factory.mktemp("bombs"))


@pytest.mark.parametrize(("name", "reason"), [(name, reason) for name, (_, reason) in bombs().items()])
def test_a_bomb_does_not_go_off(name, reason, found):
    """It is refused for a reason that says why, or described, and takes no more memory than it may."""
    outcome, size = found[name]
    assert outcome.outcome == ("rejected" if reason else "described"), outcome
    assert re.search(reason, outcome.detail), outcome.detail
    assert (outcome.peak_bytes or 0) <= outcome.memory_allowed(size)
    assert outcome.cpu_ms < CPU_S * 1000


def test_a_pixel_takes_no_more_than_promised(tmp_path):
    """Pictures of 16 megapixels, stored in the most wasteful ways, are decoded in the memory of so many pixels."""
    for name, (outcome, size) in measured(large_pictures(), tmp_path).items():
        assert outcome.outcome == "described", (name, outcome)
        assert outcome.pixels > 15_000_000
        assert (outcome.peak_bytes or 0) <= outcome.memory_allowed(size), (name, outcome)


def test_frames_that_nobody_has_counted_fit_the_column():
    """A header that states 2^31 frames does not break a column of 32-bit numbers."""
    assert open_picture(bombs()["png frames that are not there"][0]()).frames == MAX_FRAMES < 1 << 31
    assert open_picture(bombs()["gif million frames"][0]()).frames == MAX_FRAMES
    assert MAX_PIXELS < 1 << 31


def zip_of(members):
    """A ZIP written by hand; a member is (name, method, packed bytes, size, checksum, offset or None for its own)."""
    body, directory = b"", b""
    for name, method, packed, size, checksum, offset in members:
        fields = (20, 0, method, 0, 0, checksum, len(packed), size, len(name), 0)
        at = len(body) if offset is None else offset
        directory += struct.pack("<4sH5H3L2H3H2L", b"PK\1\2", 20, *fields, 0, 0, 0, 0, at) + name
        if offset is None:
            body += struct.pack("<4s5H3L2H", b"PK\3\4", *fields) + name + packed
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(members), len(members), len(directory), len(body), 0)
    return body + directory + end


def rows_of(path, data):
    path.write_bytes(data)
    return [row for batch in Archive(os.fspath(path)).batches() for row in batch.to_pylist()]


def deflated(count):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(count)) + packer.flush()


def test_members_that_share_bytes_are_refused(tmp_path):
    """A piece that 1,000 names point to is expanded once at most; each of the others is a row with the reason."""
    content = bytes(MEGA)
    packed, checksum = deflated(MEGA), zlib.crc32(content)
    one = (b"a.png", zipfile.ZIP_DEFLATED, packed, MEGA, checksum)
    found = rows_of(tmp_path / "a.zip", zip_of([(*one, None), *[(*one, 0)] * 999]))
    assert len(found) == 1000
    assert sum(row["bytes"] is not None for row in found) == 1
    assert {row["error"] for row in found if row["bytes"] is None} == {"cannot be read: it overlaps another member"}


def test_neighbors_in_a_zip_do_not_overlap(tmp_path):
    """Members of one byte, of none, and with descriptors behind them are not taken for overlapping ones."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(5):
            archive.writestr(f"{number}.jpg", b"x" * number)
    assert [row["error"] for row in rows_of(tmp_path / "b.zip", (tmp_path / "a.zip").read_bytes())] == [None] * 5


@pytest.mark.parametrize("form", ["zip", "tar.gz", "tar.bz2", "tar.xz", "tar.zst"])
def test_an_archive_that_expands_without_end_is_broken_off(tmp_path, monkeypatch, form):
    """The pictures before it are there; then a row with the archive's URI says why it ends."""
    from sources.test_archive import pack

    picture = encode(make_image(1, 32, 24))
    monkeypatch.setattr(archive_module, "_FREE_BYTES", 4 * MEGA)
    monkeypatch.setattr(archive_module, "_EXPANSION", 20)
    if form == "zip":
        members = [(f"{number}.png", bytes(MEGA)) for number in range(30)]
    else:
        members = [("big.bin", bytes(30 * MEGA))]
    path = tmp_path / f"a.{form}"
    found = rows_of(path, pack(form, [("a.jpg", picture), *members, ("b.jpg", picture)]))
    assert found[0]["bytes"] == picture
    assert found[-1]["uri"] == path.as_uri()
    assert "expands to more than" in found[-1]["error"]
    assert all(not row["uri"].endswith("b.jpg") for row in found)


def test_a_directory_too_large_to_be_held_is_an_input_error(tmp_path, monkeypatch):
    """A ZIP whose end announces more names than fit into memory is refused before they are read."""
    monkeypatch.setattr(archive_module, "_DIRECTORY_BYTES", 1000)
    path = tmp_path / "a.zip"
    member = (b"%05d.jpg", zipfile.ZIP_STORED, b"", 0, 0)
    with pytest.raises(InputError, match="its directory has"):
        rows_of(path, zip_of([(*member, None)] * 50))
    assert Archive(os.fspath(path)).estimate() is None
