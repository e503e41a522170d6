"""What a folder yields: every picture once, whatever the names and links."""

import os

import pytest

from imagelake import files
from imagelake.errors import InputError
from imagelake.sources.folder import Folder
from pictures import encode, make_image
from privileges import let_all_reach, unprivileged


def rows_of(path):
    return [row for batch in Folder(os.fspath(path)).batches() for row in batch.to_pylist()]


def names_of(path):
    return [files.display_name(row["uri"]) for row in rows_of(path)]


def test_an_empty_folder_yields_nothing(tmp_path):
    """No rows, and an estimate of none."""
    assert rows_of(tmp_path) == []
    assert Folder(str(tmp_path)).estimate() == 0


def test_a_folder_that_is_not_there(tmp_path):
    """The message names it."""
    with pytest.raises(InputError, match="nowhere"):
        Folder(str(tmp_path / "nowhere"))


def test_suffixes_in_any_case_and_content_count(tmp_path):
    """A picture is known by its suffix or by its first bytes; other files are none."""
    picture = encode(make_image(1))
    for name in ("a.JPG", "b.Jpeg", "no-suffix", "c.dat"):
        (tmp_path / name).write_bytes(picture)
    (tmp_path / "d.txt").write_text("words")
    (tmp_path / "e").write_bytes(b"")
    assert names_of(tmp_path) == ["a.JPG", "b.Jpeg", "c.dat", "no-suffix"]


def test_hidden_files_and_folders_are_skipped(tmp_path):
    """And so is a lake, whose own files hold pictures."""
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "my.lake" / "images.lance").mkdir(parents=True)
    for name in (".a.jpg", ".hidden/b.jpg", "my.lake/images.lance/c.jpg", "seen.jpg"):
        (tmp_path / name).write_bytes(encode(make_image(1)))
    assert names_of(tmp_path) == ["seen.jpg"]


def test_links_are_followed_and_loops_end(tmp_path):
    """A folder that a link leads back to is entered once; a link to a picture is a name of its own."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.jpg").write_bytes(encode(make_image(1)))
    (tmp_path / "below" / "loop").symlink_to(tmp_path)
    (tmp_path / "again.jpg").symlink_to(tmp_path / "below" / "a.jpg")
    assert sorted(names_of(tmp_path)) == ["a.jpg", "again.jpg"]


NAMES = [
    b"caf\xc3\xa9.jpg",
    "写真 1.jpg".encode(),
    "صورة.jpg".encode(),
    b"latin-\xe9\xff.jpg",
    b"100%.jpg",
    b"a?b#c.jpg",
    b"new\nline.jpg",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_come_out_unharmed(tmp_path, name):
    """In any script, with signs that URIs use, and not UTF-8: the URI leads back to the very file."""
    path = os.fsencode(tmp_path) + b"/" + name
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(encode(make_image(1)))
    (row,) = rows_of(tmp_path)
    assert os.fsencode(files.uri_to_path(row["uri"])) == path
    row["uri"].encode("utf-8")


def test_what_cannot_be_read_is_a_row_with_its_reason(tmp_path):
    """Forbidden, dangling, not a file: none ends the stream, none is lost."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    (tmp_path / "forbidden.jpg").write_bytes(b"x")
    (tmp_path / "forbidden.jpg").chmod(0)
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "raw.NEF").write_bytes(b"II*\0")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "good.jpg").write_bytes(encode(make_image(1)))
    let_all_reach(tmp_path)
    with unprivileged():
        found = {files.display_name(row["uri"]): row for row in rows_of(tmp_path)}
    (tmp_path / "closed").chmod(0o755)
    reasons = {name: row["error"] for name, row in found.items()}
    assert reasons.pop("good.jpg") is None
    assert "Permission denied" in reasons["forbidden.jpg"]
    assert "Permission denied" in reasons["closed"]
    assert "No such file" in reasons["dangling.jpg"]
    assert "pipe" in reasons["pipe.jpg"]
    assert "camera raw" in reasons["raw.NEF"]
    assert all(found[name]["bytes"] is None for name in reasons)


def test_one_file_is_a_source_too(photos):
    """Its one picture."""
    assert names_of(photos / "3.jpg") == ["3.jpg"]


def test_links_that_lead_nowhere_end_nothing(tmp_path):
    """A link to itself is a rejection; a link into a closed folder is passed over."""
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "good.jpg").write_bytes(encode(make_image(1)))
    (tmp_path / "loop").symlink_to("loop")
    reasons = {files.display_name(row["uri"]): row["error"] for row in rows_of(tmp_path)}
    assert set(reasons) == {"loop.jpg", "good.jpg"}
    assert "symbolic links" in reasons["loop.jpg"]
