"""Exact search over vectors and codes, NumPy in and NumPy out; works without a lake."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imagelake.search.hamming import HammingIndex
    from imagelake.search.index import ExactIndex
    from imagelake.search.neighbors import NearestNeighbors
    from imagelake.search.result import Certificate, RangeResult, SearchResult

_HOMES = {
    "Certificate": "result",
    "ExactIndex": "index",
    "HammingIndex": "hamming",
    "NearestNeighbors": "neighbors",
    "RangeResult": "result",
    "SearchResult": "result",
}

__all__ = ["Certificate", "ExactIndex", "HammingIndex", "NearestNeighbors", "RangeResult", "SearchResult"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: whoever needs one does not wait for all."""
    if name not in _HOMES:
        raise AttributeError(f"module 'imagelake.search' has no attribute {name!r}; it has {', '.join(__all__)}.")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"imagelake.search.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
