"""Run the notebooks in examples/, and keep them without outputs.

    python scripts/notebooks.py                 run both in a temporary folder, with the demo's photos; takes minutes
    python scripts/notebooks.py --html FOLDER   and write each as it looks then, as HTML
    python scripts/notebooks.py --strip         take outputs out of examples/*.ipynb: photos of others stay out of here

The notebooks are their own source: edit them in JupyterLab, strip, commit. `tests/examples/test_notebooks.py` runs them
on a small set, and fails where one was committed with outputs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
_KEPT = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def read(path: Path) -> Any:
    """A notebook, checked against its schema."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def stripped(notebook: Any) -> Any:
    """The same without outputs, counters, and what an editor remembers."""
    notebook.metadata = nbformat.from_dict(_KEPT | {"language_info": {"name": "python"}})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
        cell.metadata = nbformat.from_dict({"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def with_parameters(notebook: Any, parameters: Mapping[str, object]) -> Any:
    """The same with other values set after the cell that is tagged `parameters`."""
    first = next(n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    text = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    notebook.cells.insert(first + 1, nbformat.v4.new_code_cell(text))
    return notebook


def execute(notebook: Any, folder: Path, timeout_s: int = 900) -> Any:
    """Run all cells in `folder`, in a new kernel of this environment; a cell that fails raises `CellExecutionError`."""
    return NotebookClient(notebook, timeout=timeout_s, resources={"metadata": {"path": str(folder)}}).execute()


def as_html(notebook: Any) -> str:
    """How it looks, as one page."""
    from nbconvert import HTMLExporter  # late: JupyterLab brings it, and only this needs it

    offline = HTMLExporter(require_js_url="", mathjax_url="", jquery_url="", mermaid_js_url="")
    body, _ = offline.from_notebook_node(notebook)
    return str(body)


def main() -> None:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strip", action="store_true", help="only take the outputs out")
    parser.add_argument("--html", type=Path, help="where to write the pages")
    given = parser.parse_args()
    for path in NOTEBOOKS:
        if given.strip:
            nbformat.write(stripped(read(path)), path)
            continue
        with tempfile.TemporaryDirectory() as folder:
            done = execute(read(path), Path(folder))
        print(f"{path.name} runs")
        if given.html is not None:
            given.html.mkdir(parents=True, exist_ok=True)
            (given.html / f"{path.stem}.html").write_text(as_html(done), encoding="utf-8")


if __name__ == "__main__":
    main()
