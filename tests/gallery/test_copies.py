"""Groups of duplicates: found in the background, chosen from in bulk, and moved by a script."""

import csv
import io
import json
import os
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

import imagelake
from imagelake.errors import InputError
from imagelake.files import path_to_uri
from imagelake.gallery.copies import Copies, selected
from imagelake.gallery.copies_choice import PICKS, CopyFile, Decision, FileGroup, Rule, all_chosen, decide, total
from imagelake.gallery.copies_page import page_of
from imagelake.gallery.copies_script import FORMATS, export_of, local_path, quote_ps1, quote_sh
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.selection import Selection
from imagelake.run.duplicates import DuplicateOptions, GroupedImage
from pictures import encode

FAST = DuplicateOptions(by=("exact", "hash"))
NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
HOSTILE = [
    b"plain.png", b"with space.png", b"-rf.png", b"--help.png", b"$(touch hacked).png", b"`touch hacked`.png",
    b"it's.png", b"''.png", b'"quoted".png', b"new\nline.png", b"end\n", b"\n", b"a;touch hacked;.png",
    b"a&b|c>d<e.png",
    b"*.png", b"?.png", b"[a-z].png", b"~.png", b"!h.png", b"back\\slash.png", b"tab\t.png", b"\x1b[31mred.png",
    "写真 📷.png".encode(), b"not utf8 \xff\xfe.png", b"%41.png", b"#1.png", b"a?b.png", b"{a,b}.png", b"$HOME.png",
    b"%s%n.png", b"a\\'b.png", b"'\"'\"'.png", b" lead", b"trail ", b"\\", b"=1+1.png",
]  # fmt: skip


def photo(seed, width=160, height=120):
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Five different photos; two smaller copies and one of equal bytes of the first, one smaller one of the second."""
    photos = tmp_path / "photos"
    (photos / "best").mkdir(parents=True)
    (photos / "old").mkdir()
    for seed in range(5):
        (photos / "best" / f"{seed}.png").write_bytes(encode(photo(seed), "PNG"))
    (photos / "old" / "0 again.png").write_bytes((photos / "best" / "0.png").read_bytes())
    for name, seed, side in (("0 small", 0, 80), ("0 tiny", 0, 60), ("1 small", 1, 80)):
        (photos / "old" / f"{name}.png").write_bytes(encode(photo(seed, side, side * 3 // 4), "PNG"))
    return photos


@pytest.fixture
def gallery(tmp_path, folder) -> Gallery:
    lake = imagelake.open(tmp_path / "lake", create=True)
    lake.ingest(folder)
    return Gallery(lake.tables, None)


def find(gallery, options=FAST, copies=None, **more):
    copies = copies or Copies(gallery)
    for _ in range(600):
        found, told = copies.find(options, **more)
        if told["state"] != "working":
            return found, told
        time.sleep(0.02)
    raise AssertionError(told)


def names_in(folder):
    return {os.fsencode(path.name) for path in folder.iterdir()}


def names(chosen):
    return sorted(each.file.uri.rpartition("/")[2] for each in chosen)


def test_no_images(tmp_path):
    """A lake without images has no groups."""
    lake = imagelake.open(tmp_path / "lake", create=True)
    found, told = find(Gallery(lake.tables, None))
    assert (found.groups, told["state"], told["changed"]) == ([], "ready", False)
    assert export_of([], "sh", NOW, "lake").startswith(b"#!/bin/sh")


def test_groups_are_found_once(gallery):
    """However many ask, a search runs once, does not block, and is kept until the lake changes."""
    copies = Copies(gallery)
    told = []
    threads = [threading.Thread(target=lambda: told.append(find(gallery, copies=copies))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({id(found) for found, _ in told}) == 1
    assert [len(group.files) for group in told[0][0].groups] == [4, 2]


def test_a_changed_lake_is_told(gallery, folder, tmp_path):
    """What was found of an older lake is still shown, and said to be so; asked for again, it is made anew."""
    copies = Copies(gallery)
    first, _ = find(gallery, copies=copies)
    (folder / "2 again.png").write_bytes(encode(photo(2, 80, 60), "PNG"))
    imagelake.open(tmp_path / "lake").ingest(folder)
    gallery._look_at = 0  # else it looks in a second
    found, told = copies.find(FAST)
    assert found is first
    assert told["changed"]
    copies.find(FAST, again=True)
    found, told = find(gallery, copies=copies)
    assert not told["changed"]
    assert len(found.groups) == 3


def test_a_search_that_fails_says_why(gallery):
    """Vectors are asked for where there are none: the reason is told, once, and not a traceback."""
    copies = Copies(gallery)
    found, told = find(gallery, DuplicateOptions(by=("embedding",)), copies)
    assert found is None
    assert told["state"] == "failed"
    assert "extract" in told["error"]


def test_the_address_selects_groups(gallery):
    """Of a selection, those groups are shown that have one of its images."""
    found, _ = find(gallery)
    assert selected(gallery, found, Selection()) == [0, 1]
    assert selected(gallery, found, Selection(where="width = 60")) == [0]
    assert selected(gallery, found, Selection(where="false")) == []


def test_a_page_says_all_of_each_file(gallery):
    """A page has every file of its groups, the suggested keeper first, and why it is that."""
    found, _ = find(gallery)
    first, second = page_of(gallery, found.groups, Rule("all"), {})
    assert [each["name"] for each in first["files"]][:2] == ["0.png", "0 again.png"]
    assert first["why"] == second["why"] == "pixels"
    assert [each["kind"] for each in first["files"]] == [None, "exact", "hash", "hash"]
    assert len(first["chosen"]) == 3
    assert json.dumps([first, second])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(), []),
        (Rule("exact"), ["0%20again.png"]),
        (Rule("hash"), ["0%20again.png", "0%20small.png", "0%20tiny.png", "1%20small.png"]),
        (Rule("all"), ["0%20again.png", "0%20small.png", "0%20tiny.png", "1%20small.png"]),
        (Rule("all", "/old/"), ["0.png", "1.png"]),
        (Rule("exact", "/old/"), ["0.png"]),
        (Rule("all", "/none/"), ["0%20again.png", "0%20small.png", "0%20tiny.png", "1%20small.png"]),
        (Rule("all", "/"), []),
    ],
)
def test_rules(gallery, rule, expected):
    """A rule chooses what it says, and never what is to be kept."""
    found, _ = find(gallery)
    chosen = all_chosen(found.groups, rule, {})
    assert names(chosen) == expected
    sums = total(found.groups, rule, {})
    assert (sums.files, sums.bytes) == (len(chosen), sum(each.file.image.byte_size for each in chosen))


def test_the_keeper_never_goes():
    """Whatever is chosen, by rule or by hand, one file of each group is left, and no URI that some group keeps goes."""
    random = np.random.default_rng(7)
    kinds = ["exact", "hash", "embedding"]
    for _ in range(300):
        groups = []
        for number in range(3):
            files = []
            for place in range(int(random.integers(2, 6))):
                image_id = (
                    f"{int(random.integers(0, 4)):064x}" if random.random() < 0.5 else f"{number * 9 + place:064x}"
                )
                kind = None if not place else kinds[int(random.integers(0, 3))]
                uri = f"file:///{'ab'[int(random.integers(0, 2))]}/{int(random.integers(0, 8))}"
                image = GroupedImage(image_id, [uri], 4, 4, 9, None, kind, 0.0)
                files.append(CopyFile(f"{image_id[-16:]}.{place}", image, uri, suggested=not place))
            groups.append(FileGroup(str(number), tuple(files)))
        keys = [each.key for group in groups for each in group.files] + ["none"]
        by_hand = {
            group.key: Decision(str(random.choice(keys)), tuple(random.choice(keys, 4).tolist()))
            for group in groups if random.random() < 0.5
        }  # fmt: skip
        rule = Rule(PICKS[int(random.integers(0, 4))], ["", "/a/", "b"][int(random.integers(0, 3))])
        chosen = all_chosen(groups, rule, by_hand)
        for group in groups:
            decision = decide(group, rule, by_hand.get(group.key))
            assert decision.keeper in {each.key for each in group.files}
            assert decision.keeper not in decision.chosen
        kept = {f.uri for g in groups for f in g.files if f.key not in decide(g, rule, by_hand.get(g.key)).chosen}
        assert not kept & {each.file.uri for each in chosen}


def test_rules_have_limits():
    """A rule that is none is refused."""
    for wrong in ({"pick": "x"}, {"pick": ""}, {"under": "a" * 1001}):
        with pytest.raises(InputError):
            Rule(**wrong)


@pytest.fixture
def hostile(tmp_path):
    """A lake of one photo under every hostile name, beside the same photo, larger, under a plain one."""
    photos = tmp_path / "hostile"
    photos.mkdir()
    (photos / "keep.png").write_bytes(encode(photo(1, 200, 150), "PNG"))
    for name in HOSTILE:
        (Path(os.fsdecode(os.fsencode(photos) + b"/" + name))).write_bytes(encode(photo(1), "PNG"))
    lake = imagelake.open(tmp_path / "hostile.lake", create=True)
    lake.ingest(photos)
    return photos, Gallery(lake.tables, None)


def run(script: bytes, folder: Path, shell: str = "sh") -> subprocess.CompletedProcess:
    path = folder / "move.sh"
    path.write_bytes(script)
    return subprocess.run([shell, str(path), "-moved"], cwd=folder, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_script_moves_exactly_the_chosen_files(tmp_path, hostile, shell):
    """Whatever files are called, the script moves those that were chosen, all of them and nothing else."""
    photos, gallery = hostile
    found, _ = find(gallery)
    chosen = all_chosen(found.groups, Rule("all"), {})
    there = names_in(photos)
    ended = run(export_of(chosen, "sh", NOW, "$(touch hacked)\n`touch hacked`"), tmp_path, shell)
    gone = there - names_in(photos)
    assert ended.returncode == 0, ended.stderr
    assert b"keep.png" not in gone
    assert gone == names_in(tmp_path / "-moved") == there - {b"keep.png"}
    assert len(gone) == len(chosen)
    assert not list(tmp_path.rglob("hacked"))
    assert b"\x1b" not in ended.stdout + ended.stderr


def test_script_leaves_what_is_not_as_it_was(tmp_path, gallery, folder):
    """A file that changed, a link, and one whose twin is gone stay; a file that is there already is not overwritten."""
    found, _ = find(gallery)
    chosen = all_chosen(found.groups, Rule("all"), {})
    (folder / "old" / "0 again.png").write_bytes(b"changed")
    (folder / "best" / "1.png").unlink()
    (folder / "old" / "0 tiny.png").unlink()
    (folder / "old" / "0 tiny.png").symlink_to(folder / "best" / "0.png")
    (tmp_path / "-moved").mkdir()
    (tmp_path / "-moved" / "0 small.png").write_bytes(b"was here")
    ended = run(export_of(chosen, "sh", NOW, "lake"), tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.count(b"left: ") == 3
    assert sorted(path.name for path in (tmp_path / "-moved").iterdir()) == ["0 small.png", "1-0 small.png"]
    assert (tmp_path / "-moved" / "0 small.png").read_bytes() == b"was here"


def test_script_never_moves_the_keeper_through_a_link(tmp_path, folder):
    """A folder that is a link shows the same file under two names: the script does not move the only one."""
    (tmp_path / "again").symlink_to(folder / "best")
    image = GroupedImage("0" * 64, [], 160, 120, (folder / "best" / "0.png").stat().st_size, None, "exact", 0.0)
    keeper = CopyFile("0.0", image, path_to_uri(folder / "best" / "0.png"), suggested=True)
    twin = CopyFile("0.1", image, path_to_uri(tmp_path / "again" / "0.png"), suggested=False)
    chosen = all_chosen([FileGroup("0", (keeper, twin))], Rule("all"), {})
    assert run(export_of(chosen, "sh", NOW, "lake"), tmp_path).returncode == 1
    assert (folder / "best" / "0.png").exists()


@pytest.mark.parametrize(
    "uri",
    ["https://example.com/a.jpg", "s3://b/a.jpg", "upload:///2026-01-01/a.jpg", "file:///a.zip!/b.jpg", "file://host/a",
     "id:0", "", "file:///", "file:///a%00b", "file:///a#b", "file:///a?b", "a\nrm -rf x", "file:///x.tar!/\nmv a b"],
)  # fmt: skip
def test_script_names_what_it_cannot_move(tmp_path, uri):
    """What is no file of this machine is named in a remark of one line, and not moved."""
    assert local_path(uri) is None
    image = GroupedImage("0" * 64, [], 4, 4, 9, None, "exact", 0.0)
    group = FileGroup(
        "0", (CopyFile("0.0", image, "file:///k", suggested=True), CopyFile("0.1", image, uri, suggested=False))
    )
    for form in ("sh", "ps1"):
        script = export_of(all_chosen([group], Rule("all"), {}), form, NOW, "lake")
        after = script.partition(b"# Not moved")[2].splitlines()
        assert after[1].startswith(b"#   ")
        assert b"\nmove '" not in script
        assert b"\nMove-One '" not in script
    assert run(export_of(all_chosen([group], Rule("all"), {}), "sh", NOW, "lake"), tmp_path).returncode == 0


def test_quotes():
    """What is quoted for a shell is one word that it gives back; PowerShell's literal has only doubled quotes."""
    for name in HOSTILE:
        printed = subprocess.run([b"sh", b"-c", b"printf %s " + quote_sh(name)], capture_output=True, check=True)
        assert printed.stdout == name
    for text in ("a'b", "\u2018\u2019\u201a\u201b", "''", '$(x)`n"', ""):
        literal = quote_ps1(text)
        assert literal[0] == literal[-1] == "'"
        inner = literal[1:-1]
        for quote in "'\u2018\u2019\u201a\u201b":
            inner = inner.replace(quote * 2, "\0" + quote)
            assert inner.replace("\0" + quote, "").count(quote) == 0
        assert inner.replace("\0", "") == text


def test_lists_for_programs(gallery, tmp_path, hostile):
    """CSV and JSON have one row a file that goes; no cell of the CSV begins as a formula; JSON has URIs as they are."""
    _, hostile_gallery = hostile
    found, _ = find(hostile_gallery)
    chosen = all_chosen(found.groups, Rule("all"), {})
    rows = list(csv.DictReader(io.StringIO(export_of(chosen, "csv", NOW, "lake").decode(), newline="")))
    assert [row["uri"] for row in rows] == [each.file.uri for each in chosen]
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())
    told = json.loads(export_of(chosen, "json", NOW, "lake"))
    assert [each["uri"] for each in told["files"]] == [each.file.uri for each in chosen]
    image = GroupedImage("0" * 64, [], 4, 4, 9, None, "exact", 0.0)
    bad = FileGroup(
        "0",
        (CopyFile("a", image, "=1+1", suggested=True), CopyFile("b", image, " =cmd|' /C calc'!A0", suggested=False)),
    )
    assert b"' =cmd" in export_of(all_chosen([bad], Rule("all"), {}), "csv", NOW, "lake")
    with pytest.raises(InputError):
        export_of([], "exe", NOW, "lake")
    assert set(FORMATS) == {"csv", "json", "sh", "ps1"}
