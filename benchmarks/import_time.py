"""What it costs to import imagelake and to ask for help, beside NumPy and Typer: medians of processes, in turn.

python benchmarks/import_time.py [--small] [--json PATH]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import report

COMMANDS = {
    "python": ["-c", "pass"],
    "import numpy": ["-c", "import numpy"],
    "import imagelake": ["-c", "import imagelake"],
    "import typer": ["-c", "import typer"],
    "imagelake --help": ["-m", "imagelake", "--help"],
}


def main() -> None:
    """Time each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(1 if options.small else 15):
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    bare = medians["python"]
    rows = [
        {"command": name, "ms": value * 1000, "ms over bare python": (value - bare) * 1000}
        for name, value in medians.items()
    ]
    report("import_time", rows, options.json)
    print(f"import imagelake / import numpy: {medians['import imagelake'] / medians['import numpy']:.2f}")
    print(f"imagelake --help / import typer: {medians['imagelake --help'] / medians['import typer']:.2f}")


if __name__ == "__main__":
    main()
