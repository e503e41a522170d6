"""A small lake with all that the page shows, and a real `imagelake serve` of it."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image

import imagelake
from imagelake.schema import PREDICTIONS, REGIONS

HOSTILE = '<img src=x onerror="document.title=1">.jpg'
PLACES = {  # label: latitude, longitude, camera
    "harbor": (53.54, 9.98, "Canon EOS R5"),
    "temple": (35.01, 135.77, "Fujifilm X-T4"),
    "market": (31.23, 121.47, "Apple iPhone 15"),
    "meadow": (46.95, 7.45, None),
}
EACH = 18


def draw(label: str, number: int, width: int = 480, height: int = 360) -> np.ndarray:
    """A picture of its kind, uint8 [h, w, 3]: pictures of one label look alike, and none like one of another."""
    random = np.random.default_rng([number, len(label), ord(label[0])])
    y, _ = np.mgrid[0:height, 0:width].astype(np.float32)
    top, bottom = {
        "harbor": ((90, 150, 220), (20, 60, 110)), "temple": ((250, 200, 150), (150, 40, 40)),
        "market": ((250, 240, 200), (90, 90, 90)), "meadow": ((170, 220, 250), (60, 140, 50)),
    }[label]  # fmt: skip
    mix = (y / height)[..., None]
    picture = np.ascontiguousarray(np.array(top) * (1 - mix) + np.array(bottom) * mix).astype(np.uint8)
    for _ in range(6):
        color = tuple(int(c) for c in random.integers(0, 256, 3))
        left, up = int(random.integers(0, width)), int(random.integers(height // 3, height))
        size = int(random.integers(20, 90))
        if label == "harbor":
            cv2.fillPoly(picture, [np.array([[left, up], [left + size, up], [left + size // 2, up - size]])], color)
        elif label == "temple":
            cv2.rectangle(picture, (left, up - size), (left + size // 2, up), color, -1)
        elif label == "market":
            cv2.circle(picture, (left, up), size // 2, color, -1)
        else:
            cv2.line(picture, (left, up), (left + size, up - size), color, 5)
    return picture


def write_photos(folder: Path) -> None:
    """72 pictures in folders by label, copies of some, one that is broken, one whose name is markup."""
    for label, (latitude, longitude, camera) in PLACES.items():
        (folder / label).mkdir(parents=True)
        for number in range(EACH):
            exif = Image.Exif()
            if camera:
                exif[0x010F], exif[0x0110] = camera.split(" ", 1)
            taken = datetime(2024, 1, 1, 9, tzinfo=UTC) + timedelta(days=17 * number, hours=len(label))
            exif.get_ifd(0x8769)[0x9003] = taken.strftime("%Y:%m:%d %H:%M:%S")
            if number % 3:  # every third has no position
                exif.get_ifd(0x8825).update(_position(latitude + number / 50, longitude + number / 40))
            upright = (360, 480) if number % 5 == 4 else (480, 360)
            name = HOSTILE if (label, number) == ("harbor", 0) else f"{label} {number:02} 写真.jpg"
            Image.fromarray(draw(label, number, *upright)).save(folder / label / name, quality=88, exif=exif)
    copies = folder / "copies"
    copies.mkdir()
    for number in (1, 2, 3):
        again = Image.fromarray(draw("temple", number))
        again.save(copies / f"temple {number} again.jpg", quality=60)
        again.resize((240, 180)).save(copies / f"temple {number} small.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no picture")


def build_lake(folder: Path) -> Path:
    """Ingest and extract the pictures, with regions, predictions and tags beside them; gives the lake's folder."""
    write_photos(folder / "photos")
    lake = imagelake.open(folder / "page.lake", create=True)
    lake.ingest(folder / "photos")
    for label in PLACES:
        lake.tag(f"uris[1] LIKE '%/{label}/%'", add=[f"kind:{label}"])
    lake.extract()
    ids = [(row["id"], row["uris"][0]) for row in lake.sql("SELECT id, uris FROM images ORDER BY uris[1]").to_pylist()]
    lake.tables.regions.insert_new(pa.Table.from_pylist(_regions(ids[:20]), REGIONS))
    lake.tables.predictions.insert_new(pa.Table.from_pylist(_predictions(ids[:9]), PREDICTIONS))
    return folder / "page.lake"


def built_from(photos: Path, names: list, lake: Path) -> Path:
    """A lake of a picture under each name, and a smaller copy of it as `again NAME`; gives the lake's folder."""
    photos.mkdir()
    for number, name in enumerate(names):
        picture = Image.fromarray(draw("temple", number + 1))
        picture.save(photos / name, quality=90)
        picture.resize((240, 180)).save(photos / f"again {name}", quality=80)
    opened = imagelake.open(lake, create=True)
    opened.ingest(photos)
    opened.extract()
    return lake


def _position(latitude: float, longitude: float) -> dict:
    def parts(value: float) -> tuple:
        return (int(value), int(value * 60 % 60), round(value * 3600 % 60, 3))

    return {1: "N", 2: parts(latitude), 3: "E", 4: parts(longitude)}


def _regions(ids: list) -> list:
    boxes = [("sail", [0.1, 0.2, 0.5, 0.6], 0.9), ("boat", [0.4, 0.4, 0.95, 0.9], 0.6)]
    return [
        {"id": _key(image, label), "image_id": image, "box_xyxy": box, "label": label, "score": score,
         "model": "test-detector", "fingerprint": "f" * 64}
        for image, _ in ids for label, box, score in boxes
    ]  # fmt: skip


def _predictions(ids: list) -> list:
    return [
        {"id": _key(image, "prediction"), "image_id": image, "label": "sailboat", "score": 0.75,
         "model": "test-classifier", "predicted_at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "device": "camera-7",
         "uri": uri, "latitude": 53.5, "longitude": 10.0}
        for image, uri in ids
    ]  # fmt: skip


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@dataclass
class Served:
    """A server that runs."""

    address: str
    process: subprocess.Popen


@contextlib.contextmanager
def served(lake: Path, *words: str, **environment: str):
    """`imagelake serve --lake LAKE` on a free port, with more words of its command line; ended afterwards."""
    command = [
        sys.executable,
        "-m",
        "imagelake",
        "serve",
        "--lake",
        str(lake),
        "--listen",
        "127.0.0.1:0",
        "--json",
        *words,
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | environment
    )
    try:
        line = process.stdout.readline()
        assert line, f"the server ended with {process.wait()}"
        yield Served(json.loads(line)["listening"], process)
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stdout.close()
