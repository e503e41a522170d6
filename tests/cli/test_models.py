from __future__ import annotations

import json
import shlex
import sys

import numpy as np
import pytest
from PIL import Image

from imagelake.cli import main
from imagelake.models.registry import Registry
from small_models import SIDE, save_caffe, save_fixed, save_map, save_tensorflow

ROW = np.float32([[4, 4, 4, 4, 1, 0.9, 0.1]])  # a cat in the top left corner, as YOLOv5 writes it
CELLS = 3 * (16 + 4 + 1)  # of 32 x 32 pixels
COLOR = ["--output", "color", "--resize", "exact", "--order", "rgb", "--scale", "1"]


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run `imagelake models` in this process, which is quicker: what it printed and noted, or its JSON."""
    monkeypatch.chdir(tmp_path)

    def run(*words, code=0):
        line = ["imagelake", "models", *map(str, words), "--models", str(tmp_path / "models")]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as ended:
            main.run()
        printed, noted = capsys.readouterr()
        assert (ended.value.code or 0) == code, noted
        return json.loads(printed) if "--json" in words and code == 0 else printed + noted

    return run


@pytest.fixture
def detector(tmp_path):
    rows = np.zeros((CELLS, 7), np.float32)
    rows[:1] = ROW
    return save_fixed(tmp_path / "Tiny Cat.onnx", {"y": rows}, ("n", 3, 32, 32))


@pytest.fixture
def pictures(tmp_path):
    paths = []
    for name, color in (("red", (250, 0, 0)), ("dark-red", (120, 0, 0)), ("blue", (0, 0, 250))):
        paths.append(tmp_path / f"{name}.png")
        Image.fromarray(np.full((40, 60, 3), color, np.uint8)).save(paths[-1])
    return paths


def test_what_a_file_does_not_say_is_asked_for(cli, detector):
    """One message asks for all that is open, and its example is a command line that works once the labels are there."""
    text = cli("add", detector, code=1)
    for option in ("--labels", "--resize", "--order", "--scale"):
        assert f"\n  {option}" in text
    assert "--head" not in text
    assert "2 classes" in text
    example = text[text.index("imagelake models add") :].strip()
    assert f"'{detector}'" in example
    (detector.parent / "labels.txt").write_text("cat\ndog\n")
    assert shlex.split(example)[:3] == ["imagelake", "models", "add"]
    assert "Added tiny-cat" in cli(*shlex.split(example)[2:])


def test_a_model_from_adding_to_removing(cli, detector, pictures, tmp_path):
    """Add, list, show, check with a drawing, remove: each says what it did, for people and for programs."""
    said = ["--labels", "cat,dog", "--resize", "letterbox", "--order", "bgr", "--scale", "1/255", "--licence", "MIT"]
    added = cli("add", detector, *said, "--set", "score_threshold=0.25", "--json")
    assert (added["name"], added["task"], added["head"]["kind"]) == ("tiny-cat", "detector", "yolov5")
    assert added["head"]["score_threshold"] == 0.25
    assert [next(iter(entry)) for entry in added["transforms"]] == ["letterbox", "order", "scale", "layout", "dtype"]
    assert len(added["fingerprint"]) == 64

    row = next(row for row in cli("list", "--json") if row["name"] == "tiny-cat")
    assert (row["installed"], row["licence"], row["labels"], row["head"]) == (True, "MIT", 2, "yolov5")
    assert "tiny-cat" in cli("list")
    assert cli("show", "tiny-cat", "--json") == added
    assert "score_threshold 0.25" in cli("show", "tiny-cat")

    text = cli("check", "tiny-cat", *pictures, "--out", tmp_path / "seen.png")
    assert text.count("0.90  cat  at") == 3
    with Image.open(tmp_path / "seen.png") as seen:
        assert seen.size[0] > 1000
    found = cli("check", "tiny-cat", pictures[0], "--out", tmp_path / "one.png", "--json")
    assert found["pictures"][0]["seen"][0]["label"] == "cat"
    with Image.open(tmp_path / "one.png") as seen:
        assert seen.size == (60, 40)

    assert cli("remove", "tiny-cat", "--json")["removed"] == "tiny-cat"
    assert "not in" in cli("show", "tiny-cat", code=1)


def test_a_changed_file_is_refused(cli, detector, pictures, tmp_path):
    """A model whose file was tampered with is not run."""
    cli("add", detector, "--labels", "cat,dog", "--resize", "fill", "--order", "rgb", "--scale", "1")
    path = Registry(tmp_path / "models").get("tiny-cat").path("model")
    path.write_bytes(path.read_bytes().replace(b"small", b"SMALL"))
    assert "SHA-256" in cli("check", "tiny-cat", pictures[0], code=1)


def test_a_classifier_and_an_embedder(cli, pictures, tmp_path):
    """The same file is a classifier with labels, and an embedder whose drawing sorts pictures by likeness."""
    path = save_map(tmp_path / "colors.onnx")
    assert "--labels" in cli("add", path, *COLOR, "--task", "classifier", code=1)
    cli("add", path, *COLOR, "--labels", "red,green,blue", "--name", "names")
    found = cli("check", "names", *pictures, "--out", tmp_path / "names.png", "--json")
    assert [picture["seen"][0]["label"] for picture in found["pictures"]] == ["red", "red", "blue"]
    assert "1.00  red" in cli("check", "names", pictures[0])

    assert "--task" in cli("add", path, *COLOR, code=1)
    cli("add", path, *COLOR, "--task", "embedder", "--name", "vectors")
    found = cli("check", "vectors", *pictures, "--out", tmp_path / "vectors.png", "--json")
    likeness = [picture["vector"]["cosine_to_first"] for picture in found["pictures"]]
    assert likeness == pytest.approx([1, 1, 0], abs=1e-5)
    assert "3 numbers, length 1" in cli("check", "vectors", pictures[0])
    assert "--set" in cli("add", path, "--output", "map", *COLOR[2:], "--name", "maps", code=1)
    assert "Added maps" in cli("add", path, "--output", "map", *COLOR[2:], "--name", "maps", "--set", "pooling=avg")


def test_a_model_for_arrays(cli, tmp_path, pictures):
    """With the task tensor nothing is asked, and nothing is shown of pictures."""
    added = cli("add", save_map(tmp_path / "colors.onnx"), "--task", "tensor", "--json")
    assert (added["task"], added["transforms"], added["labels"]) == ("tensor", [], [])
    assert "takes no pictures" in cli("check", "colors", pictures[0], code=1)


@pytest.mark.parametrize("write", [save_caffe, save_tensorflow])
def test_what_opencv_reads(cli, tmp_path, pictures, write):
    """A Caffe net says its input, a TensorFlow graph is asked its size; both run."""
    files = write(tmp_path)
    said = ["--name", "net", "--resize", "exact", "--order", "bgr", "--scale", "1", "--labels", "blue,green,red"]
    said += ["--task", "classifier"]
    if write is save_tensorflow:
        assert "--size" in cli("add", *files, *said, code=1)
        said += ["--size", f"{SIDE}x{SIDE}"]
    else:
        assert ".prototxt" in cli("add", files[0], *said, code=1)
    cli("add", *files, *said)
    assert "1.00  red" in cli("check", "net", pictures[0])


def test_a_manifest_says_it_all(cli, detector, pictures, tmp_path):
    """A manifest that `show` printed adds the same model again; a wrong one is refused with its name."""
    said = ["--labels", "cat,dog", "--resize", "fill", "--order", "rgb", "--scale", "1"]
    added = cli("add", detector, *said, "--json")
    told = {key: value for key, value in added.items() if key not in {"fingerprint", "folder"}}
    (tmp_path / "told.json").write_text(json.dumps(told))
    again = cli("add", detector, "--manifest", tmp_path / "told.json", "--name", "again", "--json")
    assert again["fingerprint"] == added["fingerprint"]
    told["sha256"]["model"] = "0" * 64
    (tmp_path / "told.json").write_text(json.dumps(told))
    assert "SHA-256" in cli("add", detector, "--manifest", tmp_path / "told.json", "--name", "third", code=1)
    (tmp_path / "told.json").write_text(json.dumps(told | {"lables": []}))
    text = cli("add", detector, "--manifest", tmp_path / "told.json", code=1)
    assert "told.json" in text
    assert "nearest are labels" in text


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["absent.onnx"], "no file absent.onnx"),
        (["note.txt"], "nothing runs note.txt"),
        (["bad.onnx"], "no ONNX file"),
        (["tiny.onnx", "--size", "big"], "--size 'big'"),
        (["tiny.onnx", "--size", "64"], "leave it out"),
        (["tiny.onnx", "--scale", "1/0"], "--scale '1/0'"),
        (["tiny.onnx", "--mean", "1,x"], "--mean 'x'"),
        (["tiny.onnx", "--set", "x"], "KEY=VALUE"),
        (["tiny.onnx", "--resize", "stretch"], "exact, fill, letterbox"),
        (["tiny.onnx", "--order", "brg"], "rgb, bgr, gray"),
        (["tiny.onnx", "--labels", "absent.txt"], "cannot read labels"),
        (["tiny.onnx", "--output", "z"], "use some of y"),
        (["tiny.onnx", "--name", "../x", *COLOR[2:], "--labels", "cat,dog"], "cannot name a model"),
        (["tiny.onnx", "--name", "subject", *COLOR[2:], "--labels", "cat,dog"], "imagelake's own"),
        (["tiny.onnx", *COLOR[2:], "--labels", "cat"], "which is"),
        (["tiny.onnx", *COLOR[2:], "--labels", "cat,dog", "--set", 'wanted=["cow"]'], "wanted labels"),
        (["tiny.onnx", *COLOR[2:], "--labels", "cat,dog", "--set", "score=1"], "nearest are score_threshold"),
        (["tiny.onnx", *COLOR[2:], "--labels", "cat,dog", "--head", "ssd"], "not what the head ssd reads"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(cli, detector, tmp_path, words, match):
    """A wrong file, value or word is exit code 1 with what was given and what to do; nothing is added."""
    detector.rename(tmp_path / "tiny.onnx")
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "bad.onnx").write_bytes(b"\xff" * 40)
    assert match in cli("add", *words, code=1)
    assert Registry(tmp_path / "models").names() == ()


def test_checking_what_is_no_picture(cli, detector, pictures, tmp_path):
    """A file that is no picture, and a drawing that is no PNG, are said before anything is run."""
    cli("add", detector, "--labels", "cat,dog", "--resize", "fill", "--order", "rgb", "--scale", "1")
    assert "cannot be checked" in cli("check", "tiny-cat", detector, code=1)
    assert "cannot be checked" in cli("check", "tiny-cat", tmp_path / "absent.jpg", code=1)
    assert "does not end in .png" in cli("check", "tiny-cat", pictures[0], "--out", "seen.jpg", code=1)
    assert "cannot be written" in cli("check", "tiny-cat", pictures[0], "--out", "nowhere/seen.png", code=1)


def test_what_is_built_in(cli, pictures):
    """The default model can be shown, as the list has it; neither it nor `subject` is asked to be added."""
    shown = cli("show", "efficientnet-lite0", "--json")
    row = next(row for row in cli("list", "--json") if row["name"] == "efficientnet-lite0")
    assert (shown["licence"], shown["precision"]) == (row["licence"], row["precision"])
    assert len(shown["fingerprint"]) == 64
    assert "Apache-2.0" in cli("show", "efficientnet-lite0")
    for words in (
        ["show", "subject"],
        *(["remove", name] for name in ("subject", "efficientnet-lite0")),
        *(["check", name, pictures[0]] for name in ("subject", "efficientnet-lite0")),
    ):
        assert "built into imagelake" in cli(*words, code=1)


def test_a_broken_model_does_not_hide_the_others(cli, detector, tmp_path):
    """A list goes on past a manifest that cannot be read, and says so."""
    cli("add", detector, "--labels", "cat,dog", "--resize", "fill", "--order", "rgb", "--scale", "1")
    (tmp_path / "models" / "broken").mkdir()
    (tmp_path / "models" / "broken" / "manifest.json").write_text("{")
    rows = {row["name"]: row for row in cli("list", "--json")}
    assert rows["tiny-cat"]["installed"]
    assert "not JSON" in rows["broken"]["error"]
    assert "broken" in cli("list")
