"""`imagelake bench knn`, run as a user runs it."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import imagelake
from imagelake import schema
from pictures import encode, make_image

# What `python -m imagelake` does, whether main.py names the verb yet or not.
START = "from imagelake.cli import bench, main; bench.register(main.app); main.run()"
FAST = ("--against", "numpy", "--device", "cpu", "--repeats", 1)
RUN_KEYS = {"name", "seconds", "ratio", "max_distance_difference", "wrong_neighbors", "build_seconds", "times"}


def run(*arguments, check=0):
    """Run the verb; its exit code is the expected one, and nothing looks like a traceback."""
    command = [sys.executable, "-W", "error", "-c", START, "bench", "knn", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    out, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == check, out + errors
    assert "Traceback" not in errors
    return out, errors


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A lake of twenty pictures with random vectors."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "photos").mkdir()
    for seed in range(20):
        (folder / "photos" / f"{seed}.jpg").write_bytes(encode(make_image(seed)))
    lake = imagelake.open(folder / "t.lake", create=True)
    lake.ingest(folder / "photos")
    ids = lake.tables.images.read(["id"]).column("id").to_pylist()
    vectors = np.random.default_rng(0).standard_normal((len(ids), 8)).astype(np.float32)
    lake.tables.create_embeddings("some", schema.embeddings(8, "{}", "mark"))
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 8)
    lake.tables.embeddings("some").insert_new(pa.table({"id": pa.array(ids), "vector": column}))
    return folder


def test_in_words(filled, tmp_path):
    """A table with ours first, one sentence of conclusion, the source; where the grid is, on stderr."""
    grid = tmp_path / "grid.png"
    out, errors = run("--lake", filled / "t.lake", "--set", "some", "--grid", grid, *FAST)
    assert "The 3 nearest (l2) of 18 vectors of 8 dimensions" in out
    assert "Vectors: embedding set some of a lake, split 9:1 (seed 0)." in out
    header, *rows = [line for line in out.splitlines() if line.startswith(("name ", "imagelake-cpu  ", "numpy "))]
    for column in ("seconds", "speed-up", "largest difference", "wrong neighbors", "build s"):
        assert column in header
    assert [row.split()[0] for row in rows] == ["imagelake-cpu", "numpy"]
    assert rows[0].split()[2] == "1.00x"
    assert out.endswith("wrong neighbors: none.\n")
    assert "all distances agree within the demo's tolerance of 1" in out
    assert f"Grid: {grid}" in errors
    with Image.open(grid) as drawn:
        drawn.load()


def test_in_json():
    """One object; by default against all that are installed, and a note says who is not."""
    out, errors = run("--synthetic", "300,20,16", "-k", 4, "--threads", 1, "--check", 5, "--json")
    found = json.loads(out)
    assert {key: found[key] for key in ("k", "metric", "base", "queries", "threads", "checked_queries")} == {
        "k": 4,
        "metric": "l2",
        "base": [300, 16],
        "queries": 20,
        "threads": 1,
        "checked_queries": 5,
    }
    assert found["source"].startswith("synthetic")
    names = [each["name"] for each in found["runs"]]
    assert names[0] == "imagelake-cpu"
    assert "numpy" in names
    for each in found["runs"]:
        assert set(each) >= RUN_KEYS
        assert (each["wrong_neighbors"], len(each["times"])) == (0, 3)
    assert found["runs"][0]["ratio"] == 1.0
    assert {"processor", "logical_cpus", "threads", "memory_bytes", "python", "versions"} <= set(found["machine"])
    for note in found["notes"]:
        assert note in errors


def test_files(tmp_path):
    """Two arrays of any floating type."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "b.npy", rng.standard_normal((300, 16)).astype(np.float16))
    np.save(tmp_path / "q.npy", rng.standard_normal((9, 16)))
    places = ("--base", tmp_path / "b.npy", "--queries", tmp_path / "q.npy")
    found = json.loads(run(*places, "--metric", "cosine", *FAST, "--json")[0])
    assert (found["base"], found["queries"], found["metric"]) == ([300, 16], 9, "cosine")
    assert found["source"] == "files b.npy and q.npy"
    assert str(tmp_path) not in json.dumps(found)


def test_the_help_page():
    """It has examples and the true defaults."""
    page = " ".join(run("--help")[0].split())
    assert "Example" in page
    assert "How many neighbors. [default: 3]" in page
    assert "How many timed searches each. [default: 3]" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "exactly one is needed"),
        (["--lake", "{lake}", "--synthetic", "9,9,9"], "exactly one is needed"),
        (["--lake", "{tmp}/none.lake"], "no lake at"),
        (["--base", "{tmp}/b.npy", "--queries", "{tmp}/q.npy"], "cannot be read"),
        (["--synthetic", "many"], "three whole numbers"),
        (["--synthetic", "9,9,9", "-k", "10"], "give 1 to 9"),
        (["--synthetic", "9,9,9", "--metric", "dot"], "l2 or cosine"),
        (["--synthetic", "9,9,9", "--against", "numpy,hush"], "'hush' is not known"),
        (["--synthetic", "9,9,9", "--device", "tpu"], "'tpu' is not known"),
        (["--synthetic", "9,9,9", "--grid", "x.png"], "Give --lake"),
        (["--lake", "{lake}", "--grid", "{tmp}/x.jpg"], ".png"),
    ],
)
def test_errors_are_one_clear_line(filled, tmp_path, arguments, message):
    """Exit code 1, and nothing on stdout."""
    places = {"tmp": tmp_path, "lake": filled / "t.lake"}
    out, errors = run(*(argument.format(**places) for argument in arguments), check=1)
    assert message in errors
    assert errors.startswith("imagelake: ")
    assert errors.count("\n") == 1
    assert out == ""
