"""Measure how far each tensor of the fp32 graph reaches, and write activation_ranges.json beside this file.

Run `python -m imagelake.models.efficientnet_lite0.measure_activation_ranges`; it needs the extra `demo`. The pictures
are the color photos that scikit-image and scikit-learn ship: anyone can repeat it. Random crops (20 to 100 % of the
area, flipped half of the time, fixed seed) at three input sizes give 288 pictures; each gives the same number of
values of every tensor. Several rules of choosing a range from those values are tried, and the one whose int8 graph
agrees best with fp32 (mean cosine of the average-pooled features) on 96 other crops is kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage.data
import sklearn.datasets
from numpy.typing import NDArray

from imagelake.models.efficientnet_lite0.agreement import mean_cosine
from imagelake.models.efficientnet_lite0.architecture import layers
from imagelake.models.efficientnet_lite0.graph import build_fp32
from imagelake.models.efficientnet_lite0.quantize import Ranges, build_int8
from imagelake.models.efficientnet_lite0.weights import Weights, read_weights
from imagelake.models.onnx_runtime import OnnxRuntime, SessionSettings, open_session
from imagelake.models.zoo import find_weights, manifest
from imagelake.pixels.fit import fit

SIDES = (160, 224, 288)
CROPS_PER_SIDE = 96
VALUES_PER_CROP = 3000
BATCH = 8
MEAN_RGB, STD_RGB = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
# The percent of values that a range leaves out on each side; 0 keeps the smallest and the largest.
LEFT_OUT_PERCENT = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)


def photos() -> list[NDArray[np.uint8]]:
    """The color photos that come inside the two packages, uint8 [height, width, 3]."""
    names = ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field", "immunohistochemistry")
    inside = [getattr(skimage.data, name)() for name in names]
    inside.append(skimage.data.stereo_motorcycle()[0])
    return [np.ascontiguousarray(p[..., :3], np.uint8) for p in inside + sklearn.datasets.load_sample_images().images]


def crops(pictures: list[NDArray[np.uint8]], side: int, count: int, seed: int) -> NDArray[np.uint8]:
    """Random parts of the pictures in turn, uint8 [count, side, side, 3]."""
    generator = np.random.default_rng(seed)
    batch = np.empty((count, side, side, 3), np.uint8)
    for index in range(count):
        picture = pictures[index % len(pictures)]
        height, width = picture.shape[:2]
        share = np.sqrt(generator.uniform(0.2, 1.0))
        part_h, part_w = max(8, int(height * share)), max(8, int(width * share))
        top, left = generator.integers(height - part_h + 1), generator.integers(width - part_w + 1)
        part = picture[top : top + part_h, left : left + part_w]
        batch[index] = fit(part[:, ::-1] if generator.random() < 0.5 else part, (side, side), "squash")
    return batch


def tensor_names() -> list[str]:
    """Every tensor that the int8 graph quantises."""
    return sorted({name for layer in layers() for name in (layer.name, layer.output)})


def sample_values(weights: Weights, pictures: list[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
    """Run fp32 with its inner tensors as outputs and keep some values of each, always with both extremes."""
    generator = np.random.default_rng(7)
    names = tensor_names()
    kept: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for side in SIDES:
        runtime = _open(build_fp32(weights, (side, side), MEAN_RGB, STD_RGB, names))
        for batch in _batches(crops(pictures, side, CROPS_PER_SIDE, seed=side)):
            for name, values in runtime.run(names, batch).items():
                flat = values.ravel()
                some = flat[generator.integers(flat.size, size=VALUES_PER_CROP * len(batch))]
                kept[name].append(np.concatenate([some, [flat.min(), flat.max()]]).astype(np.float32))
    return {name: np.concatenate(values) for name, values in kept.items()}


def choose_ranges(values: dict[str, NDArray[np.float32]], left_out_percent: float) -> dict[str, tuple[float, float]]:
    """The range of each tensor, to five decimals, that leaves out a share of its values on each side."""
    chosen = {}
    for name, sample in values.items():
        low, high = np.percentile(sample, [left_out_percent, 100 - left_out_percent])
        chosen[name] = (round(float(low), 5), round(float(high), 5))
    return chosen


def agreement(weights: Weights, ranges: Ranges, pictures: list[NDArray[np.uint8]]) -> float:
    """Mean cosine of int8 and fp32 features on crops that no range was measured on."""
    scores = []
    for side in SIDES:
        size = (side, side)
        exact = _open(build_fp32(weights, size, MEAN_RGB, STD_RGB))
        rounded = _open(build_int8(weights, size, MEAN_RGB, STD_RGB, ranges=ranges))
        for batch in _batches(crops(pictures, side, CROPS_PER_SIDE // 3, seed=1000 + side)):
            one, other = (r.run(["features_avg"], batch)["features_avg"] for r in (exact, rounded))
            scores.append(mean_cosine(one, other))
    return float(np.mean(scores))


def main() -> None:
    """Measure, try every rule, write the best."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("activation_ranges.json"))
    arguments = parser.parse_args()
    model = manifest("efficientnet-lite0", precision="fp32")
    weights = read_weights(find_weights(model), model.weights_sha256)
    pictures = photos()
    values = sample_values(weights, pictures)
    tried = {p: agreement(weights, choose_ranges(values, p), pictures) for p in LEFT_OUT_PERCENT}
    best = max(tried, key=lambda percent: tried[percent])
    result = {
        "left_out_percent": best,
        "mean_cosine_by_left_out_percent": {str(p): round(c, 5) for p, c in tried.items()},
        "ranges": choose_ranges(values, best),
    }
    arguments.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _batches(pictures: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(pictures), BATCH):
        yield pictures[start : start + BATCH]


def _open(content: bytes) -> OnnxRuntime:
    return open_session(content, SessionSettings(threads=2))


if __name__ == "__main__":
    main()
