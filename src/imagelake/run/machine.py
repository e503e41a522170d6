"""What a benchmark ran on: processor, memory and versions, and nothing that says whose machine it is."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """A machine in a few words.

    Attributes:
        processor: the model's name.
        logical_cpus: of the machine; the process may be allowed fewer.
        threads: how many were used.
        memory_bytes: of the machine, None where the system does not say.
        gpu: the model's name, None where none was used.
        system: its name and architecture.
        python: the version.
        versions: of the packages that matter and are installed.
    """

    processor: str
    logical_cpus: int
    threads: int
    memory_bytes: int | None
    gpu: str | None
    system: str
    python: str
    versions: dict[str, str]


def describe_machine(packages: Sequence[str], threads: int, gpu: str | None = None) -> Machine:
    """This machine, with the versions of those of `packages` that are installed."""
    return Machine(
        processor=_processor(),
        logical_cpus=os.cpu_count() or 1,
        threads=threads,
        memory_bytes=memory_bytes(),
        gpu=gpu,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions=_versions(packages),
    )


def memory_bytes() -> int | None:
    """How much memory the machine has, None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
