import runpy

import pytest

import imagelake
from imagelake import errors
from places import ROOT

REFERENCE = ROOT / "docs" / "reference"


@pytest.mark.parametrize("script", ["cli_reference", "table_reference", "transforms_table"])
def test_a_generated_page_is_current(script):
    """It is what its script makes; otherwise run `python scripts/SCRIPT.py`."""
    made = runpy.run_path(str(ROOT / "scripts" / f"{script}.py"))
    assert made["PAGE"].read_text() == made["page"](), f"run: python scripts/{script}.py"


def test_every_public_name_is_on_the_python_page():
    """Under the name that a user types."""
    page = (REFERENCE / "python.md").read_text()
    assert [name for name in imagelake.__all__ if f'"imagelake.{name}"' not in page] == []


def test_every_error_is_in_the_tree():
    """And nothing else is."""
    page = (REFERENCE / "errors.md").read_text()
    tree = page.split("```")[1]
    shown = {word for word in tree.split() if word.endswith("Error")}
    assert shown == {name for name in vars(errors) if name.endswith("Error")}
