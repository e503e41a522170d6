"""Make src/imagelake/serve/oip_grpc_schema/oip.binpb from src/imagelake/serve/oip.proto.

    pip install grpcio-tools    # in an environment of its own; it is needed for nothing else
    python scripts/oip_schema.py

What is made is a serialized FileDescriptorSet: data, not code. So it is bound to no version of protobuf, and the
package builds its messages in a descriptor pool of its own, beside any other package that defines `inference`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SERVE = Path(__file__).parents[1] / "src" / "imagelake" / "serve"
MADE = SERVE / "oip_grpc_schema" / "oip.binpb"


def main(made: Path = MADE) -> None:
    """Write the descriptors."""
    words = ["-m", "grpc_tools.protoc", f"--proto_path={SERVE}", f"--descriptor_set_out={made}", "oip.proto"]
    subprocess.run([sys.executable, *words], check=True)  # noqa: S603  (the command is above)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
