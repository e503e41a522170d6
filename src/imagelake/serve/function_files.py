"""The files that make the function a container for an Fn platform."""

from __future__ import annotations

from pathlib import Path

from imagelake import __version__
from imagelake.errors import InputError

_FUNC_YAML = """\
schema_version: 20180708
name: {name}
version: 0.0.1
runtime: docker
memory: 1024
timeout: 60
idle_timeout: 300
triggers:
- name: {name}
  type: http
  source: /{name}
"""

_DOCKERFILE = """\
FROM python:3.12-slim
RUN pip install --no-cache-dir "imagelake=={version}"
# What is built from the model's weights is built once, here, and read by any user.
ENV XDG_CACHE_HOME=/opt/imagelake/cache
RUN imagelake function prepare && chmod -R a+rX /opt/imagelake
RUN useradd --create-home --uid 1000 fn
USER fn
ENTRYPOINT ["imagelake", "function"]
"""

_NAME = "imagelake-classify"


def write_function_files(folder: Path) -> list[Path]:
    """Write `func.yaml` and `Dockerfile` into a folder, which is made where there is none.

    Args:
        folder: whose files are kept: where one of the two is there already, nothing is written.

    Returns:
        The files.

    Raises:
        InputError: a file is there already, or cannot be written.
    """
    texts = {
        "func.yaml": _FUNC_YAML.format(name=_NAME),
        "Dockerfile": _DOCKERFILE.format(version=__version__),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in texts:
            if (folder / name).exists():
                raise InputError(f"{folder / name} is there already. Give another folder, or remove it first.")
        for name, text in texts.items():
            (folder / name).write_text(text)
    except OSError as error:
        raise InputError(
            f"The files cannot be written to {folder}: {error.strerror}. Give a folder of yours."
        ) from error
    return [folder / name for name in texts]
