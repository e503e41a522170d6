"""Which implementation of the hot loop is used: compiled C, or NumPy where it could not be compiled."""

from __future__ import annotations

from types import ModuleType

from imagelake.search import native, plain

_chosen: list[ModuleType] = [native if native.available() else plain]


def kernel() -> ModuleType:
    """`native` or `plain`: two modules with the same functions."""
    return _chosen[0]


def choose(module: ModuleType) -> None:
    """Use this one from now on; tests compare the two."""
    _chosen[0] = module
