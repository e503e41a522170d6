"""How well `--detector subject` boxes the main subject: objects pasted at known places onto photographs.

Objects are cut out by GrabCut: the shared product photos whose object comes out whole and clean, and things in photos
that scikit-image and scikit-learn ship (and the shared camera files), from a rectangle drawn by hand. Backgrounds are
photographs without a subject of their own. What the method was tuned on (`--split tune`) shares neither a class of
objects nor a background with what is reported (`--split report`, the default).

    python benchmarks/subject_boxes.py [--small] [--json PATH] [--split tune|report] [--grid PATH]
"""

from __future__ import annotations

import argparse
import csv
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import skimage
import sklearn.datasets
from machine import SHARED, report
from numpy.typing import NDArray

from imagelake.models.subject import open_subject
from imagelake.pixels.thumbnail import encode_jpeg

Rgb = NDArray[np.uint8]
Box = NDArray[np.float64]  # left, top, right, bottom in [0, 1]
Find = Callable[[list[Rgb]], list[tuple[Box, float]]]

CUT_SIDE = 200
TUNING_CLASSES = ("Blouse", "Body", "Dress", "Hoodie", "Longsleeve", "Outwear", "Polo", "Skip", "T-Shirt")
SKIMAGE = Path(str(skimage.__file__)).parent / "data"
SKLEARN = Path(str(sklearn.datasets.__file__)).parent / "images"
CAMERA = SHARED / "exif" / "jpg"

# A photo, and by hand the rectangle in [0, 1] that the whole object lies in.
THINGS: dict[Path, tuple[float, float, float, float]] = {
    SKLEARN / "flower.jpg": (0.22, 0.15, 0.73, 0.82),
    SKLEARN / "china.jpg": (0.08, 0.05, 0.60, 0.93),
    SKIMAGE / "coffee.png": (0.10, 0.03, 0.82, 0.97),
    SKIMAGE / "astronaut.png": (0.03, 0.02, 0.78, 0.99),
    SKIMAGE / "motorcycle_left.png": (0.02, 0.20, 0.95, 0.95),
    CAMERA / "exif-org/fujifilm-mx1700.jpg": (0.15, 0.15, 0.85, 0.85),
    CAMERA / "exif-org/nikon-e950.jpg": (0.05, 0.05, 0.98, 0.95),
    CAMERA / "exif-org/olympus-d320l.jpg": (0.25, 0.02, 0.80, 0.98),
    CAMERA / "exif-org/fujifilm-finepix40i.jpg": (0.02, 0.02, 0.75, 0.98),
    CAMERA / "exif-org/sanyo-vpcsx550.jpg": (0.10, 0.15, 0.75, 0.90),
    CAMERA / "exif-org/sony-powershota5.jpg": (0.22, 0.20, 0.85, 0.90),
}
# A photo, and the part of it in [0, 1] that shows nothing in particular.
WHOLE = (0.0, 0.0, 1.0, 1.0)
BACKGROUNDS: dict[str, dict[Path, tuple[float, float, float, float]]] = {
    "tune": {
        SKIMAGE / "grass.png": WHOLE,
        SKIMAGE / "moon.png": (0.3, 0.3, 1.0, 1.0),
        CAMERA / "gps/DSCN0010.jpg": WHOLE,
        CAMERA / "gps/DSCN0025.jpg": WHOLE,
        CAMERA / "gps/DSCN0029.jpg": WHOLE,
        CAMERA / "gps/DSCN0038.jpg": WHOLE,
        CAMERA / "exif-org/sanyo-vpcg250.jpg": WHOLE,
        CAMERA / "tests/33-type_error.jpg": WHOLE,
        CAMERA / "orientation/landscape_1.jpg": (0.0, 0.0, 0.45, 0.8),
    },
    "report": {
        SKIMAGE / "gravel.png": WHOLE,
        SKIMAGE / "brick.png": WHOLE,
        SKLEARN / "china.jpg": (0.52, 0.2, 1.0, 1.0),
        CAMERA / "gps/DSCN0012.jpg": WHOLE,
        CAMERA / "gps/DSCN0021.jpg": WHOLE,
        CAMERA / "gps/DSCN0027.jpg": WHOLE,
        CAMERA / "gps/DSCN0040.jpg": WHOLE,
        CAMERA / "tests/11-tests.jpg": WHOLE,
        CAMERA / "tests/30-type_error.jpg": WHOLE,
        CAMERA / "tests/36-memory_error.jpg": WHOLE,
    },
}


@dataclass(frozen=True)
class CutOut:
    """An object on its own: its picture, uint8 [h, w, 3], and where it is, uint8 [h, w], 1 inside."""

    image_rgb: Rgb
    mask: Rgb


def read(path: Path, longest: int) -> Rgb:
    """A photo in RGB, reduced so that its longer side is `longest` pixels."""
    image = np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), np.uint8)
    factor = longest / max(image.shape[:2])
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


def part_of(image_rgb: Rgb, part: tuple[float, float, float, float]) -> Rgb:
    """The part of a picture that a box in [0, 1] holds."""
    height, width = image_rgb.shape[:2]
    left, top, right, bottom = part
    return image_rgb[int(top * height) : int(bottom * height), int(left * width) : int(right * width)]


def cut_out(image_rgb: Rgb, inside: tuple[float, float, float, float]) -> CutOut:
    """The largest connected thing inside a rectangle, by GrabCut (Rother et al., SIGGRAPH 2004)."""
    height, width = image_rgb.shape[:2]
    mask = np.full((height, width), cv2.GC_BGD, np.uint8)
    part_of(mask, inside)[:] = cv2.GC_PR_FGD
    cv2.setRNGSeed(1)
    cv2.grabCut(image_rgb, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_MASK)
    mask = cv2.morphologyEx((mask & 1).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3)))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    mask = (labels == (1 + np.argmax(stats[1:, 4]) if count > 1 else -1)).astype(np.uint8)
    return CutOut(image_rgb, mask)


def is_clean(object_: CutOut) -> bool:
    """Whether a cut-out is of one piece without holes or bays and does not touch the edge of its photo."""
    contours, _ = cv2.findContours(object_.mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return False
    contour = max(contours, key=cv2.contourArea)
    filled = cv2.drawContours(np.zeros_like(object_.mask), [contour], -1, 1, -1)
    left, top, right, bottom = bounds(object_.mask)
    rims = min(left, top, 1 - right, 1 - bottom)
    solid = filled.sum() / max(cv2.contourArea(cv2.convexHull(contour)), 1)
    whole = object_.mask.sum() / max(filled.sum(), 1)
    return bool(rims > 0.045 and solid > 0.72 and whole > 0.97 and 0.12 < object_.mask.mean() < 0.75)


def bounds(mask: NDArray[np.uint8]) -> Box:
    """The smallest box, in [0, 1], around what is not 0."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    return np.array([columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height])


def garments(split: str, photos: int) -> Iterator[CutOut]:
    """Clean cut-outs of the product photos whose class belongs to the split; none where the photos are not here."""
    folder = SHARED / "products"
    if not (folder / "labels.csv").exists():
        return
    with (folder / "labels.csv").open(newline="") as file:
        names = [row["image"] for row in csv.DictReader(file) if (row["label"] in TUNING_CLASSES) == (split == "tune")]
    for index in np.random.default_rng(0).permutation(len(names))[:photos]:
        found = cut_out(read(folder / "images" / names[index], CUT_SIDE), (0.04, 0.04, 0.96, 0.96))
        if is_clean(found):
            yield found


def things() -> list[CutOut]:
    """The things of `THINGS` whose photos are here."""
    return [cut_out(read(path, 400), box) for path, box in THINGS.items() if path.exists()]


def paste(object_: CutOut, background: Rgb, random: np.random.Generator) -> tuple[Rgb, Box]:
    """A scene of 480 x 360 or 360 x 480 pixels: the object on part of a background, and the box around it.

    The longer side of the object's box is 0.3 to 0.85 of the same side of the picture; it lies wholly inside, anywhere.
    """
    width, height = (480, 360) if random.random() < 0.5 else (360, 480)
    part = random.uniform(0.7, 1.0)
    side_w, side_h = int(background.shape[1] * part), int(background.shape[0] * part)
    left, top = random.integers(background.shape[1] - side_w + 1), random.integers(background.shape[0] - side_h + 1)
    scene = cv2.resize(background[top : top + side_h, left : left + side_w], (width, height)).astype(np.float32)
    box = bounds(object_.mask)
    image, mask = part_of(object_.image_rgb, tuple(box)), part_of(object_.mask, tuple(box))
    scale = random.uniform(0.3, 0.85) * min(width / image.shape[1], height / image.shape[0])
    image_w, image_h = max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale))
    image = cv2.resize(image, (image_w, image_h), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(cv2.resize(mask.astype(np.float32), (image_w, image_h)), (0, 0), 0.7)[..., None]
    left, top = random.integers(width - image_w + 1), random.integers(height - image_h + 1)
    place = scene[top : top + image_h, left : left + image_w]
    place[:] = image * soft + place * (1 - soft)
    found = np.array([left / width, top / height, (left + image_w) / width, (top + image_h) / height])
    return np.clip(scene, 0, 255).astype(np.uint8), found


@functools.cache
def grounds(split: str, left_out: Path | None = None) -> list[Rgb]:
    """The backgrounds of a split whose photos are here, but those of one folder."""
    paths = {path: part for path, part in BACKGROUNDS[split].items() if path.exists() and left_out not in path.parents}
    return [part_of(read(path, 640), part) for path, part in paths.items()]


def scenes(objects: list[CutOut], split: str, count: int, left_out: Path | None = None) -> list[tuple[Rgb, Box]]:
    """So many scenes, each object in turn on some background, always the same."""
    random = np.random.default_rng(len(split))
    behind = grounds(split, left_out)
    return [paste(objects[i % len(objects)], behind[int(random.integers(len(behind)))], random) for i in range(count)]


def iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / (float(np.prod(one[2:] - one[:2])) + float(np.prod(other[2:] - other[:2])) - shared)


def hits_center(box: Box, truth: Box) -> bool:
    """Whether the middle of a box lies in the true one."""
    middle = (box[:2] + box[2:]) / 2
    return bool((middle > truth[:2]).all() and (middle < truth[2:]).all())


def always(*box: float) -> Find:
    """A finder that gives one box for every picture."""
    return lambda images: [(np.array(box), 1.0)] * len(images)


def subject() -> Find:
    """The finder that is measured; where it finds nothing, the whole picture counts, with score 0."""
    detector = open_subject(threads=2)

    def find(images: list[Rgb]) -> list[tuple[Box, float]]:
        found = detector.detect([detector.prepare(image) for image in images])
        return [
            (each.boxes_xyxy[0].astype(np.float64), float(each.scores[0])) if len(each) else (np.array(WHOLE), 0.0)
            for each in found
        ]

    return find


def row(name: str, made: list[tuple[Rgb, Box]], finder: str, find: Find) -> dict[str, object]:
    """One line of the table."""
    found = find([image for image, _ in made])
    scores = np.array([iou(box, truth) for (box, _), (_, truth) in zip(found, made, strict=True)])
    centers = [hits_center(box, truth) for (box, _), (_, truth) in zip(found, made, strict=True)]
    sure = scores[[score >= 0.5 for _, score in found]]
    return {
        "scenes of": name,
        "count": len(made),
        "finder": finder,
        "mean IoU": f"{scores.mean():.2f}",
        "IoU >= 0.5 %": f"{100 * np.mean(scores >= 0.5):.0f}",
        "center hit %": f"{100 * np.mean(centers):.0f}",
        "score >= 0.5 %": f"{100 * len(sure) / len(made):.0f}",
        "of these IoU >= 0.5 %": f"{100 * np.mean(sure >= 0.5):.0f}" if len(sure) else "",
    }


def without(split: str, count: int) -> list[Rgb]:
    """Parts of the backgrounds with nothing pasted."""
    random = np.random.default_rng(5)
    made = []
    for turn in range(count):
        ground = grounds(split)[turn % len(grounds(split))]
        left, top = random.uniform(0, 0.4, 2)
        right, bottom = random.uniform(0.6, 1, 2)
        made.append(np.ascontiguousarray(part_of(ground, (left, top, right, bottom))))
    return made


def draw(made: list[tuple[Rgb, Box]], find: Find, path: Path, columns: int = 6) -> None:
    """A sheet of scenes, the true box white, the found one orange: above, some from best to worst; below, the worst."""
    found = find([image for image, _ in made])
    order = np.argsort([iou(box, truth) for (box, _), (_, truth) in zip(found, made, strict=True)])
    spread = order[:: -(len(order) // columns)][:columns]
    tiles = []
    for index in [*spread, *order[:columns]]:
        (image, truth), (box, score) = made[index], found[index]
        tile = np.asarray(cv2.resize(image, (240, 240)))
        for each, color, thick in ((truth, (255, 255, 255), 3), (box, (255, 90, 20), 2)):
            corners = [int(value * 239) for value in each]
            cv2.rectangle(tile, tuple(corners[:2]), tuple(corners[2:]), color, thick)
        words = f"IoU {iou(box, truth):.2f}  score {score:.2f}"
        for color, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(tile, words, (6, 232), cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, thick)
        tiles.append(tile)
    rows = [np.hstack(tiles[at : at + columns]) for at in range(0, 2 * columns, columns)]
    path.write_bytes(encode_jpeg(np.vstack(rows), 72))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, for the tests")
    parser.add_argument("--json", type=Path, help="write the figures and the machine here")
    parser.add_argument("--split", choices=["tune", "report"], default="report")
    parser.add_argument("--grid", type=Path, help="draw scenes of photos that anyone may show, as one JPEG")
    options = parser.parse_args()
    count = 8 if options.small else 150
    sets = {"clothes": list(garments(options.split, 12 if options.small else 250))}
    if options.split == "report":
        sets["things"] = things()
    find = subject()
    rows = []
    for name, objects in sets.items():
        made = scenes(objects, options.split, count) if objects else []
        finders = {"whole picture": always(*WHOLE), "central 60 %": always(0.2, 0.2, 0.8, 0.8), "subject": find}
        rows += [row(name, made, finder, how) for finder, how in finders.items() if made]
    if not rows:
        raise SystemExit("the product photos, which are what this split is made of, are not here; use --split report")
    empty = find(without(options.split, count))
    rows.append({**dict.fromkeys(rows[0], ""), "scenes of": "nothing", "count": count, "finder": "subject",
                 "score >= 0.5 %": f"{100 * np.mean([score >= 0.5 for _, score in empty]):.0f}"})  # fmt: skip
    report(f"subject_boxes: objects at known places, {options.split}", rows, options.json)
    if options.grid:
        free = [cut_out(read(path, 400), box) for path, box in THINGS.items() if CAMERA not in path.parents]
        draw(scenes(free, "report", 48, CAMERA), find, options.grid)


if __name__ == "__main__":
    main()
