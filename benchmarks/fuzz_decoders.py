"""What the decoders make of damaged pictures: 20,000 files that a seed gives, each described or rejected.

The files are those of tests/pixels/mutations.py, and child processes work through them. A file that raises anything
but an ImageError, warns, writes to standard error, kills its process, takes minutes, or needs more memory than its
pixels are allowed is written down, and the benchmark fails.

    python benchmarks/fuzz_decoders.py [--small] [--count N] [--seed N] [--failures FOLDER] [--json PATH]
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from machine import report

sys.path.append(str(Path(__file__).parents[1] / "tests" / "pixels"))

from decoder_runs import GOOD, Outcome, run_mutants
from mutations import mutant
from seed_pictures import seed_pictures


def fault(outcome: Outcome, file_bytes: int) -> str | None:
    """What is wrong with it, or None."""
    if outcome.outcome not in GOOD:
        return outcome.outcome
    return "memory" if (outcome.peak_bytes or 0) > outcome.memory_allowed(file_bytes) else None


def run(
    count: int, seed: int, pictures: Mapping[str, bytes], failures: Path | None
) -> tuple[dict[str, list[Outcome]], int]:
    """The outcomes by format, and how many should not be; those are printed as they come."""
    found: dict[str, list[Outcome]] = defaultdict(list)
    faults = 0
    for number, outcome in enumerate(run_mutants(seed, range(count))):
        made = mutant(seed, number, pictures)
        found[made.name.split()[0]].append(outcome)
        wrong = fault(outcome, len(made.data))
        if wrong is not None:
            faults += 1
            print(f"{wrong}: number {number}, {made.name}, {', '.join(made.kinds)}: {outcome}", flush=True)
            if failures is not None:
                failures.mkdir(parents=True, exist_ok=True)
                (failures / f"{seed}-{number}-{wrong}.bin").write_bytes(made.data)
    return found, faults


def row(form: str, outcomes: list[Outcome]) -> dict[str, object]:
    """A line of the table."""
    described = sum(outcome.outcome == "described" for outcome in outcomes)
    rejected = sum(outcome.outcome == "rejected" for outcome in outcomes)
    return {
        "format": form,
        "files": len(outcomes),
        "described": described,
        "rejected": rejected,
        "other": len(outcomes) - described - rejected,
        "with words on stderr": sum(bool(outcome.words) for outcome in outcomes),
        "slowest ms": max(outcome.cpu_ms for outcome in outcomes),
        "peak MB": max((outcome.peak_bytes or 0) for outcome in outcomes) / 1e6,
    }


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="200 files, for the tests")
    parser.add_argument("--count", type=int, default=20_000, help="how many files")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--failures", type=Path, help="write the files that should not be so here")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    options = parser.parse_args()
    count = 200 if options.small else options.count
    found, faults = run(count, options.seed, seed_pictures(), options.failures)
    rows = [row(form, outcomes) for form, outcomes in sorted(found.items())]
    everything = [outcome for outcomes in found.values() for outcome in outcomes]
    report(
        f"fuzz_decoders: {count} damaged files of seed {options.seed}", [*rows, row("all", everything)], options.json
    )
    if faults:
        raise SystemExit(f"{faults} files did more than be described or rejected: see above")


if __name__ == "__main__":
    main()
