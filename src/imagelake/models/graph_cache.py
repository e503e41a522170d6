"""Built graphs, kept between runs in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import platformdirs

from imagelake.errors import ModelError
from imagelake.models import cpu
from imagelake.models.efficientnet_lite0 import architecture as efficientnet_lite0
from imagelake.models.manifest import Manifest
from imagelake.models.zoo import find_weights

OnProgress = Callable[[str], None]


def load_graph(
    manifest: Manifest,
    outputs: Sequence[str],
    cache_dir: Path | None = None,
    on_progress: OnProgress | None = None,
) -> bytes:
    """Give the ONNX file of a manifest, out of the cache or newly built.

    Args:
        manifest: the model.
        outputs: the outputs wanted; a graph holds no others, since a run would compute them too.
        cache_dir: where graphs are kept; None for the user's cache folder. A folder that cannot be written is no
            error: the graph is then built each time.
        on_progress: told in one line when something takes seconds.

    Raises:
        ModelError: as `find_weights` and the builder; or no builder knows the architecture.
    """
    folder = default_cache_dir() if cache_dir is None else cache_dir
    key = cache_key(manifest, outputs)
    kept = _read(folder, key)
    if kept is not None:
        return kept
    report = on_progress or _silent
    width, height = manifest.input_size_wh
    report(f"building the graph of {manifest.name} ({manifest.precision}, {width}x{height} pixels), once")
    built = _build(manifest, outputs)
    try:
        _write(folder, key, built)
    except OSError as error:
        report(f"cannot keep the graph in {folder} ({error}); it will be built again next time")
    return built


def default_cache_dir() -> Path:
    """The folder in which graphs are kept unless another is given."""
    return Path(platformdirs.user_cache_dir("imagelake", appauthor=False)) / "graphs"


def cache_key(manifest: Manifest, outputs: Sequence[str]) -> str:
    """A name for a graph: equal exactly when the same file would be built and, for int8, checked on the same kind of
    processor with the same runtime.
    """
    parts: list[object] = [
        manifest.architecture,
        manifest.graph_version,
        manifest.weights_sha256,
        manifest.precision,
        manifest.input_size_wh,
        manifest.mean_rgb,
        manifest.std_rgb,
        sorted(outputs),
    ]
    if manifest.precision == "int8":
        parts += [cpu.signature(), metadata.version("onnxruntime")]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return f"{manifest.architecture}-{manifest.precision}-{digest[:24]}"


def _build(manifest: Manifest, outputs: Sequence[str]) -> bytes:
    weights_file = find_weights(manifest)
    if manifest.architecture == efficientnet_lite0.NAME:
        if manifest.graph_version != efficientnet_lite0.GRAPH_VERSION:
            raise ModelError(
                f"version {manifest.graph_version} of the graph of {manifest.name} is asked for, this imagelake "
                f"builds version {efficientnet_lite0.GRAPH_VERSION}; use the imagelake that made the manifest, or "
                "embed the pictures again"
            )
        # Late: onnx is heavy, and a graph out of the cache does not need it.
        from imagelake.models.efficientnet_lite0.build import build

        return build(manifest, weights_file, outputs)
    raise ModelError(
        f"no builder knows the architecture {manifest.architecture!r}; allowed is {efficientnet_lite0.NAME}"
    )


def _read(folder: Path, key: str) -> bytes | None:
    """The kept graph, if its bytes still have the hash that its name holds; a damaged file is removed."""
    for path in sorted(folder.glob(f"{key}.*.onnx")):
        try:
            content = path.read_bytes()
            if path.name == _file_name(key, content):
                return content
            path.unlink(missing_ok=True)
        except OSError:
            continue
    return None


def _write(folder: Path, key: str, content: bytes) -> None:
    """Write a graph whole or not at all, whoever else writes it at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=f"{key}.", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        part.replace(folder / _file_name(key, content))
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _file_name(key: str, content: bytes) -> str:
    return f"{key}.{hashlib.sha256(content).hexdigest()[:32]}.onnx"


def _silent(_line: str) -> None:
    """Tell nobody."""
