"""What importing costs, in processes of their own."""

import json
import subprocess
import sys

HEAVY = {"onnxruntime", "onnx", "cv2", "lance", "pyarrow", "torch", "numpy", "PIL", "duckdb", "typer", "rich"}


def modules_after(statement):
    """Names of the modules that a statement loads."""
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    return set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))


def test_importing_imagelake_loads_nothing_heavy():
    """Not even NumPy: the names arrive on first use."""
    assert not modules_after("import imagelake") & HEAVY


def test_the_errors_load_nothing_heavy():
    """Nor do the names that only say what exists."""
    assert not modules_after("import imagelake; imagelake.ImagelakeError; dir(imagelake)") & HEAVY


def test_help_loads_no_room_but_the_command_line():
    """`imagelake --help` needs typer and rich, and none of the rest."""
    loaded = modules_after("import imagelake.cli.main")
    assert not loaded & (HEAVY - {"typer", "rich"})


def test_importing_costs_no_more_than_numpy():
    """Counted in modules, which do not depend on how busy the machine is."""
    bare = modules_after("pass")
    assert len(modules_after("import imagelake") - bare) < len(modules_after("import numpy") - bare) / 4


def test_models_and_search_stay_without_arrow():
    """They speak NumPy, so that the same code runs where there is no Arrow."""
    for room in ("imagelake.models.embedder", "imagelake.search.index", "imagelake.pixels.describe"):
        assert not modules_after(f"import {room}") & {"pyarrow", "lance", "duckdb"}
