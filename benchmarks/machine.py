"""What a benchmark ran on, and how its results are written."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "imagelake",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pyarrow",
    "pylance",
    "faiss-cpu",
    "scikit-learn",
    "usearch",
    "numkong",
    "torch",
    "adbc-driver-postgresql",
    "obstore",
    "uvicorn",
)
SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def machine() -> dict[str, object]:
    """Processor, cores, system, Python and the versions that matter."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def report(name: str, rows: Sequence[Mapping[str, object]], json_path: Path | None) -> None:
    """Print rows as a table and, where a path is given, write them as JSON with the machine."""
    columns = list(rows[0])
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(column), *(len(row[i]) for row in cells)) for i, column in enumerate(columns)]
    print(f"\n{name}")
    for line in (columns, *cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps({"benchmark": name, "machine": machine(), "rows": rows}, indent=1) + "\n")


def _cell(value: object) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 10
        else f"{value:,.0f}"
        if isinstance(value, float)
        else str(value)
    )
