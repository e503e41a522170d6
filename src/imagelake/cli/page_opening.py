"""Telling people where the page is, and opening it where they sit."""

from __future__ import annotations

import os
import sys
import webbrowser
from urllib.parse import urlsplit

from imagelake.cli.output import write_note

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  (what a server listens on is no address to visit)


def tell_page(address: str, *, open_it: bool, keyed: bool) -> None:
    """Say where the page is, and open it.

    Args:
        address: that the server listens on.
        open_it: whether a browser is started.
        keyed: whether the page will ask for a key.
    """
    page = page_of(address)
    asks = " It asks for the API key." if keyed else ""
    write_note(f"Open {page} in a browser: the pictures of the lake.{asks}")
    if open_it:
        try:
            webbrowser.open(page)
        except (OSError, webbrowser.Error):
            write_note("No browser could be started here.")


def page_of(address: str) -> str:
    """Where this machine finds the page of a server."""
    parts = urlsplit(address)
    host = _EVERYWHERE.get(parts.hostname or "")
    return f"{parts.scheme}://{parts.netloc if host is None else f'{host}:{parts.port}'}/"


def is_interactive() -> bool:
    """Whether a person sits at this terminal."""
    return not os.environ.get("CI") and all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def has_desktop() -> bool:
    """Whether a browser that is started here would be seen by whoever started it."""
    if not is_interactive() or os.environ.get("SSH_CONNECTION"):
        return False
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
