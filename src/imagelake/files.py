"""Names of files as URIs that lose nothing.

A local file is `file:///absolute/path`, readable: letters of any script stay as they are; what would break a URI
(`%`, `?`, `#`, space, control characters) and bytes that are not UTF-8 are percent-encoded (RFC 3986, RFC 8089).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from imagelake.errors import InputError

# What is percent-encoded: control characters, space, signs that end or mean something in a URI, and the stand-ins
# with which Python hands over bytes that are not UTF-8.
_ENCODED = re.compile('[\x00-\x20\x7f-\xa0\u2028\u2029"%#<>?\ud800-\udfff]')


def path_to_uri(path: str | os.PathLike[str]) -> str:
    """The `file://` URI of a path. A name that is not UTF-8 survives: `uri_to_path` gives it back byte for byte."""
    name = os.fsencode(os.path.abspath(path))  # noqa: PTH100  (Path.absolute() keeps "..")
    return "file://" + _ENCODED.sub(_encode, name.decode("utf-8", "surrogateescape"))


def _encode(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogateescape"))


def uri_to_path(uri: str) -> Path:
    """The local path of a `file://` URI.

    Raises:
        InputError: the URI is of another scheme.
    """
    if not uri.startswith("file://"):
        raise InputError(f"{uri!r} is no local file; only file:// URIs have a path.")
    return Path(os.fsdecode(unquote_to_bytes(uri.removeprefix("file://"))))


def display_name(uri: str) -> str:
    """The last part of a URI, for people: percent-encoding undone, what cannot be shown replaced."""
    return unquote_to_bytes(uri.rsplit("/", 1)[-1]).decode("utf-8", "replace")


def is_remote(address: str) -> bool:
    """Whether an address names a store (`s3://...`) and not a local path."""
    scheme, separator, _ = address.partition("://")
    return bool(separator) and scheme.isalnum() and scheme != "file"
