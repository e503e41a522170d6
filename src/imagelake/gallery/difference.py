"""Two images of the lake beside each other: where their pixels differ, and what one has that the other lost."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.gallery.gallery import Gallery
from imagelake.pixels.decode import decode_rgb
from imagelake.pixels.difference import draw_difference, encode_png, measure_difference, overlay
from imagelake.pixels.figures import to_luma
from imagelake.pixels.reduction import reduce_to
from imagelake.pixels.thumbnail import encode_jpeg

LAID = ("one", "other")
"""The two pictures of a pair, by name."""

_SIDE = 1024  # at which two pictures are compared
_KEPT = 6  # pairs
_MOST_LOST = 200
_FACTS = ("id", "format", "width", "height", "byte_size", "taken_at", "added_at", "camera_make", "camera_model",
          "latitude", "sharpness", "exif", "uris")  # fmt: skip


@dataclass(frozen=True)
class _Pair:
    told: dict[str, Any]
    one: NDArray[np.uint8]
    other: NDArray[np.uint8]


class Differences:
    """Compares images of a lake; the last few pairs are kept. A class because it keeps them.

    Args:
        gallery: of the lake.
    """

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._kept: OrderedDict[tuple[str, str], _Pair] = OrderedDict()
        self._lock = threading.Lock()  # guards what is kept
        self._turn = threading.Lock()  # one pair is compared at a time: it takes memory

    def told(self, one: str, other: str) -> dict[str, Any]:
        """How two images differ, in words and figures.

        Args:
            one: the id of an image, or its first letters.
            other: of another.

        Raises:
            InputError: there is no such image.
            ImageError: one cannot be decoded.
        """
        return self._pair(one, other).told

    def drawn(self, one: str, other: str, gain: float) -> bytes:
        """A PNG of where they differ, made `gain` times stronger.

        Raises:
            InputError: there is no such image, or the gain is none.
            ImageError: one cannot be decoded.
        """
        pair = self._pair(one, other)
        return encode_png(draw_difference(pair.one, pair.other, gain))

    def laid(self, one: str, other: str, which: str) -> bytes:
        """A JPEG of one of the two as it was laid over the other; `which` is one of `LAID`.

        Raises:
            InputError: there is no such image.
            ImageError: one cannot be decoded.
        """
        pair = self._pair(one, other)
        return encode_jpeg(pair.one if which == "one" else pair.other, quality=92)

    def _pair(self, one: str, other: str) -> _Pair:
        catalog = self._gallery.catalog()
        rows = catalog.rows_of([one, other])
        for given, row in zip((one, other), rows.tolist(), strict=True):
            if row < 0:
                raise InputError(f"The lake has no image {given[:80]!r}. Give the id of one that it has.")
        ids = catalog.ids_of(rows)
        key = ids[0], ids[1]
        with self._turn:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            pair = self._compared(ids, catalog.row_ids[rows].tolist())
            with self._lock:
                self._kept[key] = pair
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return pair

    def _compared(self, ids: list[str], row_ids: list[int]) -> _Pair:
        images = self._gallery.tables.images
        rows = images.rows("id", ids, [name for name in _FACTS if name in images.schema.names]).to_pylist()
        facts = {row["id"]: row for row in rows}
        one, other = (facts[each] for each in ids)
        pixels = [reduce_to(decode_rgb(data or b"", min_side=_SIDE), 2 * _SIDE) for data in images.read_bytes(row_ids)]
        laid = overlay(pixels[0], pixels[1], _SIDE)
        detail = [_detail(each) for each in (laid.one, laid.other)]
        told = {
            "width": laid.one.shape[1],
            "height": laid.one.shape[0],
            "part_of": laid.part_of,
            "part": [round(each, 3) for each in laid.part_xyxy],
            "mirrored": laid.mirrored,
            "stretched": laid.stretched,
            "figures": asdict(measure_difference(laid.one, laid.other)),
            "detail": detail,
            "better": _better(one, other, detail),
            "lost": _lost(one, other),
            "gained": _lost(other, one),
        }
        return _Pair(told, laid.one, laid.other)


def _detail(image_rgb: NDArray[np.uint8]) -> float:
    """How much fine detail a picture has at the common size: the mean step between neighbors in luma, 0 to 255."""
    luma = to_luma(image_rgb).astype(np.float32)
    steps = [np.abs(np.diff(luma, axis=axis)) for axis in (0, 1) if luma.shape[axis] > 1]
    return round(float(np.mean([each.mean() for each in steps])), 3) if steps else 0.0


def _better(one: dict[str, Any], other: dict[str, Any], detail: list[float]) -> dict[str, int | None]:
    """Which of the two is larger, sharper, and so on: 0 or 1; None where neither."""

    def first(a: Any, b: Any) -> int | None:
        return None if a is None or b is None or a == b else int(b > a)

    pixels = [each["width"] * each["height"] for each in (one, other)]
    sharper = None if abs(detail[0] - detail[1]) <= 0.03 * max(*detail, 1e-9) else int(detail[1] > detail[0])
    return {
        "pixels": first(*pixels),
        "bytes": first(one["byte_size"], other["byte_size"]),
        "sharper": sharper,
        "older": first(other.get("taken_at"), one.get("taken_at")),
        "exif": first(len(_exif(one)), len(_exif(other))),
    }


def _lost(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The EXIF tags that one has and the other has not, by name."""
    return sorted(set(_exif(one)) - set(_exif(other)))[:_MOST_LOST]


def _exif(row: dict[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(row.get("exif") or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
