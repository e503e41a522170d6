"""Compile the hot loops of exact search when the package is built; without a compiler, NumPy does their work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("src/imagelake/search/c")
# Products and sums must not be fused where the order of rounding is part of the answer.
FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno")


class CompileNative(BuildHookInterface[Any]):
    """Adds `_scan.so` to what is built, where a C compiler is there."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, or say so where that cannot be done, and go on; take the notebooks along."""
        if self.target_name != "wheel":
            return
        if version != "editable":
            for name in ("image_search", "lakehouse"):  # what `imagelake notebook` opens
                build_data["force_include"][f"examples/{name}.ipynb"] = f"imagelake/examples/{name}.ipynb"
        library = Path(self.root) / NATIVE / "_scan.so"
        if compile_native(library, sorted((Path(self.root) / NATIVE).glob("*.c"))):
            build_data["artifacts"].append(str(NATIVE / "_scan.so"))
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def compile_native(library: Path, sources: list[Path]) -> bool:
    """Compile `sources` into `library`; False where there is no compiler, or it fails."""
    compiler = os.environ.get("CC") or next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        sys.stderr.write("imagelake: no C compiler found; exact search will run in NumPy, several times slower.\n")
        return False
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        command = [*compiler.split(), *FLAGS, "-o", str(made), *map(str, sources), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the compiler is the user's
        if done.returncode:
            sys.stderr.write(f"imagelake: {' '.join(command)} failed; exact search will run in NumPy.\n{done.stderr}\n")
            return False
        made.replace(library)  # whoever has the old one loaded keeps it
    return True
