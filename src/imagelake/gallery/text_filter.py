"""Finds images by words of their names, folders, labels, tags, descriptions and EXIF.

Every distinct value is kept once, folded, and which images have it: a word is looked up in the values, not in the
images, of which many have the same camera, lens or label.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.gallery.catalog import Catalog
from imagelake.gallery.exif_words import read_exif
from imagelake.gallery.facets import facet
from imagelake.gallery.words import LONGEST, Words, fold, texts_of

if TYPE_CHECKING:
    from imagelake.lake.tables import Tables

MOST_WORDS = 32
_FACETS = ("label", "tag", "camera", "place", "folder")
_TEXTS = ("name", "lens", "title", "caption", "creator", "country")
_WORD = re.compile(r'"([^"]+)"(?=\s|$)|(\S+)')
_NOTHING = "\u2205"

Mask = NDArray[np.bool_]


def words_of(text: str) -> list[str]:
    """The words of a query, folded, each once; what stands in double quotes is one.

    Raises:
        InputError: there are too many.
    """
    found = list(dict.fromkeys(word for a, b in _WORD.findall(text) if (word := fold(a or b))))
    if len(found) > MOST_WORDS:
        raise InputError(f"The text has {len(found)} words; give at most {MOST_WORDS}.")
    return found


def matching(tables: Tables, catalog: Catalog, text: str, *, hurry: bool = False) -> Mask | None:
    """Which images have all words of a text, bool [n]; None where it has no word.

    Args:
        tables: of the lake.
        catalog: the images.
        text: the words.
        hurry: where the EXIF is not read yet, look in all else and do not wait for it: see `knows_exif`.

    Raises:
        InputError: there are too many words.
        LakeError: the EXIF cannot be read.
    """
    words = words_of(text)
    if not words:
        return None
    parts = [_described(catalog)]
    if not hurry or knows_exif(catalog):
        parts.append(_exif(tables, catalog))
    found = np.ones(len(catalog), np.bool_)
    for word in words:
        clean = word.encode("utf-8", "replace").decode()
        found &= np.logical_or.reduce([part.having(clean, len(catalog)) for part in parts])
    return found


def knows_exif(catalog: Catalog) -> bool:
    """Whether the words of EXIF are read; that begins with the catalog, and takes seconds for a large lake."""
    return "exif" in catalog.made.things


def prepare_text(tables: Tables, catalog: Catalog, before: Catalog | None = None) -> None:
    """Make what `matching` needs, so that the first query does not wait for it; the older one's EXIF is used again."""
    _described(catalog)
    older = None
    if before is not None and knows_exif(before):
        older = before, before.made.things["exif"]
    catalog.made.get("exif", lambda: read_exif(tables, catalog, older))


def _described(catalog: Catalog) -> Words:
    return catalog.made.get("words", lambda: _read_described(catalog))


def _exif(tables: Tables, catalog: Catalog) -> Words:
    return catalog.made.get("exif", lambda: read_exif(tables, catalog))


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


class _Gathered:
    """Values as they come, from several columns. A class because it adds up."""

    def __init__(self) -> None:
        self._values: list[str] = []
        self._rows: list[NDArray[np.int32]] = [np.empty(0, np.int32)]
        self._codes: list[NDArray[np.int32]] = [np.empty(0, np.int32)]

    def add(self, rows: Any, codes: Any, texts: list[str]) -> None:
        """Texts, and the rows that have them; the word for no value is none."""
        start = len(self._values)
        self._values += ["" if text == _NOTHING else fold(text)[:LONGEST] for text in texts]
        self.keep(np.asarray(rows, np.int32), np.asarray(codes, np.int32) + np.int32(start))

    def keep(self, rows: NDArray[np.int32], codes: NDArray[np.int32]) -> None:
        """Pairs whose values come later."""
        self._rows.append(rows)
        self._codes.append(codes)

    def words(self) -> Words:
        """All of them."""
        return Words(texts_of(self._values), np.concatenate(self._rows), np.concatenate(self._codes))
