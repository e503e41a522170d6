"""Makes golden/transforms.npz: what each transform gives for one small picture.

Run it after a change that is meant to change numbers, look at what differs, and raise `CHAIN_VERSION`::

    PYTHONPATH=tests python tests/pixels/golden_transforms.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imagelake.pixels.chain import Prepared, parse
from pictures import scene

FOLDER = Path(__file__).parent / "golden"
FILE = FOLDER / "transforms.npz"
SEED = 7
BOXES = np.array([[2, 3, 12, 11], [14, 1, 22, 9]], np.float32)

CASES: dict[str, list[dict]] = {
    "aspect_scale": [{"aspect_scale": {"short_side": 12, "long_side": 17, "multiple_of": 4}}],
    "brightness": [{"brightness": -40}],
    "center_crop": [{"center_crop": {"size_wh": [10, 20], "color": [9, 8, 7]}}],
    "color_jitter": [{"color_jitter": {"probability": 1, "channels": 1, "shuffle": True}}],
    "contrast": [{"contrast": {"factor": 1.6, "about": "mean"}}],
    "crop": [{"crop": {"box_xyxy": [0.25, 0.25, 0.5, 0.75], "relative": True, "margin": 0.1}}],
    "dtype": [{"dtype": "float16"}],
    "expand": [{"expand": {"ratio": 1.5}}],
    "fill": [{"fill": {"box_xyxy": [3, 4, 9, 30], "color": [1, 2, 3]}}],
    "flip": [{"flip": "both"}],
    "hue": [{"hue": 50}],
    "layout": [{"layout": "chw"}],
    "letterbox": [{"letterbox": {"size_wh": [20, 20]}}],
    "normalize": [{"normalize": {"mean": [123, 117, 104], "std": [58, 57, 57]}}],
    "normalize_image": [{"normalize_image": {"how": "min_max", "low": -1, "per_channel": True}}],
    "normalize_pixels": [{"normalize_pixels": {"mean": "mean.npy", "std": "mean.npy"}}],
    "order": [{"order": "gray"}],
    "random_aspect_scale": [{"random_aspect_scale": [8, 10, 12]}],
    "random_brightness": [{"random_brightness": {}}],
    "random_contrast": [{"random_contrast": {}}],
    "random_crop": [{"random_crop": [9, 8]}],
    "random_expand": [{"random_expand": {"max_ratio": 2}}],
    "random_flip": [{"random_flip": 1}],
    "random_hue": [{"random_hue": {}}],
    "random_interpolation": [{"random_interpolation": [15, 11]}],
    "random_resized_crop": [{"random_resized_crop": [8, 8]}],
    "random_rotate": [{"random_rotate": {"border": "edge"}}],
    "random_saturation": [{"random_saturation": {}}],
    "resize": [{"resize": {"size_wh": [13, 7]}}],
    "resize cubic": [{"resize": {"size_wh": [31, 30], "interpolation": "cubic"}}],
    "resize area": [{"resize": {"size_wh": [7, 20], "interpolation": "area"}}],
    "resize nearest": [{"resize": {"size_wh": [7, 20], "interpolation": "nearest"}}],
    "resize smooth": [{"resize": {"size_wh": [5, 5], "how": "fill", "interpolation": "smooth"}}],
    "resize antialiased": [{"resize": {"size_wh": [9, 9], "how": "fit", "interpolation": "cubic-antialiased"}}],
    "rotate": [{"rotate": {"degrees": 30, "grow": True, "color": 200}}],
    "sample_crop": [{"sample_crop": [0.1, 0.3, 0.5]}],
    "saturation": [{"saturation": 0.4}],
    "scale": [{"scale": 0.00392156862745098}],
    "shuffle_channels": [{"shuffle_channels": 1}],
    "sometimes": [{"sometimes": {"transforms": [{"flip": "horizontal"}, {"brightness": 9}], "probability": 1}}],
}
"""At least one for each transform, under its name."""


def prepare(entries: list[dict]) -> Prepared:
    """What a case gives."""
    return parse(entries, folder=FOLDER).apply(scene(24, 16), rng=np.random.default_rng(SEED), boxes_xyxy=BOXES)


def main() -> None:
    np.save(FOLDER / "mean.npy", np.array([[[120.5, 117.0, 104.25]]], np.float32))
    arrays = {}
    for name, entries in CASES.items():
        prepared = prepare(entries)
        arrays |= {f"{name}/array": prepared.array, f"{name}/boxes": prepared.boxes_xyxy, f"{name}/kept": prepared.kept}
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
