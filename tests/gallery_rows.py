"""Rows of images that look like no other, without pictures: for what is asked of columns alone."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

import imagelake
from imagelake.schema import IMAGES

HOSTILE = '<img src=x onerror="document.title=1">.jpg'
COUNT = 60


def image(number: int) -> dict:
    """The row of an image that looks like no other: all columns may be null."""
    random = np.random.default_rng(number)
    has = random.random(8) < 0.7
    folder = ["harbor", "Straßen", "写真"][number % 3]
    name = HOSTILE if number == 5 else f"photo {number}.jpg"
    return {
        "bytes": b"no picture",
        "id": f"{random.integers(1 << 62):016x}" + f"{number:048x}",
        "uris": [f"file:///p/{folder}/{name}".replace(" ", "%20")]
        + (["s3://bucket/again/copy.jpg"] if number % 7 == 0 else []),
        "labels": ["cat", "cat", "dog"][: int(random.integers(0, 4))] if has[0] else None,
        "tags": ["good"] if has[1] else [],
        "format": ["jpeg", "png"][number % 2],
        "width": int(random.integers(1, 4000)),
        "height": 300,
        "byte_size": int(random.integers(1, 1000)),
        "taken_at": datetime(2020 + number % 4, 3, 1) + timedelta(hours=number) if has[2] else None,  # noqa: DTZ001
        "camera_make": "Canon" if has[3] else None,
        "camera_model": ["EOS R5", "Canon EOS R6", None][number % 3] if has[3] else None,
        "latitude": float(random.uniform(-80, 80)) if has[4] else None,
        "longitude": float(random.uniform(-180, 180)) if has[4] else None,
        "exif": '{"Software": "Dark\\u0074able 4.8", "nested": {"Lens": ["\\uff3a\\uff25iss", 35]}}'
        if has[5]
        else None,
        "caption": "A Caf\u0065\u0301 by the sea" if number == 9 else None,
        "keywords": ["Sunset"] if number % 10 == 0 else None,
        "brightness": float(random.random() * 255) if has[6] else None,
        "mean_r": 250.0,
        "mean_g": float("nan"),
        "flags": ["dark"] if has[7] else [],
        "country_code": "JP" if number % 4 == 0 else None,
        "place": "Kyoto" if number % 8 == 0 else None,
        "added_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number // 10),
    }


def write(folder, rows: list) -> imagelake.Lake:
    lake = imagelake.open(folder, create=True)
    columns = IMAGES.append(pa.field("bytes", pa.large_binary()))
    lake.tables.images.insert_new(pa.Table.from_pylist(rows, columns))
    return lake
