"""Draw docs/images/search-*.svg from the figures of benchmarks/exact_search.py.

python scripts/draw_search_curves.py benchmarks/results/exact_search.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

OUT = Path(__file__).parents[1] / "docs" / "images"
PICTURES = {
    "rows": ("curve rows", "rows", "rows searched"),
    "one": ("curve rows, one", "rows", "rows searched"),
    "dims": ("curve dims", "dims", "dimensions"),
    "k": ("curve k", "k", "neighbors asked for (k)"),
}
LIMITS = {"limit: float32 product": "all products in float32", "limit: reading once": "reading every vector once"}


def draw(name: str, rows: list[dict[str, Any]], out: Path) -> Path:
    """One picture: ours, faiss, and what bounds plain brute force, seconds against what varies."""
    part, varies, label = PICTURES[name]
    measured = [row for row in rows if row["part"] == part and row["beside"] == "faiss"]
    if not measured:
        raise SystemExit(f"the figures hold no rows of {part!r}; run benchmarks/exact_search.py with --parts curves")
    figure, axes = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    across = [row[varies] for row in measured]
    axes.plot(across, [row["their_seconds"] for row in measured], "o-", color="#8a8a8a", label="faiss IndexFlatL2")
    axes.plot(across, [row["seconds"] for row in measured], "o-", color="#d84315", linewidth=2, label="imagelake")
    source = part.removesuffix(", one")
    for style, (limit, text) in zip(("--", ":"), LIMITS.items(), strict=True):
        found = [row for row in rows if row["part"] == source and row["beside"] == limit]
        if part.endswith("one") and "product" in limit:
            continue  # one query does not multiply enough to be bound by it
        axes.plot([row[varies] for row in found], [row["seconds"] for row in found], style, color="#37474f", label=text)
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="seconds")
    axes.set_title(_title(measured[0], varies), fontsize=10)
    axes.grid(visible=True, which="major", alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    path = out / f"search-{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def _title(row: dict[str, Any], varies: str) -> str:
    """What does not vary."""
    queries = "one query" if row["queries"] == 1 else f"{row['queries']:,} queries"
    fixed = {"rows": f"{row['rows']:,} rows", "dims": f"{row['dims']:,} dimensions", "k": f"k = {row['k']}"}
    return ", ".join([queries, *(text for name, text in fixed.items() if name != varies)])


def main(figures: Path, out: Path = OUT) -> None:
    """Draw them all."""
    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "imagelake"
    rows = json.loads(figures.read_text())["rows"]
    for name in PICTURES:
        print(draw(name, rows, out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(Path(each) for each in sys.argv[2:3]))
