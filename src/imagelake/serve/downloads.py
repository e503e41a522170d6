"""The bytes at web addresses that a request names: several at a time, guarded, all of them or an error that says which.

Whoever may send a request may make this machine ask any address. So private ones are refused unless they are allowed,
redirects too, and time and bytes are bounded: of one picture, and of all that one request asks for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagelake.errors import InputError, TimeLimitError, TooLargeError

if TYPE_CHECKING:
    from imagelake.sources.web import WebOptions

_LETTERS = 200  # of an address, in a message


@dataclass(frozen=True)
class DownloadOptions:
    """What a request may make this machine fetch.

    Attributes:
        allow_private: addresses of this machine and its network too; for servers of one's own.
        in_flight: how many at a time, for one request.
        max_count: addresses of one request.
        max_bytes: of one picture.
        max_total_bytes: of all pictures of one request.
        timeout_s: for all of them.
        retries: further tries after one that failed for a reason that may pass.
    """

    allow_private: bool = False
    in_flight: int = 16
    max_count: int = 256
    max_bytes: int = 32 << 20
    max_total_bytes: int = 64 << 20
    timeout_s: float = 20.0
    retries: int = 1


def is_address(data: bytes) -> bool:
    """Whether bytes are an address of the web; no picture begins so."""
    return data[:8].lower().startswith((b"http://", b"https://"))


def download(
    addresses: Sequence[bytes | str], options: DownloadOptions, places: Sequence[int] | None = None
) -> list[bytes]:
    """Fetch what is at addresses of `http` and `https`.

    Args:
        addresses: any number; the same one twice is fetched twice.
        options: the limits.
        places: what an error calls each of them; None: 0, 1 and so on.

    Returns:
        The bytes, in the order of the addresses.

    Raises:
        InputError: one cannot be fetched; the message has its index, the address and the reason.
        TooLargeError: there are too many, or they hold too much.
        TimeLimitError: they did not come in time.
    """
    from imagelake.sources.url_list import Address  # late: a function has to listen before all of it is loaded
    from imagelake.sources.web import Web

    if len(addresses) > options.max_count:
        raise TooLargeError(f"{len(addresses):,} addresses; at most {options.max_count:,} are fetched for one request.")
    places = range(len(addresses)) if places is None else places
    wanted = [
        Address(_text(place, given), metadata=str(index))
        for index, (place, given) in enumerate(zip(places, addresses, strict=True))
    ]
    found: list[bytes] = [b""] * len(wanted)
    total, deadline = 0, time.monotonic() + options.timeout_s
    batches = Web(wanted, _web_options(options)).batches()
    try:
        for batch in batches:
            for row in batch.to_pylist():
                index = int(row["metadata"])
                if row["bytes"] is None:
                    raise InputError(f"Address {places[index]}, {row['uri'][:_LETTERS]}, {row['error']}.")
                found[index] = row["bytes"]
                total += len(row["bytes"])
            if total > options.max_total_bytes:
                raise TooLargeError(
                    f"The pictures at these addresses have more than {options.max_total_bytes:,} bytes together. "
                    "Ask for fewer at a time."
                )
            if time.monotonic() > deadline:
                raise TimeLimitError(f"The addresses were not fetched within {options.timeout_s:g} s.")
    finally:
        batches.close()  # type: ignore[attr-defined]  # a generator: what is on its way ends
    return found


def _text(place: int, given: bytes | str) -> str:
    if isinstance(given, str):
        return given
    try:
        return given.decode()
    except UnicodeDecodeError:
        from imagelake.sources.web_guard import without_user

        shown = without_user(given.decode("ascii", "backslashreplace"))[:_LETTERS]
        raise InputError(f"Address {place}, {shown}, is no text in UTF-8.") from None


def _web_options(options: DownloadOptions) -> WebOptions:
    from imagelake.sources.web import WebOptions
    from imagelake.sources.web_answer import FetchLimits
    from imagelake.sources.web_guard import Guard

    limits = FetchLimits(
        connect_timeout_s=min(5.0, options.timeout_s),
        read_timeout_s=min(10.0, options.timeout_s),
        total_timeout_s=options.timeout_s,
        max_bytes=options.max_bytes,
    )
    return WebOptions(
        in_flight=options.in_flight,
        per_host=options.in_flight,
        waiting_bytes=max(options.max_bytes, 1),
        retries=options.retries,
        backoff_s=0.2,
        longest_wait_s=2.0,
        limits=limits,
        guard=Guard(allow_private=options.allow_private),
    )
