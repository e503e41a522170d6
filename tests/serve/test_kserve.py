"""The client of KServe, unchanged, against `imagelake serve`."""

import json
import subprocess
import sys

import pytest

from pictures import encode, make_image
from places import ROOT

# It asks for libraries of other versions than ours, so it has an environment of its own, which `make test` makes.
KSERVE = ROOT / ".venv" / "kserve" / "bin" / "python"


@pytest.fixture(scope="module")
def served():
    """A server of the default model, and where it listens."""
    command = [sys.executable, "-m", "imagelake", "serve", "--model", "efficientnet-lite0", "--json"]
    command += ["--listen", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--log-level", "error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.stdout.read()


@pytest.mark.skipif(not KSERVE.exists(), reason="no client of KServe here: make test installs it")
def test_the_client_of_kserve_works_unchanged(served, tmp_path):
    """Health, readiness and inference over HTTP and gRPC: tensors and a picture in, probabilities out."""
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(encode(make_image(3, 320, 240)))
    script = ROOT / "tests" / "serve" / "kserve_client.py"
    command = [str(KSERVE), str(script), served["listening"], served["grpc"], str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout[done.stdout.index("{") :])
    for way in ("rest", "grpc"):
        assert [told[way][key] for key in ("live", "ready", "model")] == [True, True, True]
        assert told[way]["shape"] == [1, 1000]
        assert abs(told[way]["sum"] - 1) < 1e-4
    assert 0 < told["rest"]["picture"] <= 1
