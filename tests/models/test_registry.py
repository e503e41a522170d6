from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagelake.errors import ModelError
from imagelake.models.file_facts import sort_files
from imagelake.models.file_manifest import FileManifest, TensorSpec
from imagelake.models.onnx_runtime import open_onnx
from imagelake.models.registry import RegisteredModel, Registry, default_registry, hash_file, open_folder
from privileges import unprivileged
from small_models import SIDE, save_map

INPUT = TensorSpec(name="x", shape=(-1, 3, SIDE, SIDE), layout="nchw")


def tensor_model(name="small", files=None, **keys):
    return FileManifest(name=name, task="tensor", runtime="onnx", files=files or {"model": "m.onnx"}, **keys)


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "models")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"weights")
    return path


def add(registry, file, name="small", **keys):
    return registry.add(tensor_model(name), {"model": file}, **keys)


def left(registry):
    """What lies in the folder besides the models."""
    return sorted(path.name for path in registry.folder.iterdir() if path.name.startswith("."))


def test_a_folder_that_is_not_there_is_empty(registry):
    """A registry needs no folder until something is added, and reading makes none."""
    assert registry.names() == ()
    with pytest.raises(ModelError, match="none yet"):
        registry.get("small")
    assert not registry.folder.exists()


def test_what_is_added_is_there(registry, file):
    """A model comes back as it was added, with the hash of its file; the file may go then."""
    added = add(registry, file)
    digest = hash_file(file)
    file.unlink()
    assert registry.names() == ("small",)
    assert registry.get("small") == added
    assert added.manifest.sha256 == {"model": digest}
    assert added.path("model").read_bytes() == b"weights"
    assert left(registry) == []
    assert pickle.loads(pickle.dumps(added)) == added


def test_names_are_sorted_and_plain(registry, file):
    """Names come in order; what is no model is none."""
    for name in ("b", "a.1", "c-2"):
        add(registry, file, name)
    (registry.folder / "empty").mkdir()
    (registry.folder / "note.txt").write_text("x")
    assert registry.names() == ("a.1", "b", "c-2")


@pytest.mark.parametrize("name", ["../small", "/etc", "a/b", "..", "", "A", "a..b", "-a"])
def test_no_name_leads_elsewhere(registry, file, name):
    """Getting and removing take plain names only."""
    add(registry, file)
    for verb in (registry.get, registry.remove):
        with pytest.raises(ModelError, match="cannot name a model"):
            verb(name)


@pytest.mark.parametrize("name", ["subject", "efficientnet-lite0"])
def test_our_own_names_are_taken(registry, file, name):
    """No file may take a name that imagelake uses for its own."""
    with pytest.raises(ModelError, match="imagelake's own"):
        add(registry, file, name)


def test_a_name_is_taken_once(registry, file):
    """A second model of a name is refused unless it is to replace the first; the first stays whole."""
    first = add(registry, file)
    file.write_bytes(b"other")
    with pytest.raises(ModelError, match="--replace"):
        add(registry, file)
    assert registry.get("small") == first
    first.verify()
    second = add(registry, file, replace=True)
    assert registry.get("small") == second != first
    second.verify()
    assert left(registry) == []


def test_what_fails_leaves_nothing(registry, file, tmp_path):
    """A wrong hash, a missing file or a check that fails adds nothing and leaves no rest."""
    add(registry, file, "first")
    wrong = tensor_model(sha256={"model": "0" * 64})

    def refuse(_):
        raise ModelError("it does not run")

    with pytest.raises(ModelError, match="SHA-256"):
        registry.add(wrong, {"model": file})
    with pytest.raises(ModelError, match="cannot read"):
        registry.add(tensor_model(), {"model": tmp_path / "absent"})
    with pytest.raises(ModelError, match="is not given"):
        registry.add(tensor_model(), {})
    with pytest.raises(ModelError, match="nearest are model"):
        registry.add(tensor_model(), {"model": file, "models": file})
    with pytest.raises(ModelError, match="does not run"):
        registry.add(tensor_model(), {"model": file}, check=refuse)
    assert registry.names() == ("first",)
    assert left(registry) == []


def test_a_check_sees_the_copy(registry, file):
    """The check gets the model as it will be, with files that can be read, before anybody else can."""

    def look(model):
        assert model.path("model").read_bytes() == b"weights"
        assert registry.names() == ()

    add(registry, file, check=look)
    assert registry.names() == ("small",)


def test_removing(registry, file):
    """A removed model is gone with its files; removing it again says what there is."""
    add(registry, file)
    add(registry, file, "other")
    registry.remove("small")
    assert registry.names() == ("other",)
    assert sorted(path.name for path in registry.folder.iterdir()) == ["other"]
    with pytest.raises(ModelError, match="there: other"):
        registry.remove("small")


def test_what_is_left_of_a_model_can_be_removed(registry, file):
    """A folder that lost its manifest takes the name; `remove` takes it away, but nothing that is no model's."""
    folder = add(registry, file).folder
    (folder / "manifest.json").unlink()
    with pytest.raises(ModelError, match="imagelake models remove small"):
        add(registry, file)
    registry.remove("small")
    (registry.folder / "empty").mkdir()
    registry.remove("empty")
    assert list(registry.folder.iterdir()) == []
    for name, kept in (("photos", "a.jpg"), ("deep", "more/m.onnx")):
        path = registry.folder / name / kept
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        with pytest.raises(ModelError, match="so it is kept"):
            registry.remove(name)
        assert path.exists()
    (registry.folder / "note").write_text("x")
    with pytest.raises(ModelError, match="is a file"):
        registry.remove("note")


@pytest.mark.parametrize("name", ["efficientnet-lite0", "subject"])
def test_a_built_in_model_is_said_to_be_one(registry, name):
    """Nobody is told to add or remove what imagelake has of its own."""
    for ask in (registry.get, registry.remove):
        with pytest.raises(ModelError, match="built into imagelake"):
            ask(name)


@pytest.mark.parametrize("damage", ["change", "cut", "empty", "same size", "remove", "other time"])
def test_a_file_that_was_changed_is_refused(registry, file, damage):
    """Whatever became of a file after it was found right, it is refused before it is run again."""
    model = add(registry, file)
    model.verify()
    path = model.folder / "m.onnx"
    if damage == "remove":
        path.unlink()
    else:
        content = {
            "change": b"weights!",
            "cut": b"weight",
            "empty": b"",
            "same size": b"weighty",
            "other time": b"weighty",
        }
        path.write_bytes(content[damage])
        if damage == "other time":
            os.utime(path, ns=(1, 1))
    with pytest.raises(ModelError, match=r"add the model"):
        model.path("model")


def test_a_file_is_hashed_once(registry, file, monkeypatch):
    """What did not change since is not hashed again in this process."""
    model = add(registry, file)
    model.verify()
    monkeypatch.setattr("imagelake.models.registry.hash_file", lambda _: pytest.fail("hashed again"))
    registry.get("small").verify()


def test_a_role_that_is_not_there(registry, file):
    """Asking for a file that the manifest does not have says which it has."""
    with pytest.raises(ModelError, match="it has model"):
        add(registry, file).path("int8")


@pytest.mark.parametrize(
    ("text", "match"), [("", "not JSON"), ("{}", "lacks"), (None, "not in"), ("\xff", r"cannot read|not JSON")]
)
def test_a_broken_manifest(registry, file, text, match):
    """A manifest that was damaged is a ModelError that names the file."""
    folder = add(registry, file).folder
    if text is None:
        (folder / "manifest.json").unlink()
    else:
        (folder / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(ModelError, match=match):
        registry.get("small")


def test_a_manifest_must_have_every_hash(registry, file):
    """Hashes that somebody took out of a manifest do not make files trusted."""
    folder = add(registry, file).folder
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"sha256": {', '"sha256": {}, "head": {'))
    with pytest.raises(ModelError, match=r"lacks the hash of model|head"):
        registry.get("small")


def test_a_folder_may_lie_elsewhere(registry, file, tmp_path):
    """The folder of a model can be copied to another machine: it opens there, by path or by changing the folder."""
    model = add(registry, file)
    shutil.copytree(model.folder, tmp_path / "worker")
    registry.remove("small")
    for moved in (open_folder(tmp_path / "worker"), dataclasses.replace(model, folder=tmp_path / "worker")):
        assert moved == RegisteredModel(model.manifest, tmp_path / "worker")
        moved.verify()


def test_a_folder_renamed_by_hand(registry, file):
    """A model answers to the name in its manifest only."""
    add(registry, file).folder.rename(registry.folder / "renamed")
    with pytest.raises(ModelError, match="'small'"):
        registry.get("renamed")


def test_many_add_at_once(registry, file):
    """Of many that add one name at once, one wins whole and the others are told; other names do not suffer."""

    def attempt(number):
        try:
            add(registry, file, "same" if number % 2 else f"own-{number}")
        except ModelError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(24))) == 13
    assert len(registry.names()) == 13
    for name in registry.names():
        registry.get(name).verify()
    assert left(registry) == []


def test_a_folder_that_cannot_be_written():
    """A read-only registry is a ModelError that says so."""
    with tempfile.TemporaryDirectory() as closed:
        file = Path(closed) / "m.onnx"
        file.write_bytes(b"weights")
        Path(closed).chmod(0o555)
        with unprivileged(), pytest.raises(ModelError, match="nothing was added"):
            add(Registry(Path(closed) / "models"), file)


def test_a_file_in_the_way(tmp_path, file):
    """A file where the folder should be is a ModelError."""
    with pytest.raises(ModelError, match="nothing was added"):
        add(Registry(file), file)
    with pytest.raises(ModelError, match="cannot list"):
        Registry(file).names()


def test_external_data_goes_along(registry, tmp_path):
    """The weights that an ONNX file keeps beside it are found, copied, hashed, and refused when they change."""
    path = save_map(tmp_path / "m.onnx", external=True)
    files = sort_files([path])
    assert {role: file.name for role, file in files.items()} == {"model": "m.onnx", "external-0": "m.onnx.data"}
    manifest = tensor_model(files={role: file.name for role, file in files.items()}, inputs=(INPUT,))
    model = registry.add(manifest, files)
    path.unlink()
    (tmp_path / "m.onnx.data").unlink()
    assert open_onnx(model).outputs == ("color", "map", "tokens")
    data = model.folder / "m.onnx.data"
    data.write_bytes(data.read_bytes()[:-1] + b"!")
    with pytest.raises(ModelError, match=r"m\.onnx\.data"):
        open_onnx(model)


def test_external_data_that_lies_elsewhere(tmp_path):
    """External data that is missing is said when the model is added."""
    path = save_map(tmp_path / "m.onnx", external=True)
    (tmp_path / "m.onnx.data").unlink()
    with pytest.raises(ModelError, match="no file beside it"):
        sort_files([path])


def test_the_default_registry_is_the_users():
    """Models lie in the user's data folder."""
    assert default_registry().folder.name == "models"
    assert Path(default_registry().folder).parent.name == "imagelake"
