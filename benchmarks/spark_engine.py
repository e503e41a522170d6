"""How fast the engine `spark` is beside the local engine on the same two processors.

Spark runs as `local-cluster[2,1,1024]`: two executors of one core each, in processes of their own, and a driver. Both
engines embed the same pictures with the default model, in turn, A B A B, each time in a fresh copy of the same lake.
Start-up is told apart: the session, and a first extraction of a few pictures, with which workers start and load the
model.

    python benchmarks/spark_engine.py [--small] [--json PATH]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from machine import report

import imagelake
from imagelake.lake.tables import Tables
from imagelake.run.extract import ExtractReport, extract
from imagelake.run.progress import Silent
from imagelake.run.spark import extract_spark
from imagelake.run.spark_session import session_for
from imagelake.steps.pipeline import Pipeline
from pictures import pictures

MASTER = "local-cluster[2,1,1024]"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    count, rounds = (60, 1) if given.small else (given.pictures, given.rounds)
    with tempfile.TemporaryDirectory() as below:
        report("extract: Spark beside the local engine", measure(Path(below), count, rounds), given.json)


def measure(below: Path, count: int, rounds: int) -> list[dict[str, object]]:
    """One row an engine."""
    made, few = filled(below / "lake", below / "photos", count), filled(below / "few", below / "few-photos", 40)
    pipeline = Pipeline(embed=made.default_model())
    began = time.monotonic()
    with session_for(None, MASTER, {}, Silent()) as spark:
        session_s = time.monotonic() - began
        first_s = extract_spark(few.tables, pipeline, spark=spark).seconds
        engines: dict[str, Callable[[Tables], ExtractReport]] = {
            "local": lambda tables: extract(tables, pipeline),
            MASTER: lambda tables: extract_spark(tables, pipeline, spark=spark),
        }
        rates: dict[str, list[float]] = {name: [] for name in engines}
        for number in range(rounds):
            for name, engine in engines.items():
                copy = below / f"{number}-{name.partition('[')[0]}"
                shutil.copytree(below / "lake", copy)
                found = engine(imagelake.open(copy).tables)
                if found.added != count:
                    raise SystemExit(f"{name} lost pictures: {found}")
                rates[name].append(found.images_per_s)
                shutil.rmtree(copy)
    ratios = [there / here for here, there in zip(rates["local"], rates[MASTER], strict=True)]
    return [
        {
            "engine": name,
            "pictures": count,
            "images_per_s": statistics.median(rates[name]),
            "of_local": statistics.median(ratios) if name == MASTER else 1.0,
            "session_s": session_s if name == MASTER else 0.0,
            "first_pictures_s": first_s if name == MASTER else 0.0,
        }
        for name in engines
    ]


def filled(root: Path, photos: Path, count: int) -> imagelake.Lake:
    """A lake of so many pictures."""
    lake = imagelake.open(root, create=True)
    lake.ingest(pictures(count, photos))
    shutil.rmtree(photos)
    return lake


if __name__ == "__main__":
    main()
