"""What a pattern matches, and several sources as one."""

import os
import zipfile
from dataclasses import dataclass

import pyarrow as pa
import pytest

from imagelake import files
from imagelake.errors import InputError
from imagelake.sources.archive import Archive
from imagelake.sources.folder import BATCH_ROWS, Folder
from imagelake.sources.glob import Glob
from imagelake.sources.many import Many
from pictures import encode, make_image
from privileges import let_all_reach, unprivileged

PICTURE = encode(make_image(1, 32, 24))


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Photos, a hidden one, words, links and an archive, in the current folder."""
    for name in ("a.jpg", "b.JPG", "in/c.jpg", "in/deep/d.jpg", "in/.e.jpg", ".f/g.jpg", "words.txt", "[h].jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"words" if name == "words.txt" else PICTURE)
    with zipfile.ZipFile(tmp_path / "in" / "z.zip", "w") as archive:
        archive.writestr("i.jpg", PICTURE)
    (tmp_path / "in" / "loop").symlink_to(tmp_path)
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(source):
    return [row for batch in source.batches() for row in batch.to_pylist()]


def names_of(source):
    start = len(files.path_to_uri(os.curdir)) + 1
    return [row["uri"][start:] for row in rows_of(source)]


MATCHES = {
    "a.jpg": ["a.jpg"],
    "*.jpg": ["[h].jpg", "a.jpg"],
    "*.[jJ][pP][gG]": ["[h].jpg", "a.jpg", "b.JPG"],
    "?.jpg": ["a.jpg"],
    "[[]h].jpg": ["[h].jpg"],
    "[h].jpg": ["[h].jpg"],  # no h.jpg: then it is a name
    "./in/*.jpg": ["in/c.jpg"],
    "in/../*/c.jpg": ["in/c.jpg"],
    "**/*.jpg": ["[h].jpg", "a.jpg", "in/c.jpg", "in/deep/d.jpg"],
    "**/**/d.jpg": ["in/deep/d.jpg"],
    "in/**/deep": ["in/deep/d.jpg"],
    "*/deep/*": ["in/deep/d.jpg"],
    "in/.*.jpg": ["in/.e.jpg"],
    ".f/*": [".f/g.jpg"],
    "words.*": [],
    "a.jpg/*": None,
    "a.jpg/**": None,
    "*.jpg/x": None,
    "*.gif": None,
    "": None,
}


@pytest.mark.parametrize("pattern", MATCHES)
def test_it_matches_what_a_shell_does(tree, pattern):
    """Names in order, hidden ones only when asked for, links only outside `**`; nothing is an error."""
    if MATCHES[pattern] is None:
        with pytest.raises(InputError, match="Nothing matches"):
            Glob(pattern)
    else:
        assert names_of(Glob(pattern)) == MATCHES[pattern]
        assert Glob(pattern).estimate() == len(MATCHES[pattern])


@pytest.mark.parametrize("pattern", ["**", "**/*", "*/**/*"])
def test_what_a_matching_folder_holds_comes_once(tree, pattern):
    """Though its files match as well; archives are opened where they match."""
    (tree / "in" / "loop").unlink()
    (tree / "in" / "again").unlink()
    found = names_of(Glob(pattern))
    assert sorted(found)[-3:] == ["in/c.jpg", "in/deep/d.jpg", "in/z.zip!/i.jpg"]
    assert len(set(found)) == len(found)


def test_an_absolute_pattern_works_from_anywhere(tree):
    """And its name is a URI."""
    glob = Glob(f"{tree}/in/*.jpg")
    assert names_of(glob) == ["in/c.jpg"]
    assert glob.name == f"{tree.as_uri()}/in/*.jpg"


def test_what_cannot_be_read_is_a_row(tree):
    """A link to nothing, an archive that is none, a closed folder: the others come."""
    (tree / "gone.jpg").symlink_to("nothing")
    (tree / "gone").symlink_to("nothing")
    (tree / "bad.zip").write_bytes(b"words")
    (tree / "closed").mkdir(mode=0)
    let_all_reach(tree)
    with unprivileged():
        found = {files.display_name(row["uri"]): row["error"] for row in rows_of(Glob("[abcg]*"))}
    (tree / "closed").chmod(0o755)
    assert "does not exist" in found.pop("gone.jpg")
    assert "cannot be opened as an archive" in found.pop("bad.zip")
    assert "cannot be read" in found.pop("closed")
    assert found == {"a.jpg": None, "b.JPG": None}


def test_names_that_are_not_utf8_match(tree):
    """The URI leads back to the very file."""
    path = os.fsencode(tree) + b"/in/\xff.jpg"
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(PICTURE)
    (row,) = [row for row in rows_of(Glob("in/*.jpg")) if "%FF" in row["uri"]]
    assert os.fsencode(files.uri_to_path(row["uri"])) == path


@dataclass(frozen=True)
class Bare:
    """A source that knows no number and leaves out the metadata."""

    count: int
    name: str = "bare"

    def estimate(self):
        return None

    def batches(self):
        for number in range(self.count):
            rows = [{"uri": f"bare:{number}", "bytes": b"x", "error": None}]
            yield pa.RecordBatch.from_pylist(rows)


def test_many_of_none_is_nothing():
    """No rows, no name, an estimate of none."""
    assert (Many(()).name, Many(()).estimate(), rows_of(Many(()))) == ("", 0, [])


def test_many_are_read_one_after_the_other(tree):
    """Names joined, estimates added, small batches joined up to their bound."""
    many = Many((Folder("in/deep"), Archive("in/z.zip"), Folder("a.jpg")))
    assert names_of(many) == ["in/deep/d.jpg", "in/z.zip!/i.jpg", "a.jpg"]
    assert many.name == ", ".join(source.name for source in many.sources)
    assert many.estimate() == 3
    assert len(list(many.batches())) == 1
    assert Many((Folder("a.jpg"), Bare(1))).estimate() is None
    assert [batch.num_rows for batch in Many((Bare(BATCH_ROWS), Bare(3))).batches()] == [BATCH_ROWS, 3]
    assert Many((Bare(1),) * 20).name.endswith("bare, and 12 more")


def test_a_source_that_cannot_be_opened_ends_nothing(tree):
    """It is a row with its name."""
    (tree / "bad.zip").write_bytes(b"words")
    bad, good = rows_of(Many((Archive("bad.zip"), Folder("a.jpg"))))
    assert bad["uri"] == (tree / "bad.zip").as_uri()
    assert "cannot be opened" in bad["error"]
    assert good["bytes"] == PICTURE
