"""The routes of the part `duplicates` of the page."""

from __future__ import annotations

from starlette.routing import BaseRoute

from imagelake.gallery.gallery import Gallery


def routes(gallery: Gallery) -> list[BaseRoute]:
    """Those under `/page/api/`."""
    del gallery
    return []
