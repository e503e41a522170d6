"""Models of torch become ONNX that gives the same, on pictures, or are refused with the figures."""

import json
from pathlib import Path

import numpy as np
import pytest

from imagelake.errors import ModelError
from imagelake.models.conversion import (
    Comparison,
    Tolerance,
    check_conversion,
    model_inputs,
    picture_inputs,
    require_agreement,
)
from imagelake.models.file_manifest import TensorSpec
from imagelake.models.onnx_runtime import open_session
from imagelake.models.registry import Registry
from pictures import make_image

IMAGES = [make_image(seed, 80, 60) for seed in range(3)]
COMPARISON = Comparison(IMAGES)


def test_no_picture_is_no_comparison():
    """The empty input first: nothing can be said of no pictures."""
    with pytest.raises(ModelError, match="no picture was given"):
        picture_inputs([], TensorSpec(name="x", shape=(1, 3, 8, 8)))


@pytest.mark.parametrize(
    ("shape", "dtype", "made", "largest"),
    [
        ((-1, 3, 8, 6), "float32", (1, 3, 8, 6), 1),
        ((2, 8, 6, 3), "float32", (1, 8, 6, 3), 1),
        ((-1, 1, 8, 6), "float16", (1, 1, 8, 6), 1),
        ((-1, -1, -1, 3), "uint8", (1, 224, 224, 3), 255),
    ],
)
def test_pictures_become_inputs_of_any_layout(shape, dtype, made, largest):
    """Of the size, type and layout that the model takes."""
    (array,) = picture_inputs(IMAGES[:1], TensorSpec(name="x", shape=shape, dtype=dtype))
    assert array.shape == made
    assert array.dtype == dtype
    assert 0.3 * largest < array.max() <= largest


def test_transforms_of_a_manifest_go_before():
    """What the model will be used with is what it is compared with; a batch of all pictures comes last."""
    spec = TensorSpec(name="x", shape=(-1, 3, 16, 16))
    transforms = [{"resize": {"size_wh": [16, 16]}}, {"scale": 0.5}, {"layout": "chw"}]
    arrays = model_inputs([spec], Comparison(IMAGES, transforms))
    assert [array.shape for array in arrays] == [(1, 3, 16, 16)] * 3 + [(3, 3, 16, 16)]
    assert 1 < arrays[0].max() <= 127.5


@pytest.mark.parametrize("shape", [(1, 10), (-1, 4, 8, 8), (3,)])
def test_an_input_that_takes_no_picture(shape):
    """The message says what a picture's input looks like."""
    with pytest.raises(ModelError, match="none of a picture"):
        picture_inputs(IMAGES, TensorSpec(name="x", shape=shape))
    with pytest.raises(ModelError, match="takes one input"):
        model_inputs([TensorSpec(name="a", shape=(1,)), TensorSpec(name="b", shape=(1,))], COMPARISON)


@pytest.mark.parametrize(
    ("converted", "message"),
    [
        (lambda x: {"y": x + 0.01}, r"y: largest difference 0\.01"),
        (lambda x: {"y": -x}, r"least cosine -1\.0"),
        (lambda x: {"y": x[..., :1]}, "has the shape"),
        (lambda x: {"y": x, "z": x}, "gives 1 outputs, the converted model 2"),
        (lambda x: {"y": x * np.nan}, "largest difference inf"),
        (lambda x: {"y": x * 0}, r"least cosine 0\.0"),
    ],
)
def test_another_model_is_refused_with_the_figures(converted, message):
    """Whatever it differs in."""
    with pytest.raises(ModelError, match=message):
        require_agreement(lambda x: [x], converted, [np.full((1, 4), 0.5, np.float32)])


def test_rounding_is_allowed():
    """And its figures are told."""
    (found,) = require_agreement(lambda x: [x], lambda x: {"y": x * np.float32(1.00001)}, [np.ones((2, 3), np.float32)])
    assert 0 < found.relative_difference < 1e-4
    assert "over 1 calls" in str(found)


@pytest.fixture(scope="module")
def torch():
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: the extra `torch`")
    return pytest.importorskip("torch", reason="torch is not installed: the extra `torch`")


@pytest.fixture(scope="module")
def module(torch):
    torch.manual_seed(0)
    layers = (torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Dropout(0.5))
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()


@pytest.fixture(scope="module")
def exported(torch, module, tmp_path_factory):
    path = tmp_path_factory.mktemp("torch") / "net.pt2"
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(module, (torch.rand(2, 3, 32, 32),), dynamic_shapes=shapes), path)
    return path


def vectors(torch, module, array):
    with torch.inference_mode():
        return module(torch.tensor(array)).numpy()


def test_an_exported_program_becomes_onnx(torch, module, exported, tmp_path):
    """The same numbers for one picture and for any number, in one file."""
    from imagelake.models.import_torch import import_torch_file

    imported = import_torch_file(exported, tmp_path / "net.onnx", COMPARISON)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert imported.inputs == (TensorSpec(name="input", shape=(-1, 3, 32, 32)),)
    pictures = np.random.default_rng(0).random((5, 3, 32, 32), np.float32)
    found = open_session(imported.onnx).run(["output"], pictures)["output"]
    np.testing.assert_allclose(found, vectors(torch, module, pictures), rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="allowed are"):
        import_torch_file(exported, tmp_path / "net.onnx", Comparison(IMAGES, tolerance=Tolerance(0.0, 1.1)))


def test_torchscript_becomes_onnx(torch, module, tmp_path):
    """With the shape of its input given; what it was traced with does not bind it."""
    from imagelake.models.import_torch import import_torch_file

    with pytest.warns(DeprecationWarning, match="deprecated"):
        torch.jit.save(torch.jit.trace(module, torch.rand(2, 3, 32, 32)), tmp_path / "net.pt")
    spec = TensorSpec(name="input", shape=(-1, 3, 32, 32))
    imported = import_torch_file(tmp_path / "net.pt", tmp_path / "net.onnx", COMPARISON, inputs=[spec])
    pictures = np.random.default_rng(0).random((5, 3, 32, 32), np.float32)
    found = open_session(imported.onnx).run(["output"], pictures)["output"]
    np.testing.assert_allclose(found, vectors(torch, module, pictures), rtol=1e-4, atol=1e-5)


def test_a_module_in_this_process_becomes_onnx(torch, module, tmp_path):
    """In its mode for use, whatever mode it is in; that mode it keeps."""
    from imagelake.models.import_torch import import_torch_module

    module.train()
    try:
        example = np.zeros((2, 3, 32, 32), np.float32)
        imported = import_torch_module(module, example, tmp_path / "net.onnx", COMPARISON)
        assert module.training
    finally:
        module.eval()
    assert imported.source == "made with torch from Sequential"
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_conversion_of_another_model_is_refused(torch, exported, tmp_path):
    """The check is of the file that was written, not of what was meant."""
    from imagelake.models.import_torch import import_torch_file

    imported = import_torch_file(exported, tmp_path / "net.onnx", COMPARISON)
    with pytest.raises(ModelError, match="is not the original"):
        check_conversion(lambda x: [np.ones((len(x), 8), np.float32)], imported.onnx, COMPARISON, "another")


@pytest.mark.slow
def test_a_pickled_model_is_refused_by_the_command(torch, module, exported, tmp_path, capsys):
    """It says why and what to do; an exported program is added, with the figures of the comparison."""
    import typer

    from imagelake.cli.models_pull import register

    app = typer.Typer()
    register(app)
    models = ["--models", str(tmp_path / "models")]
    torch.save(module, tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"pickled Python object.*torch\.export\.save"):
        app(["import", str(tmp_path / "net.pth"), "--shape", "any,3,32,32", *models], standalone_mode=False)
    picture = tmp_path / "picture.png"
    from imagelake.pixels.png import encode_png

    picture.write_bytes(encode_png(IMAGES[0]))
    words = ["import", str(exported), "--to", "net", "--pictures", str(picture), *models]
    app(words, standalone_mode=False)
    assert "The same as the original: output: largest difference" in capsys.readouterr().out
    assert Registry(tmp_path / "models").get("net").manifest.source == "made with torch from net.pt2"
    manifest = tmp_path / "vectors.json"
    told = {
        "name": "vectors",
        "task": "embedder",
        "runtime": "torch",
        "files": {"model": "net.pt2"},
        "inputs": [{"name": "input", "shape": [-1, 3, 32, 32], "layout": "nchw"}],
        "transforms": [{"resize": {"size_wh": [32, 32]}}, {"scale": 0.004}, {"layout": "chw"}],
    }
    manifest.write_text(json.dumps(told))
    app([*words[:2], "--manifest", str(manifest), *words[4:], "--json"], standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["task"], told["runtime"]) == ("vectors", "embedder", "onnx")
    assert told["agreements"][0]["calls"] == 1
    app([*words[:2], "--onnx", str(tmp_path / "out.onnx"), "--pictures", str(picture)], standalone_mode=False)
    assert (tmp_path / "out.onnx").stat().st_size > 0
    assert Path(exported).exists()
