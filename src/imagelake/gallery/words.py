"""Words as they are compared, and which image has which value."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

LONGEST = 512
"""Letters of a value that are looked at; a maker note may have a million."""


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

    def having(self, word: str, count: int) -> NDArray[np.bool_]:
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


def texts_of(texts: list[str]) -> pa.Array:
    """Some texts, also with what UTF-8 does not have, as strings of any length together."""
    return pa.array([text.encode("utf-8", "replace").decode() for text in texts], pa.large_string())
