"""`imagelake quality`, run as a user runs it."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

import imagelake
from imagelake.pixels.quality import NAMES
from pictures import encode

# What `python -m imagelake` does, whether main.py names the verb yet or not.
START = "from imagelake.cli import main, quality; quality.register(main.app); main.run()"


def run(*arguments, check=0):
    """Run the verb; its exit code is the expected one, and nothing looks like a traceback."""
    command = [sys.executable, "-c", START, "quality", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    out, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == check, out + errors
    assert "Traceback" not in errors
    return out, errors


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A lake of four pictures, two of them blurred."""
    folder = tmp_path_factory.mktemp("quality")
    (folder / "photos").mkdir()
    for seed in range(4):
        noise = np.random.default_rng(seed).integers(0, 256, (80, 107, 3), dtype=np.uint8)
        image = cv2.resize(noise, (320, 240))
        if seed > 1:
            image = cv2.GaussianBlur(image, (0, 0), 3)
        (folder / "photos" / f"{seed}.png").write_bytes(encode(image, "PNG"))
    imagelake.open(folder / "t.lake", create=True).ingest(folder / "photos")
    return folder


def test_in_words(filled, tmp_path):
    """A row a flag with count, share and rule; the grids are PNGs."""
    out, errors = run("--lake", filled / "t.lake", "--out", tmp_path / "flags")
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert set(NAMES) <= set(lines)
    assert "50.0%" in lines["blurred"]
    assert "fineness < 1" in lines["blurred"]
    assert "2 of 4 images have a flag" in out
    assert "flags" in errors
    for name in NAMES:
        with Image.open(tmp_path / "flags" / f"{name}.png") as grid:
            grid.load()


def test_in_json_and_saved(filled):
    """One object; other thresholds are told apart from what is stored until they are saved."""
    other = ("--lake", filled / "t.lake", "--threshold", "blurred=0", "--threshold", "tiny=300")
    found = json.loads(run(*other, "--json")[0])
    assert {flag["name"]: flag["count"] for flag in found["flags"] if flag["count"]} == {"tiny": 4, "low_contrast": 2}
    assert (found["differing"], found["saved"], found["thresholds"]["tiny"]) == (4, False, 300)
    assert "--save" in run(*other)[1]
    assert "has these" in run(*other, "--save")[1]
    lake = imagelake.open(filled / "t.lake")
    assert lake.tables.images.count("array_has(flags, 'tiny')") == 4
    run("--lake", filled / "t.lake", "--save")
    assert lake.tables.images.count("array_has(flags, 'tiny')") == 0


def test_nothing_to_look_at(filled, tmp_path):
    """An empty lake, and a predicate that holds for none: a sentence, and all is well."""
    imagelake.open(tmp_path / "empty.lake", create=True)
    assert run("--lake", tmp_path / "empty.lake")[0] == "No images to look at.\n"
    assert run("--lake", filled / "t.lake", "--where", "width > 99999")[0] == "No images to look at.\n"


def test_the_help_page_has_examples():
    """And names the column's predicate."""
    page = " ".join(run("--help")[0].split())
    assert "Examples" in page
    assert "array_has(flags, 'blurred')" in page
    assert "--json" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lake", "{tmp}/none.lake"], "no lake at"),
        (["--lake", "{lake}", "--threshold", "ugly=1"], "blurred, dark, overexposed, low_contrast, tiny"),
        (["--lake", "{lake}", "--threshold", "blurred"], "blurred=NUMBER"),
        (["--lake", "{lake}", "--where", "nonsense >"], "SQL"),
        (["--lake", "{lake}", "--out", "{lake}/images.lance/x/../../../photos/0.png"], "--out"),
    ],
)
def test_errors_are_one_clear_line(filled, tmp_path, arguments, message):
    """Exit code 1, and nothing on stdout."""
    places = {"tmp": tmp_path, "lake": filled / "t.lake"}
    out, errors = run(*(argument.format(**places) for argument in arguments), check=1)
    assert message in errors
    assert errors.startswith("imagelake: ")
    assert out == ""
