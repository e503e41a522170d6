"""How often each quality flag is right, and how often it is a false alarm, by its default threshold.

Good pictures are the shared product photos, the camera files and the photos that scikit-image and scikit-learn ship, as
far as they are there, or pictures made by code. Their spoiled copies are made here: blurred, darkened and so on, in
amounts of the working size of 256 pixels. Screenshots are windows with text drawn by code, plots where Matplotlib is
installed, and the pictures of a folder where one is given.

    python benchmarks/quality_flags.py [--small] [--json PATH] [--screenshots FOLDER]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from machine import SHARED, report
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imagelake.errors import ImageError, MissingExtraError
from imagelake.pixels.decode import decode_rgb
from imagelake.pixels.figures import WORKING_SIDE, measure
from imagelake.pixels.quality import DEFAULTS, FLAGS, NAMES, flags_of
from imagelake.pixels.reduction import reduce_to
from imagelake.pixels.thumbnail import encode_jpeg
from imagelake.sources.sample_photos import sample_photos
from pictures import pictures

Rgb = NDArray[np.uint8]
SIDE = 512
WORDS = (
    "lake",
    "picture",
    "keeps",
    "figures and",
    "thumbnails",
    "in a table",
    "that",
    "other tools",
    "can read",
    "once",
)


def read(paths: Iterable[Path]) -> Iterator[Rgb]:
    """The pictures of files, large enough to be measured; what cannot be read is left out."""
    for path in paths:
        try:
            image_rgb = decode_rgb(path.read_bytes(), SIDE)
        except ImageError:
            continue
        if min(image_rgb.shape[:2]) >= DEFAULTS.tiny:
            yield image_rgb


def good_sets(count: int, folder: Path) -> dict[str, list[Rgb]]:
    """Photos that should get no flag, by where they come from."""
    try:
        samples = sample_photos()
    except MissingExtraError:
        samples = []
    found = {
        "product photos": sorted((SHARED / "products" / "images").glob("*.jpg")),
        "camera files": sorted(path for path in (SHARED / "exif").rglob("*") if path.is_file()),
        "sample photos": samples,
    }
    if not found["product photos"]:
        found = {"made by code": sorted(pictures(20, folder).iterdir())}
    return {name: list(read(paths[:count])) for name, paths in found.items() if paths}


def cifar(count: int) -> list[Rgb]:
    """Pictures of 32 x 32 pixels, every so many of the 60,000; none where they are not here."""
    path = SHARED / "cifar10.parquet"
    if not path.exists():
        return []
    import pyarrow.parquet as pq

    column = pq.read_table(path, columns=["jpeg"]).column("jpeg")
    return [decode_rgb(column[row].as_py()) for row in range(0, len(column), len(column) // count)]


def blur(pixels: float) -> Callable[[Rgb], Rgb]:
    """A Gaussian blur whose standard deviation is that many pixels of the working size."""
    return lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), pixels * max(image.shape[:2]) / WORKING_SIDE))


def move(image: Rgb) -> Rgb:
    """Blurred as by a camera that moved sideways, by 12 pixels of the working size."""
    length = int(12 * max(image.shape[:2]) / WORKING_SIDE) | 1
    return np.asarray(cv2.blur(image, (length, 1)))


def enlarge(image: Rgb) -> Rgb:
    """A thumbnail of half the working size, enlarged."""
    small = reduce_to(image, WORKING_SIDE // 2)
    return np.asarray(cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_CUBIC))


def add_grain(image: Rgb) -> Rgb:
    """Noise of standard deviation 3, as of a high sensitivity."""
    noise = np.random.default_rng(image.size).normal(0, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def scale(factor: float, about: float = 0.0) -> Callable[[Rgb], Rgb]:
    """Each value's distance from `about` times `factor`."""
    return lambda image: np.clip(about + (image - about) * factor, 0, 255).astype(np.uint8)


def expose(stops: float) -> Callable[[Rgb], Rgb]:
    """As much more light as so many stops give, in linear light (gamma 2.2)."""
    table = np.clip(255 * ((np.arange(256) / 255) ** 2.2 * 2**stops) ** (1 / 2.2), 0, 255).astype(np.uint8)
    return lambda image: table[image]


def save_as_jpeg(quality: int) -> Callable[[Rgb], Rgb]:
    """Written as JPEG and read again."""
    return lambda image: decode_rgb(encode_jpeg(image, quality))


def cut_out(image: Rgb) -> Rgb:
    """An oval of the picture with a soft edge on white, as in a shop."""
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    oval = (((x / width - 0.5) / 0.35) ** 2 + ((y / height - 0.5) / 0.4) ** 2 < 1).astype(np.float32)
    mask = np.asarray(cv2.GaussianBlur(oval, (0, 0), 1.2))[..., None]
    return (image * mask + 255 * (1 - mask)).astype(np.uint8)


def frame(image: Rgb) -> Rgb:
    """A thin white frame around it."""
    return np.pad(image, ((30, 30), (30, 30), (0, 0)), constant_values=255)


def bars(image: Rgb) -> Rgb:
    """Black bars left and right, as of an upright film on a wide screen."""
    side = int(image.shape[1] * 0.4)
    return np.pad(image, ((0, 0), (side, side), (0, 0)))


SPOILED: dict[str, dict[str, Callable[[Rgb], Rgb]]] = {
    "blurred": {
        "blur, 1 pixel": blur(1),
        "blur, 1.5 pixels": blur(1.5),
        "blur, 3 pixels": blur(3),
        "blur, 2 pixels, JPEG 50": lambda image: save_as_jpeg(50)(blur(2)(image)),
        "blur, 2 pixels, grain": lambda image: add_grain(blur(2)(image)),
        "enlarged from 128 pixels": enlarge,
        "moved 12 pixels sideways": move,
    },
    "dark": {"light values x 0.4": scale(0.4), "light values x 0.3": scale(0.3), "light values x 0.2": scale(0.2)},
    "overexposed": {"1 stop more": expose(1), "2 stops more": expose(2), "3 stops more": expose(3)},
    "low_contrast": {
        "contrast x 0.4": scale(0.4, 128), "contrast x 0.3": scale(0.3, 128), "contrast x 0.2": scale(0.2, 128)
    },
    "tiny": {"48 pixels": lambda image: reduce_to(image, 48)},
    "extreme_aspect": {"upper fifth": lambda image: image[: max(1, min(image.shape[:2]) // 5)]},
}  # fmt: skip
HARD = {
    "low_contrast": {"light values x 0.5": scale(0.5)},
    "blurred": {"contrast x 0.2": scale(0.2, 128), "JPEG 30": save_as_jpeg(30), "light values x 0.2": scale(0.2)},
    "near_constant": {"contrast x 0.2": scale(0.2, 128)},
    "screenshot": {
        "cut out on white": cut_out, "in a white frame": frame, "between black bars": bars, "2 stops more": expose(2)
    },
}  # fmt: skip
"""Copies that are not what the flag means, though near it."""


def walls(count: int) -> Iterator[Rgb]:
    """One color with a little shading and grain: a wall, a covered lens, an empty page."""
    for seed in range(count):
        numbers = np.random.default_rng(seed)
        y, x = np.mgrid[0:600, 0:800]
        shade = (x / 800 - 0.5) * numbers.uniform(0, 8) + (y / 600 - 0.5) * numbers.uniform(0, 8)
        grain = numbers.normal(0, numbers.uniform(0, 6), (600, 800, 3))
        base = (4, 128, 255, 30)[seed % 4]
        yield np.clip(base + shade[..., None] + grain, 0, 255).astype(np.uint8)


def windows(count: int, photos: list[Rgb]) -> Iterator[Rgb]:
    """Windows of programs: a bar, a side, lines of text, buttons; light or dark; each third with a photo."""
    for seed in range(count):
        numbers = random.Random(seed)  # noqa: S311  (pictures, no secrets)
        size_wh = numbers.choice([(1280, 800), (1920, 1080), (1080, 1920), (800, 600), (390, 844)])
        dark = numbers.random() < 0.4
        ground, ink = ((30, 32, 38), (220, 222, 226)) if dark else ((250, 250, 250), (30, 30, 34))
        image = Image.new("RGB", size_wh, ground)
        pen = ImageDraw.Draw(image)
        font = ImageFont.load_default(size=numbers.choice([14, 16, 20]))
        pen.rectangle((0, 0, size_wh[0], 44), fill=tuple(numbers.randrange(40, 220) for _ in range(3)))
        left = numbers.choice([24, 200, 280])
        for y in range(64, int(size_wh[1] * numbers.choice([0.5, 0.95])), 28):
            pen.text((left, y), " ".join(numbers.choices(WORDS, k=numbers.randrange(3, 16))), fill=ink, font=font)
            if left > 24:
                pen.text((16, y), numbers.choice(WORDS), fill=ink, font=font)
        for _ in range(numbers.randrange(4)):
            x, y = numbers.randrange(left, size_wh[0]), numbers.randrange(60, size_wh[1])
            pen.rectangle((x, y, x + 120, y + 40), fill=tuple(numbers.randrange(256) for _ in range(3)))
        if seed % 3 == 0 and photos:
            photo = Image.fromarray(photos[seed % len(photos)])
            photo.thumbnail((size_wh[0] * 2 // 5, size_wh[1] * 2 // 5))
            image.paste(photo, (size_wh[0] - photo.width - 30, 80))
        yield np.asarray(image)


def plots(count: int) -> Iterator[Rgb]:
    """Curves, points, bars and histograms; none without Matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return
    for seed in range(count):
        numbers = np.random.default_rng(seed)
        figure = Figure(figsize=(6.4, 4.8))
        canvas, axes = FigureCanvasAgg(figure), figure.subplots()
        if seed % 4 == 0:
            axes.plot(numbers.normal(size=(100, 3)).cumsum(0))
        elif seed % 4 == 1:
            axes.scatter(*numbers.normal(size=(2, 300)))
        elif seed % 4 == 2:
            axes.bar(range(12), numbers.random(12))
        else:
            axes.hist(numbers.normal(size=1000), 30)
        axes.set_title(f"figure {seed}")
        canvas.draw()
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def found_in(images: Iterable[Rgb]) -> list[list[str]]:
    """The flags of each picture."""
    return [flags_of(measure(image), image.shape[1], image.shape[0]) for image in images]


def row(flag: str, kind: str, what: str, found: list[list[str]]) -> dict[str, object]:
    """One line of the table."""
    hits = sum(flag in flags for flags in found)
    share = round(100 * hits / max(1, len(found)), 1)
    return {"flag": flag, "should be": kind, "pictures of": what, "count": len(found), "flagged %": f"{share:g}"}


def compare(goods: dict[str, list[Rgb]], small: list[Rgb], screens: dict[str, list[Rgb]]) -> list[dict[str, object]]:
    """All rows, flag by flag."""
    rows: list[dict[str, object]] = []
    sets = {name: found_in(images) for name, images in goods.items()}
    if small:
        sets["cifar10"] = found_in(small)
    everything = [image for images in goods.values() for image in images]
    mixed = [reduce_to(image, SIDE) for image in random.Random(1).sample(everything, min(200, len(everything)))]  # noqa: S311
    screens_found = {name: found_in(images) for name, images in screens.items()}
    constant = found_in(walls(40 if len(mixed) > 40 else 8))
    for flag in NAMES:
        for what, spoil in SPOILED.get(flag, {}).items():
            rows.append(row(flag, "flagged", what, found_in(map(spoil, mixed))))
        if flag == "tiny" and small:
            rows.append(row(flag, "flagged", "cifar10", sets["cifar10"]))
        if flag == "near_constant":
            rows.append(row(flag, "flagged", "walls, covered lenses, empty pages", constant))
        for what, found in screens_found.items():
            rows.append(row(flag, "flagged" if flag == "screenshot" else "not", what, found))
        for what, found in sets.items():
            if (flag, what) != ("tiny", "cifar10"):
                rows.append(row(flag, "not", what, found))
        for what, change in HARD.get(flag, {}).items():
            rows.append(row(flag, "not", what, found_in(map(change, mixed))))
    return rows


def main() -> None:
    """Measure and print."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    parser.add_argument("--screenshots", type=Path, help="a folder of screenshots to measure too")
    options = parser.parse_args()
    count = 8 if options.small else 10_000
    with tempfile.TemporaryDirectory() as name:
        goods = good_sets(count, Path(name))
    photos = next(iter(goods.values()))
    screens = {"windows": list(windows(6 if options.small else 60, photos))}
    screens["plots"] = list(plots(4 if options.small else 40))
    if options.screenshots:
        screens["screenshots given"] = list(read(sorted(options.screenshots.iterdir())))
    jpegs = {f"{name}, JPEG 75": [save_as_jpeg(75)(image) for image in images] for name, images in screens.items()}
    screens = {name: images for name, images in (screens | jpegs).items() if images}
    rows = compare(goods, cifar(20 if options.small else 600), screens)
    report("quality_flags: how many of each set get the flag", rows, options.json)
    for flag in FLAGS:
        print(f"{flag.name}: {flag.rule(DEFAULTS)}")


if __name__ == "__main__":
    main()
