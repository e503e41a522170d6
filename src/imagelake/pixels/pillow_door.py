"""The one door to Pillow: opened here, a file gives a picture or an `ImageError`, and no warning.

Pillow reports broken metadata through `warnings`, and hostile files make it raise almost anything. Python's own
`warnings.catch_warnings` changes the filters of all threads. So one filter is put in front of the others;
it swallows a warning only in a thread that is inside `quiet_warnings`; every other thread sees what it always saw.
What Pillow logs goes to the handlers of whoever has set some, and no more to standard error where nobody has; libtiff's
own words go nowhere, for Pillow raises what they say.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from PIL import Image, ImageFile

from imagelake.errors import ImageError

_PLUGINS = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "gif": "GIF",
    "tiff": "TIFF",
    "bmp": "BMP",
    "avif": "AVIF",
    "heic": "HEIF",
}
_TRUNCATION_WORDS = ("truncated", "eof", "end of", "not enough", "incomplete", "short read", "too short")

_thread = threading.local()
_filter_lock = threading.Lock()


class _QuietThread:
    """Stands where a filter has a regular expression: it matches any text, but only in a quiet thread."""

    def match(self, _text: str) -> bool:
        """Tell whether the calling thread is quiet."""
        return getattr(_thread, "depth", 0) > 0


_FILTER: Any = ("ignore", _QuietThread(), Warning, None, 0)


@contextmanager
def quiet_warnings() -> Iterator[None]:
    """Swallow the Python warnings of the calling thread, and of no other."""
    filters: Any = warnings.filters
    if not filters or filters[0] is not _FILTER:  # not yet there, or the host has put others in front
        with _filter_lock:
            if _FILTER in filters:
                filters.remove(_FILTER)
            filters.insert(0, _FILTER)
    _thread.depth = getattr(_thread, "depth", 0) + 1
    try:
        yield
    finally:
        _thread.depth -= 1


@contextmanager
def image_errors(what: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an `ImageError` with a reason; `what` names the format, as in `"png"`.

    Our own errors pass as they are, and so does what ends the process.
    """
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"the {what.upper()} needs more memory than is free") from error
    except Exception as error:  # a decoder's errors have no common root
        raise ImageError(explain(error, what)) from error


def explain(error: Exception, what: str) -> str:
    """Put a decoder's error in words that a person understands."""
    detail = " ".join(str(error).split())[:200] or type(error).__name__
    lowered = detail.lower()
    if isinstance(error, EOFError) or any(word in lowered for word in _TRUNCATION_WORDS):
        return f"the file is truncated: the {what.upper()} ends before its picture does ({detail})"
    if isinstance(error, Image.DecompressionBombError):
        return f"the picture is too large: {detail}"
    return f"the picture is broken: the {what.upper()} cannot be decoded ({detail})"


@contextmanager
def open_with_pillow(data: bytes, image_format: str) -> Iterator[ImageFile.ImageFile]:
    """Open bytes as the given format (a word of `sniff`), header only, quietly; the body runs under `image_errors`.

    The plugin is called directly: `Image.open` would test the size against a limit that is global to the process,
    where ours is tested by whoever opens.
    """
    with image_errors(image_format), quiet_warnings():
        factory, _accept = _load_plugins()[_PLUGINS[image_format]]
        image = factory(io.BytesIO(data), "")
        with image:
            yield image


@cache
def _load_plugins() -> dict[str, Any]:
    """Register all formats once, HEIC included."""
    import pi_heif

    Image.init()
    pi_heif.register_heif_opener()
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # or Python writes errors to standard error
    with contextlib.suppress(OSError, AttributeError):  # a Pillow that hides its libtiff, or has none
        ctypes.CDLL(cast("Any", Image).core.__file__).TIFFSetErrorHandler(None)
    return Image.OPEN
