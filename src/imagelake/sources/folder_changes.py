"""What the operating system tells of changes in a folder. A hint: it may tell too much, and it may lose something."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from imagelake.files import path_to_uri

_STEP_MS = 50
_TOGETHER_MS = 200


def changed_files(folder: str, stop: threading.Event) -> Iterator[set[str]]:
    """The URIs of files that appear or change below a folder (or of that file), a few at a time, until `stop` is set.

    On network drives most systems tell nothing.
    """
    import watchfiles  # late: only --watch needs it

    for changes in watchfiles.watch(
        folder,
        watch_filter=None,
        debounce=_TOGETHER_MS,
        step=_STEP_MS,
        stop_event=stop,
        rust_timeout=500,
        raise_interrupt=False,
    ):
        yield {path_to_uri(path) for _, path in changes if not os.path.isdir(path)}  # noqa: PTH112
