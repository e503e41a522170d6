"""The positions that the map gets, beside SQL; and the world that ships with the page, beside geography."""

import gzip
import json
import struct
from datetime import UTC, datetime
from importlib import resources

import cv2
import numpy as np
import pyarrow as pa
import pytest

from imagelake.errors import InputError
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.selection import Selection, rows_of
from imagelake.gallery.world import points_of
from imagelake.lake.sql import query
from imagelake.lake.tables import open_tables
from imagelake.schema import IMAGES
from imagelake.web import world

POSITIONS = [  # the odd ones of which nothing may leave
    (53.5, 10.0), (None, None), (-90.0, 180.0), (90.0, -180.0), (float("nan"), 3.0), (3.0, float("inf")),
    (91.0, 0.0), (0.0, 180.5), (0.0, 0.0), (None, 5.0), (5.0, None), (-33.87, 151.21),
]  # fmt: skip
MANY = 600


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Gallery:
    """A lake with positions of all kinds, and many plain ones."""
    tables = open_tables(tmp_path_factory.mktemp("world") / "l.lake", create=True)
    random = np.random.default_rng(7)
    plain = [(float(random.uniform(-90, 90)), float(random.uniform(-180, 180))) for _ in range(MANY)]
    rows = [
        {
            "bytes": b"no picture",
            "id": f"{number * 0x9E3779B97F4A7C15 % (1 << 64):016x}{number:048x}",
            "uris": [f"file:///p/{number}.jpg"],
            "latitude": latitude,
            "longitude": longitude,
            "place": "Somewhere" if number % 4 == 0 else None,
            "added_at": datetime(2026, 1, 1, tzinfo=UTC),
        }
        for number, (latitude, longitude) in enumerate(POSITIONS + plain)
    ]
    columns = pa.schema([*IMAGES, pa.field("bytes", pa.large_binary())])
    tables.images.insert_new(pa.Table.from_pylist(rows, columns))
    return Gallery(tables, None)


def test_an_empty_lake_has_no_points(tmp_path):
    """Where there is no image there is no point, and nobody without one."""
    found = points_of(Gallery(open_tables(tmp_path / "l.lake", create=True), None), Selection())
    assert (len(found.keys), found.without, found.unnamed, found.to_bytes()) == (0, 0, 0, b"")


def test_points_are_the_rows_with_a_position_on_earth(gallery):
    """The points are the rows that SQL finds with a position on Earth, in the order of the selection."""
    selection = Selection(sort="name")
    found = points_of(gallery, selection)
    on_earth = "latitude BETWEEN -90 AND 90 AND longitude BETWEEN -180 AND 180"
    known = query(gallery.tables, f"SELECT id, latitude, longitude, place FROM images WHERE {on_earth}").to_pylist()
    expected = {row["id"][:16]: (row["latitude"], row["longitude"]) for row in known}
    got = {
        f"{key:016x}": (latitude, longitude)
        for key, latitude, longitude in zip(found.keys, found.latitudes, found.longitudes, strict=True)
    }
    assert got.keys() == expected.keys()
    for key, place in expected.items():
        assert got[key] == pytest.approx(place, abs=1e-5)
    assert len(found.keys) + found.without == len(gallery.catalog())
    assert found.unnamed == sum(row["place"] is None for row in known)
    order = [i[:16] for i in gallery.catalog().ids_of(rows_of(gallery, selection)) if i[:16] in expected]
    assert [f"{key:016x}" for key in found.keys] == order


def test_a_selection_narrows_the_points(gallery):
    """Points are of the selection only; a wrong one is an InputError."""
    found = points_of(gallery, Selection(facets={"bounds": ("9,53,11,54",)}))
    assert 1 <= len(found.keys) < 10
    assert (found.latitudes >= 53).all()
    with pytest.raises(InputError):
        points_of(gallery, Selection(facets={"bounds": ("nonsense",)}))


def test_bytes_are_keys_latitudes_and_longitudes(gallery):
    """The answer holds 16 bytes an image, little-endian, and nothing that is not finite."""
    found = points_of(gallery, Selection())
    data, count = found.to_bytes(), len(found.keys)
    assert len(data) == 16 * count
    assert np.array_equal(np.frombuffer(data, "<u8", count), found.keys)
    degrees = np.frombuffer(data, "<f4", offset=8 * count)
    assert np.array_equal(degrees, np.concatenate([found.latitudes, found.longitudes]))
    assert np.isfinite(degrees).all()


def test_a_body_is_packed_where_it_saves():
    """What is packed is the same unpacked; short bodies, noise, and those of callers without gzip go as they are."""
    even, noise = bytes(9_000), np.random.default_rng(1).bytes(9_000)
    small, told = world.packed(even, "gzip, br")
    assert told == {"Content-Encoding": "gzip"}
    assert gzip.decompress(small) == even
    for body, accepted in ((b"", "gzip"), (even[:100], "gzip"), (noise, "gzip"), (even, "br")):
        assert world.packed(body, accepted) == (body, {})


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [("", False), ("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("gzip;q=0.0", False), ("br", False)],
)
def test_gzip_is_for_those_who_take_it(accepted, takes):
    """An Accept-Encoding is read as HTTP has it."""
    assert world.takes_gzip(accepted) is takes


class World:
    """The shipped file, read anew: as `core/worlddata.js` does."""

    def __init__(self, data: bytes) -> None:
        (length,) = struct.unpack("<I", data[:4])
        self.head = json.loads(data[4 : 4 + length])
        self._numbers = iter(unpack(data[4 + length :]))
        self.levels = [self._level(level) for level in self.head["levels"]]
        self.borders = [self._points(next(self._numbers)) for _ in range(self.head["borders"]["lines"])]
        assert next(self._numbers, None) is None  # nothing is left
        self.boxes = [
            tuple(np.array([edge(ring[:, 0], axis=0) for ring in rings]) for edge in (np.min, np.max))
            for rings in self.levels
        ]

    def _points(self, count: int) -> np.ndarray:
        steps = [(next(self._numbers), next(self._numbers)) for _ in range(count)]
        return np.array(steps, np.int64)

    def _level(self, level: dict) -> list[np.ndarray]:
        rings = []
        for column, row, count in level["blocks"]:
            corner = np.array([level["x"] + column * level["size"], level["y"] - row * min(level["size"], 180)])
            for _ in range(count):
                points = np.cumsum(self._points(next(self._numbers)), axis=0) / level["step"] * (1, -1) + corner
                rings.append(points.astype(np.float32)[:, None])
        return rings

    def is_land(self, level: int, latitude: float, longitude: float) -> bool:
        inside = 0
        for x in (longitude, longitude + 360):  # blocks reach a little beyond 180 degrees
            low, high = self.boxes[level]
            near = ((low <= (x, latitude)) & (high >= (x, latitude))).all(1)
            rings = (self.levels[level][each] for each in np.flatnonzero(near))
            inside += sum(cv2.pointPolygonTest(ring, (x, latitude), False) > 0 for ring in rings)
        return inside % 2 == 1


def unpack(data: bytes) -> list[int]:
    """Zigzag varints."""
    found, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(-((value + 1) >> 1) if value & 1 else value >> 1)
            value = shift = 0
    return found


@pytest.fixture(scope="module")
def shipped() -> World:
    """The world as it ships."""
    return World((resources.files("imagelake.web") / "static" / "world.bin").read_bytes())


LAND = {
    "Paris": (48.85, 2.35), "Berlin": (52.52, 13.4), "Madrid": (40.42, -3.7), "Moscow": (55.75, 37.62),
    "Beijing": (39.9, 116.4), "Delhi": (28.61, 77.2), "Nairobi": (-1.29, 36.82), "Denver": (39.74, -104.99),
    "Brasilia": (-15.79, -47.88), "Alice Springs": (-23.7, 133.88), "Mexico City": (19.43, -99.13),
    "Kyoto": (35.01, 135.77), "Chukotka at 180 degrees": (67.5, 179.99), "the other side": (67.5, -179.99),
    "the inner Antarctic": (-80.0, 0.0), "near the pole": (-89.0, 100.0),
}  # fmt: skip
WATER = {
    "Atlantic": (30.0, -40.0), "Pacific at the date line": (0.0, 180.0), "Indian Ocean": (-20.0, 80.0),
    "Mediterranean": (35.0, 18.0), "Black Sea": (43.0, 34.0), "Caspian Sea": (41.5, 51.0), "its north": (45.0, 50.0),
    "Lake Superior": (47.7, -87.5), "Lake Victoria": (-1.0, 33.0), "Lake Baikal": (53.5, 108.2),
    "Ross Sea": (-76.0, -175.0), "Arctic": (88.0, 30.0), "Hudson Bay": (60.0, -85.0), "Red Sea": (20.0, 38.5),
}  # fmt: skip


@pytest.mark.parametrize("level", [0, 1, 2])
def test_cities_stand_on_land_and_seas_are_water(shipped, level):
    """In each level of detail cities lie on land; oceans, inland seas and large lakes do not."""
    assert {name for name, place in LAND.items() if not shipped.is_land(level, *place)} == set()
    assert {name for name, place in WATER.items() if shipped.is_land(level, *place)} == set()


def test_levels_agree_with_each_other(shipped):
    """Far from coasts all levels say the same: of points all over the world nearly all agree."""
    random = np.random.default_rng(3)
    points = [
        (float(np.degrees(np.arcsin(random.uniform(-1, 1)))), float(random.uniform(-180, 180))) for _ in range(300)
    ]
    told = [[shipped.is_land(level, *point) for level in range(3)] for point in points]
    assert sum(len(set(each)) == 1 for each in told) >= 290
    assert 0.24 < np.mean([each[2] for each in told]) < 0.36  # 29 % of the Earth is land


def test_the_world_is_small_and_names_its_sources(shipped):
    """The file stays below 400 kB, tells where it is from, and names most countries of the Earth within their land."""
    data = (resources.files("imagelake.web") / "static" / "world.bin").read_bytes()
    assert len(data) < 400_000
    assert len(gzip.compress(data, 1)) < len(data)
    assert all("public domain" in each for each in shipped.head["sources"])
    codes = {each[0] for each in shipped.head["countries"]}
    assert {276, 392, 156, 840, 76, 710, 356}.issubset(codes)
    assert len(codes) > 200
    large = [each for each in shipped.head["countries"] if each[3] > 4]
    assert all(shipped.is_land(2, latitude, longitude) for _, longitude, latitude, _ in large)
    assert len(shipped.borders) > 250
