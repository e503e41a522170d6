"""Facets: the kinds of values that images are chosen and counted by, such as labels, cameras and years."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.gallery.catalog import Catalog

NONE = "∅"
"""The value of images that have none, such as no label."""

Mask = NDArray[np.bool_]
_SHOWN = 60


@dataclass(frozen=True)
class Facet:
    """Which images have which value.

    Attributes:
        values: each once.
        rows: of an image and a value that it has, the row of the image, int32 [m].
        codes: and the place of the value in `values`, int32 [m].
    """

    values: list[str]
    rows: NDArray[np.int32]
    codes: NDArray[np.int32]

    def having(self, chosen: Sequence[str], count: int) -> Mask:
        """Which of `count` images have one of some values, bool [count]; a value that no image has is no error."""
        wanted = set(chosen)
        table = np.fromiter((value in wanted for value in self.values), np.bool_, len(self.values))
        found = np.zeros(count, np.bool_)
        found[self.rows[table[self.codes]]] = True
        return found

    def counts(self, among: Mask) -> list[tuple[str, int]]:
        """How many of some images have each value, those that none has left out: the most frequent first."""
        codes = self.codes if among.all() else self.codes[among[self.rows]]  # choosing takes most of the time
        numbers = np.bincount(codes, minlength=len(self.values))
        there = np.flatnonzero(numbers)
        ordered = there[np.argsort(-numbers[there], kind="stable")]
        return [(self.values[code], int(numbers[code])) for code in ordered.tolist()]


def facet(catalog: Catalog, name: str) -> Facet:
    """One facet of all images; made when it is first asked for.

    Raises:
        InputError: there is no facet of that name.
    """
    make = _FACETS.get(name)
    if make is None:
        raise InputError(f"There is no facet {name[:_SHOWN]!r}. There are: {', '.join(_FACETS)}, bounds.")
    return catalog.made.get(f"facet {name}", lambda: make(catalog))


def masks_of(catalog: Catalog, chosen: Mapping[str, Sequence[str]]) -> dict[str, Mask]:
    """Which images each facet lets pass, bool [n] by the facet's name; values of one facet are alternatives.

    Raises:
        InputError: there is no such facet, or it has no such value, where its values are fixed.
    """
    found = {}
    for name, values in chosen.items():
        if not values:
            continue
        if name == "gps" and not set(values) <= {"yes", "no"}:
            raise InputError(f"The facet gps is yes or no, not {', '.join(values)[:_SHOWN]!r}.")
        found[name] = facet(catalog, name).having(values, len(catalog))
    return found


def counts_of(catalog: Catalog, base: Mask, masks: Mapping[str, Mask]) -> dict[str, list[tuple[str, int]]]:
    """How many images have each value of each facet, where its own choice is put aside.

    Args:
        catalog: the images.
        base: which ones pass all but the facets, bool [n].
        masks: of `masks_of`.
    """
    failed = np.zeros(len(catalog), np.int16)
    for mask in masks.values():
        failed += ~mask
    passing = base & (failed == 0)
    found = {}
    for name in _FACETS:
        among = base & (failed == ~masks[name]) if name in masks else passing
        found[name] = facet(catalog, name).counts(among)
    return found


def camera_of(make: str | None, model: str | None) -> str | None:
    """The name of a camera: its maker comes first, once."""
    maker, name = (make or "").strip(), (model or "").strip()
    if not name or name.lower().startswith(maker.lower()):
        return name or maker or None
    return f"{maker} {name}".strip()


def folder_of(uri: str) -> str:
    """The folder that a picture was in, as people read it: what stands before the last `/`."""
    before = uri.rpartition("/")[0].removeprefix("file://")
    return unquote(before, errors="replace") or "/"


def _of_lists(column: str, *, none: bool) -> Callable[[Catalog], Facet]:
    def make(catalog: Catalog) -> Facet:
        lists = _whole(catalog, column)
        return _facet(pc.list_parent_indices(lists), pc.list_flatten(lists), len(catalog), none=none)

    return make


def _of_texts(make_texts: Callable[[Catalog], pa.Array], *, none: bool) -> Callable[[Catalog], Facet]:
    def make(catalog: Catalog) -> Facet:
        texts = make_texts(catalog)
        rows = pa.array(np.arange(len(catalog), dtype=np.int64))
        return _facet(rows, texts, len(catalog), none=none)

    return make


def _facet(rows: pa.Array, texts: pa.Array, count: int, *, none: bool) -> Facet:
    """From pairs of a row and a text; a null text is none."""
    there = pc.is_valid(texts)
    owners = np.asarray(rows.filter(there), np.int64)
    encoded = texts.filter(there).dictionary_encode()
    values = encoded.dictionary.to_pylist()
    pairs = np.unique(owners * max(len(values), 1) + np.asarray(encoded.indices, np.int64))  # one pair once
    owners, codes = pairs // max(len(values), 1), pairs % max(len(values), 1)
    if none:
        lone = np.ones(count, np.bool_)
        lone[owners] = False
        without = np.flatnonzero(lone)
        if len(without):
            owners, codes = np.append(owners, without), np.append(codes, np.full(len(without), len(values)))
            values = [*values, NONE]
    return Facet(values, owners.astype(np.int32), codes.astype(np.int32))


def _whole(catalog: Catalog, column: str) -> pa.Array:
    return catalog.columns.column(column).combine_chunks()


def _cameras(catalog: Catalog) -> pa.Array:
    makes, models = (_whole(catalog, name).dictionary_encode() for name in ("camera_make", "camera_model"))
    numbers = [pc.fill_null(part.indices, len(part.dictionary)) for part in (makes, models)]
    pairs = np.asarray(numbers[0], np.int64) * (len(models.dictionary) + 1) + np.asarray(numbers[1], np.int64)
    distinct, inverse = np.unique(pairs, return_inverse=True)
    make_texts = [*makes.dictionary.to_pylist(), None]
    model_texts = [*models.dictionary.to_pylist(), None]
    width = len(model_texts)
    names = [camera_of(make_texts[pair // width], model_texts[pair % width]) for pair in distinct.tolist()]
    return pa.array(names, pa.string()).take(pa.array(inverse.reshape(-1)))


def _years(catalog: Catalog) -> pa.Array:
    return pc.cast(pc.year(_whole(catalog, "taken_at")), pa.string())


def _places(catalog: Catalog) -> Facet:
    """A country by its two letters, `JP`, and a place in it, `JP/Kyoto`: an image has both."""
    countries, places = _whole(catalog, "country_code"), _whole(catalog, "place")
    rows = np.arange(len(catalog), dtype=np.int64)
    both = pc.binary_join_element_wise(countries, places, "/")
    texts = pa.concat_arrays([countries, both])
    return _facet(pa.array(np.concatenate([rows, rows])), texts, len(catalog), none=True)


def _folders(catalog: Catalog) -> Facet:
    uris = _whole(catalog, "uris")
    folders = pa.array((folder_of(uri or "") for uri in pc.list_flatten(uris).to_pylist()), pa.string())
    return _facet(pc.list_parent_indices(uris), folders, len(catalog), none=False)


def _sets(catalog: Catalog) -> Facet:
    names = list(catalog.sets)
    rows = [catalog.sets[name] for name in names]
    codes = np.repeat(np.arange(len(names)), [len(each) for each in rows])
    texts = pa.array(names, pa.string()).take(pa.array(codes, pa.int64()))
    return _facet(pa.array(_joined(rows)), texts, len(catalog), none=True)


def _positions(catalog: Catalog) -> pa.Array:
    has = pc.and_(pc.is_valid(_whole(catalog, "latitude")), pc.is_valid(_whole(catalog, "longitude")))
    return pc.if_else(has, "yes", "no")


def _joined(parts: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *parts])


_FACETS: dict[str, Callable[[Catalog], Facet]] = {
    "label": _of_lists("labels", none=True),
    "tag": _of_lists("tags", none=True),
    "year": _of_texts(_years, none=True),
    "place": _places,
    "camera": _of_texts(_cameras, none=True),
    "folder": _folders,
    "format": _of_texts(lambda catalog: _whole(catalog, "format"), none=False),
    "flag": _of_lists("flags", none=True),
    "set": _sets,
    "gps": _of_texts(_positions, none=False),
}
NAMES = tuple(_FACETS)
"""All facets, in the order in which they are shown."""
