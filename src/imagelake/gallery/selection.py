"""Which images a view of the page is about, and in which order: what its address says."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.gallery import facets, text_filter
from imagelake.gallery.catalog import Catalog, keys_of
from imagelake.gallery.gallery import Gallery
from imagelake.gallery.orders import floats, order_of
from imagelake.lake.sql import matching_ids

_PREDICATES = 32  # whose rows are remembered
_PREDICATE_S = 5.0
_PREDICATE_KEPT_S = 10.0  # a predicate may name the time
_PREDICATES_AT_ONCE = threading.BoundedSemaphore(2)  # each takes all processors
_SHOWN = 60

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Selection:
    """What the address of a view says.

    Attributes:
        text: words that names, labels, tags, captions and EXIF must have.
        where: an SQL predicate over the images table; None: all.
        facets: the values chosen of each facet: an image has one of them. `bounds` is one `west,south,east,north`.
        sort: the name of an order, with a `-` before it where it descends; empty: see `usual_sort`.
        hurry: while the EXIF is not read yet, look for the text in all else: see `text_filter.knows_exif`.
    """

    text: str = ""
    where: str | None = None
    facets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sort: str = ""
    hurry: bool = False


def rows_of(gallery: Gallery, selection: Selection, catalog: Catalog | None = None) -> Rows:
    """The rows of the catalog that are selected, in order; `catalog` None: the newest.

    Raises:
        InputError: the predicate, a facet or the order is wrong.
    """
    shown = gallery.catalog() if catalog is None else catalog
    order = order_of(shown, selection.sort)
    base, masks = parts_of(gallery, selection, shown)
    passing = functools.reduce(np.logical_and, masks.values(), base)
    found: Rows = order[passing[order]]
    return found


def counts_of(
    gallery: Gallery, selection: Selection, catalog: Catalog | None = None
) -> dict[str, list[tuple[str, int]]]:
    """How many images have each value of each facet: all other choices hold, those of the facet itself do not.

    Raises:
        InputError: the predicate or a facet is wrong.
    """
    shown = gallery.catalog() if catalog is None else catalog
    return facets.counts_of(shown, *parts_of(gallery, selection, shown))


def parts_of(gallery: Gallery, selection: Selection, catalog: Catalog) -> tuple[Mask, dict[str, Mask]]:
    """What passes text, predicate and bounds, bool [n], and what each facet lets pass.

    Raises:
        InputError: the predicate or a facet is wrong.
    """
    chosen = dict(selection.facets)
    bounds = chosen.pop("bounds", ())
    masks = facets.masks_of(catalog, chosen)
    base = np.ones(len(catalog), np.bool_)
    for each in bounds:
        base &= _inside(catalog, each)
    if selection.where:
        base &= _holds(gallery, catalog, selection.where)
    text = text_filter.matching(gallery.tables, catalog, selection.text, hurry=selection.hurry)
    return base if text is None else base & text, masks


def _inside(catalog: Catalog, bounds: str) -> Mask:
    """Which images lie in `west,south,east,north`, degrees; it may cross the 180th meridian."""
    try:
        west, south, east, north = (float(each) for each in bounds.split(","))
    except ValueError:
        west = south = east = north = math.nan
    if not all(map(math.isfinite, (west, south, east, north))) or south > north:
        raise InputError(
            f"The bounds are {bounds[:_SHOWN]!r}; give west,south,east,north in degrees, such as 5.9,45.8,10.5,47.8."
        )
    latitude, longitude = (floats(catalog.columns.column(name)) for name in ("latitude", "longitude"))
    with np.errstate(invalid="ignore"):
        level = (longitude >= west) & (longitude <= east) if west <= east else (longitude >= west) | (longitude <= east)
        found: Mask = level & (latitude >= south) & (latitude <= north)
    return found


def _holds(gallery: Gallery, catalog: Catalog, where: str) -> Mask:
    """For which images a predicate holds, bool [n]; remembered for a while.

    Raises:
        InputError: it is wrong, or takes too long.
    """
    known: Remembered = catalog.made.get("predicates", Remembered)
    with known.lock_of(where):  # a view asks for counts, shapes and items at once: they are one query
        found = known.get(where)
        if found is None:
            found = _ask(gallery, catalog, where)
            known.put(where, found)
    if isinstance(found, InputError):
        raise InputError(str(found))
    return found


def _ask(gallery: Gallery, catalog: Catalog, where: str) -> Mask | InputError:
    try:
        with _PREDICATES_AT_ONCE:
            ids = matching_ids(gallery.tables, where, time_limit_s=_PREDICATE_S)
    except InputError as error:
        return error
    rows = catalog.rows_of_keys(keys_of(ids))
    mask = np.zeros(len(catalog), np.bool_)
    mask[rows[rows >= 0]] = True
    return mask


class Remembered:
    """The rows of the last predicates, or why there are none. A class because it keeps them."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[float, Mask | InputError]] = OrderedDict()
        self._lock = threading.Lock()
        self._locks = [threading.Lock() for _ in range(_PREDICATES)]

    def lock_of(self, where: str) -> threading.Lock:
        """Whoever has it asks; the same predicate has the same one."""
        return self._locks[hash(where) % len(self._locks)]

    def get(self, where: str) -> Mask | InputError | None:
        """What is known of one; None where it is not remembered, or was made too long ago."""
        with self._lock:
            made_at, found = self._known.get(where, (-math.inf, None))
            return None if time.monotonic() - made_at > _PREDICATE_KEPT_S else found

    def put(self, where: str, found: Mask | InputError) -> None:
        """Remember one, and forget the oldest."""
        with self._lock:
            self._known[where] = time.monotonic(), found
            self._known.move_to_end(where)
            while len(self._known) > _PREDICATES:
                self._known.popitem(last=False)
