"""The keys that callers show: several, each with a name for the log; only their digests are kept."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from pathlib import Path

from imagelake.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_KEY = re.compile(r"[!-+\--~]{1,512}\Z")  # what a header carries, without spaces and commas


@dataclass(frozen=True)
class Keys:
    """Who may ask.

    Attributes:
        digests: the SHA-256 of each key, and its name.
    """

    digests: tuple[tuple[bytes, str], ...] = field(repr=False)

    def name_of(self, shown: bytes) -> str | None:
        """The name of the key that a caller shows; None where it is none of ours. How long it takes tells nothing."""
        given = hashlib.sha256(shown).digest()
        found = None
        for digest, name in self.digests:
            if hmac.compare_digest(digest, given):
                found = name
        return found


def shown_key(authorization: bytes, api_key: bytes) -> bytes:
    """The key in `Authorization: Bearer KEY` or else in `X-API-Key: KEY`; empty where there is none."""
    scheme, _, token = authorization.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else api_key.strip()


def read_keys(text: str, where: str) -> Keys:
    """Keys from a file or an environment variable: one a line, or separated by commas, as `KEY` or `NAME:KEY`.

    Lines that begin with `#` are passed over. A key without a name is called `key-1` and so on.

    Raises:
        InputError: there is none, or one has letters that a header cannot carry; the message does not hold it.
    """
    found: dict[str, bytes] = {}
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        for part in filter(None, (part.strip() for part in line.split(","))):
            before, colon, after = part.partition(":")
            name, key = (before.strip(), after.strip()) if colon else (f"key-{len(found) + 1}", part)
            if not _NAME.match(name) or not _KEY.match(key):
                raise InputError(
                    f"An API key in {where} cannot be used. Give a line KEY or NAME:KEY, of ASCII letters and digits."
                )
            if name in found:
                raise InputError(f"{where} names two API keys {name!r}. Give each its own name.")
            found[name] = hashlib.sha256(key.encode()).digest()
    if not found:
        raise InputError(f"{where} is empty. Give at least one API key: a line KEY or NAME:KEY.")
    return Keys(tuple((digest, name) for name, digest in found.items()))


def only_key(key: str, where: str) -> Keys:
    """One key, taken as it is.

    Raises:
        InputError: it has letters that a header cannot carry; the message does not hold it.
    """
    if not re.fullmatch(r"[!-~]{1,512}", key):
        raise InputError(f"{where} cannot be used. Give 1 to 512 of printable ASCII, without spaces.")
    return Keys(((hashlib.sha256(key.encode()).digest(), "key-1"),))


def read_key_file(path: Path) -> Keys:
    """Keys from a file.

    Raises:
        InputError: it cannot be read, or holds no usable key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"The API keys cannot be read from {path}: {reason}. Give a file with a key a line.") from None
    return read_keys(text, str(path))
