"""A synthetic lake of many images, written straight into its tables: for speed and smoothness."""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

import imagelake
from imagelake.lake.tables import open_tables
from imagelake.models.choice import text_of
from imagelake.models.manifest import fingerprint
from imagelake.run.extract import set_name
from imagelake.schema import IMAGES, RECEIPTS, REJECTIONS, embeddings

KINDS = ("harbor", "temple", "market", "meadow", "portrait", "street", "beach", "forest", "food", "cat", "dog", "car")
CAMERAS = (
    ("Canon", "Canon EOS R5"), ("Canon", "Canon EOS 90D"), ("NIKON", "NIKON Z 6"), ("SONY", "ILCE-7M4"),
    ("FUJIFILM", "X-T4"), ("Apple", "iPhone 15 Pro"), ("Google", "Pixel 8"), ("Panasonic", "DC-GH5"), (None, None),
)  # fmt: skip
CITIES = (  # latitude, longitude, two letters, country, place
    (53.55, 9.99, "DE", "Germany", "Hamburg"), (35.01, 135.77, "JP", "Japan", "Kyoto"),
    (31.23, 121.47, "CN", "China", "Shanghai"), (46.95, 7.45, "CH", "Switzerland", "Bern"),
    (40.71, -74.01, "US", "United States", "New York"), (-33.87, 151.21, "AU", "Australia", "Sydney"),
    (-22.91, -43.17, "BR", "Brazil", "Rio de Janeiro"), (51.51, -0.13, "GB", "United Kingdom", "London"),
    (-1.29, 36.82, "KE", "Kenya", "Nairobi"), (64.15, -21.94, "IS", "Iceland", "Reykjavik"),
)  # fmt: skip
SIZES = ((6000, 4000), (4000, 6000), (4032, 3024), (3024, 4032), (1920, 1080), (1000, 1000), (640, 480))
FLAGS = ("blurred", "dark", "overexposed", "low_contrast", "screenshot")
_THUMBNAILS = 360
_PART = 10_000


def make_big_lake(folder: Path, rows: int = 100_000, dimensions: int | None = None) -> Path:
    """A lake of `rows` images in `folder`, new; the same one each time. Gives its folder.

    Every 200th image is a near copy of the one before it. Vectors are of the default model's set, in clusters by kind;
    the picture of all is one small JPEG.

    Args:
        folder: of the lake.
        rows: how many images.
        dimensions: of the vectors; None: the model's, so that pictures can be searched too. 0: no vectors.
    """
    tables = open_tables(folder, create=True)
    manifest = imagelake.open(folder).default_model()
    dimensions = manifest.dimensions if dimensions is None else dimensions
    vectors = None
    if dimensions:
        vectors = tables.create_embeddings(
            set_name(manifest), embeddings(dimensions, text_of(manifest), fingerprint(manifest))
        )
    thumbnails = [_thumbnail(number) for number in range(_THUMBNAILS)]
    random = np.random.default_rng(7)
    centers = random.normal(0, 1, (len(KINDS) * 4, dimensions)).astype(np.float32)
    for start in range(0, rows, _PART):
        count = min(_PART, rows - start)
        kinds = random.integers(0, len(KINDS), count)
        ids = [f"{random.integers(1 << 62):016x}{start + n:048x}" for n in range(count)]
        tables.images.append(_images(random, ids, kinds, start, thumbnails))
        if vectors is not None:
            vectors.append(_vectors(random, ids, kinds, centers))
    tables.receipts.append(pa.Table.from_pylist(_receipts(rows, manifest), RECEIPTS))
    tables.rejections.append(pa.Table.from_pylist(_rejections(rows // 500), REJECTIONS))
    return folder


def _thumbnail(number: int) -> bytes:
    """A small JPEG, 1 to 4 KB, of the colors of its kind."""
    random = np.random.default_rng(number)
    height, width = [(144, 192), (192, 144), (108, 192), (160, 160)][number % 4]
    ramp = np.linspace(0, 1, height)[:, None, None]
    picture = (random.integers(0, 256, 3) * ramp + random.integers(0, 256, 3) * (1 - ramp)) * np.ones((1, width, 1))
    picture = np.ascontiguousarray(picture.astype(np.uint8))
    for _ in range(5):
        color = tuple(int(c) for c in random.integers(0, 256, 3))
        center = (int(random.integers(0, width)), int(random.integers(height // 3, height)))
        cv2.circle(picture, center, int(random.integers(8, 40)), color, -1, cv2.LINE_AA)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def _images(random: np.random.Generator, ids: list, kinds: np.ndarray, start: int, thumbnails: list) -> pa.Table:
    count = len(ids)
    numbers = np.arange(start, start + count)
    camera, city = random.integers(0, len(CAMERAS), count), random.integers(0, len(CITIES), count)
    size, thumbnail = random.integers(0, len(SIZES), count), random.integers(0, _THUMBNAILS, count)
    placed = random.random(count) < 0.6
    hours = random.integers(0, 24 * 365 * 12, count)
    taken = np.datetime64("2013-01-01T00", "us") + hours.astype("timedelta64[h]")
    hashes = random.integers(0, 1 << 63, count, dtype=np.uint64)
    copies = numbers % 200 == 199
    hashes[copies] = hashes[np.flatnonzero(copies) - 1] ^ np.uint64(1)
    kind_names = [KINDS[k] for k in kinds]
    flagged = random.random((count, len(FLAGS))) < 0.03

    def of_city(column: int) -> list:
        return [CITIES[c][column] if p else None for c, p in zip(city, placed, strict=True)]

    given = {
        "id": ids,
        "uris": [[f"file:///photos/{2013 + h // 8760}/{k}/IMG_{n:06}.jpg"]
                 for h, k, n in zip(hours, kind_names, numbers, strict=True)],
        "labels": [[k] if n % 3 else [] for k, n in zip(kind_names, numbers, strict=True)],
        "tags": [(["favorite"] if n % 37 == 0 else []) + ([f"kind:{k}"] if n % 5 == 0 else [])
                 for k, n in zip(kind_names, numbers, strict=True)],
        "format": np.array(["jpeg", "jpeg", "jpeg", "png", "webp", "heic"])[random.integers(0, 6, count)],
        "width": np.array(SIZES)[size, 0],
        "height": np.array(SIZES)[size, 1],
        "byte_size": random.integers(200_000, 12_000_000, count),
        "mode": ["RGB"] * count,
        "frames": [1] * count,
        "has_alpha": [False] * count,
        "taken_at": pa.array(taken, pa.timestamp("us")),
        "taken_at_source": ["exif"] * count,
        "camera_make": [CAMERAS[c][0] for c in camera],
        "camera_model": [CAMERAS[c][1] for c in camera],
        "iso": random.choice([100, 200, 400, 800, 1600, 3200], count),
        "f_number": random.choice([1.8, 2.8, 4.0, 5.6, 8.0], count).astype(np.float32),
        "exposure_s": random.choice([1 / 2000, 1 / 500, 1 / 125, 1 / 30], count),
        "focal_length_mm": random.choice([24, 35, 50, 85, 200], count).astype(np.float32),
        "latitude": np.where(placed, np.array([c[0] for c in CITIES])[city] + random.normal(0, 0.4, count), np.nan),
        "longitude": np.where(placed, np.array([c[1] for c in CITIES])[city] + random.normal(0, 0.4, count), np.nan),
        "country_code": of_city(2),
        "country": of_city(3),
        "place": of_city(4),
        "exif": [json.dumps({"Model": CAMERAS[c][1]}) for c in camera],
        "caption": [f"A {k} in the year {2013 + h // 8760}" if n % 4 == 0 else None
                    for k, h, n in zip(kind_names, hours, numbers, strict=True)],
        "flags": [[FLAGS[f] for f in np.flatnonzero(row)] for row in flagged],
        "perceptual_hash": hashes,
        "thumbnail": [thumbnails[t] for t in thumbnail],
        "added_at": pa.array(np.datetime64("2026-01-01", "us") + numbers.astype("timedelta64[s]")),
        **{f"{what}_{c}": random.uniform(20, 230, count).astype(np.float32) for what in ("mean", "std") for c in "rgb"},
        **{name: random.uniform(1, 200, count).astype(np.float32)
           for name in ("brightness", "contrast", "sharpness", "fineness", "luma_p95", "luma_range")},
        "entropy": random.uniform(2, 8, count).astype(np.float32),
    }  # fmt: skip
    columns = []
    for field in IMAGES:
        values = given.get(field.name)
        made = pa.nulls(count, field.type) if values is None else pa.array(values, from_pandas=True)
        columns.append(made if made.type == field.type else made.cast(field.type))
    table = pa.table(columns, schema=IMAGES.remove_metadata())
    return table.append_column("bytes", pa.array([thumbnails[0]] * count, pa.large_binary()))


def _vectors(random: np.random.Generator, ids: list, kinds: np.ndarray, centers: np.ndarray) -> pa.Table:
    """A cloud around one of four centers of each kind; a near copy lies close to the image before it."""
    chosen = kinds * 4 + random.integers(0, 4, len(ids))
    points = centers[chosen] + random.normal(0, 0.7, (len(ids), centers.shape[1])).astype(np.float32)
    copies = np.flatnonzero(np.arange(len(ids)) % 200 == 199)
    points[copies] = points[copies - 1] + random.normal(0, 0.01, (len(copies), centers.shape[1])).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(points.ravel()), centers.shape[1])
    return pa.table({"id": ids, "vector": flat})


def _receipts(rows: int, manifest: object) -> list:
    told = {"finished_at": datetime(2026, 1, 2, tzinfo=UTC), "started_at": datetime(2026, 1, 1, tzinfo=UTC),
            "engine": "local", "known": 0}  # fmt: skip
    works = [("ingest", "file:///photos", {"read": 90.0, "describe": 800.0, "write": 60.0}),
             ("extract", set_name(manifest), {"read": 30.0, "decode": 400.0, "embed": 2000.0})]  # fmt: skip
    return [
        {"id": f"{number:064x}", "work": work, "subject": subject, "fingerprint": "f" * 64, "found": rows,
         "added": rows, "rejected": rows // 500, "seconds": sum(stages.values()), "run": f"{number:032x}",
         "stages": json.dumps(stages), **told}
        for number, (work, subject, stages) in enumerate(works)
    ]  # fmt: skip


def _rejections(count: int) -> list:
    reasons = ("it is no picture", "the file is cut off", "it has 900 megapixels, and at most 64 are taken")
    return [
        {"id": f"{number:064x}", "uri": f"file:///photos/broken/{number}.jpg", "content_id": None, "stage": "describe",
         "reason": reasons[number % 3], "byte_size": 1000 + number, "rejected_at": datetime(2026, 1, 1, tzinfo=UTC)}
        for number in range(count)
    ]  # fmt: skip


if __name__ == "__main__":
    began = time.monotonic()
    made = make_big_lake(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write(f"{made}: {time.monotonic() - began:.1f} s\n")
