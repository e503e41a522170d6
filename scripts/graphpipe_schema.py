"""Make the code in src/imagelake/serve/graphpipe_schema/ from src/imagelake/serve/graphpipe.fbs.

    python scripts/graphpipe_schema.py

`flatc` 2.0.8 or newer must be installed: `apt-get install flatbuffers-compiler`. The code is Python's view of the
schema as the FlatBuffers project itself writes it; the codec takes the numbers of the types from there, and the tests
read what the codec writes with it. `tests/serve/test_graphpipe_schema.py` fails when the two are apart.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

SERVE = Path(__file__).parents[1] / "src" / "imagelake" / "serve"
SCHEMA = SERVE / "graphpipe.fbs"
GENERATED = SERVE / "graphpipe_schema"
PACKAGE = "imagelake.serve.graphpipe_schema"
COMMAND = ("flatc", "--python")
DOCSTRING = '"""The GraphPipe schema as code. Made from graphpipe.fbs by scripts/graphpipe_schema.py: do not edit."""\n'


def generate() -> dict[str, str]:
    """The files of the package, by name: what `flatc` writes, and our line on what it is."""
    with tempfile.TemporaryDirectory() as folder:
        # In Python the namespace is the package that the files import each other from; it is not in any message.
        schema = Path(folder) / SCHEMA.name
        schema.write_text(SCHEMA.read_text().replace("namespace graphpipe;", f"namespace {PACKAGE};"))
        subprocess.run([*COMMAND, "-o", folder, str(schema)], check=True, capture_output=True)  # noqa: S603
        made = Path(folder).joinpath(*PACKAGE.split("."))
        files = {path.name: path.read_text().rstrip() + "\n" for path in sorted(made.glob("*.py"))}
    return files | {"__init__.py": DOCSTRING}


if __name__ == "__main__":
    GENERATED.mkdir(exist_ok=True)
    for name, text in generate().items():
        (GENERATED / name).write_text(text)
    print(f"Wrote {GENERATED}")
