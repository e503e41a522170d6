"""The layout by UMAP from neighbors that are known, in a process of its own: it computes for minutes.

McInnes, Healy, Melville: UMAP: Uniform Manifold Approximation and Projection (2018), by the library `umap-learn`. It is
given our exact neighbors, so that it searches none; it begins at the principal components, so that the map
looks like that of PCA pulled apart; with one seed and one thread, the same lake becomes the same map.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagelake._optional import need
from imagelake.errors import InputError

NEIGHBORS = 15
_SEED, _MIN_DIST = 7, 0.1
SETTINGS = {"n_neighbors": NEIGHBORS, "min_dist": _MIN_DIST, "seed": _SEED}
LEAST = 4  # of fewer pictures there is nothing to lay out
EXTRA = "umap"

_PERCENT = re.compile(rb"(\d{1,3})%")
_SAID = 2000  # letters of an error that are shown
_FILE = "layout.npz"
_DONE = "points.npy"


def is_installed() -> bool:
    """Whether the extra is there; nothing is imported to find out."""
    return importlib.util.find_spec("umap") is not None


def check_installed() -> None:
    """Refuse where the extra is not there.

    Raises:
        MissingExtraError: with the line to type.
    """
    if not is_installed():
        need(EXTRA, "umap")


def lay_out(
    neighbors: NDArray[np.int32],
    distances: NDArray[np.float32],
    start: NDArray[np.float32],
    told: Callable[[float], None] | None = None,
) -> NDArray[np.float32]:
    """Points in the plane, float32 [n, 2].

    Args:
        neighbors: of each row the rows that are nearest, int32 [n, k], without itself, ascending by distance.
        distances: to them, float32 [n, k].
        start: where each row begins, float32 [n, 2].
        told: hears how much is done, 0 to 1.

    Raises:
        MissingExtraError: the extra `umap` is not installed.
        InputError: there are fewer than `LEAST` rows, or the process was ended.
    """
    check_installed()
    if len(start) < LEAST:
        raise InputError(f"A layout by UMAP needs at least {LEAST} pictures; there are {len(start)}. Use pca.")
    with tempfile.TemporaryDirectory(prefix="imagelake-map-") as folder:
        np.savez(Path(folder) / _FILE, neighbors=neighbors, distances=distances, start=start)
        _run(folder, told or (lambda _: None))
        points: NDArray[np.float32] = np.load(Path(folder) / _DONE)
    return points


def _run(folder: str, told: Callable[[float], None]) -> None:
    command = [sys.executable, "-m", "imagelake.gallery.umap_layout", folder]
    said = b""
    with subprocess.Popen(  # noqa: S603  (ourselves)
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as process:
        try:
            while process.stdout and (part := process.stdout.read(4096)):
                said = (said + part)[-_SAID:]
                found = _PERCENT.findall(part)
                if found:
                    told(min(int(found[-1]) / 100, 1.0))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        last = said.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise InputError(f"The layout ended with {process.returncode}: {''.join(last) or 'it said nothing'}.")


def _main(folder: str) -> None:
    """What the other process does."""
    # `import umap` imports TensorFlow where that is installed, for a class that nobody needs here: 20 seconds.
    sys.modules["umap.parametric_umap"] = None  # type: ignore[assignment]
    warnings.simplefilter("ignore")
    umap = need(EXTRA, "umap")
    given = np.load(Path(folder) / _FILE)
    start = _scaled(given["start"])
    count = len(start)
    own = np.arange(count, dtype=np.int32)[:, None]
    neighbors = np.concatenate([own, given["neighbors"]], axis=1)
    distances = np.concatenate([np.zeros((count, 1), np.float32), given["distances"]], axis=1)
    model = umap.UMAP(
        n_neighbors=neighbors.shape[1],
        min_dist=_MIN_DIST,
        random_state=_SEED,
        init=start,
        precomputed_knn=(neighbors, distances),
        force_approximation_algorithm=True,  # else it measures all pairs itself where there are few rows
        verbose=True,
        tqdm_kwds={"file": sys.stdout, "bar_format": "{percentage:3.0f}%\n", "disable": False, "mininterval": 0.2},
    )
    points = np.asarray(model.fit_transform(start), np.float32)  # of the rows it reads their number only
    # A point that nothing holds is nowhere; it goes where it began.
    np.save(Path(folder) / _DONE, np.where(np.isfinite(points), points, start))


def _scaled(start: NDArray[np.float32]) -> NDArray[np.float32]:
    """Within 10 units, with a little noise, for equal points could never part."""
    spread = float(np.abs(start).max()) or 1.0
    noise = np.random.default_rng(_SEED).normal(scale=1e-3, size=start.shape)
    return (start / spread * 10 + noise).astype(np.float32)


if __name__ == "__main__":
    _main(sys.argv[1])
