"""The search over a lake, as the plane serves it: a picture or a vector in, the nearest images out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import InputError
from imagelake.serve.lake_view import Found, LakeView
from imagelake.serve.served_model import Answer
from imagelake.serve.tensor_info import TensorInfo, Tensors

NAME = "search"
K = 10
"""How many are found where a request does not say."""

MAX_K = 10_000

_MOST_CELLS = 1_000_000
_MOST_PICTURES = 256  # in one request: they are embedded in one go, which nothing stops


class SearchModel:
    """A `ServedModel` over a lake. A class, since its answers change with the lake that it looks at.

    Args:
        view: of the lake.
        name: as requests call it.
    """

    version = "1"
    platform = "imagelake_search"
    labels: tuple[str, ...] = ()
    task = "search"
    max_batch = 0  # rows of requests with another k cannot be put together; a request's own rows are searched at once

    def __init__(self, view: LakeView, name: str = NAME) -> None:
        self._view = view
        self.name = name
        self.description = f"the nearest images by {view.embedding_set}"
        self.fingerprint = hashlib.sha256(f"search {view.embedding_set} {id(view)}".encode()).hexdigest()
        self.inputs = (
            TensorInfo("image", "object", (-1,), "encoded pictures; or give vectors", optional=True),
            TensorInfo("vector", "float32", (-1, view.dimensions), "or give pictures", optional=True),
            TensorInfo("k", "int64", (1,), f"how many, {K} without", optional=True),
        )
        self.outputs = (
            TensorInfo("ids", "object", (-1, -1), "of the images, the nearest first; empty where there are no more"),
            TensorInfo("uris", "object", (-1, -1), "where they were first seen"),
            TensorInfo("distances", "float64", (-1, -1), "infinity where there are no more"),
        )

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> Answer:
        """Search for each picture, or for each vector.

        Raises:
            InputError: both are given, or none, or `k` is out of range.
            ImageError: a picture cannot be used.
        """
        if ("image" in inputs) == ("vector" in inputs):
            raise InputError("give either the input image or the input vector")
        k = int(inputs["k"][0]) if "k" in inputs else K
        if not 1 <= k <= MAX_K:
            raise InputError(f"k is {k}; give 1 to {MAX_K}")
        rows = len(inputs.get("image", inputs.get("vector", ())))
        if "image" in inputs and rows > _MOST_PICTURES:
            raise InputError(f"{rows} pictures are too much at once; send at most {_MOST_PICTURES}")
        if rows * k > _MOST_CELLS:
            raise InputError(f"{rows} queries for {k} images each are too much at once; ask for {_MOST_CELLS} in all")
        if "image" in inputs:
            pictures = list(inputs["image"])
            found = self._view.search_pictures(pictures, k=k) if pictures else []
        else:
            vectors = inputs["vector"]
            found = self._view.search_vectors(vectors, k=k) if len(vectors) else []
        answer = _columns(found, k)
        return {name: answer[name] for name in outputs}

    def close(self) -> None:
        """The lake belongs to whoever opened it."""


def _columns(found: Sequence[Sequence[Found]], k: int) -> Answer:
    """Rows of findings as arrays [n, k], filled up with nothing."""
    ids: NDArray[Any] = np.full((len(found), k), b"", object)
    uris: NDArray[Any] = np.full((len(found), k), b"", object)
    distances = np.full((len(found), k), np.inf)
    for row, each in enumerate(found):
        for place, one in enumerate(each[:k]):
            ids[row, place] = one.id.encode()
            uris[row, place] = one.uri.encode("utf-8", "surrogateescape")
            distances[row, place] = one.distance
    return {"ids": ids, "uris": uris, "distances": distances}
