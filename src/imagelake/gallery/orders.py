"""Orders of images: by a value of theirs, by name as people count, or by chance."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.gallery import facets
from imagelake.gallery.catalog import Catalog
from imagelake.gallery.words import fold

_SHOWN = 60
_DIGITS = re.compile(r"[0-9]+")
_NUMBER_DIGITS = 20
_ALIASES = {"taken": "taken_at", "added": "added_at", "size": "byte_size"}

Rows = NDArray[np.int64]


def prepare(catalog: Catalog) -> None:
    """Make what every list asks for, so that the first one does not wait."""
    for name in facets.NAMES:
        facets.facet(catalog, name)
    for sort in (usual_sort(catalog), "name"):
        order_of(catalog, sort)


def usual_sort(catalog: Catalog) -> str:
    """The order where none is asked for: the newest photos first; by name where most have no time."""
    nulls = catalog.columns.column("taken_at").null_count
    return "name" if nulls * 2 > len(catalog) else "-taken_at"


def order_name(catalog: Catalog, sort: str) -> str:
    """The order that an address asks for, by its own name."""
    asked = sort or usual_sort(catalog)
    name, _, seed = asked.removeprefix("-").partition(":")
    return "-" * asked.startswith("-") + _ALIASES.get(name, name) + (f":{seed}" if seed else "")


def order_of(catalog: Catalog, sort: str) -> Rows:
    """All rows in an order; what has no value comes last either way, equals by id.

    Raises:
        InputError: there is no order of that name.
    """
    asked = order_name(catalog, sort)
    down = asked.startswith("-")
    name, _, seed = asked.removeprefix("-").partition(":")
    if name == "random":
        return _random(catalog, seed, down=down)
    if name not in ORDERS or seed:
        raise InputError(
            f"There is no order {sort[:_SHOWN]!r}. There are: {', '.join(ORDERS)}, random:SEED; "
            "with - before it, it descends."
        )
    return catalog.made.get(f"order {'-' * down}{name}", lambda: _sorted(catalog, _values(catalog, name), down=down))


def _sorted(catalog: Catalog, values: NDArray[np.float64], *, down: bool) -> Rows:
    missing = np.isnan(values)
    keys = np.where(missing, 0.0, -values if down else values)
    found: Rows = np.lexsort((catalog.keys, keys, missing)).astype(np.int64)
    return found


def _random(catalog: Catalog, seed: str, *, down: bool) -> Rows:
    """By a hash of id and seed: the same for as long as the seed is, also after images are added."""
    number = int(seed) if re.fullmatch(r"[0-9]{1,9}", seed) else 0
    if seed and not re.fullmatch(r"[0-9]{1,9}", seed):
        raise InputError(f"The seed of a random order is {seed[:_SHOWN]!r}; give a number of at most 9 digits.")
    mixed = catalog.keys ^ np.uint64((number * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF)
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (33, 0xC4CEB9FE1A85EC53), (33, 1)):  # the end of MurmurHash3
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    found = np.lexsort((catalog.keys, mixed)).astype(np.int64)
    return found[::-1] if down else found


def _values(catalog: Catalog, name: str) -> NDArray[np.float64]:
    return ORDERS[name](catalog)


def _number(name: str) -> Callable[[Catalog], NDArray[np.float64]]:
    def values(catalog: Catalog) -> NDArray[np.float64]:
        return floats(catalog.columns.column(name))

    return values


def _time(name: str) -> Callable[[Catalog], NDArray[np.float64]]:
    def values(catalog: Catalog) -> NDArray[np.float64]:
        return floats(catalog.columns.column(name).cast(pa.int64()))

    return values


def _pixels(catalog: Catalog) -> NDArray[np.float64]:
    return floats(catalog.columns.column("width")) * floats(catalog.columns.column("height"))


def floats(column: Any) -> NDArray[np.float64]:
    """A column of numbers, float64 [n]; NaN where it is null."""
    found: NDArray[np.float64] = pc.fill_null(column.cast(pa.float64(), safe=False), math.nan).to_numpy()
    return found


def _names(catalog: Catalog) -> NDArray[np.float64]:
    """The rank of each name: as people count, `photo 2` before `photo 10`, whatever the case."""
    names = catalog.columns.column("name").to_pylist()
    distinct = sorted(set(names), key=natural)
    rank = {name: number for number, name in enumerate(distinct)}
    return np.fromiter((rank[name] if name else math.nan for name in names), np.float64, len(names))


def natural(name: str) -> tuple[str, str]:
    """A key that sorts names as people do: numbers in them by their size."""
    return _DIGITS.sub(lambda found: found[0].zfill(_NUMBER_DIGITS), fold(name)), name


ORDERS: dict[str, Callable[[Catalog], NDArray[np.float64]]] = {
    "taken_at": _time("taken_at"),
    "added_at": _time("added_at"),
    "name": _names,
    "byte_size": _number("byte_size"),
    "pixels": _pixels,
    "brightness": _number("brightness"),
    "sharpness": _number("sharpness"),
}
"""All orders but the random one."""
