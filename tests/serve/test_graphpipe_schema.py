"""The generated code is what `flatc` makes of our schema."""

import importlib.util
import shutil
import subprocess

import pytest

from places import ROOT

SCRIPT = ROOT / "scripts" / "graphpipe_schema.py"


def script():
    spec = importlib.util.spec_from_file_location("graphpipe_schema_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_code_is_what_the_schema_says():
    """Running the script again changes nothing."""
    if shutil.which("flatc") is None:
        pytest.skip("flatc is not installed here: apt-get install flatbuffers-compiler")
    made = script()
    version = subprocess.run(["flatc", "--version"], capture_output=True, text=True).stdout.split()[-1]
    if version != "2.0.8":
        pytest.skip(f"the code was made with flatc 2.0.8, and {version} is installed, which writes it otherwise")
    written = {path.name: path.read_text() for path in made.GENERATED.glob("*.py")}
    assert made.generate() == written
