"""`imagelake codes`, and `imagelake search --codes`."""

import json
import sys

import pytest

import imagelake
from imagelake.cli import main
from pictures import encode, make_image

ROWS = 20


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run a verb in this process, which is quicker: what it printed and noted, or its JSON."""
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *_, **__: str(tmp_path / "data" / "imagelake"))

    def run(*words, code=0):
        monkeypatch.setattr(sys, "argv", ["imagelake", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main.run()
        printed, noted = capsys.readouterr()
        assert (ended.value.code or 0) == code, noted
        return json.loads(printed) if "--json" in words and code == 0 else printed + noted

    return run


@pytest.fixture
def filled(tmp_path):
    """The address of a lake with vectors."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(ROWS):
        (folder / f"{seed}.jpg").write_bytes(encode(make_image(seed), quality=90))
    lake = imagelake.open(tmp_path / "test.lake", create=True)
    lake.ingest(folder)
    lake.extract(imagelake.model("efficientnet-lite0", input_size=64))
    return lake.tables.root


def test_fit_write_search(cli, filled, tmp_path):
    """The whole way, as a user goes it: each step says what comes next."""
    text = cli("codes", "fit", "--lake", filled, "--bits", 16, "--method", "itq", "--name", "mine")
    assert "16 bits by itq" in text
    assert "imagelake codes write --coder mine" in text
    assert f"{ROWS} coded, 0 known" in cli("codes", "write", "--lake", filled, "--coder", "mine")
    assert f"0 coded, {ROWS} known" in cli("codes", "write", "--lake", filled, "--coder", "mine")
    query = tmp_path / "pictures" / "7.jpg"
    found = cli("search", query, "--lake", filled, "--codes", "-k", 4, "--json")
    assert len(found) == 4
    assert found[0]["distance"] == 0
    exact = cli("search", query, "--lake", filled, "-k", 4, "--json")
    assert cli("search", query, "--lake", filled, "--codes", "--rerank", ROWS, "-k", 4, "--json") == exact


def test_json_tells_all(cli, filled):
    """One object for each verb, with the fingerprints."""
    fitted = cli("codes", "fit", "--lake", filled, "--bits", 16, "--method", "neighbors", "--json")
    assert fitted["coder"] == f"neighbors-16-{fitted['embeddings'][:8]}"
    written = cli("codes", "write", "--lake", filled, "--coder", fitted["coder"], "--json")
    assert written["code_set"] == f"{fitted['coder']}-{fitted['fingerprint'][:12]}"
    assert written["added"] == ROWS


def test_what_cannot_be_is_one_line(cli, filled):
    """Exit code 1 and what to do."""
    assert "multiple of 8" in cli("codes", "fit", "--lake", filled, "--bits", 12, code=1)
    assert "not known" in cli("codes", "write", "--lake", filled, "--coder", "none", code=1)
    assert "codes fit" in cli("search", "--random", 1, "--lake", filled, "--codes", code=1)
    assert "too few" in cli("codes", "fit", "--lake", filled, "--bits", 64, code=1)
    cli("codes", "fit", "--lake", filled, "--method", "lsh", code=2)
