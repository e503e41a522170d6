"""The lake of a server: what its page shows, and its search, as soon as there are vectors."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import imagelake
from imagelake.errors import ImagelakeError, InputError

if TYPE_CHECKING:
    from imagelake.api import Lake
    from imagelake.gallery.gallery import Gallery
    from imagelake.run.lake_view import LakeViewOfTables
    from imagelake.serve.sessions import Sessions
    from imagelake.serve.site import Site

_LOG = logging.getLogger(__name__)
_LOOK_S = 3.0  # how often a lake without vectors is looked at
NO_VECTORS = "No image of the lake has a vector yet. Run imagelake extract on the lake, then start this server again."


@contextlib.contextmanager
def open_gallery(place: str, max_pixels: int) -> Iterator[Gallery]:
    """The lake as the page shows it, followed until it is closed.

    Its `view` is None while no image has a vector; then the lake is looked at until there is one.

    Raises:
        LakeError: there is no lake, or it cannot be read.
    """
    from imagelake.gallery.gallery import Gallery  # late: `serve` without a lake needs none

    lake = imagelake.open(place)
    gallery = Gallery(lake.tables, _open_view(lake, max_pixels))
    end = threading.Event()
    thread = threading.Thread(target=_wait_for_vectors, args=(gallery, lake, max_pixels, end), name="imagelake-vectors")
    thread.start()
    try:
        yield gallery
    finally:
        end.set()
        thread.join()
        if gallery.view is not None:
            gallery.view.close()


def page_routes(gallery: Gallery, site: Site, sessions: Sessions | None) -> list[Any]:
    """The routes of the page."""
    from imagelake.web import page

    return page.routes(gallery, site, sessions)


def _wait_for_vectors(gallery: Gallery, lake: Lake, max_pixels: int, end: threading.Event) -> None:
    while gallery.view is None and not end.wait(_LOOK_S):
        try:
            gallery.view = _open_view(lake, max_pixels)
        except (ImagelakeError, OSError) as error:
            _LOG.warning("the vectors of the lake cannot be searched: %s", error)
            return


def _open_view(lake: Lake, max_pixels: int) -> LakeViewOfTables | None:
    """The search of a lake; None where no image has a vector."""
    from imagelake.run.lake_view import open_lake_view

    sets = _sets_by_size(lake)
    if not sets:
        return None
    default = lake.default_model()
    try:
        return open_lake_view(lake.tables, default=default, max_pixels=max_pixels)
    except InputError:  # several sets, and none of the default model
        return open_lake_view(lake.tables, embedding_set=sets[0], default=default, max_pixels=max_pixels)


def _sets_by_size(lake: Lake) -> list[str]:
    """The embedding sets that have vectors, those of whole images first, then the largest first."""
    whole = lake.tables.embedding_sets(of_regions=False)
    counts = {name: lake.tables.embeddings(name).count() for name in lake.tables.embedding_sets()}
    return sorted((name for name, count in counts.items() if count), key=lambda n: (n not in whole, -counts[n], n))
