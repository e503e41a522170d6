"""What serving asks of a lake. The lake's own side is `run.lake_view`; this room does not know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]


class Found(Protocol):
    """One image that was found, or a region of it."""

    @property
    def id(self) -> str:
        """Of the image."""

    @property
    def uri(self) -> str:
        """Under which it was first seen."""

    @property
    def distance(self) -> float:
        """By the metric of the embedding set."""

    @property
    def box_xyxy(self) -> Box | None:
        """The region, in [0, 1] of the upright picture; None for the whole picture."""

    @property
    def label(self) -> str | None:
        """What the detector calls the region."""


class LakeView(Protocol):
    """A lake that is read by many threads at once; it follows what is added while it is open."""

    @property
    def dimensions(self) -> int:
        """The length of a vector of the embedding set that is searched."""

    @property
    def embedding_set(self) -> str:
        """Its name."""

    def search_pictures(
        self,
        pictures: Sequence[bytes],
        *,
        k: int,
        where: str | None = None,
        box_xyxy: Box | None = None,
        exclude_self: bool = False,
    ) -> Sequence[Sequence[Found]]:
        """The nearest to each picture, or to what is inside the box of it, ordered by (distance, id).

        Raises:
            ImageError: one is no picture.
            InputError: `k`, the box or the predicate is wrong.
        """

    def search_vectors(
        self, vectors: NDArray[np.float32], *, k: int, where: str | None = None
    ) -> Sequence[Sequence[Found]]:
        """The nearest to each vector, float32 [n, dimensions].

        Raises:
            InputError: the vectors, `k` or the predicate do not fit.
        """

    def search_ids(
        self, ids: Sequence[str], *, k: int, where: str | None = None, exclude_self: bool = False
    ) -> Sequence[Sequence[Found]]:
        """The nearest to each image of the lake.

        Raises:
            InputError: the lake has no such image, or it has no vector.
        """

    def image(self, image_id: str) -> Mapping[str, Any] | None:
        """What the lake knows of an image, as JSON has it, without thumbnail and bytes; None where there is none."""

    def picture(self, image_id: str) -> tuple[bytes, str] | None:
        """The bytes of an image and their format, such as `"jpeg"`; None where there is none."""

    def thumbnail(self, image_id: str) -> bytes | None:
        """A small JPEG of an image; None where there is none."""

    def count(self) -> int:
        """How many images there are."""
