"""Vectors of pictures that were turned a little: what codes that do not mind a turn are learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from imagelake.errors import ImageError, InputError
from imagelake.lake.table import Table
from imagelake.lake.tables import Tables, manifest_text
from imagelake.models.choice import AnyEmbedder, find_embedder, open_any_embedder, read_text
from imagelake.models.codes_deepbit import ANGLES, Turned
from imagelake.pixels.chain import Chain, parse
from imagelake.pixels.decode import decode_rgb
from imagelake.run.progress import Progress, Silent

_AT_ONCE = 16  # pictures that are read together
_DETAIL = 1.25  # a part is cut out of a turned picture, so it is decoded that much larger


def turned_vectors(
    tables: Tables, vectors: Table, ids: Sequence[str], pictures: int, seed: int, progress: Progress | None = None
) -> Turned:
    """Embed some pictures of a lake turned by each of `ANGLES`, with the model that made its vectors.

    Of every picture, the largest middle part with the picture's proportions is taken that lies inside at any of the
    angles, so that no corner tells how it was turned. A picture that cannot be decoded is left out.

    Args:
        tables: the lake.
        vectors: an embedding set of whole pictures.
        ids: which pictures may be taken.
        pictures: how many are.
        seed: chooses them.
        progress: told after each.

    Raises:
        InputError: the set is of regions, `pictures` is below 1, or none can be decoded.
        ModelError: the model that made the vectors is not here.
    """
    if pictures < 1:
        raise InputError(f"--pictures is {pictures}; it must be 1 or more.")
    if "image_id" in vectors.schema.names:
        raise InputError("deepbit turns whole pictures, and this embedding set is of regions; take another method.")
    progress = progress or Silent()
    embedder = open_any_embedder(find_embedder(read_text(manifest_text(vectors))), on_progress=progress.say)
    chosen = [ids[row] for row in np.random.default_rng(seed).permutation(len(ids))[:pictures]]
    progress.start("turned pictures", len(chosen))
    found = []
    for start in range(0, len(chosen), _AT_ONCE):
        part = chosen[start : start + _AT_ONCE]
        data = tables.images.bytes_of(part)
        for name in part:
            try:
                found.append(embed_turned(embedder, decode_rgb(data.get(name, b""), min_side=_side(embedder))))
            except ImageError:
                continue  # it was decoded once; since then it was deleted, or its file is gone
        progress.advance(len(part))
    if not found:
        raise InputError("None of the pictures could be decoded, so none could be turned; take another method.")
    return Turned(np.stack(found, axis=1))


def _side(embedder: AnyEmbedder) -> int:
    return math.ceil(embedder.min_side * _DETAIL)


def embed_turned(embedder: AnyEmbedder, image_rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The vectors [angles, d] of one picture, turned by each of `ANGLES`."""
    height, width = image_rgb.shape[:2]
    prepared: list[npt.NDArray[Any]] = [
        embedder.prepare(chain.apply(image_rgb).array) for chain in turns((width, height))
    ]
    return embedder.embed(np.stack(prepared))


def turns(size_wh: tuple[int, int]) -> list[Chain]:
    """What turns a picture of this size by each of `ANGLES` and cuts out its middle."""
    width, height = size_wh
    most = math.radians(max(abs(angle) for angle in ANGLES))
    longer = max(width / height, height / width)
    share = 1 / (math.cos(most) + longer * math.sin(most))
    low, high = (1 - share) / 2, (1 + share) / 2
    crop = {"crop": {"box_xyxy": [low, low, high, high], "relative": True}}
    return [parse([{"rotate": {"degrees": angle, "border": "edge"}}, crop]) for angle in ANGLES]
