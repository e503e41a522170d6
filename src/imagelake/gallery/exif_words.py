"""The values of EXIF as words: the JSON of many images is cut into its members at once, and each distinct one is read.

Of a hundred thousand images, most members are known already, such as the maker or the exposure program, and what is
left is mostly a plain text or number: to parse each image's JSON instead takes ten times as long.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imagelake.gallery.catalog import Catalog, keys_of
from imagelake.gallery.words import LONGEST, Words, fold

if TYPE_CHECKING:
    from imagelake.lake.tables import Tables

_BATCH_ROWS = 16_384
_MEMBER = ',"'  # before each member but the first; in a string it is there only where one ends with a comma
_NESTED = ('":{"', '":null,"')  # members of members are as good as members
_DIGITS = "0123456789.-,[]"
_MOST_NUMBERS = 8

Pairs = tuple[NDArray[np.int32], NDArray[np.int32]]


def read_exif(tables: Tables, catalog: Catalog, older: tuple[Catalog, Words] | None = None) -> Words:
    """The values of all images' EXIF, folded.

    An image of the older catalog keeps its words: an id is that of the content, and EXIF is part of it.

    Raises:
        LakeError: it cannot be read.
    """
    found = Found()
    if older is not None:
        moved = catalog.rows_of_keys(older[0].keys)
        rows = moved[older[1].rows]
        found.add(older[1].values, rows[rows >= 0].astype(np.int32), older[1].codes[rows >= 0])
    known = np.zeros(len(catalog) + 1, np.bool_)
    known[-1] = True  # the row -1: it was added since
    if older is not None:
        known[moved] = True
    if "exif" in tables.images.schema.names:
        for batch in tables.images.scan(["id", "exif"], "exif IS NOT NULL", batch_rows=_BATCH_ROWS):
            if not threading.main_thread().is_alive():
                break  # the process ends, and nobody asks any more
            rows = catalog.rows_of_keys(keys_of(batch.column("id")))
            new = np.flatnonzero(~known[rows])
            if len(new):
                found.read(rows[new].astype(np.int32), batch.column("exif").take(pa.array(new)))
    return found.words()


class Found:
    """Words of EXIF as they come. A class because it adds up."""

    def __init__(self) -> None:
        self._values: list[pa.Array] = []
        self._pairs: list[Pairs] = []
        self._count = 0

    def add(self, values: pa.Array, rows: NDArray[np.int32], codes: NDArray[np.int32]) -> None:
        """Values, and pairs of a row and the place of a value."""
        self._pairs.append((rows, codes + np.int32(self._count)))
        self._values.append(values.cast(pa.large_string()))
        self._count += len(values)

    def read(self, owners: NDArray[np.int32], texts: pa.Array) -> None:
        """The JSON of some images."""
        texts = texts.cast(pa.large_string())
        cut = pc.split_pattern(pc.replace_substring(texts, *_NESTED), _MEMBER)
        members = pc.list_flatten(cut).dictionary_encode()
        rows = np.asarray(pc.list_parent_indices(cut), np.int64)
        codes = np.asarray(members.indices, np.int64)
        plain, is_plain = _plain(members.dictionary)
        places = np.flatnonzero(~is_plain)
        others = [_values_of_member(member) for member in members.dictionary.take(pa.array(places)).to_pylist()]
        broken = np.zeros(len(plain), np.bool_)
        broken[places] = [own is None for own in others]
        whole = np.asarray(pc.and_(pc.starts_with(texts, '{"'), pc.ends_with(texts, "}")), np.bool_)
        whole[rows[broken[codes]]] = False  # cut where no member begins, or no object: read as it is
        among = whole[rows] & is_plain[codes]
        self.add(plain, owners[rows[among]], codes[among].astype(np.int32))
        among = whole[rows] & ~is_plain[codes]
        place_of = np.zeros(len(plain), np.int64)
        place_of[places] = np.arange(len(places))
        self._add_lists([own or [] for own in others], owners[rows[among]], place_of[codes[among]])
        odd = np.flatnonzero(~whole)
        self._add_lists(
            [list(exif_values(texts[row].as_py())) for row in odd.tolist()], owners[odd], np.arange(len(odd))
        )

    def _add_lists(self, lists: list[list[str]], owners: NDArray[np.int32], places: NDArray[np.int64]) -> None:
        """Of each owner, the values in the list at a place."""
        folded = [[text for value in own if (text := fold(value).encode("utf-8", "replace").decode())] for own in lists]
        taken = pa.array(folded, pa.large_list(pa.large_string())).take(pa.array(places))
        values = pc.list_flatten(taken)
        parents = np.asarray(pc.list_parent_indices(taken), np.int64)
        self.add(values, owners[parents], np.arange(len(values), dtype=np.int32))

    def words(self) -> Words:
        """All of them, each value once."""
        if not self._values:
            return Words(pa.array([], pa.large_string()), np.empty(0, np.int32), np.empty(0, np.int32))
        encoded = pa.concat_arrays(self._values).dictionary_encode()
        places = np.asarray(encoded.indices, np.int32)
        rows = np.concatenate([rows for rows, _ in self._pairs])
        return Words(encoded.dictionary, rows, places[np.concatenate([codes for _, codes in self._pairs])])


def _plain(members: pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
    """The value of each member that is a plain text, a number or a few numbers, folded, and which members are.

    Without regular expressions, which take five times as long.
    """
    halves = pc.split_pattern(members, '":', max_splits=1)
    named = np.asarray(pc.equal(pc.list_value_length(halves), 2), np.bool_)
    halves = halves.filter(pa.array(named))
    name, value = (pc.list_element(halves, place) for place in (0, 1))
    value = pc.ascii_rtrim(value, characters="}")  # of the last one
    bare = pc.ascii_trim(value, characters='"')
    quoted = _all(pc.starts_with(value, '"'), pc.ends_with(value, '"'), pc.equal(pc.count_substring(value, '"'), 2))
    number = _all(
        pc.equal(pc.binary_length(pc.ascii_trim(value, characters=_DIGITS)), 0),
        pc.less(pc.count_substring(value, ","), _MOST_NUMBERS),
    )
    spaced = pc.replace_substring(pc.ascii_trim(value, characters="[]"), ",", " ")
    known = _all(
        pc.greater(pc.binary_length(bare), 0),
        pc.string_is_ascii(value),
        pc.invert(pc.match_substring(value, "\\")),
        pc.invert(pc.match_substring(pc.ascii_ltrim(name, characters='{"'), '"')),
    )
    is_plain, texts = named.copy(), np.zeros(len(members), np.int64)
    is_plain[named] = known & (quoted | number)
    texts[named] = np.arange(len(bare))
    folded = pc.utf8_slice_codeunits(pc.ascii_lower(pc.if_else(pa.array(number), spaced, bare)), 0, LONGEST)
    return pc.if_else(
        pa.array(is_plain),
        pa.concat_arrays([folded, pa.array([""], folded.type)]).take(pa.array(np.where(named, texts, len(folded)))),
        "",
    ), is_plain


def _all(*conditions: pa.Array) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.logical_and.reduce([np.asarray(each, np.bool_) for each in conditions])
    return found


def _values_of_member(member: str) -> list[str] | None:
    """Of a member as it was cut out, maybe with braces around it; None where it is none."""
    before = "" if member.startswith("{") else '{"'
    try:
        whole = json.loads(f"{before}{member.rstrip('}')}}}")
    except (ValueError, RecursionError):
        return None
    return list(_values(whole))


def exif_values(text: str) -> Iterator[str]:
    """The values of EXIF, as texts, from its JSON; nothing where it is none."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return
    yield from _values(whole)


def _values(whole: Any) -> Iterator[str]:
    waiting: list[Any] = [whole]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list):
            if len(each) <= 8 and not any(isinstance(part, dict | list) for part in each):
                yield " ".join(str(part) for part in each)[:LONGEST]
            else:
                waiting += [part for part in each[:64] if isinstance(part, str | dict | list)]
        elif each is not None and not isinstance(each, bool):
            yield str(each)[:LONGEST]
