"""`imagelake duplicates`, run as a user runs it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import imagelake
from imagelake.run.duplicates import EMBEDDING_DISTANCE, HASH_DISTANCE
from pictures import encode

# What `python -m imagelake` does, whether main.py names the verb yet or not.
START = "from imagelake.cli import duplicates, main; duplicates.register(main.app); main.run()"
KEYS = {"id", "uris", "width", "height", "byte_size", "taken_at", "kind", "distance"}


def run(*arguments, check=0):
    """Run the verb; its exit code is the expected one, and nothing looks like a traceback."""
    command = [sys.executable, "-c", START, "duplicates", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    out, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == check, out + errors
    assert "Traceback" not in errors
    return out, errors


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A lake of three pictures, the first also as an equal and a small copy, with twelve more copies of the second."""
    folder = tmp_path_factory.mktemp("duplicates")
    photos = folder / "photos"
    photos.mkdir()
    for seed in range(3):
        blobs = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(blobs).resize((320, 240), Image.Resampling.BICUBIC)
        (photos / f"{seed}.jpg").write_bytes(encode(np.asarray(picture)))
        if seed == 0:
            (photos / "equal.jpg").write_bytes((photos / "0.jpg").read_bytes())
            (photos / "small.png").write_bytes(encode(np.asarray(picture.resize((160, 120))), "PNG"))
        if seed == 1:
            for quality in range(80, 92):
                (photos / f"q{quality}.jpg").write_bytes(encode(np.asarray(picture), quality=quality))
    imagelake.open(folder / "t.lake", create=True).ingest(photos)
    return folder


def test_in_words(filled, tmp_path):
    """How many, how many bytes, the first groups; what was not compared is on stderr. Nothing is deleted."""
    out, errors = run("--lake", filled / "t.lake", "--grid", tmp_path / "grid.png")
    assert out.startswith("2 groups of duplicates among 16 images. 14 files could go (exact 1, hash 13)")
    assert "Nothing was deleted." in out
    assert "keep" in out
    assert "and 4 more" in out
    assert "exact, 1 file" in out
    assert "imagelake extract" in errors
    assert "grid.png" in errors
    with Image.open(tmp_path / "grid.png") as grid:
        grid.load()
    assert imagelake.open(filled / "t.lake").info().images == 16
    assert "1 more; show them with --limit" in run("--lake", filled / "t.lake", "--limit", 1)[0]


def test_in_json(filled):
    """One object with all groups, whatever the limit; notes do not get in between."""
    out, errors = run("--lake", filled / "t.lake", "--limit", 1, "--json")
    found = json.loads(out)
    assert errors
    assert {key: found[key] for key in ("groups_count", "duplicates", "by", "embedding_set", "hash_distance")} == {
        "groups_count": 2,
        "duplicates": 14,
        "by": {"exact": 1, "hash": 13},
        "embedding_set": None,
        "hash_distance": HASH_DISTANCE,
    }
    assert found["embedding_distance"] is None
    assert found["bytes_reclaimable"] == sum(
        member["byte_size"] * len(member["uris"]) for group in found["groups"] for member in group["members"]
    )
    for group in found["groups"]:
        assert set(group) == {"keeper", "members"}
        assert all(set(image) == KEYS for image in [group["keeper"], *group["members"]])
    only = json.loads(run("--lake", filled / "t.lake", "--by", "hash", "--hash-distance", "0", "--json")[0])
    assert (set(only["by"]), only["hash_distance"]) == ({"hash"}, 0)


def test_nothing_to_find(filled, tmp_path):
    """An empty lake, and one without duplicates: a sentence, and all is well."""
    imagelake.open(tmp_path / "empty.lake", create=True)
    assert "no images" in run("--lake", tmp_path / "empty.lake")[0]
    lake = imagelake.open(tmp_path / "one.lake", create=True)
    lake.ingest(filled / "photos" / "2.jpg")
    out, _ = run("--lake", tmp_path / "one.lake", "--by", "exact, hash")
    assert out == "No duplicates among 1 image (compared by exact, hash).\n"
    assert json.loads(run("--lake", tmp_path / "one.lake", "--json")[0])["groups"] == []


def test_the_help_page_has_the_true_defaults():
    """And an example."""
    page = " ".join(run("--help")[0].split())
    assert "Example" in page
    assert f"other pictures come in. [default: {HASH_DISTANCE}]" in page
    assert f"beyond 0.15. [default: {EMBEDDING_DISTANCE}]" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lake", "{tmp}/none.lake"], "no lake at"),
        (["--lake", "{lake}", "--by", "hush"], "exact, hash, embedding"),
        (["--lake", "{lake}", "--by", ","], "exact, hash, embedding"),
        (["--lake", "{lake}", "--by", "embedding"], "imagelake extract"),
        (["--lake", "{lake}", "--set", "other"], "no embedding set"),
        (["--lake", "{lake}", "--hash-distance", "65"], "0 to 64"),
        (["--lake", "{lake}", "--embedding-distance", "nan"], "0 or more"),
        (["--lake", "{lake}", "--limit", "0"], "1 or more"),
        (["--lake", "{lake}", "--grid", "{tmp}/x.jpg"], ".png"),
    ],
)
def test_errors_are_one_clear_line(filled, tmp_path, arguments, message):
    """Exit code 1, and nothing on stdout."""
    places = {"tmp": tmp_path, "lake": filled / "t.lake"}
    out, errors = run(*(argument.format(**places) for argument in arguments), check=1)
    assert message in errors
    assert errors.startswith("imagelake: ")
    assert out == ""
