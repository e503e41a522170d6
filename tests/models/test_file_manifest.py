from __future__ import annotations

import dataclasses
import json
import pickle

import pytest

from imagelake.errors import ModelError
from imagelake.models import file_manifest
from imagelake.models.file_manifest import (
    FileManifest,
    TensorSpec,
    file_fingerprint,
    from_json,
    read_labels,
    settle_file,
    to_json,
)

SHA = "ab" * 32
MANIFEST = FileManifest(
    name="small-detector",
    task="detector",
    runtime="onnx",
    files={"model": "small.onnx"},
    sha256={"model": SHA},
    inputs=(TensorSpec(name="x", shape=(-1, 3, 32, 32), layout="nchw"),),
    transforms=({"letterbox": [32, 32]}, {"order": "bgr"}, {"layout": "chw"}, {"dtype": "float32"}),
    head={"kind": "yolov5"},
    outputs=("y",),
    labels=("cat", "dog"),
    licence="Apache-2.0",
    source="made here",
)
TWO = dataclasses.replace(
    MANIFEST,
    files={
        "model": "a.onnx",
        "int8": "b.onnx",
        "external-0": "a.data",
        "int8-external-0": "b.data",
        "whitening": "w.npz",
    },
    sha256={
        "model": SHA,
        "int8": "cd" * 32,
        "external-0": "12" * 32,
        "int8-external-0": "34" * 32,
        "whitening": "56" * 32,
    },
)


def change(**keys):
    return dataclasses.replace(MANIFEST, **keys)


def test_json_and_back():
    """`from_json` reads what `to_json` writes, and pickling changes nothing."""
    for manifest in (MANIFEST, TWO):
        assert from_json(to_json(manifest)) == manifest
        assert pickle.loads(pickle.dumps(manifest)) == manifest


def test_a_manifest_says_everything():
    """Settings that were left out are written out: a later default cannot change what a kept manifest means."""
    told = json.loads(to_json(MANIFEST))
    assert told["head"]["score_threshold"] == 0.3
    assert told["transforms"][0]["letterbox"] == {
        "size_wh": [32, 32],
        "color": 114.0,
        "place": "center",
        "interpolation": "linear",
    }
    assert from_json(json.dumps({key: told[key] for key in told if key != "format"})) == MANIFEST


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"name": "../up"}, "cannot name a model"),
        ({"name": "Small Detector"}, "such as 'small-detector'"),
        ({"name": ""}, "cannot name a model"),
        ({"name": "a" * 65}, "at most 64"),
        ({"name": ".hidden"}, "such as 'hidden'"),
        ({"task": "segmenter"}, "classifier, embedder, detector, coder, tensor"),
        ({"runtime": "caffe"}, "onnx, opencv, torch"),
        ({"precision": "fp16"}, "auto, fp32, int8"),
        ({"precision": "int8"}, "has no int8 file"),
        ({"format": 2}, "format 2"),
        ({"files": {}}, "'model'"),
        ({"files": {"model": "a/b.onnx"}}, "without folders"),
        ({"files": {"model": ".."}}, "without folders"),
        ({"files": {"model": "manifest.json"}}, "not allowed"),
        ({"files": {"model": "C:\\x.onnx"}}, "not allowed"),
        ({"files": {"model": "a.onnx", "int8": "A.onnx"}}, "share a name"),
        ({"sha256": {"model": "abc"}}, "64 hex digits"),
        ({"sha256": {"modle": SHA}}, "nearest are model"),
        ({"inputs": ()}, "lists no input"),
        ({"labels": ()}, "without labels"),
        ({"transforms": ({"resiz": [1, 1]},)}, "resize"),
        ({"transforms": ({"random_resized_crop": [8, 8]},)}, "random"),
        ({"transforms": ({"normalize_pixels": "mean.npy"},)}, "list it among the files"),
        ({"head": {"kind": "yolov5", "wanted": ["cats"]}}, "nearest are cat"),
    ],
)
def test_bad_values_are_refused(changes, match):
    """A bad value is a ModelError that says what is allowed."""
    with pytest.raises(ModelError, match=match):
        change(**changes)


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"shape": (0, 3)}, "-1 for any"),
        ({"shape": ("n",)}, "-1"),
        ({"dtype": "float"}, "float32"),
        ({"layout": "x"}, "nchw"),
    ],
)
def test_bad_inputs_are_refused(keys, match):
    """Sides are whole numbers or -1, types and layouts are known words."""
    with pytest.raises(ModelError, match=match):
        TensorSpec(**({"name": "x", "shape": (1,)} | keys))


def told(**changes):
    return json.dumps({**json.loads(to_json(MANIFEST)), **changes})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not JSON"),
        ("[]", "JSON list"),
        ("{}", "lacks name, task, runtime, files"),
        (told(label=["cat"]), "nearest are labels"),
        (told(inputs=[{"name": "x"}]), "name or shape"),
        (told(inputs=[{"name": "x", "shape": [1], "size": 3}]), "'size' are not known"),
        (told(inputs={"x": [1]}), "give a list"),
        (told(inputs=["x"]), "give an object"),
        (told(inputs=[{"name": "x", "shape": 3}]), "give a list"),
        (told(files=["a.onnx"]), "give an object"),
        (told(files={"model": 3}), "give a word"),
        (told(transforms={}), "give a list"),
        (told(transforms=["order"]), "give an object"),
        (told(labels=[1]), "give a word"),
        (told(labels="coco.txt"), "give a list"),
        (told(head=[]), "give an object"),
        (told(name=3), "give a word"),
        (told(format="1"), "format '1'"),
        ("[" * 200_000, "not JSON"),
        (told(task="tensor", head={"a": json.loads("[" * 50 + "]" * 50)}), "more than 40 deep"),
    ],
)
def test_text_that_is_no_manifest(text, match):
    """What is unknown, missing or of a wrong type is a ModelError, never another exception."""
    with pytest.raises(ModelError, match=match):
        from_json(text)


def test_labels_in_a_file(tmp_path):
    """A manifest beside a file of labels may name it; blank ends are cut, marks of Windows too."""
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog \r\n\r\n")
    assert from_json(told(labels="names.txt"), tmp_path).labels == ("cat", "dog")
    (tmp_path / "empty.txt").write_text("\n")
    for name, match in (("empty.txt", "no labels"), ("absent.txt", "cannot read")):
        with pytest.raises(ModelError, match=match):
            read_labels(tmp_path / name)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "tensor"},
        {"runtime": "opencv"},
        {"sha256": {"model": "cd" * 32}},
        {"inputs": (TensorSpec(name="x", shape=(1, 3, 32, 32), layout="nchw"),)},
        {"transforms": ({"letterbox": [32, 32]}, {"layout": "chw"}, {"dtype": "float32"})},
        {"head": {"kind": "yolov5", "score_threshold": 0.4}},
        {"outputs": ("z",)},
        {"labels": ("dog", "cat")},
    ],
)
def test_what_shapes_a_result_changes_the_fingerprint(changes):
    """Two manifests that can give different results have different fingerprints."""
    assert file_fingerprint(change(**changes)) != file_fingerprint(MANIFEST)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"licence": "MIT"},
        {"source": "elsewhere"},
        {"files": {"model": "renamed.onnx"}},
        {"precision": "fp32"},
        {"head": {"kind": "yolov5", "score_threshold": 0.3}},
        {"transforms": ({"letterbox": {"size_wh": (32, 32), "color": 114}}, *MANIFEST.transforms[1:])},
    ],
)
def test_what_only_describes_does_not(changes):
    """Names, words about it and other ways to write the same leave the fingerprint."""
    assert file_fingerprint(change(**changes)) == file_fingerprint(MANIFEST)


def test_a_fingerprint_needs_every_hash():
    """A manifest that was never added has no fingerprint."""
    with pytest.raises(ModelError, match="no hash of model"):
        file_fingerprint(change(sha256={}))


@pytest.mark.parametrize(("able", "role"), [(True, "int8"), (False, "model")])
def test_auto_follows_the_processor(monkeypatch, able, role):
    """`auto` takes int8 where the processor is made for it; settling fixes that and keeps the fingerprint."""
    monkeypatch.setattr(file_manifest, "has_int8_dot_products", lambda: able)
    assert TWO.model_role == role
    assert MANIFEST.model_role == "model"
    settled = settle_file(TWO)
    assert settled.precision == ("int8" if able else "fp32")
    monkeypatch.setattr(file_manifest, "has_int8_dot_products", lambda: not able)
    assert settled.model_role == role
    assert file_fingerprint(settled) != file_fingerprint(TWO)
    assert file_fingerprint(settle_file(TWO)) == file_fingerprint(TWO)


def test_only_the_files_that_run_count():
    """The fp32 fingerprint does not know the int8 files, nor the other way round; whitening counts for both."""
    fp32, int8 = (dataclasses.replace(TWO, precision=precision) for precision in ("fp32", "int8"))
    assert fp32.roles_used == ("external-0", "model", "whitening")
    assert int8.roles_used == ("int8", "int8-external-0", "whitening")
    other = dict(TWO.sha256) | {"int8": "ee" * 32}
    assert file_fingerprint(dataclasses.replace(fp32, sha256=other)) == file_fingerprint(fp32)
    assert file_fingerprint(dataclasses.replace(int8, sha256=other)) != file_fingerprint(int8)
