"""Optional dependencies: loaded late, and missing only with the line that installs them."""

from __future__ import annotations

import importlib
from types import ModuleType

from imagelake.errors import MissingExtraError


def need(extra: str, module: str) -> ModuleType:
    """Import `module`, which the optional dependencies `extra` install.

    Raises:
        MissingExtraError: it is not installed; the message is the line to type.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise  # it is there, and something that it needs is not: say so as Python does
        raise MissingExtraError(
            f'{module} is not installed, and this needs it. Run: pip install "imagelake[{extra}]"'
        ) from error
