"""Programs of torch: what runs as it should, and what is refused before torch sees it as a model."""

import contextlib
import io
import json
import pickle
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from imagelake.errors import ModelError
from imagelake.models.exported_program import FILE_OPERATORS
from imagelake.models.file_manifest import FileManifest, TensorSpec
from imagelake.models.registry import Registry
from imagelake.models.runtime import open_runtime
from imagelake.models.torch_files import require_safe
from imagelake.models.torch_runtime import load_torch

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `torch`")

SPEC = TensorSpec(name="input", shape=(-1, 3, 16, 16))


class Two(torch.nn.Module):
    """A picture's features and its mean."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, stride=2)
        self.register_buffer("gain", torch.full((1,), 2.0))

    def forward(self, x):
        features = torch.nn.functional.interpolate(self.conv(x), scale_factor=2.0, mode="bilinear")
        return features, features.mean((2, 3)) * self.gain


class Named(Two):
    def forward(self, x):
        features, mean = super().forward(x)
        return {"map": features, "vector": mean}


class Saves(torch.nn.Module):
    """Writes a file as it runs; TorchScript can."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "/tmp/never-written-by-imagelake")
        return x


class Reads(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("/etc/passwd", size=4)


class Alias(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu()


class Touch:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def model(kind=Two):
    torch.manual_seed(0)
    return kind().eval()


def write_pt2(path, module, *, any_batch=True):
    shapes = ({0: torch.export.Dim.DYNAMIC},) if any_batch else None
    exported = torch.export.export(module, (torch.rand(2, 3, 16, 16),), dynamic_shapes=shapes)
    torch.export.save(exported, path)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return write_pt2(tmp_path_factory.mktemp("torch") / "two.pt2", model())


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "two.pt"
    with pytest.warns(DeprecationWarning, match="deprecated"):
        torch.jit.save(torch.jit.trace(model(), torch.rand(2, 3, 16, 16)), path)
    return path


def rewrite(source, target, change):
    """Copy an archive; `change(name, content)` gives new content or None to leave a part out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        root = old.namelist()[0].split("/")[0]
        parts = {name.removeprefix(f"{root}/"): old.read(name) for name in old.namelist()}
        for name, content in change(parts).items():
            new.writestr(f"{root}/{name}", content)
    return target


def with_program(source, target, change):
    """Copy an exported program with its graph changed in place."""

    def changed(parts):
        program = json.loads(parts["models/model.json"])
        change(program)
        return parts | {"models/model.json": json.dumps(program).encode()}

    return rewrite(source, target, changed)


def pictures(count):
    return np.random.default_rng(count).random((count, 3, 16, 16), np.float32)


def expected(array):
    with torch.inference_mode():
        return [tensor.numpy() for tensor in model()(torch.tensor(array))]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_exported_program_gives_what_the_model_gives(exported, count):
    """Any number of pictures; inputs and outputs tell their names and shapes."""
    runtime = load_torch(exported)
    assert runtime.inputs == (TensorSpec(name="x", shape=(-1, 3, 16, 16)),)
    assert runtime.outputs == ("output_0", "output_1")
    array = pictures(count)
    array.flags.writeable = False
    found = runtime.run(("output_1", "output_0"), array)
    assert list(found) == ["output_1", "output_0"]
    for name, wanted in zip(runtime.outputs, expected(array), strict=True):
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-6)


def test_outputs_have_the_keys_of_a_dictionary(tmp_path):
    """As the program returns them."""
    runtime = load_torch(write_pt2(tmp_path / "named.pt2", model(Named), any_batch=False))
    assert runtime.outputs == ("map", "vector")
    assert runtime.inputs[0].batch == 2
    assert runtime.run(["vector"], pictures(2))["vector"].shape == (2, 4)
    with pytest.raises(ModelError, match="does not fit the input x"):
        runtime.run(["vector"], pictures(3))
    with pytest.raises(ModelError, match="use some of"):
        runtime.run(["output"], pictures(2))


def test_torchscript_gives_what_the_model_gives(script):
    """Its inputs take their shapes from the manifest, which it leaves open."""
    runtime = load_torch(script, [SPEC])
    found = runtime.run(runtime.outputs, pictures(3))
    for array, wanted in zip(found.values(), expected(pictures(3)), strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(ModelError, match="does not tell the shapes of its inputs"):
        load_torch(script)
    with pytest.raises(ModelError, match="the model failed on"):
        load_torch(script, [TensorSpec(name="input", shape=(-1, 5, 16, 16))]).run(
            ["output_0"], np.zeros((1, 5, 16, 16), np.float32)
        )


def test_a_registered_model_runs_from_several_threads(exported, tmp_path):
    """The runtime of the manifest opens it, and calls at once give what they give one after the other."""
    registry = Registry(tmp_path / "models")
    manifest = FileManifest(name="two", task="tensor", runtime="torch", files={"model": "two.pt2"})
    runtime = open_runtime(registry.add(manifest, {"model": exported}))
    wanted = [expected(pictures(count))[1] for count in range(1, 9)]
    found = [None] * 8

    def run(index):
        found[index] = runtime.run(["output_1"], pictures(index + 1))["output_1"]

    threads = [threading.Thread(target=run, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for given, array in zip(found, wanted, strict=True):
        np.testing.assert_allclose(given, array, rtol=1e-5, atol=1e-6)
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no CUDA device"):
            open_runtime(registry.get("two"), device="cuda")


def test_a_model_in_training_is_refused(tmp_path):
    """It would change with each picture."""
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    with pytest.raises(ModelError, match="changes itself as it runs"):
        load_torch(write_pt2(tmp_path / "training.pt2", module.train(), any_batch=False))


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.pt2", "model.onnx"])
def test_a_pickle_is_never_read(tmp_path, modern, name):
    """Whatever it is called and however it was written, what it would run does not run."""
    witness = tmp_path / "witness"
    path = tmp_path / name
    torch.save({"weights": Touch(witness)}, path, _use_new_zipfile_serialization=modern)
    with pytest.raises(ModelError, match=r"to read it is to run.*torch\.export\.save"):
        load_torch(path, [SPEC])
    assert not witness.exists()
    torch.load(path, weights_only=False)
    assert witness.exists(), "the pickle of this test does nothing"


def test_weights_alone_are_no_model(tmp_path):
    """The message says what is missing."""
    path = tmp_path / "weights.pt"
    torch.save(model().state_dict(), path)
    with pytest.raises(ModelError, match="weights without the program"):
        require_safe(path)


@pytest.mark.parametrize(
    "part",
    ["data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/model.pt", "data/constants/opaque_obj_0"],
)
def test_a_pickle_inside_an_exported_program_is_never_read(exported, tmp_path, part):
    """Wherever torch would unpickle, with or without a guard."""
    witness = tmp_path / "witness"
    content = io.BytesIO()
    torch.save((Touch(witness),), content)
    path = rewrite(exported, tmp_path / "evil.pt2", lambda parts: parts | {part: content.getvalue()})
    with pytest.raises(ModelError, match="is refused"):
        load_torch(path)
    assert not witness.exists()


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_a_pickled_tensor_is_never_read(exported, tmp_path, kind):
    """`use_pickle` is refused, for weights and for constants."""
    witness = tmp_path / "witness"
    content = io.BytesIO()
    torch.save(Touch(witness), content)
    name = "weight_0" if kind == "weights" else "tensor_0"

    def change(parts):
        config = json.loads(parts[f"data/{kind}/model_{kind}_config.json"])
        payload = {"path_name": name, "is_param": True, "use_pickle": True, "tensor_meta": None}
        config["config"]["evil"] = payload
        return parts | {
            f"data/{kind}/model_{kind}_config.json": json.dumps(config).encode(),
            f"data/{kind}/{name}": content.getvalue(),
        }

    with pytest.raises(ModelError, match="its tensor evil is pickled"):
        load_torch(rewrite(exported, tmp_path / "evil.pt2", change))
    assert not witness.exists()


def nodes(program):
    return program["graph_module"]["graph"]["nodes"]


def sizes(program):
    return program["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]


EVIL = {
    "a size": lambda p, code: sizes(p)[0].update(as_expr={"expr_str": code, "hint": None}),
    "a guard": lambda p, code: p.update(guards_code=[code]),
    "a guard with a quote": lambda p, code: p.update(guards_code=[f"L['x'].size()[0] < 9 and {code}"]),
    "an operator": lambda p, _: nodes(p)[0].update(target="torch.os.system"),
    "another operator": lambda p, _: nodes(p)[0].update(target="torch.ops.aten.from_file.default"),
    "an operator as an argument": lambda p, _: nodes(p)[0]["inputs"][0].update(arg={"as_operator": "torch.os.system"}),
    "the name of a node": lambda p, code: nodes(p)[0].update(name=f"x\n{code}"),
    "the name of an input": lambda p, code: p["graph_module"]["graph"]["inputs"][-1]["as_tensor"].update(
        name=f"x={code}"
    ),
    "an argument": lambda p, code: p["graph_module"]["module_call_graph"][0]["signature"].update(
        forward_arg_names=[f"x={code}"]
    ),
    "a tree": lambda p, _: p["graph_module"]["module_call_graph"][0]["signature"].update(
        in_spec='[1, {"type": "os.system", "context": null, "children_spec": []}]'
    ),
    "a key of a tree": lambda p, code: p["graph_module"]["module_call_graph"][0]["signature"].update(
        in_spec=json.dumps([1, {"type": "builtins.dict", "context": json.dumps([code]), "children_spec": []}])
    ),
    "an object": lambda p, _: p["graph_module"]["graph"].update(custom_obj_values={"x": {"name": "x"}}),
    "a key": lambda p, code: p["range_constraints"].update({code: {"min_val": 1, "max_val": 2}}),
}


@pytest.mark.parametrize("place", EVIL)
def test_python_inside_an_exported_program_is_never_run(exported, tmp_path, place):
    """Each place where torch evaluates or compiles what the file says is looked through first."""
    witness = tmp_path / "witness"
    code = f"__import__('pathlib').Path({str(witness)!r}).touch()"
    path = with_program(exported, tmp_path / "evil.pt2", lambda program: EVIL[place](program, code))
    with pytest.raises(ModelError, match="is refused"):
        load_torch(path)
    assert not witness.exists()


def test_torch_would_run_what_is_refused_here(exported, tmp_path):
    """The reason for all of this: torch's own loader evaluates a size. Once it does not, this file can be shorter."""
    witness = tmp_path / "witness"
    code = f"__import__('pathlib').Path({str(witness)!r}).touch()"
    path = with_program(exported, tmp_path / "evil.pt2", lambda program: EVIL["a size"](program, code))
    with contextlib.suppress(Exception):  # it fails one way or another, after it ran the code
        torch.export.load(path)
    assert witness.exists()


@pytest.mark.parametrize(
    "part", ["data/aotinductor/model/model.so", "models/other.json", "data/xl_model_weights/x", "new"]
)
def test_parts_that_are_not_known_are_refused(exported, tmp_path, part):
    """Machine code, further models, and what a newer torch may add."""
    path = rewrite(exported, tmp_path / "evil.pt2", lambda parts: parts | {part: b"\x7fELF"})
    with pytest.raises(ModelError, match=f"is refused: it holds .*{part}"):
        load_torch(path)


def test_two_parts_of_one_name_are_refused(exported, tmp_path):
    """Readers differ in which they take."""
    path = tmp_path / "twice.pt2"
    path.write_bytes(exported.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        name = next(name for name in archive.namelist() if name.endswith("model.json"))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(name, b"{}")
    with pytest.raises(ModelError, match="two parts of the same name"):
        load_torch(path)


@pytest.mark.parametrize("kind", [Saves, Reads])
def test_torchscript_that_opens_files_is_refused(tmp_path, kind):
    """It is a language without Python, and has operators for that."""
    path = tmp_path / "files.pt"
    with pytest.warns(DeprecationWarning, match="deprecated"):
        torch.jit.save(torch.jit.script(kind()), path)
    with pytest.raises(ModelError, match="which reaches outside the model"):
        load_torch(path, [SPEC])
    assert not Path("/tmp/never-written-by-imagelake").exists()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("t = torch\n    return t.add(x, 1)", "gives torch another name"),
        ("return ops.evil.run(x)", "an operator of an extension"),
        ("o = ops.evil\n    return o.run(x)", "an operator of an extension"),
        ("c = torch.classes.evil.Thing()\n    return x", "an object of an extension"),
        ("import os\n    return x", "imports os"),
        ("return (", "cannot be read"),
    ],
)
def test_torchscript_source_that_reaches_further_is_refused(tmp_path, source, reason):
    """Extensions, other names for torch, and what is no source at all."""
    with pytest.warns(DeprecationWarning, match="deprecated"):
        torch.jit.save(torch.jit.script(Alias()), tmp_path / "alias.pt")

    def change(parts):
        (name,) = [name for name in parts if name.startswith("code/") and name.endswith(".py")]
        old = parts[name].decode()
        start = old.index("return torch.relu(x)")
        return parts | {name: (old[:start] + source + "\n").encode()}

    path = rewrite(tmp_path / "alias.pt", tmp_path / "evil.pt", change)
    with pytest.raises(ModelError, match=reason):
        load_torch(path, [SPEC])


def test_a_pickle_inside_torchscript_cannot_name_python(tmp_path, script):
    """Its objects are read in C++, which knows only the classes of the archive."""
    witness = tmp_path / "witness"
    evil = pickle.dumps(Touch(witness), protocol=2)
    for part in ("data.pkl", "constants.pkl"):
        path = rewrite(script, tmp_path / f"{part}.pt", lambda parts, part=part: parts | {part: evil})
        with pytest.raises(ModelError, match="torch cannot read"):
            load_torch(path, [SPEC])
    assert not witness.exists()


def test_the_list_of_operators_that_open_files_is_whole():
    """Every operator of the installed torch that takes a file's name is refused."""
    found = {
        schema.name
        for schema in torch._C._jit_get_all_schemas()
        for argument in schema.arguments
        if str(argument.type) == "str" and ("file" in argument.name or "path" in argument.name)
    }
    assert {name.split("::")[1] for name in found if name.split("::")[0] in {"aten", "prim", "prims"}} <= FILE_OPERATORS


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>", b"\x80\x02}q\x00."])
def test_what_is_no_program_is_refused(tmp_path, content):
    """Empty, cut short, something else, a bare pickle; a missing file."""
    path = tmp_path / "model.pt2"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.pt2"):
        load_torch(path)
    path.unlink()
    with pytest.raises(ModelError, match="cannot read"):
        load_torch(path)


def test_a_damaged_program_is_refused(exported, tmp_path):
    """Cut short, with a part missing, with a graph that is no JSON."""
    path = tmp_path / "damaged.pt2"
    path.write_bytes(exported.read_bytes()[: exported.stat().st_size // 2])
    with pytest.raises(ModelError):
        load_torch(path)
    for change in (
        lambda parts: parts | {"models/model.json": b"{"},
        lambda parts: {k: v for k, v in parts.items() if k != "data/weights/model_weights_config.json"},
        lambda parts: {k: v for k, v in parts.items() if k != "data/weights/weight_0"},
    ):
        with pytest.raises(ModelError):
            load_torch(rewrite(exported, path, change))
