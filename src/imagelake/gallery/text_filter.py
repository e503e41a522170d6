"""Finds images by words of their names, folders, labels, tags, descriptions and EXIF.

Every distinct value is kept once, folded, and which images have it: a word is looked up in the values, not in the
images, of which many have the same camera, lens or label.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.gallery.catalog import Catalog
from imagelake.gallery.facets import facet

if TYPE_CHECKING:
    from imagelake.lake.tables import Tables

MOST_WORDS = 32
_LONGEST_VALUE = 512  # letters of a value that are looked at; a maker note may have a million
_FACETS = ("label", "tag", "camera", "place", "folder")
_TEXTS = ("name", "lens", "title", "caption", "creator", "country")
_WORD = re.compile(r'"([^"]+)"(?=\s|$)|(\S+)')
_NOTHING = "\u2205"

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Words:
    """Which image has which value.

    Attributes:
        values: folded, each once, strings [v].
        rows: of an image and a value of it, the row, int32 [m].
        codes: and the place of the value, int32 [m].
    """

    values: pa.Array
    rows: NDArray[np.int32]
    codes: NDArray[np.int32]

    def having(self, word: str, count: int) -> Mask:
        """Which of `count` images have a value with a folded word in it, bool [count]."""
        hits = pc.match_substring(self.values, word).to_numpy(zero_copy_only=False)
        found = np.zeros(count, np.bool_)
        found[self.rows[hits[self.codes]]] = True
        return found


def fold(text: str) -> str:
    """A text as it is compared: whatever its width, its composition and its case."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def words_of(text: str) -> list[str]:
    """The words of a query, folded, each once; what stands in double quotes is one.

    Raises:
        InputError: there are too many.
    """
    found = list(dict.fromkeys(word for a, b in _WORD.findall(text) if (word := fold(a or b))))
    if len(found) > MOST_WORDS:
        raise InputError(f"The text has {len(found)} words; give at most {MOST_WORDS}.")
    return found


def matching(tables: Tables, catalog: Catalog, text: str) -> Mask | None:
    """Which images have all words of a text, bool [n]; None where it has no word.

    Raises:
        InputError: there are too many words.
        LakeError: the EXIF cannot be read.
    """
    words = words_of(text)
    if not words:
        return None
    parts = [_described(catalog), _exif(tables, catalog)]
    found = np.ones(len(catalog), np.bool_)
    for word in words:
        clean = word.encode("utf-8", "replace").decode()
        found &= np.logical_or.reduce([part.having(clean, len(catalog)) for part in parts])
    return found


def prepare_text(tables: Tables, catalog: Catalog, before: Catalog | None = None) -> None:
    """Make what `matching` needs, so that the first query does not wait for it; the older one's EXIF is used again."""
    _described(catalog)
    older: tuple[Catalog, Words] | None = None
    if before is not None and "exif" in before.made.things:
        older = before, before.made.things["exif"]
    catalog.made.get("exif", lambda: _read_exif(tables, catalog, older))


def _described(catalog: Catalog) -> Words:
    return catalog.made.get("words", lambda: _read_described(catalog))


def _exif(tables: Tables, catalog: Catalog) -> Words:
    return catalog.made.get("exif", lambda: _read_exif(tables, catalog))


def _read_described(catalog: Catalog) -> Words:
    gathered = _Gathered()
    for name in _FACETS:
        known = facet(catalog, name)
        gathered.add(known.rows, known.codes, known.values)
    for name in _TEXTS:
        encoded = catalog.columns.column(name).combine_chunks().dictionary_encode()
        there = np.flatnonzero(encoded.is_valid().to_numpy(zero_copy_only=False))
        codes = np.asarray(pc.fill_null(encoded.indices, 0), np.int64)[there]
        gathered.add(there, codes, encoded.dictionary.to_pylist())
    keywords = catalog.columns.column("keywords").combine_chunks()
    encoded = pc.fill_null(pc.list_flatten(keywords), "").dictionary_encode()
    gathered.add(pc.list_parent_indices(keywords), encoded.indices, encoded.dictionary.to_pylist())
    return gathered.words()


def _read_exif(tables: Tables, catalog: Catalog, older: tuple[Catalog, Words] | None = None) -> Words:
    """Read apart from the other columns: it is longer than all of them together, and asked for less often.

    An image of the older catalog keeps its words: an id is that of the content, and EXIF is part of it.
    """
    gathered = _Gathered()
    if "exif" not in tables.images.schema.names:
        return gathered.words()
    values: dict[str, int] = {}
    known = np.zeros(len(catalog), np.bool_)
    if older is not None:
        values = {value: code for code, value in enumerate(older[1].values.to_pylist())}
        moved = catalog.rows_of_keys(older[0].keys)
        rows = moved[older[1].rows]
        gathered.keep(rows[rows >= 0].astype(np.int32), older[1].codes[rows >= 0])
        known[moved[moved >= 0]] = True
    seen: dict[str, list[int]] = {}  # a value of EXIF as it is stored -> its words
    for batch in tables.images.scan(["id", "exif"], "exif IS NOT NULL", batch_rows=4096):
        rows = catalog.rows_of(batch.column("id").to_pylist())
        owners: list[int] = []
        codes: list[int] = []
        for row, text in zip(rows.tolist(), batch.column("exif").to_pylist(), strict=True):
            if row < 0 or known[row]:
                continue  # added since, or known
            own = {code for value in exif_values(text) for code in _codes(value, values, seen)}
            owners += [row] * len(own)
            codes += own
        gathered.keep(np.array(owners, np.int32), np.array(codes, np.int32))
    return gathered.words(list(values))


def _codes(value: str, values: dict[str, int], seen: dict[str, list[int]]) -> list[int]:
    known = seen.get(value)
    if known is None:
        folded = fold(value)
        known = seen[value] = [values.setdefault(folded, len(values))] if folded else []
    return known


def exif_values(text: str) -> Iterator[str]:
    """The values of EXIF, as texts, from its JSON; nothing where it is none."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return
    waiting: list[Any] = [whole]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list):
            if len(each) <= 8 and not any(isinstance(part, dict | list) for part in each):
                yield " ".join(str(part) for part in each)[:_LONGEST_VALUE]
            else:
                waiting += [part for part in each[:64] if isinstance(part, str | dict | list)]
        elif each is not None and not isinstance(each, bool):
            yield str(each)[:_LONGEST_VALUE]


class _Gathered:
    """Values as they come, from several columns. A class because it adds up."""

    def __init__(self) -> None:
        self._values: list[str] = []
        self._rows: list[NDArray[np.int32]] = [np.empty(0, np.int32)]
        self._codes: list[NDArray[np.int32]] = [np.empty(0, np.int32)]

    def add(self, rows: Any, codes: Any, texts: list[str]) -> None:
        """Texts, and the rows that have them; the word for no value is none."""
        start = len(self._values)
        self._values += ["" if text == _NOTHING else fold(text)[:_LONGEST_VALUE] for text in texts]
        self.keep(np.asarray(rows, np.int32), np.asarray(codes, np.int32) + np.int32(start))

    def keep(self, rows: NDArray[np.int32], codes: NDArray[np.int32]) -> None:
        """Pairs whose values come later."""
        self._rows.append(rows)
        self._codes.append(codes)

    def words(self, values: list[str] | None = None) -> Words:
        """All of them."""
        texts = self._values if values is None else values
        clean = pa.array([text.encode("utf-8", "replace").decode() for text in texts], pa.large_string())
        return Words(clean, np.concatenate(self._rows), np.concatenate(self._codes))
