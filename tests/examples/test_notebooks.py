"""The notebooks of examples/: each runs from the first to the last cell in a new kernel, and shows what it says."""

import runpy

import pytest

from pictures import encode, make_image
from places import ROOT

nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "notebooks.py"))
MOST_BYTES = 300_000


@pytest.fixture
def jupyter_folders(tmp_path, monkeypatch):
    """Nothing of this user: kernels of this environment only, and folders of this test."""
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("IMAGELAKE_LAKE", raising=False)
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")


@pytest.fixture
def folder(tmp_path):
    """Twenty-four pictures of four kinds, one that is none, and one whose name is markup."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(23):
        (folder / f"{seed}.jpg").write_bytes(encode(make_image(seed % 8, 160 + seed, 120), quality=90))
    (folder / '<img src=x onerror="alert(1)">.jpg').write_bytes(encode(make_image(23, 160, 120)))
    (folder / "letter.jpg").write_text("I am no picture.")
    return folder


def run(name, folder, parameters):
    """The notebook after all its cells ran with other parameters."""
    notebook = SCRIPT["with_parameters"](SCRIPT["read"](ROOT / "examples" / f"{name}.ipynb"), parameters)
    return SCRIPT["execute"](notebook, folder, timeout_s=240)


def printed(notebook):
    """All that was printed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"], "a warning"
    return "".join(output.text for output in outputs if output.output_type == "stream")


def shown(notebook, kind):
    """What was displayed of a media type."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


@pytest.mark.parametrize("path", SCRIPT["NOTEBOOKS"], ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    """Whose pictures they may be is not known to a repository; and it is small."""
    kept = path.read_text()
    assert len(kept) < MOST_BYTES
    clean = SCRIPT["stripped"](SCRIPT["read"](path))
    assert SCRIPT["read"](path) == clean, "run: python scripts/notebooks.py --strip"
    assert any("parameters" in cell.metadata.get("tags", ()) for cell in clean.cells)


@pytest.mark.slow
def test_the_published_demo_runs(jupyter_folders, folder, tmp_path):
    """Shape NHWC, a split of nine to one, distances that agree with scikit-learn's, five rows of four."""
    parameters = {"DATA": str(folder), "SIDE": 32, "TIMED": (500, 50)}
    notebook = SCRIPT["read"](ROOT / "examples" / "image_search.ipynb")
    notebook.cells.append(_cell("axes.shape, distances.shape, agree, [place.get_title() for place in axes[0]][0]"))
    done = SCRIPT["execute"](SCRIPT["with_parameters"](notebook, parameters), tmp_path, timeout_s=240)
    said = printed(done)
    assert "shape (N, H, W, C): (24, 32, 32, 3) uint8" in said
    assert "X, to search: (22, 1280) float32" in said
    assert "Q, queries:   (2, 1280) float32" in said
    assert "They agree." in said
    assert "include_top    False" in said
    assert _last(done) == "((5, 4), (2, 3), True, 'query')"
    assert len(shown(done, "image/png")) == 2
    pages = "".join(shown(done, "text/html"))
    assert pages.count("data:image/jpeg;base64,") >= 8
    assert "<img src=x" not in pages


@pytest.mark.slow
def test_the_lakehouse_runs(jupyter_folders, folder, tmp_path):
    """Every report shows itself, SQL answers, the map is drawn, and the rejected letter says why."""
    done = run("lakehouse", tmp_path, {"FOLDER": str(folder)})
    said = printed(done)
    assert "letter.jpg - this is text, not a picture" in said
    pages = "".join(shown(done, "text/html"))
    for title in ("Ingest report", "Quality report", "Extract report", "Duplicate report", "Places report"):
        assert title in pages
    assert "<img src=x" not in pages
    assert "<script" not in pages
    assert len(shown(done, "image/png")) >= 2


def _cell(source):
    from nbformat.v4 import new_code_cell

    return new_code_cell(source)


def _last(notebook):
    return next(output.data["text/plain"] for output in notebook.cells[-1].outputs if "data" in output)
