"""The curves of the docs can be drawn again from the figures of the benchmark."""

import subprocess
import sys

from places import ROOT


def test_the_curves_are_drawn_from_the_figures(tmp_path):
    """Measured small, drawn, and every picture shows ours, faiss and a limit."""
    figures = tmp_path / "figures.json"
    for command in (
        ["benchmarks/exact_search.py", "--small", "--parts", "curves", "--json", str(figures)],
        ["scripts/draw_search_curves.py", str(figures), str(tmp_path)],
    ):
        done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    for name in ("rows", "one", "dims", "k"):
        drawn = (tmp_path / f"search-{name}.svg").read_text()
        assert all(
            f"<!-- {text} -->" in drawn for text in ("imagelake", "faiss IndexFlatL2", "reading every vector once")
        )
