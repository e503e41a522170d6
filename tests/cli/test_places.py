"""`imagelake places`, run as a user runs it."""

import json
import subprocess
import sys

import pytest
from PIL import Image

import imagelake
from pictures import encode, make_image

# What `python -m imagelake` does, whether main.py names the verb yet or not.
START = "from imagelake.cli import places, main; places.register(main.app); main.run()"


def run(*arguments, check=0):
    """Run the verb; its exit code is the expected one, and nothing looks like a traceback."""
    command = [sys.executable, "-c", START, "places", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    out, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == check, out + errors
    assert "Traceback" not in errors
    return out, errors


@pytest.fixture
def photos_lake(tmp_path):
    """A lake of two pictures, one of them taken in Arezzo."""
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (43.4674, 0.0, 0.0), 3: "E", 4: (11.8851, 0.0, 0.0)})
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "arezzo.jpg").write_bytes(encode(make_image(1), exif=exif.tobytes()))
    (folder / "home.jpg").write_bytes(encode(make_image(2)))
    imagelake.open(tmp_path / "t.lake", create=True).ingest(folder)
    return tmp_path / "t.lake"


def test_in_words(photos_lake):
    """How many were placed, and where; then there is nothing left to do."""
    out, _ = run("--lake", photos_lake)
    assert out.startswith("Placed: 1 of 1 with a position. Farther than 100 km from any place: 0.")
    assert "Italy" in out
    out, _ = run("--lake", photos_lake)
    assert out == "No image has a GPS position and no place yet: nothing to do.\n"
    row = imagelake.open(photos_lake).sql("select place from images where place is not null").to_pylist()
    assert row == [{"place": "Arezzo"}]


def test_for_programs(photos_lake):
    """One JSON object on stdout, and nothing else there."""
    out, _ = run("--lake", photos_lake, "--where", "latitude > 0", "--farthest", 50, "--json")
    report = json.loads(out)
    seconds = report.pop("seconds")
    assert report == {"found": 1, "placed": 1, "too_far": 0, "farthest_km": 50.0, "countries": {"Italy": 1}}
    assert seconds > 0


def test_errors_are_one_line(photos_lake, tmp_path):
    """No lake, a wrong predicate, a distance below zero: one line each."""
    for arguments in (["--lake", tmp_path / "none"], ["--lake", photos_lake, "--farthest", -1]):
        _, errors = run(*arguments, check=1)
        assert errors.count("\n") == 1
    _, errors = run("--lake", photos_lake, "--where", "nonsense", check=1)
    assert errors.startswith("imagelake: SQL")
