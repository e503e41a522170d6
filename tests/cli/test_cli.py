"""The command line, run as a user runs it: in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest
from PIL import Image

import imagelake
from pictures import encode, make_image

VERBS = [
    "demo",
    "notebook",
    "datasets get",
    "ingest",
    "receive",
    "extract",
    "search",
    "classify",
    "serve",
    "service downloader",
    "service preprocessor",
    "service classifier",
    "service pipeline",
    "function",
    "function init",
    "events",
    "events dead",
    "events replay",
    "duplicates",
    "quality",
    "places",
    "map",
    "tag",
    "export",
    "info",
    "sql",
    "rejections",
    "models list",
    "models add",
    "models show",
    "models check",
    "models remove",
    "models pull",
    "models import",
    "runs",
    "codes fit",
    "codes write",
    "delete",
    "optimize",
    "versions",
    "tag-version",
    "restore",
    "bench knn",
]


def imagelake_cli(*arguments, check=0):
    """Run the command; its exit code is the expected one, and nothing looks like a traceback."""
    done = subprocess.run([sys.executable, "-m", "imagelake", *map(str, arguments)], capture_output=True, timeout=120)
    out, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == check, out + errors
    assert "Traceback" not in errors
    return out, errors


def answer(*arguments, check=0):
    """What `--json` prints: one value and nothing else."""
    return json.loads(imagelake_cli(*arguments, "--json", check=check)[0])


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A lake of six pictures and one broken file, made by the command line."""
    folder = tmp_path_factory.mktemp("cli")
    photos = folder / "photos"
    photos.mkdir()
    for seed in range(6):
        (photos / f"{seed}.jpg").write_bytes(encode(make_image(seed)))
    (photos / "broken.jpg").write_bytes(b"not a picture at all")
    report = answer("ingest", photos, "--lake", folder / "t.lake")
    assert {k: report[k] for k in ("found", "added", "known", "rejected")} == {
        "found": 7,
        "added": 6,
        "known": 0,
        "rejected": 1,
    }
    assert report["seconds"] > 0
    assert report["images_per_s"] > 0
    extracted = answer("extract", "--lake", folder / "t.lake")
    assert (extracted["found"], extracted["added"]) == (6, 6)
    return folder


def test_help_names_every_verb_and_each_verb_shows_an_example():
    """`imagelake`, `--help` and `VERB --help`."""
    out, _ = imagelake_cli("--help")
    for verb in VERBS:
        assert verb.split()[0] in out
        page, _ = imagelake_cli(*verb.split(), "--help")
        assert "Example" in page
        assert "--json" in page


def test_version():
    """Is the package's."""
    assert imagelake_cli("--version")[0].strip() == imagelake.__version__


def test_a_second_extract_does_nothing_and_says_so(filled):
    """In words and in numbers."""
    out, _ = imagelake_cli("extract", "--lake", filled / "t.lake")
    assert out.startswith("Nothing to do: all 6 images")
    assert answer("extract", "--lake", filled / "t.lake")["added"] == 0


def test_search(filled):
    """A list of id, uri and distance, ordered; the query itself first unless it is left out."""
    query = ("search", filled / "photos" / "2.jpg", "--lake", filled / "t.lake", "-k", 4)
    matches = answer(*query)
    assert [set(match) for match in matches] == [{"id", "uri", "distance", "box_xyxy", "label"}] * 4
    assert matches[0]["uri"].endswith("/2.jpg")
    assert matches[0]["distance"] == 0
    assert matches == sorted(matches, key=lambda m: (m["distance"], m["id"]))
    assert answer(*query, "--exclude-self")[:3] == matches[1:]
    some = answer(*query, "--where", "uris[1] like '%/4.jpg'")
    assert [match["uri"][-6:] for match in some] == ["/4.jpg"]
    assert "2.jpg" in imagelake_cli(*query)[0]


def test_grids(filled, tmp_path):
    """Of one picture, and five rows of four for --random 5."""
    imagelake_cli("search", filled / "photos" / "2.jpg", "--lake", filled / "t.lake", "--grid", tmp_path / "one.png")
    found = answer("search", "--random", 5, "--seed", 1, "--lake", filled / "t.lake", "--grid", tmp_path / "five.png")
    assert len(found) == 5
    assert all(len(each["matches"]) == 3 for each in found)
    for name in ("one.png", "five.png"):
        with Image.open(tmp_path / name) as grid:
            grid.load()


def test_looking_at_a_lake(filled):
    """info, sql, rejections and models, for people and for programs."""
    lake = ("--lake", filled / "t.lake")
    info = answer("info", *lake)
    assert (info["images"], info["rejections"], info["formats"]) == (6, 1, {"jpeg": 6})
    assert info["embedding_sets"][0]["vectors"] == 6
    assert "6 (jpeg 6)" in imagelake_cli("info", *lake)[0]
    query = "select format, count(*) as n, max(added_at) as t, first(thumbnail) as b from images group by 1"
    (row,) = answer("sql", query, *lake)
    assert (row["format"], row["n"]) == ("jpeg", 6)
    assert datetime.fromisoformat(row["t"]).tzinfo is not None
    assert "jpeg" in imagelake_cli("sql", query, *lake)[0]
    assert answer("sql", "select 'nan'::float as x, 1/0::float as y", *lake) == [{"x": None, "y": None}]
    (rejection,) = answer("rejections", *lake)
    assert rejection["uri"].endswith("/broken.jpg")
    assert "not a picture" in rejection["reason"]
    assert "broken.jpg" in imagelake_cli("rejections", *lake)[0]
    model = answer("models")[0]
    assert (model["name"], model["installed"], model["licence"]) == ("efficientnet-lite0", True, "Apache-2.0")
    assert "efficientnet-lite0" in imagelake_cli("models")[0]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["ingest", "{tmp}/nowhere", "--lake", "{tmp}/new.lake"], 1, "does not exist"),
        (["extract", "--lake", "{tmp}/none.lake"], 1, "no lake at"),
        (["extract", "--lake", "{lake}", "--model", "resnet"], 1, "efficientnet-lite0"),
        (["extract", "--lake", "{lake}", "--input-size", "7"], 1, "input size"),
        (["extract"], 1, "Where do the results go?"),
        (["extract", "--lake", "{lake}", "--labels", "cat"], 2, "belongs to --detector"),
        (["extract", "--lake", "{lake}", "--no-embed"], 2, "belongs to --detector"),
        (["extract", "--lake", "{lake}", "--detector", "subjekt"], 1, "subject"),
        (["extract", "--lake", "{lake}", "--detector", "subject", "--labels", "cat"], 1, "no label 'cat'"),
        (["extract", "--lake", "{lake}", "--pipeline", "{tmp}/none.toml"], 1, "cannot be read"),
        (["extract", "--lake", "{lake}", "--pipeline", "x.toml", "--detector", "subject"], 2, "put it there"),
        (["extract", "--lake", "{lake}", "--master", "yarn"], 2, "belongs to --engine spark"),
        (["extract", "--lake", "{lake}", "--to", "s3://b/out"], 1, "--engine spark"),
        (["extract", "--lake", "{lake}", "--source", "{tmp}", "--to", "{tmp}/o"], 1, "one of --lake and --source"),
        (["ingest", "{tmp}", "--lake", "{lake}", "--master", "yarn"], 2, "belongs to --engine spark"),
        (["ingest", "{tmp}", "--lake", "{lake}", "--engine", "spark", "--watch"], 2, "on this machine alone"),
        (["search", "{photos}/1.jpg", "--lake", "{lake}", "--set", "regions"], 1, "--detector subject"),
        (["search", "--lake", "{lake}"], 1, "--random N"),
        (["search", "nowhere.jpg", "--lake", "{lake}"], 1, "cannot be read"),
        (["search", "{photos}/broken.jpg", "--lake", "{lake}"], 1, "not a picture"),
        (["search", "{photos}/1.jpg", "--lake", "{lake}", "--set", "other"], 1, "no embedding set"),
        (["search", "{photos}/1.jpg", "--lake", "{lake}", "--grid", "{tmp}/x.jpg"], 1, ".png"),
        (["search", "{photos}/1.jpg", "--lake", "{lake}", "--where", "colour = 3"], 1, "colour"),
        (["sql", "drop table images", "--lake", "{lake}"], 1, "SELECT"),
        (["ingest", "{photos}"], 2, "--lake"),
        (["nothing"], 2, "nothing"),
    ],
)
def test_errors_are_one_clear_line(filled, tmp_path, arguments, code, message):
    """Exit code 1 for what a user can mend, 2 for usage; never a traceback."""
    places = {"tmp": tmp_path, "lake": filled / "t.lake", "photos": filled / "photos"}
    out, errors = imagelake_cli(*(argument.format(**places) for argument in arguments), check=code)
    assert message in errors
    assert out == ""
    if code == 1:
        assert errors.startswith("imagelake: ")
    assert not (tmp_path / "new.lake").exists()


def test_strict_exits_with_3_where_something_was_rejected(filled):
    """And with 0 otherwise."""
    imagelake_cli("ingest", filled / "photos", "--lake", filled / "t.lake", "--strict", check=3)
    imagelake_cli("ingest", filled / "photos" / "1.jpg", "--lake", filled / "t.lake", "--strict")


def test_ctrl_c_leaves_the_lake_whole(tmp_path):
    """One line, the exit code of an interrupted program, and the next run finishes the job."""
    photos = tmp_path / "photos"
    photos.mkdir()
    data = encode(make_image(1, 1600, 1200), quality=95)
    for number in range(600):
        (photos / f"{number}.jpg").write_bytes(data + bytes([number % 256, number // 256]))
    # A test run in the background may have handed down an ignored SIGINT: a user's terminal does not.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{listen}; from imagelake.cli.main import run; run()"
    command = [sys.executable, "-c", start, "ingest", str(photos), "--lake", str(tmp_path / "t.lake")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while not (tmp_path / "t.lake" / "receipts.lance").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode().startswith("imagelake: interrupted. The lake is whole")
    assert answer("ingest", photos, "--lake", tmp_path / "t.lake")["found"] == 600


def test_output_that_is_not_utf8_or_full(filled):
    """Names in any script are printed all the same, and a full disk is one line."""
    command = [sys.executable, "-m", "imagelake", "sql", "select '日本' as x", "--lake", str(filled / "t.lake")]
    latin = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "latin-1"})
    assert latin.returncode == 0, latin.stderr
    assert "日本" in latin.stdout.decode()
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"No space left" in done.stderr


def test_what_steers_a_terminal_is_not_printed(filled):
    """Neither from file names nor from metadata."""
    out, _ = imagelake_cli("sql", "select chr(27) || '[31m' as x", "--lake", filled / "t.lake")
    assert "\x1b" not in out


def test_images_without_vectors_are_mentioned(filled, tmp_path):
    """A search that could not see everything says so, on stderr."""
    root = tmp_path / "partial.lake"
    imagelake_cli("ingest", filled / "photos" / "1.jpg", "--lake", root)
    query = ("search", filled / "photos" / "1.jpg", "--lake", root)
    assert "imagelake extract" in imagelake_cli(*query, check=1)[1]
    imagelake_cli("extract", "--lake", root)
    imagelake_cli("ingest", filled / "photos" / "2.jpg", "--lake", root)
    out, errors = imagelake_cli(*query, "--json")
    assert len(json.loads(out)) == 1
    assert "1 images have no vector yet" in errors
