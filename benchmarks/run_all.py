"""Run every benchmark, print its table and write its JSON into benchmarks/results/.

python benchmarks/run_all.py [--small]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NOT_BENCHMARKS = {"run_all.py", "machine.py", "pictures.py"}


def benchmarks() -> list[Path]:
    """The scripts that measure something."""
    return sorted(path for path in HERE.glob("*.py") if path.name not in NOT_BENCHMARKS)


def main() -> None:
    """Run them one after the other, so that none disturbs another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes")
    options = parser.parse_args()
    for script in benchmarks():
        print(f"\n=== {script.name}", flush=True)
        command = [sys.executable, str(script), "--json", str(HERE / "results" / f"{script.stem}.json")]
        subprocess.run(command + ["--small"] * options.small, check=True)


if __name__ == "__main__":
    main()
