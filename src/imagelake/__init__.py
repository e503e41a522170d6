"""Turn any pile of pictures into a lake that can be searched, queried, learned from and served.

    import imagelake

    lake = imagelake.open("photos.lake", create=True)
    lake.ingest("photos/")
    lake.extract()
    for match in lake.search("query.jpg", k=3):
        print(match.distance, match.uri)

The names arrive on first use: importing this package loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from imagelake.errors import ImagelakeError

if TYPE_CHECKING:
    from imagelake.api import Lake, extract_source
    from imagelake.api import open_lake as open  # noqa: A004  (imagelake.open reads well, and nobody imports it bare)
    from imagelake.gallery.notebook_html import Matches
    from imagelake.lake.info import LakeInfo
    from imagelake.models.manifest import Manifest
    from imagelake.models.zoo import manifest as model
    from imagelake.run.duplicates import DuplicateGroup, DuplicateOptions, DuplicateReport, GroupedImage
    from imagelake.run.export import ExportReport
    from imagelake.run.extract import ExtractReport
    from imagelake.run.ingest import IngestReport
    from imagelake.run.pipeline_options import ExtractOptions
    from imagelake.run.pipeline_options import read_options as read_pipeline
    from imagelake.run.places import PlacesReport
    from imagelake.run.progress import Progress
    from imagelake.run.quality import QualityOptions, QualityReport
    from imagelake.run.runs import RunInfo
    from imagelake.run.search import Match, SearchOptions
    from imagelake.run.tags import TagReport
    from imagelake.sources.source import Source
    from imagelake.steps.pipeline import Pipeline

__version__ = "0.1.0"

__all__ = [
    "DuplicateGroup",
    "DuplicateOptions",
    "DuplicateReport",
    "ExportReport",
    "ExtractOptions",
    "ExtractReport",
    "GroupedImage",
    "ImagelakeError",
    "IngestReport",
    "Lake",
    "LakeInfo",
    "Manifest",
    "Match",
    "Matches",
    "Pipeline",
    "PlacesReport",
    "Progress",
    "QualityOptions",
    "QualityReport",
    "RunInfo",
    "SearchOptions",
    "Source",
    "TagReport",
    "extract_source",
    "model",
    "open",
    "read_pipeline",
]

_HOMES = {
    "DuplicateGroup": ("imagelake.run.duplicates", "DuplicateGroup"),
    "DuplicateOptions": ("imagelake.run.duplicates", "DuplicateOptions"),
    "DuplicateReport": ("imagelake.run.duplicates", "DuplicateReport"),
    "GroupedImage": ("imagelake.run.duplicates", "GroupedImage"),
    "ExportReport": ("imagelake.run.export", "ExportReport"),
    "ExtractOptions": ("imagelake.run.pipeline_options", "ExtractOptions"),
    "ExtractReport": ("imagelake.run.extract", "ExtractReport"),
    "IngestReport": ("imagelake.run.ingest", "IngestReport"),
    "Lake": ("imagelake.api", "Lake"),
    "LakeInfo": ("imagelake.lake.info", "LakeInfo"),
    "Manifest": ("imagelake.models.manifest", "Manifest"),
    "Match": ("imagelake.run.search", "Match"),
    "Matches": ("imagelake.gallery.notebook_html", "Matches"),
    "Pipeline": ("imagelake.steps.pipeline", "Pipeline"),
    "PlacesReport": ("imagelake.run.places", "PlacesReport"),
    "QualityOptions": ("imagelake.run.quality", "QualityOptions"),
    "QualityReport": ("imagelake.run.quality", "QualityReport"),
    "TagReport": ("imagelake.run.tags", "TagReport"),
    "Progress": ("imagelake.run.progress", "Progress"),
    "RunInfo": ("imagelake.run.runs", "RunInfo"),
    "SearchOptions": ("imagelake.run.search", "SearchOptions"),
    "Source": ("imagelake.sources.source", "Source"),
    "extract_source": ("imagelake.api", "extract_source"),
    "model": ("imagelake.models.zoo", "manifest"),
    "open": ("imagelake.api", "open_lake"),
    "read_pipeline": ("imagelake.run.pipeline_options", "read_options"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'imagelake' has no attribute {name!r}; it has: {', '.join(__all__)}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
