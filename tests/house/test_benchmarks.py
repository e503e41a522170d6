"""Every benchmark runs, small, and writes its figures with the machine they come from."""

import json
import subprocess
import sys

import pytest
from sources.postgres_server import find_binaries

from places import ROOT, SHARED

BENCHMARKS = sorted(
    path for path in (ROOT / "benchmarks").glob("*.py") if path.name not in {"run_all.py", "machine.py", "pictures.py"}
)
NEED_PRODUCTS = {"retrieval.py", "session_settings.py"}


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_it_runs_and_writes_json(path, tmp_path):
    """Not its speed is tested but that the next person can run it."""
    if path.name in NEED_PRODUCTS and not (SHARED / "products").exists():
        pytest.skip("the product photos are not here")
    if path.name == "postgres_source.py" and find_binaries() is None:
        pytest.skip("no PostgreSQL server is installed here: apt-get install postgresql")
    out = tmp_path / "figures.json"
    command = [sys.executable, str(path), "--small", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    written = json.loads(out.read_text())
    assert written["machine"]["versions"]
    assert written["rows"]
