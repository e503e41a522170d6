"""Which web pages may ask: none of another site, but those that were named."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from imagelake.errors import InputError

_EXPOSED = b"X-Request-ID, Inference-Header-Content-Length, Retry-After"
_METHODS = b"GET, HEAD, POST, PUT, DELETE, OPTIONS"
_PREFLIGHT_S = b"600"


@dataclass(frozen=True)
class Origins:
    """Pages of other sites that may use the server from a browser.

    Attributes:
        allowed: such as `https://example.com`; `*` for all.
    """

    allowed: frozenset[bytes] = frozenset()

    def allow(self, origin: bytes) -> bool:
        """Whether a page of that site was named."""
        return origin in self.allowed or b"*" in self.allowed

    def headers(self, origin: bytes) -> list[tuple[bytes, bytes]]:
        """What tells a browser that the page may read the answer; nothing where it may not."""
        if not self.allow(origin):
            return [(b"vary", b"Origin")] if self.allowed else []
        shown = b"*" if b"*" in self.allowed else origin
        return [
            (b"access-control-allow-origin", shown),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"Origin"),
        ]

    def preflight(self, origin: bytes, asked: bytes) -> list[tuple[bytes, bytes]]:
        """What a browser is told before it sends a request, where the page may: `asked` are the headers it wants."""
        return [
            *self.headers(origin),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", asked[:1000] or b"Content-Type"),
            (b"access-control-max-age", _PREFLIGHT_S),
        ]

    def allow_host(self, host: bytes) -> bool:
        """Whether a Host header names this machine by address, or a site that was named.

        Any other name may be an attacker's that resolves to this machine: the browser takes its page for one of ours.
        """
        name = _host_name(b"//" + host)
        if name == "localhost" or b"*" in self.allowed:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return any(_host_name(origin) == name for origin in self.allowed)
        return True

    def same_site(self, origin: bytes, scheme: str, host: bytes) -> bool:
        """Whether a page that this server gave out asks, such as /docs."""
        return origin.lower() == scheme.encode() + b"://" + host.lower() and self.allow_host(host)


def _host_name(address: bytes) -> str:
    try:
        return urlsplit(address.decode("latin-1")).hostname or ""
    except ValueError:
        return ""


def read_origins(given: list[str]) -> Origins:
    """The pages that were named on the command line.

    Raises:
        InputError: one is no origin.
    """
    for origin in given:
        parts = urlsplit(origin)
        whole = f"{parts.scheme}://{parts.netloc}"
        if origin != "*" and (parts.scheme not in {"http", "https"} or not parts.netloc or origin != whole):
            raise InputError(
                f"{origin!r} is no origin of web pages. Give scheme, host and port, such as https://example.com:8443; "
                "or *, for all."
            )
    return Origins(frozenset(origin.lower().encode("ascii", "ignore") for origin in given))
